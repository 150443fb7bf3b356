//! Who was not let in.

use auditty_recording::session::AuthMethod;

use super::rig::*;
use crate::capture::event::{ConnectionStart, LossCause, LossClass};
use crate::sessions::{FailedLogin, Outcome};

const REFUSED: [u8; 4] = [0; 4];
const TURNED_AWAY: u32 = 255 << 8;

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u32).to_be_bytes().to_vec();
    out.extend(bytes);
    out
}

fn from(address: &str) -> ConnectionStart {
    ConnectionStart {
        client: Some(address.parse().unwrap()),
        ..ConnectionStart::default()
    }
}

/// Somebody who names a user, does `what`, and is gone.
fn attempt(rig: &mut Rig, address: &str, user: &str, what: impl FnOnce(&mut Rig)) {
    rig.connection += 1;
    rig.connect(MONITOR, from(address));
    rig.fork(MONITOR, CHILD);
    rig.monitor(CHILD, 8, &string(user.as_bytes()));
    what(rig);
    rig.exit(CHILD, TURNED_AWAY);
    rig.exit(MONITOR, TURNED_AWAY);
}

fn offer(rig: &mut Rig, key: &[u8]) {
    let body = [
        2u32.to_be_bytes().to_vec(),
        string(b"alice"),
        string(b""),
        string(key),
        vec![0, 0, 0, 1],
    ];
    rig.monitor(CHILD, 22, &body.concat());
    rig.monitor(MONITOR, 23, &REFUSED);
}

fn wrong_password(rig: &mut Rig) {
    rig.monitor(MONITOR, 13, &REFUSED);
}

fn told(rig: &mut Rig) -> Vec<FailedLogin> {
    rig.sessions.checkpoint(&mut rig.sink);
    rig.sink.failed_logins.values().cloned().collect()
}

#[test]
fn every_refusal_is_counted_by_method() {
    let mut rig = Rig::new();
    attempt(
        &mut rig,
        "192.0.2.7:4000",
        "x from 9.9.9.9 port 22",
        |rig| {
            offer(rig, &string(b"ssh-ed25519"));
            wrong_password(rig);
            wrong_password(rig);
            // PAM asks, is answered, asks no more and refuses.
            rig.monitor(MONITOR, 107, &REFUSED);
            rig.monitor(MONITOR, 109, &1u32.to_be_bytes());
            rig.monitor(MONITOR, 107, &u32::MAX.to_be_bytes());
            rig.monitor(MONITOR, 47, &REFUSED);
        },
    );
    let [login] = &*told(&mut rig) else {
        panic!("{:?}", rig.sink.failed_logins)
    };
    assert_eq!(login.user, "x from 9.9.9.9 port 22");
    assert_eq!(login.client_address, Some("192.0.2.7".parse().unwrap()));
    assert_eq!((login.client_port, login.connections), (Some(4000), 1));
    assert_eq!(
        (login.id.as_str(), login.outcome),
        ("boot-8", Outcome::Failed)
    );
    let failures = [
        (AuthMethod::PublicKey, 1),
        (AuthMethod::Password, 2),
        (AuthMethod::KeyboardInteractive, 1),
        (AuthMethod::Gssapi, 1),
    ];
    assert_eq!(login.tries.failures, failures);
    assert_eq!(login.tries.keys.len(), 1);
    assert!(login.start < login.end);
}

#[test]
fn what_was_judged_tells_the_outcome() {
    let mut rig = Rig::new();
    attempt(&mut rig, "192.0.2.7:1", "alice", |_| {});
    // The key was good, but the account is locked.
    attempt(&mut rig, "192.0.2.7:2", "alice", |rig| {
        rig.monitor(MONITOR, 25, &REFUSED);
    });
    let outcomes: Vec<_> = told(&mut rig).iter().map(|login| login.outcome).collect();
    assert_eq!(outcomes, [Outcome::NotTried, Outcome::Failed]);
}

#[test]
fn a_login_after_a_wrong_password_is_told_and_one_after_other_keys_is_not() {
    for (wrong, count) in [
        (wrong_password as fn(&mut Rig), 1),
        (|rig| offer(rig, &string(b"ssh-ed25519")), 0),
    ] {
        let mut rig = Rig::new();
        rig.connect(MONITOR, from("192.0.2.7:1"));
        rig.fork(MONITOR, CHILD);
        rig.monitor(CHILD, 8, &string(b"alice"));
        wrong(&mut rig);
        rig.monitor(MONITOR, 13, &1u32.to_be_bytes());
        rig.exit(CHILD, 0);
        rig.fork(MONITOR, SSHD);
        rig.shell(SSHD, SHELL, 4);
        let early = told(&mut rig);
        assert_eq!(early.len(), count);
        assert!(early.iter().all(|login| login.outcome == Outcome::LoggedIn));
        rig.exit(SHELL, 0);
        rig.disconnect();
        assert_eq!(told(&mut rig), early);
    }
}

#[test]
fn a_scan_is_no_login_unless_something_was_lost() {
    let mut rig = Rig::new();
    for lost in [false, true] {
        rig.connection += 1;
        rig.connect(MONITOR, from("192.0.2.7:1"));
        if lost {
            rig.loss(LossCause::RingFull, LossClass::Login, 1, 0, false);
        }
        rig.exit(MONITOR, TURNED_AWAY);
    }
    let logins = told(&mut rig);
    assert_eq!(logins.len(), 1);
    assert_eq!(
        (&*logins[0].user, logins[0].outcome),
        ("", Outcome::NotTried)
    );
}

#[test]
fn a_flood_is_merged_and_counted_to_the_last_one() {
    const FLOOD: u64 = 20_000;
    let mut rig = Rig::new();
    for number in 0..FLOOD {
        let address = format!("10.0.{}.{}:1", number % 3, number % 200);
        attempt(&mut rig, &address, &format!("u{number}"), wrong_password);
        if number % 500 == 0 {
            rig.sessions.checkpoint(&mut rig.sink);
        }
    }
    let logins = told(&mut rig);
    let total: u64 = logins.iter().map(|login| login.connections).sum();
    assert_eq!(total, FLOOD);
    let passwords = logins.iter().flat_map(|login| &login.tries.failures);
    assert_eq!(passwords.map(|(_, count)| count).sum::<u64>(), FLOOD);
    // Two minutes at most: an event takes a millisecond here.
    let minutes = rig.now / (60_000 * MS) + 1;
    let most = minutes * (100 + 200 + 1);
    assert!((logins.len() as u64) <= most, "{} of {most}", logins.len());
    assert!(logins.iter().any(|login| login.client_address.is_none()));
}

#[test]
fn what_the_sink_does_not_take_waits_and_is_bounded() {
    let mut rig = Rig::new();
    rig.sink.full = true;
    for number in 0..30_000u64 {
        let address = format!("10.{}.{}.1:1", number / 250, number % 250);
        attempt(&mut rig, &address, "alice", wrong_password);
        if number % 1000 == 0 {
            assert!(told(&mut rig).is_empty());
        }
    }
    rig.sink.full = false;
    let logins = told(&mut rig);
    assert!(logins.len() <= 1001, "{}", logins.len());
    let total: u64 = logins.iter().map(|login| login.connections).sum();
    assert_eq!(total, 30_000);
}

#[test]
fn a_user_who_may_not_log_in_is_refused_without_a_method() {
    let mut rig = Rig::new();
    for (user, known) in [("nobody-here", 0), ("alice", 1)] {
        attempt(&mut rig, "192.0.2.1:4000", user, |rig| {
            rig.monitor(MONITOR, 9, &[known]);
        });
    }
    let mut told = told(&mut rig);
    told.sort_by_key(|login| login.outcome);
    let told: Vec<_> = told.iter().map(|l| (l.user.as_str(), l.outcome)).collect();
    let expected = [
        ("alice", Outcome::NotTried),
        ("nobody-here", Outcome::Failed),
    ];
    assert_eq!(told, expected);
}
