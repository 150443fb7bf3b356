//! A file on a disk that may be full, or fail.
//!
//! What the disk has not confirmed stays in memory: bytes that it did not take,
//! and bytes that were written but not synced. A compressor that sees a write
//! fail is broken; this file goes on where it stopped as soon as there is room.
//!
//! **A failed sync is never tried again on the same file.** The kernel reports a
//! failed write-back once, marks the pages clean and may drop them; the next
//! sync succeeds although the bytes are gone. After a failure the file is
//! written anew under another name: what an earlier sync has confirmed is
//! copied, the rest comes from memory. The new file takes the old one's place
//! when it is synced itself.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{SpoolError, create_file, delete, sync_parent, unfinished};

/// Fewer, larger writes.
const WRITE_BYTES: usize = 64 << 10;

/// Most bytes in memory that are written and not synced. A file that is written
/// faster than this between two syncs is synced by its writer.
const MAX_UNSYNCED: usize = 16 << 20;

/// See the module's description.
pub(super) struct SpoolFile {
    path: PathBuf,
    file: Arc<File>,
    /// Bytes that a sync has confirmed.
    durable: u64,
    /// Everything behind them.
    tail: Vec<u8>,
    /// Of the tail, what is written to the file.
    written: usize,
    /// Why the rest is not.
    stalled: Option<io::Error>,
    /// A sync has failed: nothing behind `durable` is trusted.
    suspect: bool,
    /// A new file could not be written either.
    given_up: Option<String>,
    rewritten: Option<u64>,
}

/// A sync that is due.
pub(super) struct FileSync {
    path: PathBuf,
    file: Arc<File>,
    /// Makes everything below it durable.
    until: u64,
    /// Its name is not durable either.
    new: bool,
}

impl FileSync {
    /// Waits for the disk.
    pub(super) fn run(&self) -> Result<(), SpoolError> {
        self.file
            .sync_data()
            .map_err(|error| SpoolError::new("sync", &self.path, error))?;
        match self.new {
            true => sync_parent(&self.path),
            false => Ok(()),
        }
    }
}

impl SpoolFile {
    pub(super) fn create(path: &Path) -> Result<Self, SpoolError> {
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(create_file(path)?),
            durable: 0,
            tail: Vec::new(),
            written: 0,
            stalled: None,
            suspect: false,
            given_up: None,
            rewritten: None,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it takes bytes now, or why it does not: what waits in memory
    /// would grow without bound.
    pub(super) fn accepts(&self) -> Result<(), String> {
        let stalled = self.stalled.as_ref().map(ToString::to_string);
        match stalled.as_ref().or(self.given_up.as_ref()) {
            Some(error) => Err(format!("cannot write {}: {error}", self.path.display())),
            None => Ok(()),
        }
    }

    /// Begins to make all bytes so far durable; `None` when they are. A file
    /// whose sync has failed is written anew, at once.
    pub(super) fn begin_sync(&mut self) -> Result<Option<FileSync>, SpoolError> {
        if self.suspect {
            self.rewrite()?;
        }
        self.drain();
        if let Some(error) = &self.stalled {
            return Err(SpoolError::new("write", &self.path, same(error)));
        }
        Ok((self.written > 0).then(|| FileSync {
            path: self.path.clone(),
            file: Arc::clone(&self.file),
            until: self.durable + self.written as u64,
            new: self.durable == 0,
        }))
    }

    /// A sync has ended.
    pub(super) fn end_sync(
        &mut self,
        sync: &FileSync,
        result: Result<(), SpoolError>,
    ) -> Result<(), SpoolError> {
        if !Arc::ptr_eq(&sync.file, &self.file) {
            // Written anew since: what became of the old file is of no interest.
            return Ok(());
        }
        self.suspect |= result.is_err();
        result?;
        let confirmed = usize::try_from(sync.until.saturating_sub(self.durable))
            .unwrap_or(usize::MAX)
            .min(self.written);
        self.durable += confirmed as u64;
        self.written -= confirmed;
        self.tail.drain(..confirmed);
        Ok(())
    }

    /// Writes what waits, and makes it durable.
    pub(super) fn settle(&mut self) -> Result<(), SpoolError> {
        match self.begin_sync()? {
            Some(sync) => {
                let result = sync.run();
                self.end_sync(&sync, result)
            }
            None => Ok(()),
        }
    }

    /// Bytes that had to be written again, since the last call.
    pub(super) fn take_rewritten(&mut self) -> Option<u64> {
        self.rewritten.take()
    }

    fn rewrite(&mut self) -> Result<(), SpoolError> {
        let bytes = self.tail.len() as u64;
        match self.write_anew() {
            Ok(file) => {
                tracing::error!(
                    path = %self.path.display(),
                    bytes,
                    "a sync of the spool failed: what it did not confirm was written again, to a new file"
                );
                self.file = Arc::new(file);
                self.durable += bytes;
                self.tail.clear();
                (self.written, self.stalled, self.given_up) = (0, None, None);
                self.suspect = false;
                self.rewritten = Some(self.rewritten.unwrap_or(0).saturating_add(bytes));
                Ok(())
            }
            Err(error) => {
                self.given_up = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// A durable file with the same content, in the place of this one.
    fn write_anew(&self) -> Result<File, SpoolError> {
        let path = unfinished(&self.path);
        // Another file, not the same one emptied.
        delete(&path)?;
        let mut file = create_file(&path)?;
        self.copy_durable(&mut file)
            .and_then(|()| file.write_all(&self.tail))
            .and_then(|()| file.sync_all())
            .map_err(|error| SpoolError::new("write", &path, error))?;
        fs::rename(&path, &self.path).map_err(|error| SpoolError::new("rename", &path, error))?;
        sync_parent(&self.path)?;
        Ok(file)
    }

    fn copy_durable(&self, to: &mut File) -> io::Result<()> {
        let mut buffer = vec![0; WRITE_BYTES];
        let mut at = 0;
        while at < self.durable {
            let wanted = usize::try_from(self.durable - at).unwrap_or(usize::MAX);
            let room = buffer.len().min(wanted);
            let piece = buffer.get_mut(..room).unwrap_or_default();
            self.file.read_exact_at(piece, at)?;
            to.write_all(piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn drain(&mut self) {
        self.stalled = None;
        while let Some(waiting) = self
            .tail
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            match (&*self.file).write(waiting) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.stalled = Some(error);
                    return;
                }
            }
        }
    }
}

impl Write for SpoolFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tail.extend_from_slice(bytes);
        if self.tail.len() - self.written >= WRITE_BYTES {
            self.drain();
        }
        if self.written >= MAX_UNSYNCED {
            // An error stands in the file's state, and shows at the next sync.
            let _ = self.settle();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain();
        Ok(())
    }
}

fn same(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(path: &Path) -> Result<(), SpoolError> {
        Err(SpoolError::new(
            "sync",
            path,
            io::Error::from_raw_os_error(5),
        ))
    }

    fn sync(file: &mut SpoolFile) {
        let sync = file.begin_sync().unwrap().unwrap();
        let result = sync.run();
        file.end_sync(&sync, result).unwrap();
    }

    #[test]
    fn what_a_failed_sync_did_not_confirm_is_in_a_new_file() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("open");
        let mut file = SpoolFile::create(&path).unwrap();
        let inode = || fs::metadata(&path).unwrap().ino();
        let first = inode();
        file.write_all(b"one ").unwrap();
        sync(&mut file);
        assert!(file.begin_sync().unwrap().is_none(), "all is durable");
        file.write_all(b"two ").unwrap();
        let lost = file.begin_sync().unwrap().unwrap();
        assert!(file.end_sync(&lost, failed(&path)).is_err());
        // What the kernel does: the pages are gone, and nobody says it again.
        let pages = fs::OpenOptions::new().write(true).open(&path).unwrap();
        pages.set_len(4).unwrap();
        file.write_all(b"three").unwrap();
        assert!(
            file.begin_sync().unwrap().is_none(),
            "written anew and synced"
        );
        assert_ne!(inode(), first);
        assert_eq!(fs::read(&path).unwrap(), b"one two three");
        assert_eq!(file.take_rewritten(), Some(9));
        assert_eq!(file.take_rewritten(), None);
        file.write_all(b" four").unwrap();
        sync(&mut file);
        assert_eq!(fs::read(&path).unwrap(), b"one two three four");
        // A late word on the old file changes nothing.
        file.end_sync(&lost, failed(&path)).unwrap();
        assert!(!file.suspect);
    }

    #[test]
    fn a_file_that_cannot_be_written_anew_takes_nothing_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("open");
        let mut file = SpoolFile::create(&path).unwrap();
        file.write_all(b"one").unwrap();
        let lost = file.begin_sync().unwrap().unwrap();
        assert!(file.end_sync(&lost, failed(&path)).is_err());
        let blocked = unfinished(&path);
        fs::create_dir_all(blocked.join("x")).unwrap();
        assert!(file.begin_sync().is_err());
        assert!(file.accepts().is_err());
        fs::remove_dir_all(&blocked).unwrap();
        assert!(file.begin_sync().unwrap().is_none());
        file.accepts().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }

    #[test]
    fn memory_is_bounded_between_syncs() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = SpoolFile::create(&folder.path().join("open")).unwrap();
        let block = vec![7; 1 << 20];
        for _ in 0..40 {
            file.write_all(&block).unwrap();
            assert!(file.tail.len() <= MAX_UNSYNCED + block.len());
        }
    }
}
