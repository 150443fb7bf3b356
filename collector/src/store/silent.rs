//! When each host was last heard of, and the sessions that were closed because
//! theirs fell silent.

use std::collections::{BTreeMap, BTreeSet};

use auditty_proto::{convert, v1};
use futures::TryStreamExt;
use jiff::Timestamp;
use prost::Message;

use super::{
    Store, StoreError,
    database::{Changes, Row, Sql},
    host_keys::moment,
    session_changes::push_change,
    write::{ROWS, often},
};

/// Sessions of one transaction.
const SESSIONS: i64 = 500;

/// A host, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostName {
    /// Whose; empty where there is one tenant only.
    pub tenant: String,
    /// Its id.
    pub host_id: String,
}

/// How a host was heard of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// Boot id of its kernel.
    pub boot_id: String,
    /// When, by the collector's clock.
    pub time: Timestamp,
    /// What it says of itself, where it does.
    pub report: Option<Box<v1::HostReport>>,
}

impl Heard {
    /// It was heard of again; what it said of itself before still holds.
    pub(crate) fn follow(&mut self, later: Self) {
        self.boot_id = later.boot_id;
        self.time = later.time;
        if later.report.is_some() {
            self.report = later.report;
        }
    }
}

/// What a host says of itself that has a column: its name, the version of its agent
/// and its mode of capture.
fn said(report: Option<&v1::HostReport>) -> [&str; 3] {
    let host = report.and_then(|report| report.host.as_ref());
    [
        host.map_or("", |host| &host.hostname),
        report.map_or("", |report| &report.agent_version),
        host.map_or("", |host| &host.capture_mode),
    ]
}

impl Store {
    /// Notes which hosts were heard of. The sessions of those that were silent
    /// are as they were before: how many of which host.
    pub async fn note_heard(
        &self,
        heard: &BTreeMap<HostName, Heard>,
    ) -> Result<Vec<(HostName, usize)>, StoreError> {
        if heard.is_empty() {
            return Ok(Vec::new());
        }
        let mut changes = self.database.begin().await?;
        let mut causes = Vec::new();
        let rows: Vec<_> = heard.iter().collect();
        for rows in rows.chunks(ROWS) {
            self.changed_hosts(&mut changes, rows, &mut causes).await?;
            let mut sql = self.database.sql(
                "INSERT INTO hosts \
                 (tenant, host_id, boot_id, first_heard_time, last_heard_time, message, \
                 hostname, agent_version, capture_mode) VALUES ",
            );
            for (row, (host, heard)) in rows.iter().enumerate() {
                sql.push(if row == 0 { "(" } else { ", (" });
                for text in [&host.tenant, &host.host_id, &heard.boot_id] {
                    sql.bind(text.as_str()).push(", ");
                }
                sql.bind(moment(heard.time)).push(", ");
                sql.bind(moment(heard.time)).push(", ");
                let report = heard.report.as_ref();
                sql.bind(report.map_or_else(Vec::new, |report| report.encode_to_vec()));
                for text in said(report.map(|report| &**report)) {
                    sql.push(", ").bind(text);
                }
                sql.push(")");
            }
            sql.push(
                " ON CONFLICT (tenant, host_id) DO UPDATE \
                 SET boot_id = excluded.boot_id, last_heard_time = excluded.last_heard_time, \
                 message = CASE WHEN length(excluded.message) > 0 THEN excluded.message \
                 ELSE hosts.message END, \
                 hostname = CASE WHEN length(excluded.message) > 0 THEN excluded.hostname \
                 ELSE hosts.hostname END, \
                 agent_version = CASE WHEN length(excluded.message) > 0 \
                 THEN excluded.agent_version ELSE hosts.agent_version END, \
                 capture_mode = CASE WHEN length(excluded.message) > 0 \
                 THEN excluded.capture_mode ELSE hosts.capture_mode END \
                 WHERE excluded.last_heard_time > hosts.last_heard_time",
            );
            changes.execute(often(sql, rows.len())).await?;
            self.put_labels(&mut changes, rows).await?;
            self.end_silences(&mut changes, rows, &mut causes).await?;
        }
        let mut back = Vec::new();
        for host in self.silenced(&mut changes).await? {
            if heard.contains_key(&host) {
                let sessions = self.reopen(&mut changes, &host).await?;
                back.push((host, sessions));
            }
        }
        self.put_alerts(&mut changes, &causes).await?;
        changes.commit().await?;
        Ok(back)
    }

    /// When a host was last heard of.
    pub async fn last_heard(&self, host: &HostName) -> Result<Option<Timestamp>, StoreError> {
        let mut sql = self
            .database
            .sql("SELECT last_heard_time FROM hosts WHERE ");
        push_host(&mut sql, host);
        let row = self.database.row(sql.often()).await?;
        row.as_ref().map(last_heard).transpose()
    }

    /// Hosts with sessions going on that were last heard of before `before`,
    /// with that time.
    pub(crate) async fn silent_hosts(
        &self,
        before: Timestamp,
    ) -> Result<Vec<(HostName, Timestamp)>, StoreError> {
        let mut sql = self.database.sql(
            "SELECT h.tenant, h.host_id, h.last_heard_time FROM hosts h \
             WHERE h.last_heard_time < ",
        );
        sql.bind(moment(before));
        sql.push(
            " AND EXISTS (SELECT 1 FROM sessions s \
             WHERE s.host_id = h.host_id AND s.tenant = h.tenant AND s.state = ",
        );
        sql.bind(ACTIVE).push(")");
        let rows: Vec<Row> = self.database.rows(sql.often()).try_collect().await?;
        rows.iter()
            .map(|row| Ok((host_name(row)?, last_heard(row)?)))
            .collect()
    }

    /// Closes the sessions of a host that fell silent at `since`; how many.
    pub(crate) async fn close_silent(
        &self,
        host: &HostName,
        since: Timestamp,
    ) -> Result<usize, StoreError> {
        let mut closed = 0;
        loop {
            let sessions = self.close_some(host, since).await?;
            closed += sessions;
            if sessions == 0 {
                return Ok(closed);
            }
        }
    }

    async fn close_some(&self, host: &HostName, since: Timestamp) -> Result<usize, StoreError> {
        let mut changes = self.database.begin().await?;
        let mut sql = self
            .database
            .sql("SELECT session_id, revision, message FROM sessions WHERE ");
        push_host(&mut sql, host);
        sql.push(" AND state = ").bind(ACTIVE);
        sql.push(" LIMIT ").bind(SESSIONS);
        let rows = changes.rows(sql.often()).await?;
        if !rows.is_empty() {
            self.begin_session_changes(&mut changes).await?;
        }
        for row in &rows {
            let (id, original) = (row.text("session_id")?, row.bytes("message")?);
            let mut session = v1::Session::decode(original)?;
            session.set_state(v1::SessionState::Closed);
            session.set_end_reason(v1::EndReason::HostSilent);
            session.set_verdict(v1::Verdict::Interrupted);
            session.end_time = Some(convert::timestamp(since));
            let mut keep = self
                .database
                .sql("INSERT INTO silent_sessions (session_id, tenant, host_id, message) VALUES (");
            for text in [&id, &host.tenant, &host.host_id] {
                keep.bind(text.as_str()).push(", ");
            }
            keep.bind(original.to_vec());
            keep.push(") ON CONFLICT (session_id) DO UPDATE SET message = excluded.message");
            changes.execute(keep.often()).await?;
            let mut change = self.outcome(&id, &session);
            // What its host reports in this moment is the truth.
            change.push(" AND revision = ").bind(row.int("revision")?);
            changes.execute(change.often()).await?;
        }
        changes.commit().await?;
        Ok(rows.len())
    }

    /// Hosts whose sessions were closed for their silence.
    async fn silenced(&self, changes: &mut Changes) -> Result<BTreeSet<HostName>, StoreError> {
        let sql = self
            .database
            .sql("SELECT DISTINCT tenant, host_id FROM silent_sessions");
        let rows = changes.rows(sql.often()).await?;
        rows.iter().map(host_name).collect()
    }

    /// Puts back what was closed for the silence of a host, but not over what it
    /// has reported since; how many sessions were closed.
    async fn reopen(&self, changes: &mut Changes, host: &HostName) -> Result<usize, StoreError> {
        let mut reopened = 0;
        self.begin_session_changes(changes).await?;
        loop {
            let mut sql = self
                .database
                .sql("SELECT session_id, message FROM silent_sessions WHERE ");
            push_host(&mut sql, host);
            sql.push(" LIMIT ").bind(SESSIONS);
            let rows = changes.rows(sql.often()).await?;
            for row in &rows {
                let id = row.text("session_id")?;
                let session = v1::Session::decode(row.bytes("message")?)?;
                let mut change = self.outcome(&id, &session);
                change.push(" AND end_reason = ").bind(HOST_SILENT);
                changes.execute(change.often()).await?;
                let mut forget = self
                    .database
                    .sql("DELETE FROM silent_sessions WHERE session_id = ");
                forget.bind(id);
                changes.execute(forget.often()).await?;
            }
            reopened += rows.len();
            if rows.is_empty() {
                return Ok(reopened);
            }
        }
    }

    /// Sets how a session ended.
    fn outcome(&self, id: &str, session: &v1::Session) -> Sql {
        let end_time = session.end_time.as_ref().and_then(super::nanoseconds);
        let mut sql = self.database.sql("UPDATE sessions SET message = ");
        sql.bind(session.encode_to_vec());
        sql.push(", change = ");
        push_change(&mut sql);
        sql.push(", state = ").bind(i64::from(session.state));
        sql.push(", end_reason = ")
            .bind(i64::from(session.end_reason));
        sql.push(", verdict = ").bind(i64::from(session.verdict));
        sql.push(", end_time = ").bind(end_time);
        sql.push(" WHERE session_id = ").bind(id);
        sql
    }
}

pub(super) const ACTIVE: i64 = v1::SessionState::Active as i64;
const HOST_SILENT: i64 = v1::EndReason::HostSilent as i64;

fn push_host(sql: &mut Sql, host: &HostName) {
    sql.push("tenant = ").bind(host.tenant.as_str());
    sql.push(" AND host_id = ").bind(host.host_id.as_str());
}

pub(super) fn host_name(row: &Row) -> Result<HostName, StoreError> {
    Ok(HostName {
        tenant: row.text("tenant")?,
        host_id: row.text("host_id")?,
    })
}

fn last_heard(row: &Row) -> Result<Timestamp, StoreError> {
    let time = row.int("last_heard_time")?.unwrap_or_default();
    Ok(Timestamp::from_nanosecond(time.into()).unwrap_or_default())
}
