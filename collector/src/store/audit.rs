//! Audit records: written in batches, never changed.

use auditty_proto::{
    filter::{AUDIT_FIELDS, Filter},
    v1,
};
use prost::Message;

use super::{
    Page, Scope, Store, StoreError,
    filters::{push_field, push_filter},
};

impl Store {
    /// Stores records durably: all or none.
    pub async fn add_audit_records(&self, records: &[v1::AuditRecord]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut sql = self
            .database
            .sql("INSERT INTO audit_records (tenant, message");
        for field in AUDIT_FIELDS {
            sql.push(", ").push(field.name);
        }
        sql.push(") VALUES ");
        for (row, record) in records.iter().enumerate() {
            sql.push(if row == 0 { "(" } else { ", (" });
            sql.bind(record.tenant.as_str()).push(", ");
            sql.bind(record.encode_to_vec());
            for field in AUDIT_FIELDS {
                sql.push(", ");
                push_field(&mut sql, field, record);
            }
            sql.push(")");
        }
        sql.push(" ON CONFLICT DO NOTHING");
        let mut changes = self.database.begin().await?;
        changes.execute(sql).await?;
        changes.commit().await
    }

    /// Audit records that match, newest first, after one with this id.
    pub async fn audit_records(
        &self,
        scope: &Scope,
        filter: &Filter<v1::AuditRecord>,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<v1::AuditRecord>, StoreError> {
        let mut sql = self
            .database
            .sql("SELECT a.message FROM audit_records a WHERE TRUE");
        if let Scope::Tenant(tenant) = scope {
            sql.push(" AND a.tenant = ").bind(tenant.as_str());
        }
        push_filter(&mut sql, filter, |_| "a");
        if let Some(id) = after {
            sql.push(" AND a.audit_id < ").bind(id);
        }
        sql.push(" ORDER BY a.audit_id DESC");
        self.page(sql, limit, |row| {
            let message = row.bytes("message")?;
            Ok((v1::AuditRecord::decode(message)?, message.len()))
        })
        .await
    }
}
