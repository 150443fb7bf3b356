//! Entries of a host's key log.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{DigestHead, HostObjectError, LogId, SignedBy, from_json, to_json};
use crate::digest::Digest;
use crate::signature::PublicKey;

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
