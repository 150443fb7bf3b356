//! Which grant covers a login: rules one by one, and laws over all small books.

use std::collections::{BTreeMap, BTreeSet};

use auditty_recording::session::{
    AuthMethod, Certificate, Evidence, Grant, GrantMatch, GrantStatus, Host, Login,
};
use jiff::{SignedDuration, Timestamp};

use super::matching::matches;
use super::{CertificateSelector, GrantBook, GrantRule, Subject, one_of_each};
use GrantStatus::{Ambiguous, Expired, Granted, Revoked, Ungranted};

fn host() -> Host {
    Host {
        host_id: "i-0abc".into(),
        hostname: "web-1".into(),
        labels: BTreeMap::from([("env".into(), "prod".into())]),
        ..Host::default()
    }
}

fn login() -> Login {
    Login {
        user: "alice".into(),
        uid: Some(1000),
        method: AuthMethod::Certificate,
        key_fingerprint: Some("SHA256:k".into()),
        certificate: Some(Certificate {
            key_id: "alice@corp".into(),
            serial: 7,
            ca_fingerprint: "SHA256:ca".into(),
            ..Certificate::default()
        }),
        evidence: Evidence::SshdMonitor,
        ..Login::default()
    }
}

/// The session begins at minute 0.
fn minute(number: i64) -> Timestamp {
    let start: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    start + SignedDuration::from_mins(number)
}

fn rule(id: &str, change: impl FnOnce(&mut GrantRule)) -> GrantRule {
    let mut rule = GrantRule::default();
    rule.grant.request_id = id.into();
    change(&mut rule);
    rule
}

fn user(id: &str) -> GrantRule {
    rule(id, |r| r.unix_users = vec!["alice".into()])
}

fn key(id: &str) -> GrantRule {
    rule(id, |r| r.keys = vec!["SHA256:k".into()])
}

fn certificate(id: &str, selector: CertificateSelector) -> GrantRule {
    rule(id, |r| r.certificates = vec![selector])
}

fn key_id(id: &str) -> GrantRule {
    certificate(
        id,
        CertificateSelector {
            key_id: Some("alice@corp".into()),
            ..CertificateSelector::default()
        },
    )
}

/// Valid from one minute to another.
fn during(mut rule: GrantRule, from: i64, until: i64) -> GrantRule {
    rule.grant.valid_from = Some(minute(from));
    rule.grant.valid_until = Some(minute(until));
    rule
}

fn revoked(mut rule: GrantRule, at: i64) -> GrantRule {
    rule.grant.revoked_at = Some(minute(at));
    rule
}

fn old(rule: GrantRule) -> GrantRule {
    during(rule, -20, -10)
}

fn stand(book: &GrantBook, login: &Login, now: i64, before: Option<&GrantMatch>) -> GrantMatch {
    book.match_login(&Subject {
        login,
        host: &host(),
        start: minute(0),
        now: minute(now),
        before,
    })
}

fn short(found: &GrantMatch) -> (GrantStatus, String) {
    let named = found.grant.as_ref().map(|grant| grant.request_id.clone());
    (found.status, named.unwrap_or(found.candidates.join(",")))
}

fn result(rules: Vec<GrantRule>, login: &Login) -> (GrantStatus, String) {
    short(&stand(&GrantBook::new(rules, true), login, 0, None))
}

#[test]
fn the_most_specific_grant_decides_and_never_the_first_of_several() {
    let other_key = || {
        rule("o", |r| {
            r.keys = vec!["SHA256:other".into()];
            r.unix_users = vec!["alice".into()];
        })
    };
    let on = |hosts: &str| {
        let mut rule = user("h");
        rule.hosts = vec![hosts.into()];
        rule
    };
    let labelled = |name: &str, value: &str| {
        let mut rule = user("l");
        rule.host_labels.insert(name.into(), value.into());
        rule
    };
    let selected = |serial: Option<u64>, ca: &str| {
        let ca = Some(ca.to_owned());
        let selector = CertificateSelector {
            serial,
            ca,
            ..CertificateSelector::default()
        };
        certificate("c", selector)
    };
    for (name, rules, expected) in [
        ("none", vec![], (Ungranted, "")),
        ("user", vec![user("u")], (Granted, "u")),
        ("key before user", vec![user("u"), key("k")], (Granted, "k")),
        ("certificate", vec![key_id("c"), user("u")], (Granted, "c")),
        (
            "serial and CA",
            vec![selected(Some(7), "SHA256:ca")],
            (Granted, "c"),
        ),
        (
            "any of a CA",
            vec![selected(None, "SHA256:ca")],
            (Granted, "c"),
        ),
        (
            "another serial",
            vec![selected(Some(8), "SHA256:ca")],
            (Ungranted, ""),
        ),
        (
            "another CA",
            vec![selected(Some(7), "SHA256:x")],
            (Ungranted, ""),
        ),
        ("two keys", vec![key("a"), key_id("b")], (Ambiguous, "a,b")),
        ("two users", vec![user("b"), user("a")], (Ambiguous, "a,b")),
        ("the same twice", vec![user("a"), user("a")], (Granted, "a")),
        (
            "a request id used again",
            vec![user("a"), during(user("a"), -1, 1)],
            (Ambiguous, "a,a"),
        ),
        (
            "another key is not the user",
            vec![other_key()],
            (Ungranted, ""),
        ),
        ("expired", vec![old(user("u"))], (Expired, "u")),
        ("not yet", vec![during(user("f"), 5, 10)], (Expired, "f")),
        (
            "revoked before",
            vec![revoked(user("r"), -5)],
            (Revoked, "r"),
        ),
        (
            "revoked after it expired",
            vec![revoked(old(user("r")), -5)],
            (Expired, "r"),
        ),
        (
            "expired beside valid",
            vec![old(key("k")), user("u")],
            (Granted, "u"),
        ),
        (
            "both expired",
            vec![old(user("a")), old(user("b"))],
            (Expired, "a,b"),
        ),
        ("host name", vec![on("web-*")], (Granted, "h")),
        ("host id", vec![on("i-0abc")], (Granted, "h")),
        ("other host", vec![on("db-*")], (Ungranted, "")),
        ("label", vec![labelled("env", "prod")], (Granted, "l")),
        (
            "any value of a label",
            vec![labelled("env", "*")],
            (Granted, "l"),
        ),
        (
            "other value",
            vec![labelled("env", "test")],
            (Ungranted, ""),
        ),
        (
            "no such label",
            vec![labelled("team", "*")],
            (Ungranted, ""),
        ),
    ] {
        let (status, named) = result(rules, &login());
        assert_eq!((status, named.as_str()), expected, "{name}");
    }
}

#[test]
fn weak_evidence_opens_nothing_it_does_not_prove() {
    let with = |evidence| Login {
        evidence,
        ..login()
    };
    let uid_only = with(Evidence::ProcessUid);
    assert_eq!(result(vec![key("k")], &uid_only).0, Ungranted);
    assert_eq!(result(vec![user("u")], &uid_only).0, Granted);
    for evidence in [Evidence::UntrustedServer, Evidence::None] {
        let rules = vec![key("k"), user("u")];
        assert_eq!(result(rules, &with(evidence)).0, Ungranted);
    }
}

/// What is known at a minute, and how the session stands then: status, request
/// id, and since which minute it has outlived its grant.
type Step<'a> = (i64, Vec<GrantRule>, GrantStatus, &'a str, Option<i64>);

/// A session is looked at again and again.
fn follow(steps: &[Step<'_>]) {
    let mut before = None;
    for (now, rules, status, named, outlived) in steps {
        let book = GrantBook::new(rules.clone(), true);
        let found = stand(&book, &login(), *now, before.as_ref());
        assert_eq!(short(&found), (*status, (*named).to_owned()), "at {now}");
        assert_eq!(found.outlived_at, outlived.map(minute), "at {now}");
        assert_eq!(
            stand(&book, &login(), *now, Some(&found)),
            found,
            "again at {now}"
        );
        before = Some(found);
    }
}

#[test]
fn a_session_that_outlives_its_grant() {
    let until = |end| vec![during(user("a"), -5, end)];
    follow(&[
        (0, until(10), Granted, "a", None),
        (9, until(10), Granted, "a", None),
        (10, until(10), Granted, "a", Some(10)),
        (20, until(10), Granted, "a", Some(10)),
        // A file that is tidied away afterwards changes nothing.
        (21, vec![], Granted, "a", Some(10)),
    ]);
    // Extended in place, or by another request.
    follow(&[
        (10, until(10), Granted, "a", Some(10)),
        (11, until(30), Granted, "a", None),
    ]);
    let extended = vec![during(user("a"), -5, 10), during(user("b"), 8, 30)];
    follow(&[
        (9, extended.clone(), Granted, "a", None),
        (10, extended.clone(), Granted, "b", None),
        (30, extended, Granted, "b", Some(30)),
    ]);
}

#[test]
fn a_grant_that_is_revoked_while_the_session_runs() {
    let at = |minute| vec![revoked(user("a"), minute)];
    follow(&[
        (0, vec![user("a")], Granted, "a", None),
        (5, at(5), Revoked, "a", Some(5)),
        (9, at(5), Revoked, "a", Some(5)),
    ]);
    // Taken out of its source.
    follow(&[
        (0, vec![user("a")], Granted, "a", None),
        (5, vec![], Revoked, "a", Some(5)),
        (9, vec![], Revoked, "a", Some(5)),
        (10, vec![user("a")], Granted, "a", None),
    ]);
    // Revoked before the login, but not known by then.
    follow(&[
        (0, vec![user("a")], Granted, "a", None),
        (5, at(-1), Revoked, "a", Some(0)),
    ]);
    // Of several, one after the other.
    follow(&[
        (0, vec![user("a"), user("b")], Ambiguous, "a,b", None),
        (1, vec![user("b")], Granted, "b", None),
        (2, vec![], Revoked, "b", Some(2)),
    ]);
    follow(&[
        (0, vec![user("a"), user("b")], Ambiguous, "a,b", None),
        (2, vec![], Revoked, "a,b", Some(2)),
    ]);
}

#[test]
fn a_grant_that_arrives_late() {
    follow(&[
        (0, vec![], Ungranted, "", None),
        (3, vec![user("a")], Granted, "a", None),
    ]);
    // It does not reach back to a login before it.
    follow(&[
        (0, vec![], Ungranted, "", None),
        (3, vec![during(user("a"), 2, 9)], Expired, "a", None),
    ]);
}

#[test]
fn what_cannot_be_read_revokes_nothing() {
    let had = GrantMatch {
        status: Granted,
        grant: Some(Grant {
            request_id: "a".into(),
            valid_until: Some(minute(10)),
            ..Grant::default()
        }),
        ..GrantMatch::default()
    };
    let unread = GrantBook::new(vec![], false);
    assert_eq!(stand(&unread, &login(), 5, Some(&had)), had);
    let over = stand(&unread, &login(), 12, Some(&had));
    assert_eq!((over.status, over.outlived_at), (Granted, Some(minute(10))));
}

/// Every book of up to three of these, in every order: the order is nothing,
/// and a grant that is named covers the login.
#[test]
fn laws_of_all_small_books() {
    let kinds = [
        user("u"),
        key("k"),
        key_id("c"),
        during(user("d"), -1, 5),
        revoked(user("r"), 3),
        old(key("o")),
        during(key("l"), 2, 9),
        rule("x", |r| r.unix_users = vec!["bob".into()]),
    ];
    for number in 0..kinds.len().pow(3) {
        let at = |place| &kinds[number / kinds.len().pow(place) % kinds.len()];
        let rules = vec![at(0).clone(), at(1).clone(), at(2).clone()];
        let turned = vec![at(2).clone(), at(0).clone(), at(1).clone()];
        for now in [0, 4, 8] {
            let found = stand(&GrantBook::new(rules.clone(), true), &login(), now, None);
            let again = stand(&GrantBook::new(turned.clone(), true), &login(), now, None);
            assert_eq!(found, again);
            let (status, named) = short(&found);
            let covers = rules
                .iter()
                .any(|r| r.grant.request_id == named && named != "x");
            match status {
                Granted => assert!(covers && named != "o", "{found:?}"),
                Ambiguous => assert!(found.candidates.len() > 1 && found.grant.is_none()),
                Ungranted => assert!(rules.iter().all(|r| r.grant.request_id == "x")),
                Expired | Revoked => assert!(covers || found.candidates.len() > 1, "{found:?}"),
            }
        }
    }
}

#[test]
fn turns_are_when_something_begins_or_is_over() {
    let book = GrantBook::new(vec![during(user("a"), 2, 5), revoked(user("b"), 7)], true);
    let between = |from, until| book.turns_between(minute(from), minute(until));
    assert!(between(0, 2) && !between(2, 4) && between(4, 5) && between(5, 7));
    assert!(!between(7, 100));
}

#[test]
fn globs() {
    for (glob, text, expected) in [
        ("*", "", true),
        ("web", "web", true),
        ("web", "web1", false),
        ("web-*", "web-1", true),
        ("*-1", "web-1", true),
        ("w*b*1", "web-1", true),
        ("w*b*2", "web-1", false),
        ("a*a", "a", false),
        ("", "x", false),
    ] {
        assert_eq!(matches(glob, text), expected, "{glob} {text}");
    }
}

#[test]
fn a_file_that_is_gone_withdraws_while_the_collector_is_not_known() {
    let granted = stand(&GrantBook::new(vec![user("u")], true), &login(), 0, None);
    let several = GrantBook::new(vec![user("u"), user("v")], true);
    let ambiguous = stand(&several, &login(), 0, None);
    let after = |before: &GrantMatch, gone: &[&str]| {
        let gone: BTreeSet<String> = gone.iter().map(|id| (*id).to_owned()).collect();
        let book = GrantBook::new(vec![], false).without(gone);
        let now = stand(&book, &login(), 5, Some(before));
        (now.status, now.outlived_at)
    };
    let withdrawn = (Revoked, Some(minute(5)));
    assert_eq!(after(&granted, &[]), (Granted, None));
    assert_eq!(after(&granted, &["v"]), (Granted, None));
    assert_eq!(after(&granted, &["u"]), withdrawn);
    assert_eq!(after(&ambiguous, &["u"]), (Ambiguous, None));
    assert_eq!(after(&ambiguous, &["u", "v"]), withdrawn);
}

#[test]
fn a_request_id_in_a_file_and_in_the_collector_is_one_grant() {
    let mut wide = user("same");
    wide.unix_users = vec!["*".into()];
    let together = one_of_each(vec![wide, user("file")], vec![user("same")]);
    assert_eq!(together, [user("same"), user("file")]);
    // A revocation in either counts.
    for (file, collector, both) in [(None, 2, 2), (Some(1), 2, 1), (Some(3), 2, 2)] {
        let file = file.map_or(user("u"), |at| revoked(user("u"), at));
        let together = one_of_each(vec![file], vec![revoked(user("u"), collector)]);
        assert_eq!(together, [revoked(user("u"), both)]);
    }
    let together = one_of_each(vec![revoked(user("u"), 1)], vec![user("u")]);
    assert_eq!(together, [revoked(user("u"), 1)]);
}
