//! Signatures that `ssh-keygen -Y verify` checks: SSHSIG with Ed25519.
//!
//! The format of keys and signatures is OpenSSH's (`PROTOCOL.key`,
//! `PROTOCOL.sshsig`); the message is hashed with SHA-512, as `ssh-keygen -Y
//! sign` does. A signature is only good in the namespace it was made for, so
//! that none can stand for something else.

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey, KeypairData};
use ssh_key::public::{Ed25519PublicKey, KeyData};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, Signature, SshSig};

/// Namespace of signatures over manifests.
pub const MANIFEST_NAMESPACE: &str = "auditty-manifest@v1";

/// Namespace of signatures over entries of a host's key log.
pub const KEY_NAMESPACE: &str = "auditty-key@v1";

/// Namespace of signatures over a host's digests.
pub const DIGEST_NAMESPACE: &str = "auditty-digest@v1";

/// Largest signature a reader takes, bytes; they have about 300.
pub const MAX_SIGNATURE_BYTES: u64 = 4 << 10;

/// Why a signature or a key is no good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No OpenSSH key or signature.
    #[error("not an OpenSSH {what}: {problem}")]
    Malformed {
        /// `key` or `signature`.
        what: &'static str,
        /// What the parser says.
        problem: String,
    },
    /// Another algorithm than Ed25519.
    #[error("its algorithm is `{0}`; only ssh-ed25519 is used here")]
    Algorithm(String),
    /// Made for something else.
    #[error("it was made for `{found}`, not for `{expected}`")]
    Namespace {
        /// The namespace asked for.
        expected: String,
        /// The one it has.
        found: String,
    },
    /// Made by another key.
    #[error("it was made by the key {0}")]
    OtherKey(PublicKey),
    /// The content or the signature was changed.
    #[error("it does not fit the content")]
    Mismatch,
    /// No randomness, or the library refuses.
    #[error("the key cannot be used: {0}")]
    Key(String),
}

fn malformed(what: &'static str) -> impl Fn(ssh_key::Error) -> SignatureError {
    move |error| SignatureError::Malformed {
        what,
        problem: error.to_string(),
    }
}

/// A public key, `ssh-ed25519 AAAA…` in text and JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; Ed25519PublicKey::BYTE_SIZE]);

impl PublicKey {
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        self.data().fingerprint(HashAlg::Sha256).to_string()
    }

    fn data(&self) -> KeyData {
        KeyData::Ed25519(Ed25519PublicKey(self.0))
    }

    fn of(data: &KeyData) -> Result<Self, SignatureError> {
        data.ed25519()
            .map(|key| Self(key.0))
            .ok_or_else(|| SignatureError::Algorithm(data.algorithm().to_string()))
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verify(
        &self,
        namespace: &str,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        match verify(namespace, message, signature)? {
            key if key == *self => Ok(()),
            other => Err(SignatureError::OtherKey(other)),
        }
    }
}

/// The key that made `signature` over `message`. Whether that key may is the
/// caller's question.
pub fn verify(
    namespace: &str,
    message: &[u8],
    signature: &[u8],
) -> Result<PublicKey, SignatureError> {
    let text = signature;
    let signature = SshSig::from_pem(text).map_err(malformed("signature"))?;
    if !is_canonical(&signature, text) {
        return Err(SignatureError::Mismatch);
    }
    if signature.namespace() != namespace {
        return Err(SignatureError::Namespace {
            expected: namespace.to_owned(),
            found: signature.namespace().to_owned(),
        });
    }
    let key = PublicKey::of(signature.public_key())?;
    let signed = SshSig::signed_data(namespace, signature.hash_alg(), message)
        .map_err(malformed("signature"))?;
    UnparsedPublicKey::new(&ED25519, key.0)
        .verify(&signed, signature.signature_bytes())
        .map_err(|_| SignatureError::Mismatch)?;
    Ok(key)
}

/// Whether `text` is the one way to write this signature, line breaks aside.
fn is_canonical(signature: &SshSig, text: &[u8]) -> bool {
    let visible = |text: &[u8]| -> Vec<u8> {
        let bytes = text.iter().copied();
        bytes.filter(|byte| !byte.is_ascii_whitespace()).collect()
    };
    signature
        .to_pem(LineEnding::LF)
        .is_ok_and(|written| visible(written.as_bytes()) == visible(text))
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = ssh_key::PublicKey::from(self.data())
            .to_openssh()
            .map_err(|_| fmt::Error)?;
        f.write_str(text.trim_end())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for PublicKey {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let key = ssh_key::PublicKey::from_openssh(text).map_err(malformed("key"))?;
        Self::of(key.key_data())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// A private key. Its only text form is the OpenSSH key file.
pub struct SigningKey {
    seed: Ed25519PrivateKey,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// A new key.
    pub fn generate() -> Result<Self, SignatureError> {
        let mut seed = [0; Ed25519PrivateKey::BYTE_SIZE];
        aws_lc_rs::rand::fill(&mut seed)
            .map_err(|_| SignatureError::Key("no randomness".to_owned()))?;
        Self::from_seed(Ed25519PrivateKey::from_bytes(&seed))
    }

    fn from_seed(seed: Ed25519PrivateKey) -> Result<Self, SignatureError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref())
            .map_err(|error| SignatureError::Key(error.to_string()))?;
        Ok(Self { seed, pair })
    }

    /// Reads an OpenSSH private key file without a passphrase.
    pub fn from_openssh(text: &[u8]) -> Result<Self, SignatureError> {
        let key = PrivateKey::from_openssh(text).map_err(malformed("key"))?;
        match key.key_data() {
            KeypairData::Ed25519(pair) => Self::from_seed(pair.private.clone()),
            other => Err(SignatureError::Algorithm(
                other
                    .algorithm()
                    .map_or_else(|_| "encrypted".to_owned(), |name| name.to_string()),
            )),
        }
    }

    /// The OpenSSH private key file. It is a secret.
    pub fn to_openssh(&self, comment: &str) -> Result<impl AsRef<str> + use<>, SignatureError> {
        let pair = Ed25519Keypair {
            public: Ed25519PublicKey(self.public().0),
            private: self.seed.clone(),
        };
        PrivateKey::new(KeypairData::Ed25519(pair), comment)
            .and_then(|key| key.to_openssh(LineEnding::LF))
            .map(SecretText)
            .map_err(malformed("key"))
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; Ed25519PublicKey::BYTE_SIZE];
        for (to, from) in bytes.iter_mut().zip(self.pair.public_key().as_ref()) {
            *to = *from;
        }
        PublicKey(bytes)
    }

    /// Signs `message`; the text of a `.sig` file.
    pub fn sign(&self, namespace: &str, message: &[u8]) -> Result<String, SignatureError> {
        let failed = malformed("signature");
        let signed = SshSig::signed_data(namespace, HashAlg::Sha512, message).map_err(&failed)?;
        let bytes = self.pair.sign(&signed);
        let signature =
            Signature::new(Algorithm::Ed25519, bytes.as_ref().to_vec()).map_err(&failed)?;
        let signature = SshSig::new(self.public().data(), namespace, HashAlg::Sha512, signature)
            .map_err(&failed)?;
        let mut pem = signature.to_pem(LineEnding::LF).map_err(&failed)?;
        if !pem.ends_with('\n') {
            pem.push('\n');
        }
        Ok(pem)
    }
}

/// Wiped from memory when dropped.
struct SecretText<T>(T);

impl<T: std::ops::Deref<Target = String>> AsRef<str> for SecretText<T> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::{PublicKey, SignatureError, SigningKey, verify};

    #[test]
    fn a_signature_fits_its_key_its_content_and_its_namespace_only() {
        let (key, other) = (
            SigningKey::generate().unwrap(),
            SigningKey::generate().unwrap(),
        );
        let signature = key.sign("a@v1", b"text").unwrap();
        let check = |key: PublicKey, namespace: &str, text: &[u8]| {
            key.verify(namespace, text, signature.as_bytes())
        };
        assert_eq!(check(key.public(), "a@v1", b"text"), Ok(()));
        assert_eq!(
            check(key.public(), "a@v1", b"texT"),
            Err(SignatureError::Mismatch)
        );
        assert_eq!(
            check(other.public(), "a@v1", b"text"),
            Err(SignatureError::OtherKey(key.public()))
        );
        assert!(matches!(
            check(key.public(), "b@v1", b"text"),
            Err(SignatureError::Namespace { .. })
        ));
    }

    #[test]
    fn keys_come_back_from_their_text() {
        let key = SigningKey::generate().unwrap();
        let text = key.to_openssh("web-1").unwrap();
        let back = SigningKey::from_openssh(text.as_ref().as_bytes()).unwrap();
        assert_eq!(back.public(), key.public());
        let public = key.public().to_string();
        assert!(public.starts_with("ssh-ed25519 AAAA"), "{public}");
        assert_eq!(public.parse(), Ok(key.public()));
    }

    #[test]
    fn no_flipped_bit_of_a_signature_passes() {
        let key = SigningKey::generate().unwrap();
        let signature = key.sign("a@v1", b"text").unwrap().into_bytes();
        for at in 0..signature.len() {
            let mut bad = signature.clone();
            bad[at] ^= 1;
            let outcome = verify("a@v1", b"text", &bad);
            assert_ne!(outcome, Ok(key.public()), "byte {at}");
        }
    }
}
