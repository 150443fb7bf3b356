//! One object on its way to the store.
//!
//! A key that may only put cannot look at what is there. When the store says
//! that the object exists, it is this agent's own only if an answer to an
//! earlier put was lost; `<object>.sent` stands for that, and is there only
//! while it is so.

use std::fs;
use std::path::{Path, PathBuf};

use auditty_recording::digest::Digest;
use auditty_recording::key::{ObjectName, SessionKey};
use auditty_recording::store::{AnyStore, Body, Failure, PutOutcome, StoreError};

use super::files::{SpoolError, delete, sync_parent, with_suffix, write_synced};
use super::folder::{Folder, Seal};

/// Why an upload stopped.
#[derive(Debug)]
pub(super) enum Stopped {
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

impl Stopped {
    /// Something else stands where the object belongs: trouble with this one
    /// object, not with the store.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}

/// An object that only the spool has.
#[must_use]
pub(super) struct WaitingObject {
    path: PathBuf,
    key: String,
    body: Body,
}

/// An object that the store has: only this can be deleted.
#[must_use]
pub(super) struct AcknowledgedObject(WaitingObject);

impl WaitingObject {
    pub(super) fn open(
        folder: &Folder,
        key: &SessionKey,
        name: ObjectName,
    ) -> Result<Self, SpoolError> {
        let path = folder.object(name);
        let body = fs::read(&path).map_err(|error| SpoolError::new("read", &path, error))?;
        Ok(Self {
            path,
            key: key.object(name).to_string(),
            body: Body::from(body),
        })
    }

    /// Whether it is what was sealed.
    pub(super) fn is(&self, seal: &Seal) -> bool {
        seal.entry.sha256 == Digest::of(&self.body)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) async fn put(self, store: &AnyStore) -> Result<AcknowledgedObject, Stopped> {
        let may_be_there = with_suffix(&self.path, ".sent").exists();
        if !may_be_there {
            mark_tried(&self.path)?;
        }
        match store.put_new(&self.key, self.body.clone()).await {
            Ok(PutOutcome::AlreadyUnverified) if !may_be_there => {
                unmark_tried(&self.path)?;
                Err(Stopped::Store(StoreError {
                    operation: "write",
                    uri: store.uri(&self.key),
                    failure: Failure::Unreadable {
                        expected: Digest::of(&self.body),
                    },
                }))
            }
            Ok(
                PutOutcome::Created | PutOutcome::AlreadyIdentical | PutOutcome::AlreadyUnverified,
            ) => Ok(AcknowledgedObject(self)),
            Err(error) => {
                // What was refused once is not there, unless it was before.
                if !may_be_there && !error.is_unanswered() {
                    unmark_tried(&self.path)?;
                }
                Err(Stopped::Store(error))
            }
        }
    }
}

/// From now on an answer about this object may be lost.
pub(super) fn mark_tried(path: &Path) -> Result<(), SpoolError> {
    let marker = with_suffix(path, ".sent");
    write_synced(&marker, b"")?;
    sync_parent(&marker)
}

/// No answer was: the store has refused it.
pub(super) fn unmark_tried(path: &Path) -> Result<(), SpoolError> {
    let marker = with_suffix(path, ".sent");
    delete(&marker)?;
    sync_parent(&marker)
}

impl AcknowledgedObject {
    /// Deletes the local copy; its size in bytes.
    pub(super) fn delete(self) -> Result<u64, SpoolError> {
        let Self(object) = self;
        delete(&object.path)?;
        delete(&with_suffix(&object.path, ".sent"))?;
        Ok(object.body.len() as u64)
    }
}
