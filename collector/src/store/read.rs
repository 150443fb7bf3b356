//! Rows → messages, page by page.

use auditty_proto::{
    convert,
    filter::Filter,
    v1::{self, activity::Activity},
};
use futures::TryStreamExt;
use prost::Message;
use uuid::Uuid;

use super::{
    MAX_PAGE_BYTES, Page, Scope, SessionPosition, Store, StoreError,
    command_filter::{asks_messages, message_matches, push_command_filter},
    database::{Row, Sql},
    filters::push_filter,
};

/// Fewest commands that are read at once where their messages decide.
const MIN_READ: usize = 256;

/// When a session was going on, nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoingOn {
    /// At this time or later.
    pub from_ns: Option<i64>,
    /// Before this time.
    pub until_ns: Option<i64>,
}

impl Store {
    /// One session.
    pub async fn session(
        &self,
        scope: &Scope,
        id: Uuid,
    ) -> Result<Option<v1::Session>, StoreError> {
        let mut sql = self
            .database
            .sql("SELECT s.message FROM sessions s WHERE s.session_id = ");
        sql.bind(id.to_string());
        push_scope(&mut sql, scope);
        let row = self.database.row(sql.often()).await?;
        Ok(match row {
            Some(row) => Some(v1::Session::decode(row.bytes("message")?)?),
            None => None,
        })
    }

    /// Sessions that match, newest first.
    pub async fn sessions(
        &self,
        scope: &Scope,
        filter: &Filter<v1::Session>,
        going_on: GoingOn,
        after: Option<SessionPosition>,
        limit: usize,
    ) -> Result<Page<v1::Session>, StoreError> {
        let mut sql = self
            .database
            .sql("SELECT s.message FROM sessions s WHERE TRUE");
        push_scope(&mut sql, scope);
        push_filter(&mut sql, filter, |_| "s");
        if let Some(from_ns) = going_on.from_ns {
            sql.push(" AND (s.end_time IS NULL OR s.end_time >= ");
            sql.bind(from_ns).push(")");
        }
        if let Some(until_ns) = going_on.until_ns {
            sql.push(" AND s.start_time < ").bind(until_ns);
        }
        if let Some(SessionPosition { start_ns, id }) = after {
            sql.push(" AND (s.start_time, s.session_id) < (");
            sql.bind(start_ns).push(", ").bind(id.to_string()).push(")");
        }
        sql.push(" ORDER BY s.start_time DESC, s.session_id DESC");
        self.page(sql, limit, |row| {
            let message = row.bytes("message")?;
            Ok((v1::Session::decode(message)?, message.len()))
        })
        .await
    }

    /// Commands of a session that match, in the order they started.
    pub async fn commands(
        &self,
        session: Uuid,
        filter: &Filter<v1::Command>,
        after_seq: i64,
        limit: usize,
    ) -> Result<Page<v1::Command>, StoreError> {
        if !asks_messages(filter) {
            let sql = self.commands_after(session, filter, after_seq);
            return self.page(sql, limit, command).await;
        }
        let (mut after_seq, mut items, mut bytes) = (after_seq, Vec::new(), 0);
        loop {
            let sql = self.commands_after(session, filter, after_seq);
            let page = self.page(sql, limit.max(MIN_READ), command).await?;
            let last = page.items.last().map_or(0, |command| command.seq);
            for command in page.items {
                if !message_matches(filter, &command) {
                    continue;
                }
                bytes += command.encoded_len();
                let full = items.len() == limit || bytes > MAX_PAGE_BYTES;
                if full && !items.is_empty() {
                    return Ok(Page { items, more: true });
                }
                items.push(command);
            }
            if !page.more {
                return Ok(Page { items, more: false });
            }
            after_seq = i64::try_from(last).unwrap_or(i64::MAX);
        }
    }

    /// Asks for the commands of a session behind one, without those that SQL can
    /// tell do not match.
    fn commands_after(&self, session: Uuid, filter: &Filter<v1::Command>, after_seq: i64) -> Sql {
        let mut sql = self.database.sql(
            "SELECT c.message, e.exit_code, e.signal, e.duration_ns
             FROM commands c LEFT JOIN command_ends e
             ON e.session_id = c.session_id AND e.seq = c.seq
             WHERE c.session_id = ",
        );
        sql.bind(session.to_string());
        sql.push(" AND c.seq > ").bind(after_seq);
        push_command_filter(&mut sql, filter);
        sql.push(" ORDER BY c.seq");
        sql
    }

    /// Activities of a session that match, in order.
    pub async fn activities(
        &self,
        session: Uuid,
        filter: &Filter<v1::Activity>,
        after_seq: i64,
        limit: usize,
    ) -> Result<Page<v1::Activity>, StoreError> {
        let mut sql = self.database.sql(
            "SELECT a.message, e.sent_bytes, e.received_bytes, e.duration_ns
             FROM activities a LEFT JOIN connect_ends e
             ON e.session_id = a.session_id AND e.seq = a.seq
             WHERE a.session_id = ",
        );
        sql.bind(session.to_string());
        sql.push(" AND a.seq > ").bind(after_seq);
        push_filter(&mut sql, filter, |_| "a");
        sql.push(" ORDER BY a.seq");
        self.page(sql, limit, activity).await
    }

    /// The highest numbers of a session's commands and activities; zero without any.
    pub async fn last_numbers(&self, session: Uuid) -> Result<(i64, i64), StoreError> {
        let mut sql = self
            .database
            .sql("SELECT (SELECT MAX(seq) FROM commands WHERE session_id = ");
        sql.bind(session.to_string());
        sql.push(") AS last_command, (SELECT MAX(seq) FROM activities WHERE session_id = ");
        sql.bind(session.to_string());
        sql.push(") AS last_activity");
        let row = self.database.row(sql.often()).await?;
        let row = row.ok_or(sqlx::Error::RowNotFound)?;
        let last = |column| Ok::<_, StoreError>(row.int(column)?.unwrap_or_default());
        Ok((last("last_command")?, last("last_activity")?))
    }

    /// Reads rows until the page is full by number or by bytes.
    pub(super) async fn page<T>(
        &self,
        mut sql: Sql,
        limit: usize,
        item: impl Fn(&Row) -> Result<(T, usize), StoreError>,
    ) -> Result<Page<T>, StoreError> {
        let one_more = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
        sql.push(" LIMIT ").bind(one_more);
        let mut rows = self.database.rows(sql);
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

/// Leaves out the sessions of other tenants.
pub(super) fn push_scope(sql: &mut Sql, scope: &Scope) {
    if let Scope::Tenant(tenant) = scope {
        sql.push(" AND s.tenant = ").bind(tenant.as_str());
    }
}

pub(super) fn command(row: &Row) -> Result<(v1::Command, usize), StoreError> {
    let message = row.bytes("message")?;
    let mut command = v1::Command::decode(message)?;
    if let Some(duration_ns) = row.int("duration_ns")? {
        // They are in the range they were stored from.
        let number = |int: Option<i64>| int.and_then(|int| u32::try_from(int).ok());
        command.exit_code = number(row.int("exit_code")?);
        command.signal = number(row.int("signal")?);
        command.duration = Some(convert::duration(duration_ns.unsigned_abs()));
    }
    Ok((command, message.len()))
}

fn activity(row: &Row) -> Result<(v1::Activity, usize), StoreError> {
    let message = row.bytes("message")?;
    let mut activity = v1::Activity::decode(message)?;
    if let (Some(duration_ns), Some(Activity::Connect(connect))) =
        (row.int("duration_ns")?, &mut activity.activity)
    {
        let bytes = |count: Option<i64>| count.map(i64::unsigned_abs);
        connect.sent_byte_count = bytes(row.int("sent_bytes")?);
        connect.received_byte_count = bytes(row.int("received_bytes")?);
        connect.duration = Some(convert::duration(duration_ns.unsigned_abs()));
    }
    Ok((activity, message.len()))
}
