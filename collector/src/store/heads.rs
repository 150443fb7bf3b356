//! How far the digest chains of hosts went.

use auditty_proto::v1;
use auditty_recording::host::{DigestHead, LogId};
use jiff::Timestamp;

use super::{
    Page, Scope, Store, StoreError,
    alerts::Cause,
    database::{Changes, Row},
    fact::Batch,
    host_keys::{HostPosition, moment, position, push_after, stored, time},
    read::push_scope,
};

/// So many numbers of a chain are kept: a week of them at the usual interval.
const KEPT: i64 = 1000;

impl Store {
    /// Keeps a digest that the batch's host has stored.
    pub(super) async fn put_head(
        &self,
        changes: &mut Changes,
        batch: &Batch,
        log: &LogId,
        head: DigestHead,
        causes: &mut Vec<Cause>,
    ) -> Result<(), StoreError> {
        let number = stored(head.number);
        let place = [batch.tenant.clone(), batch.host_id.clone(), log.to_string()];
        let mut sql = self.database.sql(
            "INSERT INTO digest_heads (tenant, host_id, log, number, sha256, report_time) VALUES (",
        );
        for text in &place {
            sql.bind(text.as_str()).push(", ");
        }
        sql.bind(number).push(", ");
        sql.bind(head.sha256.to_string()).push(", ");
        sql.bind(moment(Timestamp::now()));
        sql.push(") ON CONFLICT DO NOTHING");
        if changes.execute(sql.often()).await? == 0 {
            return Ok(());
        }
        let mut sql = self
            .database
            .sql("SELECT sha256 FROM digest_heads WHERE (tenant, host_id, log) = ");
        sql.tuple(place.iter().map(String::as_str));
        sql.push(" AND number >= ").bind(number);
        sql.push(" LIMIT 2");
        if changes.rows(sql.often()).await?.len() > 1 {
            let host_id = batch.host_id.escape_debug();
            tracing::error!(%host_id, %log, number, "a host's digest chain went on from an older state: the host was rolled back or copied, or somebody reports in its name");
            let what = format!("digest {number} of its chain {log}");
            causes.push(Cause::conflict(batch, &what, ""));
        }
        let mut sql = self
            .database
            .sql("DELETE FROM digest_heads WHERE (tenant, host_id, log) = ");
        sql.tuple(place.iter().map(String::as_str));
        sql.push(" AND number <= ")
            .bind(number.saturating_sub(KEPT));
        changes.execute(sql.often()).await?;
        Ok(())
    }

    /// The newest digest of every chain, and all of a number that a chain has
    /// more than one of.
    pub async fn digest_heads(
        &self,
        scope: &Scope,
        host_id: &str,
        after: Option<&HostPosition>,
        limit: usize,
    ) -> Result<Page<(HostPosition, v1::DigestHead)>, StoreError> {
        const SAME_CHAIN: &str = "SELECT 1 FROM digest_heads o WHERE o.tenant = s.tenant \
             AND o.host_id = s.host_id AND o.log = s.log";
        let mut sql = self.database.sql(
            "SELECT s.tenant, s.host_id, s.log, s.number, s.sha256, s.report_time \
             FROM digest_heads s WHERE (NOT EXISTS (",
        );
        sql.push(SAME_CHAIN)
            .push(" AND o.number > s.number) OR EXISTS (")
            .push(SAME_CHAIN)
            .push(" AND o.number = s.number AND o.sha256 <> s.sha256))");
        push_scope(&mut sql, scope);
        push_after(&mut sql, host_id, after);
        self.page(sql, limit, digest_head).await
    }
}

fn digest_head(row: &Row) -> Result<((HostPosition, v1::DigestHead), usize), StoreError> {
    let position = position(row)?;
    let head = v1::DigestHead {
        host_id: position.host_id.clone(),
        log: position.log.clone(),
        number: u64::try_from(position.number).unwrap_or_default(),
        sha256: position.sha256.clone(),
        report_time: time(row, "report_time")?,
    };
    let bytes = head.host_id.len() + 128;
    Ok(((position, head), bytes))
}
