//! Which program each process of a session runs, inherited at fork: to name the
//! holder of an inner terminal, and to know the host's end of a file transfer.

use std::fs;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Sessions;
use super::lineage::{Owner, SessionKey};
use super::sink::Sink;
use super::transfers::Transport;
use crate::capture::event::Exec;

/// A program that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Program {
    /// Path of its image.
    pub exe: String,
    /// The process that started it, and when. Those it forked run it too.
    pub pid: u32,
    pub boot_ns: u64,
    /// It is the host's end of a file transfer.
    pub transport: Option<Transport>,
}

impl Program {
    /// The program with its path, from the process itself where it was not kept.
    pub(super) fn looked_up(&self) -> Self {
        let mut program = self.clone();
        if program.exe.is_empty()
            && let Ok(exe) = fs::read_link(format!("/proc/{}/exe", self.pid))
        {
            program.exe = exe.to_string_lossy().into_owned();
        }
        program
    }
}

impl Sessions {
    /// A process of the session starts a program.
    pub(super) fn program_started(
        &mut self,
        key: SessionKey,
        (boot_ns, pid): (u64, u32),
        exec: &Exec,
        sink: &mut dyn Sink,
    ) {
        let Some((session, mut out)) = self.open(key, sink) else {
            return;
        };
        let program = Program {
            exe: exec.exe.clone(),
            pid,
            boot_ns,
            transport: Transport::of(exec, &session.streams),
        };
        // Another repository begins where the one before ended.
        if matches!(program.transport, Some(Transport::Repository { .. })) {
            session.tell_moved(&mut out, boot_ns);
        }
        session.programs.insert(pid, Arc::new(program));
    }

    /// sshd serves files itself (`internal-sftp`).
    pub(super) fn subsystem_started(&mut self, key: SessionKey, (boot_ns, pid): (u64, u32)) {
        let session = self.sessions.get_mut(&key);
        let connection = session
            .as_ref()
            .and_then(|s| self.connections.get(&s.connection));
        let (Some(exe), Some(session)) =
            (connection.map(|c| c.described.server_exe.clone()), session)
        else {
            return;
        };
        let program = Program {
            exe,
            pid,
            boot_ns,
            transport: Some(Transport::SFTP),
        };
        session.programs.insert(pid, Arc::new(program));
    }

    /// A process of a session forked.
    pub(super) fn program_forked(&mut self, parent: u32, pid: u32) {
        let Owner::Session(key) = self.processes.owner(pid) else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(&key)
            && let Some(program) = session.programs.get(&parent).map(Arc::clone)
        {
            session.programs.insert(pid, program);
        }
    }
}
