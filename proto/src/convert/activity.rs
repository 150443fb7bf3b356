//! What processes do beside starting programs, as messages.

use std::net::SocketAddr;

use auditty_recording::event::{self, Body, Event};
use uuid::Uuid;

use super::{duration, timestamp};
use crate::names;
use crate::v1::{self, activity::Activity as Message};

/// An activity as a message; `None` where the event is none. How a connection
/// ended is another event's news: [`end_connect`].
pub fn activity(session_id: Uuid, event: &Event) -> Option<v1::Activity> {
    use v1::ActivityKind;
    let (kind, pid, message) = match &event.body {
        Body::File(file) => (ActivityKind::File, file.pid, Message::File(file.into())),
        Body::Transfer(transfer) => {
            let message = Message::Transfer(transfer.into());
            (ActivityKind::Transfer, transfer.pid, message)
        }
        Body::Connect(connect) => {
            let message = Message::Connect(connect.into());
            (ActivityKind::Connect, connect.pid, message)
        }
        Body::Link(link) => (ActivityKind::Link, link.pid, Message::Link(link.into())),
        Body::Handoff(handoff) => {
            let message = Message::Handoff(v1::Handoff {
                to: v1::HandoffTo::from(handoff.to).into(),
                command_seq: handoff.exec_seq,
            });
            (ActivityKind::Handoff, handoff.pid, message)
        }
        _ => return None,
    };
    Some(v1::Activity {
        name: names::activity_name(session_id, event.seq),
        seq: event.seq,
        time: Some(timestamp(event.time)),
        pid,
        kind: kind.into(),
        activity: Some(message),
        content_withheld: false,
    })
}

/// Adds to a network connection how it ended.
pub fn end_connect(activity: &mut v1::Activity, end: &event::Disconnect) {
    if let Some(Message::Connect(connect)) = &mut activity.activity {
        connect.sent_byte_count = end.sent_bytes;
        connect.received_byte_count = end.received_bytes;
        connect.duration = Some(duration(end.duration_ns));
    }
}

impl From<&event::File> for v1::FileAccess {
    fn from(file: &event::File) -> Self {
        Self {
            operation: v1::FileOperation::from(file.operation).into(),
            path: file.path.clone(),
            target: file.target.clone().unwrap_or_default(),
            path_as_given: file.path_as_given,
            mode: file.mode,
            uid: file.uid,
            gid: file.gid,
            errno: file.errno,
        }
    }
}

impl From<&event::Transfer> for v1::Transfer {
    fn from(transfer: &event::Transfer) -> Self {
        Self {
            protocol: v1::TransferProtocol::from(transfer.protocol).into(),
            direction: v1::TransferDirection::from(transfer.direction).into(),
            path: transfer.path.clone(),
            byte_count: transfer.bytes,
            mode: transfer.mode,
            duration: Some(duration(transfer.duration_ns)),
            errno: transfer.errno,
        }
    }
}

impl From<&event::Connect> for v1::Connect {
    fn from(connect: &event::Connect) -> Self {
        let address = |end: Option<SocketAddr>| end.map_or(String::new(), |e| e.ip().to_string());
        let port = |end: Option<SocketAddr>| end.map_or(0, |end| end.port()).into();
        Self {
            role: v1::ConnectRole::from(connect.role).into(),
            forwarded: connect.forwarded,
            local_address: address(connect.local),
            local_port: port(connect.local),
            remote_address: address(connect.remote),
            remote_port: port(connect.remote),
            unix_path: connect.unix_path.clone().unwrap_or_default(),
            sent_byte_count: None,
            received_byte_count: None,
            duration: None,
        }
    }
}

impl From<&event::Link> for v1::Link {
    fn from(link: &event::Link) -> Self {
        Self {
            relation: v1::LinkRelation::from(link.relation).into(),
            session_id: link.session_id.to_string(),
        }
    }
}

same_values! {
    event::FileOperation => FileOperation {
        Create => Create, OpenWrite => OpenWrite, OpenRead => OpenRead, Delete => Delete,
        Rename => Rename, Chmod => Chmod, Chown => Chown, Mkdir => Mkdir, Rmdir => Rmdir,
        Link => Link, Symlink => Symlink, Truncate => Truncate,
        Execute => Execute,
    }
    event::TransferProtocol => TransferProtocol {
        Sftp => Sftp, Scp => Scp, Rsync => Rsync, Git => Git,
    }
    event::TransferDirection => TransferDirection {
        Upload => Upload, Download => Download,
    }
    event::ConnectRole => ConnectRole {
        Connect => Connect, Listen => Listen, Accept => Accept,
    }
    event::LinkRelation => LinkRelation {
        Parent => Parent, Child => Child, Drives => Drives, DrivenBy => DrivenBy,
    }
    event::HandoffTo => HandoffTo {
        Systemd => Systemd, At => At, Cron => Cron, Container => Container, Dbus => Dbus,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn event(body: Body) -> Event {
        Event {
            seq: 9,
            time: Timestamp::UNIX_EPOCH,
            boot_ns: 0,
            body,
        }
    }

    #[test]
    fn a_connection_and_its_end() {
        let connect = event(Body::Connect(event::Connect {
            pid: 5,
            forwarded: true,
            role: event::ConnectRole::Connect,
            local: "10.0.0.1:40000".parse().ok(),
            remote: "[2001:db8::1]:443".parse().ok(),
            unix_path: None,
        }));
        let mut message = activity(Uuid::nil(), &connect).unwrap();
        assert_eq!((message.seq, message.pid), (9, 5));
        assert_eq!(message.kind(), v1::ActivityKind::Connect);
        let end = event::Disconnect {
            connect_seq: 9,
            sent_bytes: Some(3),
            received_bytes: None,
            duration_ns: 2_000_000_000,
        };
        end_connect(&mut message, &end);
        let Some(Message::Connect(connect)) = message.activity else {
            panic!();
        };
        assert_eq!(
            (connect.local_address.as_str(), connect.local_port),
            ("10.0.0.1", 40000)
        );
        assert_eq!(
            (connect.remote_address.as_str(), connect.remote_port),
            ("2001:db8::1", 443)
        );
        assert_eq!(
            (connect.sent_byte_count, connect.received_byte_count),
            (Some(3), None)
        );
        assert_eq!(connect.duration.map(|duration| duration.seconds), Some(2));
    }

    #[test]
    fn other_events_are_no_activities() {
        let end = event(Body::Disconnect(event::Disconnect {
            connect_seq: 1,
            sent_bytes: None,
            received_bytes: None,
            duration_ns: 0,
        }));
        assert_eq!(activity(Uuid::nil(), &end), None);
    }
}
