//! What a collector vouches for: that it knew so much of a recording at that
//! moment of its own clock.
//!
//! A receipt is a line of JSON and an OpenSSH signature over it, in the
//! namespace [`RECEIPT_NAMESPACE`]:
//!
//! ```text
//! {"format":"auditty.receipt/1","recording":"v1/host=web-1/date=…/session=…/",
//!  "chunks":3,"chain_head":"<64 hex>","time":"2026-01-31T10:20:30Z",
//!  "collector":"SHA256:…"}
//! ```
//!
//! The chain head covers all chunks up to it, so whoever rewrites one of them
//! afterwards, even with the host's own key, contradicts the receipt. A reader
//! refuses a `format` it does not know.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::key::SessionKey;
use crate::signature::{PublicKey, SignatureError, SigningKey};

/// Name and version of the format.
pub const RECEIPT_FORMAT: &str = "auditty.receipt/1";

/// Namespace of the signature.
pub const RECEIPT_NAMESPACE: &str = "auditty-receipt@v1";

/// Largest receipt a reader takes, bytes: the longest key, and the rest.
const MAX_RECEIPT_BYTES: usize = 4 << 10;

/// Why there is no receipt.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// No JSON of this shape.
    #[error("the receipt is not readable: {0}")]
    Json(#[from] serde_json::Error),
    /// Another format.
    #[error("the receipt has format `{0}`")]
    UnknownFormat(String),
    /// More than a receipt can be.
    #[error("the receipt has {0} bytes")]
    TooLarge(usize),
    /// The signature is not the key's, or cannot be made.
    #[error("the receipt's signature: {0}")]
    Signature(#[from] SignatureError),
    /// It names another key than the one that signed.
    #[error("the receipt says that {0} signed it")]
    OtherKey(String),
}

/// What a collector knew of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// [`RECEIPT_FORMAT`].
    pub format: String,
    /// The recording's folder.
    pub recording: SessionKey,
    /// Chunks that its agent reported as stored.
    pub chunks: u32,
    /// Chain head after them.
    pub chain_head: Digest,
    /// When the collector got to know it, by its own clock.
    pub time: Timestamp,
    /// Fingerprint of the collector's key, `SHA256:…`.
    pub collector: String,
}

/// A receipt as it is kept and handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedReceipt {
    /// The line of JSON, without a line feed.
    pub json: String,
    /// Text of the OpenSSH signature over it.
    pub signature: String,
}

impl SignedReceipt {
    /// Signs what is known.
    pub fn sign(
        key: &SigningKey,
        recording: SessionKey,
        chunks: u32,
        chain_head: Digest,
        time: Timestamp,
    ) -> Result<Self, ReceiptError> {
        let receipt = Receipt {
            format: RECEIPT_FORMAT.to_owned(),
            recording,
            chunks,
            chain_head,
            time,
            collector: key.public().fingerprint(),
        };
        let json = serde_json::to_string(&receipt)?;
        let signature = key.sign(RECEIPT_NAMESPACE, json.as_bytes())?;
        Ok(Self { json, signature })
    }

    /// What it says, when `key` has signed it.
    pub fn verify(&self, key: &PublicKey) -> Result<Receipt, ReceiptError> {
        if self.json.len() > MAX_RECEIPT_BYTES {
            return Err(ReceiptError::TooLarge(self.json.len()));
        }
        key.verify(
            RECEIPT_NAMESPACE,
            self.json.as_bytes(),
            self.signature.as_bytes(),
        )?;
        let receipt: Receipt = serde_json::from_str(&self.json)?;
        if receipt.format != RECEIPT_FORMAT {
            return Err(ReceiptError::UnknownFormat(receipt.format));
        }
        if receipt.collector != key.fingerprint() {
            return Err(ReceiptError::OtherKey(receipt.collector));
        }
        Ok(receipt)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_receipt_counts_as_its_key_signed_it_and_no_other_way() {
        let key = SigningKey::generate().unwrap();
        let time: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let recording = SessionKey::new("web-1", Uuid::now_v7(), time).unwrap();
        let head = Digest::of(b"head");
        let signed = SignedReceipt::sign(&key, recording.clone(), 3, head, time).unwrap();
        let receipt = signed.verify(&key.public()).unwrap();
        assert_eq!(
            (receipt.recording, receipt.chunks, receipt.chain_head),
            (recording, 3, head)
        );
        let other = SigningKey::generate().unwrap();
        assert!(signed.verify(&other.public()).is_err());
        let changed = SignedReceipt {
            json: signed.json.replace("\"chunks\":3", "\"chunks\":2"),
            ..signed
        };
        assert!(changed.verify(&key.public()).is_err());
    }
}
