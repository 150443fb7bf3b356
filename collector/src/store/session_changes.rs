//! Which sessions changed since when. A change has the number of its transaction.
//! In SQLite, which writes one after the other, that is a counter; in PostgreSQL
//! the transaction's own id, and what is below the oldest one that still runs is
//! complete: nobody waits for anybody.

use auditty_proto::{filter::Filter, v1};
use prost::Message;

use super::{
    Page, Scope, Store, StoreError,
    database::{Changes, Dialect, Sql},
    filters::push_filter,
    read::push_scope,
};

/// How far the changes of sessions are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRevision {
    /// All changes up to this number are there.
    pub change: i64,
    /// Of which database: numbers of another one mean something else.
    pub generation: String,
}

/// Where a page of changed sessions begins: after this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangePosition {
    /// The number of its latest change.
    pub change: i64,
    /// Its id.
    pub session_id: String,
}

impl Store {
    /// Begins to change sessions, or what is known of them.
    pub(super) async fn begin_session_changes(
        &self,
        changes: &mut Changes,
    ) -> Result<(), StoreError> {
        let sql = self
            .database
            .sql("UPDATE session_changes SET change = change + 1");
        if sql.dialect == Dialect::Sqlite {
            changes.execute(sql.often()).await?;
        }
        Ok(())
    }

    /// How far the changes are.
    pub async fn session_revision(&self) -> Result<SessionRevision, StoreError> {
        let mut sql = self.database.sql("SELECT ");
        let change = match sql.dialect {
            Dialect::Sqlite => "change",
            Dialect::Postgres => {
                "CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT) AS BIGINT) - 1 AS change"
            }
        };
        sql.push(change).push(", generation FROM session_changes");
        let row = self.database.row(sql.often()).await?;
        let row = row.ok_or(sqlx::Error::RowNotFound)?;
        Ok(SessionRevision {
            change: row.int("change")?.unwrap_or_default(),
            generation: row.text("generation")?,
        })
    }

    /// Sessions that match and changed after a position, up to a change, in order.
    pub async fn changed_sessions(
        &self,
        scope: &Scope,
        filter: &Filter<v1::Session>,
        after: &ChangePosition,
        up_to: i64,
        limit: usize,
    ) -> Result<Page<(ChangePosition, v1::Session)>, StoreError> {
        let mut sql = self
            .database
            .sql("SELECT s.change, s.session_id, s.message FROM sessions s WHERE s.change <= ");
        sql.bind(up_to);
        sql.push(" AND (s.change, s.session_id) > (");
        sql.bind(after.change).push(", ");
        sql.bind(after.session_id.as_str()).push(")");
        push_scope(&mut sql, scope);
        push_filter(&mut sql, filter, |_| "s");
        sql.push(" ORDER BY s.change, s.session_id");
        self.page(sql, limit, |row| {
            let message = row.bytes("message")?;
            let position = ChangePosition {
                change: row.int("change")?.unwrap_or_default(),
                session_id: row.text("session_id")?,
            };
            Ok(((position, v1::Session::decode(message)?), message.len()))
        })
        .await
    }
}

/// Adds the number of the transaction that this statement is in.
pub(super) fn push_change(sql: &mut Sql) {
    sql.push(match sql.dialect {
        Dialect::Sqlite => "(SELECT change FROM session_changes)",
        Dialect::Postgres => "CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)",
    });
}
