//! The spool's writing side: takes what the sessions produce.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditty_recording::digest::Digest;
use auditty_recording::encryption::Recipients;
use auditty_recording::event::{Body, GapClass};
use auditty_recording::host::DigestReason;
use auditty_recording::store::AnyStore;
use uuid::Uuid;

use super::crew::{Crew, in_parallel};
use super::files::{SpoolError, place_folder};
use super::folder::Folder;
use super::host_objects::HostObjects;
use super::journal::{Journal, Journaled};
use super::lock::AgentLock;
use super::outbox::{Outbox, OutboxState};
use super::quarantine::Quarantine;
use super::reserve::Reserve;
use super::session::{SpooledSession, SyncJob, Synced};
use super::signer::{Signer, SignerOptions};
use super::upload::Uploads;
use super::usage::Usage;
use crate::sessions::sink::SessionRecord;

/// With this many reports waiting, the spool does not wait for its interval.
const MAX_WAITING_REPORTS: usize = 500;

/// With this many reports that the disk did not take, no more events are taken.
pub(super) const MAX_UNWRITTEN_REPORTS: usize = 50_000;

/// How many sessions are sealed, and how many ended, at a stretch: some tens of
/// milliseconds, which the kernel's rings bridge. The others have the next turn.
const AT_A_STRETCH: usize = 32;

/// Reported, in a batch that is not written yet.
const UNWRITTEN: u64 = u64::MAX;

/// How a spool works.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// Its folder.
    pub directory: PathBuf,
    /// Its bound, bytes.
    pub max_bytes: u64,
    /// Classes of events that are not taken when it fills up, in this order.
    pub shed: Vec<GapClass>,
    /// Room that is kept free for the end of open sessions, bytes.
    pub reserve: u64,
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
    /// Who may read what happens in sessions; without anybody, it is not encrypted.
    pub encryption: Option<Arc<Recipients>>,
    /// Whether the collector is told what was done: command lines, names of files.
    pub report_content: bool,
}

impl SpoolOptions {
    /// Whether only encrypted chunks may say what was done, on this host as well.
    pub(super) fn withholds_content(&self) -> bool {
        self.encryption.is_some() && !self.report_content
    }
}

/// Keeps recordings and reports until they are acknowledged elsewhere.
pub struct Spool {
    pub(super) options: Arc<SpoolOptions>,
    pub(super) sessions: HashMap<Uuid, SpooledSession>,
    pub(super) usage: Usage,
    pub(super) quarantine: Arc<Quarantine>,
    pub(super) reserve: Reserve,
    /// What has to be said on timelines.
    pub(super) notes: Vec<(Uuid, Body)>,
    /// Bytes that were written again after a failed sync, since the start.
    pub(super) rewritten: u64,
    pub(super) signer: Signer,
    host_objects: Arc<HostObjects>,
    pub(super) outbox: Outbox,
    pub(super) uploads: Arc<Uploads>,
    store: AnyStore,
    last_flush: Instant,
    /// Syncs what is open, beside the thread that records.
    crew: Crew<SyncJob, Synced>,
    /// How many stretches of sealing and ending there were.
    stretches: u64,
    /// Where the kernel's rings are pinned.
    pub(super) journal: Option<Journal>,
    /// Why the latest flush failed, as logged.
    pub(super) trouble: Option<String>,
    _lock: AgentLock,
}

impl Spool {
    /// Opens the spool for the one agent of the host, and takes over what an
    /// agent before it left: sessions that were still open are returned, and
    /// the rest is delivered. With the `journal` of that agent, the recordings
    /// are cut where it says: what came after is still in the kernel's rings.
    /// On a full disk, this takes the reserve that the agent before has left.
    pub fn open(
        options: SpoolOptions,
        store: AnyStore,
        journal: Option<&Journaled>,
    ) -> Result<(Self, Vec<SessionRecord>), SpoolError> {
        let opened = Self::open_with(options.clone(), Arc::clone(&store), journal, Reserve::open);
        match opened {
            Err(error) if error.is_no_room() => {
                tracing::error!(%error, "the disk of the spool is full: what is there is taken over in the room that was kept for it");
                Self::open_with(options, store, journal, Reserve::spent)
            }
            opened => opened,
        }
    }

    fn open_with(
        options: SpoolOptions,
        store: AnyStore,
        journal: Option<&Journaled>,
        reserve: fn(&Path, u64) -> Reserve,
    ) -> Result<(Self, Vec<SessionRecord>), SpoolError> {
        let directory = &options.directory;
        place_folder(&directory.join("sessions"))?;
        let lock = AgentLock::take(&directory.join("lock"))?;
        let quarantine = Arc::new(Quarantine::open(directory)?);
        let usage = Usage::new(options.max_bytes, options.shed.clone());
        let reserve = reserve(directory, options.reserve);
        usage.set_spent(!reserve.is_held());
        let outbox = Outbox::open(directory, &usage, &options.host_id, &options.boot_id)?;
        let host_objects = Arc::new(HostObjects::open(directory)?);
        let uploads = Uploads::new(
            directory.join("sessions"),
            usage.clone(),
            Arc::clone(&quarantine),
            Arc::clone(&host_objects),
        );
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
        let crew = Crew::start("spool-sync", SyncJob::run)
            .map_err(|error| SpoolError::new("start a thread for", directory, error))?;
        let mut spool = Self {
            options: Arc::new(options),
            sessions: HashMap::new(),
            usage,
            quarantine,
            reserve,
            notes: Vec::new(),
            rewritten: 0,
            signer,
            host_objects,
            outbox,
            uploads: Arc::new(uploads),
            store,
            last_flush: Instant::now(),
            crew,
            stretches: 0,
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
    /// To be called several times a second. The syncs of what is open are only
    /// begun here, and found done by a later call.
    pub fn tick(&mut self, now: Instant) {
        if let Some(synced) = self.crew.poll() {
            self.synced(synced);
        }
        self.outbox.state().note_alive(Instant::now());
        if !self.is_due(now) {
            return;
        }
        self.look_for_room();
        self.take_acknowledgements();
        let ended = self.end_sessions();
        let sealed = self.seal_chunks(now);
        let begun = self.begin_sync();
        let reported = self.report_host();
        self.note(ended.or(sealed).or(begun).or(reported));
        self.note_doubts();
        self.forget();
        if let Err(error) = self.attest(now) {
            self.note(Some(error));
        }
        // One is here until all of it is stored.
        if !self.sessions.is_empty() {
            self.uploads.wake();
        }
        self.last_flush = now;
    }

    /// Whether [`Spool::tick`] has something to do.
    pub fn is_due(&self, now: Instant) -> bool {
        let mut sessions = self.sessions.values();
        let waiting: usize = sessions.clone().map(SpooledSession::report_count).sum();
        now.duration_since(self.last_flush) >= self.options.flush_interval
            || (waiting >= MAX_WAITING_REPORTS && !self.crew.is_busy())
            || sessions
                .any(|session| !session.is_syncing() && session.chunk_is_due(&self.options, now))
    }

    /// Whether something is being synced beside this thread.
    pub fn is_syncing(&self) -> bool {
        self.crew.is_busy()
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

    /// Why events are not taken now.
    pub fn problem(&self) -> Option<String> {
        match self.usage.is_full() {
            true => Some("the spool is full".to_owned()),
            false => self.trouble.clone(),
        }
    }

    /// Whether everything is acknowledged by store and collector.
    pub fn is_delivered(&self) -> bool {
        self.outbox.waiting() == 0
            && !self.host_objects.has_reports()
            && self.outbox.state().is_empty()
            && self.sessions.values().all(SpooledSession::is_settled)
            && self.uploads.is_empty()
            && self.host_objects.is_empty()
    }

    /// Ends what has ended, syncs what is open, lets reports go out, and waits
    /// for all of it.
    fn flush(&mut self) {
        self.await_sync();
        let mut problem = None;
        let ending = self.sessions.values().filter(|session| session.ending);
        for _ in 0..=ending.count() / AT_A_STRETCH {
            problem = self.end_sessions().or(problem);
        }
        let begun = self.begin_sync();
        self.await_sync();
        self.note(problem.or(begun));
        self.uploads.wake();
    }

    pub(super) fn await_sync(&mut self) {
        if let Some(synced) = self.crew.wait() {
            self.synced(synced);
        }
    }

    /// Begins to sync open chunks and kept sessions.
    fn begin_sync(&mut self) -> Option<SpoolError> {
        if self.crew.is_busy() {
            return None;
        }
        let (mut jobs, mut problem) = (Vec::new(), None);
        for session in self.sessions.values_mut() {
            match session.begin_sync(&self.usage) {
                Ok(job) => jobs.extend(job),
                Err(error) => problem = Some(error),
            }
        }
        if !jobs.is_empty() {
            self.crew.begin(jobs);
        }
        problem
    }

    /// What was synced may be told.
    fn synced(&mut self, synced: Vec<Synced>) {
        let mut problem = None;
        let mut synced: HashMap<Uuid, Synced> = synced
            .into_iter()
            .map(|synced| (synced.id, synced))
            .collect();
        let synced_sessions = self.sessions.iter_mut().filter(|(_, s)| s.is_syncing());
        for (id, session) in synced_sessions {
            let durable = match session.end_sync(synced.remove(id)) {
                Ok(durable) => durable,
                Err(error) => {
                    problem = Some(error);
                    continue;
                }
            };
            // The session first: the collector then knows whose commands these are.
            if durable.news {
                let uri = self.store.uri(&session.key.to_string());
                self.outbox.push(session.report(&uri, &self.options));
                session.reported_in = UNWRITTEN;
            }
            for report in durable.reports {
                self.outbox.push(report);
            }
        }
        problem = self.write_reports().or(problem);
        if problem.is_some() {
            self.note(problem);
        }
    }

    /// Lets reports go out.
    pub(super) fn write_reports(&mut self) -> Option<SpoolError> {
        let last = match self.outbox.flush() {
            Ok(last) => last,
            Err(error) => return Some(error),
        };
        let sessions = self.sessions.values_mut();
        for session in sessions.filter(|session| session.reported_in == UNWRITTEN) {
            session.reported_in = last;
        }
        None
    }

    /// Reports what the host signs with, and how far its digest chain is stored.
    fn report_host(&mut self) -> Option<SpoolError> {
        if !self.host_objects.has_reports() {
            return None;
        }
        // Nothing is appended while writing fails.
        let failed = self.write_reports();
        if failed.is_some() {
            return failed;
        }
        for report in self.host_objects.take_reports() {
            self.outbox.push(report);
        }
        self.write_reports()
    }

    /// Those whose turn it is, of the sessions that wait for one.
    fn turn(
        &mut self,
        waits: impl Fn(&SpooledSession) -> bool,
    ) -> (Vec<&mut SpooledSession>, &mut Signer) {
        self.stretches += 1;
        let sessions = self.sessions.values_mut();
        let mut waiting: Vec<_> = sessions
            .filter(|session| !session.is_syncing() && waits(session))
            .collect();
        waiting.sort_by_key(|session| session.tried);
        waiting.truncate(AT_A_STRETCH);
        for session in &mut waiting {
            session.tried = self.stretches;
        }
        (waiting, &mut self.signer)
    }

    fn seal_chunks(&mut self, now: Instant) -> Option<SpoolError> {
        let (options, usage) = (Arc::clone(&self.options), self.usage.clone());
        let (due, _) = self.turn(|session| session.chunk_is_due(&options, now));
        let sealed = in_parallel(due, |session| session.seal(&usage));
        sealed.into_iter().find_map(Result::err)
    }

    /// Ends recordings: many threads wait for the disk, one signs.
    fn end_sessions(&mut self) -> Option<SpoolError> {
        let usage = self.usage.clone();
        let (ending, signer) = self.turn(|session| session.ending && !session.ended);
        let begun = in_parallel(ending, |session| {
            let manifest = session.begin_end(&usage);
            (session, manifest)
        });
        let mut problem = None;
        let mut signed = Vec::new();
        for (session, manifest) in begun {
            let objects = manifest.and_then(|manifest| {
                manifest
                    .map(|manifest| session.sign(manifest, signer))
                    .transpose()
            });
            match objects {
                Ok(objects) => signed.push((session, objects)),
                Err(error) => problem = Some(error),
            }
        }
        let signer = &*signer;
        let ended = in_parallel(signed, |(session, objects)| {
            session.end(objects, &usage, signer)
        });
        ended.into_iter().find_map(Result::err).or(problem)
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
            let stored = session
                .stored
                .as_ref()
                .is_some_and(|stored| stored.complete);
            let done = stored
                && session.kept.finished
                && session.is_settled()
                && session.reported_in <= acknowledged;
            if done && let Err(error) = session.folder.discard() {
                tracing::warn!(%error, "cannot delete the folder of a delivered session");
            }
            !done
        });
    }

    /// Logs trouble with the spool when it changes.
    pub(super) fn note(&mut self, problem: Option<SpoolError>) {
        if problem.as_ref().is_some_and(SpoolError::is_no_room) {
            self.spend_reserve();
        }
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
}

/// The folder of a session.
pub(super) fn session_folder(spool: &Path, id: Uuid) -> Folder {
    Folder::new(spool.join("sessions").join(id.to_string()))
}
