//! Requests signed with a secret that both sides have.
//!
//! ```text
//! X-Auditty-Signature: t=1767225600,v1=HEX
//!   t   when it was signed, seconds since 1970
//!   v1  HMAC-SHA256 over t as it is written, a full stop, and the body
//! ```
//!
//! `v1` may stand there several times, as while a secret is changed. Within the
//! time that a signature holds a request can be sent again by whoever saw it:
//! that changes nothing, as the same grant again does not.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use auditty_proto::v1::Role;
use aws_lc_rs::hmac;

use crate::access::{Principal, Proof};

/// The header.
pub(crate) const HEADER: &str = "x-auditty-signature";
/// Clocks and networks may take as long, seconds.
const HOLDS: i64 = 300;
/// Shortest secret, bytes: no shorter than the digest.
const MIN_SECRET_LEN: usize = 32;
/// Longest secret, bytes.
const MAX_SECRET_LEN: u64 = 4096;
/// Most signatures of one request.
const MAX_SIGNATURES: usize = 4;

/// A secret, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile {
    /// Who has it.
    pub name: String,
    /// Whose grants it writes; `None` for those without a tenant.
    pub tenant: Option<String>,
    /// Where it is; white space around it does not count.
    pub path: PathBuf,
}

/// A secret cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the secret {}: {reason}", path.display())]
pub struct SecretError {
    path: PathBuf,
    reason: String,
}

/// A secret that this side signs with, or verifies.
pub(crate) struct SharedSecret(hmac::Key);

impl SharedSecret {
    /// Reads it; an error says what is wrong with the file.
    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        let secret = secret(path).map_err(|error| error.to_string())?;
        if secret.len() < MIN_SECRET_LEN {
            return Err(format!(
                "has {} bytes, at least {MIN_SECRET_LEN} are needed, such as of `openssl rand -hex 32`",
                secret.len()
            ));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
    }

    /// The header of a body that is signed at `time`, seconds since 1970.
    pub(crate) fn sign(&self, time: i64, body: &[u8]) -> String {
        let message = [time.to_string().as_bytes(), b".", body].concat();
        let signature = hmac::sign(&self.0, &message);
        let digits = signature.as_ref().iter().map(|byte| format!("{byte:02x}"));
        format!("t={time},v1={}", digits.collect::<String>())
    }
}

/// Secrets that are taken.
#[derive(Default)]
pub struct Secrets(Vec<(Principal, hmac::Key)>);

/// Says whose they are, not what they are.
impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(principal, _)| &principal.name);
        formatter.debug_list().entries(names).finish()
    }
}

impl Secrets {
    /// Reads the files.
    pub fn load(files: &[SecretFile]) -> Result<Self, SecretError> {
        let read = |file: &SecretFile| {
            let principal = Principal {
                name: file.name.clone(),
                tenant: file.tenant.clone(),
                roles: vec![Role::GrantWriter],
                proof: Proof::Signature,
            };
            let failed = |reason: String| SecretError {
                path: file.path.clone(),
                reason,
            };
            let secret = SharedSecret::load(&file.path).map_err(failed)?;
            Ok((principal, secret.0))
        };
        files.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Who signed a body, at `now`, seconds since 1970.
    pub(super) fn principal(
        &self,
        header: &str,
        body: &[u8],
        now: i64,
    ) -> Result<Principal, &'static str> {
        let mut time = None;
        let mut signatures = Vec::new();
        for part in header.split(',') {
            match part.trim().split_once('=') {
                Some(("t", written)) if time.is_none() => time = Some(written),
                Some(("v1", digits)) if signatures.len() < MAX_SIGNATURES => {
                    signatures.push(bytes(digits).ok_or(MALFORMED)?);
                }
                _ => return Err(MALFORMED),
            }
        }
        let written = time.ok_or(MALFORMED)?;
        let signed_at: i64 = written.parse().map_err(|_| MALFORMED)?;
        let mut message = written.as_bytes().to_vec();
        message.push(b'.');
        message.extend_from_slice(body);
        let signed = |key: &hmac::Key| {
            let mut signatures = signatures.iter();
            signatures.any(|signature| hmac::verify(key, &message, signature).is_ok())
        };
        let found = self.0.iter().find(|(_, key)| signed(key));
        let (principal, _) = found.ok_or("the signature is of no secret that is known")?;
        match now.abs_diff(signed_at) <= HOLDS.unsigned_abs() {
            true => Ok(principal.clone()),
            false => Err("the signature's time is more than five minutes away"),
        }
    }
}

const MALFORMED: &str = "the signature is not of the form t=SECONDS,v1=HEX";

fn secret(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > MAX_SECRET_LEN {
        return Err(io::Error::other("is larger than 4 KiB"));
    }
    Ok(fs::read(path)?.trim_ascii().to_vec())
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let at = (0..digits.len()).step_by(2);
    at.map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const NOW: i64 = 1_767_225_600;

    fn secrets() -> Secrets {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        fs::write(&path, [SECRET, b"\n"].concat()).unwrap();
        let file = SecretFile {
            name: "flow".into(),
            tenant: Some("acme".into()),
            path,
        };
        Secrets::load(&[file]).unwrap()
    }

    fn sign(secret: &[u8], time: &str, body: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let message = [time.as_bytes(), b".", body].concat();
        let signature = hmac::sign(&key, &message);
        let digits = signature.as_ref().iter().map(|byte| format!("{byte:02x}"));
        format!("t={time},v1={}", digits.collect::<String>())
    }

    #[test]
    fn only_what_was_signed_with_the_secret_just_now_is_taken() {
        let secrets = secrets();
        let now = NOW.to_string();
        let good = sign(SECRET, &now, b"body");
        // As `openssl dgst -sha256 -hmac` has it.
        assert_eq!(
            good,
            "t=1767225600,v1=03d72ae7460a7ed0381e330e21ebc7d44bc7a6e9dd074207f24edfd1ce1ac584"
        );
        let found = secrets.principal(&good, b"body", NOW).unwrap();
        assert_eq!((&*found.name, found.tenant()), ("flow", "acme"));
        assert_eq!(found.roles, [Role::GrantWriter]);
        assert!(secrets.principal(&good, b"body", NOW + 300).is_ok());
        assert!(secrets.principal(&good, b"body", NOW - 300).is_ok());
        let other = sign(b"another secret that is long enough", &now, b"body");
        let both = format!("{other},{}", &good[good.find("v1").unwrap()..]);
        assert!(secrets.principal(&both, b"body", NOW).is_ok());
        for (header, body, at, word) in [
            (good.as_str(), &b"bodY"[..], NOW, "secret"),
            (other.as_str(), b"body", NOW, "secret"),
            (good.as_str(), b"body", NOW + 301, "minutes"),
            (good.as_str(), b"body", i64::MIN, "minutes"),
            (good.replace("t=1", "t=2").as_str(), b"body", NOW, "secret"),
            ("", b"body", NOW, "form"),
            ("t=1", b"body", NOW, "secret"),
            ("v1=00", b"body", NOW, "form"),
            (good.replace("v1=", "v0=").as_str(), b"body", NOW, "form"),
            (&good[..good.len() - 1], b"body", NOW, "form"),
        ] {
            let refused = secrets.principal(header, body, at).unwrap_err();
            assert!(refused.contains(word), "{header}: {refused}");
        }
    }

    #[test]
    fn a_short_secret_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        fs::write(&path, "short").unwrap();
        let file = SecretFile {
            name: "x".into(),
            tenant: None,
            path,
        };
        let error = Secrets::load(&[file]).unwrap_err().to_string();
        assert!(error.contains("5 bytes"), "{error}");
    }
}
