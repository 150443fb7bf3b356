//! The spool's writing side: takes what the sessions produce.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditty_recording::digest::Digest;
use auditty_recording::event::Event;
use auditty_recording::host::DigestReason;
use auditty_recording::key::SessionKey;
use auditty_recording::store::AnyStore;
use uuid::Uuid;

use super::files::{SpoolError, create_folder};
use super::folder::{Folder, KeptSession};
use super::host_objects::HostObjects;
use super::journal::{self, Entry, Journal, Journaled, Point};
use super::lock::AgentLock;
use super::outbox::{Outbox, OutboxState};
use super::session::SpooledSession;
use super::signer::{Signer, SignerOptions};
use super::upload::Uploads;
use super::usage::Usage;
use crate::sessions::sink::{SessionRecord, Sink, SinkError};

/// With this many reports waiting, the spool does not wait for its interval.
const MAX_WAITING_REPORTS: usize = 500;

/// With this many reports that the disk did not take, no more events are taken.
const MAX_UNWRITTEN_REPORTS: usize = 50_000;

/// Reported, in a batch that is not written yet.
const UNWRITTEN: u64 = u64::MAX;

/// How a spool works.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// Its folder.
    pub directory: PathBuf,
    /// Its bound, bytes.
    pub max_bytes: u64,
    /// How old an open chunk may become.
    pub chunk_interval: Duration,
    /// How large an open chunk may become, bytes as stored.
    pub chunk_size: u64,
    /// How often open chunks are synced and reports go out.
    pub flush_interval: Duration,
    /// Id of this host.
    pub host_id: String,
    /// Boot id of its kernel.
    pub boot_id: String,
    /// Folder of the host's signing key.
    pub keys_directory: PathBuf,
    /// How long a signing key signs.
    pub key_lifetime: Duration,
    /// How often a digest is made.
    pub digest_interval: Duration,
    /// Digest of the settings in effect.
    pub configuration: Digest,
}

/// Keeps recordings and reports until they are acknowledged elsewhere.
pub struct Spool {
    pub(super) options: Arc<SpoolOptions>,
    pub(super) sessions: HashMap<Uuid, SpooledSession>,
    pub(super) usage: Usage,
    pub(super) signer: Signer,
    host_objects: Arc<HostObjects>,
    outbox: Outbox,
    uploads: Arc<Uploads>,
    store: AnyStore,
    last_flush: Instant,
    /// Where the kernel's rings are pinned.
    journal: Option<Journal>,
    /// Why the latest flush failed, as logged.
    trouble: Option<String>,
    _lock: AgentLock,
}

impl Spool {
    /// Opens the spool for the one agent of the host, and takes over what an
    /// agent before it left: sessions that were still open are returned, and
    /// the rest is delivered. With the `journal` of that agent, the recordings
    /// are cut where it says: what came after is still in the kernel's rings.
    pub fn open(
        options: SpoolOptions,
        store: AnyStore,
        journal: Option<&Journaled>,
    ) -> Result<(Self, Vec<SessionRecord>), SpoolError> {
        let directory = &options.directory;
        create_folder(&directory.join("sessions"))?;
        create_folder(&directory.join("quarantine"))?;
        let lock = AgentLock::take(&directory.join("lock"))?;
        let usage = Usage::new(options.max_bytes);
        let outbox = Outbox::open(directory, &usage, &options.host_id, &options.boot_id)?;
        let uploads = Uploads::new(directory.join("sessions"), usage.clone());
        let host_objects = Arc::new(HostObjects::open(directory)?);
        let signer = Signer::open(
            &SignerOptions {
                keys: &options.keys_directory,
                spool: directory,
                host_id: &options.host_id,
                lifetime: options.key_lifetime,
                interval: options.digest_interval,
            },
            Arc::clone(&host_objects),
        )?;
        let mut spool = Self {
            options: Arc::new(options),
            sessions: HashMap::new(),
            usage,
            signer,
            host_objects,
            outbox,
            uploads: Arc::new(uploads),
            store,
            last_flush: Instant::now(),
            journal: None,
            trouble: None,
            _lock: lock,
        };
        let recovered = spool.recover(journal)?;
        spool.flush();
        let problem = spool.digest(DigestReason::Start).err();
        spool.note(problem);
        Ok((spool, recovered))
    }

    /// Keeps a journal for the rings with this name from now on, going on with
    /// the one of the agent before.
    pub fn begin_journal(
        &mut self,
        rings: Option<&str>,
        before: Option<Journaled>,
    ) -> Result<(), SpoolError> {
        let directory = &self.options.directory;
        self.journal = match rings {
            Some(rings) => Some(Journal::begin(
                directory,
                &self.options.boot_id,
                rings,
                before,
            )?),
            None => {
                journal::remove(directory)?;
                None
            }
        };
        Ok(())
    }

    /// Writes everything out, so that it survives the agent, and notes that the
    /// kernel's rings are recorded up to here. Nothing is sealed, reported or
    /// finished that has not gone through here.
    pub fn commit(&mut self, point: &Point) {
        let mut problem = None;
        for session in self.sessions.values_mut() {
            problem = session.write().err().or(problem);
        }
        if let Some(journal) = &mut self.journal {
            if journal.is_long() {
                let sessions = &self.sessions;
                journal.forget(|id| sessions.get(id).is_none_or(|s| s.kept.finished));
            }
            let changed = self.sessions.values_mut().filter(|s| s.unjournaled);
            let entries = changed.map(|session| {
                session.unjournaled = false;
                Entry {
                    record: session.kept.record.clone(),
                    finished: session.ending,
                }
            });
            if let Err(error) = journal.write(point, entries.collect()) {
                // What is not in a journal is a gap for the next agent. It must
                // not go by one that lags behind.
                let removed = journal::remove(&self.options.directory);
                problem = removed.err().or(Some(error));
            }
        }
        if problem.is_some() {
            self.note(problem);
        }
    }

    /// The queue of reports, for a [`super::Reporter`].
    pub fn outbox(&self) -> Arc<OutboxState> {
        Arc::clone(self.outbox.state())
    }

    /// The queue of objects, for an [`super::Uploader`].
    pub fn uploads(&self) -> Arc<Uploads> {
        Arc::clone(&self.uploads)
    }

    /// The queue of key log entries and digests, which uploads itself.
    pub fn host_objects(&self) -> Arc<HostObjects> {
        Arc::clone(&self.host_objects)
    }

    pub(super) fn push_report(&mut self, report: auditty_proto::v1::Report) {
        self.outbox.push(report);
    }

    /// Does what is due: syncs, seals, reports, forgets what is acknowledged.
    /// To be called several times a second.
    pub fn tick(&mut self, now: Instant) {
        if !self.is_due(now) {
            return;
        }
        let due: Vec<Uuid> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.chunk_is_due(&self.options, now))
            .map(|(id, _)| *id)
            .collect();
        self.take_acknowledgements();
        self.flush();
        for id in due {
            self.seal(id);
        }
        self.forget();
        if let Err(error) = self.attest(now) {
            self.note(Some(error));
        }
        self.last_flush = now;
    }

    /// Whether [`Spool::tick`] has something to do.
    pub fn is_due(&self, now: Instant) -> bool {
        let mut sessions = self.sessions.values();
        let waiting: usize = sessions.clone().map(SpooledSession::report_count).sum();
        now.duration_since(self.last_flush) >= self.options.flush_interval
            || waiting >= MAX_WAITING_REPORTS
            || sessions.any(|session| session.chunk_is_due(&self.options, now))
    }

    /// Seals every open chunk, with a checkpoint manifest for each session that
    /// goes on without this agent.
    pub fn close(&mut self) {
        self.flush();
        let usage = self.usage.clone();
        let mut problem = None;
        for session in self.sessions.values_mut().filter(|session| !session.ending) {
            problem = session
                .checkpoint(&usage, &mut self.signer)
                .err()
                .or(problem);
        }
        self.note(problem);
        self.flush();
    }

    /// Makes the last digest: of what the store has acknowledged by now.
    pub fn conclude(&mut self) {
        self.take_acknowledgements();
        self.flush();
        self.forget();
        if let Err(error) = self.digest(DigestReason::Stop) {
            self.note(Some(error));
        }
    }

    /// Whether everything is acknowledged by store and collector.
    pub fn is_delivered(&self) -> bool {
        self.outbox.waiting() == 0
            && self.outbox.state().is_empty()
            && self.sessions.values().all(SpooledSession::is_settled)
            && self.uploads.is_empty()
            && self.host_objects.is_empty()
    }

    /// Syncs open chunks and kept sessions, and lets their reports go out.
    fn flush(&mut self) {
        let mut problem = None;
        for session in self.sessions.values_mut() {
            if session.ending
                && let Err(error) = session.finish(&self.usage, &mut self.signer)
            {
                problem = Some(error);
                continue;
            }
            if session.unreported {
                session.kept.reports += 1;
                session.unkept = true;
            }
            // The session first: the collector then knows whose commands these are.
            let reports = match session.sync(&self.usage) {
                Ok(reports) => reports,
                Err(error) => {
                    problem = Some(error);
                    continue;
                }
            };
            if session.unreported {
                let uri = self.store.uri(&session.key.to_string());
                self.outbox.push(session.report(&uri));
                (session.unreported, session.reported_in) = (false, UNWRITTEN);
            }
            for report in reports {
                self.outbox.push(report);
            }
        }
        match self.outbox.flush() {
            Ok(last) => {
                for session in self
                    .sessions
                    .values_mut()
                    .filter(|session| session.reported_in == UNWRITTEN)
                {
                    session.reported_in = last;
                }
            }
            Err(error) => problem = Some(error),
        }
        self.note(problem);
        self.uploads.wake();
    }

    fn seal(&mut self, id: Uuid) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let sealed = session.seal(&self.usage);
        if let Err(error) = sealed {
            self.note(Some(error));
        }
        self.uploads.wake();
    }

    fn take_acknowledgements(&mut self) {
        for (id, stored) in self.uploads.take_stored() {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.unreported = true;
                session.stored = Some(stored);
            }
        }
    }

    /// Deletes the folders of sessions that are acknowledged as a whole.
    fn forget(&mut self) {
        let acknowledged = self.outbox.acknowledged();
        self.sessions.retain(|_, session| {
            let stored = session.stored.as_ref().is_some_and(|stored| stored.complete);
            let done = stored && session.kept.finished && session.is_settled() && session.reported_in <= acknowledged;
            if done && let Err(error) = fs::remove_dir_all(session.folder.path()) {
                tracing::warn!(%error, path = %session.folder.path().display(), "cannot delete the folder of a delivered session");
            }
            !done
        });
    }

    /// Logs trouble with the spool when it changes.
    fn note(&mut self, problem: Option<SpoolError>) {
        let problem = problem.map(|error| error.to_string());
        match (&problem, &self.trouble) {
            (Some(now), before) if before.as_ref() != Some(now) => {
                tracing::error!(
                    error = now,
                    "the spool cannot be written: what does not fit is declared as a gap"
                );
            }
            (None, Some(_)) => tracing::info!("the spool can be written again"),
            _ => {}
        }
        self.trouble = problem;
    }

    /// The session of `record`, in the spool from now on.
    fn entry(&mut self, record: &SessionRecord) -> Result<&mut SpooledSession, SinkError> {
        let id = record.session.session_id;
        if !self.sessions.contains_key(&id) {
            let refused = |error: &dyn std::fmt::Display| SinkError(error.to_string());
            let session = &record.session;
            let key = SessionKey::new(&self.options.host_id, id, session.start_time)
                .map_err(|error| refused(&error))?;
            let folder = session_folder(&self.options.directory, id);
            create_folder(folder.path()).map_err(|error| refused(&error))?;
            let kept = KeptSession {
                key: key.to_string(),
                record: record.clone(),
                finished: false,
                checkpoint: 0,
                reports: 0,
            };
            folder.write_kept(&kept).map_err(|error| refused(&error))?;
            self.sessions
                .insert(id, SpooledSession::new(folder, key, kept));
        }
        self.sessions
            .get_mut(&id)
            .ok_or_else(|| SinkError("it is not there".to_owned()))
    }
}

/// The folder of a session.
pub(super) fn session_folder(spool: &Path, id: Uuid) -> Folder {
    Folder::new(spool.join("sessions").join(id.to_string()))
}

impl Sink for Spool {
    fn append(&mut self, record: &SessionRecord, event: &Event) -> Result<(), SinkError> {
        if self.usage.is_full() {
            return Err(SinkError("it is full".to_owned()));
        }
        if self.outbox.waiting() >= MAX_UNWRITTEN_REPORTS {
            return Err(SinkError(
                self.trouble
                    .clone()
                    .unwrap_or_else(|| "the outbox is full".to_owned()),
            ));
        }
        let (options, usage) = (Arc::clone(&self.options), self.usage.clone());
        self.entry(record)?
            .append(&options, &usage, event)
            .map_err(SinkError)
    }

    fn changed(&mut self, record: &SessionRecord) {
        let journaled = self.journal.is_some();
        match self.entry(record) {
            Ok(session) => {
                let led = session.kept.record.leader_pid != record.leader_pid;
                session.update(record);
                // Without a journal the next agent finds the session's process
                // by this alone.
                if led
                    && !journaled
                    && let Err(error) = session.write_kept()
                {
                    self.note(Some(error));
                }
            }
            Err(error) => {
                tracing::error!(session = %record.session.session_id, %error, "the session cannot be kept")
            }
        }
    }

    fn keep(&mut self, record: &SessionRecord) {
        if let Some(session) = self.sessions.get_mut(&record.session.session_id) {
            session.keep(record);
        }
    }

    fn finished(&mut self, record: &SessionRecord) {
        self.changed(record);
        if let Some(session) = self.sessions.get_mut(&record.session.session_id) {
            (session.ending, session.unjournaled) = (true, true);
        }
    }
}
