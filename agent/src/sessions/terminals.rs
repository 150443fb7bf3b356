//! Ptys: which session the bytes on a pty belong to.
//!
//! The index of a pty is used again after its session ended, also within one
//! connection. A pty has a new life when its root has exited, sshd has forked a
//! child since that is still sshd, and the kernel's count is back at 0. The count
//! alone does not tell: it starts anew whenever sshd closes one of its
//! descriptors of the pty, as it does before it drains the last output.

use auditty_recording::event::Stream;

use super::Sessions;
use super::lineage::{Owner, Process, SessionKey};
use super::opening::Seed;
use super::session::OpenSession;
use super::sink::Sink;
use super::streams::Piece;
use super::timeline::Out;
use crate::capture::event::{Direction, KernelEvent, TerminalData, WindowSize};

impl Sessions {
    pub(super) fn terminal(
        &mut self,
        event: &KernelEvent,
        data: &TerminalData,
        sink: &mut dyn Sink,
    ) {
        let KernelEvent {
            boot_ns,
            connection: id,
            ..
        } = *event;
        self.connection(id, boot_ns);
        self.learn_server(event);
        let last = self.last_on_pty(id, data.pts);
        let current = last.filter(|key| !self.is_new_life(*key, data));
        let key =
            current.or_else(|| self.open_on_pty(id, boot_ns, data.pts, Seed::default(), sink));
        let session = key.and_then(|key| self.sessions.get_mut(&key));
        let connection = self.connections.get_mut(&id);
        let (Some(session), Some(connection)) = (session, connection) else {
            self.counters.unattributed_bytes += u64::from(data.len);
            return;
        };
        let piece = Piece {
            boot_ns,
            offset: data.offset,
            len: u64::from(data.len),
            data: data.data.as_deref(),
        };
        let mut out = Out {
            sink,
            clock: self.clock,
            counters: &mut self.counters,
        };
        session.resize(&mut out, boot_ns, data.size);
        let flow = (Stream::Terminal, data.direction);
        session.bytes(&mut out, flow, &piece, &mut connection.stream_loss);
    }

    pub(super) fn window_size(
        &mut self,
        event: &KernelEvent,
        pts: u32,
        size: WindowSize,
        sink: &mut dyn Sink,
    ) {
        let KernelEvent {
            boot_ns,
            connection: id,
            ..
        } = *event;
        self.connection(id, boot_ns);
        self.learn_server(event);
        let key = match self.last_on_pty(id, pts) {
            // Too early for the next session on this pty, whose first bytes
            // carry the size as well, and too late for this one.
            Some(key) if self.sessions.get(&key).is_some_and(root_exited) => return,
            Some(key) => Some(key),
            None => self.open_on_pty(id, boot_ns, pts, Seed::default(), sink),
        };
        if let Some(session) = key.and_then(|key| self.sessions.get_mut(&key)) {
            let mut out = Out {
                sink,
                clock: self.clock,
                counters: &mut self.counters,
            };
            session.resize(&mut out, boot_ns, size);
        }
    }

    /// A root starts on a pty: it joins the session that the pty's first bytes
    /// began, or begins its own.
    pub(super) fn root_on_pty(
        &mut self,
        id: u64,
        boot_ns: u64,
        pts: u32,
        seed: Seed,
        sink: &mut dyn Sink,
    ) -> Option<SessionKey> {
        let rootless = |key: &SessionKey| {
            self.sessions
                .get(key)
                .is_some_and(|s| s.root.is_none() && !s.closed)
        };
        match self.last_on_pty(id, pts).filter(rootless) {
            Some(key) => {
                self.describe(key, boot_ns, seed, sink);
                Some(key)
            }
            None => self.open_on_pty(id, boot_ns, pts, seed, sink),
        }
    }

    /// The pty belongs to this session from now on.
    pub(super) fn bind_pty(&mut self, id: u64, pts: u32, key: SessionKey) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.ptys.insert(pts, key);
        }
    }

    fn last_on_pty(&self, id: u64, pts: u32) -> Option<SessionKey> {
        let key = self.connections.get(&id)?.ptys.get(&pts).copied()?;
        self.sessions.contains_key(&key).then_some(key)
    }

    fn is_new_life(&self, key: SessionKey, data: &TerminalData) -> bool {
        let Some(session) = self.sessions.get(&key).filter(|s| root_exited(s)) else {
            return false;
        };
        let exited = session.root.and_then(|root| root.exited);
        let is_next_root = |process: &Process| {
            process.connection == session.connection
                && process.owner == Owner::Server
                && Some(process.start_boot_ns) > exited
        };
        data.offset == Some(0) && self.processes.0.values().any(is_next_root)
    }

    fn open_on_pty(
        &mut self,
        id: u64,
        boot_ns: u64,
        pts: u32,
        seed: Seed,
        sink: &mut dyn Sink,
    ) -> Option<SessionKey> {
        let last = self.last_on_pty(id, pts);
        let key = self.open_session(id, boot_ns, seed, sink)?;
        self.bind_pty(id, pts, key);
        let directions = [Direction::Output, Direction::Input];
        let mut stands = [Some(0); 2];
        let mut out = Out {
            sink,
            clock: self.clock,
            counters: &mut self.counters,
        };
        if let Some(last) = last.and_then(|last| self.sessions.get_mut(&last)) {
            stands = directions.map(|way| last.streams.expected(Stream::Terminal, way));
            last.closed = true;
            if root_exited(last) {
                last.tell_end(&mut out, boot_ns, true);
            } else {
                last.root_exited(boot_ns, None);
            }
        }
        if let Some(session) = self.sessions.get_mut(&key) {
            for (way, stand) in directions.into_iter().zip(stands) {
                session.streams.expect(Stream::Terminal, way, stand);
            }
            session.open_terminal(&mut out, boot_ns, pts);
        }
        Some(key)
    }
}

fn root_exited(session: &OpenSession) -> bool {
    session.root.is_some_and(|root| root.exited.is_some())
}
