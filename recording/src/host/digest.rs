//! Objects of a host's digest chain.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{HostObjectError, SignedBy, from_json, to_json};
use crate::digest::Digest;
use crate::key::{ObjectKey, SessionKey};

/// Name and version of the format of a digest.
pub const DIGEST_FORMAT: &str = "auditty.digest/1";

/// Why a digest was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DigestReason {
    /// The agent started.
    Start,
    /// The time had come.
    #[default]
    Interval,
    /// The signing key is about to change.
    Rotation,
    /// The agent stops.
    Stop,
}

/// A session that goes on: what the store has acknowledged of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession {
    /// Its folder.
    pub session: SessionKey,
    /// Chunks in the store.
    pub chunks: u32,
    /// Chain head after them; zero without chunks.
    pub chain_head: Digest,
}

/// A manifest, as it was sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedManifest {
    /// Its object key.
    pub manifest: ObjectKey,
    /// Its SHA-256.
    pub sha256: Digest,
}

/// What a digest says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestContent {
    /// Why it was made.
    pub reason: DigestReason,
    /// Boot id of the kernel.
    pub boot_id: String,
    /// Version of the agent.
    pub agent_version: String,
    /// SHA-256 over the settings in effect, as this version of the agent prints
    /// them: shows that they changed, not what.
    pub configuration: Digest,
    /// Sessions going on.
    pub open: Vec<OpenSession>,
    /// Manifests sealed since the digest before, checkpoints too.
    pub sealed: Vec<SealedManifest>,
    /// Sessions that are over, or were recorded by an agent before, and of which
    /// the store does not have everything yet.
    pub waiting: Vec<SessionKey>,
    /// What the agent counts.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
}

/// An object of the digest chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDigest {
    /// [`DIGEST_FORMAT`].
    pub format: String,
    /// The host, not percent-encoded.
    pub host_id: String,
    /// Number in the chain, from 0.
    pub number: u64,
    /// When it was made.
    pub time: Timestamp,
    /// SHA-256 of the digest before, as stored; zero for number 0.
    pub previous: Digest,
    /// Who signed.
    pub signed_by: SignedBy,
    /// What it says.
    #[serde(flatten)]
    pub content: DigestContent,
}

impl HostDigest {
    /// JSON as stored.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        to_json(self)
    }

    /// Reads a digest.
    pub fn from_json(json: &[u8]) -> Result<Self, HostObjectError> {
        from_json(json, DIGEST_FORMAT)
    }
}
