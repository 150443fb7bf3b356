//! What the next commands of a search are taken from, as the statement's `k`: places
//! in the order of the database, and whether each `hit` the texts.

use auditty_proto::filter::{CommandSearch, Operator, Value};

use super::CommandPosition;
use crate::store::{
    command_filter::text_of_line,
    database::{Dialect, Sql},
    filters::time_ns,
    write::MAX_DELAY_NS,
};

/// Shortest text an index of trigrams helps with, characters.
const MIN_INDEXED_CHARS: usize = 3;
/// Most trigrams that are looked up; the rest of a longer text is compared.
const MAX_TRIGRAMS: usize = 16;

/// What the next candidates are taken from.
pub(super) enum Candidates<'a> {
    OfSessions(Vec<String>),
    /// What an index of trigrams gives.
    WithTexts(Vec<&'a str>),
    /// All commands, of which only some have the texts.
    InOrder(Vec<&'a str>),
    Withheld,
    All,
}

impl Candidates<'_> {
    /// The `step` next ones after a position.
    pub(super) fn push(
        &self,
        sql: &mut Sql,
        search: &CommandSearch,
        after: Option<&CommandPosition>,
        step: usize,
    ) {
        // The planner, told that few are wanted, would rather read all commands in
        // order than ask an index for those of some texts or sessions.
        let has_order = matches!(self, Self::InOrder(_) | Self::Withheld | Self::All);
        let unordered = match sql.dialect {
            // Its index of texts has the order.
            Dialect::Sqlite => matches!(self, Self::OfSessions(_)),
            Dialect::Postgres => !has_order,
        };
        sql.push(match (sql.dialect, unordered) {
            (Dialect::Postgres, true) => "found AS MATERIALIZED (",
            _ => "k AS MATERIALIZED (",
        });
        self.push_select(sql, search, after);
        if unordered && sql.dialect == Dialect::Postgres {
            sql.push("), k AS MATERIALIZED (SELECT place, of_session, of_seq, hit FROM found");
        }
        sql.push(match (sql.dialect, unordered) {
            (Dialect::Sqlite, false) => " ORDER BY place DESC LIMIT ",
            // No index has the order of an expression.
            (Dialect::Sqlite, true) => " ORDER BY +place DESC LIMIT ",
            (Dialect::Postgres, true) => {
                " ORDER BY place DESC, of_session DESC, of_seq DESC LIMIT "
            }
            (Dialect::Postgres, false) => {
                " ORDER BY c.start_time DESC, c.session_id DESC, c.seq DESC LIMIT "
            }
        });
        sql.bind(i64::try_from(step).unwrap_or(i64::MAX));
        sql.push(") ");
    }

    fn push_select(&self, sql: &mut Sql, search: &CommandSearch, after: Option<&CommandPosition>) {
        let sqlite = sql.dialect == Dialect::Sqlite;
        let place = match (self, sqlite) {
            (Self::WithTexts(_), true) => "rowid",
            (_, true) => "c.id",
            (_, false) => "c.start_time",
        };
        sql.push("SELECT ").push(place).push(" AS place, ");
        sql.push(match sqlite {
            true => "'' AS of_session, 0 AS of_seq, ",
            false => "c.session_id AS of_session, c.seq AS of_seq, ",
        });
        match self {
            Self::InOrder(texts) => {
                sql.push("CASE WHEN TRUE");
                push_texts(sql, texts);
                sql.push(" THEN 1 ELSE 0 END")
            }
            _ => sql.push("1"),
        };
        sql.push(" AS hit FROM ");
        match self {
            Self::WithTexts(texts) if sqlite => {
                sql.push("command_texts WHERE command_texts MATCH ");
                sql.bind(trigrams(texts));
            }
            Self::WithTexts(texts) => {
                sql.push("commands c WHERE TRUE");
                push_texts(sql, texts);
            }
            Self::OfSessions(ids) => {
                sql.push("commands c WHERE c.session_id IN ");
                sql.tuple(ids.iter().map(String::as_str));
            }
            Self::Withheld => {
                sql.push("commands c WHERE c.content_withheld = 1");
            }
            Self::InOrder(_) | Self::All => {
                sql.push("commands c WHERE TRUE");
            }
        }
        push_times(sql, search, place);
        let Some(after) = after else {
            return;
        };
        let CommandPosition {
            place: end,
            session,
            seq,
        } = after;
        match sqlite {
            true => sql.push(" AND ").push(place).push(" < ").bind(*end),
            false => {
                sql.push(" AND (c.start_time, c.session_id, c.seq) < (");
                sql.bind(*end).push(", ").bind(session.as_str());
                sql.push(", ").bind(*seq).push(")")
            }
        };
    }
}

/// Adds ` AND …` for every text that the command line must have.
fn push_texts(sql: &mut Sql, texts: &[&str]) {
    for text in texts {
        sql.push(" AND lower(c.command_line) LIKE ");
        sql.bind(like(text));
    }
}

/// What is said of the start time holds for candidates already.
fn push_times(sql: &mut Sql, search: &CommandSearch, place: &str) {
    for comparison in &search.command.comparisons {
        let ("start_time", Value::Time(time)) = (comparison.field.name, &comparison.value) else {
            continue;
        };
        let time = time_ns(time);
        // A place of SQLite's is the start time or a little later.
        let late = match sql.dialect {
            Dialect::Sqlite => time.saturating_add(MAX_DELAY_NS),
            Dialect::Postgres => time,
        };
        use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
        if matches!(comparison.operator, Equal | Greater | GreaterOrEqual) {
            sql.push(" AND ").push(place).push(" >= ").bind(time);
        }
        if matches!(comparison.operator, Equal | Less | LessOrEqual) {
            sql.push(" AND ").push(place).push(" <= ").bind(late);
        }
    }
}

/// Texts that command lines must have and an index can find.
pub(super) fn indexed_texts(search: &CommandSearch) -> Vec<&str> {
    let texts = search.command.comparisons.iter().filter_map(text_of_line);
    // No argument has a NUL, and FTS5 reads a text up to one.
    texts
        .filter(|text| text.chars().count() >= MIN_INDEXED_CHARS && !text.contains('\0'))
        .collect()
}

/// A pattern for `LIKE` in lower case.
fn like(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.to_ascii_lowercase().chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// A question for FTS5: what has all of these trigrams, spread over the texts.
fn trigrams(texts: &[&str]) -> String {
    let mut all = Vec::new();
    for text in texts {
        let chars: Vec<char> = text.chars().collect();
        all.extend(chars.windows(MIN_INDEXED_CHARS).map(String::from_iter));
    }
    let apart = all.len().div_ceil(MAX_TRIGRAMS).max(1);
    let quoted = all.iter().step_by(apart);
    let quoted: Vec<_> = quoted
        .map(|trigram| format!("\"{}\"", trigram.replace('"', "\"\"")))
        .collect();
    quoted.join(" AND ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_questions_that_mean_no_more_than_themselves() {
        assert_eq!(trigrams(&["a\"bc"]), r#""a""b" AND """bc""#);
        assert_eq!(like("50%_\\A"), "%50\\%\\_\\\\a%");
        let long = trigrams(&["x".repeat(1000).as_str()]);
        assert_eq!(long.matches(" AND ").count() + 1, MAX_TRIGRAMS);
    }

    #[test]
    fn only_what_an_index_can_find_is_looked_up() {
        let texts = |filter: &str| {
            let search = CommandSearch::parse(filter).unwrap();
            let texts = indexed_texts(&search);
            texts.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(texts("command_line : grün AND exe : passwd"), ["grün"]);
        assert_eq!(texts("command_line = \"rm -rf /\""), ["rm -rf /"]);
        assert_eq!(
            texts("argument : passwd AND word = sudo"),
            ["passwd", "sudo"]
        );
        assert_eq!(texts("argument = \"a b\" AND argument > sudo"), ["a b"]);
        for none in [
            "command_line : rm",
            "command_line != passwd",
            "argument != passwd",
            "word = rm",
            "word != passwd",
            "uid = 0",
        ] {
            assert!(texts(none).is_empty(), "{none}");
        }
    }
}
