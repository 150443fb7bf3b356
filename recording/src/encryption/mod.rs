//! Recordings that only auditors can read.
//!
//! A host with `[encryption]` writes what happens in a session only encrypted: to
//! the public keys of those who may read it ([`Recipient`]), as files of
//! [age](https://age-encryption.org/v1). It has none of the private keys
//! ([`Identities`]), so it cannot read back what it wrote; stock `age` can.
//! [`crate::format`] says what is encrypted and what stays readable.

mod identities;
mod recipients;

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

pub use identities::{Identities, IdentityError};
pub use recipients::{MAX_RECIPIENTS, Recipient, RecipientError, Recipients};

/// From a chunk on, to whom a recording is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptedTo {
    /// Number of the first chunk.
    pub from_chunk: u32,
    /// Public keys that open it: `age1…`, `ssh-ed25519 AAAA…`, `ssh-rsa AAAA…`.
    pub recipients: Vec<String>,
    /// Public keys that open what the client typed, where these are others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub input_recipients: Vec<String>,
}

/// Encrypts what `content` writes; the whole age file.
///
/// # Errors
/// `content` failed, or the keys take no file.
pub fn encrypt(
    to: &[Recipient],
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    let keys = to.iter().map(Recipient::key);
    let encryptor = age::Encryptor::with_recipients(keys).map_err(io::Error::other)?;
    let mut file = encryptor.wrap_output(Vec::new())?;
    content(&mut file)?;
    file.finish()
}
