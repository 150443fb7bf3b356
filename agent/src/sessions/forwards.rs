//! Forwards, and connections without a session.
//!
//! What sshd does on the client's behalf (`-L`, `-R`, `-D`, `-W`, X11, agent)
//! belongs to a connection, not to one of its sessions. It goes to the
//! connection's session where exactly one is open, else to a session of kind
//! `forward`. Clients ask for `-R`, X11 and the agent before their shell
//! starts, so what comes before the first session waits for it.
//!
//! sshd and its PAM modules also ask other hosts who somebody is. What happens
//! before the login is complete is no forward, and what the monitor of another
//! process does neither.
//!
//! A connection that logged in and has no session after that time, or ended
//! without one, leaves a session of kind `forward` too: `ssh -N` was there.

use auditty_recording::event::{ConnectRole, GapClass};
use auditty_recording::session::SessionKind;

use super::Sessions;
use super::connection::Connection;
use super::identity::UserNames;
use super::lineage::SessionKey;
use super::network::canonical;
use super::opening::Seed;
use super::sink::Sink;
use crate::capture::event::{ConnectionStart, KernelEvent, SocketEvent, SocketOperation};

/// How long a login may take to its first session: a shell starts after the
/// host's PAM modules, which may ask other hosts.
const GRACE_NS: u64 = 3_000_000_000;

/// Forwards of one connection that wait for its first session.
const MAX_HELD: usize = 256;

/// What sshd did with sockets before the connection had a session.
#[derive(Debug, Default)]
pub(super) struct HeldForwards {
    waiting: Vec<(KernelEvent, SocketEvent)>,
    /// What found no room.
    lost: u64,
}

impl HeldForwards {
    /// What waited in an agent before, and is lost.
    pub(super) fn lost(events: u64) -> Self {
        Self {
            waiting: Vec::new(),
            lost: events,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.lost == 0
    }

    /// Whether something waits that came since `boot_ns`.
    pub(super) fn holds_since(&self, boot_ns: u64) -> bool {
        let newest = self.waiting.last();
        newest.is_some_and(|(event, _)| event.boot_ns >= boot_ns)
    }

    fn push(&mut self, event: &KernelEvent, socket: &SocketEvent) {
        if self.waiting.len() < MAX_HELD {
            self.waiting.push((event.clone(), socket.clone()));
        } else {
            self.lost += 1;
        }
    }
}

impl Connection {
    /// It logged in, and nothing tells of it.
    fn is_silent(&self) -> bool {
        self.login_boot_ns.is_some() && self.sessions_ever == 0
    }

    /// It logged in, or forwards something, and nothing tells of it.
    pub(super) fn owes_session(&self) -> bool {
        self.is_silent() || !self.held_forwards.is_empty()
    }

    /// sshd did this for itself, not on the client's behalf.
    fn is_sshds_own(&self, event: &KernelEvent, users: &dyn UserNames) -> bool {
        let early = self.login_boot_ns.is_some_and(|done| event.boot_ns < done);
        self.trusted && (self.identity.is_asked() || early || self.is_monitor(event.pid, users))
    }

    /// How much waits that was done on the client's behalf.
    pub(super) fn forwards_waiting(&self, users: &dyn UserNames) -> u64 {
        let waiting = self.held_forwards.waiting.iter();
        let own = waiting.filter(|(event, _)| !self.is_sshds_own(event, users));
        own.count() as u64 + self.held_forwards.lost
    }

    /// When the wait for its first session began.
    fn waits_since(&self) -> Option<u64> {
        let first = self.held_forwards.waiting.first();
        let first = first.map(|(event, _)| event.boot_ns);
        self.login_boot_ns.or(first)
    }
}

impl Sessions {
    /// sshd began, accepted or waits for a connection on the client's behalf.
    pub(super) fn forward(
        &mut self,
        event: &KernelEvent,
        socket: &SocketEvent,
        role: ConnectRole,
        sink: &mut dyn Sink,
    ) {
        self.connection(event.connection, event.boot_ns);
        let Some(connection) = self.connections.get_mut(&event.connection) else {
            return;
        };
        if connection.is_sshds_own(event, &*self.users) {
            return;
        }
        if connection.sessions_ever == 0 {
            connection.held_forwards.push(event, socket);
            return;
        }
        if let Some(key) = self.forwarding_session(event.connection, event.boot_ns, sink) {
            self.connect(key, event, socket, (role, true), sink);
        }
    }

    /// The end of a connection whose beginning may be held.
    pub(super) fn hold_close(&mut self, event: &KernelEvent, socket: &SocketEvent) {
        let Some(connection) = self.connections.get_mut(&event.connection) else {
            return;
        };
        let mut held = connection.held_forwards.waiting.iter();
        if held.any(|(_, known)| known.socket == socket.socket) {
            connection.held_forwards.push(event, socket);
        }
    }

    /// Opens the sessions that connections owe, and tells what was held.
    pub(super) fn settle_forwards(&mut self, sink: &mut dyn Sink) {
        let now = self.now;
        let due = |c: &Connection| {
            let over = c.servers == 0;
            let waited = c
                .waits_since()
                .is_some_and(|t| now >= t.saturating_add(GRACE_NS));
            c.owes_session() && !c.identity.is_asked() && (over || waited || c.sessions_ever > 0)
        };
        let connections = self.connections.iter().filter(|(_, c)| due(c));
        let due: Vec<u64> = connections.map(|(id, _)| *id).collect();
        for id in due {
            self.release_forwards(id, sink);
        }
    }

    /// A connection begins at the other end of a forward that still waits: the
    /// forward has a session from now on, which is the new one's parent.
    pub(super) fn release_forward_to(&mut self, start: &ConnectionStart, sink: &mut dyn Sink) {
        let Some((client, server)) = start.client.zip(start.server) else {
            return;
        };
        let ends = (Some(canonical(client)), Some(canonical(server)));
        let same = |socket: &SocketEvent| {
            (socket.local.map(canonical), socket.remote.map(canonical)) == ends
        };
        let waits = |c: &Connection| {
            let mut waiting = c.held_forwards.waiting.iter();
            waiting.any(|(_, socket)| same(socket))
        };
        let mut connections = self.connections.iter();
        let found = connections.find(|(_, c)| waits(c)).map(|(id, _)| *id);
        if let Some(id) = found {
            self.release_forwards(id, sink);
        }
    }

    fn release_forwards(&mut self, id: u64, sink: &mut dyn Sink) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let since = connection.waits_since().unwrap_or(self.now);
        let mut held = std::mem::take(&mut connection.held_forwards);
        held.waiting
            .retain(|(event, _)| !connection.is_sshds_own(event, &*self.users));
        if held.is_empty() && !connection.is_silent() {
            self.drop_if_over(id);
            return;
        }
        let ended = (connection.servers == 0).then_some(connection.seen_boot_ns);
        let Some(key) = self.forwarding_session(id, since, sink) else {
            // At the bound of sessions; counted there.
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.unrecorded = connection.login_boot_ns.take().is_some();
            }
            self.drop_if_over(id);
            return;
        };
        for (event, socket) in &held.waiting {
            let role = match socket.operation {
                SocketOperation::Connect => ConnectRole::Connect,
                SocketOperation::Listen => ConnectRole::Listen,
                SocketOperation::Accept => ConnectRole::Accept,
                SocketOperation::Close => {
                    self.disconnect(event.boot_ns, socket, sink);
                    continue;
                }
            };
            self.connect(key, event, socket, (role, true), sink);
        }
        if let Some(session) = self.sessions.get_mut(&key) {
            if held.lost > 0 {
                session
                    .bounded
                    .add(GapClass::Network, (held.lost, 0), since);
            }
            if let Some(boot_ns) = ended {
                session.disconnected(boot_ns, None);
            }
        }
    }

    /// The session that tells what sshd does on the client's behalf.
    fn forwarding_session(
        &mut self,
        id: u64,
        boot_ns: u64,
        sink: &mut dyn Sink,
    ) -> Option<SessionKey> {
        let connection = self.connections.get(&id)?;
        if let Some(key) = connection.forwards {
            return Some(key);
        }
        let mut open = connection.sessions.iter().filter(|key| {
            let session = self.sessions.get(key);
            session.is_some_and(|session| !session.has_ended())
        });
        if let (Some(only), None) = (open.next(), open.next()) {
            return Some(*only);
        }
        let seed = Seed {
            kind: SessionKind::Forward,
            ..Seed::default()
        };
        let key = self.open_session(id, boot_ns, seed, sink)?;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.forwards = Some(key);
        }
        Some(key)
    }
}
