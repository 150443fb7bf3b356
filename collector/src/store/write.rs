//! Reports → rows. The tables end up the same whatever the order of reports
//! and however often each arrives. Within a batch the order is by table and
//! key, so that two writers never wait for each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use auditty_proto::{
    filter::{ACTIVITY_FIELDS, COMMAND_FIELDS, Field, SESSION_FIELDS},
    v1,
};
use auditty_recording::host::{DigestHead, LogId, SignedEntry};
use prost::Message;
use uuid::Uuid;

use super::{
    Store, StoreError,
    command_filter::MESSAGE_FIELDS,
    database::{self, Changes, Dialect, Sql},
    fact::{Batch, Fact},
    filters::{push_field, push_value},
    nanoseconds,
    session_changes::push_change,
};

/// Fields of a command that stand in `command_ends`.
pub(super) const END_FIELDS: [&str; 2] = ["exit_code", "signal"];
/// Rows of one statement: 128 of the widest are less than half of the places
/// that SQLite allows, 32,766.
pub(super) const ROWS: usize = 128;
/// How often a transaction that gave way to another one is tried again.
const ATTEMPTS: u32 = 5;
/// How much later than its start time a command's place in SQLite's order can be:
/// the last attempt's choice, and the rest of its batch.
pub(super) const MAX_DELAY_NS: i64 = CHOICE.pow(ATTEMPTS - 1) + 1_000_000;
/// With every further attempt there are so many times more places to choose from.
const CHOICE: i64 = 1000;

impl Store {
    /// Stores a batch: all of it, durably, or nothing. What is known already
    /// changes nothing.
    pub async fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        for attempt in 0..ATTEMPTS - 1 {
            match self.try_apply(batch, attempt).await {
                Err(error) if database::is_passing(&error) => {
                    tracing::debug!("a transaction is tried again: {error}");
                }
                outcome => return outcome,
            }
        }
        self.try_apply(batch, ATTEMPTS - 1).await
    }

    async fn try_apply(&self, batch: &Batch, attempt: u32) -> Result<(), StoreError> {
        let mut changes = self.database.begin().await?;
        self.claim(&mut changes, batch).await?;
        let mut facts = Facts::default();
        for fact in &batch.facts {
            facts.add(fact);
        }
        facts.sort();
        if batch.facts.iter().any(|fact| fact.session_id().is_some()) {
            self.begin_session_changes(&mut changes).await?;
        }
        let mut ended = BTreeMap::new();
        for (id, revision, session) in facts.sessions {
            let news = self
                .put_session(&mut changes, batch, id, revision, session)
                .await?;
            if let Some(recording) = session.recording.as_ref().filter(|_| news) {
                let over = session.state() == v1::SessionState::Closed;
                ended.insert(id, over.then_some(recording.chunk_count));
            }
        }
        let fields = COMMAND_FIELDS.iter();
        let fields: Vec<_> = fields
            .filter(|field| !END_FIELDS.contains(&field.name))
            .filter(|field| !MESSAGE_FIELDS.contains(&field.name))
            .collect();
        let places = match self.database.dialect() {
            Dialect::Sqlite => places(&facts.commands, delay(attempt)),
            Dialect::Postgres => Vec::new(),
        };
        self.put(&mut changes, "commands", &fields, &places, &facts.commands)
            .await?;
        let fields: Vec<_> = ACTIVITY_FIELDS.iter().collect();
        self.put(&mut changes, "activities", &fields, &[], &facts.activities)
            .await?;
        self.put_numbers(
            &mut changes,
            "INSERT INTO command_ends (session_id, seq, exit_code, signal, duration_ns) VALUES ",
            &facts.command_ends,
        )
        .await?;
        self.put_numbers(
            &mut changes,
            "INSERT INTO connect_ends (session_id, seq, sent_bytes, received_bytes, duration_ns) VALUES ",
            &facts.connect_ends,
        )
        .await?;
        let failed: Vec<_> = facts.failed_logins.into_values().collect();
        self.put_failed_logins(&mut changes, batch, &failed).await?;
        let mut causes = batch.causes.clone();
        self.put_receipts(&mut changes, batch, &mut causes).await?;
        self.shortened(&mut changes, batch, &ended, &mut causes)
            .await?;
        for entry in facts.host_keys {
            self.register(&mut changes, batch, entry, &mut causes)
                .await?;
        }
        for (log, head) in facts.digest_heads {
            self.put_head(&mut changes, batch, log, head, &mut causes)
                .await?;
        }
        self.put_alerts(&mut changes, &causes).await?;
        changes.commit().await
    }

    /// The first host that names a session owns it.
    async fn claim(&self, changes: &mut Changes, batch: &Batch) -> Result<(), StoreError> {
        let ids: BTreeSet<_> = batch.facts.iter().filter_map(Fact::session_id).collect();
        let ids: Vec<_> = ids.into_iter().collect();
        for ids in ids.chunks(ROWS) {
            let mut sql = self
                .database
                .sql("INSERT INTO session_hosts (session_id, host_id, tenant) VALUES ");
            for (row, id) in ids.iter().enumerate() {
                sql.push(if row == 0 { "" } else { ", " });
                sql.tuple([&id.to_string(), &batch.host_id, &batch.tenant].map(String::as_str));
            }
            sql.push(" ON CONFLICT DO NOTHING");
            changes.execute(often(sql, ids.len())).await?;
            let mut sql = self
                .database
                .sql("SELECT session_id, host_id, tenant FROM session_hosts WHERE session_id IN ");
            sql.tuple(ids.iter().map(Uuid::to_string));
            for row in changes.rows(often(sql, ids.len())).await? {
                if row.text("host_id")? != batch.host_id || row.text("tenant")? != batch.tenant {
                    return Err(StoreError::OtherHost {
                        session: row.text("session_id")?,
                        host_id: batch.host_id.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether it was news.
    async fn put_session(
        &self,
        changes: &mut Changes,
        batch: &Batch,
        id: Uuid,
        revision: i64,
        session: &v1::Session,
    ) -> Result<bool, StoreError> {
        let columns = || SESSION_FIELDS.iter().filter(|field| !field.repeated);
        let mut sql = self
            .database
            .sql("INSERT INTO sessions (revision, tenant, message, change");
        for field in columns() {
            sql.push(", \"").push(field.name).push("\"");
        }
        sql.push(") VALUES (").bind(revision);
        sql.push(", ").bind(batch.tenant.as_str());
        sql.push(", ").bind(session.encode_to_vec()).push(", ");
        push_change(&mut sql);
        for field in columns() {
            sql.push(", ");
            push_field(&mut sql, field, session);
        }
        sql.push(
            ") ON CONFLICT (session_id) DO UPDATE
             SET revision = excluded.revision, message = excluded.message, \
             change = excluded.change",
        );
        for field in columns() {
            let name = field.name;
            sql.push(&format!(", \"{name}\" = excluded.\"{name}\""));
        }
        sql.push(" WHERE excluded.revision > sessions.revision");
        let news = changes.execute(sql.often()).await? > 0;
        if news {
            self.put_lists(changes, id, session).await?;
        }
        Ok(news)
    }

    /// The fields with several values, one row a value.
    async fn put_lists(
        &self,
        changes: &mut Changes,
        id: Uuid,
        session: &v1::Session,
    ) -> Result<(), StoreError> {
        for field in SESSION_FIELDS.iter().filter(|field| field.repeated) {
            let name = field.name;
            let mut sql = self
                .database
                .sql(format!("DELETE FROM session_{name}s WHERE session_id = "));
            sql.bind(id.to_string());
            changes.execute(sql.often()).await?;
            let mut values = (field.values)(session);
            values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
            values.dedup();
            for value in values {
                let mut sql = self.database.sql(format!(
                    "INSERT INTO session_{name}s (session_id, {name}) VALUES ("
                ));
                sql.bind(id.to_string()).push(", ");
                push_value(&mut sql, &value);
                sql.push(")");
                changes.execute(sql.often()).await?;
            }
        }
        Ok(())
    }

    /// What happened in sessions once and never changes; `ids` are of tables that
    /// have one.
    async fn put<R: Message>(
        &self,
        changes: &mut Changes,
        table: &str,
        fields: &[&'static Field<R>],
        ids: &[i64],
        records: &[(Uuid, &R)],
    ) -> Result<(), StoreError> {
        let mut ids = ids.iter();
        for records in records.chunks(ROWS) {
            let mut sql = self.database.sql("INSERT INTO ");
            sql.push(table).push(match ids.len() {
                0 => " (session_id, message",
                _ => " (id, session_id, message",
            });
            for field in fields {
                sql.push(", \"").push(field.name).push("\"");
            }
            sql.push(") VALUES ");
            for (row, (session, record)) in records.iter().enumerate() {
                sql.push(if row == 0 { "(" } else { ", (" });
                if let Some(id) = ids.next() {
                    sql.bind(*id).push(", ");
                }
                sql.bind(session.to_string()).push(", ");
                sql.bind(record.encode_to_vec());
                for field in fields {
                    sql.push(", ");
                    push_field(&mut sql, field, record);
                }
                sql.push(")");
            }
            sql.push(" ON CONFLICT (session_id, seq) DO NOTHING");
            changes.execute(often(sql, records.len())).await?;
        }
        Ok(())
    }

    /// Rows of a session's id, a sequence number and three more numbers.
    async fn put_numbers(
        &self,
        changes: &mut Changes,
        insert: &str,
        rows: &[(Uuid, i64, [Option<i64>; 3])],
    ) -> Result<(), StoreError> {
        for rows in rows.chunks(ROWS) {
            let mut sql = self.database.sql(insert);
            for (row, (session, seq, numbers)) in rows.iter().enumerate() {
                sql.push(if row == 0 { "(" } else { ", (" });
                sql.bind(session.to_string()).push(", ").bind(*seq);
                for number in numbers {
                    sql.push(", ").bind(*number);
                }
                sql.push(")");
            }
            sql.push(" ON CONFLICT DO NOTHING");
            changes.execute(often(sql, rows.len())).await?;
        }
        Ok(())
    }
}

/// Places of commands in SQLite's order, which no two have: the start time, or the
/// next one that is free in the batch. One that another batch has taken fails, and
/// the next attempt begins a little later.
fn places(commands: &[(Uuid, &v1::Command)], delay_ns: i64) -> Vec<i64> {
    let mut place = i64::MIN;
    let next = commands.iter().map(|(_, command)| {
        let start = start_ns(command).saturating_add(delay_ns);
        place = start.max(place.saturating_add(1));
        place
    });
    next.collect()
}

/// By chance: whoever fills one place after the other does not stop anybody.
fn delay(attempt: u32) -> i64 {
    let mut random = [0; 8];
    // Without chance, the last of them.
    let _ = aws_lc_rs::rand::fill(&mut random);
    let choice = CHOICE.pow(attempt);
    (choice - 1) - i64::from_le_bytes(random).rem_euclid(choice)
}

fn start_ns(command: &v1::Command) -> i64 {
    let start = command.start_time.as_ref().and_then(nanoseconds);
    start.unwrap_or_default()
}

/// Keeps the plans of single rows and of full statements; those between would
/// push them out of the cache.
pub(super) fn often(sql: Sql, rows: usize) -> Sql {
    match rows {
        1 | ROWS => sql.often(),
        _ => sql,
    }
}

/// The facts of a batch by table.
#[derive(Default)]
struct Facts<'a> {
    sessions: Vec<(Uuid, i64, &'a v1::Session)>,
    commands: Vec<(Uuid, &'a v1::Command)>,
    activities: Vec<(Uuid, &'a v1::Activity)>,
    command_ends: Vec<(Uuid, i64, [Option<i64>; 3])>,
    connect_ends: Vec<(Uuid, i64, [Option<i64>; 3])>,
    host_keys: Vec<&'a SignedEntry>,
    digest_heads: Vec<(&'a LogId, DigestHead)>,
    /// Of each id the one that stands for the most connections.
    failed_logins: BTreeMap<&'a str, &'a v1::FailedLogin>,
}

impl<'a> Facts<'a> {
    fn add(&mut self, fact: &'a Fact) {
        match fact {
            Fact::Session {
                revision,
                id,
                session,
            } => self.sessions.push((*id, *revision, session)),
            Fact::Command { session, command } => self.commands.push((*session, command)),
            Fact::Activity { session, activity } => self.activities.push((*session, activity)),
            Fact::CommandEnd(end) => {
                let numbers = [
                    end.exit_code.map(i64::from),
                    end.signal.map(i64::from),
                    Some(end.duration_ns),
                ];
                self.command_ends.push((end.session, end.seq, numbers));
            }
            Fact::ConnectEnd(end) => {
                let numbers = [end.sent_bytes, end.received_bytes, Some(end.duration_ns)];
                self.connect_ends.push((end.session, end.seq, numbers));
            }
            Fact::HostKey(entry) => self.host_keys.push(entry),
            Fact::DigestHead { log, head } => self.digest_heads.push((log, *head)),
            Fact::FailedLogin(login) => {
                let of = self.failed_logins.entry(&login.failed_login_id);
                let known = of.or_insert(login);
                if known.connection_count < login.connection_count {
                    *known = login;
                }
            }
        }
    }

    /// By key, commands by their start first, as SQLite's index of texts wants them.
    /// The sort is stable: of two with one key the first comes first.
    fn sort(&mut self) {
        self.sessions
            .sort_by_key(|(id, revision, _)| (*id, *revision));
        self.commands
            .sort_by_key(|(id, command)| (start_ns(command), *id, command.seq));
        self.activities
            .sort_by_key(|(id, activity)| (*id, activity.seq));
        self.command_ends.sort_by_key(|(id, seq, _)| (*id, *seq));
        self.connect_ends.sort_by_key(|(id, seq, _)| (*id, *seq));
        self.host_keys
            .sort_by_key(|entry| (entry.entry.log.clone(), entry.entry.number));
        self.digest_heads
            .sort_by_key(|(log, head)| ((*log).clone(), head.number));
    }
}
