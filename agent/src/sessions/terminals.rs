//! The client's own terminals: which session the bytes on a pty belong to.
//!
//! A pty whose master a server process holds is the client's own; one that a
//! process of a session holds is an [inner](super::inner) one. The kernel names
//! each life of a pty, because its index is used again at once, also within one
//! connection.
//!
//! Where it cannot, a pty has a new life when its root has exited, sshd has
//! forked a child since that is still sshd, and the kernel's count is back at 0.
//! The count alone does not tell: it starts anew whenever sshd closes one of its
//! descriptors of the pty, as it does before it drains the last output.

use auditty_recording::event::GapClass;

use super::Sessions;
use super::lineage::{Owner, Process, SessionKey};
use super::opening::Seed;
use super::session::OpenSession;
use super::sink::Sink;
use super::streams::{CLIENT_TERMINAL, Piece, StreamId};
use super::timeline::Out;
use crate::capture::event::{Direction, KernelEvent, TerminalData, WindowSize};

/// Lives of ptys that a connection remembers: more than one client's sessions
/// have at once. At the bound those of sessions that are over are forgotten.
const MAX_LIVES: usize = 1024;

impl Sessions {
    pub(super) fn terminal(
        &mut self,
        event: &KernelEvent,
        data: &TerminalData,
        sink: &mut dyn Sink,
    ) {
        self.connection(event.connection, event.boot_ns);
        match self.session_of(event) {
            Some(key) => self.inner_bytes(key, event, data, sink),
            None if event.root == 0 => {
                self.learn_server(event);
                self.client_bytes(event, data, sink);
            }
            None => {
                let bytes = u64::from(data.len);
                self.counters.unattributed_bytes += bytes;
                self.of_any_session(event, class_of(data), (None, Some(bytes)), sink);
            }
        }
    }

    fn client_bytes(&mut self, event: &KernelEvent, data: &TerminalData, sink: &mut dyn Sink) {
        let KernelEvent {
            boot_ns,
            connection: id,
            ..
        } = *event;
        let key = self.session_on(id, boot_ns, data, sink);
        let session = key.and_then(|key| self.sessions.get_mut(&key));
        let connection = self.connections.get_mut(&id);
        let (Some(session), Some(connection)) = (session, connection) else {
            self.counters.unattributed_bytes += u64::from(data.len);
            return;
        };
        let mut out = Out {
            sink,
            clock: self.clock,
            counters: &mut self.counters,
        };
        session.sighted = true;
        session.resize(&mut out, boot_ns, CLIENT_TERMINAL, data.size);
        let id = StreamId::terminal(CLIENT_TERMINAL, data.direction);
        let piece = Piece::of_terminal(boot_ns, data);
        session.bytes(&mut out, id, &piece, &mut connection.stream_loss);
    }

    /// The session whose terminal it is; a new one where it is nobody's.
    fn session_on(
        &mut self,
        id: u64,
        boot_ns: u64,
        data: &TerminalData,
        sink: &mut dyn Sink,
    ) -> Option<SessionKey> {
        let lives = self.connections.get(&id).map(|c| &c.terminals);
        if let Some(key) = lives.and_then(|lives| lives.get(&data.terminal)) {
            return Some(*key);
        }
        let last = self.last_on_pty(id, data.pts);
        let current = last.filter(|key| !self.is_new_life(*key, data));
        let key =
            current.or_else(|| self.open_on_pty(id, boot_ns, data.pts, Seed::default(), sink))?;
        if data.terminal != 0 {
            self.name_terminal(id, key, data.terminal);
        }
        Some(key)
    }

    /// The kernel's name for the session's terminal is known from now on.
    fn name_terminal(&mut self, id: u64, key: SessionKey, terminal: u64) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.client_terminal = Some(terminal);
            session.streams.expect_anew(CLIENT_TERMINAL);
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            if connection.terminals.len() >= MAX_LIVES {
                let sessions = &self.sessions;
                connection
                    .terminals
                    .retain(|_, key| sessions.contains_key(key));
            }
            connection.terminals.insert(terminal, key);
        }
    }

    /// The last descriptor of a pty master was closed: a client's terminal is
    /// hung up, whether or not its session's own process minds.
    pub(super) fn terminal_close(
        &mut self,
        event: &KernelEvent,
        terminal: u64,
        sink: &mut dyn Sink,
    ) {
        let Some(connection) = self.connections.get_mut(&event.connection) else {
            return;
        };
        let client = connection.terminals.remove(&terminal);
        let sessions = connection.sessions.clone();
        if let Some(session) = client.and_then(|key| self.sessions.get_mut(&key)) {
            session.disconnected(event.boot_ns, None);
        }
        for key in sessions {
            self.close_inner(key, terminal, sink);
        }
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
        // The bytes of inner terminals carry their size.
        if event.root != 0 || self.session_of(event).is_some() {
            return;
        }
        self.learn_server(event);
        let last = self.last_on_pty(id, pts);
        let key = last.or_else(|| self.open_on_pty(id, boot_ns, pts, Seed::default(), sink));
        if let Some((session, mut out)) = key.and_then(|key| self.open(key, sink)) {
            session.sighted = true;
            // After its root's end it is too late for this session, and too early
            // for the next on this pty, whose first bytes carry the size as well.
            if !root_exited(session) {
                session.resize(&mut out, boot_ns, CLIENT_TERMINAL, size);
            }
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
        let Some(session) = self.sessions.get(&key) else {
            return false;
        };
        if data.terminal != 0 && session.client_terminal.is_some() {
            return session.client_terminal != Some(data.terminal);
        }
        if !root_exited(session) {
            return false;
        }
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
        let own = [Direction::Output, Direction::Input]
            .map(|direction| StreamId::terminal(CLIENT_TERMINAL, direction));
        let mut stands = [Some(0); 2];
        if let Some((last, mut out)) = last.and_then(|last| self.open(last, sink)) {
            stands = own.map(|id| last.streams.expected(id));
            last.closed = true;
            if root_exited(last) || last.has_ended() {
                last.tell_end(&mut out, boot_ns, true);
            } else {
                last.root_exited(boot_ns, None);
            }
        }
        if let Some((session, mut out)) = self.open(key, sink) {
            for (id, stand) in own.into_iter().zip(stands) {
                session.streams.expect(id, stand);
            }
            session.open_terminal(&mut out, boot_ns, pts);
        }
        Some(key)
    }
}

impl<'a> Piece<'a> {
    /// What came over a terminal.
    pub(super) fn of_terminal(boot_ns: u64, data: &'a TerminalData) -> Self {
        Self {
            boot_ns,
            offset: data.offset,
            len: u64::from(data.len),
            data: data.data.as_deref(),
            transfer: false,
        }
    }
}

pub(super) fn class_of(data: &TerminalData) -> GapClass {
    match data.direction {
        Direction::Output => GapClass::Output,
        Direction::Input => GapClass::Input,
    }
}

fn root_exited(session: &OpenSession) -> bool {
    session.root.is_some_and(|root| root.exited.is_some())
}
