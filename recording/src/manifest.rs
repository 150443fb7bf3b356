//! Manifests: the list of a recording's chunks, its chain head and its verdict.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::chunk::SealedChunk;
use crate::digest::Digest;
use crate::encryption::EncryptedTo;
use crate::event::Gap;
use crate::format::FORMAT;
use crate::host::SignedBy;
use crate::key::{Form, ObjectKey, ObjectName, SessionKey};
use crate::session::Session;

/// Largest manifest a reader takes, bytes: about 150,000 chunks.
pub const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// Most gaps a manifest repeats; the timeline has all of them, and
/// `session.counts` their number.
pub const MAX_GAPS: usize = 10_000;

/// What is wrong with a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// No JSON of this shape.
    #[error("not a manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// More than [`MAX_MANIFEST_BYTES`].
    #[error("larger than {MAX_MANIFEST_BYTES} bytes")]
    TooLarge,
    /// A format this library does not know.
    #[error("it has format `{0}`; this version reads `{FORMAT}`")]
    UnknownFormat(String),
    /// It belongs to another folder.
    #[error("it belongs to session {0}")]
    OtherSession(uuid::Uuid),
    /// It belongs to another host.
    #[error("it belongs to host `{0}`")]
    OtherHost(String),
    /// A chunk's entry does not fit the ones before it.
    #[error("the entry of chunk {number} is wrong: {what}")]
    Chunk {
        /// Position in the list.
        number: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// The chain head is not that of the last chunk.
    #[error("its chain head is not that of its last chunk")]
    ChainHead,
}

/// One chunk of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChunkEntry {
    /// Object key, without the store's prefix.
    pub key: ObjectKey,
    /// Number, from 0.
    pub number: u32,
    /// Digest of the chunk as stored.
    pub sha256: Digest,
    /// Size as stored.
    pub bytes: u64,
    /// Size of its JSON Lines; 0 of an encrypted chunk whose host lost its account
    /// of it.
    pub uncompressed_bytes: u64,
    /// Sequence number of its first event.
    pub first_seq: u64,
    /// Sequence number of its last event.
    pub last_seq: u64,
    /// Time of its first event.
    pub first_time: Timestamp,
    /// Time of its last event.
    pub last_time: Timestamp,
    /// Chain head after this chunk.
    pub chain_head: Digest,
}

impl ChunkEntry {
    /// In which form the chunk is stored.
    pub fn form(&self) -> Form {
        match self.key.name {
            ObjectName::Chunk(_, form) => form,
            _ => Form::Clear,
        }
    }

    /// The entry of a sealed chunk of `session`.
    pub fn new(session: &SessionKey, chunk: &SealedChunk) -> Self {
        let key = session.object(ObjectName::Chunk(chunk.header.chunk, chunk.form));
        Self {
            chain_head: chunk.header.previous_chain_head.chain(&chunk.sha256, &key),
            key,
            number: chunk.header.chunk,
            sha256: chunk.sha256,
            bytes: chunk.bytes,
            uncompressed_bytes: chunk.uncompressed_bytes,
            first_seq: chunk.first_seq,
            last_seq: chunk.last_seq,
            first_time: chunk.first_time,
            last_time: chunk.last_time,
        }
    }
}

/// A gap of the timeline, repeated in the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GapEntry {
    /// Its sequence number.
    pub seq: u64,
    /// When it was declared.
    pub time: Timestamp,
    /// The gap.
    #[serde(flatten)]
    pub gap: Gap,
}

/// The list of a recording's chunks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// The session, with its verdict.
    pub session: Session,
    /// All chunks, in order.
    pub chunks: Vec<ChunkEntry>,
    /// Chain head after the last chunk; zero without chunks.
    pub chain_head: Digest,
    /// Declared losses, at most [`MAX_GAPS`].
    #[serde(default)]
    pub gaps: Vec<GapEntry>,
    /// To whom chunks are encrypted, in the order of the chunks; empty where none
    /// is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encryption: Vec<EncryptedTo>,
    /// When this manifest was made: within the validity of the key that signed.
    pub sealed_at: Timestamp,
    /// The key that signed; absent in an unsigned manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<SignedBy>,
    /// The session was still open: further chunks may follow.
    #[serde(default)]
    pub checkpoint: bool,
}

impl Manifest {
    /// The manifest of a finished recording.
    pub fn sealed(session: Session, chunks: Vec<ChunkEntry>, gaps: Vec<GapEntry>) -> Self {
        Self::new(session, chunks, gaps, false)
    }

    /// The manifest of a recording that may go on later.
    pub fn checkpoint(session: Session, chunks: Vec<ChunkEntry>, gaps: Vec<GapEntry>) -> Self {
        Self::new(session, chunks, gaps, true)
    }

    fn new(
        session: Session,
        chunks: Vec<ChunkEntry>,
        mut gaps: Vec<GapEntry>,
        checkpoint: bool,
    ) -> Self {
        gaps.truncate(MAX_GAPS);
        Self {
            format: FORMAT.to_owned(),
            session,
            chain_head: chunks
                .last()
                .map(|last| last.chain_head)
                .unwrap_or_default(),
            chunks,
            gaps,
            encryption: Vec::new(),
            sealed_at: Timestamp::now(),
            signed_by: None,
            checkpoint,
        }
    }

    /// The same manifest of chunks that are encrypted to these.
    #[must_use]
    pub fn encrypted(mut self, to: Vec<EncryptedTo>) -> Self {
        self.encryption = to;
        self
    }

    /// Its name in the recording's folder.
    pub fn name(&self) -> ObjectName {
        if self.checkpoint {
            ObjectName::Checkpoint(u32::try_from(self.chunks.len()).unwrap_or(u32::MAX))
        } else {
            ObjectName::Manifest
        }
    }

    /// Pretty JSON, as stored.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads a manifest; [`Manifest::verify`] is a second step.
    pub fn from_json(json: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct AnyManifest {
            format: String,
        }
        if json.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge);
        }
        let AnyManifest { format } = serde_json::from_slice(json)?;
        if format != FORMAT {
            return Err(ManifestError::UnknownFormat(format));
        }
        Ok(serde_json::from_slice(json)?)
    }

    /// Whether it belongs to this folder and its entries fit each other: keys,
    /// numbers, sequence numbers and the hash chain. Says nothing of the chunks
    /// themselves.
    pub fn verify(&self, folder: &SessionKey) -> Result<(), ManifestError> {
        if self.session.session_id != folder.session_id() {
            return Err(ManifestError::OtherSession(self.session.session_id));
        }
        if self.session.host.host_id != folder.host_id() {
            let host_id = self.session.host.host_id.clone();
            return Err(ManifestError::OtherHost(host_id));
        }
        let (mut head, mut next_seq) = (Digest::ZERO, 1);
        let mut before: Option<&ChunkEntry> = None;
        for (number, chunk) in (0..).zip(&self.chunks) {
            let wrong = |what| Err(ManifestError::Chunk { number, what });
            if chunk.number != number {
                return wrong("its number does not follow");
            }
            if chunk.key != folder.object(ObjectName::Chunk(number, chunk.form())) {
                return wrong("its key is of another folder or number");
            }
            let follows = match chunk.form() {
                Form::EncryptedInput => before.is_some_and(|before| {
                    before.form() == Form::Encrypted
                        && before.first_seq <= chunk.first_seq
                        && chunk.last_seq <= before.last_seq
                }),
                Form::Clear | Form::Encrypted => chunk.first_seq == next_seq,
            };
            if !follows || chunk.last_seq < chunk.first_seq {
                return wrong("its sequence numbers do not follow");
            }
            head = head.chain(&chunk.sha256, &chunk.key);
            if chunk.chain_head != head {
                return wrong("its chain head does not follow");
            }
            if chunk.form() != Form::EncryptedInput {
                next_seq = chunk.last_seq.saturating_add(1);
            }
            before = Some(chunk);
        }
        if self.chain_head == head {
            Ok(())
        } else {
            Err(ManifestError::ChainHead)
        }
    }

    /// The content of `SHA256SUMS` for this manifest, whose stored bytes are
    /// `json`.
    pub fn sha256sums(&self, json: &[u8]) -> String {
        self.sha256sums_of(&Digest::of(json))
    }

    /// The same, for a manifest whose digest is known.
    pub(crate) fn sha256sums_of(&self, manifest: &Digest) -> String {
        let mut sums = String::new();
        for chunk in &self.chunks {
            sums.push_str(&format!("{}  {}\n", chunk.sha256, chunk.key.name));
        }
        sums.push_str(&format!("{manifest}  {}\n", self.name()));
        sums
    }
}
