//! Which grant covers a login.
//!
//! The key or certificate decides first, then unix user and host; never the
//! first of several. A grant that names keys or certificates is only for those:
//! it never matches by user alone.

use auditty_recording::session::{Evidence, GrantMatch, GrantStatus, Host, Login};
use jiff::Timestamp;

use super::{GrantBook, GrantRule};

impl GrantBook {
    /// How the grants stand to a login on `host` that began at `start`. The
    /// word of a server that a user controls opens nothing.
    pub fn match_login(&self, login: &Login, host: &Host, start: Timestamp) -> GrantMatch {
        if matches!(login.evidence, Evidence::None | Evidence::UntrustedServer) {
            return GrantMatch::default();
        }
        let covering = |by_identity: bool, valid: bool| -> Vec<&GrantRule> {
            self.rules
                .iter()
                .filter(|rule| rule.names_identity() == by_identity)
                .filter(|rule| rule.covers(login, host) && rule.is_valid_at(start) == valid)
                .collect()
        };
        for (valid, by_identity) in [(true, true), (true, false), (false, true), (false, false)] {
            let rules = covering(by_identity, valid);
            if !rules.is_empty() {
                return verdict(&rules, valid);
            }
        }
        GrantMatch::default()
    }
}

/// `rules` is not empty, and all are equally specific.
fn verdict(rules: &[&GrantRule], valid: bool) -> GrantMatch {
    let status = match (valid, rules) {
        (false, _) => GrantStatus::Expired,
        (true, [_]) => GrantStatus::Granted,
        (true, _) => GrantStatus::Ambiguous,
    };
    match rules {
        [rule] => GrantMatch {
            status,
            grant: Some(rule.grant.clone()),
            candidates: Vec::new(),
        },
        several => GrantMatch {
            status,
            grant: None,
            candidates: several
                .iter()
                .map(|rule| rule.grant.request_id.clone())
                .collect(),
        },
    }
}

impl GrantRule {
    fn names_identity(&self) -> bool {
        !self.keys.is_empty() || !self.certificate_ids.is_empty()
    }

    fn covers(&self, login: &Login, host: &Host) -> bool {
        let user = self
            .unix_users
            .iter()
            .any(|glob| matches(glob, &login.user));
        let here = self
            .hosts
            .iter()
            .any(|glob| matches(glob, &host.hostname) || matches(glob, &host.host_id));
        (self.unix_users.is_empty() || user)
            && (self.hosts.is_empty() || here)
            && (!self.names_identity() || self.covers_identity(login))
    }

    /// Only what sshd itself verified counts as an identity.
    fn covers_identity(&self, login: &Login) -> bool {
        let key = login.key_fingerprint.as_ref();
        let certificate = login.certificate.as_ref().map(|c| &c.key_id);
        login.evidence == Evidence::SshdMonitor
            && (key.is_some_and(|key| self.keys.contains(key))
                || certificate.is_some_and(|id| self.certificate_ids.contains(id)))
    }

    fn is_valid_at(&self, moment: Timestamp) -> bool {
        self.grant.valid_from.is_none_or(|from| from <= moment)
            && self.grant.valid_until.is_none_or(|until| moment < until)
    }
}

/// Whether `text` matches `glob`, in which `*` stands for any text.
fn matches(glob: &str, text: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use auditty_recording::session::{
        AuthMethod, Certificate, Evidence, Grant, GrantStatus, Host, Login,
    };
    use jiff::Timestamp;

    use super::{GrantBook, GrantRule, matches};

    fn host() -> Host {
        Host {
            host_id: "i-0abc".into(),
            hostname: "web-1".into(),
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
                ..Certificate::default()
            }),
            evidence: Evidence::SshdMonitor,
            ..Login::default()
        }
    }

    fn rule(id: &str, change: impl FnOnce(&mut GrantRule)) -> GrantRule {
        let mut rule = GrantRule {
            grant: Grant {
                request_id: id.into(),
                ..Grant::default()
            },
            ..GrantRule::default()
        };
        change(&mut rule);
        rule
    }

    fn user(id: &str) -> GrantRule {
        rule(id, |r| r.unix_users = vec!["alice".into()])
    }

    fn key(id: &str) -> GrantRule {
        rule(id, |r| r.keys = vec!["SHA256:k".into()])
    }

    fn certificate(id: &str) -> GrantRule {
        rule(id, |r| r.certificate_ids = vec!["alice@corp".into()])
    }

    fn old(mut rule: GrantRule) -> GrantRule {
        rule.grant.valid_until = Some("2026-01-01T00:00:00Z".parse().unwrap());
        rule
    }

    fn result(rules: Vec<GrantRule>, login: &Login) -> (GrantStatus, String) {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let found = GrantBook::new(rules).match_login(login, &host(), now);
        let named = found.grant.map(|grant| grant.request_id);
        (found.status, named.unwrap_or(found.candidates.join(",")))
    }

    #[test]
    fn the_most_specific_grant_decides_and_never_the_first_of_several() {
        use GrantStatus::{Ambiguous, Expired, Granted, Ungranted};
        let other_key = || {
            rule("o", |r| {
                r.keys = vec!["SHA256:other".into()];
                r.unix_users = vec!["alice".into()];
            })
        };
        let future = || {
            let mut rule = user("f");
            rule.grant.valid_from = Some("2027-01-01T00:00:00Z".parse().unwrap());
            rule
        };
        let on = |hosts: &str| {
            let mut rule = user("h");
            rule.hosts = vec![hosts.into()];
            rule
        };
        for (name, rules, expected) in [
            ("none", vec![], (Ungranted, "")),
            ("user", vec![user("u")], (Granted, "u")),
            ("key before user", vec![user("u"), key("k")], (Granted, "k")),
            (
                "certificate",
                vec![certificate("c"), user("u")],
                (Granted, "c"),
            ),
            (
                "two keys",
                vec![key("a"), certificate("b")],
                (Ambiguous, "a,b"),
            ),
            ("two users", vec![user("a"), user("b")], (Ambiguous, "a,b")),
            (
                "another key is not the user",
                vec![other_key()],
                (Ungranted, ""),
            ),
            ("expired", vec![old(user("u"))], (Expired, "u")),
            ("not yet", vec![future()], (Expired, "f")),
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
        assert_eq!(result(vec![key("k")], &uid_only).0, GrantStatus::Ungranted);
        assert_eq!(result(vec![user("u")], &uid_only).0, GrantStatus::Granted);
        for evidence in [Evidence::UntrustedServer, Evidence::None] {
            let rules = vec![key("k"), user("u")];
            assert_eq!(result(rules, &with(evidence)).0, GrantStatus::Ungranted);
        }
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
}
