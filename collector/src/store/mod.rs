//! Where metadata is kept. [`Store`] is what the services see; a database
//! stands behind it in a module of its own ([`sqlite`]), which knows SQL and
//! nothing of gRPC.

mod sqlite;

use std::path::{Path, PathBuf};

use auditty_proto::{filter::Filter, v1};
use uuid::Uuid;

use sqlite::Sqlite;

/// Most bytes of messages in one page: a client's default limit for one answer
/// is 4 MiB.
pub const MAX_PAGE_BYTES: usize = 3 * 1024 * 1024;

/// A checked batch of one host.
#[derive(Debug)]
pub struct Batch {
    /// The reporting host.
    pub host_id: String,
    /// What it reports, in its order.
    pub facts: Vec<Fact>,
}

/// One checked fact.
#[derive(Debug)]
pub enum Fact {
    /// A session as it was at a revision.
    Session {
        /// Grows with every report of the session.
        revision: i64,
        /// Its id.
        id: Uuid,
        /// The session.
        session: Box<v1::Session>,
    },
    /// A command started.
    Command {
        /// Its session.
        session: Uuid,
        /// The command, without its end.
        command: Box<v1::Command>,
    },
    /// A command ended.
    CommandEnd(CommandEnd),
    /// A process did something else.
    Activity {
        /// Its session.
        session: Uuid,
        /// The activity; of a network connection without its end.
        activity: Box<v1::Activity>,
    },
    /// A network connection ended.
    ConnectEnd(ConnectEnd),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandEnd {
    /// Its session.
    pub session: Uuid,
    /// Its number in the session.
    pub seq: i64,
    /// Exit code, where it exited.
    pub exit_code: Option<u32>,
    /// Signal, where one killed it.
    pub signal: Option<u32>,
    /// How long it ran, nanoseconds.
    pub duration_ns: i64,
}

/// How a network connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectEnd {
    /// Its session.
    pub session: Uuid,
    /// Number of its beginning in the session.
    pub seq: i64,
    /// Bytes sent, where it is known.
    pub sent_bytes: Option<i64>,
    /// Bytes received, where it is known.
    pub received_bytes: Option<i64>,
    /// How long it lasted, nanoseconds.
    pub duration_ns: i64,
}

impl Fact {
    fn session_id(&self) -> Uuid {
        match self {
            Self::Session { id, .. } => *id,
            Self::Command { session, .. }
            | Self::CommandEnd(CommandEnd { session, .. })
            | Self::Activity { session, .. }
            | Self::ConnectEnd(ConnectEnd { session, .. }) => *session,
        }
    }
}

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
    #[error("cannot open the database {path}: {reason}")]
    Open {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A host reported a session of another one.
    #[error("session {session} belongs to another host than {host_id:?}")]
    OtherHost {
        /// The session.
        session: Uuid,
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

/// The metadata of sessions and their commands. Clones share one database.
#[derive(Clone, Debug)]
pub struct Store {
    database: Sqlite,
}

impl Store {
    /// Opens the SQLite database in this file; creates it, readable by its
    /// owner only, where there is none.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Sqlite::open(path).await?;
        Ok(Self { database })
    }

    /// Waits for running queries, then closes the database.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// Stores a batch: all of it, durably, or nothing. What is known already
    /// changes nothing.
    pub async fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        self.database.apply(batch).await
    }

    /// One session.
    pub async fn session(&self, id: Uuid) -> Result<Option<v1::Session>, StoreError> {
        self.database.session(id).await
    }

    /// Sessions that match, newest first.
    pub async fn sessions(
        &self,
        filter: &Filter<v1::Session>,
        after: Option<SessionPosition>,
        limit: usize,
    ) -> Result<Page<v1::Session>, StoreError> {
        self.database.sessions(filter, after, limit).await
    }

    /// Commands of a session that match, in the order they started.
    pub async fn commands(
        &self,
        session: Uuid,
        filter: &Filter<v1::Command>,
        after_seq: i64,
        limit: usize,
    ) -> Result<Page<v1::Command>, StoreError> {
        self.database
            .commands(session, filter, after_seq, limit)
            .await
    }

    /// Activities of a session that match, in order.
    pub async fn activities(
        &self,
        session: Uuid,
        filter: &Filter<v1::Activity>,
        after_seq: i64,
        limit: usize,
    ) -> Result<Page<v1::Activity>, StoreError> {
        self.database
            .activities(session, filter, after_seq, limit)
            .await
    }
}

/// A moment as the database holds it; `None` outside 1677 to 2262.
pub fn nanoseconds(time: &prost_types::Timestamp) -> Option<i64> {
    let time = auditty_proto::convert::from_timestamp(time)?;
    i64::try_from(time.as_nanosecond()).ok()
}
