//! What a verification says, as data.

use jiff::Timestamp;
use serde::Serialize;

use super::digests::Digests;
use super::keys::HostKeys;
use super::session::Checked;
use crate::host::{DigestHead, LogId};

/// Most findings that are kept in words; all are counted.
const MAX_FINDINGS: usize = 10_000;

/// What is wrong with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// It is not there, and was.
    Missing,
    /// Its content is not what was sealed.
    Changed,
    /// It is shorter than what was sealed.
    Truncated,
    /// It has the content of another place, which misses it.
    Reordered,
    /// It has the content of another place as well.
    Duplicated,
    /// Less is there than a digest or collector saw.
    RolledBack,
    /// A manifest that is not the one that a digest lists: sealed again.
    Replaced,
    /// Nothing sealed names it.
    Unlisted,
    /// It has no signature.
    Unsigned,
    /// Its signature does not fit.
    BadSignature,
    /// A key signed that nothing trusted certifies.
    UnknownKey,
    /// A key signed that was not the host's key at that time.
    WrongTimeKey,
    /// It does not continue what comes before it.
    BrokenChain,
    /// It is not readable as what it should be.
    Malformed,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// Key of the object or folder, without the store's prefix.
    pub object: String,
    /// In words.
    pub detail: String,
}

/// A digest that was the newest of its chain when somebody looked before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownHead {
    /// The host.
    pub host_id: String,
    /// The key log of the chain.
    pub log: LogId,
    /// The digest.
    pub head: DigestHead,
}

/// A host in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostSummary {
    /// The host.
    pub host_id: String,
    /// Its key log.
    pub log: LogId,
    /// Keys in it.
    pub keys: u64,
    /// Digests that were read.
    pub digests: u64,
    /// The newest of them: to be remembered, and given back next time.
    pub head: Option<DigestHead>,
    /// Its time.
    pub head_time: Option<Timestamp>,
}

/// What a verification says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether trusted keys were given, or the store's own key logs were taken.
    pub keys_given: bool,
    /// Chain heads from outside the store that were compared.
    pub receipts: u64,
    /// Key log entries that a collector has registered, and that were compared.
    pub registered_keys: u64,
    /// Digests from outside the store that were looked for.
    pub known_heads: u64,
    /// The hosts.
    pub hosts: Vec<HostSummary>,
    /// Finished recordings.
    pub sealed_sessions: u64,
    /// Recordings without a final manifest.
    pub open_sessions: u64,
    /// Encrypted chunks: verified as they are stored.
    pub encrypted_chunks: u64,
    /// Of these, those whose content was read with a private key as well.
    pub opened_chunks: u64,
    /// Objects read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many findings there are; `findings` holds the first ones.
    pub finding_count: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Worth knowing, and not wrong.
    pub notices: Vec<String>,
    /// What could not be checked, and why.
    pub unchecked: Vec<String>,
}

impl Report {
    /// Everything was checked, and nothing is wrong.
    pub fn is_verified(&self) -> bool {
        self.finding_count == 0 && self.unchecked.is_empty()
    }

    pub(super) fn add_host(&mut self, host_id: &str, keys: &HostKeys, digests: &Digests) {
        for (log, keys) in keys.logs() {
            let newest = digests.newest(log);
            self.hosts.push(HostSummary {
                host_id: host_id.to_owned(),
                log: log.clone(),
                keys: keys.len() as u64,
                digests: digests.count(log),
                head: newest.map(|(head, _)| head),
                head_time: newest.map(|(_, time)| time),
            });
        }
    }

    pub(super) fn add_session(&mut self, checked: &Checked) {
        match checked.sealed {
            true => self.sealed_sessions += 1,
            false => self.open_sessions += 1,
        }
        self.encrypted_chunks += checked.encrypted;
        self.opened_chunks += checked.opened;
        self.objects += checked.objects;
        self.bytes += checked.bytes;
    }

    pub(super) fn add_notes(&mut self, notes: Notes) {
        let Notes {
            findings,
            count,
            notices,
            unchecked,
        } = notes;
        self.finding_count += count;
        extend(&mut self.findings, findings);
        extend(&mut self.notices, notices);
        extend(&mut self.unchecked, unchecked);
    }
}

/// Collects what is found.
#[derive(Debug, Default)]
pub(super) struct Notes {
    findings: Vec<Finding>,
    count: u64,
    notices: Vec<String>,
    unchecked: Vec<String>,
}

impl Notes {
    pub(super) fn find(&mut self, kind: FindingKind, object: impl ToString, detail: impl ToString) {
        self.count += 1;
        let finding = Finding {
            kind,
            object: object.to_string(),
            detail: detail.to_string(),
        };
        extend(&mut self.findings, [finding]);
    }

    pub(super) fn notice(&mut self, text: impl ToString) {
        extend(&mut self.notices, [text.to_string()]);
    }

    pub(super) fn unchecked(&mut self, text: impl ToString) {
        extend(&mut self.unchecked, [text.to_string()]);
    }

    pub(super) fn has_findings(&self) -> bool {
        self.count > 0
    }

    pub(super) fn append(&mut self, other: Self) {
        self.count += other.count;
        extend(&mut self.findings, other.findings);
        extend(&mut self.notices, other.notices);
        extend(&mut self.unchecked, other.unchecked);
    }
}

fn extend<T>(to: &mut Vec<T>, from: impl IntoIterator<Item = T>) {
    let room = MAX_FINDINGS.saturating_sub(to.len());
    to.extend(from.into_iter().take(room));
}
