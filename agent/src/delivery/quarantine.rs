//! Files that are not what the agent wrote: kept for whoever wants to know, and
//! never in the way of the others.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use super::files::{SpoolError, names, place_folder, rename};

/// `<spool>/quarantine`. What is in it is named after the moment it came there,
/// in milliseconds since 1970, and after what it was.
#[derive(Debug)]
pub(super) struct Quarantine {
    folder: PathBuf,
    held: AtomicU64,
}

impl Quarantine {
    pub(super) fn open(spool: &Path) -> Result<Self, SpoolError> {
        let folder = spool.join("quarantine");
        place_folder(&folder)?;
        let held = AtomicU64::new(names(&folder)?.len() as u64);
        Ok(Self { folder, held })
    }

    /// Takes a file or folder away.
    pub(super) fn take(&self, path: &Path, name: &str) -> Result<(), SpoolError> {
        let now = Timestamp::now().as_millisecond();
        rename(path, &self.folder.join(format!("{now}-{name}")))?;
        self.held.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// How many it holds.
    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}
