//! SQLite: one file, one writer, several readers. WAL with `synchronous=FULL`:
//! a commit that was answered survives a power cut.

use std::{
    fs::{OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{
    SqliteConnection,
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
/// How long a question may take: a caller is gone by then, and few questions at a
/// time are answered.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Steps of a statement between two looks at the clock: less than a millisecond.
const STEPS: i32 = 10_000;

pub(super) async fn open(path: &Path) -> Result<Database, String> {
    open_limited(path, STATEMENT_TIMEOUT).await
}

async fn open_limited(path: &Path, longest: Duration) -> Result<Database, String> {
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
    // A reader is given out for one statement.
    let readers = pool(READERS)
        .after_connect(move |reader, _| Box::pin(limit(reader, longest)))
        .before_acquire(move |reader, _| {
            Box::pin(async move {
                limit(reader, longest).await?;
                Ok(true)
            })
        });
    let readers = readers.connect_with(options.read_only(true)).await;
    let readers = readers.map_err(|error| error.to_string())?;
    Ok(Database::Sqlite { writer, readers })
}

/// Ends what still runs on a connection after that time.
async fn limit(connection: &mut SqliteConnection, longest: Duration) -> Result<(), sqlx::Error> {
    let end = Instant::now() + longest;
    let mut handle = connection.lock_handle().await?;
    handle.set_progress_handler(STEPS, move || Instant::now() < end);
    Ok(())
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

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::query::failed;

    /// Counts without an end.
    const ENDLESS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
                           SELECT count(*) AS i FROM n";

    async fn seven(database: &Database) -> Option<i64> {
        let row = database.row(database.sql("SELECT 7 AS i")).await.unwrap();
        row.unwrap().int("i").unwrap()
    }

    #[tokio::test]
    async fn a_question_that_takes_too_long_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.db");
        let longest = Duration::from_millis(200);
        let database = open_limited(&path, longest).await.unwrap();
        // Each reader more than once, and each can be used again.
        for _ in 0..2 * READERS {
            let begin = Instant::now();
            let error = database.row(database.sql(ENDLESS)).await.err().unwrap();
            assert!(begin.elapsed() >= longest, "{error}");
            assert_eq!(failed(error).code(), Code::DeadlineExceeded);
            assert_eq!(seven(&database).await, Some(7));
        }
        database.close().await;
    }

    #[tokio::test]
    async fn questions_that_nobody_waits_for_block_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.db");
        let longest = Duration::from_millis(500);
        let database = open_limited(&path, longest).await.unwrap();
        for _ in 0..READERS {
            let endless = database.row(database.sql(ENDLESS));
            let left = tokio::time::timeout(Duration::from_millis(20), endless).await;
            assert!(left.is_err(), "it has ended already");
        }
        let begin = Instant::now();
        assert_eq!(seven(&database).await, Some(7));
        assert!(begin.elapsed() < ACQUIRE_TIMEOUT);
        database.close().await;
    }

    #[tokio::test]
    async fn the_time_of_a_question_begins_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.db");
        let longest = Duration::from_millis(100);
        let database = open_limited(&path, longest).await.unwrap();
        for _ in 0..3 {
            tokio::time::sleep(longest * 2).await;
            // Enough steps for a look at the clock.
            let some = ENDLESS.replace("FROM n)", "FROM n WHERE i < 20000)");
            let row = database.row(database.sql(some)).await.unwrap();
            assert_eq!(row.unwrap().int("i").unwrap(), Some(20_000));
        }
        database.close().await;
    }
}
