//! Network connections of a session's processes, and the ones sshd makes on the
//! client's behalf.

use std::net::SocketAddr;

use auditty_recording::event::{Body, Connect, ConnectRole, Disconnect, GapClass};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Sessions;
use super::lineage::{Owner, SessionKey};
use super::sink::Sink;
use crate::capture::event::{KernelEvent, SocketEvent, SocketOperation};

/// Sockets of all sessions that are followed to their end. At the bound the
/// beginning of a connection is told and its end is not.
const MAX_SOCKETS: usize = 65_536;

/// Where sshd itself calls on the host's services, at a login and for its log.
/// A client's forward to one of these cannot be told from that.
const SERVICES: [&str; 7] = [
    "/dev/log",
    "/run/systemd/",
    "/run/dbus/",
    "/var/run/dbus/",
    "/run/nscd/",
    "/var/run/nscd/",
    "/var/lib/sss/pipes/",
];

/// A socket whose end is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Socket {
    #[serde(skip)]
    pub session: SessionKey,
    pub session_id: Uuid,
    pub pid: u32,
    pub local: Option<SocketAddr>,
    pub remote: Option<SocketAddr>,
    role: ConnectRole,
    seq: u64,
    boot_ns: u64,
}

impl Sessions {
    /// A process did something with a socket, or the kernel closed one.
    pub(super) fn socket(
        &mut self,
        event: &KernelEvent,
        socket: &SocketEvent,
        sink: &mut dyn Sink,
    ) {
        let role = match socket.operation {
            SocketOperation::Connect => ConnectRole::Connect,
            SocketOperation::Listen => ConnectRole::Listen,
            SocketOperation::Accept => ConnectRole::Accept,
            SocketOperation::Close => {
                if !self.disconnect(event.boot_ns, socket, sink) {
                    self.hold_close(event, socket);
                }
                return;
            }
        };
        if let Some(key) = self.session_of(event) {
            self.connect(key, event, socket, (role, false), sink);
            return;
        }
        let of_server = event.root == 0
            && matches!(
                self.processes.owner(event.pid),
                Owner::Server | Owner::Unknown
            );
        let service = SERVICES.iter().any(|at| socket.unix_path.starts_with(at));
        if of_server && !service {
            self.forward(event, socket, role, sink);
        }
    }

    /// Puts a connection on the session's timeline.
    pub(super) fn connect(
        &mut self,
        key: SessionKey,
        event: &KernelEvent,
        socket: &SocketEvent,
        (role, forwarded): (ConnectRole, bool),
        sink: &mut dyn Sink,
    ) {
        let KernelEvent { boot_ns, pid, .. } = *event;
        let full = self.sockets.len() >= MAX_SOCKETS;
        let Some((session, mut out)) = self.open(key, sink) else {
            return;
        };
        if !session.network_allowance.take(boot_ns) {
            session.bounded.add(GapClass::Network, (1, 0), boot_ns);
            return;
        }
        let unix = !socket.unix_path.is_empty();
        let body = Connect {
            pid,
            forwarded,
            role,
            local: socket.local.map(canonical),
            remote: socket.remote.map(canonical),
            unix_path: unix.then(|| socket.unix_path.clone()),
        };
        let (local, remote) = (body.local, body.remote);
        let Some(seq) = session.emit(&mut out, boot_ns, Body::Connect(body)) else {
            return;
        };
        if full {
            session.bounded.add(GapClass::Network, (1, 0), boot_ns);
        } else if !unix {
            let session_id = session.timeline.record.session.session_id;
            let socket_is = Socket {
                session: key,
                session_id,
                pid,
                local,
                remote,
                role,
                seq,
                boot_ns,
            };
            self.sockets.insert(socket.socket, socket_is);
        }
    }

    /// Tells the end of a connection; `false` when its beginning was not told.
    pub(super) fn disconnect(
        &mut self,
        boot_ns: u64,
        socket: &SocketEvent,
        sink: &mut dyn Sink,
    ) -> bool {
        let Some(known) = self.sockets.remove(&socket.socket) else {
            return false;
        };
        if let Some((session, mut out)) = self.open(known.session, sink) {
            let counted = known.role != ConnectRole::Listen;
            let body = Disconnect {
                connect_seq: known.seq,
                sent_bytes: counted.then_some(socket.sent),
                received_bytes: counted.then_some(socket.received),
                duration_ns: boot_ns.saturating_sub(known.boot_ns),
            };
            session.emit(&mut out, boot_ns, Body::Disconnect(body));
        }
        true
    }
}

/// The address as people write it: IPv4 inside IPv6 is IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
