//! The chunk being written, where it is encrypted: its events in memory, and on
//! disk in [pieces](super::pieces) that this host cannot read.

use std::sync::Arc;
use std::time::Instant;

use auditty_proto::v1::Report;
use auditty_recording::chunk::{ChunkError, EncryptedWriter, Line, SealedChunk};
use auditty_recording::digest::Digest;
use auditty_recording::encryption::{EncryptedTo, Recipients};
use auditty_recording::event::{Body, Event};
use auditty_recording::format::Header;
use auditty_recording::key::SessionKey;
use auditty_recording::manifest::{ChunkEntry, GapEntry};
use jiff::Timestamp;

use super::files::{SpoolError, delete, rename, unfinished, write_synced};
use super::folder::{Folder, Seal, gap_entry};
use super::open_chunk::MAX_UNCOMPRESSED_BYTES;
use super::pieces::Piece;
use super::spool_file::{FileSync, SpoolFile};
use crate::sessions::sink::SessionRecord;

/// An encrypted chunk is sealed at this size, whatever the settings say: until
/// then it stays in memory.
const MAX_BYTES: u64 = 16 << 20;

/// Where a recording goes on.
#[derive(Clone, Copy)]
pub(super) struct Tail {
    /// Number of the next chunk.
    pub(super) number: u32,
    /// Chain head before it.
    pub(super) chain_head: Digest,
    /// Bytes before it.
    pub(super) total_bytes: u64,
}

/// A chunk that takes events.
pub(super) struct EncryptedChunk {
    key: SessionKey,
    recipients: Arc<Recipients>,
    boot_id: String,
    created_at: Timestamp,
    all: EncryptedWriter,
    /// What was typed, where others may read that.
    input: EncryptedWriter,
    next_seq: u64,
    file: SpoolFile,
    file_bytes: u64,
    pub(super) opened: Instant,
    gaps: Vec<GapEntry>,
    /// Where the chunk begins.
    begin: Tail,
    /// Where the next piece does.
    end: Tail,
    uncut_gaps: Vec<GapEntry>,
    uncut_reports: Vec<Report>,
}

impl EncryptedChunk {
    pub(super) fn create(
        folder: &Folder,
        key: &SessionKey,
        recipients: &Arc<Recipients>,
        header: &Header,
        begin: Tail,
    ) -> Result<Self, SpoolError> {
        Ok(Self {
            key: key.clone(),
            recipients: Arc::clone(recipients),
            boot_id: header.boot_id.clone(),
            created_at: header.created_at,
            all: EncryptedWriter::default(),
            input: EncryptedWriter::default(),
            next_seq: header.first_seq,
            file: SpoolFile::create(&folder.pieces())?,
            file_bytes: 0,
            opened: Instant::now(),
            gaps: Vec::new(),
            begin,
            end: begin,
            uncut_gaps: Vec::new(),
            uncut_reports: Vec::new(),
        })
    }

    /// Takes an event, with what the collector is told of it. On an error nothing
    /// of it is in the chunk.
    pub(super) fn append(&mut self, event: &Event, report: Option<&Report>) -> Result<(), String> {
        self.file.accepts()?;
        if event.seq != self.next_seq {
            let (expected, found) = (self.next_seq, event.seq);
            return Err(ChunkError::Sequence { expected, found }.to_string());
        }
        let appended = match &event.body {
            Body::Input(input) if self.has_input() && !input.data.0.is_empty() => {
                let withheld = Event {
                    body: Body::Input(input.withheld()),
                    ..event.clone()
                };
                self.append_lines(&withheld, Some(event))
            }
            _ => self.append_lines(event, None),
        };
        appended.map_err(|error| error.to_string())?;
        self.next_seq = event.seq.saturating_add(1);
        self.uncut_gaps.extend(gap_entry(event));
        self.uncut_reports.extend(report.cloned());
        Ok(())
    }

    fn append_lines(&mut self, event: &Event, input: Option<&Event>) -> Result<(), ChunkError> {
        let line = Line::new(event)?;
        let input = input.map(Line::new).transpose()?;
        self.all.check(&line)?;
        if let Some(input) = &input {
            self.input.append(input)?;
        }
        self.all.append(&line)
    }

    fn has_input(&self) -> bool {
        !self.recipients.input().is_empty()
    }

    /// Writes all events to the file: they survive the agent, if not the host.
    /// `record` counts them.
    pub(super) fn write(&mut self, record: &SessionRecord) -> Result<(), SpoolError> {
        if self.all.is_cut() {
            return Ok(());
        }
        let path = self.file.path().to_owned();
        let failed = |error: ChunkError| SpoolError::malformed(&path, error);
        let mut end = self.end;
        let (mut seals, mut files) = (Vec::new(), Vec::new());
        let (_, first) = self.all.first_seqs();
        let header = self.header(end, first, false);
        let piece = self.all.piece(&header, self.recipients.all());
        if let Some((chunk, file)) = piece.map_err(failed)? {
            let gaps = std::mem::take(&mut self.uncut_gaps);
            self.gaps.extend(gaps.iter().cloned());
            seals.push(self.seal(&chunk, gaps, &mut end));
            files.push(file);
        }
        let (_, first) = self.input.first_seqs();
        let header = self.header(end, first, true);
        let piece = self.input.piece(&header, self.recipients.input());
        if let Some((chunk, file)) = piece.map_err(failed)? {
            seals.push(self.seal(&chunk, Vec::new(), &mut end));
            files.push(file);
        }
        let piece = Piece::new(seals, record, std::mem::take(&mut self.uncut_reports));
        self.end = end;
        let written = piece.write(&files, &mut self.file);
        self.file_bytes += written.map_err(|error| SpoolError::new("write", &path, error))?;
        Ok(())
    }

    /// What has to be synced, so that all events so far are durable; `None` when
    /// they are.
    pub(super) fn begin_sync(
        &mut self,
        record: &SessionRecord,
    ) -> Result<Option<FileSync>, SpoolError> {
        self.write(record)?;
        self.file.begin_sync()
    }

    /// That sync has ended.
    pub(super) fn end_sync(
        &mut self,
        sync: &FileSync,
        result: Result<(), SpoolError>,
    ) -> Result<(), SpoolError> {
        self.file.end_sync(sync, result)
    }

    /// Bytes that had to be written again, since the last call.
    pub(super) fn take_rewritten(&mut self) -> Option<u64> {
        self.file.take_rewritten()
    }

    /// Bytes of its pieces.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub(super) fn is_large(&self, chunk_size: u64) -> bool {
        let bytes = self.all.compressed_bytes() + self.input.compressed_bytes();
        let uncompressed = self.all.uncompressed_bytes() + self.input.uncompressed_bytes();
        bytes >= chunk_size.min(MAX_BYTES) || uncompressed >= MAX_UNCOMPRESSED_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Ends the chunk: one for all pieces.
    pub(super) fn finish(&mut self) -> Result<EncryptedSealing, ChunkError> {
        let mut end = self.begin;
        let mut chunks = Vec::new();
        let gaps = self.gaps.iter().chain(&self.uncut_gaps);
        let gaps = gaps.cloned().collect();
        let header = self.header(end, self.all.first_seqs().0, false);
        let (chunk, file) = self.all.finish(&header, self.recipients.all())?;
        chunks.push((self.seal(&chunk, gaps, &mut end), file));
        if !self.input.is_empty() {
            let header = self.header(end, self.input.first_seqs().0, true);
            let (chunk, file) = self.input.finish(&header, self.recipients.input())?;
            chunks.push((self.seal(&chunk, Vec::new(), &mut end), file));
        }
        Ok(EncryptedSealing {
            chunks,
            sealed: false,
        })
    }

    fn header(&self, at: Tail, first_seq: Option<u64>, input: bool) -> Header {
        Header {
            format: auditty_recording::format::FORMAT.to_owned(),
            host_id: self.key.host_id().to_owned(),
            boot_id: self.boot_id.clone(),
            session_id: self.key.session_id(),
            chunk: at.number,
            previous_chain_head: at.chain_head,
            first_seq: first_seq.unwrap_or_default(),
            created_at: self.created_at,
            input,
        }
    }

    /// The seal of a chunk; `at` is behind it then.
    fn seal(&self, chunk: &SealedChunk, gaps: Vec<GapEntry>, at: &mut Tail) -> Seal {
        let (recipients, input_recipients) = self.recipients.texts();
        let seal = Seal {
            entry: ChunkEntry::new(&self.key, chunk),
            gaps,
            total_bytes: at.total_bytes + chunk.bytes,
            encrypted_to: Some(EncryptedTo {
                from_chunk: chunk.header.chunk,
                recipients,
                input_recipients,
            }),
        };
        *at = Tail {
            number: at.number.saturating_add(1),
            chain_head: seal.entry.chain_head,
            total_bytes: seal.total_bytes,
        };
        seal
    }
}

/// A chunk that has ended, with its input, until its files are durable.
pub(super) struct EncryptedSealing {
    pub(super) chunks: Vec<(Seal, Vec<u8>)>,
    sealed: bool,
}

impl EncryptedSealing {
    pub(super) fn bytes(&self) -> u64 {
        self.chunks.iter().map(|(seal, _)| seal.entry.bytes).sum()
    }

    /// Puts the files in their places; may be repeated until it succeeds. The seal
    /// of the chunk itself, written behind that of its input, decides: without it
    /// the next agent takes the pieces, with it what is prepared here.
    pub(super) fn place(&mut self, folder: &Folder) -> Result<(), SpoolError> {
        let prepared = |seal: &Seal| unfinished(&folder.object(seal.entry.key.name));
        if !self.sealed {
            for (seal, file) in &self.chunks {
                write_synced(&prepared(seal), file)?;
            }
            for (seal, _) in self.chunks.iter().rev() {
                folder.write_seal(seal)?;
            }
            self.sealed = true;
        }
        for (seal, _) in &self.chunks {
            let prepared = prepared(seal);
            if prepared.exists() {
                rename(&prepared, &folder.object(seal.entry.key.name))?;
            }
        }
        delete(&folder.pieces())
    }
}
