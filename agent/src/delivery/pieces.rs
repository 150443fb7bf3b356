//! The pieces of an open encrypted chunk on disk: what the next agent, which
//! cannot read them either, makes of them.
//!
//! `open.pieces` is one piece after the other, appended each time when an open
//! chunk that is not encrypted would be flushed:
//!
//! ```text
//! <SHA-256 of the JSON, 64 hex digits> <JSON of Piece>\n
//! <age file of each chunk in it, one behind the other>
//! ```
//!
//! Each piece is one chunk, or two where the input has its own recipients: with
//! number, place in the hash chain and seal, as if the chunk ended here. An agent
//! that ends the chunk itself makes one of all of them and deletes the file.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use auditty_proto::v1::{Report, ReportRequest};
use auditty_recording::digest::Digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::files::SpoolError;
use super::folder::Seal;
use crate::sessions::sink::{KernelSide, SessionRecord};

/// What is known of a piece without reading it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Piece {
    /// The seals of its chunks: the chunk's, and that of its input.
    pub(super) seals: Vec<Seal>,
    /// The session behind it, without its side in the kernel.
    pub(super) record: SessionRecord,
    /// What of it the collector is told: a `ReportRequest`, base64.
    reports: String,
}

/// A piece with its chunks.
pub(super) struct WholePiece {
    pub(super) piece: Piece,
    pub(super) chunks: Vec<Vec<u8>>,
}

impl Piece {
    pub(super) fn new(seals: Vec<Seal>, record: &SessionRecord, reports: Vec<Report>) -> Self {
        let reports = ReportRequest {
            reports,
            ..ReportRequest::default()
        };
        Self {
            seals,
            record: SessionRecord {
                kernel: KernelSide::default(),
                ..record.clone()
            },
            reports: BASE64_STANDARD.encode(reports.encode_to_vec()),
        }
    }

    pub(super) fn reports(&self) -> Vec<Report> {
        let encoded = BASE64_STANDARD.decode(&self.reports).unwrap_or_default();
        let request = ReportRequest::decode(encoded.as_slice());
        request.unwrap_or_default().reports
    }

    /// First and last event; `None` for no piece at all.
    pub(super) fn seqs(&self) -> Option<(u64, u64)> {
        let entry = &self.seals.first()?.entry;
        Some((entry.first_seq, entry.last_seq))
    }

    /// Appends the piece; how many bytes it has.
    pub(super) fn write(&self, chunks: &[Vec<u8>], to: &mut impl Write) -> io::Result<u64> {
        let json = serde_json::to_vec(self)?;
        let mut account = format!("{} ", Digest::of(&json)).into_bytes();
        account.extend(json);
        account.push(b'\n');
        let mut bytes = 0;
        for part in [&account].into_iter().chain(chunks) {
            to.write_all(part)?;
            bytes += part.len() as u64;
        }
        to.flush()?;
        Ok(bytes)
    }
}

/// The whole pieces in a file, and what ends them when that is more than the death
/// of their agent. No file has none.
pub(super) fn read(path: &Path) -> Result<(Vec<WholePiece>, Option<String>), SpoolError> {
    let content = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        content => content.map_err(|error| SpoolError::new("read", path, error))?,
    };
    let (mut pieces, mut rest) = (Vec::new(), content.as_slice());
    while !rest.is_empty() {
        match next(&mut rest) {
            Next::Whole(piece) => pieces.push(*piece),
            Next::Torn => break,
            Next::Damaged(what) => return Ok((pieces, Some(what.to_owned()))),
        }
    }
    Ok((pieces, None))
}

enum Next {
    Whole(Box<WholePiece>),
    /// The file ends in it.
    Torn,
    Damaged(&'static str),
}

fn next(rest: &mut &[u8]) -> Next {
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        // What a crash leaves behind the end of a file may be zeros.
        return Next::Torn;
    };
    let (line, behind) = rest.split_at(end);
    let parsed = || {
        let (digest, json) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        let intact = digest.parse() == Ok(Digest::of(json.as_bytes()));
        intact.then(|| serde_json::from_str::<Piece>(json).ok())?
    };
    let Some(piece) = parsed() else {
        return Next::Damaged("its account is damaged");
    };
    let mut behind = behind.get(1..).unwrap_or_default();
    let mut chunks = Vec::new();
    for seal in &piece.seals {
        let bytes = usize::try_from(seal.entry.bytes).unwrap_or(usize::MAX);
        let Some((chunk, further)) = behind.split_at_checked(bytes) else {
            return Next::Torn;
        };
        if Digest::of(chunk) != seal.entry.sha256 {
            // Nothing behind it: written, and not synced.
            return match further.is_empty() {
                true => Next::Torn,
                false => Next::Damaged("a chunk in it is damaged"),
            };
        }
        chunks.push(chunk.to_vec());
        behind = further;
    }
    *rest = behind;
    Next::Whole(Box::new(WholePiece { piece, chunks }))
}
