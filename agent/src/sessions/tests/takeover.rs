//! Another agent goes on where the journal and the kernel's rings do.

use auditty_recording::event::{GapCause, Stream};
use auditty_recording::session::Verdict;

use super::rig::{CHILD, MONITOR, Rig, SHELL, SSHD};
use crate::capture::event::{ConnectionStart, Direction, Exec, Fact, Fd, KernelEvent};
use crate::sessions::Restart;

const ROOT: u64 = 77;

/// An event of the session's root.
fn below_root(rig: &mut Rig, pid: u32, fact: Fact) {
    rig.now += 1_000_000;
    let event = KernelEvent {
        boot_ns: rig.now,
        connection: rig.connection,
        root: ROOT,
        pid,
        fact,
    };
    rig.sessions.apply(&event, &mut rig.sink);
}

fn exec(argv: &str) -> Fact {
    Fact::Exec(Box::new(Exec {
        exe: "/bin/x".into(),
        args: format!("{argv}\0").into_bytes(),
        args_len: argv.len() as u64 + 1,
        ..Exec::default()
    }))
}

fn root_exec() -> Fact {
    let Fact::Exec(mut root) = exec("-bash") else {
        unreachable!()
    };
    root.session_leader = true;
    root.fds = [Fd::Pts(0); 3];
    root.uid = 1000;
    Fact::Exec(root)
}

/// A shell that runs a program, at a checkpoint; then the agent is killed.
fn killed() -> (Rig, Restart) {
    let mut rig = Rig::logged_in();
    rig.fork(SSHD, SHELL);
    below_root(&mut rig, SHELL, root_exec());
    below_root(&mut rig, 120, Fact::Fork { parent: SHELL });
    below_root(&mut rig, 120, exec("old"));
    rig.output(0, 0, "before");
    rig.end_of_batch();
    let connections = rig.sessions.checkpoint(&mut rig.sink);
    let record = rig.session(0).record.clone();
    (rig, Restart::Pinned(vec![record], connections.changed))
}

/// The next agent, told what lives by now.
fn next(old: Rig, restart: Restart, present: &[(u32, u64, bool)]) -> Rig {
    let mut rig = Rig::new();
    rig.sink = old.sink;
    let now = old.now + 500_000_000;
    rig.sessions
        .resume(restart, &|_, _| true, now, &mut rig.sink);
    for (pid, root, server) in present {
        let event = KernelEvent {
            boot_ns: 1,
            connection: rig.connection,
            root: *root,
            pid: *pid,
            fact: Fact::Present {
                parent: 1,
                server: *server,
            },
        };
        rig.sessions.apply(&event, &mut rig.sink);
    }
    rig.now = old.now;
    rig
}

#[test]
fn a_session_goes_on_as_if_nothing_had_been() {
    let (old, restart) = killed();
    let before = old.session(0).story();
    let mut rig = next(
        old,
        restart,
        &[(MONITOR, 0, true), (SSHD, 0, true), (SHELL, ROOT, false)],
    );
    // What the rings hold: it happened while no agent ran.
    below_root(&mut rig, 120, Fact::Exit { wait_status: 0 });
    below_root(&mut rig, 121, Fact::Fork { parent: SHELL });
    below_root(&mut rig, 121, exec("meanwhile"));
    rig.output(0, 6, " after");
    below_root(&mut rig, 121, Fact::Exit { wait_status: 0 });
    rig.end_of_batch();
    // And then.
    below_root(&mut rig, 123, exec("fork was lost"));
    below_root(&mut rig, 123, Fact::Exit { wait_status: 0 });
    below_root(&mut rig, SHELL, Fact::Exit { wait_status: 0 });
    rig.disconnect();
    rig.pass(1_000);
    let recorded = rig.session(0);
    let old_exec = before.iter().position(|line| line == "exec old").unwrap() + 1;
    let root_exec = before.iter().position(|line| line == "exec -bash").unwrap() + 1;
    let first = before.len() + 1;
    assert_eq!(
        recorded.story()[before.len()..],
        [
            format!("exit 120 of {old_exec}"),
            "exec meanwhile".to_owned(),
            "Terminal> after".to_owned(),
            format!("exit 121 of {}", first + 1),
            "marker agent_resumed".to_owned(),
            "exec fork was lost".to_owned(),
            format!("exit 123 of {}", first + 5),
            format!("exit 110 of {root_exec}"),
            "end Exited".to_owned(),
        ]
    );
    assert!(recorded.finished && recorded.gaps().is_empty());
    assert_eq!(recorded.session().verdict, Verdict::Complete);
    let output = recorded.output(Stream::Terminal);
    assert_eq!(output, [(0, b"before".to_vec()), (6, b" after".to_vec())]);
}

/// What was not captured while nobody was connected is declared also by an agent
/// that came later.
#[test]
fn a_time_with_less_capture_is_declared_by_the_next_agent() {
    let (mut old, restart) = killed();
    let Restart::Pinned(_, connections) = restart else {
        unreachable!()
    };
    let before = old.now;
    old.fact(0, Fact::Detached);
    let detached = old.now;
    assert!(detached > before);
    old.end_of_batch();
    old.sessions.checkpoint(&mut old.sink);
    let record = old.session(0).record.clone();
    let mut rig = next(old, Restart::Pinned(vec![record], connections), &[]);
    below_root(&mut rig, 120, Fact::Exit { wait_status: 0 });
    below_root(&mut rig, SHELL, Fact::Exit { wait_status: 0 });
    rig.disconnect();
    rig.pass(1_000);
    let recorded = rig.session(0);
    let gaps = recorded.gaps();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].cause, GapCause::Detached);
    assert_eq!(gaps[0].from_boot_ns, detached);
    assert!(recorded.finished);
    assert_eq!(recorded.session().verdict, Verdict::Lossy);
}

#[test]
fn a_session_that_ended_meanwhile_ends_as_it_did() {
    let (old, restart) = killed();
    let mut rig = next(old, restart, &[]);
    below_root(&mut rig, 120, Fact::Exit { wait_status: 0 });
    rig.output(0, 6, "bye");
    below_root(
        &mut rig,
        SHELL,
        Fact::Exit {
            wait_status: 3 << 8,
        },
    );
    rig.disconnect();
    rig.pass(1_000);
    let session = rig.session(0).session();
    assert!(rig.session(0).finished);
    assert_eq!(session.verdict, Verdict::Complete);
    assert_eq!(session.exit_code, Some(3));
}

#[test]
fn what_the_rings_lost_is_a_hole_of_the_right_size() {
    let (old, restart) = killed();
    let mut rig = next(old, restart, &[(SSHD, 0, true), (SHELL, ROOT, false)]);
    rig.output(0, 106, "after");
    rig.end_of_batch();
    let gaps = rig.session(0).gaps();
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].bytes, gaps[0].offset), (Some(100), Some(6)));
}

#[test]
fn who_logged_in_is_known_for_the_next_session_too() {
    let (old, restart) = killed();
    let mut rig = next(old, restart, &[(SSHD, 0, true), (SHELL, ROOT, false)]);
    rig.shell(SSHD, 130, 1);
    rig.end_of_batch();
    let login = &rig.session(1).session().login;
    assert_eq!(login, &rig.session(0).session().login);
    assert_eq!(login.user, "alice");
    assert!(!rig.session(1).session().adopted);
}

#[test]
fn a_login_that_began_meanwhile_is_seen_from_its_beginning() {
    let (old, restart) = killed();
    let mut rig = next(old, restart, &[(SSHD, 0, true), (SHELL, ROOT, false)]);
    rig.connection = 8;
    rig.login(200);
    rig.shell(SSHD + 200, 320, 4);
    rig.end_of_batch();
    assert_eq!(rig.session(1).session().login.user, "alice");
    assert!(!rig.session(1).session().adopted);

    // Without hooks on system calls it is seen in part.
    let (old, restart) = killed();
    let mut rig = next(old, restart, &[(SSHD, 0, true), (SHELL, ROOT, false)]);
    rig.connection = 8;
    let start = ConnectionStart {
        adopted: true,
        ..ConnectionStart::default()
    };
    rig.connect(MONITOR + 200, start);
    rig.fork(MONITOR + 200, CHILD + 200);
    rig.shell(MONITOR + 200, 320, 4);
    rig.end_of_batch();
    assert!(rig.session(1).session().adopted);
}

/// Its root was forked before, and everything is gone when the next agent looks.
#[test]
fn a_session_that_began_and_ended_meanwhile_is_whole() {
    let mut old = Rig::logged_in();
    old.fork(SSHD, SHELL);
    let connections = old.sessions.checkpoint(&mut old.sink);
    let restart = Restart::Pinned(Vec::new(), connections.changed);
    let mut rig = next(old, restart, &[]);
    below_root(&mut rig, SHELL, root_exec());
    below_root(&mut rig, 120, Fact::Fork { parent: SHELL });
    below_root(&mut rig, 120, exec("meanwhile"));
    rig.output(0, 0, "shown");
    below_root(&mut rig, 120, Fact::Exit { wait_status: 0 });
    below_root(&mut rig, SHELL, Fact::Exit { wait_status: 0 });
    rig.disconnect();
    rig.pass(1_000);
    let recorded = rig.session(0);
    let story = recorded.story();
    for expected in [
        "exec -bash",
        "exec meanwhile",
        "Terminal>shown",
        "end Exited",
    ] {
        assert!(story.iter().any(|line| line == expected), "{story:?}");
    }
    assert!(recorded.finished && recorded.gaps().is_empty());
    assert_eq!(recorded.session().verdict, Verdict::Complete);
}

/// What came before a command, and was with the agent that was killed.
#[test]
fn what_waited_for_a_session_is_declared_once_there_is_one() {
    const PIPES: [Fd; 3] = [Fd::Pipe(71), Fd::Pipe(72), Fd::Other];
    let mut old = Rig::logged_in();
    old.fork(SSHD, SHELL);
    old.pipe(SSHD, 71, Direction::Input, 0, "typed ahead");
    let connections = old.sessions.checkpoint(&mut old.sink);
    let waiting = &connections.changed[0].waiting;
    assert_eq!(waiting.pipes[&71].input_bytes, 11);

    let restart = Restart::Pinned(Vec::new(), connections.changed);
    let mut rig = next(old, restart, &[(MONITOR, 0, true), (SSHD, 0, true)]);
    rig.fork(SSHD, SHELL);
    let Fact::Exec(mut root) = root_exec() else {
        unreachable!()
    };
    root.fds = PIPES;
    below_root(&mut rig, SHELL, Fact::Exec(root));
    rig.pipe(SSHD, 71, Direction::Input, 11, ", and later");
    rig.end_of_batch();
    let recorded = rig.session(0);
    let gaps = recorded.gaps();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!((gaps[0].bytes, gaps[0].offset), (Some(11), Some(0)));
    assert!(
        recorded.story().contains(&"Stdin<, and later".to_owned()),
        "{:?}",
        recorded.story()
    );
}

#[test]
fn nothing_new_is_nothing_to_keep() {
    let (mut rig, _) = killed();
    let again = rig.sessions.checkpoint(&mut rig.sink);
    assert!(again.changed.is_empty() && again.gone.is_empty());
}

#[test]
fn a_checkpoint_waits_for_what_has_just_come_and_no_longer() {
    let mut rig = Rig::logged_in();
    // One of sshd's own: no session ever claims it.
    rig.pipe(SSHD, 77, Direction::Input, 0, "x");
    let came = rig.now;
    assert!(rig.sessions.holds_since(came));
    rig.fork(SSHD, SHELL);
    below_root(&mut rig, SHELL, root_exec());
    rig.output(0, 0, "hour after hour");
    assert!(!rig.sessions.holds_since(came + 1));
}
