//! SQLite: one file, one writer, several readers. WAL with `synchronous=FULL`:
//! a commit that was answered survives a power cut.

use std::{
    fs::{OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use sqlx::{
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{Database, migration_failed};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Queries run beside each other; more would only wait for the disk.
const READERS: u32 = 4;
/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn open(path: &Path) -> Result<Database, String> {
    create_private(path).map_err(|error| error.to_string())?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT);
    let pool = |size| {
        SqlitePoolOptions::new()
            .max_connections(size)
            .acquire_timeout(ACQUIRE_TIMEOUT)
    };
    let writer = pool(1).connect_with(options.clone()).await;
    let writer = writer.map_err(|error| error.to_string())?;
    MIGRATIONS
        .run(&writer)
        .await
        .map_err(|error| migration_failed(&error))?;
    let readers = pool(READERS).connect_with(options.read_only(true)).await;
    let readers = readers.map_err(|error| error.to_string())?;
    Ok(Database::Sqlite { writer, readers })
}

/// SQLite gives its side files the mode of the database, so that is set first.
fn create_private(path: &Path) -> io::Result<()> {
    let created = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match created {
        Ok(file) => file.set_permissions(Permissions::from_mode(0o600)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let file = OpenOptions::new().read(true).write(true).open(path)?;
            match file.metadata()?.is_file() {
                true => Ok(()),
                false => Err(io::Error::other("not a file")),
            }
        }
        Err(error) => Err(error),
    }
}
