//! What was recorded in a time range, and what was not.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

use std::time::Duration;

use crate::{
    common::*,
    grants::grant,
    hosts::{hear, named, report},
};
use auditty_collector::alerts::note_silent;
use auditty_proto::{
    convert,
    v1::{
        self, coverage_service_client::CoverageServiceClient,
        grant_service_client::GrantServiceClient,
    },
};
use jiff::{SignedDuration, Timestamp};
use tonic::Code;

/// A session with an outcome, of a connection.
fn of(number: u64, connection: &str, start: Timestamp) -> v1::Session {
    v1::Session {
        connection: Some(v1::Connection {
            connection_id: connection.into(),
            ..Default::default()
        }),
        start_time: Some(convert::timestamp(start)),
        end_time: None,
        grant: None,
        verdict: v1::Verdict::Open.into(),
        ..session(number)
    }
}

fn span(start: Timestamp, end: Timestamp) -> v1::TimeSpan {
    v1::TimeSpan {
        start_time: Some(convert::timestamp(start)),
        end_time: Some(convert::timestamp(end)),
    }
}

fn matched(status: v1::GrantStatus, request_id: &str) -> Option<v1::GrantMatch> {
    Some(v1::GrantMatch {
        status: status.into(),
        grant: Some(v1::Grant {
            request_id: request_id.into(),
            ..Default::default()
        }),
        ..Default::default()
    })
}

on_both! {

async fn everything_is_counted_where_it_belongs(database) {
    let collector = database.collector().await;
    let now = Timestamp::now();
    let ago = |minutes: i64| now - SignedDuration::from_mins(minutes);
    let store = &collector.store;
    // One was silent for ten minutes, and another still is, for five.
    hear(store, named("", HOST), ago(60), Some(report(HOST, "a"))).await;
    note_silent(store, Duration::from_secs(18), ago(59)).await.unwrap();
    hear(store, named("", HOST), ago(50), None).await;
    hear(store, named("", "silent"), ago(5), Some(report("silent", "a"))).await;
    hear(store, named("", HOST), now, None).await;
    note_silent(store, Duration::from_secs(18), now).await.unwrap();

    let gaps = v1::Counts { gap_count: 2, lost_byte_count: 7, ..Default::default() };
    let sessions = [
        v1::Session { grant: matched(v1::GrantStatus::Granted, "used"), ..of(1, "c1", ago(30)) },
        v1::Session { grant: matched(v1::GrantStatus::Ungranted, ""), ..of(2, "c1", ago(29)) },
        v1::Session {
            counts: Some(gaps),
            // Twice the same minute, and one before the range.
            gap_times: vec![span(ago(58), ago(54)), span(ago(20), ago(18)), span(ago(19), ago(17))],
            ..of(3, "c2", ago(20))
        },
        v1::Session { verdict: v1::Verdict::Interrupted.into(), ..of(4, "c3", ago(10)) },
        // Before the range.
        v1::Session { grant: matched(v1::GrantStatus::Granted, "before"), ..of(5, "c4", ago(100)) },
    ];
    let reports = sessions.map(|session| changed_report(session, 1));
    collector.ingest().await.report(batch(reports.into())).await.unwrap();
    let mut grants = GrantServiceClient::new(collector.channel().await);
    let elsewhere = v1::AccessGrant {
        hosts: vec![HOST.into(), "silent".into(), "web-*".into(), "name of silent".into()],
        ..grant("elsewhere")
    };
    let nowhere = v1::AccessGrant {
        host_labels: [("env".to_owned(), "test".to_owned())].into(),
        ..grant("nowhere")
    };
    for grant in [grant("used"), grant("before"), elsewhere, nowhere] {
        let ask = v1::CreateGrantRequest { grant: Some(grant) };
        grants.create_grant(ask).await.unwrap();
    }

    let mut client = CoverageServiceClient::new(collector.channel().await);
    let ask = v1::GetCoverageRequest {
        start_time: Some(convert::timestamp(ago(55))),
        end_time: None,
    };
    let answer = client.get_coverage(ask).await.unwrap().into_inner();
    let [host, silent] = &*answer.hosts else { unreachable!("{:?}", answer.hosts) };
    assert_eq!((&*host.host_id, host.silent), (HOST, false));
    assert_eq!((host.login_count, host.session_count), (3, 4));
    assert_eq!((host.ungranted_session_count, host.ambiguous_session_count), (1, 0));
    assert_eq!((host.lossy_session_count, host.interrupted_session_count), (1, 1));
    assert_eq!((host.gap_count, host.lost_byte_count), (2, 7));
    assert_eq!(host.gap_duration.unwrap().seconds, 60 + 3 * 60);
    // The part of the silence that is in the range.
    assert_eq!(host.silent_duration.unwrap().seconds, 300);
    assert_eq!(host.silence_count, 1);
    assert_eq!((&*silent.host_id, silent.silent, silent.session_count), ("silent", true, 0));
    let seconds = silent.silent_duration.unwrap().seconds;
    assert!((300..400).contains(&seconds), "{seconds}");
    let unused: Vec<_> = answer.unused_grants.iter().map(|g| &*g.request_id).collect();
    assert_eq!(unused, ["before", "elsewhere", "nowhere"]);
    let hosts: Vec<_> = answer.unused_grants.iter().map(|g| g.unwatched_hosts.len()).collect();
    assert_eq!(hosts, [0, 2, 0]);
    let dead: Vec<_> = answer.unused_grants.iter().map(|g| g.no_live_host).collect();
    assert_eq!(dead, [false, false, true]);

    let ahead = v1::GetCoverageRequest {
        start_time: Some(convert::timestamp(now + SignedDuration::from_hours(1))),
        end_time: None,
    };
    for wrong in [v1::GetCoverageRequest::default(), ahead] {
        let refused = client.get_coverage(wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("start_time"), "{refused}");
    }
    collector.stop().await;
}

}
