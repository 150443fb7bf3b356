//! Failed logins. One that stands for several connections grows, and is otherwise
//! never changed.

use auditty_proto::{
    filter::{FAILED_LOGIN_FIELDS, Filter},
    v1,
};
use prost::Message;

use super::{
    Batch, Page, Scope, Store, StoreError,
    database::Changes,
    filters::{push_field, push_filter},
    write::{ROWS, often},
};

/// Where a page of failed logins begins: after this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedLoginPosition {
    /// Its start, nanoseconds since 1970.
    pub start_ns: i64,
    /// Its host.
    pub host_id: String,
    /// Whose host it is.
    pub tenant: String,
    /// Its id.
    pub id: String,
}

impl Store {
    /// Stores those of a batch. `logins` are in the order of ids, no two the same.
    pub(super) async fn put_failed_logins(
        &self,
        changes: &mut Changes,
        batch: &Batch,
        logins: &[&v1::FailedLogin],
    ) -> Result<(), StoreError> {
        for logins in logins.chunks(ROWS) {
            let mut sql = self
                .database
                .sql("INSERT INTO failed_logins (tenant, message");
            for field in FAILED_LOGIN_FIELDS {
                sql.push(", \"").push(field.name).push("\"");
            }
            sql.push(") VALUES ");
            for (row, login) in logins.iter().enumerate() {
                sql.push(if row == 0 { "(" } else { ", (" });
                sql.bind(batch.tenant.as_str()).push(", ");
                sql.bind(login.encode_to_vec());
                for field in FAILED_LOGIN_FIELDS {
                    sql.push(", ");
                    push_field(&mut sql, field, login);
                }
                sql.push(")");
            }
            sql.push(
                " ON CONFLICT (host_id, tenant, failed_login_id) DO UPDATE \
                 SET message = excluded.message",
            );
            for field in FAILED_LOGIN_FIELDS {
                let name = field.name;
                sql.push(&format!(", \"{name}\" = excluded.\"{name}\""));
            }
            sql.push(" WHERE excluded.connection_count > failed_logins.connection_count");
            changes.execute(often(sql, logins.len())).await?;
        }
        Ok(())
    }

    /// Failed logins that match, newest first.
    pub async fn failed_logins(
        &self,
        scope: &Scope,
        filter: &Filter<v1::FailedLogin>,
        after: Option<&FailedLoginPosition>,
        limit: usize,
    ) -> Result<Page<v1::FailedLogin>, StoreError> {
        let mut sql = self
            .database
            .sql("SELECT f.message, f.tenant FROM failed_logins f WHERE TRUE");
        if let Scope::Tenant(tenant) = scope {
            sql.push(" AND f.tenant = ").bind(tenant.as_str());
        }
        push_filter(&mut sql, filter, |_| "f");
        if let Some(after) = after {
            sql.push(" AND (f.start_time, f.host_id, f.tenant, f.failed_login_id) < (");
            sql.bind(after.start_ns);
            for text in [&after.host_id, &after.tenant, &after.id] {
                sql.push(", ").bind(text.as_str());
            }
            sql.push(")");
        }
        sql.push(
            " ORDER BY f.start_time DESC, f.host_id DESC, f.tenant DESC, f.failed_login_id DESC",
        );
        self.page(sql, limit, |row| {
            let message = row.bytes("message")?;
            let mut login = v1::FailedLogin::decode(message)?;
            login.tenant = row.text("tenant")?;
            Ok((login, message.len()))
        })
        .await
    }
}
