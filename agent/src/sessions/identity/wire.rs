//! The encoding of SSH keys and messages (RFC 4251 §5), as sshd's processes
//! exchange them: big-endian integers, strings with a `u32` length before them.
//! Short or damaged input gives `None`, never a panic.

use auditty_recording::session::Certificate;
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// OpenSSH's own limit (`SSHKEY_CERT_MAX_PRINCIPALS`, sshkey.h).
const MAX_PRINCIPALS: usize = 256;

/// Takes fields from the front of a message.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_be_bytes)
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.take(usize::try_from(len).ok()?)
    }

    /// A string of which the end may be missing.
    pub(super) fn string_start(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        self.take(len.min(self.0.len()))
    }
}

/// A key as presented at login, or the certificate around it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Key {
    pub fingerprint: String,
    pub key_type: String,
    pub certificate: Option<Certificate>,
}

impl Key {
    /// Decodes a key blob. A type nobody knows is still a key with a
    /// fingerprint; a certificate of unknown type is not, as its certified key
    /// cannot be found in it.
    pub(super) fn decode(blob: &[u8]) -> Option<Self> {
        let mut reader = Reader(blob);
        let key_type = std::str::from_utf8(reader.string()?).ok()?;
        if key_type.contains("-cert-v") {
            return decode_certificate(key_type, reader);
        }
        Some(Self {
            fingerprint: fingerprint(blob),
            key_type: printable(key_type.as_bytes()),
            certificate: None,
        })
    }
}

/// Plain key type and number of the key's own fields for each type of
/// certificate (OpenSSH's PROTOCOL.certkeys and PROTOCOL.u2f).
fn certified(certificate_type: &str) -> Option<(&'static str, usize)> {
    Some(match certificate_type {
        "ssh-ed25519-cert-v01@openssh.com" => ("ssh-ed25519", 1),
        "ssh-rsa-cert-v01@openssh.com" => ("ssh-rsa", 2),
        "ssh-dss-cert-v01@openssh.com" => ("ssh-dss", 4),
        "ecdsa-sha2-nistp256-cert-v01@openssh.com" => ("ecdsa-sha2-nistp256", 2),
        "ecdsa-sha2-nistp384-cert-v01@openssh.com" => ("ecdsa-sha2-nistp384", 2),
        "ecdsa-sha2-nistp521-cert-v01@openssh.com" => ("ecdsa-sha2-nistp521", 2),
        "sk-ssh-ed25519-cert-v01@openssh.com" => ("sk-ssh-ed25519@openssh.com", 2),
        "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com" => ("sk-ecdsa-sha2-nistp256@openssh.com", 3),
        _ => return None,
    })
}

fn decode_certificate(certificate_type: &str, mut reader: Reader<'_>) -> Option<Key> {
    let (key_type, fields) = certified(certificate_type)?;
    let _nonce = reader.string()?;
    let mut plain = Vec::new();
    put_string(&mut plain, key_type.as_bytes());
    for _ in 0..fields {
        put_string(&mut plain, reader.string()?);
    }
    let serial = reader.u64()?;
    let _user_or_host = reader.u32()?;
    let key_id = printable(reader.string()?);
    let mut names = Reader(reader.string()?);
    let mut principals = Vec::new();
    while !names.0.is_empty() && principals.len() < MAX_PRINCIPALS {
        principals.push(printable(names.string()?));
    }
    let valid_after = reader.u64()?;
    let valid_before = reader.u64()?;
    for _critical_extensions_reserved in 0..3 {
        reader.string()?;
    }
    let authority = reader.string()?;
    Some(Key {
        fingerprint: fingerprint(&plain),
        key_type: key_type.to_owned(),
        certificate: Some(Certificate {
            key_id,
            serial,
            ca_fingerprint: fingerprint(authority),
            principals,
            valid_after: moment(valid_after).filter(|_| valid_after != 0),
            valid_before: moment(valid_before),
        }),
    })
}

/// Seconds since 1970; `None` beyond the calendar, where it means for ever.
fn moment(seconds: u64) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(bytes);
}

/// `SHA256:` and unpadded base64, as `ssh-keygen -l` prints it.
fn fingerprint(blob: &[u8]) -> String {
    let hash = digest(&SHA256, blob);
    format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(hash))
}

/// The text as it is; where it is not UTF-8 the offending bytes as `\xNN`.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
pub(super) fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_string(&mut out, bytes);
    out
}
