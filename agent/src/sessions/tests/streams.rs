use auditty_recording::event::{EndReason, GapCause, GapClass, Stream};
use auditty_recording::session::{SessionKind, Verdict};

use super::rig::{Rig, SHELL, SSHD};
use crate::capture::event::{Direction, Fact, Fd, PipeData, WindowSize};
use crate::sessions::Limits;
use auditty_grants::GrantBook;

#[test]
fn adjacent_pieces_are_joined_and_characters_stay_whole() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    let text = "héllo wörld €uro";
    for (offset, byte) in text.bytes().enumerate() {
        rig.terminal(Direction::Output, 0, Some(offset as u64), &[byte]);
        if offset % 3 == 0 {
            rig.end_of_batch();
        }
    }
    rig.end_of_batch();
    let pieces = rig.session(0).output(Stream::Terminal);
    assert!(
        pieces
            .iter()
            .all(|(_, data)| std::str::from_utf8(data).is_ok())
    );
    let mut next = 0;
    for (offset, data) in &pieces {
        assert_eq!(*offset, next);
        next += data.len() as u64;
    }
    let joined: Vec<u8> = pieces.into_iter().flat_map(|(_, data)| data).collect();
    assert_eq!(String::from_utf8(joined).unwrap(), text);
}

#[test]
fn half_a_character_does_not_wait_for_ever() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    rig.terminal(Direction::Output, 0, Some(0), b"a\xe2\x82");
    rig.pass(50);
    assert_eq!(
        rig.session(0).output(Stream::Terminal),
        [(0, b"a".to_vec())]
    );
    rig.pass(100);
    assert_eq!(
        rig.session(0).output(Stream::Terminal)[1],
        (1, b"\xe2\x82".to_vec())
    );
    rig.terminal(Direction::Output, 0, Some(3), b"\xc3");
    rig.exit(SHELL, 0);
    rig.disconnect();
    assert_eq!(
        rig.session(0).output(Stream::Terminal)[2],
        (3, b"\xc3".to_vec())
    );
    assert_eq!(rig.session(0).session().counts.output_bytes, 4);
}

#[test]
fn pieces_stay_small_and_input_keeps_its_place() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    let block = "x".repeat(20_000);
    rig.output(0, 0, &block);
    rig.output(0, 20_000, &block);
    rig.input(0, 0, "a");
    rig.output(0, 40_000, "b");
    rig.end_of_batch();
    let pieces = rig.session(0).output(Stream::Terminal);
    let shape: Vec<_> = pieces
        .iter()
        .map(|(offset, data)| (*offset, data.len()))
        .collect();
    assert_eq!(shape, [(0, 20_000), (20_000, 20_000), (40_000, 1)]);
    let story = rig.session(0).story();
    assert_eq!(story[story.len() - 2..], ["Terminal<a", "Terminal>b"]);
}

#[test]
fn passwords_are_counted_and_nothing_more() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    rig.input(0, 0, "sudo\r");
    rig.masked(0, 5, 9);
    rig.input(0, 14, "id\r");
    rig.end_of_batch();
    let recorded = rig.session(0);
    assert_eq!(
        recorded.story()[6..],
        ["Terminal<sudo\r", "Terminal<masked 9", "Terminal<id\r"]
    );
    let counts = recorded.session().counts;
    assert_eq!(
        (counts.input_bytes, counts.masked_bytes, counts.gaps),
        (17, 9, 0)
    );
}

#[test]
fn a_jump_of_the_offset_is_an_exact_gap() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    rig.output(0, 0, "abc");
    rig.output(0, 10, "def");
    rig.terminal(Direction::Output, 0, None, b"?");
    rig.output(0, 99, "no claim");
    rig.input(0, 4, "late");
    rig.exit(SHELL, 0);
    rig.disconnect();
    let recorded = rig.session(0);
    let gaps: Vec<_> = recorded
        .gaps()
        .iter()
        .map(|gap| (gap.class, gap.bytes, gap.offset))
        .collect();
    assert_eq!(
        gaps,
        [
            (GapClass::Output, Some(7), Some(3)),
            (GapClass::Input, Some(4), Some(0))
        ]
    );
    assert_eq!(recorded.gaps()[0].cause, GapCause::RingFull);
    let offsets: Vec<_> = recorded
        .output(Stream::Terminal)
        .iter()
        .map(|piece| piece.0)
        .collect();
    assert_eq!(offsets, [0, 10]);
    assert_eq!(recorded.session().verdict, Verdict::Lossy);
    assert_eq!(recorded.session().counts.lost_bytes, 11);
}

#[test]
fn window_sizes_are_told_when_they_change() {
    let mut rig = Rig::logged_in();
    let size = |columns, rows| Fact::WindowSize {
        pts: 2,
        size: WindowSize { columns, rows },
    };
    rig.fact(SSHD, size(80, 24));
    rig.shell(SSHD, SHELL, 2);
    rig.output(2, 0, "$");
    rig.fact(SSHD, size(80, 24));
    rig.fact(SSHD, size(132, 50));
    rig.fact(SSHD, size(0, 0));
    let story = rig.session(0).story();
    let sizes: Vec<_> = story
        .iter()
        .filter(|line| line.starts_with("resize"))
        .collect();
    assert_eq!(sizes, ["resize 80x24", "resize 132x50"]);
}

#[test]
fn the_next_session_on_a_pty_is_another_one() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    rig.output(0, 0, "first");
    rig.exit(SHELL, 0);
    // sshd closed a descriptor of the pty: the kernel counts anew.
    rig.output(0, 0, "bye");
    // The second one's motd comes before its shell.
    rig.fork(SSHD, 111);
    rig.output(0, 0, "motd");
    rig.root(111, &["-bash"], [Fd::Pts(0); 3]);
    rig.output(0, 4, "second");
    rig.exit(111, 0);
    // The third one says nothing before, and the kernel's count goes on.
    rig.shell(SSHD, 112, 0);
    rig.output(0, 10, "third");
    rig.end_of_batch();
    assert_eq!(rig.count(), 3);
    let text = |index: usize| -> Vec<u8> {
        let pieces = rig.session(index).output(Stream::Terminal);
        pieces.into_iter().flat_map(|(_, data)| data).collect()
    };
    assert_eq!(
        [text(0), text(1), text(2)],
        [&b"firstbye"[..], b"motdsecond", b"third"]
    );
    for index in 0..3 {
        assert!(rig.session(index).gaps().is_empty());
    }
    assert!(rig.session(0).finished && rig.session(1).finished && !rig.session(2).finished);
    assert_eq!(rig.session(0).story().last().unwrap(), "end Exited");
}

#[test]
fn output_read_only_after_the_exit_is_the_sessions_own() {
    let mut rig = Rig::logged_in();
    rig.fork(SSHD, SHELL);
    rig.root(SHELL, &["bash", "-c", "echo hi"], [Fd::Pts(0); 3]);
    rig.exit(SHELL, 0);
    rig.output(0, 0, "hi\r\n");
    rig.input(0, 0, "typed ahead");
    rig.disconnect();
    assert_eq!(rig.count(), 1);
    assert_eq!(rig.session(0).session().counts.output_bytes, 4);
}

#[test]
fn pipes_are_told_apart_also_before_the_command_runs() {
    let mut rig = Rig::logged_in();
    rig.fork(SSHD, SHELL);
    rig.pipe(SSHD, 1, Direction::Input, 0, "in");
    rig.pipe(SHELL, 2, Direction::Input, 0, "Could not chdir");
    rig.pipe(SSHD, 2, Direction::Output, 0, "Could not chdir");
    rig.pipe(SSHD, 77, Direction::Input, 0, "x");
    rig.pipe(SSHD, 77, Direction::Output, 0, "x");
    assert_eq!(rig.count(), 0);
    rig.root(
        SHELL,
        &["bash", "-c", "cat"],
        [Fd::Pipe(1), Fd::Pipe(2), Fd::Pipe(3)],
    );
    rig.pipe(SSHD, 2, Direction::Output, 15, "out");
    rig.pipe(SSHD, 3, Direction::Output, 0, "err");
    rig.exit(SHELL, 0);
    rig.pipe(SSHD, 2, Direction::Output, 18, "put");
    rig.disconnect();
    let recorded = rig.session(0);
    assert_eq!(
        recorded.story()[3..],
        [
            "Stdin<in",
            "Stdout>Could not chdir",
            "exec bash -c cat",
            "Stdout>out",
            "Stderr>err",
            "exit 110 of 6",
            "Stdout>put",
            "end Exited",
        ]
    );
    assert_eq!(
        (rig.count(), recorded.session().verdict),
        (1, Verdict::Complete)
    );
    assert!(recorded.session().terminal.is_empty());
}

#[test]
fn stderr_may_be_stdout() {
    let mut rig = Rig::logged_in();
    rig.fork(SSHD, SHELL);
    rig.root(
        SHELL,
        &["sh", "-c", "x"],
        [Fd::Pipe(1), Fd::Pipe(2), Fd::Pipe(2)],
    );
    rig.pipe(SSHD, 2, Direction::Output, 0, "both");
    rig.end_of_batch();
    assert_eq!(rig.session(0).story().last().unwrap(), "Stdout>both");
}

#[test]
fn what_waits_for_its_command_is_bounded_and_declared() {
    let limits = Limits {
        pending_pipe_bytes: 4,
        ..Limits::default()
    };
    let mut rig = Rig::with(GrantBook::default(), limits);
    rig.login(0);
    rig.pipe(SSHD, 1, Direction::Input, 0, "abc");
    rig.pipe(SSHD, 1, Direction::Input, 3, "def");
    rig.pipe(SSHD, 1, Direction::Input, 6, "g");
    rig.command(SHELL, "cat");
    rig.pipe(SSHD, 1, Direction::Input, 7, "h");
    rig.end_of_batch();
    let recorded = rig.session(0);
    assert_eq!(
        recorded.story()[3..],
        ["Stdin<abc", "gap Bound", "exec bash -c cat", "Stdin<h"]
    );
    let gap = &recorded.gaps()[0];
    assert_eq!(
        (gap.bytes, gap.offset, gap.stream),
        (Some(4), Some(3), Some(Stream::Stdin))
    );
}

#[test]
fn a_subsystem_inside_sshd_is_a_session() {
    let mut rig = Rig::logged_in();
    rig.fork(SSHD, SHELL);
    rig.pipe(SSHD, 1, Direction::Input, 0, "init");
    rig.pipe(SHELL, 1, Direction::Output, 0, "init");
    rig.pipe(SHELL, 2, Direction::Input, 0, "version");
    rig.pipe(SSHD, 2, Direction::Output, 0, "version");
    rig.pipe(SSHD, 1, Direction::Input, 4, "get");
    rig.pipe(SHELL, 1, Direction::Output, 4, "get");
    rig.exit(SHELL, 0);
    rig.disconnect();
    let recorded = rig.session(0);
    assert_eq!(
        recorded.story(),
        [
            "session_start",
            "login",
            "grant",
            "Stdin<init",
            "Stdout>version",
            "Stdin<get",
            "end Exited"
        ]
    );
    let session = recorded.session();
    assert_eq!(
        (session.session_kind, session.command.as_str()),
        (SessionKind::Subsystem, "sftp")
    );
    assert_eq!(
        (session.verdict, session.end_reason),
        (Verdict::Complete, Some(EndReason::Exited))
    );
    assert_eq!(session.login.user, "alice");
    assert_eq!(rig.count(), 1);
}

#[test]
fn input_that_is_not_recorded_is_counted() {
    let mut rig = Rig::logged_in();
    let unrecorded = |offset| {
        Fact::Pipe(PipeData {
            inode: 1,
            direction: Direction::Input,
            offset: Some(offset),
            len: 5,
            data: None,
            transfer: false,
        })
    };
    rig.fact(SSHD, unrecorded(0));
    rig.command(SHELL, "cat");
    rig.fact(SSHD, unrecorded(5));
    rig.end_of_batch();
    let recorded = rig.session(0);
    assert_eq!(
        recorded.story()[3..],
        ["Stdin<masked 5", "exec bash -c cat", "Stdin<masked 5"]
    );
    assert_eq!(recorded.session().counts.masked_bytes, 10);
    assert!(recorded.gaps().is_empty());
}
