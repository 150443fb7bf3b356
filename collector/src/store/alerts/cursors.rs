//! How far each destination has the alerts. Of several collectors over one
//! database one delivers to a destination, as long as it keeps saying so.

use jiff::Timestamp;

use super::signed;
use crate::store::{Store, StoreError, database::Database, host_keys::moment};

impl Store {
    /// Takes a destination for `holder` until `until`, or keeps it: the revision
    /// it is at, or `None` while another collector has it. A new destination begins
    /// with what comes from now on.
    pub(crate) async fn take_destination(
        &self,
        destination: &str,
        holder: &str,
        until: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        let mut changes = self.database.begin().await?;
        let mut sql = self
            .database
            .sql("INSERT INTO alert_cursors (destination, revision, holder, held_until) SELECT ");
        sql.bind(destination);
        sql.push(", revision, '', 0 FROM alert_revisions WHERE TRUE ON CONFLICT DO NOTHING");
        changes.execute(sql.often()).await?;
        let mut sql = self.database.sql("UPDATE alert_cursors SET holder = ");
        sql.bind(holder).push(", held_until = ").bind(moment(until));
        sql.push(" WHERE destination = ").bind(destination);
        // A file has one collector; one that crashed left no other.
        if matches!(self.database, Database::Postgres { .. }) {
            sql.push(" AND (holder = ").bind(holder);
            sql.push(" OR held_until < ").bind(moment(Timestamp::now()));
            sql.push(")");
        }
        if changes.execute(sql.often()).await? == 0 {
            // There may be a new row.
            changes.commit().await?;
            return Ok(None);
        }
        let mut sql = self
            .database
            .sql("SELECT revision FROM alert_cursors WHERE destination = ");
        sql.bind(destination);
        let rows = changes.rows(sql.often()).await?;
        let revision = rows.first().map(|row| row.int("revision")).transpose()?;
        changes.commit().await?;
        Ok(revision.flatten().map(i64::unsigned_abs))
    }

    /// Notes that a destination has the alerts up to a revision; whether `holder`
    /// still has the destination.
    pub(crate) async fn delivered(
        &self,
        destination: &str,
        holder: &str,
        revision: u64,
    ) -> Result<bool, StoreError> {
        let mut changes = self.database.begin().await?;
        let mut sql = self.database.sql("UPDATE alert_cursors SET revision = ");
        sql.bind(signed(revision)).push(" WHERE destination = ");
        sql.bind(destination).push(" AND holder = ").bind(holder);
        let kept = changes.execute(sql.often()).await? > 0;
        changes.commit().await?;
        Ok(kept)
    }
}
