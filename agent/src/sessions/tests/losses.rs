use auditty_recording::event::{GapCause, GapClass, Stream};
use auditty_recording::session::Verdict;

use super::rig::{Rig, SHELL, SSHD};
use crate::capture::event::{Fact, FileAccess, FileOperation, LossCause, LossClass};

#[test]
fn a_loss_stands_in_every_session_it_may_concern() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    rig.shell(SSHD, 111, 1);
    rig.connection = 8;
    rig.login(200);
    rig.shell(302, 320, 0);
    rig.loss(LossCause::ReadFailed, LossClass::Process, 2, 0, false);
    rig.loss(LossCause::ProgramMissed, LossClass::Any, 3, 0, true);
    let causes = |index: usize| -> Vec<_> {
        rig.session(index)
            .gaps()
            .iter()
            .map(|gap| (gap.cause, gap.class, gap.events))
            .collect()
    };
    let missed = (GapCause::ProgramMissed, GapClass::Any, Some(3));
    let read = (GapCause::ReadFailed, GapClass::Process, Some(2));
    assert_eq!(causes(0), [missed]);
    assert_eq!(causes(1), [missed]);
    assert_eq!(causes(2), [read, missed]);
    rig.exit(320, 0);
    rig.exit(302, 0);
    rig.exit(300, 0);
    rig.end_of_batch();
    assert_eq!(rig.session(2).session().verdict, Verdict::Lossy);
    assert_eq!(rig.session(2).session().counts.lost_events, 5);
}

#[test]
fn stream_losses_count_once() {
    for (hole, expected) in [(true, vec![Some(7)]), (false, vec![Some(7)])] {
        let mut rig = Rig::logged_in();
        rig.shell(SSHD, SHELL, 0);
        rig.output(0, 0, "abc");
        rig.loss(LossCause::TooLarge, LossClass::Stream, 1, 7, false);
        if hole {
            rig.output(0, 10, "d");
        }
        rig.exit(SHELL, 0);
        rig.disconnect();
        let recorded = rig.session(0);
        let bytes: Vec<_> = recorded.gaps().iter().map(|gap| gap.bytes).collect();
        assert_eq!(bytes, expected);
        assert_eq!(recorded.gaps()[0].cause, GapCause::TooLarge);
        assert_eq!(recorded.session().counts.lost_bytes, 7);
        assert_eq!(recorded.session().verdict, Verdict::Lossy);
    }
}

#[test]
fn a_loss_without_a_session_is_counted() {
    let mut rig = Rig::logged_in();
    rig.loss(LossCause::RingFull, LossClass::Login, 1, 0, false);
    assert_eq!(rig.sessions.counters().unattributed_losses, 1);
}

#[test]
fn what_the_spool_refuses_is_declared_when_it_takes_again() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    rig.output(0, 0, "abc");
    rig.end_of_batch();
    rig.sink.full = true;
    rig.output(0, 3, "lost");
    rig.fork(SHELL, 120);
    rig.exec(120, &["lost"]);
    rig.exit(120, 0);
    rig.end_of_batch();
    rig.sink.full = false;
    rig.output(0, 7, "d");
    rig.exit(SHELL, 0);
    rig.disconnect();
    let recorded = rig.session(0);
    assert_eq!(
        recorded.story()[6..],
        [
            "Terminal>abc",
            "gap Spool",
            "Terminal>d",
            "exit 110 of 5",
            "end Exited"
        ]
    );
    let gap = &recorded.gaps()[0];
    assert_eq!((gap.events, gap.bytes), (Some(2), Some(4)));
    assert_eq!(recorded.session().counts.output_bytes, 4);
    assert_eq!(recorded.session().verdict, Verdict::Lossy);
    assert_eq!(rig.sessions.counters().spool_errors, 2);
}

#[test]
fn a_spool_that_never_recovers_leaves_no_complete_recording() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    rig.sink.full = true;
    rig.exit(SHELL, 0);
    rig.disconnect();
    let session = rig.session(0).session();
    assert!(rig.session(0).finished);
    assert_eq!(session.verdict, Verdict::Lossy);
    assert_eq!(session.counts.lost_events, 2);
}

#[test]
fn a_connection_whose_start_was_lost_is_still_recorded() {
    let mut rig = Rig::new();
    rig.output(0, 0, "$ ");
    rig.shell(SSHD, SHELL, 0);
    rig.fork(SHELL, 120);
    rig.exec(120, &["id"]);
    rig.exit(120, 0);
    rig.exit(SHELL, 0);
    rig.exit(SSHD, 0);
    rig.end_of_batch();
    let recorded = rig.session(0);
    assert!(recorded.finished && rig.count() == 1);
    assert_eq!(recorded.story()[4..6], ["login", "grant"]);
    assert_eq!(recorded.session().login.user, "alice");
    assert_eq!(recorded.session().counts.commands, 2);
}

#[test]
fn what_is_shed_is_declared_by_class_and_nothing_else_is_missing() {
    let file = |rig: &mut Rig, number: u32| {
        let access = FileAccess {
            operation: FileOperation::Create,
            path: format!("/tmp/{number}"),
            resolved: true,
            ..FileAccess::default()
        };
        rig.fact(SHELL, Fact::File(Box::new(access)));
    };
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    file(&mut rig, 0);
    rig.end_of_batch();
    rig.sink.shed = vec![GapClass::File];
    for number in 1..=40 {
        file(&mut rig, number);
        rig.output(0, u64::from(number) - 1, "x");
    }
    rig.end_of_batch();
    rig.sink.shed.clear();
    file(&mut rig, 41);
    rig.exit(SHELL, 0);
    rig.disconnect();
    let recorded = rig.session(0);
    let of = |kind: &str| {
        recorded
            .events
            .iter()
            .filter(|e| e.body.kind() == kind)
            .count()
    };
    assert_eq!(of("file"), 2);
    let [gap] = recorded.gaps().try_into().unwrap();
    assert_eq!(
        (gap.cause, gap.class, gap.events, gap.bytes),
        (GapCause::Spool, GapClass::File, Some(40), Some(0))
    );
    let shown: Vec<u8> = recorded
        .output(Stream::Terminal)
        .into_iter()
        .flat_map(|(_, bytes)| bytes)
        .collect();
    assert_eq!(shown, [b'x'; 40], "output goes on");
    assert_eq!(recorded.session().verdict, Verdict::Lossy);
    assert_eq!(recorded.session().counts.lost_events, 40);
}
