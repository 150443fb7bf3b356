//! Reports → rows. The tables end up the same whatever the order of reports
//! and however often each arrives.

use auditty_proto::{
    filter::{ACTIVITY_FIELDS, COMMAND_FIELDS, Field, SESSION_FIELDS, Value},
    v1,
};
use prost::Message;
use sqlx::{QueryBuilder, SqliteConnection};
use uuid::Uuid;

use super::{
    Sqlite,
    sql::{push_field, push_value},
};
use crate::store::{Batch, CommandEnd, ConnectEnd, Fact, StoreError};

/// Fields of a command that stand in `command_ends`.
pub(super) const END_FIELDS: [&str; 2] = ["exit_code", "signal"];

impl Sqlite {
    pub(in crate::store) async fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        // Taking the write lock at once: a lock that is upgraded later can
        // fail where this one waits.
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let connection = &mut *transaction;
        for fact in &batch.facts {
            claim(connection, fact.session_id(), &batch.host_id).await?;
            match fact {
                Fact::Session {
                    revision,
                    id,
                    session,
                } => put_session(connection, *id, *revision, session).await?,
                Fact::Command { session, command } => {
                    let fields = COMMAND_FIELDS.iter();
                    let fields = fields.filter(|field| !END_FIELDS.contains(&field.name));
                    put(connection, "commands", *session, fields, &**command).await?;
                }
                Fact::CommandEnd(end) => put_command_end(connection, end).await?,
                Fact::Activity { session, activity } => {
                    let fields = ACTIVITY_FIELDS.iter();
                    put(connection, "activities", *session, fields, &**activity).await?;
                }
                Fact::ConnectEnd(end) => put_connect_end(connection, end).await?,
            }
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// The first host that names a session owns it.
async fn claim(
    connection: &mut SqliteConnection,
    session: Uuid,
    host_id: &str,
) -> Result<(), StoreError> {
    let id = session.to_string();
    sqlx::query(
        "INSERT INTO session_hosts (session_id, host_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(&id)
    .bind(host_id)
    .execute(&mut *connection)
    .await?;
    let owner: String =
        sqlx::query_scalar("SELECT host_id FROM session_hosts WHERE session_id = ?")
            .bind(&id)
            .fetch_one(&mut *connection)
            .await?;
    if owner != host_id {
        return Err(StoreError::OtherHost {
            session,
            host_id: host_id.to_owned(),
        });
    }
    Ok(())
}

async fn put_session(
    connection: &mut SqliteConnection,
    id: Uuid,
    revision: i64,
    session: &v1::Session,
) -> Result<(), StoreError> {
    let columns = || SESSION_FIELDS.iter().filter(|field| !field.repeated);
    let mut query = QueryBuilder::new("INSERT INTO sessions (revision, message");
    for field in columns() {
        query.push(", \"").push(field.name).push("\"");
    }
    query.push(") VALUES (").push_bind(revision);
    query.push(", ").push_bind(session.encode_to_vec());
    for field in columns() {
        query.push(", ");
        push_field(&mut query, field, session);
    }
    query.push(
        ") ON CONFLICT (session_id) DO UPDATE SET revision = excluded.revision, message = excluded.message",
    );
    for field in columns() {
        query.push(format_args!(", \"{0}\" = excluded.\"{0}\"", field.name));
    }
    query.push(" WHERE excluded.revision > sessions.revision");
    let changed = query.build().execute(&mut *connection).await?;
    if changed.rows_affected() > 0 {
        put_lists(connection, id, session).await?;
    }
    Ok(())
}

/// The fields with several values, one row a value.
async fn put_lists(
    connection: &mut SqliteConnection,
    id: Uuid,
    session: &v1::Session,
) -> Result<(), StoreError> {
    for field in SESSION_FIELDS.iter().filter(|field| field.repeated) {
        let mut query = QueryBuilder::new("DELETE FROM session_");
        query.push(field.name).push("s WHERE session_id = ");
        query.push_bind(id.to_string());
        query.build().execute(&mut *connection).await?;
        for value in (field.values)(session) {
            put_list_value(connection, id, field.name, &value).await?;
        }
    }
    Ok(())
}

async fn put_list_value(
    connection: &mut SqliteConnection,
    id: Uuid,
    name: &'static str,
    value: &Value<'_>,
) -> Result<(), StoreError> {
    let mut query = QueryBuilder::new(format!(
        "INSERT INTO session_{name}s ({name}, session_id) VALUES ("
    ));
    push_value(&mut query, value);
    query.push(", ").push_bind(id.to_string());
    query.push(") ON CONFLICT DO NOTHING");
    query.build().execute(connection).await?;
    Ok(())
}

/// Something that happened in a session once and never changes.
async fn put<R: Message + 'static>(
    connection: &mut SqliteConnection,
    table: &'static str,
    session: Uuid,
    fields: impl Iterator<Item = &'static Field<R>> + Clone,
    record: &R,
) -> Result<(), StoreError> {
    let mut query = QueryBuilder::new("INSERT INTO ");
    query.push(table).push(" (session_id, message");
    for field in fields.clone() {
        query.push(", ").push(field.name);
    }
    query.push(") VALUES (").push_bind(session.to_string());
    query.push(", ").push_bind(record.encode_to_vec());
    for field in fields {
        query.push(", ");
        push_field(&mut query, field, record);
    }
    query.push(") ON CONFLICT DO NOTHING");
    query.build().execute(connection).await?;
    Ok(())
}

async fn put_connect_end(
    connection: &mut SqliteConnection,
    end: &ConnectEnd,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO connect_ends (session_id, seq, sent_bytes, received_bytes, duration_ns)
         VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(end.session.to_string())
    .bind(end.seq)
    .bind(end.sent_bytes)
    .bind(end.received_bytes)
    .bind(end.duration_ns)
    .execute(connection)
    .await?;
    Ok(())
}

async fn put_command_end(
    connection: &mut SqliteConnection,
    end: &CommandEnd,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO command_ends (session_id, seq, exit_code, signal, duration_ns)
         VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(end.session.to_string())
    .bind(end.seq)
    .bind(end.exit_code)
    .bind(end.signal)
    .bind(end.duration_ns)
    .execute(connection)
    .await?;
    Ok(())
}
