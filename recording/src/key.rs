//! Object keys of a recording, as types.
//!
//! ```text
//! v1/host=<host id>/date=YYYY-MM-DD/session=<uuid>/000000.jsonl.zst
//!                                                  000000.jsonl.zst.age
//!                                                  000001.input.jsonl.zst.age
//!                                                  manifest-000003.json(.sig)
//!                                                  manifest.json(.sig)
//!                                                  SHA256SUMS
//! ```
//!
//! Keys here never contain the store's prefix: the store adds and removes it.
//! The date is the UTC date of the session's start. A host id is hostile input:
//! every byte outside `A-Z a-z 0-9 . _ -` is percent-encoded (which DuckDB's
//! and Spark's hive partitioning decode), and parsing accepts exactly what
//! formatting produces, so a key and its meaning are one to one.

use std::{fmt, str::FromStr};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use uuid::Uuid;

use crate::escape;

/// The folder of this format version, with its slash.
pub const ROOT: &str = "v1/";

/// Longest host id in encoded form, bytes: with `host=` it still fits a file
/// name (255 bytes) on every common file system.
pub const MAX_HOST_ID_BYTES: usize = 200;

const MANIFEST: &str = "manifest.json";
const SHA256SUMS: &str = "SHA256SUMS";
const SIGNATURE_SUFFIX: &str = ".sig";

/// Why a key cannot be made or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The host id is empty.
    #[error("the host id is empty")]
    EmptyHostId,
    /// The host id is too long.
    #[error("the host id is longer than {MAX_HOST_ID_BYTES} bytes when percent-encoded")]
    LongHostId,
    /// The text is no object key of this format.
    #[error("`{0}` is not an object key of a recording")]
    Malformed(String),
}

/// The folder of one recording.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    host_id: String,
    date: Date,
    session_id: Uuid,
}

impl SessionKey {
    /// The folder for a session on `host_id` that began at `start`.
    pub fn new(host_id: &str, session_id: Uuid, start: Timestamp) -> Result<Self, KeyError> {
        let date = start.to_zoned(TimeZone::UTC).date();
        Self::on_date(host_id, session_id, date)
    }

    fn on_date(host_id: &str, session_id: Uuid, date: Date) -> Result<Self, KeyError> {
        if host_id.is_empty() {
            return Err(KeyError::EmptyHostId);
        }
        if escape::percent(host_id, "").len() > MAX_HOST_ID_BYTES {
            return Err(KeyError::LongHostId);
        }
        Ok(Self {
            host_id: host_id.to_owned(),
            date,
            session_id,
        })
    }

    /// The host id, decoded.
    pub fn host_id(&self) -> &str {
        &self.host_id
    }

    /// UTC date of the session's start.
    pub fn date(&self) -> Date {
        self.date
    }

    /// The session's id.
    pub fn session_id(&self) -> Uuid {
        self.session_id
    }

    /// The key of an object in this folder.
    pub fn object(&self, name: ObjectName) -> ObjectKey {
        ObjectKey {
            session: self.clone(),
            name,
        }
    }

    /// The key of chunk `number`, counted from 0, where it is not encrypted.
    pub fn chunk(&self, number: u32) -> ObjectKey {
        self.object(ObjectName::Chunk(number, Form::Clear))
    }
}

/// The folder with its closing slash: what a listing takes as prefix.
impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host_id,
            date,
            session_id,
        } = self;
        let host = host_folder(host_id);
        write!(f, "{host}date={date}/session={session_id}/")
    }
}

impl FromStr for SessionKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        parse_session(text)
            .filter(|key| key.to_string() == text)
            .ok_or_else(|| KeyError::Malformed(text.to_owned()))
    }
}

impl Serialize for SessionKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

fn parse_session(text: &str) -> Option<SessionKey> {
    let mut parts = text.strip_prefix(ROOT)?.strip_suffix('/')?.split('/');
    let host_id = escape::unpercent(parts.next()?.strip_prefix("host=")?)?;
    let date = parts.next()?.strip_prefix("date=")?.parse().ok()?;
    let session_id = parts.next()?.strip_prefix("session=")?.parse().ok()?;
    if parts.next().is_some() {
        return None;
    }
    SessionKey::on_date(&host_id, session_id, date).ok()
}

/// The folder of a host, with its slash.
pub fn host_folder(host_id: &str) -> String {
    format!("{ROOT}host={}/", escape::percent(host_id, ""))
}

/// The host in whose folder an object is.
pub fn host_of(object: &str) -> Option<String> {
    let folder = object.strip_prefix(ROOT)?.split('/').next()?;
    escape::unpercent(folder.strip_prefix("host=")?)
}

/// The session in whose folder an object is, or whose folder it is.
pub fn session_of(object: &str) -> Option<SessionKey> {
    let mut folders = object.split('/');
    let folders: Vec<_> = folders.by_ref().take(SESSION_DEPTH).collect();
    format!("{}/", folders.join("/")).parse().ok()
}

/// `v1`, host, date, session.
const SESSION_DEPTH: usize = 4;

/// In which form a chunk is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// Anybody who has the object can read it.
    Clear,
    /// Encrypted.
    Encrypted,
    /// Encrypted: what was typed in the time of the chunk before.
    EncryptedInput,
}

impl Form {
    /// Every form, the ones with longer suffixes first.
    const ALL: [Self; 3] = [Self::EncryptedInput, Self::Encrypted, Self::Clear];

    /// Whether it takes a private key to read it.
    pub fn is_encrypted(self) -> bool {
        self != Self::Clear
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Clear => ".jsonl.zst",
            Self::Encrypted => ".jsonl.zst.age",
            Self::EncryptedInput => ".input.jsonl.zst.age",
        }
    }
}

/// The name of an object within a recording's folder. They are stored in this
/// order: where a manifest is, everything that belongs to it is as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectName {
    /// A chunk, counted from 0.
    Chunk(u32, Form),
    /// The signature of that [`ObjectName::Checkpoint`].
    CheckpointSignature(u32),
    /// The manifest of an unfinished recording that lists this many chunks.
    Checkpoint(u32),
    /// The signature of the manifest.
    ManifestSignature,
    /// Digests for `sha256sum -c`.
    Sha256Sums,
    /// The manifest of the finished recording.
    Manifest,
}

impl ObjectName {
    /// The name of a manifest's signature; `None` for what has none.
    pub fn signature(self) -> Option<Self> {
        match self {
            Self::Manifest => Some(Self::ManifestSignature),
            Self::Checkpoint(chunks) => Some(Self::CheckpointSignature(chunks)),
            _ => None,
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chunk(number, form) => write!(f, "{number:06}{}", form.suffix()),
            Self::CheckpointSignature(chunks) => {
                write!(f, "{}{SIGNATURE_SUFFIX}", Self::Checkpoint(*chunks))
            }
            Self::Checkpoint(chunks) => write!(f, "manifest-{chunks:06}.json"),
            Self::ManifestSignature => write!(f, "{MANIFEST}{SIGNATURE_SUFFIX}"),
            Self::Sha256Sums => f.write_str(SHA256SUMS),
            Self::Manifest => f.write_str(MANIFEST),
        }
    }
}

impl FromStr for ObjectName {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if let Some(signed) = text.strip_suffix(SIGNATURE_SUFFIX) {
            let name = signed.parse().ok().and_then(Self::signature);
            return name.ok_or_else(|| KeyError::Malformed(text.to_owned()));
        }
        let checkpoint = || text.strip_prefix("manifest-")?.strip_suffix(".json");
        let name = match text {
            MANIFEST => Some(Self::Manifest),
            SHA256SUMS => Some(Self::Sha256Sums),
            _ => match (chunk(text), checkpoint()) {
                (Some(chunk), _) => Some(chunk),
                (None, Some(chunks)) => chunks.parse().ok().map(Self::Checkpoint),
                (None, None) => None,
            },
        };
        name.filter(|name| name.to_string() == text)
            .ok_or_else(|| KeyError::Malformed(text.to_owned()))
    }
}

fn chunk(text: &str) -> Option<ObjectName> {
    let mut forms = Form::ALL.into_iter();
    forms.find_map(|form| {
        let number = text.strip_suffix(form.suffix())?.parse().ok()?;
        Some(ObjectName::Chunk(number, form))
    })
}

/// The key of one object of a recording, without the store's prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The folder.
    pub session: SessionKey,
    /// The name in it.
    pub name: ObjectName,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.session, self.name)
    }
}

impl FromStr for ObjectKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (folder, name) = text
            .rfind('/')
            .and_then(|slash| text.split_at_checked(slash + 1))
            .ok_or_else(|| KeyError::Malformed(text.to_owned()))?;
        Ok(Self {
            session: folder.parse()?,
            name: name.parse()?,
        })
    }
}

impl Serialize for ObjectKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::{Form, KeyError, ObjectKey, ObjectName, SessionKey};

    fn session(host_id: &str) -> SessionKey {
        let start: Timestamp = "2026-11-21T23:59:59Z".parse().unwrap();
        let id = Uuid::from_u128(0x0193_5555_0000_7000_8000_0000_0000_0001);
        SessionKey::new(host_id, id, start).unwrap()
    }

    #[test]
    fn a_chunk_key_reads_as_specified() {
        assert_eq!(
            session("web-1.example").chunk(7).to_string(),
            "v1/host=web-1.example/date=2026-11-21/\
             session=01935555-0000-7000-8000-000000000001/000007.jsonl.zst"
        );
    }

    #[test]
    fn hostile_host_ids_stay_one_path_segment_and_come_back() {
        for host_id in ["..", "a/../../b", "a b\n", "100%", "host=x", "ü", "\0"] {
            for name in [
                ObjectName::Chunk(1_000_000, Form::Clear),
                ObjectName::Chunk(7, Form::Encrypted),
                ObjectName::Chunk(8, Form::EncryptedInput),
                ObjectName::Checkpoint(3),
                ObjectName::CheckpointSignature(3),
                ObjectName::Manifest,
                ObjectName::ManifestSignature,
                ObjectName::Sha256Sums,
            ] {
                let key = session(host_id).object(name);
                let text = key.to_string();
                assert_eq!(text.split('/').count(), 5, "{text}");
                assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
                assert_eq!(text.parse::<ObjectKey>(), Ok(key));
            }
        }
    }

    #[test]
    fn empty_and_oversized_host_ids_are_refused() {
        let new = |host: &str| SessionKey::new(host, Uuid::nil(), Timestamp::UNIX_EPOCH);
        assert_eq!(new(""), Err(KeyError::EmptyHostId));
        assert_eq!(new(&"ä".repeat(40)), Err(KeyError::LongHostId));
    }

    #[test]
    fn only_the_canonical_form_parses() {
        let good = session("h").chunk(1).to_string();
        assert!(good.parse::<ObjectKey>().is_ok());
        for bad in [
            good.replace("000001", "1"),
            good.replace("000001", "+00001"),
            good.replace("000001", "0000001"),
            good.replace("host=h", "host=%68"),
            good.replace("host=h", "host="),
            good.replace("2026-11-21", "2026-11-31"),
            good.replace("v1/", "v2/"),
            good.replace("v1/", "/v1/"),
            format!("{good}.sig"),
            good.replace("session=", "session=x"),
            String::new(),
            "/".to_owned(),
        ] {
            assert!(bad.parse::<ObjectKey>().is_err(), "{bad}");
        }
    }
}
