//! A statement: text with places, and the values for them. One text serves both
//! dialects; this file holds what they do not have in common.
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | places | `?` | `$1`, `$2` … |
//! | numbers above 2^63 − 1 | text of twenty digits, which sorts after all integers | `NUMERIC` |
//! | NUL in a text | as it is | escaped: its texts cannot hold one |
//! | where a text has a part | `instr` | `strpos` |

use sqlx::{
    AssertSqlSafe, Postgres, Sqlite, postgres::PgArguments, query::Query, sqlite::SqliteArguments,
};

/// Which database a statement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Dialect {
    Sqlite,
    Postgres,
}

/// A value for a place. A number or a text that is not there still has its type.
#[derive(Clone, Debug)]
pub(in crate::store) enum Bound {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Vec<u8>),
}

impl From<i64> for Bound {
    fn from(int: i64) -> Self {
        Self::Int(Some(int))
    }
}

impl From<Option<i64>> for Bound {
    fn from(int: Option<i64>) -> Self {
        Self::Int(int)
    }
}

impl From<String> for Bound {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<&str> for Bound {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<Vec<u8>> for Bound {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

/// A statement with its values. Only constants of the program become text.
#[must_use]
pub(in crate::store) struct Sql {
    pub(in crate::store) dialect: Dialect,
    text: String,
    values: Vec<Bound>,
    planned_once: bool,
}

impl Sql {
    pub(super) fn new(dialect: Dialect, text: &str) -> Self {
        Self {
            dialect,
            text: text.to_owned(),
            values: Vec::new(),
            planned_once: true,
        }
    }

    /// Adds text.
    pub(in crate::store) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a place with its value.
    pub(in crate::store) fn bind(&mut self, value: impl Into<Bound>) -> &mut Self {
        self.values.push(value.into());
        match self.dialect {
            Dialect::Sqlite => self.text.push('?'),
            Dialect::Postgres => self.text.push_str(&format!("${}", self.values.len())),
        }
        self
    }

    /// Adds places with their values in parentheses.
    pub(in crate::store) fn tuple(
        &mut self,
        values: impl IntoIterator<Item = impl Into<Bound>>,
    ) -> &mut Self {
        self.list("(", values).push(")")
    }

    fn list(
        &mut self,
        before: &str,
        values: impl IntoIterator<Item = impl Into<Bound>>,
    ) -> &mut Self {
        let mut between = before;
        for value in values {
            self.push(between).bind(value);
            between = ", ";
        }
        self
    }

    /// Adds a place with a number of up to 64 bits without a sign.
    pub(in crate::store) fn bind_unsigned(&mut self, int: u64) -> &mut Self {
        match (i64::try_from(int), self.dialect) {
            (Ok(int), _) => self.bind(int),
            (Err(_), Dialect::Sqlite) => self.bind(format!("{int:020}")),
            (Err(_), Dialect::Postgres) => self
                .push("CAST(")
                .bind(int.to_string())
                .push(" AS NUMERIC)"),
        }
    }

    /// Adds a condition: the text of the column has this part, ASCII letters in
    /// either case.
    pub(in crate::store) fn contains(&mut self, column: &str, part: &str) -> &mut Self {
        let position = match self.dialect {
            Dialect::Sqlite => "instr",
            Dialect::Postgres => "strpos",
        };
        // `lower` changes ASCII letters only: in SQLite always, in PostgreSQL
        // under the collation "C" of the columns.
        self.push(position)
            .push("(lower(")
            .push(column)
            .push("), ")
            .bind(part.to_ascii_lowercase())
            .push(") > 0")
    }

    /// The text is one of few: its plan is kept.
    pub(in crate::store) fn often(mut self) -> Self {
        self.planned_once = false;
        self
    }

    pub(super) fn for_sqlite(self) -> Query<'static, Sqlite, SqliteArguments> {
        let query = sqlx::query(AssertSqlSafe(self.text)).persistent(!self.planned_once);
        let bind = |query: Query<'static, _, _>, value| match value {
            Bound::Int(int) => query.bind(int),
            Bound::Text(text) => query.bind(text),
            Bound::Bytes(bytes) => query.bind(bytes),
        };
        self.values.into_iter().fold(query, bind)
    }

    pub(super) fn for_postgres(self) -> Query<'static, Postgres, PgArguments> {
        let query = sqlx::query(AssertSqlSafe(self.text)).persistent(!self.planned_once);
        let bind = |query: Query<'static, _, _>, value| match value {
            Bound::Int(int) => query.bind(int),
            Bound::Text(text) => query.bind(text.map(escape)),
            Bound::Bytes(bytes) => query.bind(bytes),
        };
        self.values.into_iter().fold(query, bind)
    }
}

/// PostgreSQL's texts hold every character but NUL. The characters below U+0004
/// become U+0001 and two more of U+0002 and U+0003: no two texts become the same,
/// their order stays, and so does which is a part of which.
const ESCAPED: [(char, &str); 4] = [
    ('\0', "\u{1}\u{2}\u{2}"),
    ('\u{1}', "\u{1}\u{2}\u{3}"),
    ('\u{2}', "\u{1}\u{3}\u{2}"),
    ('\u{3}', "\u{1}\u{3}\u{3}"),
];

fn escape(text: String) -> String {
    if !text.contains(ESCAPED.map(|(plain, _)| plain)) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 2);
    for char in text.chars() {
        match ESCAPED.iter().find(|(plain, _)| *plain == char) {
            Some((_, code)) => escaped.push_str(code),
            None => escaped.push(char),
        }
    }
    escaped
}

pub(super) fn unescape(text: String) -> String {
    if !text.contains('\u{1}') {
        return text;
    }
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text.as_str());
    while let Some(char) = rest.chars().next() {
        let code = ESCAPED.iter().find(|(_, code)| rest.starts_with(code));
        plain.push(code.map_or(char, |(plain, _)| *plain));
        rest = rest
            .get(code.map_or(char.len_utf8(), |(_, code)| code.len())..)
            .unwrap_or_default();
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_keeps_order_and_parts() {
        let texts = [
            "",
            "\0",
            "\0\0",
            "\0\u{1}",
            "\u{1}",
            "\u{1}\0",
            "\u{2}",
            "\u{1}\u{2}",
            "\u{3}",
            "a\0b",
            "a",
        ];
        for a in texts {
            assert_eq!(unescape(escape(a.into())), a);
            for b in texts {
                let (escaped_a, escaped_b) = (escape(a.into()), escape(b.into()));
                assert_eq!(a.cmp(b), escaped_a.cmp(&escaped_b), "{a:?} {b:?}");
                assert_eq!(a.contains(b), escaped_a.contains(&escaped_b), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn places_are_written_as_each_database_wants() {
        let text = |dialect| {
            let mut sql = Sql::new(dialect, "SELECT ");
            sql.bind(1).push(" IN ").tuple([2, 3]).push(" AND ");
            sql.contains("x", "Y");
            sql.text
        };
        assert_eq!(
            text(Dialect::Sqlite),
            "SELECT ? IN (?, ?) AND instr(lower(x), ?) > 0"
        );
        assert_eq!(
            text(Dialect::Postgres),
            "SELECT $1 IN ($2, $3) AND strpos(lower(x), $4) > 0"
        );
    }
}
