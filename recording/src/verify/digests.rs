//! Digest chains: whole, signed at their time, and what they saw of each
//! session.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures::{StreamExt, stream};
use jiff::{Timestamp, civil::Date, tz::TimeZone};

use super::keys::{HostKeys, ReadObject, Signed, anchors, read_signed};
use super::{FindingKind, KnownChain, KnownHead, Notes, Scope, fetch};
use crate::digest::Digest;
use crate::host::{DigestHead, HostDigest, HostObject, HostObjectKey, LogId, digest_folder};
use crate::key::{ObjectName, SessionKey};
use crate::manifest::{MAX_MANIFEST_BYTES, Manifest};
use crate::signature::DIGEST_NAMESPACE;
use crate::store::{AnyStore, StoreError};

/// Requests to the store at the same time.
const CONCURRENT: usize = 16;

/// Most missing numbers of a chain that are named one by one.
const MAX_NAMED: u64 = 100;

/// Which days of the digest chains are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Days {
    from: Option<Date>,
    to: Option<Date>,
}

impl Days {
    /// All of them.
    pub(super) fn all() -> Self {
        Self {
            from: None,
            to: None,
        }
    }

    /// From the first session's start to the day after the last one was sealed;
    /// without an end when one is open, or cannot be read.
    pub(super) async fn of_sessions(
        store: &AnyStore,
        sessions: &BTreeSet<SessionKey>,
        scope: &Scope,
    ) -> Self {
        let dates = sessions.iter().map(SessionKey::date);
        let scope_date = match scope {
            Scope::Date(date, _) => Some(*date),
            _ => None,
        };
        let from = dates.chain(scope_date).min();
        let mut to = scope_date.and_then(|date| date.tomorrow().ok());
        for session in sessions {
            let key = session.object(ObjectName::Manifest).to_string();
            // What is wrong with it is found later.
            let json = fetch(store, &key, MAX_MANIFEST_BYTES, &mut Notes::default()).await;
            let manifest = json.and_then(|json| Manifest::from_json(&json).ok());
            let Some(manifest) = manifest else {
                to = None;
                break;
            };
            let sealed = manifest.sealed_at.to_zoned(TimeZone::UTC).date();
            to = to.max(sealed.tomorrow().ok());
        }
        Self { from, to }
    }

    fn are_all(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    fn has(&self, date: Date) -> bool {
        self.from.is_none_or(|from| from <= date) && self.to.is_none_or(|to| date <= to)
    }
}

/// What a digest, or a collector, saw of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Who.
    pub(super) by: String,
    /// What.
    pub(super) what: SeenWhat,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SeenWhat {
    /// A sealed manifest.
    Manifest { name: ObjectName, sha256: Digest },
    /// So many chunks in the store, with this chain head.
    Chunks { chunks: u32, chain_head: Digest },
}

#[derive(Debug)]
struct Link {
    time: Timestamp,
    sha256: Digest,
}

/// The digest chains of a host.
#[derive(Debug, Default)]
pub(super) struct Digests {
    chains: BTreeMap<LogId, BTreeMap<u64, Link>>,
    seen: BTreeMap<SessionKey, Vec<Seen>>,
    /// Sessions whose newest state the newest digests call not stored yet.
    waiting: BTreeMap<LogId, HashSet<SessionKey>>,
    /// Every digest that is there, good or not.
    present: HashSet<(LogId, u64)>,
    /// The newest key that a digest of the log names as its signer.
    signers: BTreeMap<LogId, u64>,
}

impl Digests {
    /// Reads and checks the chains.
    pub(super) async fn load(
        store: &AnyStore,
        host_id: &str,
        keys: &HostKeys,
        days: Days,
        notes: &mut Notes,
    ) -> Result<Self, StoreError> {
        let mut digests = Self::default();
        let anchors = anchors(keys);
        let listed = list(store, host_id, days, notes).await?;
        for (log, objects) in &listed {
            digests
                .load_chain(store, log, objects, keys, days, notes)
                .await;
        }
        digests.check_anchors(host_id, &anchors, days, notes);
        for (log, number) in &digests.signers {
            keys.check_named(log, *number, notes);
        }
        Ok(digests)
    }

    async fn load_chain(
        &mut self,
        store: &AnyStore,
        log: &LogId,
        objects: &[HostObjectKey],
        keys: &HostKeys,
        days: Days,
        notes: &mut Notes,
    ) {
        let mut read = stream::iter(objects.to_vec())
            .map(|key| read_signed(store, key))
            .buffered(CONCURRENT);
        // The number that has to come next; unknown when reading began later.
        let mut next = days.from.is_none().then_some((0, Some(Digest::ZERO)));
        let mut last_time = None;
        while let Some(object) = read.next().await {
            let HostObject::Digest { number, .. } = object.key.object else {
                continue;
            };
            if let Some((expected, _)) = next {
                if number < expected {
                    let detail = "the chain has two digests of this number";
                    notes.find(FindingKind::Duplicated, &object.key, detail);
                    continue;
                }
                missing(&object.key, expected, number, notes);
            }
            let before = next
                .and_then(|(expected, sha256)| (expected == number).then_some(sha256).flatten());
            self.present.insert((log.clone(), number));
            let sha256 = object.json.as_deref().map(Digest::of);
            next = Some((number.saturating_add(1), sha256));
            let Some((digest, trusted)) = judge(object, keys, before, last_time, notes) else {
                continue;
            };
            let signer = self.signers.entry(log.clone()).or_default();
            *signer = digest.signed_by.number.max(*signer);
            if !trusted {
                continue;
            }
            last_time = Some(digest.time);
            self.take(log, digest, sha256.unwrap_or_default());
        }
    }

    /// Remembers what a good digest says.
    fn take(&mut self, log: &LogId, digest: HostDigest, sha256: Digest) {
        let by = format!("digest {:06} of {}", digest.number, digest.time);
        for sealed in digest.content.sealed {
            self.saw(
                sealed.manifest.session,
                Seen {
                    by: by.clone(),
                    what: SeenWhat::Manifest {
                        name: sealed.manifest.name,
                        sha256: sealed.sha256,
                    },
                },
            );
        }
        for open in digest.content.open {
            self.saw(
                open.session,
                Seen {
                    by: by.clone(),
                    what: SeenWhat::Chunks {
                        chunks: open.chunks,
                        chain_head: open.chain_head,
                    },
                },
            );
        }
        let waiting = digest.content.waiting.into_iter().collect();
        self.waiting.insert(log.clone(), waiting);
        let link = Link {
            time: digest.time,
            sha256,
        };
        let chain = self.chains.entry(log.clone()).or_default();
        chain.insert(digest.number, link);
    }

    /// Keeps what is news.
    fn saw(&mut self, session: SessionKey, seen: Seen) {
        let all = self.seen.entry(session).or_default();
        if !all
            .iter()
            .rev()
            .take(4)
            .any(|known| known.what == seen.what)
        {
            all.push(seen);
        }
    }

    /// Every entry of the key log names the newest digest of its moment.
    fn check_anchors(
        &self,
        host_id: &str,
        anchors: &HashMap<(LogId, u64), (Digest, String)>,
        days: Days,
        notes: &mut Notes,
    ) {
        for ((log, number), (sha256, by)) in anchors {
            let chain = self.chains.get(log);
            match chain.and_then(|chain| chain.get(number)) {
                Some(link) if link.sha256 == *sha256 => {}
                Some(_) => {
                    let object = chain_name(host_id, log, *number);
                    let detail = format!("it is not the digest that {by} names");
                    notes.find(FindingKind::Replaced, object, detail);
                }
                None if days.from.is_none() && !self.present.contains(&(log.clone(), *number)) => {
                    let object = chain_name(host_id, log, *number);
                    let detail = format!("the digest is missing; {by} names it");
                    notes.find(FindingKind::Missing, object, detail);
                }
                None => {}
            }
        }
    }

    /// Digests that somebody saw before must still be there.
    /// With some days of the chains read only, what is not there says nothing.
    pub(super) fn check_known(
        &self,
        host_id: &str,
        known: &[KnownHead],
        days: Days,
        notes: &mut Notes,
    ) {
        for known in known.iter().filter(|known| known.host_id == host_id) {
            let chain = self.chains.get(&known.log);
            let object = chain_name(host_id, &known.log, known.head.number);
            match chain.and_then(|chain| chain.get(&known.head.number)) {
                Some(link) if link.sha256 == known.head.sha256 => {}
                Some(_) => notes.find(
                    FindingKind::Replaced,
                    object,
                    "it is not the digest that was seen before",
                ),
                None if !days.are_all() => {}
                None => notes.find(
                    FindingKind::RolledBack,
                    object,
                    "the digest was seen before and is not there: the store is older than it was",
                ),
            }
        }
    }

    /// Chain heads that somebody else saw, such as a collector.
    pub(super) fn add_known(&mut self, host_id: &str, known: &[KnownChain]) {
        let of_host = known
            .iter()
            .filter(|chain| chain.session.host_id() == host_id);
        for chain in of_host {
            let seen = Seen {
                by: chain.by.clone(),
                what: SeenWhat::Chunks {
                    chunks: chain.chunks,
                    chain_head: chain.chain_head,
                },
            };
            self.saw(chain.session.clone(), seen);
        }
    }

    /// Every session that a digest names.
    pub(super) fn sessions(&self) -> impl Iterator<Item = &SessionKey> {
        self.seen.keys()
    }

    /// What was seen of a session.
    pub(super) fn seen(&self, session: &SessionKey) -> &[Seen] {
        self.seen.get(session).map_or(&[], Vec::as_slice)
    }

    /// Whether the newest digest says that not everything is stored yet.
    pub(super) fn is_waiting(&self, session: &SessionKey) -> bool {
        self.waiting
            .values()
            .any(|waiting| waiting.contains(session))
    }

    /// How many digests of this log are later than `time`.
    pub(super) fn later(&self, log: &LogId, time: Timestamp) -> usize {
        let chain = self.chains.get(log).into_iter().flatten();
        chain.filter(|(_, link)| link.time > time).count()
    }

    pub(super) fn count(&self, log: &LogId) -> u64 {
        self.chains.get(log).map_or(0, |chain| chain.len() as u64)
    }

    pub(super) fn newest(&self, log: &LogId) -> Option<(DigestHead, Timestamp)> {
        let (number, link) = self.chains.get(log)?.last_key_value()?;
        let head = DigestHead {
            number: *number,
            sha256: link.sha256,
        };
        Some((head, link.time))
    }
}

/// The objects of each chain, in order.
async fn list(
    store: &AnyStore,
    host_id: &str,
    days: Days,
    notes: &mut Notes,
) -> Result<BTreeMap<LogId, Vec<HostObjectKey>>, StoreError> {
    let mut listed: BTreeMap<LogId, Vec<HostObjectKey>> = BTreeMap::new();
    for log in store.folders(&digest_folder(host_id)).await? {
        for day in store.folders(&log).await? {
            let name = day.trim_end_matches('/').rsplit("date=").next();
            let date = name.and_then(|name| name.parse::<Date>().ok());
            if date.is_some_and(|date| !days.has(date)) {
                continue;
            }
            for object in store.list(&day).await? {
                match object.key.parse::<HostObjectKey>() {
                    Ok(key) => {
                        if let (HostObject::Digest { log, .. }, false) =
                            (&key.object, key.signature)
                        {
                            listed.entry(log.clone()).or_default().push(key);
                        }
                    }
                    Err(_) => {
                        notes.notice(format!("{}: not an object of this format", object.key));
                    }
                }
            }
        }
    }
    for objects in listed.values_mut() {
        objects.sort_by_key(|key| match key.object {
            HostObject::Digest { number, date, .. } => (number, date),
            HostObject::Key { number, .. } => (number, Date::MIN),
        });
    }
    Ok(listed)
}

/// Keys of the digests of these days and of their signatures.
pub(super) async fn list_keys(
    store: &AnyStore,
    host_id: &str,
    days: Days,
) -> Result<Vec<String>, StoreError> {
    let listed = list(store, host_id, days, &mut Notes::default()).await?;
    let digests = listed.into_values().flatten();
    Ok(digests
        .flat_map(|key| [key.sig().to_string(), key.to_string()])
        .collect())
}

fn missing(at: &HostObjectKey, expected: u64, number: u64, notes: &mut Notes) {
    let HostObject::Digest { log, .. } = &at.object else {
        return;
    };
    let named = number.min(expected.saturating_add(MAX_NAMED));
    for gone in expected..named {
        let object = chain_name(&at.host_id, log, gone);
        notes.find(FindingKind::Missing, object, "the digest is missing");
    }
    if named < number {
        let object = chain_name(&at.host_id, log, named);
        let detail = format!("the digest is missing, and all up to {:06}", number - 1);
        notes.find(FindingKind::Missing, object, detail);
    }
}

/// A digest of this place, and whether its signature is good.
fn judge(
    object: ReadObject,
    keys: &HostKeys,
    before: Option<Digest>,
    last_time: Option<Timestamp>,
    notes: &mut Notes,
) -> Option<(HostDigest, bool)> {
    notes.append(object.notes);
    let (key, json) = (object.key, object.json?);
    let digest = match HostDigest::from_json(&json) {
        Ok(digest) => digest,
        Err(error) => {
            notes.find(FindingKind::Malformed, key, error);
            return None;
        }
    };
    let HostObject::Digest { log, date, number } = &key.object else {
        return None;
    };
    let own_date = digest.time.to_zoned(TimeZone::UTC).date();
    if (
        &digest.host_id,
        digest.number,
        &digest.signed_by.log,
        own_date,
    ) != (&key.host_id, *number, log, *date)
    {
        let detail = "it belongs to another place or host";
        notes.find(FindingKind::Reordered, key, detail);
        return None;
    }
    if before.is_some_and(|before| before != digest.previous) {
        let detail = "it does not follow the digest before it";
        notes.find(FindingKind::BrokenChain, &key, detail);
    }
    if last_time.is_some_and(|last| last > digest.time) {
        let detail = "it is older than the digest before it";
        notes.find(FindingKind::BrokenChain, &key, detail);
    }
    let signed = Signed {
        object: &key,
        namespace: DIGEST_NAMESPACE,
        json: &json,
        signature: object.signature.as_deref(),
        signed_by: Some(&digest.signed_by),
        time: digest.time,
    };
    let trusted = keys.check(&signed, notes);
    Some((digest, trusted))
}

/// A digest whose day is not known.
fn chain_name(host_id: &str, log: &LogId, number: u64) -> String {
    format!("{}log={log}/…/{number:06}.json", digest_folder(host_id))
}
