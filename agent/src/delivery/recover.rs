//! Takes over what an agent before this one left in the spool.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use auditty_proto::convert;
use auditty_proto::v1::Report;
use auditty_recording::chunk::{ChunkError, ChunkReader, ChunkWriter};
use auditty_recording::event::{Body, Event, Gap, GapCause, GapClass, Marker};
use auditty_recording::key::{Form, ObjectName, SessionKey};
use jiff::Timestamp;
use uuid::Uuid;

use super::crew::in_parallel;
use super::files::{SpoolError, delete, names, rename};
use super::folder::{Folder, KeptSession, Seal, discard_rest, gap_entry};
use super::journal::Journaled;
use super::open_chunk::SealingChunk;
use super::outbox::without_content;
use super::quarantine::Quarantine;
use super::rebuild::rebuild;
use super::recover_pieces::{self, finish_sealing, next_seq, seal_pieces};
use super::replay::replay;
use super::session::SpooledSession;
use super::signer::Signer;
use super::spool::{Spool, SpoolOptions, session_folder};
use super::spool_file::SpoolFile;
use super::upload::Stored;
use super::usage::Usage;
use crate::capture::now_boot_ns;
use crate::sessions::sink::SessionRecord;

/// A session that was taken over.
struct TakenOver {
    session: SpooledSession,
    /// What the collector may not have.
    reports: Vec<Report>,
    /// It is still open.
    open: Option<SessionRecord>,
}

/// What all takeovers need.
struct Takeover<'a> {
    options: &'a SpoolOptions,
    usage: &'a Usage,
    signer: &'a Signer,
    quarantine: &'a Quarantine,
    journal: Option<&'a Journaled>,
}

impl Spool {
    /// Takes over every session folder, several at once. A damaged one goes to
    /// quarantine and does not stop the others.
    pub(super) fn recover(
        &mut self,
        journal: Option<&Journaled>,
    ) -> Result<Vec<SessionRecord>, SpoolError> {
        let folder = self.options.directory.join("sessions");
        let sessions = names(&folder)?;
        for name in &sessions {
            if let Err(error) = discard_rest(&folder.join(name)) {
                tracing::warn!(%error, "what is left of a delivered session stays");
            }
        }
        let ids = sessions.iter().filter_map(|name| name.parse().ok());
        let (mut recovered, no_room) = self.take_over(ids.collect(), journal);
        if !no_room.is_empty() {
            self.spend_reserve();
            recovered.extend(self.take_over(no_room, journal).0);
        }
        Ok(recovered)
    }

    /// The open ones of these sessions, and those for which there was no room.
    fn take_over(
        &mut self,
        ids: Vec<Uuid>,
        journal: Option<&Journaled>,
    ) -> (Vec<SessionRecord>, Vec<Uuid>) {
        let takeover = Takeover {
            options: &self.options,
            usage: &self.usage,
            signer: &self.signer,
            quarantine: &self.quarantine,
            journal,
        };
        let taken = in_parallel(ids, |id| (id, takeover.session(id)));
        let (mut recovered, mut no_room) = (Vec::new(), Vec::new());
        for (id, taken) in taken {
            let taken = match taken {
                Ok(Some(taken)) => taken,
                Ok(None) => continue,
                Err(NoRoom) => {
                    no_room.push(id);
                    continue;
                }
            };
            for report in taken.reports {
                self.push_report(report);
            }
            recovered.extend(taken.open);
            self.sessions.insert(id, taken.session);
        }
        (recovered, no_room)
    }
}

/// The disk is full.
struct NoRoom;

impl Takeover<'_> {
    /// Takes over a session; `None` when nothing is left of it.
    fn session(&self, id: Uuid) -> Result<Option<TakenOver>, NoRoom> {
        let folder = session_folder(&self.options.directory, id);
        match self.recover_session(&folder, id) {
            Ok(taken) => return Ok(taken),
            Err(error) if error.is_no_room() => {
                tracing::error!(session = %id, %error, "there is no room to take a session over");
                return Err(NoRoom);
            }
            Err(error) if is_damage(&error) => {
                tracing::error!(session = %id, %error, "a session in the spool is damaged: it goes to quarantine");
                if let Err(error) = self.quarantine.take(folder.path(), &id.to_string()) {
                    tracing::error!(session = %id, %error, "a damaged session stays where it is");
                }
            }
            Err(error) => {
                tracing::error!(session = %id, %error, "a session in the spool cannot be taken over: it stays for the next start");
            }
        }
        Ok(None)
    }

    fn recover_session(&self, folder: &Folder, id: Uuid) -> Result<Option<TakenOver>, SpoolError> {
        if never_began(folder)? {
            folder.discard()?;
            return Ok(None);
        }
        finish_sealing(folder)?;
        let (mut kept, rebuilt) = match folder.read_kept() {
            Ok(kept) => (kept, false),
            Err(error) if is_damage(&error) => (self.rebuilt(folder, id, error)?, true),
            Err(error) => return Err(error),
        };
        let same_boot = kept.record.session.host.boot_id == self.options.boot_id;
        let journal = self.journal.filter(|_| same_boot && !kept.finished);
        let entry = journal.and_then(|j| j.sessions.get(&id));
        match (journal, entry) {
            (Some(_), None) => {
                // It began after the last checkpoint: it begins again with what
                // is in the rings.
                folder.discard()?;
                return Ok(None);
            }
            (_, Some(entry)) => kept.record.clone_from(&entry.record),
            (None, None) => {}
        }
        if self.options.withholds_content() {
            kept.record = kept.record.without_content();
        }
        let key: SessionKey = kept
            .key
            .parse()
            .map_err(|error| SpoolError::malformed(folder.path(), error))?;
        let mut session = SpooledSession::new(folder.clone(), key, kept);
        session.placed = true;
        self.seal_unsealed(&mut session)?;
        let mut reports = Vec::new();
        if session.kept.finished {
            session.end(None, self.usage, self.signer)?;
        } else {
            let until = entry.map(|entry| entry.record.next_seq);
            let events = self.recover_open_chunk(&mut session, until)?;
            reports = events
                .iter()
                .filter_map(|event| convert::report(id, event))
                .collect();
            if !self.options.report_content {
                reports = reports.into_iter().map(without_content).collect();
            }
            reports.extend(seal_pieces(&mut session, until, self.quarantine)?);
            let lost = catch_up(&mut session, &events)?;
            if lost > 0 {
                let gap = lost_events(&session, self.options, lost);
                self.declare(&mut session, gap);
            }
            if rebuilt {
                self.declare(&mut session, rebuilt_marker());
            }
        }
        for name in folder.objects()? {
            self.usage
                .add(fs::metadata(folder.object(name)).map_or(0, |file| file.len()));
        }
        session.stored = stored_already(folder)?;
        session.ending |= entry.is_some_and(|entry| entry.finished);
        let open = (!session.ending).then(|| session.kept.record.clone());
        Ok(Some(TakenOver {
            session,
            reports,
            open,
        }))
    }

    /// What can be known of a session without its `record.json`, which goes to
    /// quarantine.
    fn rebuilt(
        &self,
        folder: &Folder,
        id: Uuid,
        damage: SpoolError,
    ) -> Result<KeptSession, SpoolError> {
        let Some(kept) = rebuild(folder, id)? else {
            return Err(damage);
        };
        tracing::error!(session = %id, error = %damage, "the record of a session is damaged: it is rebuilt from its chunks, what is in the file goes to quarantine");
        let record = folder.record();
        // An empty one holds nothing to look into later.
        if fs::metadata(&record).is_ok_and(|file| file.len() > 0) {
            self.quarantine
                .take(&record, &format!("{id}-record.json"))?;
        }
        Ok(kept)
    }

    /// Seals the chunks whose agent died before it could write the seal, or whose
    /// seal is damaged.
    fn seal_unsealed(&self, session: &mut SpooledSession) -> Result<(), SpoolError> {
        let (folder, id) = (session.folder.clone(), session.key.session_id());
        for number in folder.seal_numbers()? {
            let seal = match folder.read_seal(number) {
                Err(error) if is_damage(&error) && folder.chunk(number)?.is_some() => {
                    tracing::error!(session = %id, %error, "the seal of a chunk is damaged: it is made again, the file goes to quarantine");
                    let name = format!("{id}-{number:06}.json");
                    self.quarantine_if_there(&folder.seal(number), &name)?;
                    let form = folder.chunk(number)?.map_or(Form::Clear, |(_, form)| form);
                    let seal = self.reseal(session, number, form)?;
                    folder.write_seal(&seal)?;
                    seal
                }
                seal => seal?,
            };
            session.follow(&seal);
        }
        for name in folder.objects()? {
            if let ObjectName::Chunk(number, form) = name
                && number >= session.next_chunk()
            {
                match self.reseal(session, number, form) {
                    Ok(seal) => {
                        folder.write_seal(&seal)?;
                        session.follow(&seal);
                    }
                    Err(error) if is_damage(&error) => {
                        tracing::error!(session = %id, %error, "a chunk without a seal is damaged: what can be read of it is kept");
                        return self.reopen(&folder, name, id);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// A seal for a chunk that has none: from its events, or where these cannot be
    /// read from what is around it.
    fn reseal(
        &self,
        session: &SpooledSession,
        number: u32,
        form: Form,
    ) -> Result<Seal, SpoolError> {
        match form {
            Form::Clear => session
                .folder
                .reseal(&session.key, number, session.total_bytes()),
            Form::Encrypted | Form::EncryptedInput => {
                let recipients = self.options.encryption.as_deref();
                recover_pieces::reseal(session, number, form, recipients)
            }
        }
    }

    /// A damaged chunk is recovered like an open one. One behind it does not
    /// follow it any more.
    fn reopen(&self, folder: &Folder, chunk: ObjectName, id: Uuid) -> Result<(), SpoolError> {
        for behind in [folder.torn_chunk(), folder.open_chunk()] {
            self.quarantine_if_there(&behind, &format!("{id}-open.jsonl.zst"))?;
        }
        rename(&folder.object(chunk), &folder.torn_chunk())
    }

    fn quarantine_if_there(&self, path: &Path, name: &str) -> Result<(), SpoolError> {
        match path.exists() {
            true => self.quarantine.take(path, name),
            false => Ok(()),
        }
    }

    /// Seals the open chunk as far as it is good, without the events from
    /// `until` on. The events of the chunk.
    fn recover_open_chunk(
        &self,
        session: &mut SpooledSession,
        until: Option<u64>,
    ) -> Result<Vec<Event>, SpoolError> {
        let (open, torn) = (session.folder.open_chunk(), session.folder.torn_chunk());
        if !torn.exists() {
            if !open.exists() {
                return Ok(Vec::new());
            }
            fs::rename(&open, &torn).map_err(|error| SpoolError::new("rename", &open, error))?;
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
            self.quarantine.take(&torn, &name)?;
        }
        match good.chunk {
            Some(chunk) => {
                session.take_over(chunk);
                session.seal(self.usage)?;
            }
            None => delete(&open)?,
        }
        delete(&torn)?;
        Ok(good.events)
    }

    /// Puts an event on the timeline of a session that was taken over.
    fn declare(&self, session: &mut SpooledSession, body: Body) {
        let event = Event {
            seq: session.kept.record.next_seq,
            time: Timestamp::now(),
            boot_ns: now_boot_ns(),
            body,
        };
        if let Err(error) = session.append(self.options, self.usage, &event) {
            tracing::error!(session = %session.key.session_id(), error, kind = event.body.kind(), "what happened to a session cannot be declared");
        }
    }
}

/// Brings the kept session up to date with its last chunk. How many events were
/// taken and are not in the recording.
fn catch_up(session: &mut SpooledSession, events: &[Event]) -> Result<u64, SpoolError> {
    for event in events {
        replay(&mut session.kept.record, event);
    }
    let next_seq = next_seq(&session.folder)?;
    let record = &mut session.kept.record;
    let lost = record.next_seq.saturating_sub(next_seq);
    record.next_seq = next_seq;
    session.unkept = true;
    Ok(lost)
}

/// Events that were taken and are not in the recording: a crash of the host, or
/// damage to the spool.
fn lost_events(session: &SpooledSession, options: &SpoolOptions, events: u64) -> Body {
    let record = &session.kept.record;
    let same_boot = record.session.host.boot_id == options.boot_id;
    Body::Gap(Gap {
        cause: GapCause::Spool,
        class: GapClass::Any,
        events: Some(events),
        bytes: None,
        stream: None,
        terminal: None,
        offset: None,
        from_boot_ns: if same_boot { record.last_boot_ns } else { 0 },
        to_boot_ns: now_boot_ns(),
    })
}

fn rebuilt_marker() -> Body {
    Body::Marker(Marker {
        marker: "record_rebuilt".into(),
        message: "The spool's record of the session was damaged and was rebuilt from its chunks: \
                  counts and facts of chunks that had left the host before are missing in it."
            .into(),
    })
}

/// Whether the host went down before anything of the session was durable: its
/// files are there, and empty.
fn never_began(folder: &Folder) -> Result<bool, SpoolError> {
    let empty =
        |name: String| fs::metadata(folder.path().join(name)).is_ok_and(|file| file.len() == 0);
    Ok(names(folder.path())?.into_iter().all(empty))
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
        .take_while(|seal| !folder.object(seal.entry.key.name).exists())
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
