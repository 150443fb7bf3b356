use auditty_recording::event::{EndReason, ExitStatus};
use auditty_recording::session::{SessionKind, Verdict};

use super::rig::{MS, Rig, SHELL, SSHD};
use crate::sessions::Clock;

const CODE: fn(u8) -> ExitStatus = |code| ExitStatus {
    exit_code: Some(code),
    signal: None,
};
const SIGNAL: fn(u8) -> ExitStatus = |signal| ExitStatus {
    exit_code: None,
    signal: Some(signal),
};

#[test]
fn a_login_shell_from_start_to_logout() {
    let mut rig = Rig::logged_in();
    rig.output(3, 0, "Last login: …\r\n");
    rig.shell(SSHD, SHELL, 3);
    rig.output(3, 17, "$ ");
    rig.input(3, 0, "true\r");
    rig.fork(SHELL, 120);
    rig.exec(120, &["true"]);
    rig.exit(120, 0);
    rig.exit(SHELL, 0);
    rig.output(3, 19, "logout\r\n");
    rig.end_of_batch();
    assert!(rig.session(0).end().is_none(), "the pty is still drained");
    rig.disconnect();
    let recorded = rig.session(0);
    assert_eq!(
        recorded.story(),
        [
            "session_start",
            "login",
            "grant",
            "open pts/3",
            "resize 80x24",
            "Terminal>Last login: …\r\n",
            "login",
            "exec -bash",
            "Terminal>$ ",
            "Terminal<true\r",
            "exec true",
            "exit 120 of 11",
            "exit 110 of 8",
            "Terminal>logout\r\n",
            "end Exited",
        ]
    );
    assert!(recorded.finished);
    let session = recorded.session();
    assert_eq!(
        (session.verdict, session.session_kind),
        (Verdict::Complete, SessionKind::Shell)
    );
    assert_eq!((session.exit_code, session.running_processes), (Some(0), 0));
    assert_eq!((session.counts.commands, session.counts.events), (2, 15));
    assert_eq!(
        (session.counts.output_bytes, session.counts.input_bytes),
        (27, 5)
    );
    assert_eq!(session.terminal, "pts/3");
    assert_eq!(session.connection.server_exe, "/usr/sbin/sshd");
    assert_eq!(rig.sessions.open_sessions(), 0);
}

/// Wait status of the root; milliseconds until the connection ends, if it does.
#[test]
fn reasons() {
    use EndReason::{Disconnected, Exited, Killed};
    for (case, status, then, expected) in [
        ("logout", 0, Some(5), (Exited, CODE(0))),
        ("exit 3", 3 << 8, Some(5), (Exited, CODE(3))),
        ("kill -9 $$", 9, Some(5), (Killed, SIGNAL(9))),
        (
            "client killed, shell first",
            1,
            Some(5),
            (Disconnected, SIGNAL(1)),
        ),
        (
            "client killed, shell exits 129",
            129 << 8,
            Some(900),
            (Disconnected, CODE(129)),
        ),
        (
            "kill -HUP $$ beside other sessions",
            1,
            None,
            (Killed, SIGNAL(1)),
        ),
        (
            "a late end of the connection",
            1,
            Some(5_000),
            (Killed, SIGNAL(1)),
        ),
        (
            "kill -PIPE $$ on a terminal",
            13,
            Some(5),
            (Killed, SIGNAL(13)),
        ),
    ] {
        let mut rig = Rig::logged_in();
        rig.shell(SSHD, SHELL, 0);
        rig.exit(SHELL, status);
        if let Some(ms) = then {
            rig.pass(ms);
            rig.disconnect();
        }
        rig.pass(20_000);
        let end = rig.session(0).end().unwrap();
        assert_eq!((end.reason, end.status), expected, "{case}");
        let session = rig.session(0).session();
        assert_eq!(session.end_reason, Some(expected.0), "{case}");
        assert_eq!(
            (session.exit_code, session.signal),
            (end.status.exit_code, end.status.signal)
        );
        assert!(rig.session(0).finished, "{case}");
    }
}

#[test]
fn a_killed_client_whose_shell_dies_after_sshd() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    rig.disconnect();
    assert!(rig.session(0).end().is_none());
    rig.exit(SHELL, 1);
    rig.end_of_batch();
    let end = rig.session(0).end().unwrap();
    assert_eq!(
        (end.reason, end.status),
        (EndReason::Disconnected, SIGNAL(1))
    );
    assert!(rig.session(0).finished);
}

#[test]
fn a_command_that_outlives_its_client() {
    let mut rig = Rig::logged_in();
    rig.command(SHELL, "sleep 1000");
    rig.disconnect();
    rig.pass(600);
    let end = rig.session(0).end().unwrap();
    assert_eq!(
        (end.reason, end.running_processes),
        (EndReason::Disconnected, 1)
    );
    assert!(!rig.session(0).finished);
    rig.exit(SHELL, 15);
    rig.end_of_batch();
    assert!(rig.session(0).finished);
    assert_eq!(rig.session(0).session().signal, Some(15));
}

#[test]
fn a_command_whose_pipe_broke_with_the_connection() {
    let mut rig = Rig::logged_in();
    rig.command(SHELL, "yes");
    rig.exit(SHELL, 13);
    rig.disconnect();
    assert_eq!(
        rig.session(0).end().unwrap().reason,
        EndReason::Disconnected
    );
}

#[test]
fn background_processes_follow_the_end() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    rig.fork(SHELL, 120);
    rig.exec(120, &["nohup"]);
    rig.fork(120, 121);
    rig.exit(SHELL, 0);
    rig.disconnect();
    assert_eq!(rig.session(0).end().unwrap().running_processes, 2);
    assert_eq!(rig.session(0).session().running_processes, 2);
    rig.exec(121, &["late"]);
    rig.exit(121, 0);
    rig.exit(120, 0);
    assert!(!rig.session(0).finished);
    rig.pass(1);
    let recorded = rig.session(0);
    assert_eq!(
        recorded.story()[recorded.events.len() - 5..],
        [
            "end Exited",
            "exec late",
            "exit 121 of 9",
            "exit 120 of 6",
            "marker processes_ended"
        ]
    );
    assert_eq!(recorded.session().running_processes, 0);
    assert!(recorded.session().processes_end_time.is_some());
    assert!(recorded.finished);
}

#[test]
fn late_output_is_kept_while_the_connection_lives() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    rig.output(0, 0, "a");
    rig.exit(SHELL, 0);
    rig.pass(600);
    assert!(rig.session(0).end().is_some() && !rig.session(0).finished);
    rig.output(0, 1, "b");
    rig.pass(200);
    assert_eq!(rig.session(0).story().last().unwrap(), "Terminal>b");
    rig.pass(11_000);
    assert!(rig.session(0).finished);
    assert_eq!(rig.count(), 1);
}

#[test]
fn a_pty_without_a_program_ends_with_the_connection() {
    let mut rig = Rig::logged_in();
    rig.output(0, 0, "motd");
    rig.disconnect();
    let recorded = rig.session(0);
    assert_eq!(recorded.end().unwrap().reason, EndReason::Disconnected);
    assert!(recorded.finished);
    assert_eq!(recorded.session().login.user, "alice");
}

#[test]
fn an_exit_has_the_duration_of_its_last_exec() {
    let mut rig = Rig::logged_in();
    rig.command(SHELL, "exec sleep 1");
    rig.exec(SHELL, &["sleep", "1"]);
    let started = rig.now;
    rig.exit(SHELL, 0);
    rig.disconnect();
    let exits: Vec<_> = rig
        .session(0)
        .events
        .iter()
        .filter_map(|e| match &e.body {
            auditty_recording::event::Body::Exit(exit) => Some(exit.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(exits.len(), 1);
    assert_eq!((exits[0].exec_seq, exits[0].duration_ns), (Some(5), MS));
    assert!(rig.now > started);
}

#[test]
fn a_server_process_that_is_killed() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 3);
    rig.exit(SSHD, 9);
    rig.exit(SHELL, 1);
    rig.pass(1_000);
    let end = rig.session(0).end().unwrap();
    assert_eq!(
        (end.reason, end.status),
        (EndReason::ServerKilled, SIGNAL(1))
    );
}

#[test]
fn a_clock_that_is_set_changes_no_order_and_makes_nothing_last_less_than_it_did() {
    use jiff::ToSpan as _;
    let start: jiff::Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    for hours in [1, -1] {
        let mut rig = Rig::logged_in();
        rig.shell(SSHD, SHELL, 0);
        rig.output(0, 0, "before");
        rig.pass(60_000);
        let stepped = Clock::new(0, start + hours.hours());
        rig.sessions.set_clock(stepped, &mut rig.sink);
        // Not again for what is slewed.
        let slewed = Clock::new(0, start + hours.hours() + 100.milliseconds());
        rig.sessions.set_clock(slewed, &mut rig.sink);
        rig.output(0, 6, "behind");
        rig.pass(60_000);
        rig.exit(SHELL, 0);
        rig.disconnect();
        let recorded = rig.session(0);
        let story = recorded.story();
        let at = |wanted: &str| story.iter().position(|line| line == wanted).unwrap();
        assert!(at("Terminal>before") < at("marker clock_stepped"));
        assert!(at("marker clock_stepped") < at("Terminal>behind"));
        let told = story.iter().filter(|line| line.contains("clock_stepped"));
        assert_eq!(told.count(), 1);
        let boot_ns = recorded.events.iter().map(|event| event.boot_ns);
        assert!(boot_ns.is_sorted());
        let session = recorded.session();
        let lasted = session.end_time.unwrap().duration_since(session.start_time);
        let lasted = lasted.as_secs();
        let expected = if hours > 0 { 3600 + 120 } else { 120 };
        assert_eq!(lasted, expected, "{hours} h");
        assert!(recorded.gaps().is_empty());
    }
}
