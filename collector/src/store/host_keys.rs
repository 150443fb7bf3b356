//! The keys that hosts sign with. The first one that a host reports counts; every
//! other one has to be certified by one that counts, or accepted by an
//! administrator. What is not is kept all the same, and said.

use std::collections::BTreeSet;

use auditty_proto::{convert, v1};
use auditty_recording::{
    host::{KeyEntry, SignedEntry},
    signature::PublicKey,
};
use jiff::Timestamp;

use super::{
    Page, Scope, Store, StoreError,
    alerts::Cause,
    database::{Changes, Row, Sql},
    fact::Batch,
    read::push_scope,
};

/// Most keys of one host that are kept although nothing certifies them.
const MAX_UNCERTIFIED: usize = 100;

/// Where a page of keys or digests begins: after this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPosition {
    /// Whose host it is.
    pub tenant: String,
    /// The host.
    pub host_id: String,
    /// The key log.
    pub log: String,
    /// The number in the log or chain.
    pub number: i64,
    /// The digest, hexadecimal.
    pub sha256: String,
}

impl Store {
    /// Registers a key of the batch's host.
    pub(super) async fn register(
        &self,
        changes: &mut Changes,
        batch: &Batch,
        signed: &SignedEntry,
        causes: &mut Vec<Cause>,
    ) -> Result<(), StoreError> {
        let KeyEntry {
            log,
            number,
            public_key,
            fingerprint,
            not_before,
            previous,
            ..
        } = &signed.entry;
        let mut sql = self.of_host(batch, "log, number, sha256, public_key, standing");
        sql.push(" AND (standing = ")
            .bind(UNCERTIFIED)
            .push(" OR (log = ")
            .bind(log.to_string())
            .push(" AND number >= ")
            .bind(stored(*number) - 1)
            .push(" AND number <= ")
            .bind(stored(*number))
            .push("))");
        let mut known = Vec::new();
        for row in changes.rows(sql.often()).await? {
            known.push(Known::read(&row)?);
        }
        let log_name = log.to_string();
        let in_place = |known: &&Known| known.log == log_name && known.number == stored(*number);
        let sha256 = signed.sha256.to_string();
        if known
            .iter()
            .any(|known| in_place(&known) && known.sha256 == sha256)
        {
            return Ok(());
        }
        let standing = if known.iter().any(|known| in_place(&known) && known.counts()) {
            UNCERTIFIED
        } else if known.iter().any(|known| known.certifies(signed)) {
            CERTIFIED
        } else if self.has_key(changes, batch).await? {
            UNCERTIFIED
        } else {
            FIRST
        };
        let host_id = batch.host_id.escape_debug();
        match standing {
            FIRST => tracing::info!(%host_id, fingerprint, "the first key of a host is registered"),
            UNCERTIFIED => {
                tracing::error!(%host_id, fingerprint, %log, number, "a host reports a key that none of its keys certifies: it was set up again, or somebody reports in its name");
                let kept = known.iter().filter(|known| !known.counts()).count();
                if kept >= MAX_UNCERTIFIED {
                    return Ok(());
                }
                causes.push(Cause::uncertified_key(batch, fingerprint));
            }
            _ => {}
        }
        let mut sql = self.database.sql(
            "INSERT INTO host_keys (tenant, host_id, log, number, sha256, public_key, \
             fingerprint, not_before, previous, standing, registered_time) VALUES (",
        );
        sql.bind(batch.tenant.as_str()).push(", ");
        sql.bind(batch.host_id.as_str()).push(", ");
        sql.bind(log_name).push(", ").bind(stored(*number));
        for text in [sha256, public_key.to_string(), fingerprint.clone()] {
            sql.push(", ").bind(text);
        }
        sql.push(", ").bind(moment(*not_before));
        sql.push(", ").bind(previous.to_string());
        sql.push(", ").bind(standing);
        sql.push(", ").bind(moment(Timestamp::now())).push(")");
        changes.execute(sql.often()).await?;
        Ok(())
    }

    async fn has_key(&self, changes: &mut Changes, batch: &Batch) -> Result<bool, StoreError> {
        let mut sql = self.of_host(batch, "number");
        sql.push(" LIMIT 1");
        Ok(!changes.rows(sql.often()).await?.is_empty())
    }

    fn of_host(&self, batch: &Batch, columns: &str) -> Sql {
        let mut sql = self
            .database
            .sql(format!("SELECT {columns} FROM host_keys WHERE tenant = "));
        sql.bind(batch.tenant.as_str()).push(" AND host_id = ");
        sql.bind(batch.host_id.as_str());
        sql
    }

    /// Keys of one host, or of all.
    pub async fn host_keys(
        &self,
        scope: &Scope,
        host_id: &str,
        after: Option<&HostPosition>,
        limit: usize,
    ) -> Result<Page<(HostPosition, v1::HostKey)>, StoreError> {
        let mut sql = self.database.sql(
            "SELECT s.tenant, s.host_id, s.log, s.number, s.sha256, s.public_key, \
             s.fingerprint, s.not_before, s.standing, s.registered_time \
             FROM host_keys s WHERE TRUE",
        );
        push_scope(&mut sql, scope);
        push_after(&mut sql, host_id, after);
        self.page(sql, limit, host_key).await
    }

    /// Takes a key that does not count as one of its host's, and those that it
    /// certifies.
    pub async fn accept_key(
        &self,
        scope: &Scope,
        host_id: &str,
        fingerprint: &str,
    ) -> Result<Accepted, StoreError> {
        let mut changes = self.database.begin().await?;
        let mut sql = self.database.sql(
            "SELECT s.tenant, s.host_id, s.log, s.number, s.sha256, s.previous, s.fingerprint, \
             s.standing FROM host_keys s WHERE TRUE",
        );
        push_scope(&mut sql, scope);
        push_after(&mut sql, host_id, None);
        let rows = changes.rows(sql).await?;
        let mut found = false;
        // Places in a log that have a key that counts.
        let mut taken = BTreeSet::new();
        let mut accepted: Vec<HostPosition> = Vec::new();
        for row in &rows {
            let (key, counts) = (position(row)?, row.int("standing")? != Some(UNCERTIFIED));
            let named = row.text("fingerprint")? == fingerprint;
            found |= named;
            let previous = row.text("previous")?;
            let follows = accepted.last().is_some_and(|last| {
                (&last.tenant, &last.log, last.number + 1, &last.sha256)
                    == (&key.tenant, &key.log, key.number, &previous)
            });
            if counts {
                taken.insert(place(&key));
            } else if named || follows {
                accepted.push(key);
            }
        }
        if accepted.iter().any(|key| taken.contains(&place(key))) {
            return Ok(Accepted::Contradicted);
        }
        for (number, key) in accepted.iter().enumerate() {
            let mut sql = self.database.sql("UPDATE host_keys SET standing = ");
            sql.bind(if number == 0 { ACCEPTED } else { CERTIFIED });
            sql.push(" WHERE (tenant, host_id, log, sha256) = ");
            sql.tuple([&key.tenant, &key.host_id, &key.log, &key.sha256].map(String::as_str));
            sql.push(" AND number = ").bind(key.number);
            changes.execute(sql).await?;
        }
        changes.commit().await?;
        Ok(match found {
            true => Accepted::Keys(accepted.len()),
            false => Accepted::Unknown,
        })
    }
}

/// What became of a key that was to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// So many keys count from now on.
    Keys(usize),
    /// Its host has not reported it.
    Unknown,
    /// Another key counts in its place of the log.
    Contradicted,
}

fn place(key: &HostPosition) -> (String, String, i64) {
    (key.tenant.clone(), key.log.clone(), key.number)
}

const FIRST: i64 = v1::KeyStanding::First as i64;
const CERTIFIED: i64 = v1::KeyStanding::Certified as i64;
const ACCEPTED: i64 = v1::KeyStanding::Accepted as i64;
const UNCERTIFIED: i64 = v1::KeyStanding::Uncertified as i64;

/// A key that was registered before.
struct Known {
    log: String,
    number: i64,
    sha256: String,
    public_key: String,
    standing: i64,
}

impl Known {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            log: row.text("log")?,
            number: row.int("number")?.unwrap_or_default(),
            sha256: row.text("sha256")?,
            public_key: row.text("public_key")?,
            standing: row.int("standing")?.unwrap_or_default(),
        })
    }

    fn counts(&self) -> bool {
        self.standing != UNCERTIFIED
    }

    fn certifies(&self, signed: &SignedEntry) -> bool {
        let before = self.public_key.parse::<PublicKey>();
        let (Ok(key), Ok(sha256)) = (before, self.sha256.parse()) else {
            return false;
        };
        self.counts()
            && self.log == signed.entry.log.to_string()
            && self.number + 1 == stored(signed.entry.number)
            && signed.is_certified_by(&key, sha256)
    }
}

/// Goes on behind a position, in the order of the tables' keys.
pub(super) fn push_after(sql: &mut Sql, host_id: &str, after: Option<&HostPosition>) {
    if !host_id.is_empty() {
        sql.push(" AND s.host_id = ").bind(host_id);
    }
    if let Some(after) = after {
        sql.push(" AND (s.tenant, s.host_id, s.log, s.number, s.sha256) > (");
        sql.bind(after.tenant.as_str()).push(", ");
        sql.bind(after.host_id.as_str()).push(", ");
        sql.bind(after.log.as_str()).push(", ");
        sql.bind(after.number).push(", ");
        sql.bind(after.sha256.as_str()).push(")");
    }
    sql.push(" ORDER BY s.tenant, s.host_id, s.log, s.number, s.sha256");
}

pub(super) fn position(row: &Row) -> Result<HostPosition, StoreError> {
    Ok(HostPosition {
        tenant: row.text("tenant")?,
        host_id: row.text("host_id")?,
        log: row.text("log")?,
        number: row.int("number")?.unwrap_or_default(),
        sha256: row.text("sha256")?,
    })
}

fn host_key(row: &Row) -> Result<((HostPosition, v1::HostKey), usize), StoreError> {
    let position = position(row)?;
    let key = v1::HostKey {
        host_id: position.host_id.clone(),
        log: position.log.clone(),
        number: u64::try_from(position.number).unwrap_or_default(),
        fingerprint: row.text("fingerprint")?,
        public_key: row.text("public_key")?,
        not_before_time: time(row, "not_before")?,
        sha256: position.sha256.clone(),
        standing: i32::try_from(row.int("standing")?.unwrap_or_default()).unwrap_or_default(),
        registered_time: time(row, "registered_time")?,
    };
    let bytes = key.public_key.len() + key.host_id.len() + 256;
    Ok(((position, key), bytes))
}

/// As the database holds it; checked when it came in.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A moment as the database holds it; beyond 2262 the last one there is.
pub(super) fn moment(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// What [`moment`] made of a time.
pub(super) fn time(row: &Row, column: &str) -> Result<Option<prost_types::Timestamp>, StoreError> {
    let time = row.int(column)?;
    let time = time.and_then(|time| Timestamp::from_nanosecond(time.into()).ok());
    Ok(time.map(convert::timestamp))
}
