//! Grants: approved accesses, and which of them covers a login.
//!
//! [`file`] is what stands in a file of them, [`message`] what goes over the
//! wire, [`matching`] decides. Pure logic: nothing is read, nobody is asked.
#![forbid(unsafe_code)]

mod bounds;
pub mod file;
pub mod matching;
pub mod message;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use auditty_recording::session::Grant;
use jiff::Timestamp;
use serde::Deserialize;

pub use file::GrantFileError;
pub use matching::Subject;

/// A grant, and the logins it is meant for. What is empty does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "file::RawGrant")]
pub struct GrantRule {
    /// What was approved.
    pub grant: Grant,
    /// Unix users it covers, `*` as a wildcard.
    pub unix_users: Vec<String>,
    /// Fingerprints of the keys it covers, `SHA256:…`.
    pub keys: Vec<String>,
    /// Certificates it covers.
    pub certificates: Vec<CertificateSelector>,
    /// Host names or host ids it covers, `*` as a wildcard.
    pub hosts: Vec<String>,
    /// Labels a host must have, `*` as a wildcard in their values.
    pub host_labels: BTreeMap<String, String>,
}

/// Certificates of which everything that is said here is true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CertificateSelector {
    /// Key id, chosen by the CA.
    pub key_id: Option<String>,
    /// Serial number.
    pub serial: Option<u64>,
    /// Fingerprint of the CA key, `SHA256:…`.
    pub ca: Option<String>,
}

/// All grants that are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantBook {
    rules: Vec<GrantRule>,
    /// Every source could be read: what is not here is not granted any more.
    complete: bool,
    /// Request ids of grants that are withdrawn even so.
    gone: BTreeSet<String>,
    /// Moments at which a grant begins or is over, in order.
    turns: Vec<Timestamp>,
}

impl Default for GrantBook {
    fn default() -> Self {
        Self::new(Vec::new(), true)
    }
}

impl GrantBook {
    /// A book of these grants. `complete` says that no source of grants was
    /// unreadable.
    pub fn new(mut rules: Vec<GrantRule>, complete: bool) -> Self {
        // The same grant from two sources is one.
        let mut kept: Vec<GrantRule> = Vec::with_capacity(rules.len());
        rules.sort_by(|a, b| a.grant.request_id.cmp(&b.grant.request_id));
        for rule in rules {
            let same = |known: &&GrantRule| known.grant.request_id == rule.grant.request_id;
            if !kept.iter().rev().take_while(same).any(|k| *k == rule) {
                kept.push(rule);
            }
        }
        let moments = kept.iter().map(|rule| &rule.grant);
        let moments = moments.flat_map(|g| [g.valid_from, g.valid_until, g.revoked_at]);
        let mut turns: Vec<Timestamp> = moments.flatten().collect();
        turns.sort_unstable();
        turns.dedup();
        Self {
            rules: kept,
            complete,
            gone: BTreeSet::new(),
            turns,
        }
    }

    /// The same book, with grants that are known to be withdrawn although it is
    /// not complete.
    #[must_use]
    pub fn without(mut self, gone: BTreeSet<String>) -> Self {
        self.gone = gone;
        self
    }

    fn is_withdrawn(&self, request_id: &str) -> bool {
        self.complete || self.gone.contains(request_id)
    }

    /// The grants, by request id.
    pub fn rules(&self) -> &[GrantRule] {
        &self.rules
    }

    /// Whether a grant begins or is over after `from` and not after `until`.
    pub fn turns_between(&self, from: Timestamp, until: Timestamp) -> bool {
        let next = self.turns.partition_point(|turn| *turn <= from);
        self.turns.get(next).is_some_and(|turn| *turn <= until)
    }
}

/// The grants of files and collector together. A request id names one grant: the
/// collector's word counts where both have it, but for a revocation, of which
/// the earlier does.
pub fn one_of_each(files: Vec<GrantRule>, mut collector: Vec<GrantRule>) -> Vec<GrantRule> {
    let places = collector.iter().enumerate();
    let places: BTreeMap<String, usize> = places
        .map(|(place, rule)| (rule.grant.request_id.clone(), place))
        .collect();
    for rule in files {
        let same = places.get(&rule.grant.request_id);
        match same.and_then(|place| collector.get_mut(*place)) {
            Some(same) => {
                let revoked = [same.grant.revoked_at, rule.grant.revoked_at];
                same.grant.revoked_at = revoked.into_iter().flatten().min();
            }
            None => collector.push(rule),
        }
    }
    collector
}
