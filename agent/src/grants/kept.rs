//! The collector's grants on disk, for the time without it.
//!
//! ```text
//! "auditty-grants 1\n"
//! SHA-256 of the rest, Base64, "\n"
//! WatchGrantsResponse of auditty.v1, encoded: every grant that is known,
//!   `resume_token` to go on with, `caught_up` where these are all
//! ```
//!
//! It is replaced as a whole. One that is damaged is reported and not used: its
//! grants are asked for anew.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use auditty_proto::v1::WatchGrantsResponse;
use auditty_recording::digest::Digest;
use prost::Message as _;

use crate::delivery::{SpoolError, write_whole};

const MAGIC: &str = "auditty-grants 1\n";
/// Larger than anything that is written: grants are bounded in memory.
const MAX_BYTES: u64 = 128 << 20;

/// Why a copy is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeptError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is not what was written.
    #[error("is damaged: {0}")]
    Damaged(&'static str),
}

/// The file.
#[derive(Clone, Debug)]
pub(super) struct Kept(PathBuf);

impl Kept {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What was kept; `None` where nothing was.
    pub(super) fn read(&self) -> Result<Option<WatchGrantsResponse>, KeptError> {
        let file = match File::open(&self.0) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(KeptError::Damaged("it is too large"));
        }
        let rest = bytes.strip_prefix(MAGIC.as_bytes());
        let rest = rest.ok_or(KeptError::Damaged("it does not begin as it should"))?;
        let mut parts = rest.splitn(2, |byte| *byte == b'\n');
        let (Some(digest), Some(encoded)) = (parts.next(), parts.next()) else {
            return Err(KeptError::Damaged("it ends too early"));
        };
        if Digest::of(encoded).to_base64().as_bytes() != digest {
            return Err(KeptError::Damaged("its checksum is another one"));
        }
        let kept = WatchGrantsResponse::decode(encoded);
        kept.map(Some)
            .map_err(|_| KeptError::Damaged("it does not decode"))
    }

    /// Keeps it durably in place of what was kept before.
    pub(super) fn write(&self, known: &WatchGrantsResponse) -> Result<(), SpoolError> {
        let encoded = known.encode_to_vec();
        let mut bytes = MAGIC.as_bytes().to_vec();
        bytes.extend_from_slice(Digest::of(&encoded).to_base64().as_bytes());
        bytes.push(b'\n');
        bytes.extend_from_slice(&encoded);
        write_whole(&self.0, &bytes)
    }
}
