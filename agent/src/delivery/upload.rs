//! Brings sealed objects to the store: in order within a session, several
//! sessions at once.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use auditty_recording::digest::Digest;
use auditty_recording::key::{ObjectName, SessionKey};
use auditty_recording::store::{AnyStore, Body, Failure, PutOutcome, StoreError};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::backoff::{Backoff, LONGEST};
use super::files::{SpoolError, delete, names, sync_parent, with_suffix, write_synced};
use super::folder::{Folder, Seal};
use super::usage::Usage;

/// Sessions that are uploaded at once.
const PARALLEL: usize = 4;

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
    wake: Notify,
    /// At most one entry a session.
    stored: Mutex<HashMap<Uuid, Stored>>,
}

impl Uploads {
    pub(super) fn new(sessions: PathBuf, usage: Usage) -> Self {
        Self {
            sessions,
            usage,
            wake: Notify::new(),
            stored: Mutex::default(),
        }
    }

    /// There may be something to upload.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// What was stored since the last call.
    pub(super) fn take_stored(&self) -> HashMap<Uuid, Stored> {
        std::mem::take(&mut *self.stored.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_stored(&self, id: Uuid, stored: Stored) {
        self.stored
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, stored);
    }

    /// Whether nothing waits for the store, nor for being noted as stored.
    pub(super) fn is_empty(&self) -> bool {
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

/// Why an upload stopped.
enum Stopped {
    /// The store does not take it.
    Store(StoreError),
    /// The spool does not give it.
    Spool(SpoolError),
}

impl From<SpoolError> for Stopped {
    fn from(error: SpoolError) -> Self {
        Self::Spool(error)
    }
}

/// Uploads until it is stopped.
pub struct Uploader {
    uploads: Arc<Uploads>,
    store: AnyStore,
    running: JoinSet<(Uuid, Result<bool, Stopped>)>,
    active: HashSet<Uuid>,
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
            active: HashSet::new(),
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
            let next = next.unwrap_or(now + LONGEST);
            let uploads = Arc::clone(&self.uploads);
            tokio::select! {
                () = stop.cancelled() => return,
                Some(ended) = self.running.join_next() => match ended {
                    Ok((id, result)) => self.ended(id, result),
                    Err(error) => tracing::error!(%error, "an upload died"),
                },
                () = uploads.wake.notified(), if self.running.len() < PARALLEL => {}
                () = tokio::time::sleep_until(next), if self.running.len() < PARALLEL => {}
            }
        }
    }

    /// Starts uploads for sessions that have something to upload.
    fn begin(&mut self) {
        let now = Instant::now();
        let folders = self.uploads.folders();
        let present: HashSet<Uuid> = folders.iter().map(|(id, _)| *id).collect();
        self.complete.retain(|id| present.contains(id));
        self.pauses.retain(|id, _| present.contains(id));
        for (id, folder) in folders {
            if self.running.len() >= PARALLEL {
                return;
            }
            let pausing = self.pauses.get(&id).is_some_and(|(_, until)| *until > now);
            if pausing || self.complete.contains(&id) || !self.active.insert(id) {
                continue;
            }
            match is_finished_or_waiting(&folder) {
                true => {
                    let upload = Upload {
                        id,
                        folder,
                        uploads: Arc::clone(&self.uploads),
                        store: Arc::clone(&self.store),
                    };
                    self.running.spawn(async move { (id, upload.run().await) });
                }
                false => {
                    self.active.remove(&id);
                }
            }
        }
    }

    fn ended(&mut self, id: Uuid, result: Result<bool, Stopped>) {
        self.active.remove(&id);
        let (mut backoff, _) = self
            .pauses
            .remove(&id)
            .unwrap_or((Backoff::default(), Instant::now()));
        let pause = match &result {
            Ok(complete) => {
                if *complete {
                    self.complete.insert(id);
                }
                if self.trouble.take().is_some() {
                    tracing::info!("the store takes recordings again");
                }
                backoff = Backoff::default();
                BETWEEN_UPLOADS
            }
            Err(Stopped::Store(error)) if !error.is_transient() => Backoff::longest(),
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
        Failure::Conflict { .. } => "conflict".to_owned(),
        other => other
            .to_string()
            .split(" (request ")
            .next()
            .unwrap_or_default()
            .to_owned(),
    }
}

fn is_finished_or_waiting(folder: &Folder) -> bool {
    folder.objects().is_ok_and(|objects| !objects.is_empty())
        || folder.read_kept().is_ok_and(|kept| kept.finished)
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
    async fn run(self) -> Result<bool, Stopped> {
        // Read before the list of objects: when it says `finished`, the list
        // that follows has the manifest in it, or the store has.
        let kept = self.folder.read_kept()?;
        let key: SessionKey = kept
            .key
            .parse()
            .map_err(|error| SpoolError::malformed(self.folder.path(), error))?;
        for name in self.folder.objects()? {
            let seal = match name {
                // Without its seal, the chunk is not yet given free.
                ObjectName::Chunk(number) => match self.folder.read_seal(number) {
                    Ok(seal) => Some(seal),
                    Err(_) => return Ok(false),
                },
                _ => None,
            };
            let object = WaitingObject::open(&self.folder, &key, name, seal.as_ref())?;
            let acknowledged = object.put(&self.store).await?;
            self.uploads.usage.remove(acknowledged.delete()?);
            if let Some(seal) = seal {
                self.uploads.put_stored(self.id, Stored::after(&seal));
            }
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

/// An object that only the spool has.
#[must_use]
struct WaitingObject {
    path: PathBuf,
    key: String,
    body: Body,
}

/// An object that the store has: only this can be deleted.
#[must_use]
struct AcknowledgedObject(WaitingObject);

impl WaitingObject {
    fn open(
        folder: &Folder,
        key: &SessionKey,
        name: ObjectName,
        seal: Option<&Seal>,
    ) -> Result<Self, SpoolError> {
        let path = folder.object(name);
        let body = fs::read(&path).map_err(|error| SpoolError::new("read", &path, error))?;
        if seal.is_some_and(|seal| seal.entry.sha256 != Digest::of(&body)) {
            return Err(SpoolError::malformed(&path, "it is not what was sealed"));
        }
        Ok(Self {
            path,
            key: key.object(name).to_string(),
            body: Body::from(body),
        })
    }

    async fn put(self, store: &AnyStore) -> Result<AcknowledgedObject, Stopped> {
        let marker = with_suffix(&self.path, ".sent");
        let tried_before = marker.exists();
        if !tried_before {
            write_synced(&marker, b"")?;
            sync_parent(&marker)?;
        }
        match store.put_new(&self.key, self.body.clone()).await {
            // Who may only write cannot look. The object is this agent's own
            // when it has tried before and the answer was lost.
            Ok(PutOutcome::AlreadyUnverified) if !tried_before => Err(Stopped::Store(StoreError {
                operation: "write",
                uri: store.uri(&self.key),
                failure: Failure::Config(
                    "an object this agent did not write is there, and the key may not read it"
                        .to_owned(),
                ),
            })),
            Ok(
                PutOutcome::Created | PutOutcome::AlreadyIdentical | PutOutcome::AlreadyUnverified,
            ) => Ok(AcknowledgedObject(self)),
            Err(error) => Err(Stopped::Store(error)),
        }
    }
}

impl AcknowledgedObject {
    /// Deletes the local copy; its size in bytes.
    fn delete(self) -> Result<u64, SpoolError> {
        let Self(object) = self;
        delete(&object.path)?;
        delete(&with_suffix(&object.path, ".sent"))?;
        Ok(object.body.len() as u64)
    }
}
