//! What is known of the collector's grants: piece by piece as they are told, and
//! bounded.

use std::collections::BTreeMap;

use auditty_grants::GrantRule;
use auditty_proto::v1::{AccessGrant, WatchGrantsResponse};
use jiff::{SignedDuration, Timestamp};
use prost::Message as _;

/// Most grants that are kept.
const MAX_GRANTS: usize = 50_000;
/// Most bytes of them, encoded.
const MAX_BYTES: usize = 64 << 20;
/// A grant is kept so long after it is over: sessions that outlive it name it.
const KEPT_AFTER: SignedDuration = SignedDuration::from_hours(48);

/// The grants of a collector.
#[derive(Debug, Default)]
pub(super) struct Known {
    grants: BTreeMap<String, Told>,
    /// Told from the beginning and not yet to the end, which will replace
    /// `grants`.
    fresh: Option<BTreeMap<String, Told>>,
    /// Where to go on after a break.
    position: String,
    /// Where `grants` stand.
    kept_position: String,
    /// All were told at least once, and every one can be used.
    complete: bool,
}

#[derive(Debug)]
struct Told {
    rule: GrantRule,
    revision: u64,
    bytes: usize,
}

impl Known {
    /// Where to go on.
    pub(super) fn position(&self) -> String {
        self.position.clone()
    }

    /// Whether these are all grants there are.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// There is nothing to be told.
    pub(super) fn set_complete(&mut self) {
        self.complete = true;
    }

    /// The grants that are known as a whole.
    pub(super) fn rules(&self) -> Vec<GrantRule> {
        let told = self.grants.values();
        told.map(|told| told.rule.clone()).collect()
    }

    /// Takes a piece; whether it changed what is known as a whole.
    pub(super) fn take(&mut self, piece: WatchGrantsResponse, now: Timestamp) -> bool {
        if piece.reset {
            self.fresh = Some(BTreeMap::new());
        }
        let mut news = !piece.grants.is_empty();
        let target = self.fresh.as_mut().unwrap_or(&mut self.grants);
        let mut unusable = false;
        for told in &piece.grants {
            unusable |= !put(target, told);
        }
        let kept = |told: &Told| {
            let grant = &told.rule.grant;
            let over = grant.valid_until.into_iter().chain(grant.revoked_at).min();
            over.is_none_or(|over| now < over.saturating_add(KEPT_AFTER).unwrap_or(over))
        };
        target.retain(|_, told| kept(told));
        unusable |= !bound(target, MAX_GRANTS, MAX_BYTES);
        self.position = piece.resume_token;
        if piece.caught_up {
            if let Some(fresh) = self.fresh.take() {
                self.grants = fresh;
                news = true;
            }
            news |= !self.complete;
            self.complete = true;
        }
        self.complete &= !unusable;
        if self.fresh.is_some() {
            return false;
        }
        self.kept_position.clone_from(&self.position);
        news
    }

    /// As it is kept on disk; taken again it is the same.
    pub(super) fn to_message(&self) -> WatchGrantsResponse {
        let message = |told: &Told| AccessGrant {
            revision: told.revision,
            ..told.rule.to_message()
        };
        WatchGrantsResponse {
            grants: self.grants.values().map(message).collect(),
            resume_token: self.kept_position.clone(),
            reset: false,
            caught_up: self.complete,
        }
    }
}

/// Whether it can be used. What cannot be takes the place of what could.
fn put(grants: &mut BTreeMap<String, Told>, told: &AccessGrant) -> bool {
    let id = told.grant.as_ref().map_or("", |grant| &grant.request_id);
    match GrantRule::from_message(told) {
        Ok(rule) => {
            let known = Told {
                rule,
                revision: told.revision,
                bytes: told.encoded_len(),
            };
            grants.insert(id.to_owned(), known);
            true
        }
        Err(fault) => {
            tracing::error!(request_id = %id.escape_debug(), %fault, "a grant of the collector is not used");
            grants.remove(id);
            false
        }
    }
}

/// Forgets the oldest above the bounds; whether there was room for all.
fn bound(grants: &mut BTreeMap<String, Told>, most: usize, most_bytes: usize) -> bool {
    let mut bytes: usize = grants.values().map(|told| told.bytes).sum();
    if grants.len() <= most && bytes <= most_bytes {
        return true;
    }
    let mut by_age: Vec<_> = grants
        .iter()
        .map(|(id, told)| (told.revision, id.clone(), told.bytes))
        .collect();
    by_age.sort_unstable();
    let mut count = 0_usize;
    for (_, id, len) in by_age {
        if grants.len() <= most && bytes <= most_bytes {
            break;
        }
        grants.remove(&id);
        bytes = bytes.saturating_sub(len);
        count += 1;
    }
    tracing::error!(
        forgotten = count,
        "the collector has more than {most} grants, or more than {most_bytes} bytes of them: the oldest are not used"
    );
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(id: &str, revision: u64, until: Option<&str>) -> AccessGrant {
        let mut rule = GrantRule {
            unix_users: vec!["alice".into()],
            ..GrantRule::default()
        };
        rule.grant.request_id = id.into();
        rule.grant.approvers = vec!["bob".into()];
        rule.grant.valid_until = until.map(|until| until.parse().unwrap());
        AccessGrant {
            revision,
            ..rule.to_message()
        }
    }

    fn piece(grants: Vec<AccessGrant>, position: &str, caught_up: bool) -> WatchGrantsResponse {
        WatchGrantsResponse {
            grants,
            resume_token: position.into(),
            reset: false,
            caught_up,
        }
    }

    fn from_the_beginning(piece: WatchGrantsResponse) -> WatchGrantsResponse {
        WatchGrantsResponse {
            reset: true,
            ..piece
        }
    }

    fn ids(known: &Known) -> Vec<String> {
        let rules = known.rules().into_iter();
        rules.map(|rule| rule.grant.request_id).collect()
    }

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn pieces_add_up_and_what_is_long_over_is_forgotten() {
        let mut known = Known::default();
        let first = vec![
            told("a", 1, None),
            told("long over", 2, Some("2026-01-01T00:00:00Z")),
            told("just over", 3, Some("2026-05-31T00:00:00Z")),
        ];
        let first = from_the_beginning(piece(first, "g-3", false));
        assert!(!known.take(first, now()), "not yet all");
        assert!(ids(&known).is_empty() && !known.is_complete());
        assert!(known.take(piece(vec![told("b", 4, None)], "g-4", true), now()));
        assert_eq!(ids(&known), ["a", "b", "just over"]);
        assert!(known.is_complete());
        assert!(!known.take(piece(vec![], "g-4", true), now()));
        let mut again = Known::default();
        assert!(again.take(known.to_message(), now()));
        assert_eq!(again.to_message(), known.to_message());
        assert_eq!(again.position(), "g-4");
    }

    #[test]
    fn another_beginning_counts_when_it_is_whole() {
        let mut known = Known::default();
        known.take(piece(vec![told("a", 1, None)], "g-1", true), now());
        let again = piece(vec![told("b", 1, None)], "h-1", false);
        known.take(from_the_beginning(again), now());
        assert_eq!(ids(&known), ["a"]);
        // What is kept goes on from where it stands; the connection, from here.
        assert_eq!(known.to_message().resume_token, "g-1");
        assert_eq!(known.position(), "h-1");
        assert!(known.take(piece(vec![], "h-1", true), now()));
        assert_eq!(ids(&known), ["b"]);
    }

    #[test]
    fn one_that_cannot_be_used_makes_it_incomplete() {
        let mut known = Known::default();
        known.take(piece(vec![told("a", 1, None)], "g-1", true), now());
        let mut nobody = told("a", 2, None);
        nobody.unix_users.clear();
        assert!(known.take(piece(vec![nobody], "g-2", true), now()));
        assert!(ids(&known).is_empty() && !known.is_complete());
    }

    #[test]
    fn the_oldest_are_forgotten_at_the_bounds() {
        let mut grants = BTreeMap::new();
        for (id, revision) in [("a", 3), ("b", 1), ("c", 2)] {
            put(&mut grants, &told(id, revision, None));
        }
        let one = grants["a"].bytes;
        assert!(bound(&mut grants, 3, 3 * one));
        assert!(!bound(&mut grants, 2, 3 * one));
        assert_eq!(grants.keys().collect::<Vec<_>>(), ["a", "c"]);
        assert!(!bound(&mut grants, 2, one));
        assert_eq!(grants.keys().collect::<Vec<_>>(), ["a"]);
    }
}
