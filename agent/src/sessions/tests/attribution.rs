use auditty_recording::event::{GapCause, GapClass};
use auditty_recording::session::{AuthMethod, Evidence, Grant, GrantStatus, SessionKind};

use super::rig::{CHILD, MONITOR, Rig, SHELL, SSHD};
use crate::capture::event::{ConnectionStart, Exec, Fact, Fd};
use crate::sessions::Limits;
use auditty_grants::{GrantBook, GrantRule};

fn grant(id: &str, user: &str) -> GrantRule {
    GrantRule {
        grant: Grant {
            request_id: id.into(),
            ..Grant::default()
        },
        unix_users: vec![user.into()],
        ..GrantRule::default()
    }
}

#[test]
fn everything_below_the_root_is_its_own() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    rig.fork(SHELL, 120);
    rig.exec_with(120, &["sudo", "su"], |exec| exec.euid = 0);
    rig.fork(120, 121);
    rig.exec_with(121, &["setsid", "x"], |exec| {
        exec.session_leader = true;
        exec.fds = [Fd::Pts(9); 3];
    });
    rig.fork(121, 122);
    rig.exit(121, 0);
    rig.fork(122, 123);
    rig.exit(122, 0);
    rig.exec(123, &["daemon"]);
    rig.fork(123, 124);
    rig.exec(124, &["/usr/sbin/sshd", "-D"]);
    assert_eq!(rig.count(), 1);
    let story = rig.session(0).story();
    let execs: Vec<_> = story
        .iter()
        .filter(|line| line.starts_with("exec"))
        .collect();
    assert_eq!(
        execs,
        [
            "exec -bash",
            "exec sudo su",
            "exec setsid x",
            "exec daemon",
            "exec /usr/sbin/sshd -D"
        ]
    );
    assert_eq!(rig.sessions.counters().unattributed_execs, 0);
}

#[test]
fn root_on_an_old_server_is_served_by_the_monitor_itself() {
    let mut rig = Rig::new();
    rig.connect(MONITOR, ConnectionStart::default());
    rig.fork(MONITOR, CHILD);
    rig.monitor(CHILD, 8, b"\0\0\0\x04root");
    rig.monitor(MONITOR, 109, b"\0\0\0\0");
    rig.exit(CHILD, 0);
    rig.fork(MONITOR, SHELL);
    rig.exec_with(SHELL, &["-bash"], |exec| {
        exec.session_leader = true;
        exec.fds = [Fd::Pts(0); 3];
        (exec.uid, exec.euid) = (0, 0);
    });
    let login = &rig.session(0).session().login;
    assert_eq!((login.user.as_str(), login.uid), ("root", Some(0)));
    assert_eq!(login.method, AuthMethod::KeyboardInteractive);
    rig.exit(SHELL, 0);
    rig.exit(MONITOR, 0);
    rig.end_of_batch();
    assert!(rig.session(0).finished);
}

#[test]
fn what_sshd_runs_for_itself_is_nobodys_until_its_child_becomes_a_root() {
    let mut rig = Rig::logged_in();
    rig.fork(MONITOR, 130);
    rig.exec(130, &["unix_chkpwd"]);
    rig.exit(130, 0);
    rig.fork(MONITOR, 131);
    rig.exec_with(131, &["pam_exec_script"], |exec| exec.session_leader = true);
    rig.exit(131, 0);
    rig.fork(SSHD, SHELL);
    rig.fork(SHELL, 120);
    rig.exec(120, &["sh", "-c", "xauth"]);
    rig.fork(120, 121);
    rig.exec(121, &["xauth"]);
    rig.exit(121, 0);
    rig.exit(120, 0);
    rig.fork(SHELL, 122);
    rig.exec(122, &["rc-daemon"]);
    assert_eq!(rig.count(), 0);
    rig.root(SHELL, &["-bash"], [Fd::Pts(0); 3]);
    rig.exit(122, 0);
    assert_eq!(
        rig.session(0).story()[4..],
        [
            "exec sh -c xauth",
            "exec xauth",
            "exit 121 of 6",
            "exit 120 of 5",
            "exec rc-daemon",
            "exec -bash",
            "exit 122 of 9",
        ]
    );
    rig.fork(SSHD, 140);
    rig.fork(140, 141);
    rig.exec(141, &["sh"]);
    rig.exit(140, 0);
    assert_eq!(rig.sessions.counters().unattributed_execs, 1);
    rig.exit(SHELL, 0);
    rig.disconnect();
    assert_eq!(rig.sessions.counters().unattributed_execs, 3);
    assert_eq!(rig.count(), 1);
}

#[test]
fn several_sessions_share_one_connection() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    rig.shell(SSHD, 111, 1);
    rig.command(112, "id");
    rig.output(0, 0, "zero");
    rig.output(1, 0, "one");
    rig.output(0, 4, "zero");
    rig.end_of_batch();
    assert_eq!(rig.count(), 3);
    assert_eq!(rig.session(0).session().counts.output_bytes, 8);
    assert_eq!(rig.session(1).session().counts.output_bytes, 3);
    let (shell, command) = (rig.session(0).session(), rig.session(2).session());
    assert_eq!(shell.connection, command.connection);
    assert_eq!(
        (command.session_kind, command.command.as_str()),
        (SessionKind::Exec, "id")
    );
    rig.exit(112, 0);
    rig.pass(20_000);
    assert!(rig.session(2).finished && !rig.session(0).finished);
}

#[test]
fn a_root_with_other_descriptors_than_a_session_is_none() {
    let mut rig = Rig::logged_in();
    rig.fork(SSHD, SHELL);
    rig.exec(SHELL, &["not-a-leader"]);
    assert_eq!(rig.count(), 0);
}

#[test]
fn the_identity_freezes_with_the_preauth_child() {
    let mut rig = Rig::logged_in();
    rig.monitor(SSHD, 8, b"\0\0\0\x04root");
    rig.monitor(MONITOR, 109, b"\0\0\0\0");
    rig.shell(SSHD, SHELL, 0);
    let login = &rig.session(0).session().login;
    assert_eq!(
        (login.user.as_str(), login.method),
        ("alice", AuthMethod::Password)
    );
    assert_eq!(login.evidence, Evidence::SshdMonitor);
    assert_eq!(rig.sessions.counters().late_monitor_messages, 2);
}

#[test]
fn a_users_own_server_proves_nothing() {
    for start in [
        ConnectionStart {
            server_uid: 1000,
            ..ConnectionStart::default()
        },
        ConnectionStart {
            parent_connection: 3,
            ..ConnectionStart::default()
        },
    ] {
        let mut rig = Rig::with(
            GrantBook::new(vec![grant("R1", "*")], true),
            Limits::default(),
        );
        rig.connect(MONITOR, start);
        rig.fork(MONITOR, CHILD);
        rig.monitor(CHILD, 8, b"\0\0\0\x04root");
        rig.monitor(MONITOR, 13, b"\0\0\0\x01");
        rig.shell(MONITOR, SHELL, 0);
        let session = rig.session(0).session();
        assert_eq!(session.login.evidence, Evidence::UntrustedServer);
        assert_eq!(
            (session.login.user.as_str(), session.login.method),
            ("alice", AuthMethod::Unknown)
        );
        assert_eq!(session.grant.status, GrantStatus::Ungranted);
    }
}

#[test]
fn sessions_open_before_the_agent_are_adopted() {
    let mut rig = Rig::new();
    rig.connect(
        MONITOR,
        ConnectionStart {
            adopted: true,
            ..ConnectionStart::default()
        },
    );
    rig.fork(MONITOR, SSHD);
    rig.exec_with(SSHD, &["sshd: alice@pts/4"], |exec| {
        (exec.server, exec.adopted) = (true, true)
    });
    rig.fork(SSHD, SHELL);
    rig.exec_with(SHELL, &["-bash"], |exec| {
        exec.session_leader = true;
        exec.adopted = true;
        exec.fds = [Fd::Pts(4); 3];
    });
    rig.fork(1, 125);
    rig.exec_with(125, &["orphan"], |exec| {
        (exec.adopted, exec.parent) = (true, 1)
    });
    rig.output(4, 0, "$ ");
    rig.exit(125, 0);
    rig.exit(SHELL, 0);
    rig.disconnect();
    let recorded = rig.session(0);
    assert_eq!(
        recorded.story(),
        [
            "session_start",
            "marker adopted",
            "login",
            "grant",
            "open pts/4",
            "exec -bash",
            "resize 80x24",
            "Terminal>$ ",
            "exit 110 of 6",
            "end Exited",
        ]
    );
    let session = recorded.session();
    assert!(session.adopted && recorded.finished);
    assert_eq!(
        session.verdict,
        auditty_recording::session::Verdict::Interrupted
    );
    assert_eq!(
        (session.login.user.as_str(), session.login.evidence),
        ("alice", Evidence::ProcessUid)
    );
}

#[test]
fn a_lost_fork_is_found_by_the_parent_in_the_exec() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    rig.exec_with(150, &["found"], |exec| exec.parent = SHELL);
    rig.exec_with(151, &["found too"], |exec| exec.parent = 9_999);
    assert_eq!(
        rig.session(0).story()[5..],
        ["exec found", "exec found too"]
    );
    rig.shell(SSHD, 111, 1);
    rig.exec_with(152, &["whose?"], |exec| exec.parent = 9_999);
    assert_eq!(rig.sessions.counters().unattributed_execs, 1);
    for session in [0, 1] {
        let gap = rig.session(session).gaps().pop().unwrap();
        assert_eq!(
            (gap.cause, gap.class, gap.events),
            (GapCause::Unattributed, GapClass::Exec, Some(1))
        );
    }
}

#[test]
fn a_reused_process_id_ends_the_process_before() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    rig.fork(SHELL, 120);
    rig.exec(120, &["a"]);
    rig.fork(SSHD, 120);
    rig.exit(SHELL, 0);
    rig.disconnect();
    assert_eq!(rig.session(0).end().unwrap().running_processes, 0);
}

#[test]
fn the_dead_are_reaped_when_their_exit_was_lost() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    rig.sessions.reap(&|pid, _| pid == MONITOR || pid == SSHD);
    rig.pass(20_000);
    assert!(rig.session(0).finished);
}

#[test]
fn bounds_are_counted_and_declared() {
    let limits = Limits {
        processes: 4,
        sessions: 1,
        connections: 1,
        ..Limits::default()
    };
    let mut rig = Rig::with(GrantBook::default(), limits);
    rig.login(0);
    rig.shell(SSHD, SHELL, 0);
    rig.fork(SHELL, 120);
    rig.fork(SHELL, 121);
    rig.fork(SHELL, 122);
    rig.end_of_batch();
    let gaps = rig.session(0).gaps();
    assert_eq!((gaps.len(), gaps[0].events), (1, Some(2)));
    rig.output(5, 0, "no room");
    rig.connection = 8;
    rig.fact(500, Fact::ConnectionStart(ConnectionStart::default()));
    rig.fact(
        500,
        Fact::Exec(Box::new(Exec {
            server: true,
            ..Exec::default()
        })),
    );
    let counters = rig.sessions.counters();
    assert_eq!(
        (counters.refused_processes, counters.refused_sessions),
        (3, 1)
    );
    assert!(counters.refused_connections >= 1);
    assert_eq!(counters.unattributed_bytes, 7);
}

#[test]
fn what_helpers_do_is_bounded_and_declared() {
    let limits = Limits {
        held_events: 2,
        ..Limits::default()
    };
    let mut rig = Rig::with(GrantBook::default(), limits);
    rig.login(0);
    rig.fork(SSHD, SHELL);
    for pid in 120..124 {
        rig.fork(SHELL, pid);
        rig.exec(pid, &["rc"]);
    }
    rig.root(SHELL, &["-bash"], [Fd::Pts(0); 3]);
    rig.end_of_batch();
    let recorded = rig.session(0);
    assert_eq!(
        recorded.story()[4..],
        ["exec rc", "exec rc", "exec -bash", "gap Bound"]
    );
    assert_eq!(recorded.gaps()[0].events, Some(2));
}

#[test]
fn dropbears_commands_need_no_posix_session() {
    const XAUTH: u32 = 400;
    let pipes = [Fd::Pipe(1), Fd::Pipe(2), Fd::Pipe(3)];
    for exe in [None, Some("/usr/sbin/dropbear"), Some("/usr/sbin/sshd")] {
        let mut rig = Rig::new();
        rig.fact(MONITOR, Fact::ConnectionStart(ConnectionStart::default()));
        if let Some(exe) = exe {
            rig.exec_with(MONITOR, &["dropbear"], |exec| {
                (exec.exe, exec.server) = (exe.into(), true);
            });
        }
        rig.fork(MONITOR, SHELL);
        rig.fork(SHELL, XAUTH);
        rig.exec_with(XAUTH, &["xauth"], |exec| exec.fds = pipes);
        rig.exit(XAUTH, 0);
        rig.exec_with(SHELL, &["sh", "-c", "id"], |exec| exec.fds = pipes);
        rig.exit(SHELL, 0);
        if exe == Some("/usr/sbin/sshd") {
            assert_eq!(rig.count(), 0, "what sshd runs for itself");
            continue;
        }
        let story = rig.session(0).story();
        assert!(story.contains(&"exec xauth".to_owned()), "{story:?}");
        assert!(story.contains(&"exec sh -c id".to_owned()), "{story:?}");
        assert_eq!(
            rig.session(0).session().login.evidence,
            Evidence::ProcessUid
        );
    }
}
