//! Who allowed it, while grants come, go and run out.

use auditty_recording::event::EndReason;
use auditty_recording::session::{GrantStatus, SessionKind};

use super::rig::{MONITOR, MS, Rig, SHELL, SSHD};
use crate::sessions::Limits;
use auditty_grants::{GrantBook, GrantRule};

/// A grant for alice, until this many seconds after the rig's beginning.
fn grant(id: &str, seconds: Option<u32>) -> GrantRule {
    let mut rule = GrantRule {
        unix_users: vec!["alice".into()],
        ..GrantRule::default()
    };
    rule.grant.request_id = id.into();
    rule.grant.valid_until =
        seconds.map(|seconds| format!("2026-06-01T00:00:{seconds:02}Z").parse().unwrap());
    rule
}

fn book(rules: &[GrantRule]) -> GrantBook {
    GrantBook::new(rules.to_vec(), true)
}

fn shell_with(rules: &[GrantRule]) -> Rig {
    let mut rig = Rig::with(book(rules), Limits::default());
    rig.login(0);
    rig.shell(SSHD, SHELL, 0);
    rig
}

/// Up to this many seconds after the rig's beginning.
fn tick(rig: &mut Rig, seconds: u64) {
    rig.now = seconds * 1_000 * MS;
    rig.sessions.tick(rig.now, &mut rig.sink);
}

fn grants_told(rig: &Rig) -> usize {
    let story = rig.session(0).story();
    story.iter().filter(|line| *line == "grant").count()
}

#[test]
fn a_grant_that_arrives_late_relabels_the_session() {
    let mut rig = shell_with(&[]);
    let session = rig.session(0).session();
    assert_eq!(session.grant.status, GrantStatus::Ungranted);
    let revision = rig.session(0).record.revision;
    let late = book(&[grant("R1", None)]);
    rig.sessions.set_grants(late.clone(), &mut rig.sink);
    let recorded = rig.session(0);
    assert_eq!(recorded.story().last().unwrap(), "grant");
    let granted = &recorded.session().grant;
    assert_eq!(granted.grant.as_ref().unwrap().request_id, "R1");
    assert!(recorded.record.revision > revision);
    rig.sessions.set_grants(late, &mut rig.sink);
    assert_eq!(grants_told(&rig), 2, "nothing changed");
}

#[test]
fn what_runs_out_while_a_session_is_open_is_told_once() {
    let mut rig = shell_with(&[grant("R1", Some(20))]);
    tick(&mut rig, 19);
    assert!(rig.session(0).session().grant.outlived_at.is_none());
    assert!(rig.sessions.overdue(&mut rig.sink).is_empty());
    tick(&mut rig, 21);
    tick(&mut rig, 30);
    let granted = &rig.session(0).session().grant;
    assert_eq!(granted.status, GrantStatus::Granted);
    let outlived = granted.outlived_at.unwrap();
    assert_eq!(outlived.to_string(), "2026-06-01T00:00:20Z");
    assert_eq!(grants_told(&rig), 2);
    // Extended, it is in order again.
    let extended = book(&[grant("R1", Some(50))]);
    rig.sessions.set_grants(extended, &mut rig.sink);
    assert!(rig.session(0).session().grant.outlived_at.is_none());
    assert!(rig.sessions.overdue(&mut rig.sink).is_empty());
}

#[test]
fn a_session_that_ended_before_its_grant_did_is_left_alone() {
    let mut rig = shell_with(&[grant("R1", Some(20))]);
    rig.fork(SHELL, 120);
    rig.exec(120, &["daemon"]);
    rig.exit(SHELL, 0);
    tick(&mut rig, 10);
    tick(&mut rig, 25);
    assert!(rig.session(0).session().end_time.is_some());
    rig.sessions.set_grants(book(&[]), &mut rig.sink);
    assert!(rig.sessions.overdue(&mut rig.sink).is_empty());
    // Its grant is not there any more, but that came after the end of it.
    let granted = &rig.session(0).session().grant;
    assert_eq!(granted.status, GrantStatus::Granted);
    assert!(granted.outlived_at.is_none());
    assert_eq!(granted.grant.as_ref().unwrap().request_id, "R1");
}

#[test]
fn what_is_overdue_is_asked_to_end_and_then_made_to() {
    let mut rig = shell_with(&[grant("R1", Some(20))]);
    tick(&mut rig, 21);
    for insist in [false, false, true] {
        let mut overdue = rig.sessions.overdue(&mut rig.sink);
        overdue.sort_by_key(|process| process.pid);
        let pids: Vec<_> = overdue.iter().map(|process| process.pid).collect();
        assert_eq!(pids, [MONITOR, SSHD]);
        assert!(overdue.iter().all(|process| process.insist == insist));
    }
    rig.exit(SHELL, 1);
    rig.disconnect();
    rig.end_of_batch();
    let recorded = rig.session(0);
    assert_eq!(recorded.end().unwrap().reason, EndReason::GrantOver);
    let story = recorded.story();
    let told = story.iter().filter(|line| *line == "marker grant_over");
    assert_eq!(told.count(), 1);
    assert!(rig.sessions.overdue(&mut rig.sink).is_empty());
}

#[test]
fn a_connection_goes_on_while_one_of_its_sessions_is_granted() {
    let mut rig = shell_with(&[grant("R1", Some(20))]);
    tick(&mut rig, 19);
    let mut next = grant("R2", Some(40));
    next.grant.valid_from = Some("2026-06-01T00:00:15Z".parse().unwrap());
    let both = [grant("R1", Some(20)), next];
    rig.sessions.set_grants(book(&both), &mut rig.sink);
    // The first session goes on with the second grant.
    tick(&mut rig, 21);
    let granted = &rig.session(0).session().grant;
    assert_eq!(granted.grant.as_ref().unwrap().request_id, "R2");
    rig.shell(SSHD, SHELL + 1, 1);
    assert_eq!(rig.session(1).session().session_kind, SessionKind::Shell);
    assert!(rig.sessions.overdue(&mut rig.sink).is_empty());
    tick(&mut rig, 41);
    assert_eq!(rig.sessions.overdue(&mut rig.sink).len(), 2);
}
