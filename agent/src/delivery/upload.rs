//! Brings sealed objects to the store: in order within a session, several
//! sessions at once.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auditty_recording::digest::Digest;
use auditty_recording::key::{ObjectName, SessionKey};
use auditty_recording::store::{AnyStore, Failure, Inspection};
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::backoff::{Backoff, LONGEST};
use super::files::{SpoolError, delete, names, with_suffix};
use super::folder::{Folder, Seal};
use super::host_objects::HostObjects;
use super::object::{Stopped, WaitingObject};
use super::quarantine::Quarantine;
use super::state::StoreState;
use super::usage::Usage;

/// Sessions that are uploaded at once: with 1 000 open ones, each of which
/// seals a chunk every 8 s, a put may take a quarter of a second.
const PARALLEL: usize = 32;

/// Of these, sessions whose last upload failed: they leave room for the others,
/// and do not press a store that takes nothing.
const PARALLEL_RETRIES: usize = 4;

/// An upload that has run this long waits for an answer that may never come: it
/// does not count any more.
const SLOW: Duration = Duration::from_secs(5);

/// Uploads at once with those that are slow.
const PARALLEL_WITH_SLOW: usize = 64;

/// Bytes of objects that are read into memory at once. A larger object goes
/// alone.
const IN_FLIGHT_BYTES: usize = 32 << 20;

/// A session is not looked at more often than this.
const BETWEEN_UPLOADS: Duration = Duration::from_millis(200);

/// What the store has of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Chunks.
    pub chunk_count: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Chain head after them.
    pub chain_head: Digest,
    /// The recording is finished, and all of it is stored.
    pub complete: bool,
}

impl Stored {
    /// Everything up to this chunk.
    pub(super) fn after(seal: &Seal) -> Self {
        Self {
            chunk_count: seal.entry.number.saturating_add(1),
            bytes: seal.total_bytes,
            chain_head: seal.entry.chain_head,
            complete: false,
        }
    }
}

/// The queue between the spool and the uploader: the folders themselves, and
/// what became of them.
#[derive(Debug)]
pub struct Uploads {
    sessions: PathBuf,
    usage: Usage,
    quarantine: Arc<Quarantine>,
    host_objects: Arc<HostObjects>,
    wake: Notify,
    /// At most one entry a session.
    stored: Mutex<HashMap<Uuid, Stored>>,
    /// Chunks that were damaged before they could be stored.
    lost: Mutex<Vec<(Uuid, Seal)>>,
    state: Mutex<StoreState>,
    memory: Semaphore,
}

impl Uploads {
    pub(super) fn new(
        sessions: PathBuf,
        usage: Usage,
        quarantine: Arc<Quarantine>,
        host_objects: Arc<HostObjects>,
    ) -> Self {
        Self {
            sessions,
            usage,
            quarantine,
            host_objects,
            wake: Notify::new(),
            stored: Mutex::default(),
            lost: Mutex::default(),
            state: Mutex::default(),
            memory: Semaphore::new(IN_FLIGHT_BYTES),
        }
    }

    /// How delivery goes.
    pub fn state(&self) -> StoreState {
        self.state_mut().clone()
    }

    fn state_mut(&self) -> MutexGuard<'_, StoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A look at the store found this.
    pub(super) fn inspected(&self, found: Result<Inspection, String>) {
        self.state_mut().inspected = Some((Timestamp::now(), found));
    }

    /// Waits until an object of this size may be read into memory.
    async fn memory_for(&self, path: &Path) -> Option<SemaphorePermit<'_>> {
        let bytes = fs::metadata(path).map_or(0, |file| file.len());
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let bytes = bytes.min(IN_FLIGHT_BYTES as u32);
        self.memory.acquire_many(bytes).await.ok()
    }

    /// There may be something to upload.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// What was stored since the last call.
    pub(super) fn take_stored(&self) -> HashMap<Uuid, Stored> {
        std::mem::take(&mut *self.stored.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was lost since the last call.
    pub(super) fn take_lost(&self) -> Vec<(Uuid, Seal)> {
        std::mem::take(&mut *self.lost.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A sealed chunk is not what was sealed any more: it goes to quarantine, and
    /// the chunks behind it go on.
    fn lose(&self, id: Uuid, path: &Path, seal: Seal) -> Result<(), SpoolError> {
        let number = seal.entry.number;
        tracing::error!(session = %id, chunk = number, events = seal.entry.last_seq - seal.entry.first_seq + 1, "a sealed chunk in the spool is damaged and can never be stored: the file goes to quarantine, verification will miss it");
        self.quarantine
            .take(path, &format!("{id}-{}", seal.entry.key.name))?;
        delete(&with_suffix(path, ".sent"))?;
        self.usage.remove(seal.entry.bytes);
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.push((id, seal));
        Ok(())
    }

    fn put_stored(&self, id: Uuid, stored: Stored) {
        self.stored
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, stored);
    }

    /// Whether nothing waits for the store, nor for being noted as stored.
    pub fn is_empty(&self) -> bool {
        let noted = self
            .stored
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty();
        noted
            && self
                .folders()
                .iter()
                .all(|(_, folder)| folder.objects().is_ok_and(|objects| objects.is_empty()))
    }

    fn folders(&self) -> Vec<(Uuid, Folder)> {
        let names = names(&self.sessions).unwrap_or_default();
        let folder =
            |name: String| Some((name.parse().ok()?, Folder::new(self.sessions.join(name))));
        names.into_iter().filter_map(folder).collect()
    }
}

/// An upload that runs.
struct Active {
    /// The one before failed.
    failed: bool,
    since: Instant,
}

/// Uploads until it is stopped.
pub struct Uploader {
    uploads: Arc<Uploads>,
    store: AnyStore,
    running: JoinSet<(Uuid, bool, Result<bool, Stopped>)>,
    active: HashMap<Uuid, Active>,
    /// When a session had its last turn: a count.
    turns: HashMap<Uuid, u64>,
    turn: u64,
    complete: HashSet<Uuid>,
    pauses: HashMap<Uuid, (Backoff, Instant)>,
    /// The trouble last logged.
    trouble: Option<String>,
}

impl Uploader {
    /// Will bring `uploads` to `store`.
    pub fn new(uploads: Arc<Uploads>, store: AnyStore) -> Self {
        Self {
            uploads,
            store,
            running: JoinSet::new(),
            active: HashMap::new(),
            turns: HashMap::new(),
            turn: 0,
            complete: HashSet::new(),
            pauses: HashMap::new(),
            trouble: None,
        }
    }

    /// Works until `stop`. A put that is cut off is repeated by the next agent.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            self.begin();
            let now = Instant::now();
            let next = self
                .pauses
                .values()
                .map(|(_, until)| *until)
                .filter(|until| *until > now)
                .min();
            let mut next = next.unwrap_or(now + LONGEST);
            if self.running.len() >= PARALLEL {
                next = next.min(now + SLOW);
            }
            let uploads = Arc::clone(&self.uploads);
            tokio::select! {
                () = stop.cancelled() => return,
                Some(ended) = self.running.join_next() => match ended {
                    Ok((id, progress, result)) => self.ended(id, progress, result),
                    Err(error) => tracing::error!(%error, "an upload died"),
                },
                () = uploads.wake.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Starts uploads for sessions that have something to upload: whose last
    /// turn was longest ago is first.
    fn begin(&mut self) {
        let now = Instant::now();
        let mut folders = self.uploads.folders();
        let present: HashSet<Uuid> = folders.iter().map(|(id, _)| *id).collect();
        self.complete.retain(|id| present.contains(id));
        self.pauses.retain(|id, _| present.contains(id));
        self.turns.retain(|id, _| present.contains(id));
        folders.sort_by_key(|(id, _)| self.turns.get(id).copied().unwrap_or(0));
        for (id, folder) in folders {
            if !self.has_room(now) {
                return;
            }
            let pause = self.pauses.get(&id);
            let pausing = pause.is_some_and(|(_, until)| *until > now);
            let failed = pause.is_some_and(|(backoff, _)| backoff.has_failed());
            let retries = self.active.values().filter(|active| active.failed).count();
            if pausing
                || (failed && retries >= PARALLEL_RETRIES)
                || self.complete.contains(&id)
                || self.active.contains_key(&id)
                || !is_finished_or_waiting(&folder)
            {
                continue;
            }
            self.turn += 1;
            self.turns.insert(id, self.turn);
            self.active.insert(id, Active { failed, since: now });
            let upload = Upload {
                id,
                folder,
                uploads: Arc::clone(&self.uploads),
                store: Arc::clone(&self.store),
            };
            self.running.spawn(async move {
                let mut progress = false;
                let result = upload.run(&mut progress).await;
                (id, progress, result)
            });
        }
    }

    /// Whether another upload may begin.
    fn has_room(&self, now: Instant) -> bool {
        let slow = |active: &&Active| now.duration_since(active.since) >= SLOW;
        let quick = self.active.len() - self.active.values().filter(slow).count();
        quick < PARALLEL && self.active.len() < PARALLEL_WITH_SLOW
    }

    /// `progress`: something was stored.
    fn ended(&mut self, id: Uuid, progress: bool, result: Result<bool, Stopped>) {
        self.active.remove(&id);
        let (mut backoff, _) = self
            .pauses
            .remove(&id)
            .unwrap_or((Backoff::default(), Instant::now()));
        if progress {
            backoff = Backoff::default();
        }
        let pause = match &result {
            Ok(complete) => {
                if *complete {
                    self.complete.insert(id);
                }
                if self.trouble.take().is_some() {
                    tracing::info!("the store takes recordings again");
                    self.uploads.state_mut().trouble = None;
                }
                backoff = Backoff::default();
                BETWEEN_UPLOADS
            }
            Err(Stopped::Store(error)) if !error.is_transient() => {
                backoff.pause();
                Backoff::longest()
            }
            Err(_) => backoff.pause(),
        };
        if let Err(stopped) = &result {
            self.note(stopped);
        }
        self.pauses.insert(id, (backoff, Instant::now() + pause));
    }

    /// Logs trouble when it changes.
    fn note(&mut self, stopped: &Stopped) {
        let (kind, text) = match stopped {
            Stopped::Store(error) => (failure_kind(&error.failure), error.to_string()),
            Stopped::Spool(error) => (error.to_string(), error.to_string()),
        };
        if self.trouble.replace(kind.clone()) == Some(kind) {
            return;
        }
        self.uploads.state_mut().trouble = Some(text.clone());
        match stopped {
            Stopped::Store(error) if error.is_transient() => {
                tracing::warn!(
                    error = text,
                    "the store does not take recordings; they wait in the spool"
                );
            }
            _ => tracing::error!(
                error = text,
                "recordings cannot be stored; they wait in the spool until an operator helps"
            ),
        }
    }
}

/// What a failure is about, without what differs from object to object and
/// from try to try.
fn failure_kind(failure: &Failure) -> String {
    match failure {
        Failure::Conflict { .. } | Failure::Unreadable { .. } => "conflict".to_owned(),
        other => other
            .to_string()
            .split(" (request ")
            .next()
            .unwrap_or_default()
            .to_owned(),
    }
}

fn is_finished_or_waiting(folder: &Folder) -> bool {
    folder.has_objects() || folder.read_kept().is_ok_and(|kept| kept.finished)
}

/// One session's upload.
struct Upload {
    id: Uuid,
    folder: Folder,
    uploads: Arc<Uploads>,
    store: AnyStore,
}

impl Upload {
    /// Uploads what waits; whether the recording is then complete.
    async fn run(self, progress: &mut bool) -> Result<bool, Stopped> {
        // Read before the list of objects: when it says `finished`, the list
        // that follows has the manifest in it, or the store has.
        let kept = self.folder.read_kept()?;
        let key: SessionKey = kept
            .key
            .parse()
            .map_err(|error| SpoolError::malformed(self.folder.path(), error))?;
        let mut conflict = None;
        for name in self.folder.objects()? {
            if !matches!(name, ObjectName::Chunk(..)) && !self.uploads.host_objects.key_is_stored()
            {
                return Ok(false);
            }
            let seal = match name {
                // Without its seal, the chunk is not yet given free.
                ObjectName::Chunk(number, _) => match self.folder.read_seal(number) {
                    Ok(seal) => Some(seal),
                    Err(_) => return Ok(false),
                },
                _ => None,
            };
            let _memory = self.uploads.memory_for(&self.folder.object(name)).await;
            let object = WaitingObject::open(&self.folder, &key, name)?;
            if let Some(seal) = seal.as_ref().filter(|seal| !object.is(seal)) {
                self.uploads.lose(self.id, object.path(), seal.clone())?;
                continue;
            }
            let acknowledged = match object.put(&self.store).await {
                // Whatever stands there, the rest has to leave this host.
                Err(stopped) if stopped.is_conflict() => {
                    conflict = conflict.or(Some(stopped));
                    continue;
                }
                put => put?,
            };
            *progress = true;
            self.uploads.usage.remove(acknowledged.delete()?);
            if let Some(seal) = seal {
                self.uploads.state_mut().delivered(seal.entry.first_time);
                // What is stored behind a hole is not reported.
                if conflict.is_none() {
                    self.uploads.put_stored(self.id, Stored::after(&seal));
                }
            }
        }
        if let Some(stopped) = conflict {
            return Err(stopped);
        }
        let prepared = names(self.folder.path())?
            .iter()
            .any(|name| name.ends_with(".new"));
        let complete = kept.finished && !prepared && self.folder.objects()?.is_empty();
        if complete {
            let stored = self
                .folder
                .seals()?
                .last()
                .map(Stored::after)
                .unwrap_or_default();
            self.uploads.put_stored(
                self.id,
                Stored {
                    complete: true,
                    ..stored
                },
            );
        }
        Ok(complete)
    }
}
