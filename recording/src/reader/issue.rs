//! What can be wrong with a stored recording.

use crate::chunk::ChunkError;
use crate::digest::Digest;
use crate::key::ObjectKey;
use crate::manifest::ManifestError;

/// A problem of a stored recording. None stops the reading of good data behind
/// it.
#[derive(Debug, thiserror::Error)]
pub enum Issue {
    /// A manifest cannot be used.
    #[error("{key}: {error}")]
    Manifest {
        /// The manifest.
        key: ObjectKey,
        /// What is wrong with it.
        error: ManifestError,
    },
    /// A chunk is not in the store.
    #[error("{key}: the chunk is missing")]
    MissingChunk {
        /// The chunk.
        key: ObjectKey,
    },
    /// A chunk is in the store that the manifest of the finished recording does
    /// not list.
    #[error("{key}: the chunk is not in the manifest")]
    UnlistedChunk {
        /// The chunk.
        key: ObjectKey,
    },
    /// A chunk is not what the manifest says.
    #[error("{key}: its SHA-256 is {found}; the manifest says {expected}")]
    HashMismatch {
        /// The chunk.
        key: ObjectKey,
        /// Digest in the manifest.
        expected: Digest,
        /// Digest of the stored chunk.
        found: Digest,
    },
    /// A chunk does not continue the hash chain of the ones before it.
    #[error("{key}: it does not follow the chunk before it (hash chain)")]
    BrokenChain {
        /// The chunk.
        key: ObjectKey,
    },
    /// A chunk's header is of another session, host or position.
    #[error("{key}: its header is of another {what}")]
    ForeignChunk {
        /// The chunk.
        key: ObjectKey,
        /// `session`, `host` or `chunk number`.
        what: &'static str,
    },
    /// A chunk is damaged, cut off or not readable.
    #[error("{key}: {error}")]
    DamagedChunk {
        /// The chunk.
        key: ObjectKey,
        /// What is wrong with it.
        error: ChunkError,
    },
    /// A chunk is encrypted, and none of the given keys opens it.
    #[error("{key}: the chunk is encrypted, and no key that opens it was given")]
    Locked {
        /// The chunk.
        key: ObjectKey,
    },
    /// Events are missing.
    #[error("{key}: events {first} to {last} are missing")]
    MissingEvents {
        /// The chunk in which it shows.
        key: ObjectKey,
        /// First missing sequence number.
        first: u64,
        /// Last missing sequence number.
        last: u64,
    },
    /// An event comes again, or too late.
    #[error("{key}: event {found} comes after event {previous}")]
    RepeatedEvent {
        /// The chunk.
        key: ObjectKey,
        /// The highest sequence number so far.
        previous: u64,
        /// The one that came.
        found: u64,
    },
}
