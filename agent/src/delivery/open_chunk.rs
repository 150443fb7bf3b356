//! The chunk being written.

use std::path::Path;
use std::time::Instant;

use auditty_recording::chunk::{ChunkError, ChunkWriter, SealedChunk};
use auditty_recording::event::Event;
use auditty_recording::format::Header;
use auditty_recording::manifest::GapEntry;

use super::files::SpoolError;
use super::spool_file::{FileSync, SpoolFile};

/// A chunk is sealed at this size uncompressed, whatever it compresses to: a
/// quarter of what a reader accepts.
pub(super) const MAX_UNCOMPRESSED_BYTES: u64 = 64 << 20;

/// A chunk that takes events.
pub(super) struct OpenChunk {
    writer: ChunkWriter<SpoolFile>,
    pub(super) opened: Instant,
    pub(super) gaps: Vec<GapEntry>,
    unwritten: bool,
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
        })
    }

    /// Takes an event. On an error nothing of it is in the chunk.
    pub(super) fn append(&mut self, event: &Event) -> Result<(), String> {
        self.writer.get_ref().accepts()?;
        self.writer
            .append(event)
            .map_err(|error| error.to_string())?;
        self.unwritten = true;
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
                .map_err(|error| SpoolError::malformed(self.writer.get_ref().path(), error))?;
            self.unwritten = false;
        }
        Ok(())
    }

    /// What has to be synced, so that all events so far are durable; `None` when
    /// they are.
    pub(super) fn begin_sync(&mut self) -> Result<Option<FileSync>, SpoolError> {
        self.write()?;
        self.writer.get_mut().begin_sync()
    }

    /// That sync has ended.
    pub(super) fn end_sync(
        &mut self,
        sync: &FileSync,
        result: Result<(), SpoolError>,
    ) -> Result<(), SpoolError> {
        self.writer.get_mut().end_sync(sync, result)
    }

    /// Bytes that had to be written again, since the last call.
    pub(super) fn take_rewritten(&mut self) -> Option<u64> {
        self.writer.get_mut().take_rewritten()
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
