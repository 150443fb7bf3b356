use std::net::SocketAddr;

use auditty_recording::event::{Body, Link, LinkRelation};
use auditty_recording::session::{Evidence, SessionKind};

use super::rig::{CHILD, MONITOR, MS, Rig, SHELL, SSHD};
use crate::capture::event::{ConnectionStart, Fact, SocketEvent, SocketOperation};

fn at(address: &str) -> Option<SocketAddr> {
    Some(address.parse().unwrap())
}

impl Rig {
    fn socket(&mut self, pid: u32, socket: u64, operation: SocketOperation) {
        let event = SocketEvent {
            socket,
            operation,
            local: at("10.0.0.1:40000"),
            remote: at("10.0.0.2:443"),
            unix_path: String::new(),
            sent: 7,
            received: 9,
        };
        self.fact(pid, Fact::Socket(event));
    }

    fn unix(&mut self, pid: u32, operation: SocketOperation, path: &str) {
        let event = SocketEvent {
            socket: 99,
            operation,
            local: None,
            remote: None,
            unix_path: path.into(),
            sent: 0,
            received: 0,
        };
        self.fact(pid, Fact::Socket(event));
    }

    fn links(&self, index: usize) -> Vec<Link> {
        let events = self.session(index).events.iter();
        let links = events.filter_map(|event| match &event.body {
            Body::Link(link) => Some(link.clone()),
            _ => None,
        });
        links.collect()
    }
}

#[test]
fn connections_of_processes_and_forwards_are_told_apart() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 3);
    rig.socket(SHELL, 1, SocketOperation::Connect);
    rig.socket(SSHD, 2, SocketOperation::Connect);
    rig.unix(SSHD, SocketOperation::Connect, "/dev/log");
    rig.socket(0, 1, SocketOperation::Close);
    rig.socket(0, 2, SocketOperation::Close);
    rig.socket(0, 3, SocketOperation::Close);
    rig.end_of_batch();
    let recorded = rig.session(0);
    assert_eq!(
        recorded.story()[5..],
        [
            "Connect forwarded=false",
            "Connect forwarded=true",
            "disconnect 6",
            "disconnect 7",
        ]
    );
    assert_eq!(recorded.session().counts.connects, 2);
    let Body::Disconnect(end) = &recorded.events[7].body else {
        panic!();
    };
    assert_eq!((end.sent_bytes, end.received_bytes), (Some(7), Some(9)));
    assert_eq!(end.duration_ns, 3 * MS);
    assert_eq!(rig.count(), 1);
}

#[test]
fn what_the_client_asks_for_before_its_shell_is_the_sessions() {
    let mut rig = Rig::logged_in();
    rig.socket(SSHD, 1, SocketOperation::Listen);
    rig.unix(SSHD, SocketOperation::Listen, "/tmp/ssh-x/agent.5");
    rig.end_of_batch();
    assert_eq!(rig.count(), 0);
    rig.shell(SSHD, SHELL, 3);
    rig.end_of_batch();
    rig.pass(5_000);
    assert_eq!(rig.count(), 1);
    let recorded = rig.session(0);
    assert_eq!(
        recorded.story()[5..],
        ["Listen forwarded=true", "Listen forwarded=true"]
    );
    assert_eq!(recorded.session().session_kind, SessionKind::Shell);
}

#[test]
fn a_connection_of_forwards_only_is_a_session() {
    let mut rig = Rig::logged_in();
    rig.end_of_batch();
    rig.socket(SSHD, 1, SocketOperation::Connect);
    rig.socket(0, 1, SocketOperation::Close);
    rig.pass(2_900);
    assert_eq!(rig.count(), 0);
    rig.pass(200);
    assert_eq!(
        rig.session(0).story(),
        [
            "session_start",
            "login",
            "grant",
            "Connect forwarded=true",
            "disconnect 4"
        ]
    );
    rig.socket(SSHD, 2, SocketOperation::Connect);
    rig.disconnect();
    rig.pass(1_000);
    let recorded = rig.session(0);
    assert!(recorded.finished);
    assert_eq!(
        recorded.story()[5..],
        ["Connect forwarded=true", "end Disconnected"]
    );
    let session = recorded.session();
    assert_eq!(session.session_kind, SessionKind::Forward);
    assert_eq!(session.login.evidence, Evidence::SshdMonitor);
    assert_eq!(
        (session.terminal.as_str(), session.counts.connects),
        ("", 2)
    );
    assert_eq!(rig.sessions.open_sessions(), 0);
}

#[test]
fn a_login_that_does_nothing_leaves_a_session() {
    // ssh -N, and one that is gone before the grace is over.
    let mut rig = Rig::logged_in();
    rig.pass(3_100);
    assert_eq!(rig.session(0).session().session_kind, SessionKind::Forward);
    rig.disconnect();
    rig.connection = 8;
    rig.login(100);
    rig.exit(SSHD + 100, 0);
    rig.exit(MONITOR + 100, 0);
    rig.end_of_batch();
    rig.pass(1_000);
    assert_eq!(rig.count(), 2);
    for index in 0..2 {
        let recorded = rig.session(index);
        assert!(recorded.finished);
        assert_eq!(recorded.story().last().unwrap(), "end Disconnected");
    }
    // A login that failed, and a connection that never tried.
    rig.connection = 9;
    rig.connect(MONITOR, ConnectionStart::default());
    rig.fork(MONITOR, CHILD);
    rig.monitor(CHILD, 8, b"\0\0\0\x05alice");
    rig.exit(CHILD, 255 << 8);
    rig.exit(MONITOR, 255 << 8);
    rig.connection = 10;
    rig.connect(MONITOR, ConnectionStart::default());
    rig.exit(MONITOR, 255 << 8);
    rig.pass(5_000);
    assert_eq!(rig.count(), 2);
}

#[test]
fn a_hop_is_the_child_of_the_session_it_came_from() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 3);
    rig.fork(SHELL, 120);
    rig.exec(120, &["ssh", "web-2"]);
    rig.socket(120, 1, SocketOperation::Connect);
    rig.connection = 8;
    let start = ConnectionStart {
        client: at("[::ffff:10.0.0.1]:40000"),
        server: at("[::ffff:10.0.0.2]:443"),
        ..ConnectionStart::default()
    };
    rig.connect(MONITOR + 100, start);
    rig.fork(MONITOR + 100, SSHD + 100);
    rig.shell(SSHD + 100, SHELL + 100, 4);
    rig.end_of_batch();
    let id = |index: usize| rig.session(index).session().session_id;
    let link = |relation, session_id| Link {
        relation,
        session_id,
        pid: 120,
    };
    assert_eq!(rig.links(0), [link(LinkRelation::Child, id(1))]);
    assert_eq!(rig.links(1), [link(LinkRelation::Parent, id(0))]);
    assert_eq!(rig.session(1).session().parent_session_id, Some(id(0)));
}

#[test]
fn a_server_of_the_users_own_is_the_child_of_its_session() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 3);
    rig.fork(SHELL, 120);
    rig.connection = 8;
    let start = ConnectionStart {
        parent_connection: 7,
        server_uid: 1000,
        ..ConnectionStart::default()
    };
    rig.connect(120, start);
    rig.fork(120, 121);
    rig.shell(121, 122, 4);
    rig.end_of_batch();
    let parent = rig.session(0).session().session_id;
    assert_eq!(rig.session(1).session().parent_session_id, Some(parent));
    assert_eq!(rig.links(0)[0].relation, LinkRelation::Child);
}

#[test]
fn what_sshd_asks_other_hosts_for_itself_is_no_forward() {
    let mut rig = Rig::new();
    rig.connect(MONITOR, ConnectionStart::default());
    rig.fork(MONITOR, CHILD);
    rig.socket(MONITOR, 1, SocketOperation::Connect);
    rig.monitor(CHILD, 8, b"\0\0\0\x05alice");
    rig.socket(MONITOR, 2, SocketOperation::Connect);
    rig.socket(0, 2, SocketOperation::Close);
    rig.pass(5_000);
    assert_eq!(rig.count(), 0, "nobody is logged in");
    rig.monitor(MONITOR, 13, b"\0\0\0\x01");
    rig.exit(CHILD, 0);
    rig.socket(MONITOR, 3, SocketOperation::Connect);
    rig.fork(MONITOR, SSHD);
    rig.shell(SSHD, SHELL, 3);
    rig.socket(MONITOR, 4, SocketOperation::Connect);
    rig.socket(SSHD, 5, SocketOperation::Connect);
    rig.end_of_batch();
    assert_eq!(
        rig.session(0).story()[5..],
        ["Connect forwarded=true"],
        "sshd's own connections"
    );
    assert_eq!(rig.count(), 1);
}

#[test]
fn root_is_served_by_the_monitor_itself() {
    let mut rig = Rig::new();
    rig.connect(MONITOR, ConnectionStart::default());
    rig.fork(MONITOR, CHILD);
    rig.monitor(CHILD, 8, b"\0\0\0\x04root");
    rig.monitor(MONITOR, 13, b"\0\0\0\x01");
    rig.exit(CHILD, 0);
    rig.socket(MONITOR, 1, SocketOperation::Connect);
    rig.pass(5_000);
    assert_eq!(rig.session(0).story()[3..], ["Connect forwarded=true"]);
}
