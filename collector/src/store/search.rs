//! Commands of all sessions, newest first.
//!
//! A page is found in steps. Each takes the next candidates in order from what
//! narrows the search most (few sessions, the index of texts, or else all
//! commands), looks at them whole, and notes how far it came. What only messages
//! decide, such as `argument`, is decided last. So no statement runs for long, and a
//! search that finds little ends in time with a position to go on from.
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | order | `id`, the start time or soon after it | start time, session, number |
//! | texts | FTS5 over trigrams, read in order | read in order; `pg_trgm` where that finds little |
//!
//! `pg_trgm` gives all that has a text, and knows no order: of a text that is in
//! every twelfth command it would read and sort a million for the newest hundred.
//! So the newest commands are read in order first, and as long as that pays.

mod candidates;

use std::time::{Duration, Instant};

use auditty_proto::{
    filter::{CommandSearch, Comparison, Operator},
    names, v1,
};
use futures::TryStreamExt;
use prost::Message;

use super::{
    MAX_PAGE_BYTES, Scope, Store, StoreError,
    command_filter::{asks_messages, message_matches, push_command_filter},
    database::{Dialect, Row, Sql},
    filters::push_filter,
    read::{command, push_scope},
};
use candidates::{Candidates, indexed_texts};

/// A search gives what it has after this, and where to go on: well before a
/// caller or a proxy loses patience.
const SEARCH_TIME: Duration = Duration::from_secs(3);
/// Candidates of the first step, for each command asked for; each further step has
/// four times as many.
const FIRST_STEP: usize = 4;
/// Most candidates of a step: a fraction of a second.
const MAX_STEP: usize = 65_536;
/// Most messages of a step that are read where they decide what matches.
const MAX_DECODED: usize = 4_096;
/// So many sessions are few: looking at all their commands is quicker than looking
/// for them among those of a fleet.
const FEW_SESSIONS: usize = 200;
/// Commands that are read in order before an index without order is asked: two
/// milliseconds, and most texts that are typed every day fill a page.
const FIRST_IN_ORDER: usize = 2_048;
/// Reading in order pays where at least one of so many commands has the text: the
/// index would give, of ten million, tens of thousands.
const PAYS: usize = 400;
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
                texts if texts.is_empty() || !self.database.indexes_texts() => Candidates::All,
                texts => match self.database.dialect() {
                    Dialect::Sqlite => Candidates::WithTexts(texts),
                    Dialect::Postgres => Candidates::InOrder(texts),
                },
            },
        };
        let mut question = Question {
            scope,
            search,
            candidates,
            withheld: false,
        };
        self.in_steps(&mut question, after, limit).await
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
        let mut question = Question {
            scope,
            search,
            candidates,
            withheld: true,
        };
        let found = self.in_steps(&mut question, None, MAX_WITHHELD).await?;
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
        question: &mut Question<'_>,
        mut after: Option<CommandPosition>,
        limit: usize,
    ) -> Result<Found, StoreError> {
        if matches!(&question.candidates, Candidates::OfSessions(ids) if ids.is_empty()) {
            return Ok(Found::default());
        }
        let begin = Instant::now();
        let filter = &question.search.command;
        let decoded = asks_messages(filter);
        let (mut commands, mut bytes, mut last) = (Vec::new(), 0, None);
        let mut step = match question.candidates {
            Candidates::InOrder(_) => FIRST_IN_ORDER,
            _ => limit.saturating_add(1).saturating_mul(FIRST_STEP),
        };
        loop {
            let most = match decoded {
                true => step.min(MAX_DECODED),
                false => limit.saturating_add(1).saturating_sub(commands.len()),
            };
            let mut rows = self
                .database
                .rows(self.step(question, after.as_ref(), step, most));
            let (mut end, mut read, mut latest) = (None, 0, None);
            while let Some(row) = rows.try_next().await? {
                if let Some(of_step) = End::of_step(&row)? {
                    end = Some(of_step);
                    break;
                }
                let command = found(&row)?;
                read += 1;
                latest = Some(position(&row)?);
                if !message_matches(filter, &command) {
                    continue;
                }
                bytes += command.encoded_len();
                let full = commands.len() == limit || bytes > MAX_PAGE_BYTES;
                if full && !commands.is_empty() {
                    let next = last;
                    return Ok(Found { commands, next });
                }
                commands.push(command);
                last.clone_from(&latest);
            }
            drop(rows);
            // There may be more of these candidates that have to be decoded.
            let cut = decoded && read == most;
            let next = match end {
                Some(_) if cut => latest,
                Some(ref end) if end.candidates >= step => Some(end.position.clone()),
                _ => None,
            };
            if next.is_none() || begin.elapsed() > SEARCH_TIME {
                return Ok(Found { commands, next });
            }
            after = next;
            let hits = end.map_or(0, |end| end.hits);
            if let Candidates::InOrder(texts) = &mut question.candidates
                && hits.saturating_mul(PAYS) < step
            {
                question.candidates = Candidates::WithTexts(std::mem::take(texts));
                step = limit.saturating_add(1).saturating_mul(FIRST_STEP);
            } else if !cut || step < MAX_DECODED {
                step = step.saturating_mul(4).min(MAX_STEP);
            }
        }
    }

    /// Those of the next candidates that match, in order, and behind them the
    /// [`End`] of the candidates, where there are any.
    fn step(
        &self,
        question: &Question<'_>,
        after: Option<&CommandPosition>,
        step: usize,
        limit: usize,
    ) -> Sql {
        let mut sql = self.database.sql("WITH ");
        question
            .candidates
            .push(&mut sql, question.search, after, step);
        sql.push(
            "SELECT * FROM (
             SELECT k.place, k.of_session, k.of_seq, c.message, c.session_id,
             e.exit_code, e.signal, e.duration_ns, h.host_id,
             COALESCE(s.hostname, '') AS hostname, COALESCE(s.\"user\", '') AS login_user,
             COALESCE(s.client_address, '') AS client_address,
             COALESCE(s.grant_status, 0) AS grant_status,
             COALESCE(s.request_id, '') AS request_id, COALESCE(s.requester, '') AS requester,
             0 AS candidates, 0 AS hits FROM ",
        );
        // SQLite joins in the order of CROSS JOIN: candidates first.
        sql.push(match sql.dialect {
            Dialect::Sqlite => {
                "k CROSS JOIN commands c ON c.id = k.place
                 CROSS JOIN session_hosts h ON h.session_id = c.session_id"
            }
            Dialect::Postgres => {
                "k JOIN commands c ON c.session_id = k.of_session AND c.seq = k.of_seq
                 JOIN session_hosts h ON h.session_id = c.session_id"
            }
        });
        sql.push(
            " LEFT JOIN command_ends e ON e.session_id = c.session_id AND e.seq = c.seq
             LEFT JOIN sessions s ON s.session_id = c.session_id WHERE k.hit = 1",
        );
        if let Scope::Tenant(tenant) = question.scope {
            sql.push(" AND h.tenant = ").bind(tenant.as_str());
        }
        if question.withheld {
            sql.push(" AND c.content_withheld = 1");
        }
        push_command_filter(&mut sql, &question.search.command);
        push_filter(&mut sql, &question.search.session, |_| "s");
        sql.push(" ORDER BY k.place DESC, k.of_session DESC, k.of_seq DESC LIMIT ")
            .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        sql.push(") f UNION ALL SELECT l.place, l.of_session, l.of_seq, ");
        sql.bind(Vec::new());
        sql.push(
            ", '', NULL, NULL, NULL, '', '', '', '', 0, '', '', l.candidates, l.hits
             FROM (SELECT k.place, k.of_session, k.of_seq, count(*) OVER () AS candidates,
             sum(k.hit) OVER () AS hits FROM k
             ORDER BY k.place, k.of_session, k.of_seq LIMIT 1) l
             ORDER BY candidates, place DESC, of_session DESC, of_seq DESC",
        );
        sql
    }
}

/// The last of the candidates of a step.
struct End {
    position: CommandPosition,
    /// How many there were.
    candidates: usize,
    /// How many of them have the texts.
    hits: usize,
}

impl End {
    /// `None` for a command that was found.
    fn of_step(row: &Row) -> Result<Option<Self>, StoreError> {
        let count = |column| {
            let count = row.int(column)?.unwrap_or_default();
            Ok::<_, StoreError>(usize::try_from(count).unwrap_or(usize::MAX))
        };
        Ok(match count("candidates")? {
            0 => None,
            candidates => Some(Self {
                position: position(row)?,
                candidates,
                hits: count("hits")?,
            }),
        })
    }
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
