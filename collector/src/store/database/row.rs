//! A row of either database, read by the names of its columns.

use sqlx::{Row as _, postgres::PgRow, sqlite::SqliteRow};

use super::super::StoreError;

/// A row of what a question found.
pub(in crate::store) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// Bytes.
    pub(in crate::store) fn bytes(&self, column: &str) -> Result<&[u8], StoreError> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// Text, as [`super::Sql`] put it there.
    pub(in crate::store) fn text(&self, column: &str) -> Result<String, StoreError> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => super::sql::unescape(row.try_get(column)?),
        })
    }

    /// A number, where there is one.
    pub(in crate::store) fn int(&self, column: &str) -> Result<Option<i64>, StoreError> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }
}
