//! Room that is kept free for what is open when the disk is full.
//!
//! `<spool>/reserve` is a preallocated file. It is deleted when a write finds no
//! room: then no new event is taken, and what is open is sealed, signed and
//! reported in the room that it leaves. It is made again when twice its size is
//! free.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::posix_fallocate;

use super::files::{SpoolError, delete};

/// See the module's description.
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: bool,
}

impl Reserve {
    /// Takes over the reserve of an agent before, or makes one.
    pub(super) fn open(spool: &Path, bytes: u64) -> Self {
        let mut reserve = Self {
            path: spool.join("reserve"),
            bytes,
            held: false,
        };
        if let Err(error) = reserve.allocate() {
            tracing::error!(%error, "no room can be reserved for the end of open sessions");
        }
        reserve
    }

    /// Uses the reserve of an agent before at once.
    pub(super) fn spent(spool: &Path, bytes: u64) -> Self {
        let mut reserve = Self {
            path: spool.join("reserve"),
            bytes,
            held: false,
        };
        if let Err(error) = reserve.spend() {
            tracing::error!(%error, "the room kept for a full disk cannot be used");
        }
        reserve
    }

    /// Whether the room is there.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Gives the room free. `false` when it was given before.
    pub(super) fn spend(&mut self) -> Result<bool, SpoolError> {
        delete(&self.path)?;
        Ok(std::mem::take(&mut self.held))
    }

    /// Makes it again when enough is free; whether it is there.
    pub(super) fn restore(&mut self, available: u64) -> bool {
        if !self.held && available / 2 >= self.bytes {
            // It is tried again, and said by whoever finds no room.
            let _ = self.allocate();
        }
        self.held
    }

    fn allocate(&mut self) -> Result<(), SpoolError> {
        let failed = |error: std::io::Error| SpoolError::new("reserve", &self.path, error);
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .map_err(failed)?;
        let bytes = i64::try_from(self.bytes).unwrap_or(i64::MAX);
        let allocated = file
            .set_len(self.bytes)
            .and_then(|()| posix_fallocate(&file, 0, bytes).map_err(Into::into));
        if let Err(error) = allocated {
            // What it could get is in the way.
            delete(&self.path)?;
            return Err(failed(error));
        }
        self.held = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::Reserve;

    #[test]
    fn the_room_is_taken_given_and_taken_again() {
        let spool = tempfile::tempdir().unwrap();
        let file = spool.path().join("reserve");
        let mut reserve = Reserve::open(spool.path(), 1 << 20);
        assert!(reserve.is_held());
        let blocks = std::fs::metadata(&file).unwrap().blocks();
        assert!(blocks * 512 >= 1 << 20, "really allocated");
        assert!(reserve.spend().unwrap());
        assert!(!reserve.spend().unwrap() && !file.exists());
        assert!(!reserve.restore((2 << 20) - 1));
        assert!(reserve.restore(2 << 20) && file.exists());
        drop(reserve);
        assert!(Reserve::open(spool.path(), 2 << 20).is_held());
        assert_eq!(std::fs::metadata(&file).unwrap().len(), 2 << 20);
    }
}
