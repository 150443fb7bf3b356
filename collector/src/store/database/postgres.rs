//! PostgreSQL: a fleet's collector, and several collectors on one database.

use std::{str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, Executor, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{Database, migration_failed};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Connections of one collector. A server has 100 unless told otherwise.
const CONNECTIONS: u32 = 16;
/// How long a request waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a statement may take: a caller is gone by then.
const STATEMENT_TIMEOUT: &str = "30s";

pub(super) fn options(url: &str) -> Result<PgConnectOptions, String> {
    let options = PgConnectOptions::from_str(url).map_err(|error| error.to_string())?;
    Ok(options
        .application_name("auditty-collector")
        .options([("statement_timeout", STATEMENT_TIMEOUT)]))
}

/// The URL without its password.
pub(super) fn shown(url: &str) -> String {
    match PgConnectOptions::from_str(url) {
        Ok(options) => {
            let mut shown = options.to_url_lossy();
            // Neither fails for a URL with a host, which this one has.
            let _ = shown.set_password(None);
            shown.set_query(None);
            shown.to_string()
        }
        Err(_) => "postgres://…".to_owned(),
    }
}

pub(super) async fn open(url: &str) -> Result<Database, String> {
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A commit that is answered survives a crash of the server, whatever
        // its configuration says; a stricter one (`remote_apply`) stays.
        .after_connect(|connection, _| {
            Box::pin(async move {
                connection
                    .execute(
                        "SELECT set_config('synchronous_commit', 'on', false)
                         WHERE current_setting('synchronous_commit') IN ('off', 'local')",
                    )
                    .await?;
                Ok(())
            })
        })
        .connect_with(options(url)?)
        .await
        .map_err(|error| error.to_string())?;
    // Collectors that start together wait for each other here.
    MIGRATIONS
        .run(&pool)
        .await
        .map_err(|error| migration_failed(&error))?;
    let trigrams = match index_texts(&pool).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(
                "searching in command lines is slow: its index needs the extension pg_trgm, \
                 which cannot be used: {error}; have an administrator run CREATE EXTENSION \
                 pg_trgm in this database, and start the collector again"
            );
            false
        }
    };
    Ok(Database::Postgres { pool, trigrams })
}

/// Indexes parts of command lines, where that is allowed.
async fn index_texts(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    for statement in [
        // Of many commands it takes its time, once.
        "SET LOCAL statement_timeout = 0",
        // Collectors that start together wait for each other here.
        "SELECT pg_advisory_xact_lock(hashtext('auditty commands_by_text'))",
        "CREATE EXTENSION IF NOT EXISTS pg_trgm",
        "CREATE INDEX IF NOT EXISTS commands_by_text
         ON commands USING gin (lower(command_line) gin_trgm_ops)",
    ] {
        transaction.execute(statement).await?;
    }
    transaction.commit().await
}
