//! Key log entries and digests on their way to the store: one file each, in the
//! order they were made, and uploaded in that order.
//!
//! The collector hears of a key as soon as there is one, and of a digest when it
//! is stored: what it knows is then missing in a store that is older.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use auditty_proto::v1::{DigestHeadReport, HostKeyReport, Report, report::Fact};
use auditty_recording::digest::Digest;
use auditty_recording::host::{HostObject, SignedObject};
use auditty_recording::store::{AnyStore, Body, Failure, PutOutcome, StoreError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, LONGEST};
use super::files::{SpoolError, delete, names, place_folder, rename, with_suffix, write_whole};
use super::object::{mark_tried, unmark_tried};

/// The queue: the folder itself.
#[derive(Debug)]
pub struct HostObjects {
    folder: PathBuf,
    next: AtomicU64,
    /// Number behind the newest key log entry.
    key: AtomicU64,
    /// Number behind what was last stored, or set aside.
    done: AtomicU64,
    wake: Notify,
    reports: Mutex<Reports>,
}

/// What the collector is to hear of.
#[derive(Debug, Default)]
struct Reports {
    /// New keys, in their order; they are taken before there can be many.
    keys: Vec<Report>,
    /// The newest digest in the store.
    digest: Option<Report>,
}

impl HostObjects {
    pub(super) fn open(spool: &Path) -> Result<Self, SpoolError> {
        let folder = spool.join("host");
        place_folder(&folder)?;
        let next = numbers(&folder)?.last().map_or(0, |number| number + 1);
        Ok(Self {
            folder,
            next: AtomicU64::new(next),
            key: AtomicU64::new(0),
            done: AtomicU64::new(0),
            wake: Notify::new(),
            reports: Mutex::default(),
        })
    }

    /// Appends an object and its signature.
    pub(super) fn push(&self, object: &SignedObject) -> Result<(), SpoolError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.path(number);
        if matches!(object.key.object, HostObject::Key { .. }) {
            self.key.store(number + 1, Ordering::Release);
        }
        let json =
            serde_json::to_vec(object).map_err(|error| SpoolError::malformed(&path, error))?;
        write_whole(&path, &json)?;
        self.wake.notify_one();
        if let HostObject::Key { .. } = object.key.object {
            let fact = Fact::HostKey(HostKeyReport {
                json: object.json.clone(),
                signature: object.signature.clone(),
            });
            let report = Report { fact: Some(fact) };
            self.reports().keys.push(report);
        }
        Ok(())
    }

    fn reports(&self) -> std::sync::MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the collector is to hear of.
    pub(super) fn take_reports(&self) -> Vec<Report> {
        let Reports { mut keys, digest } = std::mem::take(&mut *self.reports());
        keys.extend(digest);
        keys
    }

    /// Whether there is something that the collector is to hear of.
    pub(super) fn has_reports(&self) -> bool {
        let reports = self.reports();
        !reports.keys.is_empty() || reports.digest.is_some()
    }

    /// Appends an object that may be stored already, by this host.
    pub(super) fn push_again(&self, object: &SignedObject) -> Result<(), SpoolError> {
        let path = self.path(self.next.load(Ordering::Relaxed));
        mark_tried(&path)?;
        self.push(object)
    }

    /// Whether the store has the key that signs now: what it signs is not to be
    /// there before.
    pub(super) fn key_is_stored(&self) -> bool {
        self.done.load(Ordering::Acquire) >= self.key.load(Ordering::Acquire)
    }

    /// Whether nothing waits for the store.
    pub fn is_empty(&self) -> bool {
        numbers(&self.folder).is_ok_and(|numbers| numbers.is_empty())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:020}.json"))
    }

    /// Uploads until it is stopped.
    pub async fn upload(&self, store: AnyStore, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        let mut trouble = None;
        loop {
            let pause = match self.upload_first(&store).await {
                Ok(true) => {
                    backoff = Backoff::default();
                    trouble = None;
                    continue;
                }
                Ok(false) => LONGEST,
                Err(error) => {
                    if trouble.replace(error.clone()) != Some(error.clone()) {
                        tracing::warn!(error, "a key log entry or digest is not stored yet");
                    }
                    backoff.pause()
                }
            };
            if !self.rest(pause, &stop).await {
                return;
            }
        }
    }

    /// Waits for something to do; whether to go on.
    async fn rest(&self, pause: Duration, stop: &CancellationToken) -> bool {
        tokio::select! {
            () = stop.cancelled() => false,
            () = self.wake.notified() => true,
            () = tokio::time::sleep(pause) => true,
        }
    }

    /// Uploads the first object; `false` when there is none.
    async fn upload_first(&self, store: &AnyStore) -> Result<bool, String> {
        let text = |error: SpoolError| error.to_string();
        let Some(number) = numbers(&self.folder).map_err(text)?.first().copied() else {
            return Ok(false);
        };
        let path = self.path(number);
        let json = fs::read(&path).map_err(|error| error.to_string())?;
        let done = match serde_json::from_slice::<SignedObject>(&json) {
            Ok(object) => {
                let head = digest_head(&object);
                let put = put_both(store, &path, object).await;
                if put.is_ok() && head.is_some() {
                    self.reports().digest = head;
                }
                put
            }
            Err(error) => Err(Refused::ForGood(error.to_string())),
        };
        match done {
            Ok(()) => delete(&path)
                .and_then(|()| delete(&with_suffix(&path, ".sent")))
                .map_err(text)?,
            Err(Refused::ForNow(error)) => return Err(error),
            Err(Refused::ForGood(error)) => {
                tracing::error!(
                    error,
                    "a key log entry or digest cannot be stored; it is set aside as *.refused, and verification shows the break"
                );
                rename(&path, &with_suffix(&path, ".refused"))
                    .and_then(|()| delete(&with_suffix(&path, ".sent")))
                    .map_err(text)?;
            }
        }
        self.done.fetch_max(number + 1, Ordering::AcqRel);
        Ok(true)
    }
}

/// Why an object was not stored.
enum Refused {
    /// It may be tried again.
    ForNow(String),
    /// It would never be stored, and must not hold up those behind it.
    ForGood(String),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error.failure {
            Failure::Conflict { .. } | Failure::InvalidKey => Self::ForGood(error.to_string()),
            _ => Self::ForNow(error.to_string()),
        }
    }
}

/// What the collector is to know of a digest in the store.
fn digest_head(object: &SignedObject) -> Option<Report> {
    let HostObject::Digest { log, number, .. } = &object.key.object else {
        return None;
    };
    let fact = Fact::DigestHead(DigestHeadReport {
        log: log.to_string(),
        number: *number,
        sha256: Digest::of(object.json.as_bytes()).to_string(),
    });
    Some(Report { fact: Some(fact) })
}

/// Stores an object behind its signature: none ever stands without.
async fn put_both(store: &AnyStore, path: &Path, object: SignedObject) -> Result<(), Refused> {
    let failed = |error: SpoolError| Refused::ForNow(error.to_string());
    let tried_before = with_suffix(path, ".sent").exists();
    if !tried_before {
        mark_tried(path).map_err(failed)?;
    }
    let signature = object.key.sig();
    let both = [
        (signature, object.signature.into_bytes()),
        (object.key, object.json.into_bytes()),
    ];
    let mut nothing_is_there = !tried_before;
    for (key, body) in both {
        match store.put_new(&key.to_string(), Body::from(body)).await {
            Ok(PutOutcome::AlreadyUnverified) if !tried_before => {
                return Err(Refused::ForGood(format!(
                    "{key}: an object this agent did not write is there"
                )));
            }
            Ok(_) => nothing_is_there = false,
            Err(error) => {
                if nothing_is_there && !error.is_unanswered() {
                    unmark_tried(path).map_err(failed)?;
                }
                return Err(error.into());
            }
        }
    }
    Ok(())
}

/// Numbers of what waits, in order.
fn numbers(folder: &Path) -> Result<Vec<u64>, SpoolError> {
    let names = names(folder)?;
    let number = |name: &String| name.strip_suffix(".json")?.parse().ok();
    Ok(names.iter().filter_map(number).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use auditty_recording::store::LocalStore;

    use super::*;

    /// What was only refused is not there: an object found there later is somebody
    /// else's.
    #[tokio::test]
    async fn a_refusal_leaves_no_doubt_about_who_wrote_an_object() {
        let folder = tempfile::tempdir().unwrap();
        let queue = HostObjects::open(folder.path()).unwrap();
        let object = SignedObject {
            key: "v1/host=h/keys/log=0123456789abcdef/000000.json"
                .parse()
                .unwrap(),
            json: "{}".into(),
            signature: "signed".into(),
        };
        queue.push(&object).unwrap();
        let path = folder.path().join("store");
        fs::write(&path, "a file where a folder belongs").unwrap();
        let store: AnyStore = Arc::new(LocalStore::new(&path));
        assert!(queue.upload_first(&store).await.is_err());
        assert!(!with_suffix(&queue.path(0), ".sent").exists());
        assert!(!queue.is_empty());
        fs::remove_file(&path).unwrap();
        assert_eq!(queue.upload_first(&store).await, Ok(true));
        assert!(queue.is_empty());
    }
}
