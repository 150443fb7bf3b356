//! Alerts: one for each cause, in the transaction that stores what was reported.
//! A revision counts them; new ones stand in line for it at the end of their
//! transactions, so that whoever has seen a revision has seen all before it.

mod cause;
mod cursors;

use std::collections::{BTreeMap, BTreeSet};

use auditty_proto::{
    convert,
    filter::{ALERT_FIELDS, Filter},
    v1,
};
use jiff::Timestamp;
use prost::Message;
use uuid::Uuid;

use super::{
    HostName, Page, Scope, Store, StoreError,
    database::{Changes, Row, Sql},
    filters::{push_field, push_filter, push_value},
    hosts::push_names,
    silent::host_name,
    write::{ROWS, often},
};

pub use cause::Cause;

/// How far the alerts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRevision {
    /// Number of the latest.
    pub revision: u64,
    /// Of which database: revisions of another one mean something else.
    pub generation: String,
}

impl Store {
    /// Makes alerts of causes that have none. It comes last in a transaction: who
    /// has an alert of his own waits for its commit.
    pub(super) async fn put_alerts(
        &self,
        changes: &mut Changes,
        causes: &[Cause],
    ) -> Result<(), StoreError> {
        // The first of several counts, and alerts stand in the order of their causes.
        let mut seen = BTreeSet::new();
        let keyed = causes.iter().map(|cause| (cause.key(), cause));
        let mut new: Vec<_> = keyed.filter(|(key, _)| seen.insert(key.clone())).collect();
        let keys: Vec<_> = seen.into_iter().collect();
        let mut known = BTreeSet::new();
        for keys in keys.chunks(ROWS) {
            let mut sql = self.database.sql(
                "SELECT a.tenant, a.cause FROM alerts a WHERE (a.tenant, a.cause) IN (VALUES ",
            );
            for (row, (tenant, cause)) in keys.iter().enumerate() {
                sql.push(if row == 0 { "" } else { ", " });
                sql.tuple([tenant.as_str(), cause]);
            }
            sql.push(")");
            for row in changes.rows(often(sql, keys.len())).await? {
                known.insert((row.text("tenant")?, row.text("cause")?));
            }
        }
        new.retain(|(key, _)| !known.contains(key));
        if new.is_empty() {
            return Ok(());
        }
        let sessions: BTreeSet<_> = new
            .iter()
            .map(|(_, cause)| &*cause.alert.session_id)
            .collect();
        let mut logins = BTreeMap::new();
        for id in sessions.into_iter().filter(|id| !id.is_empty()) {
            let mut sql = self
                .database
                .sql("SELECT s.message FROM sessions s WHERE s.session_id = ");
            sql.bind(id);
            if let Some(row) = changes.rows(sql.often()).await?.first() {
                logins.insert(id, v1::Session::decode(row.bytes("message")?)?);
            }
        }
        let labels = self.labels_of(changes, &new).await?;
        let count = i64::try_from(new.len()).unwrap_or(i64::MAX);
        let mut sql = self
            .database
            .sql("UPDATE alert_revisions SET revision = revision + ");
        sql.bind(count);
        changes.execute(sql.often()).await?;
        let ask = self.database.sql("SELECT revision FROM alert_revisions");
        let rows = changes.rows(ask.often()).await?;
        let last = rows.first().map(|row| row.int("revision")).transpose()?;
        let first = last.flatten().unwrap_or_default() - count + 1;
        let now = Timestamp::now();
        for (revision, ((tenant, key), cause)) in (first..).zip(&new) {
            let session = logins.get(&*cause.alert.session_id);
            let mut alert = finished(&cause.alert, session, revision, now);
            if alert.labels.is_empty() {
                let of = labels.get(&host_of(&alert));
                alert.labels = of.cloned().unwrap_or_default();
            }
            self.put_alert(changes, tenant, key, &alert).await?;
        }
        Ok(())
    }

    /// What the hosts of new alerts say of their labels.
    async fn labels_of(
        &self,
        changes: &mut Changes,
        new: &[((String, String), &Cause)],
    ) -> Result<BTreeMap<HostName, BTreeMap<String, String>>, StoreError> {
        let hosts: BTreeSet<_> = new.iter().map(|(_, cause)| host_of(&cause.alert)).collect();
        let hosts: Vec<_> = hosts.iter().collect();
        let mut labels = BTreeMap::new();
        for hosts in hosts.chunks(ROWS) {
            let mut sql = self.database.sql(
                "SELECT h.tenant, h.host_id, h.message FROM hosts h \
                 WHERE (h.tenant, h.host_id) IN (VALUES ",
            );
            push_names(&mut sql, hosts.iter().copied());
            sql.push(")");
            for row in changes.rows(often(sql, hosts.len())).await? {
                let report = v1::HostReport::decode(row.bytes("message")?)?;
                labels.insert(host_name(&row)?, report.host.unwrap_or_default().labels);
            }
        }
        Ok(labels)
    }

    /// Makes alerts of causes that nothing else is stored for.
    pub async fn note(&self, causes: &[Cause]) -> Result<(), StoreError> {
        let mut changes = self.database.begin().await?;
        self.put_alerts(&mut changes, causes).await?;
        changes.commit().await
    }

    async fn put_alert(
        &self,
        changes: &mut Changes,
        tenant: &str,
        cause: &str,
        alert: &v1::Alert,
    ) -> Result<(), StoreError> {
        let mut sql = self
            .database
            .sql("INSERT INTO alerts (tenant, cause, revision, message");
        let columns = || ALERT_FIELDS.iter().filter(|field| !field.repeated);
        for field in columns() {
            sql.push(", \"").push(field.name).push("\"");
        }
        sql.push(") VALUES (").bind(tenant).push(", ").bind(cause);
        sql.push(", ").bind(signed(alert.revision));
        sql.push(", ").bind(alert.encode_to_vec());
        for field in columns() {
            sql.push(", ");
            push_field(&mut sql, field, alert);
        }
        sql.push(") ON CONFLICT DO NOTHING");
        if changes.execute(sql.often()).await? == 0 {
            // Another collector was first.
            return Ok(());
        }
        let lists = ALERT_FIELDS.iter().filter(|field| field.repeated);
        for field in lists {
            let name = field.name;
            for value in (field.values)(alert) {
                let mut sql = self.database.sql(format!(
                    "INSERT INTO alert_{name}s (revision, {name}) VALUES ("
                ));
                sql.bind(signed(alert.revision)).push(", ");
                push_value(&mut sql, &value);
                sql.push(")");
                changes.execute(sql.often()).await?;
            }
        }
        let summary = alert.summary.escape_debug();
        tracing::warn!(host_id = %alert.host_id.escape_debug(), session = alert.session_id, "alert: {summary}");
        Ok(())
    }

    /// Alerts that match, newest first, of revisions before `before`.
    pub async fn alerts(
        &self,
        scope: &Scope,
        filter: &Filter<v1::Alert>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Page<v1::Alert>, StoreError> {
        let mut sql = self.matching(scope, filter);
        if let Some(before) = before {
            sql.push(" AND a.revision < ").bind(signed(before));
        }
        sql.push(" ORDER BY a.revision DESC");
        self.page(sql, limit, alert).await
    }

    /// Alerts that match, oldest first, of revisions after `after`.
    pub async fn alerts_after(
        &self,
        scope: &Scope,
        filter: &Filter<v1::Alert>,
        after: u64,
        limit: usize,
    ) -> Result<Page<v1::Alert>, StoreError> {
        let mut sql = self.matching(scope, filter);
        sql.push(" AND a.revision > ").bind(signed(after));
        sql.push(" ORDER BY a.revision");
        self.page(sql, limit, alert).await
    }

    fn matching(&self, scope: &Scope, filter: &Filter<v1::Alert>) -> Sql {
        let mut sql = self
            .database
            .sql("SELECT a.message FROM alerts a WHERE TRUE");
        if let Scope::Tenant(tenant) = scope {
            sql.push(" AND a.tenant = ").bind(tenant.as_str());
        }
        push_filter(&mut sql, filter, |_| "a");
        sql
    }

    /// How far the alerts are.
    pub async fn alert_revision(&self) -> Result<AlertRevision, StoreError> {
        let sql = self
            .database
            .sql("SELECT revision, generation FROM alert_revisions");
        let row = self.database.row(sql.often()).await?;
        let row = row.ok_or(sqlx::Error::RowNotFound)?;
        Ok(AlertRevision {
            revision: row.int("revision")?.unwrap_or_default().unsigned_abs(),
            generation: row.text("generation")?,
        })
    }
}

/// The host that an alert is of.
fn host_of(alert: &v1::Alert) -> HostName {
    HostName {
        tenant: alert.tenant.clone(),
        host_id: alert.host_id.clone(),
    }
}

/// The alert with its number, and what is known of its session.
fn finished(
    alert: &v1::Alert,
    session: Option<&v1::Session>,
    revision: i64,
    now: Timestamp,
) -> v1::Alert {
    let id = Uuid::now_v7();
    let mut alert = v1::Alert {
        name: format!("alerts/{id}"),
        alert_id: id.to_string(),
        time: Some(convert::timestamp(now)),
        revision: revision.unsigned_abs(),
        ..alert.clone()
    };
    if let Some(session) = session {
        let (login, host) = (session.login.as_ref(), session.host.as_ref());
        alert.user = login.map_or_else(String::new, |login| login.user.clone());
        alert.hostname = host.map_or_else(String::new, |host| host.hostname.clone());
        alert.labels = host.map_or_else(BTreeMap::new, |host| host.labels.clone());
    }
    alert
}

/// Revisions count up from 1.
fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn alert(row: &Row) -> Result<(v1::Alert, usize), StoreError> {
    let message = row.bytes("message")?;
    Ok((v1::Alert::decode(message)?, message.len()))
}
