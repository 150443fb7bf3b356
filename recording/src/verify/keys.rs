//! Key logs: which key was a host's at which time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::{StreamExt, stream};
use jiff::Timestamp;

use super::trust::{TrustedKey, TrustedKeys};
use super::{FindingKind, Known, Notes, RegisteredKey, fetch};
use crate::digest::Digest;
use crate::host::{
    HostObject, HostObjectKey, KeyEntry, LogId, MAX_HOST_OBJECT_BYTES, SignedBy, keys_folder,
};
use crate::signature::{
    KEY_NAMESPACE, MAX_SIGNATURE_BYTES, PublicKey, SignatureError, verify as verify_signature,
};
use crate::store::{AnyStore, StoreError};

/// Requests to the store at the same time.
const CONCURRENT: usize = 16;

/// Most missing entries of a log that are named one by one.
const MAX_NAMED: u64 = 100;

/// A key of a log.
#[derive(Clone, Debug)]
pub struct LoggedKey {
    /// Its entry.
    pub entry: KeyEntry,
    /// When the next key took over.
    pub not_after: Option<Timestamp>,
    /// Whether somebody vouches for it: the given keys, or this is the first
    /// key log of the host and none were given.
    pub trusted: bool,
    sha256: Digest,
}

impl LoggedKey {
    fn is(&self, registered: &RegisteredKey) -> bool {
        self.sha256 == registered.sha256
    }
}

/// The key logs of a host.
#[derive(Debug, Default)]
pub struct HostKeys {
    host_id: String,
    logs: BTreeMap<LogId, Vec<LoggedKey>>,
    /// How many entries each log has at least, by the numbers in the store.
    stored: BTreeMap<LogId, u64>,
    given: Option<TrustedKeys>,
    registered: Vec<RegisteredKey>,
}

/// A signed object.
pub(super) struct Signed<'a> {
    pub(super) object: &'a dyn std::fmt::Display,
    pub(super) namespace: &'static str,
    pub(super) json: &'a [u8],
    pub(super) signature: Option<&'a [u8]>,
    pub(super) signed_by: Option<&'a SignedBy>,
    pub(super) time: Timestamp,
}

impl HostKeys {
    /// The logs.
    pub fn logs(&self) -> &BTreeMap<LogId, Vec<LoggedKey>> {
        &self.logs
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    /// The keys as lines of an `allowed_signers` file.
    pub fn allowed_signers(&self) -> String {
        let mut lines = String::new();
        for (log, keys) in &self.logs {
            for key in keys {
                let KeyEntry {
                    public_key,
                    not_before,
                    ..
                } = key.entry;
                let trusted =
                    TrustedKey::of_host(&self.host_id, public_key, not_before, key.not_after);
                let comment = format!("{} {log}/{:06}", self.host_id, key.entry.number);
                lines.push_str(&trusted.line(&comment));
            }
        }
        lines
    }

    /// A digest says that this key of the log signed it: its entry was stored
    /// before the digest.
    pub(super) fn check_named(&self, log: &LogId, number: u64, notes: &mut Notes) {
        let stored = self.stored.get(log).copied().unwrap_or(0);
        let named = number.min(stored.saturating_add(MAX_NAMED));
        for missing in stored..=named {
            let entry = HostObjectKey {
                host_id: self.host_id.clone(),
                object: HostObject::Key {
                    log: log.clone(),
                    number: missing,
                },
                signature: false,
            };
            let detail = format!("the entry is missing: key {number:06} has signed digests");
            notes.find(FindingKind::Missing, entry, detail);
        }
    }

    /// Notes what is wrong with a signature. Whether it is good.
    pub(super) fn check(&self, signed: &Signed<'_>, notes: &mut Notes) -> bool {
        match self.judge(signed) {
            Ok(()) => true,
            Err((kind, detail)) => {
                notes.find(kind, signed.object, detail);
                false
            }
        }
    }

    fn judge(&self, signed: &Signed<'_>) -> Result<(), (FindingKind, String)> {
        let Some(signature) = signed.signature else {
            return Err((FindingKind::Unsigned, "its signature is missing".to_owned()));
        };
        let maker = verify_signature(signed.namespace, signed.json, signature).map_err(
            |error| match error {
                SignatureError::Mismatch => (
                    FindingKind::BadSignature,
                    "it or its signature was changed: the signature does not fit".to_owned(),
                ),
                other => (FindingKind::BadSignature, format!("its signature: {other}")),
            },
        )?;
        match self.find(&maker) {
            Some((log, key)) => self.judge_logged(signed, log, key),
            None => self.judge_given(signed, &maker),
        }
    }

    fn judge_logged(
        &self,
        signed: &Signed<'_>,
        log: &LogId,
        key: &LoggedKey,
    ) -> Result<(), (FindingKind, String)> {
        let name = format!(
            "key {:06} of log {log} ({})",
            key.entry.number, key.entry.fingerprint
        );
        if !key.trusted {
            let detail = format!("{name} signed it, which nothing trusted certifies");
            return Err((FindingKind::UnknownKey, detail));
        }
        if signed.time < key.entry.not_before {
            let detail = format!(
                "it says it is of {}, and {name} signed it, which began only at {}",
                signed.time, key.entry.not_before
            );
            return Err((FindingKind::WrongTimeKey, detail));
        }
        if let Some(end) = key.not_after
            && signed.time >= end
        {
            let detail = format!(
                "it says it is of {}, and {name} signed it, which ended at {end}",
                signed.time
            );
            return Err((FindingKind::WrongTimeKey, detail));
        }
        if signed.signed_by != Some(&key.entry.signed_by()) {
            let detail = format!("{name} signed it, and it names another one");
            return Err((FindingKind::BadSignature, detail));
        }
        Ok(())
    }

    /// A key that no log has: the given keys alone decide.
    fn judge_given(
        &self,
        signed: &Signed<'_>,
        maker: &PublicKey,
    ) -> Result<(), (FindingKind, String)> {
        let fingerprint = maker.fingerprint();
        let mut of_host = self
            .given
            .iter()
            .flat_map(|given| given.of(&self.host_id, maker))
            .peekable();
        if of_host.peek().is_none() {
            let detail = format!("the key {fingerprint} signed it, which is not this host's");
            return Err((FindingKind::UnknownKey, detail));
        }
        if !of_host.any(|key| key.at(signed.time)) {
            let detail = format!(
                "it says it is of {}, and the key {fingerprint} signed it, which was not valid then",
                signed.time
            );
            return Err((FindingKind::WrongTimeKey, detail));
        }
        Ok(())
    }

    fn find(&self, key: &PublicKey) -> Option<(&LogId, &LoggedKey)> {
        self.logs.iter().find_map(|(log, keys)| {
            let key = keys.iter().find(|logged| logged.entry.public_key == *key);
            key.map(|key| (log, key))
        })
    }

    /// Entries that are not the ones that the host has registered. One behind
    /// the end of its log may be on its way to the store.
    fn check_registered(&self, notes: &mut Notes) {
        for registered in &self.registered {
            let stored = self.stored.get(&registered.log).copied().unwrap_or(0);
            let entry = self.entry(registered);
            if registered.number < stored && !entry.is_some_and(|key| key.is(registered)) {
                let object = HostObjectKey {
                    host_id: self.host_id.clone(),
                    object: HostObject::Key {
                        log: registered.log.clone(),
                        number: registered.number,
                    },
                    signature: false,
                };
                let detail = "it is not the entry that the host has registered with the collector";
                notes.find(FindingKind::Replaced, object, detail);
            }
        }
    }

    fn entry(&self, registered: &RegisteredKey) -> Option<&LoggedKey> {
        let number = usize::try_from(registered.number).ok()?;
        self.logs.get(&registered.log)?.get(number)
    }

    /// Which logs are trusted: with keys that were given, what those certify;
    /// else the logs that the host has registered entries of, which name by
    /// their digests all that is before them; else the first one.
    fn trust(&mut self, notes: &mut Notes) {
        self.check_registered(notes);
        let registered: BTreeSet<LogId> = self
            .registered
            .iter()
            .filter(|registered| self.entry(registered).is_some_and(|key| key.is(registered)))
            .map(|registered| registered.log.clone())
            .collect();
        let first = self
            .logs
            .iter()
            .filter_map(|(log, keys)| Some((keys.first()?.entry.not_before, log.clone())))
            .min();
        for (log, keys) in &mut self.logs {
            let is_first = first.as_ref().is_some_and(|(_, first)| first == log);
            let own = match self.registered.is_empty() {
                true => is_first,
                false => registered.contains(log),
            };
            let mut trusted = self.given.is_none() && own;
            for key in &mut *keys {
                // A trusted key vouches for all that follow it.
                let given = self.given.as_ref();
                trusted |= given.is_some_and(|given| {
                    given
                        .of(&self.host_id, &key.entry.public_key)
                        .next()
                        .is_some()
                });
                key.trusted = trusted;
            }
            if !trusted && !keys.is_empty() {
                let folder = format!("{}log={log}/", keys_folder(&self.host_id));
                let detail = match self.given {
                    Some(_) => "none of its keys is among the given ones".to_owned(),
                    None if !self.registered.is_empty() => {
                        "the collector has registered other keys of the host, and none of this \
                         log: was the host set up again? `auditty keys accept` accepts it"
                            .to_owned()
                    }
                    None => "the host has an older key log, and nothing certifies this one: \
                             was it set up again? The keys must be given to trust both"
                        .to_owned(),
                };
                notes.find(FindingKind::UnknownKey, folder, detail);
            }
        }
    }
}

/// Reads and checks the key logs of a host.
pub(super) async fn load(
    store: &AnyStore,
    host_id: &str,
    known: &Known,
    notes: &mut Notes,
) -> Result<HostKeys, StoreError> {
    let mut numbers: BTreeMap<LogId, Vec<u64>> = BTreeMap::new();
    for object in store.list(&keys_folder(host_id)).await? {
        match object.key.parse() {
            Ok(HostObjectKey {
                object: HostObject::Key { log, number },
                signature: false,
                ..
            }) => numbers.entry(log).or_default().push(number),
            Ok(_) => {}
            Err(_) => notes.notice(format!("{}: not an object of this format", object.key)),
        }
    }
    let mut keys = HostKeys {
        host_id: host_id.to_owned(),
        logs: BTreeMap::new(),
        stored: BTreeMap::new(),
        given: known.keys.clone(),
        registered: known
            .registered
            .iter()
            .filter(|key| key.host_id == host_id)
            .cloned()
            .collect(),
    };
    for (log, mut numbers) in numbers {
        numbers.sort_unstable();
        let stored = numbers.last().map_or(0, |last| last.saturating_add(1));
        keys.stored.insert(log.clone(), stored);
        let entries = load_log(store, host_id, &log, &numbers, notes).await;
        keys.logs.insert(log, entries);
    }
    keys.trust(notes);
    Ok(keys)
}

async fn load_log(
    store: &AnyStore,
    host_id: &str,
    log: &LogId,
    numbers: &[u64],
    notes: &mut Notes,
) -> Vec<LoggedKey> {
    let key = |number| HostObjectKey {
        host_id: host_id.to_owned(),
        object: HostObject::Key {
            log: log.clone(),
            number,
        },
        signature: false,
    };
    let mut read = stream::iter(numbers.iter().map(|number| key(*number)))
        .map(|key| read_signed(store, key))
        .buffered(CONCURRENT);
    let mut logged: Vec<LoggedKey> = Vec::new();
    while let Some(object) = read.next().await {
        let expected = logged.len() as u64;
        let ReadObject {
            key: object_key,
            json,
            signature,
            notes: more,
        } = object;
        notes.append(more);
        let HostObject::Key { number, .. } = object_key.object else {
            continue;
        };
        if number != expected {
            notes.find(
                FindingKind::Missing,
                key(expected),
                "the key log misses this entry: keys behind it are not certified",
            );
            return logged;
        }
        let Some(json) = json else { return logged };
        match judge_entry(&object_key, &json, signature.as_deref(), logged.last()) {
            Ok(entry) => {
                if let Some(before) = logged.last_mut() {
                    before.not_after = Some(entry.not_before);
                }
                logged.push(LoggedKey {
                    sha256: Digest::of(&json),
                    entry,
                    not_after: None,
                    trusted: false,
                });
            }
            Err((kind, detail)) => {
                notes.find(kind, object_key, detail);
                return logged;
            }
        }
    }
    logged
}

fn judge_entry(
    key: &HostObjectKey,
    json: &[u8],
    signature: Option<&[u8]>,
    before: Option<&LoggedKey>,
) -> Result<KeyEntry, (FindingKind, String)> {
    let entry =
        KeyEntry::from_json(json).map_err(|error| (FindingKind::Malformed, error.to_string()))?;
    let HostObject::Key { log, number } = &key.object else {
        return Err((FindingKind::Malformed, "it is no key log entry".to_owned()));
    };
    if (&entry.log, entry.number, &entry.host_id) != (log, *number, &key.host_id) {
        let detail = "it belongs to another place or host";
        return Err((FindingKind::Reordered, detail.to_owned()));
    }
    let signature =
        signature.ok_or((FindingKind::Unsigned, "its signature is missing".to_owned()))?;
    let signer = before.map_or(entry.public_key, |before| before.entry.public_key);
    signer
        .verify(KEY_NAMESPACE, json, signature)
        .map_err(|error| {
            let who = if before.is_some() {
                "the key before it"
            } else {
                "its own key"
            };
            let detail = format!("it must be signed by {who}: {error}");
            (FindingKind::BadSignature, detail)
        })?;
    let follows = match before {
        None => entry.previous == Digest::ZERO && LogId::of(&entry.public_key) == *log,
        Some(before) => {
            entry.previous == before.sha256 && entry.not_before > before.entry.not_before
        }
    };
    match follows {
        true => Ok(entry),
        false => Err((
            FindingKind::BrokenChain,
            "it does not follow the entry before it".to_owned(),
        )),
    }
}

/// An object as read, with its signature.
pub(super) struct ReadObject {
    pub(super) key: HostObjectKey,
    pub(super) json: Option<Vec<u8>>,
    pub(super) signature: Option<Vec<u8>>,
    pub(super) notes: Notes,
}

pub(super) async fn read_signed(store: &AnyStore, key: HostObjectKey) -> ReadObject {
    let mut notes = Notes::default();
    let json = fetch(store, &key.to_string(), MAX_HOST_OBJECT_BYTES, &mut notes).await;
    let name = key.sig().to_string();
    let signature = fetch(store, &name, MAX_SIGNATURE_BYTES, &mut notes).await;
    ReadObject {
        key,
        json: json.map(|body| body.to_vec()),
        signature: signature.map(|body| body.to_vec()),
        notes,
    }
}

/// Digests that key log entries name.
pub(super) fn anchors(keys: &HostKeys) -> HashMap<(LogId, u64), (Digest, String)> {
    let mut anchors = HashMap::new();
    for (log, keys) in keys.logs() {
        for key in keys {
            if let Some(head) = key.entry.digest {
                let by = format!("key log entry {:06}", key.entry.number);
                anchors.insert((log.clone(), head.number), (head.sha256, by));
            }
        }
    }
    anchors
}
