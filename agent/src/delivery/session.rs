//! One session in the spool: its open chunk, its seals, its end.

mod ending;
mod syncing;

use std::fs;
use std::time::Instant;

use auditty_proto::convert;
use auditty_proto::v1::{self, Report, report::Fact};
use auditty_recording::chunk::SealedChunk;
use auditty_recording::digest::Digest;
use auditty_recording::event::Event;
use auditty_recording::format::{FORMAT, Header};
use auditty_recording::key::{Form, ObjectName, SessionKey};
use auditty_recording::manifest::ChunkEntry;
use jiff::Timestamp;

use super::encrypted_chunk::{EncryptedChunk, EncryptedSealing, Tail};
use super::files::{SpoolError, rename, sync_parent};
use super::folder::{Folder, KeptSession, Seal};
use super::open_chunk::{OpenChunk, SealingChunk};
use super::outbox::without_content;
use super::replay::replay;
use super::spool::SpoolOptions;
use super::upload::Stored;
use super::usage::Usage;
use crate::sessions::sink::SessionRecord;
use syncing::Syncing;
pub(super) use syncing::{SyncJob, Synced};

/// A session that is not yet acknowledged as a whole.
pub(super) struct SpooledSession {
    pub(super) folder: Folder,
    pub(super) key: SessionKey,
    pub(super) kept: KeptSession,
    /// `kept` differs from `record.json`.
    pub(super) unkept: bool,
    /// The journal does not know yet what `kept` and `ending` say.
    pub(super) unjournaled: bool,
    /// The collector does not know yet what `kept` and `stored` say.
    pub(super) unreported: bool,
    /// The outbox batch with the latest report.
    pub(super) reported_in: u64,
    /// [`crate::sessions::sink::Sink::finished`] was called.
    pub(super) ending: bool,
    /// Its manifest is there, and everything has its name.
    pub(super) ended: bool,
    /// When it was last sealed or ended, or that was tried: a count.
    pub(super) tried: u64,
    /// `record.json` has to follow soon.
    updated: bool,
    /// The name of its folder is durable.
    pub(super) placed: bool,
    /// Other threads make it durable just now: its files stay as they are.
    syncing: Option<Syncing>,
    /// Bytes that had to be written again after a failed sync.
    rewritten: Option<u64>,
    pub(super) stored: Option<Stored>,
    /// Commands whose chunk is not synced yet.
    reports: Vec<Report>,
    chunk: Chunk,
    next_chunk: u32,
    chain_head: Digest,
    total_bytes: u64,
    /// Of the open chunk, what [`Usage`] knows.
    counted_bytes: u64,
}

enum Chunk {
    None,
    Open(OpenChunk),
    Sealing(SealingChunk),
    OpenEncrypted(Box<EncryptedChunk>),
    SealingEncrypted(EncryptedSealing),
}

impl Chunk {
    /// It has ended, and is not in its place yet.
    fn is_sealing(&self) -> bool {
        matches!(self, Self::Sealing(_) | Self::SealingEncrypted(_))
    }
}

impl SpooledSession {
    pub(super) fn new(folder: Folder, key: SessionKey, kept: KeptSession) -> Self {
        let ending = kept.finished;
        Self {
            folder,
            key,
            kept,
            unkept: true,
            unjournaled: !ending,
            unreported: true,
            reported_in: 0,
            ending,
            ended: false,
            tried: 0,
            updated: true,
            placed: false,
            syncing: None,
            rewritten: None,
            stored: None,
            reports: Vec::new(),
            chunk: Chunk::None,
            next_chunk: 0,
            chain_head: Digest::ZERO,
            total_bytes: 0,
            counted_bytes: 0,
        }
    }

    /// Goes on behind this seal.
    pub(super) fn follow(&mut self, seal: &Seal) {
        self.next_chunk = seal.entry.number.saturating_add(1);
        self.chain_head = seal.entry.chain_head;
        self.total_bytes = seal.total_bytes;
    }

    /// Takes over the open chunk of a dead agent, to be sealed.
    pub(super) fn take_over(&mut self, chunk: SealingChunk) {
        self.chunk = Chunk::Sealing(chunk);
    }

    /// Where the next chunk goes.
    pub(super) fn tail(&self) -> Tail {
        Tail {
            number: self.next_chunk,
            chain_head: self.chain_head,
            total_bytes: self.total_bytes,
        }
    }

    pub(super) fn chain_head(&self) -> Digest {
        self.chain_head
    }

    pub(super) fn next_chunk(&self) -> u32 {
        self.next_chunk
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    pub(super) fn update(&mut self, record: &SessionRecord) {
        self.keep(record);
        (self.unreported, self.updated) = (true, true);
    }

    /// Writes `record.json`.
    pub(super) fn write_kept(&mut self) -> Result<(), SpoolError> {
        self.folder.write_kept(&self.kept)?;
        self.unkept = false;
        Ok(())
    }

    /// What the next agent needs; no news for the collector.
    pub(super) fn keep(&mut self, record: &SessionRecord) {
        self.kept.record.clone_from(record);
        (self.unkept, self.unjournaled) = (true, true);
    }

    /// Writes all events to the file of the open chunk.
    pub(super) fn write(&mut self) -> Result<(), SpoolError> {
        match &mut self.chunk {
            Chunk::Open(chunk) => chunk.write(),
            Chunk::OpenEncrypted(chunk) => chunk.write(&self.kept.record),
            Chunk::None | Chunk::Sealing(_) | Chunk::SealingEncrypted(_) => Ok(()),
        }
    }

    pub(super) fn append(
        &mut self,
        options: &SpoolOptions,
        usage: &Usage,
        event: &Event,
    ) -> Result<(), String> {
        if self.chunk.is_sealing() {
            self.seal(usage).map_err(|error| error.to_string())?;
        }
        let report = convert::report(self.key.session_id(), event);
        let report = match options.report_content {
            true => report,
            false => report.map(without_content),
        };
        if matches!(self.chunk, Chunk::None) {
            let header = Header {
                format: FORMAT.to_owned(),
                host_id: self.key.host_id().to_owned(),
                boot_id: options.boot_id.clone(),
                session_id: self.key.session_id(),
                chunk: self.next_chunk,
                previous_chain_head: self.chain_head,
                first_seq: event.seq,
                created_at: Timestamp::now(),
                input: false,
            };
            let chunk = match &options.encryption {
                Some(to) => {
                    EncryptedChunk::create(&self.folder, &self.key, to, &header, self.tail())
                        .map(|chunk| Chunk::OpenEncrypted(Box::new(chunk)))
                }
                None => OpenChunk::create(&self.folder.open_chunk(), header).map(Chunk::Open),
            };
            self.chunk = chunk.map_err(|error| error.to_string())?;
        }
        match &mut self.chunk {
            Chunk::Open(chunk) => chunk.append(event)?,
            Chunk::OpenEncrypted(chunk) => chunk.append(event, report.as_ref())?,
            Chunk::None | Chunk::Sealing(_) | Chunk::SealingEncrypted(_) => {}
        }
        replay(&mut self.kept.record, event);
        (self.unkept, self.unjournaled) = (true, true);
        self.reports.extend(report);
        Ok(())
    }

    /// Reports for which the outbox may not wait longer.
    pub(super) fn report_count(&self) -> usize {
        self.reports.len()
    }

    pub(super) fn chunk_is_due(&self, options: &SpoolOptions, now: Instant) -> bool {
        match &self.chunk {
            Chunk::None => false,
            Chunk::Open(chunk) => {
                chunk.is_large(options.chunk_size)
                    || now.duration_since(chunk.opened) >= options.chunk_interval
            }
            Chunk::OpenEncrypted(chunk) => {
                chunk.is_large(options.chunk_size)
                    || now.duration_since(chunk.opened) >= options.chunk_interval
            }
            Chunk::Sealing(_) | Chunk::SealingEncrypted(_) => true,
        }
    }

    /// Seals the open chunk, if there is one with events. What it holds is
    /// counted in `record.json` before: once it is stored, its events cannot be
    /// looked up any more.
    pub(super) fn seal(&mut self, usage: &Usage) -> Result<(), SpoolError> {
        if self.unkept {
            self.write_kept()?;
        }
        if !self.placed {
            sync_parent(self.folder.path())?;
            self.placed = true;
        }
        self.chunk = match std::mem::replace(&mut self.chunk, Chunk::None) {
            Chunk::Open(chunk) if chunk.is_empty() => Chunk::Open(chunk),
            Chunk::Open(chunk) => {
                let path = self.folder.open_chunk();
                Chunk::Sealing(
                    chunk
                        .finish()
                        .map_err(|error| SpoolError::malformed(&path, error))?,
                )
            }
            Chunk::OpenEncrypted(mut chunk) if !chunk.is_empty() => match chunk.finish() {
                Ok(sealing) => Chunk::SealingEncrypted(sealing),
                Err(error) => {
                    self.chunk = Chunk::OpenEncrypted(chunk);
                    return Err(SpoolError::malformed(&self.folder.pieces(), error));
                }
            },
            other => other,
        };
        if let Chunk::SealingEncrypted(sealing) = &mut self.chunk {
            sealing.place(&self.folder)?;
            usage.add(sealing.bytes());
            usage.remove(self.counted_bytes);
            self.counted_bytes = 0;
            if let Chunk::SealingEncrypted(sealing) =
                std::mem::replace(&mut self.chunk, Chunk::None)
            {
                sealing
                    .chunks
                    .iter()
                    .for_each(|(seal, _)| self.follow(seal));
            }
        }
        if let Chunk::Sealing(sealing) = &mut self.chunk {
            sealing.file.settle()?;
            self.rewritten = added(self.rewritten, sealing.file.take_rewritten());
            let (chunk, gaps) = (sealing.chunk.clone(), sealing.gaps.clone());
            let name = ObjectName::Chunk(chunk.header.chunk, Form::Clear);
            let (open, sealed) = (self.folder.open_chunk(), self.folder.object(name));
            if open.exists()
                && let Err(error) = rename(&open, &sealed)
            {
                // Not durable is not done: all of it is tried again.
                let _ = fs::rename(&sealed, &open);
                return Err(error);
            }
            self.keep_seal(&chunk, gaps)?;
            usage.add(chunk.bytes.saturating_sub(self.counted_bytes));
            self.counted_bytes = 0;
            self.chunk = Chunk::None;
        }
        Ok(())
    }

    fn keep_seal(
        &mut self,
        chunk: &SealedChunk,
        gaps: Vec<auditty_recording::manifest::GapEntry>,
    ) -> Result<(), SpoolError> {
        let seal = Seal {
            entry: ChunkEntry::new(&self.key, chunk),
            gaps,
            total_bytes: self.total_bytes + chunk.bytes,
            encrypted_to: None,
        };
        self.folder.write_seal(&seal)?;
        self.follow(&seal);
        Ok(())
    }

    /// The session as the collector should know it.
    pub(super) fn report(&self, uri: &str, options: &SpoolOptions) -> Report {
        let stored = self.stored.clone().unwrap_or_default();
        let encryption = options.encryption.as_ref();
        let (recipients, input_recipients) = encryption.map(|to| to.texts()).unwrap_or_default();
        let recording = v1::Recording {
            recipients,
            input_recipients,
            uri: uri.to_owned(),
            chunk_count: stored.chunk_count,
            stored_byte_count: stored.bytes,
            chain_head: match stored.chunk_count {
                0 => String::new(),
                _ => stored.chain_head.to_string(),
            },
        };
        let session = v1::Session {
            recording: Some(recording),
            gap_times: gap_times(&self.kept.record),
            ..v1::Session::from(&self.kept.record.session)
        };
        let report = Report {
            fact: Some(Fact::Session(v1::SessionReport {
                revision: self.kept.reports,
                session: Some(session),
            })),
        };
        match options.report_content {
            true => report,
            false => without_content(report),
        }
    }

    /// Whether nothing is left to do but delivery.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.chunk, Chunk::None)
            && !self.is_syncing()
            && !self.unkept
            && !self.unreported
            && self.reports.is_empty()
    }
}

/// When something of a session was not captured, as long as it went on.
fn gap_times(record: &SessionRecord) -> Vec<v1::TimeSpan> {
    let session = &record.session;
    let end = match session.running_processes {
        0 => session.processes_end_time.or(session.end_time),
        _ => None,
    };
    let end = end.unwrap_or(Timestamp::MAX);
    let spans = record.gap_times.spans();
    let spans = spans.filter(|(from, _)| *from <= end);
    let spans = spans.map(|(from, to)| v1::TimeSpan {
        start_time: Some(convert::timestamp(from)),
        end_time: Some(convert::timestamp(to.min(end))),
    });
    spans.collect()
}

fn added(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        _ => a.or(b),
    }
}
