//! Commands across sessions: found whole, in order, page by page, and only by
//! those who may see them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step outside a test function ends the test as well"
)]

use std::{collections::BTreeSet, fs, path::Path};

use crate::{common::*, query::filters};
use auditty_collector::{
    Location, Store,
    store::{Batch, CommandEnd, Fact, GoingOn, Scope},
};
use auditty_proto::{
    filter::{COMMAND_FIELDS, CommandSearch, Filter, SESSION_FIELDS},
    names, v1,
};

const SESSIONS: u64 = 24;
const COMMANDS: u64 = 60;
const TENANTS: [&str; 2] = ["red", "blue"];

fn id(session: u64) -> uuid::Uuid {
    names::parse_session_id(&session_id(session)).unwrap()
}

fn tenant(session: u64) -> &'static str {
    TENANTS[(session % 2) as usize]
}

/// What a command of these tests becomes, as it is found.
fn record(session_number: u64, seq: u64) -> (v1::Command, v1::Session) {
    let session = session(session_number);
    let mut command = command(session_number, seq);
    if seq.is_multiple_of(17) {
        command.exe.clear();
        command.argv.clear();
        command.content_withheld = true;
    }
    if seq.is_multiple_of(23) {
        command
            .argv
            .push(format!("100%_\\ \"GRÜN\" of {session_number}"));
    }
    if !seq.is_multiple_of(5) {
        command.exit_code = (seq.is_multiple_of(2)).then_some((seq % 3) as u32);
        command.signal = (seq % 2 == 1).then_some(15);
        command.duration = Some(auditty_proto::convert::duration(seq));
    }
    (command, session)
}

fn facts(numbers: impl Iterator<Item = u64>) -> Vec<Fact> {
    let mut facts = Vec::new();
    for number in numbers {
        facts.push(Fact::Session {
            revision: 1,
            id: id(number),
            session: Box::new(session(number)),
        });
        for seq in 1..=COMMANDS {
            let (mut command, _) = record(number, seq);
            let (exit_code, signal) = (command.exit_code.take(), command.signal.take());
            if command.duration.take().is_some() {
                facts.push(Fact::CommandEnd(CommandEnd {
                    session: id(number),
                    seq: seq as i64,
                    exit_code,
                    signal,
                    duration_ns: seq as i64,
                }));
            }
            facts.push(Fact::Command {
                session: id(number),
                command: Box::new(command),
            });
        }
    }
    facts
}

/// Every command began in the same second as one of every other session.
async fn fill(store: &Store) {
    for tenant in [0, 1] {
        let numbers = (0..SESSIONS).filter(|number| number % 2 == tenant);
        for number in numbers {
            let batch = Batch {
                host_id: HOST.into(),
                receipts: Vec::new(),
                causes: Vec::new(),
                tenant: TENANTS[tenant as usize].into(),
                facts: facts([number].into_iter()),
            };
            store.apply(&batch).await.unwrap();
            if number % 5 == 0 {
                store.apply(&batch).await.unwrap();
            }
        }
    }
}

/// Names of all that is found, page by page, in the order of their times.
async fn found(store: &Store, scope: &Scope, search: &CommandSearch, limit: usize) -> Vec<String> {
    let (mut names, mut after, mut newest) = (Vec::new(), None, i64::MAX);
    loop {
        let page = store.search_commands(scope, search, after, limit).await;
        let page = page.unwrap();
        assert!(page.commands.len() <= limit);
        for command in page.commands {
            let seconds = command.start_time.unwrap().seconds;
            assert!(seconds <= newest, "{seconds} behind {newest}");
            newest = seconds;
            names.push(command.name);
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return names,
        }
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

on_both! {
    async fn a_search_finds_what_memory_finds(database) {
        let store = database.open().await;
        assert!(store.indexes_command_lines());
        fill(&store).await;
        let records: Vec<_> = (0..SESSIONS)
            .flat_map(|number| (1..=COMMANDS).map(move |seq| record(number, seq)))
            .collect();
        let commands: Vec<_> = records.iter().map(|(command, _)| command.clone()).collect();
        let sessions: Vec<_> = (0..SESSIONS).map(session).collect();
        let single = |filter: &String| !filter.contains(" AND ");
        let mut searches = vec![String::new()];
        searches.extend(filters(COMMAND_FIELDS, &commands).into_iter().step_by(11));
        let of_session = filters(SESSION_FIELDS, &sessions).into_iter().filter(single);
        searches.extend(of_session.step_by(7).map(|filter| format!("session.{filter}")));
        for text in [
            "rm", "RM -", "-2", "x y", " ", "y 100%", "%_\\\\", "\\\"GRÜN\\\"", "grÜN", "grün", "of 1", "\u{1}\u{2}",
        ] {
            searches.push(format!("command_line : \"{text}\""));
            searches.push(format!("command_line : \"{text}\" AND session.user : alice"));
            searches.push(format!(
                "command_line : \"{text}\" AND session.hostname != web-1 AND start_time < \"2026-01-01T00:00:40Z\""
            ));
        }
        let mut some = 0;
        for text in searches {
            let search = CommandSearch::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let expected: Vec<_> = records
                .iter()
                .filter(|(command, session)| search.command.matches(command) && search.session.matches(session))
                .map(|(command, _)| command.name.clone())
                .collect();
            some += usize::from(!expected.is_empty() && expected.len() < records.len());
            let names = found(&store, &Scope::All, &search, 1000).await;
            assert_eq!(sorted(names), sorted(expected), "{text:?}");
        }
        assert!(some > 100, "the searches prove little: {some}");
        store.close().await;
    }
}

on_both! {
    async fn pages_of_a_search_are_whole_and_of_one_tenant(database) {
        let store = database.open().await;
        fill(&store).await;
        for (text, limit) in [
            ("", 7), ("command_line : \"of 1\"", 1), ("session.hostname = web-1", 5),
            ("exit_code = 2", 3), ("seq = 60 AND command_line : ls", 1),
        ] {
            let search = CommandSearch::parse(text).unwrap();
            let all = found(&store, &Scope::All, &search, limit).await;
            let distinct: BTreeSet<_> = all.iter().cloned().collect();
            assert_eq!(all.len(), distinct.len(), "{text}: something twice");
            let mut of_tenants = Vec::new();
            for tenant_name in TENANTS {
                let names = found(&store, &Scope::Tenant(tenant_name.into()), &search, limit).await;
                for name in &names {
                    let number = (0..SESSIONS).find(|n| name.contains(&session_id(*n))).unwrap();
                    assert_eq!(tenant(number), tenant_name, "{name}");
                }
                of_tenants.extend(names);
            }
            assert_eq!(sorted(of_tenants), sorted(all), "{text}");
        }
        store.close().await;
    }
}

on_both! {
    async fn arguments_and_words_are_found_exactly_page_by_page(database) {
        let store = database.open().await;
        fill(&store).await;
        let records: Vec<_> = (0..SESSIONS)
            .flat_map(|number| (1..=COMMANDS).map(move |seq| record(number, seq)))
            .collect();
        // How many: none where every command line has the text, but no argument is it.
        for (text, some) in [
            ("argument = y", false),
            ("argument = \"x y\"", true),
            ("argument = \"-1\"", true),
            ("argument = \"-10\"", true),
            ("argument : \"100%_\\\\ \\\"GRÜN\\\"\"", true),
            ("argument : GRüN", false),
            ("argument = s", false),
            ("argument != rm AND session.user = alice", true),
            ("argument >= ls AND argument < lt", true),
            ("word = m", false),
            ("word = ls AND exit_code = 2", true),
            ("word = 1", true),
            ("word = \"x y\" AND word = ls", true),
            ("word != x", true),
        ] {
            let search = CommandSearch::parse(text).unwrap();
            let expected: Vec<_> = records
                .iter()
                .filter(|(command, session)| search.command.matches(command) && search.session.matches(session))
                .map(|(command, _)| command.name.clone())
                .collect();
            assert_eq!(!expected.is_empty(), some, "{text}");
            for limit in [5, 1000] {
                let names = found(&store, &Scope::All, &search, limit).await;
                assert_eq!(sorted(names), sorted(expected.clone()), "{text}, {limit} a page");
            }
            // Of one session as well, where the message decides for each page.
            let (mut after, mut seen) = (0, Vec::new());
            loop {
                let page = store.commands(id(1), &search.command, after, 7).await.unwrap();
                assert!(page.items.len() <= 7);
                after = page.items.last().map_or(after, |command| command.seq as i64);
                seen.extend(page.items.into_iter().map(|command| command.seq));
                if !page.more {
                    break;
                }
            }
            let of_session = (1..=COMMANDS).filter(|seq| search.command.matches(&record(1, *seq).0));
            assert_eq!(seen, of_session.collect::<Vec<_>>(), "{text}");
        }
        store.close().await;
    }
}

on_both! {
    async fn an_answer_says_whose_it_is_and_what_was_not_searched(database) {
        let collector = database.collector().await;
        let mut ingest = collector.ingest().await;
        let mut withheld = command(2, 1);
        withheld.exe.clear();
        withheld.argv.clear();
        withheld.content_withheld = true;
        let withheld = fact(v1::report::Fact::Command(v1::CommandReport {
            session_id: session_id(2),
            command: Some(withheld),
        }));
        let mut forged = command(1, 1);
        forged.session = Some(v1::CommandSession { user: "root".into(), ..Default::default() });
        let forged = fact(v1::report::Fact::Command(v1::CommandReport {
            session_id: session_id(1),
            command: Some(forged),
        }));
        // Session 3 is not reported yet.
        let reports = vec![session_report(1, 1), session_report(2, 1), forged, withheld, command_report(3, 1), end_report(3, 1)];
        ingest.report(batch(reports)).await.unwrap();
        let mut query = collector.query().await;
        let mut search = async |filter: &str| {
            let request = v1::ListCommandsRequest {
                parent: "sessions/-".into(),
                filter: filter.into(),
                ..Default::default()
            };
            Ok::<_, tonic::Status>(query.list_commands(request).await?.into_inner())
        };
        let answer = search("command_line : \"RM -1\" AND session.user = Alice").await.unwrap();
        assert_eq!(answer.commands.len(), 1, "{answer:?}");
        assert_eq!(answer.withheld_command_count, 0);
        let of = answer.commands[0].session.clone().unwrap();
        assert_eq!(of.name, format!("sessions/{}", session_id(1)));
        assert_eq!((of.user.as_str(), of.hostname.as_str(), of.host_id.as_str()), ("Alice", "web-2", HOST));
        assert_eq!(of.grant_status(), v1::GrantStatus::Granted);
        let answer = search("command_line : \"rm -1\"").await.unwrap();
        assert_eq!(answer.commands.len(), 2, "{answer:?}");
        assert_eq!(answer.withheld_command_count, 1);
        for content in ["argument = rm", "word = rm"] {
            let answer = search(content).await.unwrap();
            assert_eq!((answer.commands.len(), answer.withheld_command_count), (2, 1), "{content}");
        }
        let unknown = answer.commands.iter().find(|c| c.name.contains(&session_id(3))).unwrap();
        assert_eq!(unknown.exit_code, Some(1));
        let of = unknown.session.clone().unwrap();
        assert_eq!((of.user.as_str(), of.host_id.as_str()), ("", HOST));
        let answer = search("content_withheld = true").await.unwrap();
        assert_eq!((answer.commands.len(), answer.withheld_command_count), (1, 0));
        let error = search("usr = bob").await.unwrap_err();
        assert!(error.message().contains("`session.user`"), "{error}");
        // Within one session as before.
        let request = v1::ListCommandsRequest {
            parent: format!("sessions/{}", session_id(1)),
            ..Default::default()
        };
        let answer = query.list_commands(request).await.unwrap().into_inner();
        assert_eq!(answer.commands[0].session, None);
        collector.stop().await;
    }
}

on_both! {
    async fn sessions_going_on_at_a_time_are_found(database) {
        let store = database.open().await;
        let batch = Batch {
            host_id: HOST.into(),
            receipts: Vec::new(),
            causes: Vec::new(),
            tenant: String::new(),
            facts: (0..60).map(|number| Fact::Session {
                revision: 1,
                id: id(number),
                session: Box::new(session(number)),
            }).collect(),
        };
        store.apply(&batch).await.unwrap();
        let ns = |time: Option<prost_types::Timestamp>| {
            time.map(|time| time.seconds * 1_000_000_000 + i64::from(time.nanos))
        };
        let filter = Filter::sessions("hostname = web-1").unwrap();
        for (from, until) in [(None, None), (Some(1), None), (None, Some(2)), (Some(1), Some(2)), (Some(3), Some(3))] {
            let at = |seconds: Option<i64>| seconds.map(|s| (1_767_225_600 + s) * 1_000_000_000);
            let going_on = GoingOn { from_ns: at(from), until_ns: at(until) };
            let page = store.sessions(&Scope::All, &filter, going_on, None, 1000).await.unwrap();
            let names = page.items.into_iter().map(|s| s.name).collect();
            let expected = (0..60).map(session).filter(|s| {
                filter.matches(s)
                    && going_on.until_ns.is_none_or(|until| ns(s.start_time).unwrap() < until)
                    && going_on.from_ns.is_none_or(|from| ns(s.end_time).is_none_or(|end| end >= from))
            });
            assert_eq!(sorted(names), sorted(expected.map(|s| s.name).collect()), "{going_on:?}");
        }
        store.close().await;
    }
}

/// Applies the migrations that there were before commands could be searched.
async fn migrate_before(location: &Location, folder: &Path) {
    let (of, last) = match location {
        Location::Sqlite(_) => ("sqlite", 8),
        Location::Postgres(_) => ("postgres", 6),
    };
    let all = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("migrations")
        .join(of);
    let older = folder.join("older");
    fs::create_dir(&older).unwrap();
    for entry in fs::read_dir(all).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name[..4].parse::<u32>().unwrap() <= last {
            fs::copy(entry.path(), older.join(name)).unwrap();
        }
    }
    let older = sqlx::migrate::Migrator::new(older).await.unwrap();
    let rows = format!(
        "INSERT INTO session_hosts (session_id, host_id, tenant) VALUES ('{id}', 'host-1', '');
         INSERT INTO commands (session_id, seq, message, pid, parent_pid, exe, filename, cwd,
             command_line, uid, euid, login_uid, start_time)
         VALUES ('{id}', 1, {none}, 1, 1, '/bin/a', '', '', 'old NEEDLE one', 0, 0, NULL, 7),
             ('{id}', 2, {none}, 1, 1, '', '', '', '', 0, 0, NULL, 7),
             ('{id}', 3, {none}, 1, 1, '/bin/b', '', '', 'another', 0, 0, NULL, 5)",
        id = session_id(1),
        none = if of == "sqlite" { "x''" } else { "''" },
    );
    let rows = sqlx::AssertSqlSafe(rows);
    match location {
        Location::Sqlite(path) => {
            let options = sqlx::sqlite::SqliteConnectOptions::new();
            let options = options.filename(path).create_if_missing(true);
            let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
            older.run(&pool).await.unwrap();
            sqlx::raw_sql(rows).execute(&pool).await.unwrap();
            pool.close().await;
        }
        Location::Postgres(url) => {
            let pool = sqlx::PgPool::connect(url).await.unwrap();
            older.run(&pool).await.unwrap();
            sqlx::raw_sql(rows).execute(&pool).await.unwrap();
            pool.close().await;
        }
    }
}

on_both! {
    async fn what_was_stored_before_is_found(database) {
        migrate_before(&database.location, database.folder.path()).await;
        let store = database.open().await;
        let count = async |filter: &str| {
            let search = CommandSearch::parse(filter).unwrap();
            let page = store.search_commands(&Scope::All, &search, None, 10).await;
            page.unwrap().commands.len()
        };
        assert_eq!(count("command_line : needle").await, 1);
        assert_eq!(count("command_line : n").await, 2);
        assert_eq!(count("content_withheld = true").await, 1);
        assert_eq!(count("").await, 3);
        store.close().await;
    }
}

#[tokio::test]
async fn without_the_extension_everything_is_found_all_the_same() {
    let Some(url) = postgres::plain_database() else {
        return;
    };
    let store = Store::open(&url.parse().unwrap()).await.unwrap();
    assert!(!store.indexes_command_lines());
    fill(&store).await;
    let search = CommandSearch::parse("command_line : \"of 1\"").unwrap();
    let names = found(&store, &Scope::All, &search, 5).await;
    let with = (0..SESSIONS)
        .filter(|n| n.to_string().starts_with('1'))
        .count();
    assert_eq!(names.len(), with * (COMMANDS / 23) as usize);
    store.close().await;
}
