//! The chunk being written, on a disk that may be full.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use auditty_recording::chunk::{ChunkError, ChunkWriter, SealedChunk};
use auditty_recording::event::Event;
use auditty_recording::format::Header;
use auditty_recording::manifest::GapEntry;

use super::files::{SpoolError, create_file};

/// Fewer, larger writes.
const WRITE_BYTES: usize = 64 << 10;

/// A chunk is sealed at this size uncompressed, whatever it compresses to: a
/// quarter of what a reader accepts.
pub(super) const MAX_UNCOMPRESSED_BYTES: u64 = 64 << 20;

/// A file that keeps in memory what the disk does not take. A compressor that
/// sees a write fail is broken; this one goes on where it stopped as soon as
/// there is room. Bounded, because a stalled chunk takes no more events.
pub(super) struct SpoolFile {
    path: PathBuf,
    file: File,
    waiting: Vec<u8>,
    stalled: Option<io::Error>,
}

impl SpoolFile {
    pub(super) fn create(path: &Path) -> Result<Self, SpoolError> {
        Ok(Self {
            path: path.to_owned(),
            file: create_file(path)?,
            waiting: Vec::new(),
            stalled: None,
        })
    }

    fn drain(&mut self) {
        self.stalled = None;
        while !self.waiting.is_empty() {
            match self.file.write(&self.waiting) {
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.stalled = Some(error);
                    return;
                }
            }
        }
    }

    /// Makes everything written so far durable.
    fn sync(&self) -> Result<(), SpoolError> {
        match &self.stalled {
            Some(error) => Err(SpoolError::new("write", &self.path, same(error))),
            None => self
                .file
                .sync_data()
                .map_err(|error| SpoolError::new("sync", &self.path, error)),
        }
    }

    /// Writes what waits, and makes it durable.
    pub(super) fn settle(&mut self) -> Result<(), SpoolError> {
        self.drain();
        self.sync()
    }
}

impl Write for SpoolFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= WRITE_BYTES {
            self.drain();
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

/// A chunk that takes events.
pub(super) struct OpenChunk {
    writer: ChunkWriter<SpoolFile>,
    pub(super) opened: Instant,
    pub(super) gaps: Vec<GapEntry>,
    unwritten: bool,
    unsynced: bool,
}

impl OpenChunk {
    pub(super) fn create(path: &Path, header: Header) -> Result<Self, SpoolError> {
        let writer = ChunkWriter::new(SpoolFile::create(path)?, header)
            .map_err(|error| SpoolError::malformed(path, error))?;
        Ok(Self {
            writer,
            opened: Instant::now(),
            gaps: Vec::new(),
            unwritten: true,
            unsynced: true,
        })
    }

    /// Takes an event. On an error nothing of it is in the chunk.
    pub(super) fn append(&mut self, event: &Event) -> Result<(), String> {
        if let Some(error) = &self.writer.get_ref().stalled {
            return Err(format!(
                "cannot write {}: {error}",
                self.writer.get_ref().path.display()
            ));
        }
        self.writer
            .append(event)
            .map_err(|error| error.to_string())?;
        (self.unwritten, self.unsynced) = (true, true);
        if let auditty_recording::event::Body::Gap(gap) = &event.body {
            self.gaps.push(GapEntry {
                seq: event.seq,
                time: event.time,
                gap: gap.clone(),
            });
        }
        Ok(())
    }

    /// Writes all events to the file: they survive the agent, if not the host.
    pub(super) fn write(&mut self) -> Result<(), SpoolError> {
        if self.unwritten {
            self.writer
                .flush()
                .map_err(|error| SpoolError::malformed(&self.writer.get_ref().path, error))?;
            self.unwritten = false;
        }
        Ok(())
    }

    /// Makes all events durable.
    pub(super) fn sync(&mut self) -> Result<(), SpoolError> {
        self.write()?;
        if self.unsynced {
            self.writer.get_ref().sync()?;
            self.unsynced = false;
        }
        Ok(())
    }

    pub(super) fn stored_bytes(&self) -> u64 {
        self.writer.compressed_bytes()
    }

    pub(super) fn is_large(&self, chunk_size: u64) -> bool {
        self.stored_bytes() >= chunk_size
            || self.writer.uncompressed_bytes() >= MAX_UNCOMPRESSED_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writer.last_seq().is_none()
    }

    /// Ends the chunk; its file may still have to settle.
    pub(super) fn finish(self) -> Result<SealingChunk, ChunkError> {
        let (chunk, file) = self.writer.finish()?;
        Ok(SealingChunk {
            chunk,
            file,
            gaps: self.gaps,
        })
    }
}

/// A chunk that has ended, until its file is durable.
pub(super) struct SealingChunk {
    pub(super) chunk: SealedChunk,
    pub(super) file: SpoolFile,
    pub(super) gaps: Vec<GapEntry>,
}
