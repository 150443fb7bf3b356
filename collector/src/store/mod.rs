//! Where metadata is kept: SQLite or PostgreSQL. [`Store`] is what the services
//! see. It knows SQL and nothing of gRPC; what the two databases do not have in
//! common is in the module `database`.

mod alerts;
mod audit;
mod command_filter;
mod coverage;
mod database;
mod fact;
mod failed_logins;
mod filters;
mod grants;
mod heads;
mod host_keys;
mod hosts;
mod read;
mod receipts;
mod search;
mod session_changes;
mod silent;
mod write;

use futures::future::BoxFuture;
use uuid::Uuid;

pub use alerts::{AlertRevision, Cause};
pub use coverage::{Covered, HostCover, Range};
pub use database::Location;
pub use fact::{Batch, CommandEnd, ConnectEnd, Fact};
pub use failed_logins::FailedLoginPosition;
pub use grants::{Change, GrantRevision};
pub use host_keys::{Accepted, HostPosition};
pub use read::GoingOn;
pub use receipts::{KnownHead, ReceiptPosition};
pub use search::{CommandPosition, Found};
pub use session_changes::{ChangePosition, SessionRevision};
pub use silent::{Heard, HostName};

use database::Database;

/// Most bytes of messages in one page: a client's default limit for one answer
/// is 4 MiB.
pub const MAX_PAGE_BYTES: usize = 3 * 1024 * 1024;

/// Where a page of sessions begins: after this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPosition {
    /// Its start, nanoseconds since 1970.
    pub start_ns: i64,
    /// Its id.
    pub id: Uuid,
}

/// One page.
#[derive(Debug)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// There is more after it.
    pub more: bool,
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be opened or created.
    #[error("cannot open the database {location}: {reason}")]
    Open {
        /// Where it is.
        location: Location,
        /// What is wrong.
        reason: String,
    },
    /// A host reported a session of another one.
    #[error("session {session} belongs to another host than {host_id:?}")]
    OtherHost {
        /// The session.
        session: String,
        /// Who reported it.
        host_id: String,
    },
    /// The database did not do it.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// A stored message does not decode.
    #[error("the database holds a message that does not decode: {0}")]
    Damaged(#[from] prost::DecodeError),
}

impl StoreError {
    /// Whether the database ended a statement because it took too long.
    pub(crate) fn is_timeout(&self) -> bool {
        database::is_timeout(self)
    }
}

/// Whose sessions somebody may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everybody's.
    All,
    /// Those of one tenant.
    Tenant(String),
}

/// The metadata of sessions. Clones share one database.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens the database and brings its tables up to date. A file of SQLite's
    /// is created, readable by its owner only, where there is none.
    pub fn open(location: &Location) -> BoxFuture<'_, Result<Self, StoreError>> {
        Box::pin(async move {
            let database = Database::open(location).await?;
            Ok(Self { database })
        })
    }

    /// Waits for running queries, then closes the database.
    pub async fn close(&self) {
        self.database.close().await;
    }
}

/// A moment as the database holds it; `None` outside 1677 to 2262.
pub fn nanoseconds(time: &prost_types::Timestamp) -> Option<i64> {
    let time = auditty_proto::convert::from_timestamp(time)?;
    i64::try_from(time.as_nanosecond()).ok()
}
