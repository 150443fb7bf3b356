//! Grants. A revision counts every change of any of them; changes stand in line
//! for it, so that whoever has seen a revision has seen all before it.

use auditty_proto::v1;
use prost::Message;

use super::{
    Page, Scope, Store, StoreError,
    database::{self, Changes, Row, Sql},
    nanoseconds,
};

/// How often a transaction that gave way to another one is tried again.
const ATTEMPTS: usize = 5;

/// What became of a change.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It was made.
    Made(v1::AccessGrant),
    /// Nothing was changed: the grant was there before, or was so before.
    Found(v1::AccessGrant),
}

/// How far the changes of grants are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRevision {
    /// Number of the latest.
    pub revision: u64,
    /// Of which database: revisions of another one mean something else.
    pub generation: String,
}

impl Store {
    /// Keeps a new grant; one with its tenant and request id that is there stays.
    pub async fn create_grant(&self, grant: &v1::AccessGrant) -> Result<Change, StoreError> {
        for _ in 1..ATTEMPTS {
            match self.try_create(grant.clone()).await {
                Err(error) if database::is_passing(&error) => {}
                outcome => return outcome,
            }
        }
        self.try_create(grant.clone()).await
    }

    async fn try_create(&self, mut grant: v1::AccessGrant) -> Result<Change, StoreError> {
        let mut changes = self.database.begin().await?;
        grant.revision = self.next_revision(&mut changes).await?;
        let (tenant, id) = (grant.tenant.clone(), request_id(&grant).to_owned());
        if let Some(found) = self.find_grant(&mut changes, &tenant, &id).await? {
            return Ok(Change::Found(found));
        }
        let mut sql = self.database.sql(
            "INSERT INTO grants (tenant, request_id, revision, valid_from, over_at, message) VALUES (",
        );
        sql.bind(tenant).push(", ").bind(id).push(", ");
        bind_state(&mut sql, &grant);
        sql.push(")");
        changes.execute(sql.often()).await?;
        changes.commit().await?;
        Ok(Change::Made(grant))
    }

    /// Changes a grant with `change`, which says whether there is anything to
    /// change; `None` where there is no such grant.
    pub async fn change_grant(
        &self,
        tenant: &str,
        id: &str,
        change: impl Fn(&mut v1::AccessGrant) -> bool,
    ) -> Result<Option<Change>, StoreError> {
        for _ in 1..ATTEMPTS {
            match self.try_change(tenant, id, &change).await {
                Err(error) if database::is_passing(&error) => {}
                outcome => return outcome,
            }
        }
        self.try_change(tenant, id, &change).await
    }

    async fn try_change(
        &self,
        tenant: &str,
        id: &str,
        change: impl Fn(&mut v1::AccessGrant) -> bool,
    ) -> Result<Option<Change>, StoreError> {
        let mut changes = self.database.begin().await?;
        let revision = self.next_revision(&mut changes).await?;
        let Some(mut grant) = self.find_grant(&mut changes, tenant, id).await? else {
            return Ok(None);
        };
        if !change(&mut grant) {
            return Ok(Some(Change::Found(grant)));
        }
        grant.revision = revision;
        let mut sql = self
            .database
            .sql("UPDATE grants SET (revision, valid_from, over_at, message) = (");
        bind_state(&mut sql, &grant);
        sql.push(") WHERE tenant = ").bind(tenant);
        sql.push(" AND request_id = ").bind(id);
        changes.execute(sql.often()).await?;
        changes.commit().await?;
        Ok(Some(Change::Made(grant)))
    }

    /// Takes the next revision; who else wants one waits for the transaction.
    async fn next_revision(&self, changes: &mut Changes) -> Result<u64, StoreError> {
        let count = self
            .database
            .sql("UPDATE grant_revisions SET revision = revision + 1");
        changes.execute(count.often()).await?;
        let ask = self.database.sql("SELECT revision FROM grant_revisions");
        let rows = changes.rows(ask.often()).await?;
        let revision = rows.first().map(|row| row.int("revision")).transpose()?;
        Ok(revision.flatten().unwrap_or_default().unsigned_abs())
    }

    async fn find_grant(
        &self,
        changes: &mut Changes,
        tenant: &str,
        id: &str,
    ) -> Result<Option<v1::AccessGrant>, StoreError> {
        let mut sql = self
            .database
            .sql("SELECT g.message FROM grants g WHERE g.tenant = ");
        sql.bind(tenant).push(" AND g.request_id = ").bind(id);
        let rows = changes.rows(sql.often()).await?;
        Ok(rows.first().map(grant).transpose()?.map(|(grant, _)| grant))
    }

    /// The grants with a request id: one of each tenant in `scope` that has one,
    /// two at most.
    pub async fn grants_of_request(
        &self,
        scope: &Scope,
        id: &str,
    ) -> Result<Vec<v1::AccessGrant>, StoreError> {
        let mut sql = self
            .database
            .sql("SELECT g.message FROM grants g WHERE g.request_id = ");
        sql.bind(id);
        push_tenant(&mut sql, scope);
        sql.push(" ORDER BY g.tenant");
        Ok(self.page(sql, 2, grant).await?.items)
    }

    /// Grants, the latest change first: those changed before `before`, and, with
    /// `in_force_at` (nanoseconds since 1970), those in force then.
    pub async fn grants(
        &self,
        scope: &Scope,
        before: Option<u64>,
        in_force_at: Option<i64>,
        limit: usize,
    ) -> Result<Page<v1::AccessGrant>, StoreError> {
        let mut sql = self
            .database
            .sql("SELECT g.message FROM grants g WHERE TRUE");
        push_tenant(&mut sql, scope);
        if let Some(before) = before {
            sql.push(" AND g.revision < ").bind(signed(before));
        }
        if let Some(now) = in_force_at {
            sql.push(" AND (g.valid_from IS NULL OR g.valid_from <= ");
            sql.bind(now);
            sql.push(") AND (g.over_at IS NULL OR g.over_at > ");
            sql.bind(now).push(")");
        }
        sql.push(" ORDER BY g.revision DESC");
        self.page(sql, limit, grant).await
    }

    /// Grants changed after a revision, in order; with `over_after`
    /// (nanoseconds since 1970) those that were over by then are left out.
    pub async fn changed_grants(
        &self,
        scope: &Scope,
        after: u64,
        over_after: Option<i64>,
        limit: usize,
    ) -> Result<Page<v1::AccessGrant>, StoreError> {
        let mut sql = self
            .database
            .sql("SELECT g.message FROM grants g WHERE g.revision > ");
        sql.bind(signed(after));
        push_tenant(&mut sql, scope);
        if let Some(over_after) = over_after {
            sql.push(" AND (g.over_at IS NULL OR g.over_at > ");
            sql.bind(over_after).push(")");
        }
        sql.push(" ORDER BY g.revision");
        self.page(sql, limit, grant).await
    }

    /// How far the changes are.
    pub async fn grant_revision(&self) -> Result<GrantRevision, StoreError> {
        let sql = self
            .database
            .sql("SELECT revision, generation FROM grant_revisions");
        let row = self.database.row(sql.often()).await?;
        let row = row.ok_or(sqlx::Error::RowNotFound)?;
        Ok(GrantRevision {
            revision: row.int("revision")?.unwrap_or_default().unsigned_abs(),
            generation: row.text("generation")?,
        })
    }
}

/// Binds what changes about a grant.
fn bind_state(sql: &mut Sql, grant: &v1::AccessGrant) {
    let approved = grant.grant.clone().unwrap_or_default();
    let ends = [approved.valid_until_time, approved.revoked_time];
    let over_at = ends.iter().flatten().filter_map(nanoseconds).min();
    let from = approved.valid_from_time.as_ref().and_then(nanoseconds);
    sql.bind(signed(grant.revision)).push(", ");
    sql.bind(from).push(", ").bind(over_at).push(", ");
    sql.bind(grant.encode_to_vec());
}

/// Revisions count up from 1.
fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn push_tenant(sql: &mut Sql, scope: &Scope) {
    if let Scope::Tenant(tenant) = scope {
        sql.push(" AND g.tenant = ").bind(tenant.as_str());
    }
}

fn request_id(grant: &v1::AccessGrant) -> &str {
    grant.grant.as_ref().map_or("", |grant| &grant.request_id)
}

fn grant(row: &Row) -> Result<(v1::AccessGrant, usize), StoreError> {
    let message = row.bytes("message")?;
    Ok((v1::AccessGrant::decode(message)?, message.len()))
}
