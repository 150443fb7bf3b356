//! Rows → messages, page by page.

use auditty_proto::{
    convert,
    filter::Filter,
    v1::{self, activity::Activity},
};
use futures::TryStreamExt;
use prost::Message;
use sqlx::{QueryBuilder, Row, sqlite::SqliteRow};
use uuid::Uuid;

use super::{Sqlite, sql::push_filter, write::END_FIELDS};
use crate::store::{MAX_PAGE_BYTES, Page, SessionPosition, StoreError};

impl Sqlite {
    pub(in crate::store) async fn session(
        &self,
        id: Uuid,
    ) -> Result<Option<v1::Session>, StoreError> {
        let message: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT message FROM sessions WHERE session_id = ?")
                .bind(id.to_string())
                .fetch_optional(&self.readers)
                .await?;
        Ok(message
            .map(|message| v1::Session::decode(message.as_slice()))
            .transpose()?)
    }

    pub(in crate::store) async fn sessions(
        &self,
        filter: &Filter<v1::Session>,
        after: Option<SessionPosition>,
        limit: usize,
    ) -> Result<Page<v1::Session>, StoreError> {
        let mut query = QueryBuilder::new("SELECT s.message FROM sessions s WHERE 1");
        push_filter(&mut query, filter, |_| "s");
        if let Some(SessionPosition { start_ns, id }) = after {
            query
                .push(" AND (s.start_time, s.session_id) < (")
                .push_bind(start_ns);
            query.push(", ").push_bind(id.to_string()).push(")");
        }
        query.push(" ORDER BY s.start_time DESC, s.session_id DESC");
        self.page(query, limit, |row| {
            let message: &[u8] = row.try_get("message")?;
            Ok((v1::Session::decode(message)?, message.len()))
        })
        .await
    }

    pub(in crate::store) async fn commands(
        &self,
        session: Uuid,
        filter: &Filter<v1::Command>,
        after_seq: i64,
        limit: usize,
    ) -> Result<Page<v1::Command>, StoreError> {
        let mut query = QueryBuilder::new(
            "SELECT c.message, e.exit_code, e.signal, e.duration_ns
             FROM commands c LEFT JOIN command_ends e USING (session_id, seq)
             WHERE c.session_id = ",
        );
        query.push_bind(session.to_string());
        query.push(" AND c.seq > ").push_bind(after_seq);
        push_filter(&mut query, filter, |name| {
            if END_FIELDS.contains(&name) { "e" } else { "c" }
        });
        query.push(" ORDER BY c.seq");
        self.page(query, limit, command).await
    }

    pub(in crate::store) async fn activities(
        &self,
        session: Uuid,
        filter: &Filter<v1::Activity>,
        after_seq: i64,
        limit: usize,
    ) -> Result<Page<v1::Activity>, StoreError> {
        let mut query = QueryBuilder::new(
            "SELECT a.message, e.sent_bytes, e.received_bytes, e.duration_ns
             FROM activities a LEFT JOIN connect_ends e USING (session_id, seq)
             WHERE a.session_id = ",
        );
        query.push_bind(session.to_string());
        query.push(" AND a.seq > ").push_bind(after_seq);
        push_filter(&mut query, filter, |_| "a");
        query.push(" ORDER BY a.seq");
        self.page(query, limit, activity).await
    }

    /// Reads rows until the page is full by number or by bytes.
    async fn page<T>(
        &self,
        mut query: QueryBuilder<sqlx::Sqlite>,
        limit: usize,
        item: impl Fn(&SqliteRow) -> Result<(T, usize), StoreError>,
    ) -> Result<Page<T>, StoreError> {
        let one_more = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
        query.push(" LIMIT ").push_bind(one_more);
        let mut rows = query.build().fetch(&self.readers);
        let mut items = Vec::new();
        let mut bytes = 0;
        while let Some(row) = rows.try_next().await? {
            let (item, len) = item(&row)?;
            bytes += len;
            let full = items.len() == limit || bytes > MAX_PAGE_BYTES;
            if full && !items.is_empty() {
                return Ok(Page { items, more: true });
            }
            items.push(item);
        }
        Ok(Page { items, more: false })
    }
}

fn command(row: &SqliteRow) -> Result<(v1::Command, usize), StoreError> {
    let message: &[u8] = row.try_get("message")?;
    let mut command = v1::Command::decode(message)?;
    let duration_ns: Option<i64> = row.try_get("duration_ns")?;
    if let Some(duration_ns) = duration_ns {
        command.exit_code = row.try_get("exit_code")?;
        command.signal = row.try_get("signal")?;
        command.duration = Some(convert::duration(duration_ns.unsigned_abs()));
    }
    Ok((command, message.len()))
}

fn activity(row: &SqliteRow) -> Result<(v1::Activity, usize), StoreError> {
    let message: &[u8] = row.try_get("message")?;
    let mut activity = v1::Activity::decode(message)?;
    let duration_ns: Option<i64> = row.try_get("duration_ns")?;
    if let (Some(duration_ns), Some(Activity::Connect(connect))) =
        (duration_ns, &mut activity.activity)
    {
        let bytes = |count: Option<i64>| count.map(i64::unsigned_abs);
        connect.sent_byte_count = bytes(row.try_get("sent_bytes")?);
        connect.received_byte_count = bytes(row.try_get("received_bytes")?);
        connect.duration = Some(convert::duration(duration_ns.unsigned_abs()));
    }
    Ok((activity, message.len()))
}
