//! Signs in a host's name: manifests, digests, and the next key.
//!
//! Pure: who uses it keeps [`SignerState`] and the key file, in this order. For
//! a digest: keep the new state, then let the object out. For a change of the
//! key: keep the new key file, then the new state, then destroy the old key
//! file. After a crash the kept state says which key and which objects count;
//! objects may be stored again, they are the same.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    DIGEST_FORMAT, DigestContent, DigestHead, HostDigest, HostObject, HostObjectKey, KEY_FORMAT,
    KeyEntry, LogId, SignedBy,
};
use crate::digest::Digest;
use crate::manifest::{Manifest, ManifestError};
use crate::signature::{
    DIGEST_NAMESPACE, KEY_NAMESPACE, MANIFEST_NAMESPACE, SignatureError, SigningKey,
};

/// Why nothing can be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The key does not work.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The kept state is not readable.
    #[error("the kept state is not readable: {0}")]
    Json(#[from] serde_json::Error),
    /// The manifest cannot be written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The kept state is not readable.
    #[error("the kept state is not readable: {0}")]
    Object(#[from] super::HostObjectError),
    /// The key file is not that of the kept state.
    #[error("the key file holds another key than the newest of the key log")]
    OtherKey,
    /// The kept state is of another host.
    #[error("the key log is that of the host {0}")]
    OtherHost(String),
}

/// An object with its signature, as both are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedObject {
    /// Key of the object.
    pub key: HostObjectKey,
    /// Its content.
    pub json: String,
    /// Content of its `.sig`.
    pub signature: String,
}

/// What must be remembered to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignerState {
    /// The newest entry of the key log.
    pub entry: SignedObject,
    /// The newest digest.
    pub digest: Option<SignedObject>,
}

/// Signs in a host's name.
#[derive(Debug)]
pub struct HostSigner {
    key: SigningKey,
    entry: KeyEntry,
    digest: Option<DigestHead>,
    state: SignerState,
    /// No signature has an earlier time, whatever the wall clock does.
    latest: Timestamp,
}

impl HostSigner {
    /// Begins a key log.
    pub fn begin(host_id: &str, key: SigningKey, now: Timestamp) -> Result<Self, SignerError> {
        let entry = KeyEntry {
            format: KEY_FORMAT.to_owned(),
            host_id: host_id.to_owned(),
            log: LogId::of(&key.public()),
            number: 0,
            public_key: key.public(),
            fingerprint: key.public().fingerprint(),
            not_before: whole_second(now),
            previous: Digest::ZERO,
            digest: None,
        };
        let signed = sign_entry(&key, &entry)?;
        let state = SignerState {
            entry: signed,
            digest: None,
        };
        Self::new(key, entry, state)
    }

    /// Goes on from what was kept.
    pub fn resume(host_id: &str, state: SignerState, key: SigningKey) -> Result<Self, SignerError> {
        let entry = KeyEntry::from_json(state.entry.json.as_bytes())?;
        if entry.host_id != host_id {
            return Err(SignerError::OtherHost(entry.host_id));
        }
        if entry.public_key != key.public() {
            return Err(SignerError::OtherKey);
        }
        Self::new(key, entry, state)
    }

    fn new(key: SigningKey, entry: KeyEntry, state: SignerState) -> Result<Self, SignerError> {
        let mut latest = entry.not_before;
        let digest = match &state.digest {
            None => None,
            Some(signed) => {
                let digest = HostDigest::from_json(signed.json.as_bytes())?;
                latest = latest.max(digest.time);
                Some(DigestHead {
                    number: digest.number,
                    sha256: Digest::of(signed.json.as_bytes()),
                })
            }
        };
        Ok(Self {
            key,
            entry,
            digest,
            state,
            latest,
        })
    }

    /// What must be kept.
    pub fn state(&self) -> &SignerState {
        &self.state
    }

    /// The newest entry of the key log.
    pub fn entry(&self) -> &KeyEntry {
        &self.entry
    }

    /// The OpenSSH private key file. It is a secret.
    pub fn private_key(&self) -> Result<impl AsRef<str> + use<>, SignerError> {
        let comment = format!("{} {:06}", self.entry.host_id, self.entry.number);
        Ok(self.key.to_openssh(&comment)?)
    }

    /// How it is named in what it signs.
    pub fn signed_by(&self) -> SignedBy {
        self.entry.signed_by()
    }

    /// Whether the key is older than `lifetime`.
    pub fn is_due(&self, now: Timestamp, lifetime: SignedDuration) -> bool {
        now.duration_since(self.entry.not_before) >= lifetime
    }

    fn stamp(&mut self, now: Timestamp) -> Timestamp {
        self.latest = self.latest.max(now);
        self.latest
    }

    /// Seals a manifest: sets who signs and when, and gives its JSON and the
    /// content of its `.sig`.
    pub fn seal(
        &mut self,
        manifest: &mut Manifest,
        now: Timestamp,
    ) -> Result<(Vec<u8>, String), SignerError> {
        manifest.sealed_at = self.stamp(now);
        manifest.signed_by = Some(self.signed_by());
        let json = manifest.to_json()?;
        let signature = self.key.sign(MANIFEST_NAMESPACE, &json)?;
        Ok((json, signature))
    }

    /// The state with one more digest. It counts when it was kept and given to
    /// [`HostSigner::adopt`].
    pub fn digest(
        &mut self,
        content: DigestContent,
        now: Timestamp,
    ) -> Result<SignerState, SignerError> {
        let time = self.stamp(now);
        let digest = HostDigest {
            format: DIGEST_FORMAT.to_owned(),
            host_id: self.entry.host_id.clone(),
            number: self.digest.map_or(0, |head| head.number + 1),
            time,
            previous: self.digest.map_or(Digest::ZERO, |head| head.sha256),
            signed_by: self.signed_by(),
            content,
        };
        let json = digest.to_json()?;
        let object = HostObject::Digest {
            log: self.entry.log.clone(),
            date: time.to_zoned(TimeZone::UTC).date(),
            number: digest.number,
        };
        Ok(SignerState {
            entry: self.state.entry.clone(),
            digest: Some(SignedObject {
                key: object_key(&self.entry.host_id, object),
                signature: self.key.sign(DIGEST_NAMESPACE, json.as_bytes())?,
                json,
            }),
        })
    }

    /// Takes a state that was kept.
    pub fn adopt(&mut self, state: SignerState) -> Result<(), SignerError> {
        let digest = match &state.digest {
            None => None,
            Some(signed) => Some(DigestHead {
                number: HostDigest::from_json(signed.json.as_bytes())?.number,
                sha256: Digest::of(signed.json.as_bytes()),
            }),
        };
        (self.digest, self.state) = (digest, state);
        Ok(())
    }

    /// The signer that follows with `next` as its key, certified by this one.
    /// It counts when its state was kept; this one's key is to be destroyed
    /// then.
    pub fn succeed(&self, next: SigningKey, now: Timestamp) -> Result<Self, SignerError> {
        // Behind everything that the old key has signed.
        let after = self.latest.max(now) + SignedDuration::from_secs(1);
        let entry = KeyEntry {
            number: self.entry.number + 1,
            public_key: next.public(),
            fingerprint: next.public().fingerprint(),
            not_before: whole_second(after),
            previous: Digest::of(self.state.entry.json.as_bytes()),
            digest: self.digest,
            ..self.entry.clone()
        };
        let state = SignerState {
            entry: sign_entry(&self.key, &entry)?,
            digest: self.state.digest.clone(),
        };
        Self::new(next, entry, state)
    }
}

fn sign_entry(by: &SigningKey, entry: &KeyEntry) -> Result<SignedObject, SignerError> {
    let json = entry.to_json()?;
    let object = HostObject::Key {
        log: entry.log.clone(),
        number: entry.number,
    };
    Ok(SignedObject {
        key: object_key(&entry.host_id, object),
        signature: by.sign(KEY_NAMESPACE, json.as_bytes())?,
        json,
    })
}

fn object_key(host_id: &str, object: HostObject) -> HostObjectKey {
    HostObjectKey {
        host_id: host_id.to_owned(),
        object,
        signature: false,
    }
}

/// `ssh-keygen` knows seconds only.
fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
