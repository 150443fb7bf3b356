//! Takes over what an agent before this one left in the spool.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use auditty_proto::convert;
use auditty_recording::chunk::{ChunkError, ChunkReader, ChunkWriter};
use auditty_recording::event::{Body, Event, Gap, GapCause, GapClass};
use auditty_recording::key::{ObjectName, SessionKey};
use jiff::Timestamp;
use uuid::Uuid;

use super::files::{SpoolError, delete, names, rename};
use super::folder::{Folder, gap_entry};
use super::journal::Journaled;
use super::open_chunk::{SealingChunk, SpoolFile};
use super::replay::replay;
use super::session::SpooledSession;
use super::spool::{Spool, session_folder};
use super::upload::Stored;
use crate::capture::now_boot_ns;
use crate::sessions::sink::SessionRecord;

impl Spool {
    /// Takes over every session folder. A damaged one goes to quarantine and
    /// does not stop the others.
    pub(super) fn recover(
        &mut self,
        journal: Option<&Journaled>,
    ) -> Result<Vec<SessionRecord>, SpoolError> {
        let sessions = self.options.directory.join("sessions");
        let mut recovered = Vec::new();
        for name in names(&sessions)? {
            let Ok(id) = name.parse::<Uuid>() else {
                continue;
            };
            let folder = session_folder(&self.options.directory, id);
            match self.recover_session(&folder, journal) {
                Ok(open) => recovered.extend(open),
                Err(error) if is_damage(&error) => {
                    tracing::error!(session = %id, %error, "a session in the spool is damaged: it goes to quarantine");
                    self.quarantine(folder.path(), &name)?;
                }
                Err(error) => {
                    tracing::error!(session = %id, %error, "a session in the spool cannot be taken over: it stays for the next start");
                }
            }
        }
        Ok(recovered)
    }

    fn recover_session(
        &mut self,
        folder: &Folder,
        journal: Option<&Journaled>,
    ) -> Result<Option<SessionRecord>, SpoolError> {
        let mut kept = folder.read_kept()?;
        let same_boot = kept.record.session.host.boot_id == self.options.boot_id;
        let journal = journal.filter(|_| same_boot && !kept.finished);
        let entry = journal.and_then(|j| j.sessions.get(&kept.record.session.session_id));
        match (journal, entry) {
            (Some(_), None) => {
                // It began after the last checkpoint: it begins again with what
                // is in the rings.
                fs::remove_dir_all(folder.path())
                    .map_err(|error| SpoolError::new("remove", folder.path(), error))?;
                return Ok(None);
            }
            (_, Some(entry)) => kept.record.clone_from(&entry.record),
            (None, None) => {}
        }
        let key: SessionKey = kept
            .key
            .parse()
            .map_err(|error| SpoolError::malformed(folder.path(), error))?;
        let mut session = SpooledSession::new(folder.clone(), key, kept);
        self.seal_unsealed(&mut session)?;
        if session.kept.finished {
            session.finish(&self.usage, &mut self.signer)?;
        } else {
            let until = entry.map(|entry| entry.record.next_seq);
            let events = self.recover_open_chunk(&mut session, until)?;
            let lost = self.catch_up(&mut session, &events)?;
            if lost > 0 {
                self.declare(&mut session, lost);
            }
        }
        for name in folder.objects()? {
            self.usage
                .add(fs::metadata(folder.object(name)).map_or(0, |file| file.len()));
        }
        session.stored = stored_already(folder)?;
        session.ending |= entry.is_some_and(|entry| entry.finished);
        let open = (!session.ending).then(|| session.kept.record.clone());
        self.sessions.insert(session.key.session_id(), session);
        Ok(open)
    }

    /// Seals the chunks whose agent died before it could write the seal.
    fn seal_unsealed(&mut self, session: &mut SpooledSession) -> Result<(), SpoolError> {
        let folder = session.folder.clone();
        for seal in folder.seals()? {
            session.follow(&seal);
        }
        for name in folder.objects()? {
            if let ObjectName::Chunk(number) = name
                && number >= session.next_chunk()
            {
                let seal = folder.reseal(&session.key, number, session.total_bytes())?;
                folder.write_seal(&seal)?;
                session.follow(&seal);
            }
        }
        Ok(())
    }

    /// Seals the open chunk as far as it is good, without the events from
    /// `until` on. The events of the chunk.
    fn recover_open_chunk(
        &mut self,
        session: &mut SpooledSession,
        until: Option<u64>,
    ) -> Result<Vec<Event>, SpoolError> {
        let (open, torn) = (session.folder.open_chunk(), session.folder.torn_chunk());
        if !torn.exists() {
            if !open.exists() {
                return Ok(Vec::new());
            }
            rename(&open, &torn)?;
        }
        let id = session.key.session_id();
        let good = match good_part(session, &torn, &open, until) {
            Ok(good) => good,
            Err(error) if is_damage(&error) => Good::nothing(error.to_string()),
            Err(error) => return Err(error),
        };
        if let Some(damage) = &good.damage {
            let name = format!("{id}-{:06}.jsonl.zst", session.next_chunk());
            tracing::error!(session = %id, damage, "the open chunk of a session is damaged: what can be read is kept, the file goes to quarantine");
            self.quarantine(&torn, &name)?;
        }
        match good.chunk {
            Some(chunk) => {
                session.take_over(chunk);
                session.seal(&self.usage)?;
            }
            None => delete(&open)?,
        }
        delete(&torn)?;
        Ok(good.events)
    }

    /// Brings the kept session up to date, and reports again what its last
    /// chunk holds: the reports may have died with the agent. How many events
    /// were taken and are not in the recording.
    fn catch_up(
        &mut self,
        session: &mut SpooledSession,
        events: &[Event],
    ) -> Result<u64, SpoolError> {
        let id = session.key.session_id();
        for event in events {
            replay(&mut session.kept.record, event);
            if let Some(report) = convert::report(id, event) {
                self.push_report(report);
            }
        }
        let seals = session.folder.seals()?;
        let next_seq = seals
            .last()
            .map_or(1, |seal| seal.entry.last_seq.saturating_add(1));
        let record = &mut session.kept.record;
        let lost = record.next_seq.saturating_sub(next_seq);
        record.next_seq = next_seq;
        session.unkept = true;
        Ok(lost)
    }

    /// Declares events that were taken and are not in the recording: a crash of
    /// the host, or damage to the spool.
    fn declare(&self, session: &mut SpooledSession, events: u64) {
        let (record, now) = (&session.kept.record, now_boot_ns());
        let same_boot = record.session.host.boot_id == self.options.boot_id;
        let event = Event {
            seq: record.next_seq,
            time: Timestamp::now(),
            boot_ns: now,
            body: Body::Gap(Gap {
                cause: GapCause::Spool,
                class: GapClass::Any,
                events: Some(events),
                bytes: None,
                stream: None,
                terminal: None,
                offset: None,
                from_boot_ns: if same_boot { record.last_boot_ns } else { 0 },
                to_boot_ns: now,
            }),
        };
        match session.append(&self.options, &self.usage, &event) {
            Ok(()) => replay(&mut session.kept.record, &event),
            Err(error) => {
                tracing::error!(session = %session.key.session_id(), events, error, "lost events cannot be declared")
            }
        }
    }

    fn quarantine(&self, path: &Path, name: &str) -> Result<(), SpoolError> {
        let now = Timestamp::now().as_millisecond();
        rename(
            path,
            &self
                .options
                .directory
                .join("quarantine")
                .join(format!("{now}-{name}")),
        )
    }
}

/// What can be used of a torn chunk.
struct Good {
    chunk: Option<SealingChunk>,
    events: Vec<Event>,
    /// More is wrong than that it ends early.
    damage: Option<String>,
}

impl Good {
    fn nothing(damage: String) -> Self {
        Self {
            chunk: None,
            events: Vec::new(),
            damage: Some(damage),
        }
    }
}

fn good_part(
    session: &SpooledSession,
    torn: &Path,
    open: &Path,
    until: Option<u64>,
) -> Result<Good, SpoolError> {
    let file = || File::open(torn).map_err(|error| SpoolError::new("open", torn, error));
    let malformed = |error: ChunkError| match error {
        ChunkError::Io(error) => SpoolError::new("read", torn, error),
        other => SpoolError::malformed(torn, other),
    };
    let recovered = match ChunkWriter::recover(file()?, SpoolFile::create(open)?, until) {
        // An agent that died before its first sync left nothing to keep.
        Err(ChunkError::Empty | ChunkError::Truncated { .. }) => {
            return Ok(Good {
                chunk: None,
                events: Vec::new(),
                damage: None,
            });
        }
        other => other.map_err(malformed)?,
    };
    let header = recovered.writer.header();
    if header.chunk != session.next_chunk() || header.previous_chain_head != session.chain_head() {
        return Ok(Good::nothing(
            "it does not follow the chunk before".to_owned(),
        ));
    }
    let damage = recovered.damage.filter(|damage| {
        !matches!(
            damage,
            ChunkError::Truncated { .. } | ChunkError::UnfinishedLine { .. }
        )
    });
    let damage = damage.map(|damage| damage.to_string());
    if recovered.writer.last_seq().is_none() {
        return Ok(Good {
            chunk: None,
            events: Vec::new(),
            damage,
        });
    }
    let (chunk, file_written) = recovered.writer.finish().map_err(malformed)?;
    let mut events = Vec::new();
    for record in ChunkReader::new(file()?).map_err(malformed)? {
        match record {
            Ok(record) if record.seq <= chunk.last_seq => events.extend(record.event),
            _ => break,
        }
    }
    let gaps = events.iter().filter_map(gap_entry).collect();
    Ok(Good {
        chunk: Some(SealingChunk {
            chunk,
            file: file_written,
            gaps,
        }),
        events,
        damage,
    })
}

/// What the store has of a recording: chunks with a seal and without a file.
fn stored_already(folder: &Folder) -> Result<Option<Stored>, SpoolError> {
    let seals = folder.seals()?;
    let stored = seals
        .iter()
        .take_while(|seal| !folder.object(ObjectName::Chunk(seal.entry.number)).exists())
        .last();
    Ok(stored.map(Stored::after))
}

/// Whether the content is wrong, and not just the disk of no use right now.
fn is_damage(error: &SpoolError) -> bool {
    matches!(
        error.problem.kind(),
        io::ErrorKind::Other
            | io::ErrorKind::NotFound
            | io::ErrorKind::InvalidData
            | io::ErrorKind::UnexpectedEof
    )
}
