//! Entries of a host's key log.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{DigestHead, HostObjectError, LogId, SignedBy, from_json, to_json};
use crate::digest::Digest;
use crate::signature::{KEY_NAMESPACE, PublicKey};

/// Name and version of the format of an entry.
pub const KEY_FORMAT: &str = "auditty.key/1";

/// Introduces a signing key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntry {
    /// [`KEY_FORMAT`].
    pub format: String,
    /// The host, not percent-encoded.
    pub host_id: String,
    /// The log.
    pub log: LogId,
    /// Number in the log, from 0.
    pub number: u64,
    /// The key.
    pub public_key: PublicKey,
    /// Its fingerprint, `SHA256:…`.
    pub fingerprint: String,
    /// Begin of its validity, in whole seconds; the end is the next entry's.
    pub not_before: Timestamp,
    /// SHA-256 of the entry before, as stored; zero for entry 0.
    pub previous: Digest,
    /// The newest digest when this key began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<DigestHead>,
}

impl KeyEntry {
    /// How a signature's maker is named.
    pub fn signed_by(&self) -> SignedBy {
        SignedBy {
            log: self.log.clone(),
            number: self.number,
            fingerprint: self.fingerprint.clone(),
        }
    }

    /// JSON as stored.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        to_json(self)
    }

    /// Reads an entry.
    pub fn from_json(json: &[u8]) -> Result<Self, HostObjectError> {
        from_json(json, KEY_FORMAT)
    }
}

/// An entry with its signature, as it is handed to somebody who keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedEntry {
    /// What it says.
    pub entry: KeyEntry,
    /// SHA-256 of its JSON as stored.
    pub sha256: Digest,
    json: String,
    signature: String,
}

impl SignedEntry {
    /// Reads an entry. The first one of a log has to be signed by its own key;
    /// for the others [`SignedEntry::is_certified_by`] tells.
    pub fn read(json: String, signature: String) -> Result<Self, HostObjectError> {
        let entry = KeyEntry::from_json(json.as_bytes())?;
        let signed = Self {
            sha256: Digest::of(json.as_bytes()),
            entry,
            json,
            signature,
        };
        let KeyEntry {
            number,
            previous,
            public_key,
            log,
            fingerprint,
            ..
        } = &signed.entry;
        let own = *fingerprint == public_key.fingerprint();
        let begins = *previous == Digest::ZERO
            && LogId::of(public_key) == *log
            && signed.is_signed_by(public_key);
        match own && (*number > 0 || begins) {
            true => Ok(signed),
            false => Err(HostObjectError::Contradictory),
        }
    }

    /// Whether it follows this entry: signed by its key, and naming its digest.
    pub fn is_certified_by(&self, key: &PublicKey, sha256: Digest) -> bool {
        self.entry.previous == sha256 && self.is_signed_by(key)
    }

    fn is_signed_by(&self, key: &PublicKey) -> bool {
        let (json, signature) = (self.json.as_bytes(), self.signature.as_bytes());
        key.verify(KEY_NAMESPACE, json, signature).is_ok()
    }
}
