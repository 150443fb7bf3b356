//! Commands of all sessions, newest first.
//!
//! A page is found in steps. Each takes the next candidates in order from what
//! narrows the search most (few sessions, the index of texts, or else all
//! commands), looks at them whole, and notes how far it came. So no statement runs
//! for long, and a search that finds little ends in time with a position to go on
//! from.
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | order | `id`, the start time or soon after it | start time, session, number |
//! | texts | FTS5 over trigrams, read in order | `pg_trgm`, or read in order: as it plans |

use std::time::{Duration, Instant};

use auditty_proto::{
    filter::{CommandSearch, Comparison, Operator, Value},
    names, v1,
};
use futures::TryStreamExt;
use prost::Message;

use super::{
    MAX_PAGE_BYTES, Scope, Store, StoreError,
    database::{Dialect, Row, Sql},
    filters::{push_filter, time_ns},
    read::{command, push_scope},
    write::{END_FIELDS, MAX_DELAY_NS},
};

/// A search gives what it has after this, and where to go on: well before a
/// caller or a proxy loses patience.
const SEARCH_TIME: Duration = Duration::from_secs(3);
/// Candidates of the first step, for each command asked for; each further step has
/// four times as many.
const FIRST_STEP: usize = 4;
/// Most candidates of a step: a fraction of a second.
const MAX_STEP: usize = 65_536;
/// So many sessions are few: looking at all their commands is quicker than looking
/// for them among those of a fleet.
const FEW_SESSIONS: usize = 200;
/// Shortest text an index of trigrams helps with, characters.
const MIN_INDEXED_CHARS: usize = 3;
/// Most trigrams that are looked up; the rest of a longer text is compared.
const MAX_TRIGRAMS: usize = 16;
/// Most withheld commands that are counted.
const MAX_WITHHELD: usize = 1000;

/// Where a page of commands begins: after this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandPosition {
    /// Its place in the order of the database.
    pub place: i64,
    /// Its number in its session, where the place is not of it alone.
    pub seq: i64,
    /// Its session, where the place is not of it alone.
    pub session: String,
}

/// Commands that were found.
#[derive(Debug, Default)]
pub struct Found {
    /// In order.
    pub commands: Vec<v1::Command>,
    /// Where to go on; `None` at the end.
    pub next: Option<CommandPosition>,
}

/// What the next candidates are taken from.
enum Candidates<'a> {
    OfSessions(Vec<String>),
    WithTexts(Vec<&'a str>),
    Withheld,
    All,
}

struct Question<'a> {
    scope: &'a Scope,
    search: &'a CommandSearch,
    candidates: Candidates<'a>,
    /// Only what is withheld.
    withheld: bool,
}

impl Store {
    /// Commands that match, newest first.
    pub async fn search_commands(
        &self,
        scope: &Scope,
        search: &CommandSearch,
        after: Option<CommandPosition>,
        limit: usize,
    ) -> Result<Found, StoreError> {
        let candidates = match self.few_sessions(scope, search).await? {
            Some(sessions) => Candidates::OfSessions(sessions),
            None => match indexed_texts(search) {
                texts if !texts.is_empty() && self.database.indexes_texts() => {
                    Candidates::WithTexts(texts)
                }
                _ => Candidates::All,
            },
        };
        let question = Question {
            scope,
            search,
            candidates,
            withheld: false,
        };
        self.in_steps(&question, after, limit).await
    }

    /// How many commands match, but are kept out of their hosts' reports; counted
    /// up to 1000.
    pub async fn count_withheld(
        &self,
        scope: &Scope,
        search: &CommandSearch,
    ) -> Result<usize, StoreError> {
        let candidates = match self.few_sessions(scope, search).await? {
            Some(sessions) => Candidates::OfSessions(sessions),
            None => Candidates::Withheld,
        };
        let question = Question {
            scope,
            search,
            candidates,
            withheld: true,
        };
        let found = self.in_steps(&question, None, MAX_WITHHELD).await?;
        Ok(found.commands.len())
    }

    /// Whether parts of command lines are looked up in an index.
    pub fn indexes_command_lines(&self) -> bool {
        self.database.indexes_texts()
    }

    /// The sessions that match, where they are few.
    async fn few_sessions(
        &self,
        scope: &Scope,
        search: &CommandSearch,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let narrows = |c: &Comparison<v1::Session>| c.operator != Operator::NotEqual;
        if !search.session.comparisons.iter().any(narrows) {
            // A command whose session is not reported yet may match.
            return Ok(None);
        }
        let mut sql = self
            .database
            .sql("SELECT s.session_id FROM sessions s WHERE TRUE");
        push_scope(&mut sql, scope);
        push_filter(&mut sql, &search.session, |_| "s");
        let id = |row: &Row| Ok((row.text("session_id")?, 0));
        let page = self.page(sql, FEW_SESSIONS, id).await?;
        Ok((!page.more).then_some(page.items))
    }

    async fn in_steps(
        &self,
        question: &Question<'_>,
        mut after: Option<CommandPosition>,
        limit: usize,
    ) -> Result<Found, StoreError> {
        if matches!(&question.candidates, Candidates::OfSessions(ids) if ids.is_empty()) {
            return Ok(Found::default());
        }
        let begin = Instant::now();
        let (mut commands, mut bytes, mut last) = (Vec::new(), 0, None);
        let mut step = limit.saturating_add(1).saturating_mul(FIRST_STEP);
        loop {
            let missing = limit.saturating_add(1).saturating_sub(commands.len());
            let mut rows = self
                .database
                .rows(self.step(question, after.as_ref(), step, missing));
            while let Some(row) = rows.try_next().await? {
                let command = found(&row)?;
                bytes += command.encoded_len();
                let full = commands.len() == limit || bytes > MAX_PAGE_BYTES;
                if full && !commands.is_empty() {
                    let next = last;
                    return Ok(Found { commands, next });
                }
                commands.push(command);
                last = Some(position(&row)?);
            }
            drop(rows);
            let next = self.end_of_step(question, after.as_ref(), step).await?;
            if next.is_none() || begin.elapsed() > SEARCH_TIME {
                return Ok(Found { commands, next });
            }
            after = next;
            step = step.saturating_mul(4).min(MAX_STEP);
        }
    }

    /// Those of the next candidates that match.
    fn step(
        &self,
        question: &Question<'_>,
        after: Option<&CommandPosition>,
        step: usize,
        limit: usize,
    ) -> Sql {
        let mut sql = self.database.sql(
            "SELECT k.place, k.of_session, k.of_seq, c.message, c.session_id,
             e.exit_code, e.signal, e.duration_ns, h.host_id,
             COALESCE(s.hostname, '') AS hostname, COALESCE(s.\"user\", '') AS login_user,
             COALESCE(s.client_address, '') AS client_address,
             COALESCE(s.grant_status, 0) AS grant_status,
             COALESCE(s.request_id, '') AS request_id, COALESCE(s.requester, '') AS requester
             FROM (",
        );
        self.push_candidates(&mut sql, question, after, step);
        // SQLite joins in the order of CROSS JOIN: candidates first.
        sql.push(match sql.dialect {
            Dialect::Sqlite => {
                ") k CROSS JOIN commands c ON c.id = k.place
                 CROSS JOIN session_hosts h ON h.session_id = c.session_id"
            }
            Dialect::Postgres => {
                ") k JOIN commands c ON c.session_id = k.of_session AND c.seq = k.of_seq
                 JOIN session_hosts h ON h.session_id = c.session_id"
            }
        });
        sql.push(
            " LEFT JOIN command_ends e ON e.session_id = c.session_id AND e.seq = c.seq
             LEFT JOIN sessions s ON s.session_id = c.session_id WHERE TRUE",
        );
        if let Scope::Tenant(tenant) = question.scope {
            sql.push(" AND h.tenant = ").bind(tenant.as_str());
        }
        if question.withheld {
            sql.push(" AND c.content_withheld = 1");
        }
        push_filter(&mut sql, &question.search.command, |name| {
            if END_FIELDS.contains(&name) { "e" } else { "c" }
        });
        push_filter(&mut sql, &question.search.session, |_| "s");
        sql.push(" ORDER BY k.place DESC, k.of_session DESC, k.of_seq DESC LIMIT ")
            .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        sql
    }

    /// The last of the candidates; `None` where there were fewer.
    async fn end_of_step(
        &self,
        question: &Question<'_>,
        after: Option<&CommandPosition>,
        step: usize,
    ) -> Result<Option<CommandPosition>, StoreError> {
        let mut sql = self
            .database
            .sql("SELECT k.place, k.of_session, k.of_seq, count(*) OVER () AS candidates FROM (");
        self.push_candidates(&mut sql, question, after, step);
        sql.push(") k ORDER BY k.place, k.of_session, k.of_seq LIMIT 1");
        let row = self.database.row(sql).await?;
        let Some(row) = row else { return Ok(None) };
        let candidates = row.int("candidates")?.unwrap_or_default();
        match usize::try_from(candidates).is_ok_and(|candidates| candidates >= step) {
            true => position(&row).map(Some),
            false => Ok(None),
        }
    }

    fn push_candidates(
        &self,
        sql: &mut Sql,
        question: &Question<'_>,
        after: Option<&CommandPosition>,
        step: usize,
    ) {
        let sqlite = sql.dialect == Dialect::Sqlite;
        let place = match (&question.candidates, sqlite) {
            (Candidates::WithTexts(_), true) => "rowid",
            (_, true) => "c.id",
            (_, false) => "c.start_time",
        };
        sql.push("SELECT ").push(place).push(" AS place, ");
        sql.push(match sqlite {
            true => "'' AS of_session, 0 AS of_seq FROM ",
            false => "c.session_id AS of_session, c.seq AS of_seq FROM ",
        });
        match &question.candidates {
            Candidates::WithTexts(texts) if sqlite => {
                sql.push("command_texts WHERE command_texts MATCH ");
                sql.bind(trigrams(texts));
            }
            Candidates::WithTexts(texts) => {
                sql.push("commands c WHERE TRUE");
                for text in texts {
                    sql.push(" AND lower(c.command_line) LIKE ");
                    sql.bind(like(text));
                }
            }
            Candidates::OfSessions(ids) => {
                sql.push("commands c WHERE c.session_id IN ");
                sql.tuple(ids.iter().map(String::as_str));
            }
            Candidates::Withheld => {
                sql.push("commands c WHERE c.content_withheld = 1");
            }
            Candidates::All => {
                sql.push("commands c WHERE TRUE");
            }
        }
        push_times(sql, question.search, place);
        if let Some(CommandPosition {
            place: end,
            session,
            seq,
        }) = after
        {
            match sqlite {
                true => sql.push(" AND ").push(place).push(" < ").bind(*end),
                false => {
                    sql.push(" AND (c.start_time, c.session_id, c.seq) < (");
                    sql.bind(*end).push(", ").bind(session.as_str());
                    sql.push(", ").bind(*seq).push(")")
                }
            };
        }
        sql.push(match sqlite {
            true => " ORDER BY place DESC LIMIT ",
            false => " ORDER BY c.start_time DESC, c.session_id DESC, c.seq DESC LIMIT ",
        });
        sql.bind(i64::try_from(step).unwrap_or(i64::MAX));
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
fn indexed_texts(search: &CommandSearch) -> Vec<&str> {
    let comparisons = search.command.comparisons.iter();
    let texts = comparisons.filter_map(|comparison| match &comparison.value {
        Value::Text(text)
            if comparison.field.name == "command_line"
                && matches!(comparison.operator, Operator::Contains | Operator::Equal) =>
        {
            Some(&**text)
        }
        _ => None,
    });
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

fn found(row: &Row) -> Result<v1::Command, StoreError> {
    let (mut command, _) = command(row)?;
    command.session = Some(v1::CommandSession {
        name: names::session_name(row.text("session_id")?),
        host_id: row.text("host_id")?,
        hostname: row.text("hostname")?,
        user: row.text("login_user")?,
        client_address: row.text("client_address")?,
        grant_status: row
            .int("grant_status")?
            .and_then(|number| i32::try_from(number).ok())
            .unwrap_or_default(),
        request_id: row.text("request_id")?,
        requester: row.text("requester")?,
    });
    Ok(command)
}

fn position(row: &Row) -> Result<CommandPosition, StoreError> {
    Ok(CommandPosition {
        place: row.int("place")?.unwrap_or_default(),
        seq: row.int("of_seq")?.unwrap_or_default(),
        session: row.text("of_session")?,
    })
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
        for none in ["command_line : rm", "command_line != passwd", "uid = 0"] {
            assert!(texts(none).is_empty(), "{none}");
        }
    }
}
