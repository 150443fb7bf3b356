//! Every call leaves a record, on both databases.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

use crate::common::*;
use auditty_collector::{Access, Location, access::Limits};
use auditty_proto::v1::{self, audit_service_client::AuditServiceClient};
use tonic::Code;

async fn records(collector: &Collector, page_size: i32, filter: &str) -> Vec<v1::AuditRecord> {
    let mut client = AuditServiceClient::new(collector.channel().await);
    let mut request = v1::ListAuditRecordsRequest {
        page_size,
        filter: filter.into(),
        ..Default::default()
    };
    let mut all = Vec::new();
    loop {
        let page = client
            .list_audit_records(request.clone())
            .await
            .unwrap()
            .into_inner();
        all.extend(page.records);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

on_both! {
    async fn every_call_of_a_person_is_recorded(database) {
        let collector = database.collector().await;
        let mut ingest = collector.ingest().await;
        ingest.report(batch(vec![session_report(1, 1)])).await.unwrap();
        let mut query = collector.query().await;
        let list = |filter: &str| v1::ListSessionsRequest {
            filter: filter.into(),
            ..Default::default()
        };
        query.list_sessions(list("user = bob")).await.unwrap();
        query.list_sessions(list("usr = bob")).await.unwrap_err();
        let name = format!("sessions/{}", session_id(9));
        query.get_session(v1::GetSessionRequest { name: name.clone() }).await.unwrap_err();
        let found = records(&collector, 2, "method : SessionService").await;
        let short: Vec<_> = found
            .iter()
            .map(|r| (r.method.rsplit('/').next().unwrap(), r.outcome.as_str()))
            .collect();
        assert_eq!(short, [
            ("GetSession", "NOT_FOUND"),
            ("ListSessions", "INVALID_ARGUMENT"),
            ("ListSessions", "OK"),
        ]);
        assert!(found[0].request.contains(&name), "{:?}", found[0]);
        assert!(found[1].detail.contains("usr"), "{:?}", found[1]);
        assert!(found[2].request.contains("user = bob"), "{:?}", found[2]);
        assert_eq!(found[2].proof, "local");
        assert!(found[2].user_agent.contains("tonic"), "{:?}", found[2]);
        assert!(found[2].address.starts_with("127.0.0.1:"));
        // Looking at the records is on record, and agents' reports are not.
        let looks = records(&collector, 0, "method : ListAuditRecords").await;
        assert!(looks.len() >= 2, "{looks:?}");
        assert!(records(&collector, 0, "method : Report").await.is_empty());
        assert!(records(&collector, 0, "refused = true").await.is_empty());
        collector.stop().await;
        // They are there after a restart, and nothing is lost at the end.
        let again = Collector::start(&database.location, "127.0.0.1:0").await;
        let kept = records(&again, 0, "method : GetSession").await;
        assert_eq!(kept.len(), 1);
        again.stop().await;
    }

    async fn what_a_call_is_for_is_recorded_where_it_says_so(database) {
        let collector = database.collector().await;
        let mut query = collector.query().await;
        let longest = "x".repeat(64);
        let longer = "x".repeat(65);
        for (said, kept) in [
            (None, ""),
            (Some("replay"), "replay"),
            (Some("failed-logins-2"), "failed-logins-2"),
            (Some("Replay"), ""),
            (Some("two words"), ""),
            (Some(&*longest), &*longest),
            (Some(&*longer), ""),
        ] {
            let mut request = tonic::Request::new(v1::ListSessionsRequest::default());
            if let Some(said) = said {
                request.metadata_mut().insert("auditty-purpose", said.parse().unwrap());
            }
            query.list_sessions(request).await.unwrap();
            let found = records(&collector, 0, "method : ListSessions").await;
            assert_eq!(found[0].purpose, kept, "{said:?}");
        }
        // Refused calls say it as well, and it can be asked for.
        let mut request = tonic::Request::new(v1::GetSessionRequest { name: "sessions/x".into() });
        request.metadata_mut().insert("auditty-purpose", "export".parse().unwrap());
        query.get_session(request).await.unwrap_err();
        let found = records(&collector, 0, "purpose = export").await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].method.ends_with("/GetSession"), "{found:?}");
        assert_eq!(records(&collector, 0, "purpose : repl").await.len(), 1);
        collector.stop().await;
    }

    async fn a_flood_of_refused_calls_is_counted(database) {
        let limits = Limits { requests_per_second: 1.0, burst: 3.0 };
        let access = Access { limits, ..Access::default() };
        let collector = Collector::start_with(&database.location, "127.0.0.1:0", access).await;
        let mut query = collector.query().await;
        for _ in 0..60 {
            let listed = query.list_sessions(v1::ListSessionsRequest::default()).await;
            if let Err(status) = listed {
                assert_eq!(status.code(), Code::ResourceExhausted);
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
        let refused = records(&collector, 0, "refused = true").await;
        assert!((10..40).contains(&refused.len()), "{}", refused.len());
        collector.stop().await;
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_answered() {
    let database = Database::sqlite();
    let collector = database.collector().await;
    let mut query = collector.query().await;
    query
        .list_sessions(v1::ListSessionsRequest::default())
        .await
        .unwrap();
    let Location::Sqlite(path) = &database.location else {
        unreachable!()
    };
    // Another program breaks the table.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut other = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("DROP TABLE audit_records")
        .execute(&mut other)
        .await
        .unwrap();
    let refused = query
        .list_sessions(v1::ListSessionsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("recorded"), "{refused}");
    collector.stop().await;
}
