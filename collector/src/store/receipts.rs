//! Receipts: written once, read in the order of session, chunks and head.

use std::collections::BTreeMap;

use auditty_proto::v1;
use auditty_recording::receipt::SignedReceipt;
use uuid::Uuid;

use super::{
    Page, Scope, Store, StoreError,
    alerts::Cause,
    database::{Changes, Row},
    fact::Batch,
    write::{ROWS, often},
};

/// A chain head as its agent reported it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownHead {
    /// The session.
    pub session: Uuid,
    /// Chunks it covers, at least one.
    pub chunks: u32,
    /// The head, hexadecimal.
    pub chain_head: String,
}

/// Where a page of receipts begins: after this one.
pub type ReceiptPosition = KnownHead;

impl Store {
    /// Keeps the receipts of a batch; the first for a head stays.
    pub(super) async fn put_receipts(
        &self,
        changes: &mut Changes,
        batch: &Batch,
        causes: &mut Vec<Cause>,
    ) -> Result<(), StoreError> {
        for receipts in batch.receipts.chunks(ROWS) {
            let mut sql = self.database.sql(
                "INSERT INTO receipts \
                 (session_id, chunks, chain_head, host_id, tenant, json, signature) VALUES ",
            );
            for (row, (head, receipt)) in receipts.iter().enumerate() {
                sql.push(if row == 0 { "(" } else { ", (" });
                sql.bind(head.session.to_string()).push(", ");
                sql.bind(i64::from(head.chunks));
                for text in [
                    &head.chain_head,
                    &batch.host_id,
                    &batch.tenant,
                    &receipt.json,
                    &receipt.signature,
                ] {
                    sql.push(", ").bind(text.as_str());
                }
                sql.push(")");
            }
            sql.push(" ON CONFLICT DO NOTHING");
            if changes.execute(often(sql, receipts.len())).await? > 0 {
                self.contradictions(changes, batch, receipts, causes)
                    .await?;
            }
        }
        Ok(())
    }

    /// Numbers of chunks that have more than one head.
    async fn contradictions(
        &self,
        changes: &mut Changes,
        batch: &Batch,
        receipts: &[(KnownHead, SignedReceipt)],
        causes: &mut Vec<Cause>,
    ) -> Result<(), StoreError> {
        let mut sql = self
            .database
            .sql("SELECT session_id, chunks FROM receipts WHERE (session_id, chunks) IN (VALUES ");
        for (row, (head, _)) in receipts.iter().enumerate() {
            sql.push(if row == 0 { "(" } else { ", (" });
            sql.bind(head.session.to_string()).push(", ");
            sql.bind(i64::from(head.chunks)).push(")");
        }
        sql.push(") GROUP BY session_id, chunks HAVING count(*) > 1");
        for row in changes.rows(often(sql, receipts.len())).await? {
            let session = row.text("session_id")?;
            let chunks = row.int("chunks")?.unwrap_or_default();
            let what = format!("the first {chunks} chunks of the session {session}");
            causes.push(Cause::conflict(batch, &what, &session));
        }
        Ok(())
    }

    /// Recordings that ended with fewer chunks than there are receipts for. Of one
    /// that goes on, what follows will show.
    pub(super) async fn shortened(
        &self,
        changes: &mut Changes,
        batch: &Batch,
        ended: &BTreeMap<Uuid, Option<u32>>,
        causes: &mut Vec<Cause>,
    ) -> Result<(), StoreError> {
        let over = ended
            .iter()
            .filter_map(|(id, chunks)| Some((id, (*chunks)?)));
        let over: BTreeMap<_, _> = over.map(|(id, chunks)| (id.to_string(), chunks)).collect();
        let ids: Vec<_> = over.keys().collect();
        for ids in ids.chunks(ROWS) {
            let mut sql = self
                .database
                .sql("SELECT session_id, max(chunks) AS chunks FROM receipts WHERE session_id IN ");
            sql.tuple(ids.iter().map(|id| id.as_str()));
            sql.push(" GROUP BY session_id");
            for row in changes.rows(often(sql, ids.len())).await? {
                let session = row.text("session_id")?;
                let known = row.int("chunks")?.unwrap_or_default();
                let now = over.get(&session).map_or(known, |now| i64::from(*now));
                if now < known {
                    causes.push(Cause::shortened(batch, &session, (known, now)));
                }
            }
        }
        Ok(())
    }

    /// Receipts of one session or host, or of all.
    pub async fn receipts(
        &self,
        scope: &Scope,
        session: Option<Uuid>,
        host_id: &str,
        after: Option<&ReceiptPosition>,
        limit: usize,
    ) -> Result<Page<v1::Receipt>, StoreError> {
        let mut sql = self.database.sql(
            "SELECT s.session_id, s.chunks, s.chain_head, s.json, s.signature \
             FROM receipts s WHERE TRUE",
        );
        super::read::push_scope(&mut sql, scope);
        if let Some(session) = session {
            sql.push(" AND s.session_id = ").bind(session.to_string());
        }
        if !host_id.is_empty() {
            sql.push(" AND s.host_id = ").bind(host_id);
        }
        if let Some(after) = after {
            sql.push(" AND (s.session_id, s.chunks, s.chain_head) > (");
            sql.bind(after.session.to_string()).push(", ");
            sql.bind(i64::from(after.chunks)).push(", ");
            sql.bind(after.chain_head.as_str()).push(")");
        }
        sql.push(" ORDER BY s.session_id, s.chunks, s.chain_head");
        self.page(sql, limit, receipt).await
    }
}

fn receipt(row: &Row) -> Result<(v1::Receipt, usize), StoreError> {
    let receipt = v1::Receipt {
        session_id: row.text("session_id")?,
        // They are in the range they were stored from.
        chunk_count: row
            .int("chunks")?
            .and_then(|chunks| u32::try_from(chunks).ok())
            .unwrap_or_default(),
        chain_head: row.text("chain_head")?,
        json: row.text("json")?,
        signature: row.text("signature")?,
    };
    let bytes = receipt.json.len() + receipt.signature.len();
    Ok((receipt, bytes))
}
