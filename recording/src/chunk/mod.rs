//! Chunks: written event by event while the session runs, sealed once, read
//! back with every bound enforced and every damage named.

mod decompress;
mod encrypted;
mod output_line;
mod reader;
mod writer;

pub use encrypted::{EncryptedWriter, Line};
pub use reader::{AnyChunk, ChunkReader, Record};
pub use writer::{ChunkWriter, Recovered, SealedChunk};

/// Longest line of a chunk in bytes, newline excluded. A line holds at most
/// one system call's bytes or one argument block (2 MiB on Linux by default),
/// six times that when every byte needs a `\u00XX` escape; this leaves room.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// Most bytes a chunk may hold uncompressed: bounds the work one hostile object
/// can cause (zstd reaches 1:20000). Writers seal long before.
pub const MAX_CHUNK_BYTES: u64 = 256 << 20;

/// Largest zstd window a reader accepts, as a power of two (8 MiB): bounds its
/// memory. Writers use far less; `zstd` itself stays below up to level 19.
pub const MAX_WINDOW_LOG: u32 = 23;

/// Lines that are no events which a reader reports, one by one, before it gives
/// the chunk up.
pub const MAX_BAD_LINES: u32 = 100;

/// Why a chunk cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// Reading or writing failed.
    #[error("input/output failed: {0}")]
    Io(#[from] std::io::Error),
    /// An earlier write failed: what is in the chunk's file is to be recovered.
    #[error("an earlier write to this chunk failed")]
    Broken,
    /// The object has no bytes.
    #[error("the chunk is empty")]
    Empty,
    /// The compressed data ends in the middle.
    #[error("the chunk is cut off after {bytes} bytes")]
    Truncated {
        /// Compressed bytes that are there.
        bytes: u64,
    },
    /// The compressed data is damaged.
    #[error("the chunk is damaged near byte {near}: {reason}")]
    Corrupt {
        /// Compressed bytes taken in before the damage showed.
        near: u64,
        /// What zstd says.
        reason: String,
    },
    /// The first line is not a header.
    #[error("the first line is not a chunk header: {0}")]
    Header(String),
    /// A format this library does not know.
    #[error("the chunk has format `{0}`; this version reads `{format}`", format = crate::format::FORMAT)]
    UnknownFormat(String),
    /// A line is no event.
    #[error("line {line} is not an event: {reason}")]
    Line {
        /// Line number, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A line is longer than [`MAX_LINE_BYTES`].
    #[error("line {line} is longer than {MAX_LINE_BYTES} bytes")]
    LongLine {
        /// Line number, from 1.
        line: u64,
    },
    /// The last line has no newline.
    #[error("line {line}, the last one, has no end")]
    UnfinishedLine {
        /// Line number, from 1.
        line: u64,
    },
    /// More than [`MAX_BAD_LINES`] lines were no events.
    #[error("more than {MAX_BAD_LINES} lines are not events; the rest is not read")]
    BadLines,
    /// More than [`MAX_CHUNK_BYTES`].
    #[error("the chunk holds more than {MAX_CHUNK_BYTES} bytes uncompressed")]
    TooLarge,
    /// The event does not follow the one before.
    #[error("event {found} where event {expected} has to follow")]
    Sequence {
        /// The sequence number that has to follow.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// A chunk without events cannot be sealed.
    #[error("the chunk holds no event")]
    NoEvents,
    /// It is encrypted, and none of the given keys opens it.
    #[error("the chunk is encrypted: none of the given keys opens it")]
    Locked,
    /// It is encrypted, and the encryption is damaged.
    #[error("the encrypted chunk is damaged: {0}")]
    Encryption(String),
    /// An event could not be written as JSON.
    #[error("the event cannot be written as JSON: {0}")]
    Json(serde_json::Error),
}
