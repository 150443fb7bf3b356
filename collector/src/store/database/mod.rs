//! The two databases behind one face: statements go in as [`Sql`], rows come
//! out as [`Row`], and what differs between the dialects is in [`sql`]. Futures are
//! boxed: what speaks to the databases is compiled once, not with every caller.

mod postgres;
mod row;
mod sql;
mod sqlite;

use std::{borrow::Cow, fmt, path::PathBuf, str::FromStr};

use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream::BoxStream};
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool, Transaction, migrate::MigrateError};

pub(super) use row::Row;
pub(super) use sql::{Bound, Dialect, Sql};

use super::StoreError;

/// Where a database is: a file of SQLite's, or a PostgreSQL server.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A file, created where there is none.
    Sqlite(PathBuf),
    /// `postgres://user@host:port/database?sslmode=verify-full`. What it leaves
    /// out comes from the variables of libpq, such as `PGPASSWORD` and
    /// `PGSSLROOTCERT`, and from `~/.pgpass`.
    Postgres(String),
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            postgres::options(text).map(|_| Self::Postgres(text.to_owned()))
        } else if text.contains("://") || text.is_empty() {
            Err("must be a file, or postgres://user@host/database".to_owned())
        } else {
            Ok(Self::Sqlite(text.into()))
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(formatter),
            Self::Postgres(url) => postgres::shown(url).fmt(formatter),
        }
    }
}

/// As shown: a URL may hold a password.
impl fmt::Debug for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// An open database.
#[derive(Clone, Debug)]
pub(super) enum Database {
    /// One file: one writer, several readers.
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
    /// A server, and whether it can look up parts of texts.
    Postgres { pool: PgPool, trigrams: bool },
}

/// A transaction; dropped without [`Changes::commit`] it never happened.
#[must_use]
pub(super) enum Changes {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Database {
    pub(super) async fn open(location: &Location) -> Result<Self, StoreError> {
        let opened = match location {
            Location::Sqlite(path) => sqlite::open(path).await,
            Location::Postgres(url) => postgres::open(url).await,
        };
        opened.map_err(|reason| StoreError::Open {
            location: location.clone(),
            reason,
        })
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres { pool, .. } => pool.close().await,
        }
    }

    /// An empty statement.
    pub(super) fn sql(&self, text: impl AsRef<str>) -> Sql {
        Sql::new(self.dialect(), text.as_ref())
    }

    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite { .. } => Dialect::Sqlite,
            Self::Postgres { .. } => Dialect::Postgres,
        }
    }

    /// Whether there is an index of parts of command lines.
    pub(super) fn indexes_texts(&self) -> bool {
        match self {
            Self::Sqlite { .. } => true,
            Self::Postgres { trigrams, .. } => *trigrams,
        }
    }

    /// Begins to write.
    pub(super) fn begin(&self) -> BoxFuture<'_, Result<Changes, sqlx::Error>> {
        let begun = async move {
            Ok(match self {
                // Taking the write lock at once: a lock that is upgraded later can
                // fail where this one waits.
                Self::Sqlite { writer, .. } => {
                    Changes::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?)
                }
                Self::Postgres { pool, .. } => Changes::Postgres(pool.begin().await?),
            })
        };
        begun.boxed()
    }

    /// What a question finds, row after row.
    pub(super) fn rows(&self, question: Sql) -> BoxStream<'_, Result<Row, StoreError>> {
        match self {
            Self::Sqlite { readers, .. } => {
                let rows = question.for_sqlite().fetch(readers);
                rows.map_ok(Row::Sqlite).map_err(StoreError::from).boxed()
            }
            Self::Postgres { pool, .. } => {
                let rows = question.for_postgres().fetch(pool);
                rows.map_ok(Row::Postgres).map_err(StoreError::from).boxed()
            }
        }
    }

    /// The first row that a question finds.
    pub(super) async fn row(&self, question: Sql) -> Result<Option<Row>, StoreError> {
        self.rows(question).try_next().await
    }
}

impl Changes {
    /// Does it, and says how many rows it changed.
    pub(super) fn execute(&mut self, change: Sql) -> BoxFuture<'_, Result<u64, StoreError>> {
        let changed = async move {
            Ok(match self {
                Self::Sqlite(transaction) => {
                    let done = change.for_sqlite().execute(&mut **transaction).await?;
                    done.rows_affected()
                }
                Self::Postgres(transaction) => {
                    let done = change.for_postgres().execute(&mut **transaction).await?;
                    done.rows_affected()
                }
            })
        };
        changed.boxed()
    }

    /// What a question inside the transaction finds.
    pub(super) fn rows(&mut self, question: Sql) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        let found = async move {
            Ok(match self {
                Self::Sqlite(transaction) => {
                    let rows = question.for_sqlite().fetch_all(&mut **transaction).await?;
                    rows.into_iter().map(Row::Sqlite).collect()
                }
                Self::Postgres(transaction) => {
                    let rows = question.for_postgres();
                    let rows = rows.fetch_all(&mut **transaction).await?;
                    rows.into_iter().map(Row::Postgres).collect()
                }
            })
        };
        found.boxed()
    }

    /// Makes it durable.
    pub(super) fn commit(self) -> BoxFuture<'static, Result<(), StoreError>> {
        let committed = async move {
            match self {
                Self::Sqlite(transaction) => transaction.commit().await?,
                Self::Postgres(transaction) => transaction.commit().await?,
            }
            Ok(())
        };
        committed.boxed()
    }
}

/// Whether the same transaction may well succeed when it is tried again: the
/// server gave way to another one (serialization failure, deadlock), or another
/// one was first with a row that there is one of, or with its place in the order.
pub(super) fn is_passing(error: &StoreError) -> bool {
    // The last one is SQLite's, of a primary key.
    matches!(
        code(error).as_deref(),
        Some("40001" | "40P01" | "23505" | "1555")
    )
}

/// Whether a statement was ended because it took too long.
pub(super) fn is_timeout(error: &StoreError) -> bool {
    // PostgreSQL's `query_canceled`, SQLite's `SQLITE_INTERRUPT`.
    matches!(code(error).as_deref(), Some("57014" | "9"))
}

/// What the database calls an error.
fn code(error: &StoreError) -> Option<Cow<'_, str>> {
    match error {
        StoreError::Database(sqlx::Error::Database(error)) => error.code(),
        _ => None,
    }
}

fn migration_failed(error: &MigrateError) -> String {
    match error {
        MigrateError::VersionMissing(_) => "a newer release wrote it; use that release".to_owned(),
        error => error.to_string(),
    }
}
