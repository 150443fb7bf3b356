//! What was recorded in a time range: read session by session, counted by host.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use auditty_proto::{convert, filter::Filter, v1};
use futures::TryStreamExt;
use prost::Message;

use super::{HostName, Scope, Store, StoreError, database::Sql, nanoseconds, silent::host_name};

/// Hosts or grants of one question.
const PAGE: usize = 1000;

/// From a moment until before another, nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// From.
    pub start_ns: i64,
    /// Until before.
    pub end_ns: i64,
}

/// What is known of a range.
#[derive(Debug, Default)]
pub struct Covered {
    /// What is known of each host, in the order of ids.
    pub hosts: BTreeMap<(String, String), HostCover>,
    /// Grants in force in the range that none of its sessions used, with their
    /// tenants, in the order of request ids.
    pub unused_grants: Vec<(String, v1::AccessGrant)>,
    /// Tenants and request ids that sessions used.
    used: HashSet<(String, String)>,
    sessions: usize,
}

/// What is known of a host.
#[derive(Debug, Default)]
pub struct HostCover {
    /// The counts.
    pub coverage: v1::HostCoverage,
    /// What its administrator says of it.
    pub labels: BTreeMap<String, String>,
    first_heard_ns: i64,
    /// Its connections, by boot and id.
    connections: BTreeSet<(String, String)>,
    /// From when to when something was not captured, nanoseconds since 1970.
    gaps: Vec<(i64, i64)>,
}

impl Covered {
    /// Most sessions of a range: what is kept of them while they are counted fits
    /// into memory, and the answer comes in time.
    pub const MAX_SESSIONS: usize = 1_000_000;
}

impl Store {
    /// What is known of a range; `None` where it has too many sessions.
    pub async fn coverage(
        &self,
        scope: &Scope,
        range: Range,
    ) -> Result<Option<Covered>, StoreError> {
        let mut covered = Covered::default();
        self.cover_hosts(scope, range, &mut covered).await?;
        self.cover_silences(scope, range, &mut covered).await?;
        self.cover_failed_logins(scope, range, &mut covered).await?;
        self.cover_sessions(scope, range, &mut covered).await?;
        if covered.sessions > Covered::MAX_SESSIONS {
            return Ok(None);
        }
        for host in covered.hosts.values_mut() {
            host.coverage.login_count = host.connections.len() as u64;
            let gaps = total(std::mem::take(&mut host.gaps), range);
            host.coverage.gap_duration = (gaps > 0).then(|| convert::duration(gaps));
        }
        self.cover_grants(scope, range, &mut covered).await?;
        Ok(Some(covered))
    }

    async fn cover_hosts(
        &self,
        scope: &Scope,
        range: Range,
        covered: &mut Covered,
    ) -> Result<(), StoreError> {
        let (mut after, every) = (None::<HostName>, Filter::every());
        loop {
            let page = self
                .hosts(scope, &every, None, after.as_ref(), PAGE)
                .await?;
            for known in page.items {
                let host = known.host.unwrap_or_default();
                after = Some(HostName {
                    tenant: known.tenant.clone(),
                    host_id: host.host_id.clone(),
                });
                let first_heard = known.first_heard_time.as_ref().and_then(nanoseconds);
                let first_heard_ns = first_heard.unwrap_or_default();
                if first_heard_ns >= range.end_ns {
                    continue;
                }
                let of = covered.host(&known.tenant, &host);
                of.first_heard_ns = first_heard_ns;
                of.coverage.last_heard_time = known.last_heard_time;
                of.coverage.silent = known.state == i32::from(v1::HostState::Silent);
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    async fn cover_silences(
        &self,
        scope: &Scope,
        range: Range,
        covered: &mut Covered,
    ) -> Result<(), StoreError> {
        let mut sql = self.database.sql(
            "SELECT i.tenant, i.host_id, i.since, i.until FROM host_silences i WHERE i.since < ",
        );
        sql.bind(range.end_ns);
        sql.push(" AND (i.until IS NULL OR i.until > ")
            .bind(range.start_ns);
        sql.push(")");
        push_tenant(&mut sql, scope, "i");
        let mut rows = self.database.rows(sql);
        while let Some(row) = rows.try_next().await? {
            let HostName { tenant, host_id } = host_name(&row)?;
            let Some(host) = covered.hosts.get_mut(&(host_id, tenant)) else {
                continue;
            };
            let since = row.int("since")?.unwrap_or_default();
            let until = row.int("until")?.unwrap_or(i64::MAX);
            let from = since.max(range.start_ns).max(host.first_heard_ns);
            let silent_ns = until.min(range.end_ns).saturating_sub(from);
            let total = host.coverage.silent_duration.as_ref();
            let total = total.and_then(|total| std::time::Duration::try_from(*total).ok());
            let total = total.unwrap_or_default();
            let more = std::time::Duration::from_nanos(silent_ns.max(0).unsigned_abs());
            let total = total.saturating_add(more).as_nanos();
            let total = u64::try_from(total).unwrap_or(u64::MAX);
            host.coverage.silent_duration = Some(convert::duration(total));
            host.coverage.silence_count += 1;
        }
        Ok(())
    }

    async fn cover_failed_logins(
        &self,
        scope: &Scope,
        range: Range,
        covered: &mut Covered,
    ) -> Result<(), StoreError> {
        // A sum is no whole number of 64 bits in PostgreSQL unless it is asked for.
        let mut sql = self.database.sql(
            "SELECT f.tenant, f.host_id, f.outcome, \
             CAST(sum(f.connection_count) AS BIGINT) AS connections FROM failed_logins f WHERE f.start_time >= ",
        );
        sql.bind(range.start_ns);
        sql.push(" AND f.start_time < ").bind(range.end_ns);
        push_tenant(&mut sql, scope, "f");
        sql.push(" GROUP BY f.tenant, f.host_id, f.outcome");
        let mut rows = self.database.rows(sql);
        while let Some(row) = rows.try_next().await? {
            let HostName { tenant, host_id } = host_name(&row)?;
            let host = v1::Host {
                host_id,
                ..v1::Host::default()
            };
            let count = row.int("connections")?.unwrap_or_default().unsigned_abs();
            let outcome = row.int("outcome")?.unwrap_or_default();
            let coverage = &mut covered.host(&tenant, &host).coverage;
            match i32::try_from(outcome).map(v1::LoginOutcome::try_from) {
                Ok(Ok(v1::LoginOutcome::LoggedIn)) => {}
                Ok(Ok(v1::LoginOutcome::NotRecorded)) => coverage.unrecorded_login_count += count,
                _ => coverage.failed_login_count += count,
            }
        }
        Ok(())
    }

    async fn cover_sessions(
        &self,
        scope: &Scope,
        range: Range,
        covered: &mut Covered,
    ) -> Result<(), StoreError> {
        let mut sql = self
            .database
            .sql("SELECT s.tenant, s.message FROM sessions s WHERE s.start_time >= ");
        sql.bind(range.start_ns);
        sql.push(" AND s.start_time < ").bind(range.end_ns);
        push_tenant(&mut sql, scope, "s");
        sql.push(" LIMIT ").bind(Covered::MAX_SESSIONS as i64 + 1);
        let mut rows = self.database.rows(sql);
        while let Some(row) = rows.try_next().await? {
            let session = v1::Session::decode(row.bytes("message")?)?;
            covered.count(row.text("tenant")?, &session);
        }
        Ok(())
    }

    async fn cover_grants(
        &self,
        scope: &Scope,
        range: Range,
        covered: &mut Covered,
    ) -> Result<(), StoreError> {
        let mut sql = self
            .database
            .sql("SELECT g.tenant, g.request_id, g.message FROM grants g WHERE (g.valid_from IS NULL OR g.valid_from < ");
        sql.bind(range.end_ns);
        sql.push(") AND (g.over_at IS NULL OR g.over_at > ");
        sql.bind(range.start_ns).push(")");
        push_tenant(&mut sql, scope, "g");
        sql.push(" ORDER BY g.request_id, g.tenant");
        let mut rows = self.database.rows(sql);
        while let Some(row) = rows.try_next().await? {
            let (tenant, id) = (row.text("tenant")?, row.text("request_id")?);
            let grant = v1::AccessGrant::decode(row.bytes("message")?)?;
            let created = grant.create_time.as_ref().and_then(nanoseconds);
            let there = created.is_none_or(|created| created < range.end_ns);
            let of = (tenant, id);
            if there && !covered.used.contains(&of) {
                covered.unused_grants.push((of.0, grant));
            }
        }
        Ok(())
    }
}

impl Covered {
    /// What is known of a host, which is known from now on.
    fn host(&mut self, tenant: &str, host: &v1::Host) -> &mut HostCover {
        let key = (host.host_id.clone(), tenant.to_owned());
        let of = self.hosts.entry(key).or_insert_with(|| HostCover {
            coverage: v1::HostCoverage {
                host_id: host.host_id.clone(),
                tenant: tenant.to_owned(),
                ..v1::HostCoverage::default()
            },
            ..HostCover::default()
        });
        if of.coverage.hostname.is_empty() {
            of.coverage.hostname.clone_from(&host.hostname);
            of.labels.clone_from(&host.labels);
        }
        of
    }

    fn count(&mut self, tenant: String, session: &v1::Session) {
        use v1::{GrantStatus, Verdict};
        self.sessions += 1;
        let grant = session.grant.clone().unwrap_or_default();
        let one = grant.grant.iter().map(|grant| grant.request_id.clone());
        for id in one.chain(grant.candidate_request_ids.iter().cloned()) {
            self.used.insert((tenant.clone(), id));
        }
        let host = session.host.clone().unwrap_or_default();
        let counts = session.counts.unwrap_or_default();
        let of = self.host(&tenant, &host);
        let connection = session.connection.as_ref();
        let connection = connection.map_or(&session.session_id, |c| &c.connection_id);
        of.connections.insert((host.boot_id, connection.clone()));
        let gaps = session.gap_times.iter().filter_map(|gap| {
            let (start, end) = (gap.start_time.as_ref()?, gap.end_time.as_ref()?);
            Some((nanoseconds(start)?, nanoseconds(end)?))
        });
        of.gaps.extend(gaps);
        let coverage = &mut of.coverage;
        coverage.session_count += 1;
        match grant.status() {
            GrantStatus::Ungranted | GrantStatus::Expired | GrantStatus::Revoked => {
                coverage.ungranted_session_count += 1;
            }
            GrantStatus::Ambiguous => coverage.ambiguous_session_count += 1,
            GrantStatus::Granted | GrantStatus::Unspecified => {}
        }
        coverage.lossy_session_count += u64::from(counts.gap_count > 0);
        coverage.interrupted_session_count += u64::from(session.verdict() == Verdict::Interrupted);
        coverage.gap_count += counts.gap_count;
        coverage.lost_event_count += counts.lost_event_count;
        coverage.lost_byte_count += counts.lost_byte_count;
    }
}

/// How much of a range the spans take together, nanoseconds.
fn total(mut spans: Vec<(i64, i64)>, range: Range) -> u64 {
    spans.sort_unstable();
    let mut until = range.start_ns;
    let mut total = 0;
    for (start, end) in spans {
        let (start, end) = (start.max(until), end.min(range.end_ns));
        total += u64::try_from(end.saturating_sub(start)).unwrap_or_default();
        until = until.max(end);
    }
    total
}

fn push_tenant(sql: &mut Sql, scope: &Scope, table: &str) {
    if let Scope::Tenant(tenant) = scope {
        sql.push(" AND ").push(table).push(".tenant = ");
        sql.bind(tenant.as_str());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_counts_once_and_what_is_outside_not_at_all() {
        let range = Range {
            start_ns: 100,
            end_ns: 200,
        };
        let spans = vec![
            (150, 160),
            (50, 110),
            (155, 170),
            (150, 151),
            (190, 300),
            (7, 8),
        ];
        assert_eq!(total(spans, range), 10 + 20 + 10);
        assert_eq!(total(vec![(0, 1000), (120, 130)], range), 100);
        assert_eq!(total(vec![(170, 160), (150, 150)], range), 0);
    }
}
