//! Queries: SQL and evaluation in memory agree, pages hold still.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step outside a test function ends the test as well"
)]

use std::collections::BTreeSet;

use crate::common::*;
use auditty_collector::{
    Location, Store,
    store::{Batch, CommandEnd, Fact, GoingOn, Scope},
};
use auditty_proto::{
    filter::{ACTIVITY_FIELDS, COMMAND_FIELDS, Field, Filter, Kind, SESSION_FIELDS, Value},
    names, v1,
};
use tonic::Code;

const SESSIONS: u64 = 240;

async fn store(database: &Database) -> Store {
    let store = database.open().await;
    let facts = (0..SESSIONS).map(|number| Fact::Session {
        revision: 1,
        id: names::parse_session_id(&session_id(number)).unwrap(),
        session: Box::new(session(number)),
    });
    let batch = Batch {
        host_id: HOST.into(),
        receipts: Vec::new(),
        causes: Vec::new(),
        tenant: String::new(),
        facts: facts.collect(),
    };
    store.apply(&batch).await.unwrap();
    store
}

/// Every field with every operator it takes, against values that occur and
/// values that do not.
pub(crate) fn filters<R>(fields: &'static [Field<R>], records: &[R]) -> Vec<String> {
    let quoted = |text: &str| format!("{text:?}").replace("\\0", "\0").replace("\\'", "'");
    let mut filters = Vec::new();
    for field in fields {
        let mut values = BTreeSet::new();
        for value in records.iter().flat_map(|record| (field.values)(record)) {
            values.insert(match value {
                // Not a word.
                Value::Text(text) if text.is_empty() && matches!(field.kind, Kind::Words) => {
                    continue;
                }
                Value::Text(text) => quoted(&text),
                Value::Int(int) => int.to_string(),
                Value::Time(time) => time.to_string(),
                Value::Bool(bool) => bool.to_string(),
                Value::Enum(number) => match field.kind {
                    Kind::Enum(kind) => match kind.values().find(|(n, _)| *n == number) {
                        Some((_, name)) => name,
                        None => continue,
                    },
                    _ => unreachable!(),
                },
            });
        }
        let (operators, others): (&[&str], &[&str]) = match field.kind {
            Kind::Text => (
                &["=", "!=", "<", "<=", ">", ">=", ":"],
                &[
                    "\"\"",
                    "LI",
                    "\"%\"",
                    "_",
                    "\"' OR 1=1 --\"",
                    "\"\0\"",
                    "Ü",
                    "ü",
                ],
            ),
            Kind::Words => (
                &["=", "!="],
                &["rm", "s", "-1", "2", "\"%\"", "Ü", "\"\0\""],
            ),
            Kind::Int => (
                &["=", "!=", "<", "<=", ">", ">="],
                &[
                    "0",
                    "1",
                    "9223372036854775807",
                    "9223372036854775808",
                    "18446744073709551615",
                ],
            ),
            Kind::Time => (
                &["=", "!=", "<", "<=", ">", ">="],
                &["0001-01-01", "9999-12-30", "2026-01-01"],
            ),
            Kind::Bool => (&["=", "!="], &["true", "false"]),
            Kind::Enum(_) => (&["=", "!="], &["unspecified"]),
        };
        for value in values
            .iter()
            .map(String::as_str)
            .take(12)
            .chain(others.iter().copied())
        {
            for operator in operators {
                filters.push(format!("{} {operator} {value}", field.name));
            }
        }
    }
    // And pairs of them, far apart in the list.
    let step = filters.len() / 3 + 1;
    let pairs: Vec<_> = (0..filters.len())
        .map(|at| {
            format!(
                "{} AND {}",
                filters[at],
                filters[(at * 7 + step) % filters.len()]
            )
        })
        .collect();
    filters.extend(pairs);
    filters
}

on_both! {
    async fn sql_and_memory_agree_on_sessions(database) {
        let store = store(&database).await;
        let mut records: Vec<_> = (0..SESSIONS).map(session).collect();
        let (mut some, mut none) = (0, 0);
        for text in filters(SESSION_FIELDS, &records) {
            let filter = Filter::sessions(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let page = store.sessions(&Scope::All, &filter, GoingOn::default(), None, 1000).await.unwrap();
            records.sort_by_key(|s| {
                let start = s.start_time.unwrap();
                std::cmp::Reverse((start.seconds, start.nanos, s.session_id.clone()))
            });
            let ids = |sessions: &[v1::Session]| -> Vec<String> {
                sessions.iter().map(|s| s.session_id.clone()).collect()
            };
            let expected: Vec<_> = records
                .iter()
                .filter(|s| filter.matches(s))
                .cloned()
                .collect();
            assert_eq!(ids(&page.items), ids(&expected), "{text:?}");
            match expected.len() {
                0 => none += 1,
                n if n < records.len() => some += 1,
                _ => {}
            }
        }
        assert!(
            some > 300 && none > 100,
            "the filters prove little: {some} {none}"
        );
        store.close().await;
    }
}

on_both! {
    async fn sql_and_memory_agree_on_commands(database) {
        let store = store(&database).await;
        let id = names::parse_session_id(&session_id(1)).unwrap();
        let mut facts = Vec::new();
        let mut records = Vec::new();
        for seq in 1..=60 {
            let mut command = command(1, seq);
            facts.push(Fact::Command {
                session: id,
                command: Box::new(command.clone()),
            });
            if seq % 5 != 0 {
                command.exit_code = (seq % 2 == 0).then_some((seq % 3) as u32);
                command.signal = (seq % 2 == 1).then_some(15);
                command.duration = Some(auditty_proto::convert::duration(seq));
                facts.push(Fact::CommandEnd(CommandEnd {
                    session: id,
                    seq: seq as i64,
                    exit_code: command.exit_code,
                    signal: command.signal,
                    duration_ns: seq as i64,
                }));
            }
            records.push(command);
        }
        let batch = Batch {
            host_id: HOST.into(),
            receipts: Vec::new(),
            causes: Vec::new(),
        tenant: String::new(),
            facts,
        };
        store.apply(&batch).await.unwrap();
        for text in filters(COMMAND_FIELDS, &records) {
            let filter = Filter::commands(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let page = store.commands(id, &filter, 0, 1000).await.unwrap();
            let expected: Vec<_> = records
                .iter()
                .filter(|c| filter.matches(c))
                .cloned()
                .collect();
            assert_eq!(page.items, expected, "{text:?}");
        }
        store.close().await;
    }
}

on_both! {
    async fn sql_and_memory_agree_on_activities(database) {
        let store = store(&database).await;
        let id = names::parse_session_id(&session_id(1)).unwrap();
        let records: Vec<_> = (1..=60).map(|seq| activity(1, seq)).collect();
        let facts = records.iter().map(|record| Fact::Activity {
            session: id,
            activity: Box::new(record.clone()),
        });
        let batch = Batch {
            host_id: HOST.into(),
            receipts: Vec::new(),
            causes: Vec::new(),
        tenant: String::new(),
            facts: facts.collect(),
        };
        store.apply(&batch).await.unwrap();
        let mut some = 0;
        for text in filters(ACTIVITY_FIELDS, &records) {
            let filter = Filter::activities(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let page = store.activities(id, &filter, 0, 1000).await.unwrap();
            let expected: Vec<_> = records
                .iter()
                .filter(|activity| filter.matches(activity))
                .cloned()
                .collect();
            assert_eq!(page.items, expected, "{text:?}");
            some += usize::from(!expected.is_empty() && expected.len() < records.len());
        }
        assert!(some > 200, "the filters prove little: {some}");
        store.close().await;
    }
}

on_both! {
    async fn a_person_is_found_by_every_name(database) {
        let store = store(&database).await;
        let mut records: Vec<_> = (0..SESSIONS).map(session).collect();
        // A later report has other names: these count.
        let mut renamed = session(8);
        renamed.login.as_mut().unwrap().certificate = Some(v1::Certificate {
            principals: vec!["erin".into()],
            ..Default::default()
        });
        let batch = Batch {
            host_id: HOST.into(),
            receipts: Vec::new(),
            causes: Vec::new(),
            tenant: String::new(),
            facts: vec![Fact::Session {
                revision: 2,
                id: names::parse_session_id(&session_id(8)).unwrap(),
                session: Box::new(renamed.clone()),
            }],
        };
        store.apply(&batch).await.unwrap();
        records[8] = renamed;
        let count = async |filter: &str| {
            let filter = Filter::sessions(filter).unwrap();
            let page = store.sessions(&Scope::All, &filter, GoingOn::default(), None, 1000).await;
            let found = page.unwrap().items.len();
            assert_eq!(found, records.iter().filter(|s| filter.matches(s)).count());
            found
        };
        let by_certificate = count("certificate_id = \"alice@corp\"").await;
        let person = count("person = \"alice@corp\"").await;
        assert!(0 < by_certificate && by_certificate < person, "{by_certificate} {person}");
        assert!(count("requester = alice").await > 0);
        assert_eq!(count("person = alice").await, count("requester = alice").await);
        assert!(count("person : ALICE AND person = ops").await > 0);
        assert_eq!(count("person = erin").await, 1);
        assert_eq!(count("person = alice").await + count("person != alice").await, SESSIONS as usize);
        store.close().await;
    }
}

on_both! {
    async fn names_of_people_that_were_stored_before_are_found(database) {
        let before = store(&database).await;
        before.close().await;
        // As it was before there was the table.
        let undo = |version: u32| {
            sqlx::AssertSqlSafe(format!(
                "DROP TABLE session_persons; DELETE FROM _sqlx_migrations WHERE version = {version}"
            ))
        };
        match &database.location {
            Location::Sqlite(path) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
                let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
                sqlx::raw_sql(undo(16)).execute(&pool).await.unwrap();
                pool.close().await;
            }
            Location::Postgres(url) => {
                let pool = sqlx::PgPool::connect(url).await.unwrap();
                sqlx::raw_sql(undo(14)).execute(&pool).await.unwrap();
                pool.close().await;
            }
        }
        let store = database.open().await;
        let count = async |filter: &str| {
            let filter = Filter::sessions(filter).unwrap();
            let page = store.sessions(&Scope::All, &filter, GoingOn::default(), None, 1000).await;
            page.unwrap().items.len()
        };
        assert!(count("requester = alice").await > 0);
        assert_eq!(count("person = alice").await, count("requester = alice").await);
        assert_eq!(
            count("person = \"alice@corp\"").await,
            count("certificate_id = \"alice@corp\"").await
        );
        store.close().await;
    }
}

on_both! {
    async fn pages_hold_still_while_sessions_arrive(database) {
        let collector = database.collector().await;
        let mut ingest = collector.ingest().await;
        let reports = |numbers: std::ops::Range<u64>| numbers.map(|n| session_report(n, 1)).collect();
        ingest.report(batch(reports(0..50))).await.unwrap();
        let mut query = collector.query().await;
        let mut request = v1::ListSessionsRequest {
            page_size: 7,
            filter: "host_id = host-1".into(),
            ..Default::default()
        };
        let mut seen = Vec::new();
        loop {
            let page = query
                .list_sessions(request.clone())
                .await
                .unwrap()
                .into_inner();
            assert!(page.sessions.len() <= 7);
            seen.extend(page.sessions.into_iter().map(|s| s.session_id));
            let next = 50 + seen.len() as u64;
            ingest.report(batch(reports(next..next + 7))).await.unwrap();
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        let expected: Vec<_> = (0..50).rev().map(session_id).collect();
        assert_eq!(seen, expected);
        collector.stop().await;
    }
}

on_both! {
    async fn wrong_requests_get_useful_answers(database) {
        let collector = database.collector().await;
        let mut ingest = collector.ingest().await;
        let reports = (0..3).map(|n| session_report(n, 1)).collect();
        ingest.report(batch(reports)).await.unwrap();
        let mut query = collector.query().await;
        let list = |page_size, page_token: &str, filter: &str| v1::ListSessionsRequest {
            page_size,
            page_token: page_token.into(),
            filter: filter.into(),
            ..Default::default()
        };
        let page = query
            .list_sessions(list(1, "", ""))
            .await
            .unwrap()
            .into_inner();
        assert!(!page.next_page_token.is_empty());
        for (request, words) in [
            (list(-1, "", ""), "page_size"),
            (list(0, "nonsense", ""), "page_token"),
            (list(0, &page.next_page_token, "uid = 1"), "other fields"),
            (list(0, "", "usr = 1"), "there is no field \"usr\""),
        ] {
            let error = query.list_sessions(request).await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.message().contains(words), "{error}");
        }
        let get = |name: &str| v1::GetSessionRequest { name: name.into() };
        let error = query.get_session(get("sessions/x")).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        let name = format!("sessions/{}", session_id(99));
        let error = query.get_session(get(&name)).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        let commands = v1::ListCommandsRequest {
            parent: name,
            ..Default::default()
        };
        let error = query.list_commands(commands).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        collector.stop().await;
    }
}

on_both! {
    async fn a_page_fits_into_an_answer(database) {
        let collector = database.collector().await;
        let mut ingest = collector.ingest().await;
        ingest
            .report(batch(vec![session_report(1, 1)]))
            .await
            .unwrap();
        for seq in 1..=8 {
            let mut large = command(1, seq);
            large.argv = vec!["x".repeat(1_000_000)];
            let report = v1::CommandReport {
                session_id: session_id(1),
                command: Some(large),
            };
            let report = fact(v1::report::Fact::Command(report));
            ingest.report(batch(vec![report])).await.unwrap();
        }
        let mut query = collector.query().await;
        let mut request = v1::ListCommandsRequest {
            parent: format!("sessions/{}", session_id(1)),
            ..Default::default()
        };
        let mut seen = Vec::new();
        loop {
            let page = query
                .list_commands(request.clone())
                .await
                .unwrap()
                .into_inner();
            seen.extend(page.commands.into_iter().map(|c| c.seq));
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, (1..=8).collect::<Vec<_>>());
        collector.stop().await;
    }
}
