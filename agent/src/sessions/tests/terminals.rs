use auditty_recording::event::{Body, GapCause, GapClass, Link, LinkRelation, Stream};
use auditty_recording::session::Verdict;

use super::rig::{MS, Rig, SHELL, SIZE, SSHD};
use crate::capture::event::{Direction, Fact, Fd, HookStop, TerminalData, Use, WindowSize};

const TMUX: u32 = 130;

/// A shell whose tmux server holds pts/4.
fn with_tmux() -> Rig {
    let mut rig = Rig::logged_in();
    rig.life = 70;
    rig.shell(SSHD, SHELL, 3);
    rig.output(3, 0, "$ ");
    rig.fork(SHELL, TMUX);
    rig.exec_with(TMUX, &["tmux"], |exec| exec.exe = "/usr/bin/tmux".into());
    rig.fork(TMUX, TMUX + 1);
    rig.exit(TMUX, 0);
    (rig.life, rig.holder) = (80, TMUX + 1);
    rig
}

#[test]
fn a_new_name_is_a_new_life_of_the_pty() {
    let mut rig = Rig::logged_in();
    rig.life = 70;
    rig.shell(SSHD, SHELL, 3);
    rig.output(3, 0, "one");
    rig.exit(SHELL, 0);
    rig.life = 71;
    // The shell of the next session has not been forked yet.
    rig.output(3, 0, "two");
    rig.life = 70;
    rig.output(3, 3, "bye");
    rig.fork(SSHD, SHELL + 1);
    rig.root(SHELL + 1, &["-bash"], [Fd::Pts(3); 3]);
    rig.life = 71;
    rig.output(3, 3, "and a half");
    rig.end_of_batch();
    assert_eq!(rig.count(), 2);
    let text = |index: usize| -> Vec<u8> {
        let pieces = rig.session(index).output(Stream::Terminal);
        pieces.into_iter().flat_map(|(_, data)| data).collect()
    };
    assert_eq!([text(0), text(1)], [&b"onebye"[..], b"twoand a half"]);
    assert!((0..2).all(|index| rig.session(index).gaps().is_empty()));
}

#[test]
fn the_head_of_a_new_life_is_missed_exactly() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 3);
    rig.life = 70;
    rig.output(3, 0, "one");
    rig.exit(SHELL, 0);
    rig.shell(SSHD, SHELL + 1, 3);
    rig.life = 71;
    rig.output(3, 100, "two");
    rig.end_of_batch();
    let gaps = rig.session(1).gaps();
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0].bytes, Some(100));
}

#[test]
fn a_pty_of_a_sessions_process_is_a_terminal_of_its_own() {
    let mut rig = with_tmux();
    rig.output(4, 0, "inner$ ");
    rig.input(4, 0, "id\r");
    rig.output(4, 10, "lost three before");
    rig.fact(TMUX + 1, Fact::TerminalClose { terminal: 80 });
    rig.life = 81;
    rig.output(4, 0, "another");
    rig.end_of_batch();
    assert_eq!(
        rig.session(0).story()[6..],
        [
            "Terminal>$ ",
            "exec tmux",
            "exit 130 of 8",
            "open pts/4 as 1 by 131 /usr/bin/tmux",
            "resize 80x24",
            "Terminal1>inner$ ",
            "Terminal1<id\r",
            "gap RingFull",
            "Terminal1>lost three before",
            "open pts/4 as 2 by 131 /usr/bin/tmux",
            "resize 80x24",
            "Terminal2>another",
        ]
    );
    let gap = &rig.session(0).gaps()[0];
    assert_eq!(
        (gap.terminal, gap.bytes, gap.offset),
        (Some(1), Some(3), Some(7))
    );
    let session = rig.session(0).session();
    assert_eq!(
        (session.counts.inner_terminals, session.terminal.as_str()),
        (2, "pts/3")
    );
    assert!(
        rig.session(0)
            .record
            .streams
            .iter()
            .all(|s| s.terminal != Some(1))
    );
}

#[test]
fn an_inner_terminal_stays_attributed_after_the_logout() {
    let mut rig = with_tmux();
    rig.output(4, 0, "a");
    rig.exit(SHELL, 0);
    rig.disconnect();
    rig.pass(20_000);
    rig.output(4, 1, "b");
    rig.end_of_batch();
    assert_eq!(rig.count(), 1);
    assert_eq!(rig.session(0).story().last().unwrap(), "Terminal1>b");
    assert_eq!(rig.session(0).session().running_processes, 1);
    let before = rig.now;
    rig.exit(TMUX + 1, 0);
    rig.end_of_batch();
    let recorded = rig.session(0);
    assert!(recorded.finished);
    assert_eq!(recorded.story().last().unwrap(), "marker processes_ended");
    let session = recorded.session();
    assert_eq!(session.running_processes, 0);
    let end = session.processes_end_time.unwrap().as_nanosecond();
    let start = session.start_time.as_nanosecond();
    assert!(end - start > i128::from(before - 1_100 * MS), "{session:?}");
}

#[test]
fn a_terminal_that_is_hung_up_ends_the_session_of_a_shell_that_stays() {
    let mut rig = Rig::logged_in();
    rig.life = 70;
    rig.shell(SSHD, SHELL, 3);
    rig.output(3, 0, "$ ");
    rig.fact(SSHD, Fact::TerminalClose { terminal: 70 });
    rig.pass(600);
    let recorded = rig.session(0);
    assert_eq!(recorded.story().last().unwrap(), "end Disconnected");
    assert_eq!(recorded.session().running_processes, 1);
    // The pty is used again on the same connection.
    rig.life = 71;
    rig.output(3, 0, "next");
    rig.end_of_batch();
    assert_eq!(rig.count(), 2);
    assert_eq!(rig.session(0).story().last().unwrap(), "end Disconnected");
}

#[test]
fn inner_terminals_are_bounded_and_what_is_beyond_is_declared() {
    let mut rig = with_tmux();
    for life in 0..300 {
        rig.life = 1000 + life;
        rig.output(4, 0, "12345");
    }
    rig.pass(1_000);
    let recorded = rig.session(0);
    let counts = recorded.session().counts;
    assert_eq!(counts.inner_terminals, 256);
    let gaps = recorded.gaps();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(
        (gaps[0].class, gaps[0].bytes, gaps[0].events),
        (GapClass::Output, Some(44 * 5), None)
    );
}

#[test]
fn sizes_of_terminals_are_kept_apart() {
    let mut rig = with_tmux();
    let size = WindowSize {
        columns: 80,
        rows: 23,
    };
    for (terminal, pid, size) in [(80, TMUX + 1, size), (70, SSHD, SIZE), (80, TMUX + 1, size)] {
        let data = TerminalData {
            terminal,
            pts: if terminal == 80 { 4 } else { 3 },
            direction: Direction::Output,
            offset: None,
            len: 1,
            data: Some(b"x".to_vec()),
            size,
        };
        rig.fact(pid, Fact::Terminal(data));
    }
    rig.fact(TMUX + 1, Fact::WindowSize { pts: 4, size: SIZE });
    rig.end_of_batch();
    let resizes = rig.session(0).story();
    let resizes: Vec<_> = resizes
        .iter()
        .filter(|line| line.starts_with("resize"))
        .collect();
    assert_eq!(resizes, ["resize 80x24", "resize 80x23"]);
}

#[test]
fn an_attached_client_drives_the_session_of_the_server() {
    let mut rig = with_tmux();
    rig.connection = 8;
    rig.login(100);
    (rig.life, rig.holder) = (90, SSHD + 100);
    rig.shell(SSHD + 100, SHELL + 100, 5);
    rig.output(5, 0, "$ ");
    rig.connection = 7;
    for terminal in [90, 90, 70, 999] {
        // pts/3 is the server's own session, 999 nobody's.
        rig.fact(TMUX + 1, Fact::TerminalWriter { terminal, pts: 5 });
    }
    rig.end_of_batch();
    let links = |index: usize| -> Vec<Link> {
        let events = rig.session(index).events.iter();
        let links = events.filter_map(|event| match &event.body {
            Body::Link(link) => Some(link.clone()),
            _ => None,
        });
        links.collect()
    };
    let id = |index: usize| rig.session(index).session().session_id;
    let link = |relation, session_id| Link {
        relation,
        session_id,
        pid: TMUX + 1,
    };
    assert_eq!(links(0), [link(LinkRelation::DrivenBy, id(1))]);
    assert_eq!(links(1), [link(LinkRelation::Drives, id(0))]);
}

#[test]
fn injected_input_is_told_to_both_sides_and_joined() {
    let mut rig = with_tmux();
    rig.connection = 8;
    rig.login(100);
    rig.life = 90;
    rig.holder = SSHD + 100;
    rig.shell(SSHD + 100, SHELL + 100, 5);
    rig.output(5, 0, "$ ");
    rig.connection = 7;
    for _ in 0..500 {
        rig.fact(
            SHELL,
            Fact::TerminalInjection {
                terminal: 90,
                pts: 5,
            },
        );
    }
    rig.pass(2_000);
    for index in 0..2 {
        let events = &rig.session(index).events;
        let bytes: u64 = events
            .iter()
            .filter_map(|event| match &event.body {
                Body::Marker(marker) => {
                    assert_eq!(marker.marker, "terminal_injection");
                    assert!(marker.message.starts_with("Process 110 put "), "{marker:?}");
                    marker.message.split(' ').nth(3)?.parse::<u64>().ok()
                }
                _ => None,
            })
            .sum();
        assert_eq!(bytes, 500);
    }
}

#[test]
fn what_is_used_unseen_is_told_to_the_session_that_uses_it() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    let datagrams = |remote: &str| Use::Datagrams {
        remote: remote.parse().unwrap(),
    };
    let uses = [
        Use::IoUring,
        Use::Ptrace { target: 77 },
        datagrams("192.0.2.1:53"),
        datagrams("[2001:db8::1]:0"),
    ];
    // What sshd does itself is no session's.
    for pid in [SHELL, SSHD] {
        for used in uses {
            rig.fact(pid, Fact::Use(used));
        }
    }
    rig.pass(2_000);
    let events = &rig.session(0).events;
    let markers: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.body {
            Body::Marker(marker) => Some((marker.marker.as_str(), marker.message.as_str())),
            _ => None,
        })
        .collect();
    let names: Vec<_> = markers.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["io_uring", "ptrace", "datagrams", "datagrams"]);
    for ((_, message), words) in markers
        .iter()
        .zip(["110", "77", "192.0.2.1:53:", "2001:db8::1:"])
    {
        assert!(message.contains(words), "{message}");
    }
}

/// Of which session the program is that holds the terminal was lost.
#[test]
fn bytes_of_nobody_known_are_missing_in_each_session_they_may_be_of() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 3);
    rig.shell(SSHD, SHELL + 1, 4);
    (rig.root, rig.holder) = (9, 999);
    rig.output(7, 0, "whose");
    rig.end_of_batch();
    assert_eq!(rig.sessions.counters().unattributed_bytes, 5);
    for index in 0..2 {
        let gaps = rig.session(index).gaps();
        let what: Vec<_> = gaps.iter().map(|g| (g.cause, g.class, g.bytes)).collect();
        assert_eq!(what, [(GapCause::Unattributed, GapClass::Output, Some(5))]);
    }
}

#[test]
fn a_time_with_less_capture_is_declared_once_to_those_it_concerns() {
    let mut rig = with_tmux();
    rig.exit(SHELL, 0);
    rig.disconnect();
    let from = rig.now;
    rig.fact(0, Fact::Detached);
    rig.fact(0, Fact::Detached);
    rig.pass(60_000);
    assert!(rig.session(0).gaps().is_empty());
    rig.fact(0, Fact::Attached);
    rig.fact(0, Fact::Attached);
    rig.end_of_batch();
    let gaps = rig.session(0).gaps();
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0].from_boot_ns, from + MS);
    assert!(gaps[0].to_boot_ns >= from + 60_000 * MS);
}

/// What is open has the gap, what begins meanwhile too, and what ends in it.
#[test]
fn a_hook_that_stops_is_a_gap_until_all_work_again() {
    let stop = |since_boot_ns, blinds| {
        Fact::HookStopped(Box::new(HookStop {
            hook: "tracepoint a:b".to_owned(),
            reason: "it was detached",
            since_boot_ns,
            blinds,
        }))
    };
    let mut rig = with_tmux();
    rig.fact(0, stop(rig.now, false));
    let since = rig.now;
    rig.pass(1_000);
    rig.fact(0, stop(since, true));
    rig.fact(0, stop(since + MS, true));
    rig.pass(1_000);
    assert!(rig.session(0).gaps().is_empty());
    rig.fact(0, Fact::HookMended("tracepoint a:b".to_owned()));
    rig.fact(0, Fact::Attached);
    rig.end_of_batch();
    let gaps = rig.session(0).gaps();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(
        (gaps[0].cause, gaps[0].class),
        (GapCause::Detached, GapClass::Any)
    );
    assert_eq!(gaps[0].from_boot_ns, since);
    let told = rig.session(0).story();
    let markers = told.iter().filter(|line| *line == "marker hook_stopped");
    assert_eq!(markers.count(), 2);

    // It ends before they work.
    let mut rig = with_tmux();
    let since = rig.now;
    rig.fact(0, stop(since, true));
    rig.exit(SHELL, 0);
    rig.disconnect();
    rig.fact(0, Fact::Attached);
    rig.end_of_batch();
    let gaps = rig.session(0).gaps();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].from_boot_ns, since);
}

/// Hooks are attached when a login begins. One that is quicker is not complete.
#[test]
fn a_login_quicker_than_the_hooks_says_what_it_misses() {
    let quick = |at: u32| {
        let mut rig = Rig::new();
        rig.fact(0, Fact::Detached);
        rig.login(0);
        for step in 0..4 {
            if step == at {
                rig.fact(0, Fact::Attached);
            }
            match step {
                0 => rig.fork(SSHD, SHELL),
                1 => rig.root(SHELL, &["-bash"], [Fd::Pts(3); 3]),
                2 => rig.exit(SHELL, 0),
                _ => rig.disconnect(),
            }
        }
        rig.pass(1_000);
        let recorded = rig.session(0);
        assert!(recorded.finished);
        let gaps = recorded.gaps();
        for gap in &gaps {
            assert_eq!((gap.cause, gap.class), (GapCause::Detached, GapClass::Any));
            assert!(gap.from_boot_ns < gap.to_boot_ns);
        }
        gaps.len()
    };
    // Before the session's process was forked; before it executed its shell;
    // while it ran; after it; never.
    assert_eq!([0, 1, 2, 3, 9].map(quick), [0, 1, 1, 1, 1]);
}

/// Probes see what sshd moves, but not every server is the sshd that has them.
#[test]
fn a_session_of_a_server_without_probes_says_so() {
    let mut rig = Rig::logged_in();
    rig.fork(SSHD, SHELL);
    rig.exec_with(SHELL, &["-bash"], |exec| {
        exec.session_leader = true;
        exec.fds = [Fd::Pts(3); 3];
        exec.unprobed = true;
    });
    rig.exit(SHELL, 0);
    rig.disconnect();
    rig.pass(1_000);
    let recorded = rig.session(0);
    assert!(recorded.finished);
    assert!(recorded.story().contains(&"marker not_probed".to_owned()));
    let gaps = recorded.gaps();
    let [gap] = &gaps[..] else {
        panic!("{gaps:?}");
    };
    assert_eq!((gap.cause, gap.class), (GapCause::Detached, GapClass::Any));
    assert_eq!(recorded.session().verdict, Verdict::Lossy);
}

#[test]
fn a_terminal_that_probes_never_see_is_declared() {
    for (seen, gaps) in [(true, 0), (false, 1)] {
        let mut rig = Rig::logged_in();
        rig.fork(SSHD, SHELL);
        rig.exec_with(SHELL, &["-bash"], |exec| {
            exec.session_leader = true;
            exec.fds = [Fd::Pts(3); 3];
            exec.by_probes = true;
        });
        if seen {
            let size = WindowSize::default();
            rig.fact(SSHD, Fact::WindowSize { pts: 3, size });
        }
        rig.exit(SHELL, 0);
        rig.disconnect();
        rig.pass(1_000);
        assert_eq!(rig.session(0).gaps().len(), gaps);
    }
}
