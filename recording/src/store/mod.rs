//! Where objects are kept: a local folder or an S3 bucket.
//!
//! A store only ever creates objects; nothing here overwrites or deletes. Keys
//! are those of [`crate::key`], without the store's own prefix.

mod inspect;
mod local;
mod s3;
mod s3_error;
mod s3_inspect;
mod url;

use std::sync::Arc;

pub use ::bytes::Bytes as Body;
pub use futures::future::BoxFuture;
pub use inspect::{Inspection, Lock, Setting};
pub use local::LocalStore;
pub use s3::S3Store;
pub use url::{
    Encryption, ObjectLock, RetentionMode, S3Options, StoreConfig, StoreUrl, StoreUrlError,
};

use crate::digest::Digest;

/// Largest object a reader fetches, bytes: a chunk of incompressible data is
/// hardly larger than [`crate::chunk::MAX_CHUNK_BYTES`].
pub const MAX_OBJECT_BYTES: u64 = 288 << 20;

/// Most entries one listing returns.
pub const MAX_LISTED: usize = 1_000_000;

/// How a put ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object was not there and is now, durably.
    Created,
    /// The object was there already with the same content.
    AlreadyIdentical,
    /// The object was there already, and this writer may not look at it (a key
    /// with PutObject only). Usual after a put whose answer was lost.
    AlreadyUnverified,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Key, without the store's prefix.
    pub key: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// Keeps objects.
pub trait Store: Send + Sync {
    /// Creates an object that does not exist yet. The same content again is a
    /// success; other content under the same key is [`Failure::Conflict`].
    fn put_new<'a>(
        &'a self,
        key: &'a str,
        body: Body,
    ) -> BoxFuture<'a, Result<PutOutcome, StoreError>>;

    /// The content of an object of at most `limit` bytes.
    fn get<'a>(&'a self, key: &'a str, limit: u64) -> BoxFuture<'a, Result<Body, StoreError>>;

    /// All objects whose key begins with `prefix` (empty, or ending in `/`),
    /// sorted by key.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>>;

    /// The folders directly below `prefix` (empty, or ending in `/`), each with
    /// `prefix` and its closing slash, sorted.
    fn folders<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<String>, StoreError>>;

    /// Looks whether the store does what is asked of it: puts `body` under
    /// `key`, as any other object, and reads what protects it. An error is one
    /// of the put.
    fn inspect<'a>(
        &'a self,
        key: &'a str,
        body: Body,
    ) -> BoxFuture<'a, Result<Inspection, StoreError>>;

    /// `file:///…` or `s3://bucket/…` for a key or prefix, for people.
    fn uri(&self, key: &str) -> String;
}

/// A store, shared.
pub type AnyStore = Arc<dyn Store>;

/// A store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {uri}: {failure}")]
pub struct StoreError {
    /// `write`, `read`, `list` or `open`.
    pub operation: &'static str,
    /// What it was about.
    pub uri: String,
    /// What failed.
    pub failure: Failure,
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The key is not one this store can hold.
    #[error("the key is not a relative path of plain names")]
    InvalidKey,
    /// There is no such object.
    #[error("no such object")]
    NotFound,
    /// Another object is stored under this key.
    #[error("another object is there: its SHA-256 is {found}, not {expected}")]
    Conflict {
        /// Digest of what was to be stored.
        expected: Digest,
        /// Digest of what is stored.
        found: Digest,
    },
    /// An object is stored under this key that its writer has not put there,
    /// and may not look at.
    #[error(
        "an object that was not written here is there, and the key may not read it; SHA-256 \
         {expected} was to be stored"
    )]
    Unreadable {
        /// Digest of what was to be stored.
        expected: Digest,
    },
    /// Larger than the caller accepts.
    #[error("larger than {limit} bytes")]
    TooLarge {
        /// The caller's bound.
        limit: u64,
    },
    /// More than [`MAX_LISTED`] entries.
    #[error("more than {MAX_LISTED} entries")]
    TooMany,
    /// Settings, rights or credentials are wrong: an operator is needed.
    #[error("{0}")]
    Config(String),
    /// It may work later, and nothing was stored: throttling, a full disk.
    #[error("{0}")]
    Transient(String),
    /// It may work later, and whether it was stored is not known: the answer
    /// was lost, or never came.
    #[error("{0}")]
    Unanswered(String),
}

impl StoreError {
    /// There is no such object.
    pub fn is_not_found(&self) -> bool {
        matches!(self.failure, Failure::NotFound)
    }

    /// Trying again does not help until someone changes settings, rights or
    /// credentials.
    pub fn is_permanent_config(&self) -> bool {
        matches!(self.failure, Failure::Config(_) | Failure::InvalidKey)
    }

    /// Trying again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(self.failure, Failure::Transient(_) | Failure::Unanswered(_))
    }

    /// The object may have been stored all the same.
    pub fn is_unanswered(&self) -> bool {
        matches!(self.failure, Failure::Unanswered(_))
    }

    /// Another object is stored under this key.
    pub fn is_conflict(&self) -> bool {
        matches!(
            self.failure,
            Failure::Conflict { .. } | Failure::Unreadable { .. }
        )
    }
}

/// Whether a key or prefix is a relative path of plain names.
fn is_plain(key: &str) -> bool {
    let path = key.strip_suffix('/').unwrap_or(key);
    path.split('/')
        .all(|name| !matches!(name, "" | "." | "..") && !name.contains(['\0', '\\']))
}
