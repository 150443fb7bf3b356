//! A session's folder in the spool.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use auditty_recording::chunk::{ChunkReader, SealedChunk};
use auditty_recording::digest::{Digest, Hasher};
use auditty_recording::encryption::EncryptedTo;
use auditty_recording::event::{Body, Event};
use auditty_recording::key::{Form, ObjectName, SessionKey};
use auditty_recording::manifest::{ChunkEntry, GapEntry};
use serde::{Deserialize, Serialize};

use super::files::{
    SpoolError, create_file, create_folder, names, unfinished, with_suffix, write_whole,
};
use crate::sessions::sink::SessionRecord;

const RECORD: &str = "record.json";

/// Behind the name of a folder that is being deleted.
const OVER: &str = ".over";

/// What `record.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct KeptSession {
    /// Where the recording is stored, below the store's prefix: fixed with the
    /// first event, whatever is learned of the session later.
    pub(super) key: String,
    /// The session, and what is needed to go on with it.
    pub(super) record: SessionRecord,
    /// Nothing more will be appended.
    pub(super) finished: bool,
    /// How many chunks the last checkpoint manifest lists.
    pub(super) checkpoint: u32,
    /// Grows with every report to the collector, which takes news only: also
    /// when nothing but the stored chunks changed. Kept before it is used.
    pub(super) reports: u64,
}

/// What `NNNNNN.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Seal {
    /// The chunk's entry in the manifest.
    pub(super) entry: ChunkEntry,
    /// The gaps declared in it.
    pub(super) gaps: Vec<GapEntry>,
    /// Bytes of all chunks up to this one, as stored.
    pub(super) total_bytes: u64,
    /// To whom it is encrypted, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) encrypted_to: Option<EncryptedTo>,
}

/// A session's folder.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn open_chunk(&self) -> PathBuf {
        self.path.join("open.jsonl.zst")
    }

    /// The pieces of the open chunk, where it is encrypted.
    pub(super) fn pieces(&self) -> PathBuf {
        self.path.join("open.pieces")
    }

    pub(super) fn torn_chunk(&self) -> PathBuf {
        self.path.join("torn.jsonl.zst")
    }

    pub(super) fn object(&self, name: ObjectName) -> PathBuf {
        self.path.join(name.to_string())
    }

    pub(super) fn record(&self) -> PathBuf {
        self.path.join(RECORD)
    }

    pub(super) fn seal(&self, number: u32) -> PathBuf {
        self.path.join(format!("{number:06}.json"))
    }

    /// The record; where a host went down before one was under its name, the one
    /// that was on its way there.
    pub(super) fn read_kept(&self) -> Result<KeptSession, SpoolError> {
        let record = self.record();
        read_json(&record).or_else(|damage| read_json(&unfinished(&record)).map_err(|_| damage))
    }

    pub(super) fn write_kept(&self, kept: &KeptSession) -> Result<(), SpoolError> {
        let (path, json) = self.kept_file(kept)?;
        write_whole(&path, &json)
    }

    /// Creates the folder, with a `record.json` that is not durable yet.
    pub(super) fn create(&self, kept: &KeptSession) -> Result<(), SpoolError> {
        create_folder(&self.path)?;
        let (path, json) = self.kept_file(kept)?;
        create_file(&path)?
            .write_all(&json)
            .map_err(|error| SpoolError::new("write", &path, error))
    }

    /// Deletes the folder. Another name first: half of a folder must never pass
    /// for a session.
    pub(super) fn discard(&self) -> Result<(), SpoolError> {
        let over = with_suffix(&self.path, OVER);
        fs::rename(&self.path, &over)
            .map_err(|error| SpoolError::new("rename", &self.path, error))?;
        discard_rest(&over)
    }

    /// `record.json` and what it should hold.
    pub(super) fn kept_file(&self, kept: &KeptSession) -> Result<(PathBuf, Vec<u8>), SpoolError> {
        let path = self.path.join(RECORD);
        let json = serde_json::to_vec(kept).map_err(|error| SpoolError::malformed(&path, error))?;
        Ok((path, json))
    }

    pub(super) fn read_seal(&self, number: u32) -> Result<Seal, SpoolError> {
        read_json(&self.seal(number))
    }

    pub(super) fn write_seal(&self, seal: &Seal) -> Result<(), SpoolError> {
        write_json(&self.seal(seal.entry.number), seal)
    }

    /// Numbers of the chunks that have a seal, in order.
    pub(super) fn seal_numbers(&self) -> Result<Vec<u32>, SpoolError> {
        let names = names(&self.path)?;
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| seal_number(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The seals of all chunks, in order.
    pub(super) fn seals(&self) -> Result<Vec<Seal>, SpoolError> {
        self.seal_numbers()?
            .into_iter()
            .map(|number| self.read_seal(number))
            .collect()
    }

    /// What waits for the store: chunks in order, then manifests, then digests.
    pub(super) fn objects(&self) -> Result<Vec<ObjectName>, SpoolError> {
        let mut objects: Vec<ObjectName> = names(&self.path)?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        objects.sort_unstable();
        Ok(objects)
    }

    /// The file of chunk `number`, in whichever form it is there.
    pub(super) fn chunk(&self, number: u32) -> Result<Option<(ObjectName, Form)>, SpoolError> {
        let chunks = self.objects()?.into_iter();
        let mut found = chunks.filter_map(|name| match name {
            ObjectName::Chunk(other, form) if other == number => Some((name, form)),
            _ => None,
        });
        Ok(found.next())
    }

    /// Whether anything waits for the store. Does not read a long folder to its
    /// end.
    pub(super) fn has_objects(&self) -> bool {
        let is_object = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string();
            name.is_ok_and(|name| name.parse::<ObjectName>().is_ok())
        };
        fs::read_dir(&self.path)
            .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(is_object)))
    }

    /// Seals a chunk from its file, for one whose agent died before it could.
    pub(super) fn reseal(
        &self,
        key: &SessionKey,
        number: u32,
        before: u64,
    ) -> Result<Seal, SpoolError> {
        let path = self.object(ObjectName::Chunk(number, Form::Clear));
        let malformed = |problem: String| SpoolError::malformed(&path, problem);
        let (sha256, bytes) = digest(&path)?;
        let file = File::open(&path).map_err(|error| SpoolError::new("open", &path, error))?;
        let reader = ChunkReader::new(file).map_err(|error| malformed(error.to_string()))?;
        let header = reader.header().clone();
        let (mut events, mut gaps, mut uncompressed) = (Vec::new(), Vec::new(), 0);
        for record in reader {
            let record = record.map_err(|error| malformed(error.to_string()))?;
            uncompressed += record.line.len() as u64 + 1;
            events.push((record.seq, record.time));
            gaps.extend(record.event.as_ref().and_then(gap_entry));
        }
        let (Some(first), Some(last)) = (events.first(), events.last()) else {
            return Err(malformed("it holds no event".to_owned()));
        };
        let header_bytes = serde_json::to_vec(&header).map_or(0, |line| line.len() as u64 + 1);
        let chunk = SealedChunk {
            header,
            form: Form::Clear,
            sha256,
            bytes,
            uncompressed_bytes: header_bytes + uncompressed,
            first_seq: first.0,
            last_seq: last.0,
            first_time: first.1,
            last_time: last.1,
        };
        Ok(Seal {
            entry: ChunkEntry::new(key, &chunk),
            gaps,
            total_bytes: before + bytes,
            encrypted_to: None,
        })
    }
}

/// Deletes what is left of a folder that was being deleted, if it is one.
pub(super) fn discard_rest(path: &Path) -> Result<(), SpoolError> {
    let name = path.as_os_str().as_encoded_bytes();
    match name.ends_with(OVER.as_bytes()) {
        true => fs::remove_dir_all(path).map_err(|error| SpoolError::new("remove", path, error)),
        false => Ok(()),
    }
}

/// The gap that an event declares.
pub(super) fn gap_entry(event: &Event) -> Option<GapEntry> {
    match &event.body {
        Body::Gap(gap) => Some(GapEntry {
            seq: event.seq,
            time: event.time,
            gap: gap.clone(),
        }),
        _ => None,
    }
}

fn seal_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".json")?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

pub(super) fn digest(path: &Path) -> Result<(Digest, u64), SpoolError> {
    let failed = |error| SpoolError::new("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let (mut hasher, mut bytes) = (Hasher::default(), 0);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match std::io::Read::read(&mut file, &mut buffer).map_err(failed)? {
            0 => return Ok((hasher.finish(), bytes)),
            count => {
                hasher.update(buffer.get(..count).unwrap_or_default());
                bytes += count as u64;
            }
        }
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, SpoolError> {
    let json = fs::read(path).map_err(|error| SpoolError::new("read", path, error))?;
    serde_json::from_slice(&json).map_err(|error| SpoolError::malformed(path, error))
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), SpoolError> {
    let json = serde_json::to_vec(value).map_err(|error| SpoolError::malformed(path, error))?;
    write_whole(path, &json)
}
