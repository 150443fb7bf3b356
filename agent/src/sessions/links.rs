//! Ties between sessions: a session whose client is a process of another one,
//! and a terminal that another session's terminal shows.

use std::net::{IpAddr, SocketAddr};

use auditty_recording::event::{Body, Link, LinkRelation};
use uuid::Uuid;

use super::Sessions;
use super::lineage::{Owner, SessionKey};
use super::network::canonical;
use super::sink::Sink;
use crate::capture::event::{ConnectionStart, KernelEvent};

/// Sessions that one session can be seen to drive or to be driven by: more than
/// a shared tmux server has in its life.
const MAX_DRIVING: usize = 1024;

/// The session, and its process, that is a connection's client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parent {
    key: SessionKey,
    session_id: Uuid,
    pid: u32,
}

impl Sessions {
    /// Whose process is the client of a connection that begins, or its server.
    pub(super) fn parent_of(&self, event: &KernelEvent, start: &ConnectionStart) -> Option<Parent> {
        if let Some((client, server)) = start.client.zip(start.server)
            && let Some(parent) = self.parent_at(canonical(client), canonical(server))
        {
            return Some(parent);
        }
        let of_process = match self.processes.owner(event.pid) {
            Owner::Session(key) => Some(key),
            _ => None,
        };
        let outer = self.connections.get(&start.parent_connection);
        let only = || match outer?.sessions.as_slice() {
            [only] => Some(*only),
            _ => None,
        };
        let key = of_process.or_else(only)?;
        let session = &self.sessions.get(&key)?.timeline.record.session;
        Some(Parent {
            key,
            session_id: session.session_id,
            pid: event.pid,
        })
    }

    /// Whose socket is the client's end of a connection.
    fn parent_at(&self, client: SocketAddr, server: SocketAddr) -> Option<Parent> {
        let ends = (Some(client), Some(server));
        let mut sockets = self.sockets.values();
        let socket = sockets.find(|socket| (socket.local, socket.remote) == ends)?;
        Some(Parent {
            key: socket.session,
            session_id: socket.session_id,
            pid: socket.pid,
        })
    }

    /// A session begins on a connection: both it and the one that its client
    /// belongs to are told.
    pub(super) fn link_parent(&mut self, key: SessionKey, boot_ns: u64, sink: &mut dyn Sink) {
        let connection = self.sessions.get(&key).map(|session| session.connection);
        let connection = connection.and_then(|id| self.connections.get(&id));
        let parent = connection.and_then(|connection| {
            let known = &connection.described;
            let end =
                |address: Option<IpAddr>, port: Option<u16>| Some(SocketAddr::new(address?, port?));
            // Its client's connect may have been told later than its start.
            let client = end(known.client_address, known.client_port);
            let server = end(known.server_address, known.server_port);
            let late = || self.parent_at(client?, server?);
            connection.parent.or_else(late)
        });
        let Some(parent) = parent else {
            return;
        };
        let Some((session, mut out)) = self.open(key, sink) else {
            return;
        };
        let child = &mut session.timeline.record.session;
        child.parent_session_id = Some(parent.session_id);
        let session_id = child.session_id;
        session.dirty = true;
        let up = link(LinkRelation::Parent, parent.session_id, parent.pid);
        session.emit(&mut out, boot_ns, up);
        if let Some((session, mut out)) = self.open(parent.key, sink) {
            let down = link(LinkRelation::Child, session_id, parent.pid);
            session.emit(&mut out, boot_ns, down);
        }
    }

    /// A process wrote to a pty that is not its own terminal. Where that pty is
    /// another session's, that session shows and drives what the process holds.
    pub(super) fn terminal_writer(
        &mut self,
        event: &KernelEvent,
        (terminal, pts): (u64, u32),
        sink: &mut dyn Sink,
    ) {
        let KernelEvent { boot_ns, pid, .. } = *event;
        let Some(writer) = self.session_of(event) else {
            return;
        };
        let Some(shown_in) = self.session_with_terminal(terminal, pts) else {
            return;
        };
        if writer == shown_in {
            return;
        }
        let id = |key| {
            let session = self.sessions.get(&key);
            session.map(|session| session.timeline.record.session.session_id)
        };
        let (Some(driven), Some(driver)) = (id(writer), id(shown_in)) else {
            return;
        };
        let ties = [
            (writer, LinkRelation::DrivenBy, driver),
            (shown_in, LinkRelation::Drives, driven),
        ];
        for (key, relation, other) in ties {
            let Some((session, mut out)) = self.open(key, sink) else {
                continue;
            };
            let room = session.driving.len() < MAX_DRIVING;
            if room && session.driving.insert((relation, other)) {
                session.emit(&mut out, boot_ns, link(relation, other, pid));
            }
        }
    }

    /// The session to which a pty belongs, as the client's own or an inner one.
    pub(super) fn session_with_terminal(&self, terminal: u64, pts: u32) -> Option<SessionKey> {
        let mut connections = self.connections.values();
        let client = connections.find_map(|connection| match terminal {
            0 => connection.ptys.get(&pts).copied(),
            name => connection.terminals.get(&name).copied(),
        });
        let inner = || {
            let mut sessions = self.sessions.iter();
            let found = sessions.find(|(_, session)| session.has_inner(terminal, pts));
            found.map(|(key, _)| *key)
        };
        client.or_else(inner)
    }
}

fn link(relation: LinkRelation, session_id: Uuid, pid: u32) -> Body {
    Body::Link(Link {
        relation,
        session_id,
        pid,
    })
}
