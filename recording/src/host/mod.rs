//! What a host says of itself beside its recordings: its key log and its digest
//! chain. Together they show when a recording, or a whole day, was removed,
//! rolled back or sealed again later.
//!
//! # Objects
//!
//! ```text
//! v1/host=<host id>/keys/log=<log id>/000000.json(.sig)                     key log
//! v1/host=<host id>/digest/log=<log id>/date=YYYY-MM-DD/000000.json(.sig)   digest chain
//! ```
//!
//! The log id is the first 16 hexadecimal digits of SHA-256 over the first
//! public key's text (`ssh-ed25519 AAAA…`): a log names its own root, and a host
//! that lost its state begins another one instead of writing into the old one.
//! Numbers count from 0 through the whole log; the date of a digest is that of
//! its `time`. Every `.json` has its signature beside it in the `.sig`.
//!
//! # Key log
//!
//! A host signs with one key at a time ([`KeyEntry`]). Entry 0 is signed by the
//! key it introduces. Every further entry is signed by the key **before** it,
//! which is destroyed right afterwards; it holds the digest of the entry before
//! (`previous`), and number and digest of the newest object of the digest chain
//! (`digest`). Key *n* is valid from its entry's `not_before` until that of
//! entry *n+1*; whatever it signs has its time (`sealed_at`, `time`) in between.
//!
//! # Digest chain
//!
//! At its start and stop, before every change of the key and at an interval
//! between, the agent signs a [`HostDigest`]: the digest of the one before
//! (`previous`), every manifest sealed since (key and SHA-256), every session
//! going on with the chain head of what the store has acknowledged, and what is
//! sealed and still waiting for the store.
//!
//! # Why yesterday cannot be sealed again
//!
//! Who steals key *n* can sign, from now on, in the host's name. What was signed
//! before key *n* began is out of reach: a manifest of that time needs a key
//! that no longer exists, because the key that signs has to be the one of the
//! manifest's time (the check that journald lacked, CVE-2023-31439). A manifest
//! of yesterday, sealed again with today's time, is not the one that yesterday's
//! digests list. Those digests cannot be replaced or cut off either: entry *n*
//! names the newest of them, and entry *n* is signed by key *n-1*.
//!
//! What remains in reach of the thief is the time since key *n* began. There
//! the store holds (objects are created and never replaced; with Object Lock not
//! deleted either), and the chain heads that a collector got while sessions ran.
//! A copy of the whole store from an earlier moment is consistent in itself;
//! that it is old shows against a digest that somebody outside remembers
//! ([`DigestHead`]), such as a collector: hosts register their keys with it, and
//! the head of their digest chain.

mod digest;
mod key_log;
mod name;
mod signer;

use serde::{Deserialize, Serialize};

pub use digest::{
    DIGEST_FORMAT, DigestContent, DigestReason, HostDigest, OpenSession, SealedManifest,
};
pub use key_log::{KEY_FORMAT, KeyEntry, SignedEntry};
pub use name::{HostObject, HostObjectKey, LogId};
pub(crate) use name::{digest_folder, keys_folder};
pub use signer::{HostSigner, SignedObject, SignerError, SignerState};

use crate::digest::Digest;

/// Largest key log entry or digest a reader takes, bytes.
pub const MAX_HOST_OBJECT_BYTES: u64 = 64 << 20;

/// Which digest was the newest at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestHead {
    /// Its number.
    pub number: u64,
    /// SHA-256 of its JSON as stored.
    pub sha256: Digest,
}

/// Which key signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedBy {
    /// The key log.
    pub log: LogId,
    /// Number of the key in it.
    pub number: u64,
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
}

/// An object that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum HostObjectError {
    /// No JSON of this shape.
    #[error("not readable: {0}")]
    Json(#[from] serde_json::Error),
    /// Another format.
    #[error("it has format `{0}`")]
    UnknownFormat(String),
    /// A first entry of a key log that does not introduce its own key, or one
    /// that names another key than it has.
    #[error("it contradicts itself")]
    Contradictory,
}

fn to_json<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(value).map(|json| json + "\n")
}

fn from_json<T: serde::de::DeserializeOwned>(
    json: &[u8],
    known: &str,
) -> Result<T, HostObjectError> {
    #[derive(Deserialize)]
    struct AnyFormat {
        format: String,
    }
    let AnyFormat { format } = serde_json::from_slice(json)?;
    if format != known {
        return Err(HostObjectError::UnknownFormat(format));
    }
    Ok(serde_json::from_slice(json)?)
}
