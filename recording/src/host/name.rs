//! Object keys of the key log and the digest chain.

use std::{fmt, str::FromStr};

use jiff::civil::Date;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::digest::Digest;
use crate::escape;
use crate::key::{KeyError, MAX_HOST_ID_BYTES, ROOT, host_folder};
use crate::signature::PublicKey;

/// Hexadecimal digits of a log id.
const LOG_ID_DIGITS: usize = 16;

/// Names a key log by its first key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(String);

impl LogId {
    /// The id of the log that begins with this key.
    pub fn of(root: &PublicKey) -> Self {
        let digest = Digest::of(root.to_string().as_bytes()).to_string();
        Self(digest.chars().take(LOG_ID_DIGITS).collect())
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LogId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match text.len() == LOG_ID_DIGITS && text.bytes().all(hex) {
            true => Ok(Self(text.to_owned())),
            false => Err(KeyError::Malformed(text.to_owned())),
        }
    }
}

impl Serialize for LogId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LogId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// An entry of a key log, or a digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostObject {
    /// Entry of a key log.
    Key {
        /// The log.
        log: LogId,
        /// Number, from 0.
        number: u64,
    },
    /// An object of the digest chain.
    Digest {
        /// The key log it belongs to.
        log: LogId,
        /// UTC date of its time.
        date: Date,
        /// Number, from 0.
        number: u64,
    },
}

/// The key of such an object or of its signature, without the store's prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostObjectKey {
    /// The host, not percent-encoded.
    pub host_id: String,
    /// The object.
    pub object: HostObject,
    /// Its signature, not the object itself.
    pub signature: bool,
}

impl HostObjectKey {
    /// The same object's signature.
    #[must_use]
    pub fn sig(&self) -> Self {
        Self {
            signature: true,
            ..self.clone()
        }
    }
}

/// The folder of a host's key logs.
pub(crate) fn keys_folder(host_id: &str) -> String {
    format!("{}keys/", host_folder(host_id))
}

/// The folder of a host's digests.
pub(crate) fn digest_folder(host_id: &str) -> String {
    format!("{}digest/", host_folder(host_id))
}

impl fmt::Display for HostObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object {
            HostObject::Key { log, number } => {
                let folder = keys_folder(&self.host_id);
                write!(f, "{folder}log={log}/{number:06}.json")?;
            }
            HostObject::Digest { log, date, number } => {
                let folder = digest_folder(&self.host_id);
                write!(f, "{folder}log={log}/date={date}/{number:06}.json")?;
            }
        }
        f.write_str(if self.signature { ".sig" } else { "" })
    }
}

impl FromStr for HostObjectKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        parse(text)
            .filter(|key| key.to_string() == text)
            .ok_or_else(|| KeyError::Malformed(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<HostObjectKey> {
    let mut parts = text.strip_prefix(ROOT)?.split('/');
    let host_id = escape::unpercent(parts.next()?.strip_prefix("host=")?)?;
    if host_id.is_empty() || escape::percent(&host_id, "").len() > MAX_HOST_ID_BYTES {
        return None;
    }
    let kind = parts.next()?;
    let log = parts.next()?.strip_prefix("log=")?.parse().ok()?;
    let date = match kind {
        "keys" => None,
        "digest" => Some(parts.next()?.strip_prefix("date=")?.parse().ok()?),
        _ => return None,
    };
    let name = parts.next()?;
    let (name, signature) = match name.strip_suffix(".sig") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let number = name.strip_suffix(".json")?.parse().ok()?;
    let object = match date {
        None => HostObject::Key { log, number },
        Some(date) => HostObject::Digest { log, date, number },
    };
    parts.next().is_none().then_some(HostObjectKey {
        host_id,
        object,
        signature,
    })
}

impl Serialize for HostObjectKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostObjectKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{HostObject, HostObjectKey};

    #[test]
    fn keys_read_as_specified_and_come_back() {
        let log: super::LogId = "0123456789abcdef".parse().unwrap();
        let key = HostObjectKey {
            host_id: "a/b".to_owned(),
            object: HostObject::Key {
                log: log.clone(),
                number: 7,
            },
            signature: true,
        };
        let text = "v1/host=a%2Fb/keys/log=0123456789abcdef/000007.json.sig";
        assert_eq!(key.to_string(), text);
        assert_eq!(text.parse(), Ok(key));
        let key = HostObjectKey {
            host_id: "h".to_owned(),
            object: HostObject::Digest {
                log,
                date: "2026-11-21".parse().unwrap(),
                number: 1_234_567,
            },
            signature: false,
        };
        let text = "v1/host=h/digest/log=0123456789abcdef/date=2026-11-21/1234567.json";
        assert_eq!(key.to_string(), text);
        assert_eq!(text.parse(), Ok(key));
        for bad in [
            "v1/host=h/digest/log=0123456789abcdef/000001.json",
            "v1/host=h/keys/log=0123456789ABCDEF/000001.json",
            "v1/host=h/keys/log=0123456789abcdef/1.json",
            "v1/host=h/keys/log=0123456789abcdef/000001.json.sig.sig",
            "v1/host=/keys/log=0123456789abcdef/000001.json",
        ] {
            assert!(bad.parse::<HostObjectKey>().is_err(), "{bad}");
        }
    }
}
