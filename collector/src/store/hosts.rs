//! The hosts, and when nothing was heard of them.

use std::collections::{BTreeMap, BTreeSet};

use auditty_proto::{
    filter::{Filter, HOST_FIELDS, Value},
    v1,
};
use jiff::Timestamp;
use prost::Message;

use super::{
    HostName, Page, Scope, Store, StoreError,
    alerts::Cause,
    database::{Changes, Row, Sql},
    filters::push_filter,
    host_keys::{moment, time},
    silent::{ACTIVE, Heard, host_name},
    write::{ROWS, often},
};

/// Hosts whose silence is noticed in one transaction.
const SILENCES: i64 = 500;

impl Store {
    /// Hosts that match in the order of ids: those after one, and, where it is
    /// asked for, only the silent or only the live ones.
    pub async fn hosts(
        &self,
        scope: &Scope,
        filter: &Filter<v1::KnownHost>,
        silent: Option<bool>,
        after: Option<&HostName>,
        limit: usize,
    ) -> Result<Page<v1::KnownHost>, StoreError> {
        let mut sql = self.known_hosts(scope);
        push_filter(&mut sql, filter, |_| "h");
        match silent {
            Some(true) => sql.push(" AND ").push(SILENT),
            Some(false) => sql.push(" AND NOT ").push(SILENT),
            None => &mut sql,
        };
        if let Some(HostName { tenant, host_id }) = after {
            sql.push(" AND (h.host_id, h.tenant) > ");
            sql.tuple([host_id.as_str(), tenant]);
        }
        sql.push(" ORDER BY h.host_id, h.tenant");
        self.page(sql, limit, known_host).await
    }

    /// The hosts with an id: one of each tenant in `scope` that has one, two at
    /// most.
    pub async fn hosts_with_id(
        &self,
        scope: &Scope,
        host_id: &str,
    ) -> Result<Vec<v1::KnownHost>, StoreError> {
        let mut sql = self.known_hosts(scope);
        sql.push(" AND h.host_id = ").bind(host_id);
        sql.push(" ORDER BY h.tenant");
        Ok(self.page(sql, 2, known_host).await?.items)
    }

    fn known_hosts(&self, scope: &Scope) -> Sql {
        let mut sql = self.database.sql(
            "SELECT h.tenant, h.host_id, h.boot_id, h.first_heard_time, h.last_heard_time, \
             h.message, (SELECT count(*) FROM sessions s WHERE s.host_id = h.host_id \
             AND s.tenant = h.tenant AND s.state = ",
        );
        sql.bind(ACTIVE);
        sql.push(
            ") AS open_sessions, coalesce((SELECT s.message FROM sessions s \
             WHERE s.host_id = h.host_id AND s.tenant = h.tenant \
             ORDER BY s.start_time DESC LIMIT 1), ",
        );
        sql.bind(Vec::new()).push(") AS latest, CAST(CASE WHEN ");
        sql.push(SILENT)
            .push(" THEN 1 ELSE 0 END AS BIGINT) AS silent FROM hosts h WHERE TRUE");
        if let Scope::Tenant(tenant) = scope {
            sql.push(" AND h.tenant = ").bind(tenant.as_str());
        }
        sql
    }

    /// Notes that hosts not heard of since before `before` are silent; how many
    /// were not silent until now. Each is an alert.
    pub async fn note_silent(&self, before: Timestamp) -> Result<usize, StoreError> {
        let mut noted = 0;
        loop {
            let mut changes = self.database.begin().await?;
            let mut sql = self.database.sql(
                "SELECT h.tenant, h.host_id, h.message, h.last_heard_time FROM hosts h \
                 WHERE h.last_heard_time < ",
            );
            sql.bind(moment(before)).push(" AND NOT ").push(SILENT);
            sql.push(" LIMIT ").bind(SILENCES);
            let rows = changes.rows(sql.often()).await?;
            if rows.is_empty() {
                return Ok(noted);
            }
            let mut causes = Vec::new();
            for row in &rows {
                let host = host_name(row)?;
                let since = row.int("last_heard_time")?.unwrap_or_default();
                let mut sql = self
                    .database
                    .sql("INSERT INTO host_silences (tenant, host_id, since) VALUES (");
                sql.bind(host.tenant.as_str()).push(", ");
                sql.bind(host.host_id.as_str()).push(", ").bind(since);
                // It was silent since then before, and the clock was set back.
                sql.push(") ON CONFLICT (tenant, host_id, since) DO UPDATE SET until = NULL");
                changes.execute(sql.often()).await?;
                let report = v1::HostReport::decode(row.bytes("message")?)?;
                causes.push(Cause::host_silent(&host, &report, since));
            }
            self.put_alerts(&mut changes, &causes).await?;
            changes.commit().await?;
            noted += rows.len();
        }
    }

    /// Ends the silence of hosts that were heard of. Each is an alert.
    pub(super) async fn end_silences(
        &self,
        changes: &mut Changes,
        heard: &[(&HostName, &Heard)],
        causes: &mut Vec<Cause>,
    ) -> Result<(), StoreError> {
        let mut sql = self.database.sql(
            "SELECT i.tenant, i.host_id, i.since, h.message FROM host_silences i \
             JOIN hosts h ON h.tenant = i.tenant AND h.host_id = i.host_id \
             WHERE i.until IS NULL AND (i.tenant, i.host_id) IN (VALUES ",
        );
        push_names(&mut sql, heard.iter().map(|(host, _)| *host));
        sql.push(")");
        let times: BTreeMap<_, _> = heard.iter().map(|(host, heard)| (*host, heard)).collect();
        for row in changes.rows(often(sql, heard.len())).await? {
            let host = host_name(&row)?;
            let since = row.int("since")?.unwrap_or_default();
            let Some(heard) = times.get(&host).map(|heard| moment(heard.time)) else {
                continue;
            };
            if heard <= since {
                continue;
            }
            let mut sql = self.database.sql("UPDATE host_silences SET until = ");
            sql.bind(heard).push(" WHERE tenant = ");
            sql.bind(host.tenant.as_str()).push(" AND host_id = ");
            sql.bind(host.host_id.as_str());
            sql.push(" AND until IS NULL");
            if changes.execute(sql.often()).await? > 0 {
                let report = v1::HostReport::decode(row.bytes("message")?)?;
                causes.push(Cause::host_heard(&host, &report, since, heard));
            }
        }
        Ok(())
    }

    /// Keeps the labels of hosts that say what they are.
    pub(super) async fn put_labels(
        &self,
        changes: &mut Changes,
        heard: &[(&HostName, &Heard)],
    ) -> Result<(), StoreError> {
        let told = heard.iter().filter_map(|(host, heard)| {
            let report = heard.report.as_ref()?;
            Some(((*host).clone(), labels(report)))
        });
        let told: BTreeMap<_, _> = told.collect();
        if told.is_empty() {
            return Ok(());
        }
        let mut sql = self.database.sql(
            "SELECT l.tenant, l.host_id, l.label FROM host_labels l \
             WHERE (l.tenant, l.host_id) IN (VALUES ",
        );
        push_names(&mut sql, told.keys());
        sql.push(")");
        let mut known: BTreeMap<HostName, BTreeSet<String>> = BTreeMap::new();
        for row in changes.rows(often(sql, told.len())).await? {
            let of = known.entry(host_name(&row)?).or_default();
            of.insert(row.text("label")?);
        }
        for (host, labels) in &told {
            let before = known.remove(host).unwrap_or_default();
            if before == *labels {
                continue;
            }
            let HostName { tenant, host_id } = host;
            let mut sql = self
                .database
                .sql("DELETE FROM host_labels WHERE (tenant, host_id) = ");
            sql.tuple([tenant.as_str(), host_id]);
            changes.execute(sql.often()).await?;
            for label in labels {
                let mut sql = self
                    .database
                    .sql("INSERT INTO host_labels (label, tenant, host_id) VALUES ");
                sql.tuple([label.as_str(), tenant, host_id]);
                changes.execute(sql.often()).await?;
            }
        }
        Ok(())
    }

    /// What has changed about hosts that say what they are. Each is an alert.
    pub(super) async fn changed_hosts(
        &self,
        changes: &mut Changes,
        heard: &[(&HostName, &Heard)],
        causes: &mut Vec<Cause>,
    ) -> Result<(), StoreError> {
        let told = heard.iter().filter(|(_, heard)| heard.report.is_some());
        let told: Vec<_> = told.copied().collect();
        for (host, heard) in &told {
            if let Some(report) = &heard.report {
                causes.extend(Cause::of_hooks(host, &heard.boot_id, report));
                causes.extend(Cause::not_recorded(host, &heard.boot_id, report));
            }
        }
        if told.is_empty() {
            return Ok(());
        }
        let mut sql = self.database.sql(
            "SELECT h.tenant, h.host_id, h.message FROM hosts h \
             WHERE (h.tenant, h.host_id) IN (VALUES ",
        );
        push_names(&mut sql, told.iter().map(|(host, _)| *host));
        sql.push(")");
        let now: BTreeMap<_, _> = told.into_iter().collect();
        for row in changes.rows(often(sql, now.len())).await? {
            let host = host_name(&row)?;
            let before = v1::HostReport::decode(row.bytes("message")?)?;
            let heard = now.get(&host);
            let report = heard.and_then(|heard| Some((heard.report.as_deref()?, heard.time)));
            if let Some((report, time)) = report {
                causes.extend(Cause::host_changed(&host, &before, report, moment(time)));
            }
        }
        Ok(())
    }
}

/// Labels of a host that says what it is, as filters compare them.
fn labels(report: &v1::HostReport) -> BTreeSet<String> {
    let known = v1::KnownHost {
        host: report.host.clone(),
        ..v1::KnownHost::default()
    };
    let of = HOST_FIELDS.iter().filter(|field| field.repeated);
    let values = of.flat_map(|field| (field.values)(&known));
    let texts = values.filter_map(|value| match value {
        Value::Text(text) => Some(text.into_owned()),
        _ => None,
    });
    texts.collect()
}

/// Of a host `h`: nothing is heard of it now.
const SILENT: &str = "EXISTS (SELECT 1 FROM host_silences i WHERE i.tenant = h.tenant \
     AND i.host_id = h.host_id AND i.until IS NULL)";

/// Hosts as rows of a statement's VALUES.
pub(super) fn push_names<'a>(sql: &mut Sql, hosts: impl IntoIterator<Item = &'a HostName>) {
    for (row, host) in hosts.into_iter().enumerate() {
        debug_assert!(row < ROWS, "a statement has a bounded number of places");
        sql.push(if row == 0 { "" } else { ", " });
        sql.tuple([host.tenant.as_str(), &host.host_id]);
    }
}

fn known_host(row: &Row) -> Result<(v1::KnownHost, usize), StoreError> {
    let HostName { tenant, host_id } = host_name(row)?;
    let message = row.bytes("message")?;
    let report = v1::HostReport::decode(message)?;
    let latest = row.bytes("latest")?;
    let mut host = match report.host {
        Some(host) => host,
        None => v1::Session::decode(latest)?.host.unwrap_or_default(),
    };
    host.host_id.clone_from(&host_id);
    host.boot_id = row.text("boot_id")?;
    let state = match row.int("silent")? {
        Some(1) => v1::HostState::Silent,
        _ => v1::HostState::Live,
    };
    let bytes = message.len() + host_id.len() + 128;
    let mut stopped_hooks = report.stopped_hooks;
    stopped_hooks.retain(|stop| stop.mended_time.is_none());
    let known = v1::KnownHost {
        name: auditty_proto::names::host_name(&host_id),
        host: Some(host),
        agent_version: report.agent_version,
        state: state.into(),
        first_heard_time: time(row, "first_heard_time")?,
        last_heard_time: time(row, "last_heard_time")?,
        open_session_count: row.int("open_sessions")?.unwrap_or_default().unsigned_abs(),
        tenant,
        configuration_sha256: report.configuration_sha256,
        stopped_hooks,
        unrecorded: report.unrecorded,
    };
    Ok((known, bytes))
}
