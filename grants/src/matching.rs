//! Which grant covers a login, and for how long.
//!
//! The key or certificate decides first, then unix user and host; never the
//! first of several. A grant that names keys or certificates is only for those:
//! it never matches by user alone.
//!
//! What counts is the moment of the login. When what was valid then is over and
//! the session goes on, another grant that is valid by now takes its place;
//! without one the session has outlived its grant.

use auditty_recording::session::{Evidence, Grant, GrantMatch, GrantStatus, Host, Login};
use jiff::Timestamp;

use super::{CertificateSelector, GrantBook, GrantRule};

/// A login that is matched, and the session behind it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Who.
    pub login: &'a Login,
    /// Where.
    pub host: &'a Host,
    /// When the session began.
    pub start: Timestamp,
    /// Up to when it has gone on.
    pub now: Timestamp,
    /// How it stood when it was last looked at.
    pub before: Option<&'a GrantMatch>,
}

impl GrantBook {
    /// How the grants stand to a login. The word of a server that a user
    /// controls opens nothing.
    pub fn match_login(&self, subject: &Subject<'_>) -> GrantMatch {
        let Subject { login, host, .. } = *subject;
        if matches!(login.evidence, Evidence::None | Evidence::UntrustedServer) {
            return GrantMatch::default();
        }
        let covering: Vec<&GrantRule> = self
            .rules
            .iter()
            .filter(|rule| rule.covers(login, host))
            .collect();
        let at_start = strongest(&covering, |grant| is_valid_at(grant, subject.start));
        if at_start
            .iter()
            .any(|rule| !is_over(&rule.grant, subject.now))
        {
            return verdict(GrantStatus::Granted, &at_start);
        }
        let had = subject.before.filter(|before| was_admitted(before));
        if !at_start.is_empty() || had.is_some() {
            // It was granted and is not any more, except by another grant.
            let by_now = strongest(&covering, |grant| is_valid_at(grant, subject.now));
            if !by_now.is_empty() {
                return verdict(GrantStatus::Granted, &by_now);
            }
        }
        if !at_start.is_empty() {
            let while_open = |grant: &Grant| {
                grant.valid_from.is_none_or(|from| from <= subject.now)
                    && !is_over(grant, subject.start)
            };
            let last = covering.iter().filter(|rule| while_open(&rule.grant));
            let end = last.filter_map(|rule| end(&rule.grant)).max();
            let lasted = |grant: &Grant| while_open(grant) && self::end(grant) == end;
            let found = verdict(GrantStatus::Granted, &strongest(&covering, lasted));
            return outlived(found, end, subject);
        }
        let ever = strongest(&covering, |_| true);
        match (ever.is_empty(), had) {
            (true, Some(before)) => self.withdrawn(before, subject),
            (true, None) => GrantMatch::default(),
            (false, had) => {
                let revoked = ever
                    .iter()
                    .all(|rule| is_revoked_at(&rule.grant, subject.start));
                let status = match revoked {
                    true => GrantStatus::Revoked,
                    false => GrantStatus::Expired,
                };
                GrantMatch {
                    outlived_at: had.map(|had| had.outlived_at.unwrap_or(subject.start)),
                    ..verdict(status, &ever)
                }
            }
        }
    }

    /// The grant it had is in no source any more.
    fn withdrawn(&self, before: &GrantMatch, subject: &Subject<'_>) -> GrantMatch {
        let mut now = before.clone();
        if before.outlived_at.is_some() {
            return now;
        }
        let mut several = now.candidates.iter();
        let all_gone =
            self.complete || !now.candidates.is_empty() && several.all(|id| self.is_withdrawn(id));
        if let Some(grant) = &mut now.grant
            && self.is_withdrawn(&grant.request_id)
            && !is_over(grant, subject.now)
        {
            grant.revoked_at = Some(subject.now);
        } else if now.grant.is_none() && all_gone {
            // Several there were, and none is left.
            (now.status, now.outlived_at) = (GrantStatus::Revoked, Some(subject.now));
            return now;
        }
        let over = now.grant.as_ref().and_then(end);
        match over.is_some_and(|end| end <= subject.now) {
            true => outlived(now, over, subject),
            false => now,
        }
    }
}

/// Whether the session was let in by a grant.
fn was_admitted(before: &GrantMatch) -> bool {
    before.outlived_at.is_some()
        || matches!(before.status, GrantStatus::Granted | GrantStatus::Ambiguous)
}

/// Of `covering`, those that `counts`: the ones that name a key or certificate,
/// and only without such the others.
fn strongest<'a>(
    covering: &[&'a GrantRule],
    counts: impl Fn(&Grant) -> bool,
) -> Vec<&'a GrantRule> {
    let counting = covering.iter().filter(|rule| counts(&rule.grant)).copied();
    let (by_identity, by_user): (Vec<_>, Vec<_>) = counting.partition(|r| r.names_identity());
    match by_identity.is_empty() {
        true => by_user,
        false => by_identity,
    }
}

/// `rules` is not empty, and all are equally specific.
fn verdict(status: GrantStatus, rules: &[&GrantRule]) -> GrantMatch {
    match rules {
        [rule] => GrantMatch {
            status,
            grant: Some(rule.grant.clone()),
            ..GrantMatch::default()
        },
        several => GrantMatch {
            status: match status {
                GrantStatus::Granted => GrantStatus::Ambiguous,
                other => other,
            },
            candidates: several
                .iter()
                .map(|rule| rule.grant.request_id.clone())
                .collect(),
            ..GrantMatch::default()
        },
    }
}

/// What granted it is over since `end`, and the session goes on.
fn outlived(mut found: GrantMatch, end: Option<Timestamp>, subject: &Subject<'_>) -> GrantMatch {
    found.outlived_at = Some(end.unwrap_or(subject.now).max(subject.start));
    if let Some(grant) = &found.grant
        && is_revoked_at(grant, subject.now)
    {
        found.status = GrantStatus::Revoked;
    }
    found
}

/// When it is over.
fn end(grant: &Grant) -> Option<Timestamp> {
    [grant.valid_until, grant.revoked_at]
        .into_iter()
        .flatten()
        .min()
}

fn is_over(grant: &Grant, moment: Timestamp) -> bool {
    end(grant).is_some_and(|end| end <= moment)
}

/// Whether it is over because it was revoked.
fn is_revoked_at(grant: &Grant, moment: Timestamp) -> bool {
    is_over(grant, moment) && grant.revoked_at.is_some() && grant.revoked_at == end(grant)
}

fn is_valid_at(grant: &Grant, moment: Timestamp) -> bool {
    grant.valid_from.is_none_or(|from| from <= moment) && !is_over(grant, moment)
}

impl GrantRule {
    fn names_identity(&self) -> bool {
        !self.keys.is_empty() || !self.certificates.is_empty()
    }

    fn covers(&self, login: &Login, host: &Host) -> bool {
        let mut users = self.unix_users.iter();
        (self.unix_users.is_empty() || users.any(|glob| matches(glob, &login.user)))
            && self.is_for(host)
            && (!self.names_identity() || self.covers_identity(login))
    }

    /// Whether it is for a host, by its names and labels.
    pub fn is_for(&self, host: &Host) -> bool {
        let mut hosts = self.hosts.iter();
        let here = |glob: &String| matches(glob, &host.hostname) || matches(glob, &host.host_id);
        (self.hosts.is_empty() || hosts.any(here))
            && self.host_labels.iter().all(|(name, glob)| {
                host.labels
                    .get(name)
                    .is_some_and(|value| matches(glob, value))
            })
    }

    /// Only what sshd itself verified counts as an identity.
    fn covers_identity(&self, login: &Login) -> bool {
        let key = login.key_fingerprint.as_ref();
        login.evidence == Evidence::SshdMonitor
            && (key.is_some_and(|key| self.keys.contains(key))
                || self
                    .certificates
                    .iter()
                    .any(|selector| selector.covers(login)))
    }
}

impl CertificateSelector {
    fn covers(&self, login: &Login) -> bool {
        login.certificate.as_ref().is_some_and(|certificate| {
            self.key_id
                .as_ref()
                .is_none_or(|id| *id == certificate.key_id)
                && self
                    .serial
                    .is_none_or(|serial| serial == certificate.serial)
                && self
                    .ca
                    .as_ref()
                    .is_none_or(|ca| *ca == certificate.ca_fingerprint)
        })
    }
}

/// Whether `text` matches `glob`, in which `*` stands for any text.
pub(super) fn matches(glob: &str, text: &str) -> bool {
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
