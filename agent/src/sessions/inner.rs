//! Inner terminals: ptys whose master a process of a session holds, as tmux,
//! screen, script, sudo and editors make them. Each is a terminal of its own
//! with its own streams, numbered in the order of their first bytes.
//!
//! They belong to the session that their holder descends from, also when
//! another session's terminal shows them and after a logout.

use std::collections::HashMap;

use auditty_recording::event::{Body, TerminalOpen};

use super::Sessions;
use super::lineage::SessionKey;
use super::session::OpenSession;
use super::sink::Sink;
use super::streams::{Piece, StreamId};
use super::terminals::class_of;
use super::timeline::Out;
use crate::capture::event::{KernelEvent, TerminalData};

/// Inner terminals of one session that are open at once. A program that makes
/// ptys in a loop must not grow the agent; what comes over more of them is
/// declared.
const MAX_OPEN: usize = 256;

/// The open inner terminals of a session: their numbers, by the kernel's name
/// and the index of the pty.
#[derive(Debug, Default)]
pub(super) struct InnerTerminals {
    open: HashMap<(u64, u32), u32>,
    /// Number of the latest one.
    latest: u32,
}

impl InnerTerminals {
    /// Those that are open, for the next agent.
    pub(super) fn list(&self) -> Vec<(u64, u32, u32)> {
        let open = self.open.iter();
        let mut list: Vec<_> = open.map(|((name, pts), n)| (*name, *pts, *n)).collect();
        list.sort_unstable();
        list
    }

    /// Those that an agent before has left open.
    pub(super) fn resume(list: &[(u64, u32, u32)]) -> Self {
        Self {
            open: list
                .iter()
                .map(|(name, pts, n)| ((*name, *pts), *n))
                .collect(),
            latest: list.iter().map(|(.., n)| *n).max().unwrap_or(0),
        }
    }
}

impl Sessions {
    /// Bytes of a pty that a process of the session holds.
    pub(super) fn inner_bytes(
        &mut self,
        key: SessionKey,
        event: &KernelEvent,
        data: &TerminalData,
        sink: &mut dyn Sink,
    ) {
        let KernelEvent { boot_ns, pid, .. } = *event;
        let session = self.sessions.get_mut(&key);
        let connection = self.connections.get_mut(&event.connection);
        let (Some(session), Some(connection)) = (session, connection) else {
            self.counters.unattributed_bytes += u64::from(data.len);
            return;
        };
        let mut out = Out {
            sink,
            clock: self.clock,
            counters: &mut self.counters,
        };
        let Some(number) = session.inner_terminal(&mut out, boot_ns, pid, data) else {
            let amount = (0, u64::from(data.len));
            session.bounded.add(class_of(data), amount, boot_ns);
            return;
        };
        session.resize(&mut out, boot_ns, number, data.size);
        let id = StreamId::terminal(number, data.direction);
        let piece = Piece::of_terminal(boot_ns, data);
        session.bytes(&mut out, id, &piece, &mut connection.stream_loss);
    }

    /// The inner terminal with this name is gone, where the session has it.
    pub(super) fn close_inner(&mut self, key: SessionKey, terminal: u64, sink: &mut dyn Sink) {
        let Some((session, mut out)) = self.open(key, sink) else {
            return;
        };
        let open = &mut session.inner.open;
        let closed: Vec<u32> = open
            .extract_if(|(name, _), _| *name == terminal)
            .map(|(_, number)| number)
            .collect();
        for number in closed {
            let (streams, timeline) = (&mut session.streams, &mut session.timeline);
            streams.close(number, timeline, &mut out);
            session.sizes.remove(&number);
        }
    }
}

impl OpenSession {
    /// Number of the inner terminal; `None` at the bound.
    fn inner_terminal(
        &mut self,
        out: &mut Out<'_>,
        boot_ns: u64,
        pid: u32,
        data: &TerminalData,
    ) -> Option<u32> {
        let name = (data.terminal, data.pts);
        if let Some(number) = self.inner.open.get(&name) {
            return Some(*number);
        }
        if self.inner.open.len() >= MAX_OPEN {
            return None;
        }
        let counted = self.timeline.record.session.counts.inner_terminals;
        let counted = u32::try_from(counted).unwrap_or(u32::MAX);
        let number = self.inner.latest.max(counted).checked_add(1)?;
        self.inner.latest = number;
        self.inner.open.insert(name, number);
        let exe = self
            .programs
            .get(&pid)
            .map(|program| program.exe.as_str().to_owned());
        let open = TerminalOpen {
            terminal: number,
            name: format!("pts/{}", data.pts),
            pid: Some(pid),
            exe,
        };
        self.emit(out, boot_ns, Body::TerminalOpen(open));
        Some(number)
    }

    /// Whether one of its inner terminals has this name, or this index where
    /// the kernel has no name.
    pub(super) fn has_inner(&self, terminal: u64, pts: u32) -> bool {
        self.inner.open.contains_key(&(terminal, pts))
    }
}
