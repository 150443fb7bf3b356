//! Sessions that are followed: a snapshot, then every change.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

use std::time::Duration;

use crate::common::*;
use auditty_proto::v1;
use tonic::{Code, Streaming};

type Pieces = Streaming<v1::WatchSessionsResponse>;

async fn watch(collector: &Collector, ask: v1::WatchSessionsRequest) -> Pieces {
    let mut client = collector.query().await;
    client.watch_sessions(ask).await.unwrap().into_inner()
}

fn of(filter: &str) -> v1::WatchSessionsRequest {
    v1::WatchSessionsRequest {
        filter: filter.into(),
        ..Default::default()
    }
}

async fn piece(pieces: &mut Pieces) -> v1::WatchSessionsResponse {
    let next = tokio::time::timeout(Duration::from_secs(20), pieces.message());
    next.await.unwrap().unwrap().unwrap()
}

fn ids(piece: &v1::WatchSessionsResponse) -> Vec<String> {
    let mut ids: Vec<_> = piece
        .sessions
        .iter()
        .map(|s| s.session_id.clone())
        .collect();
    ids.sort();
    ids
}

/// Reads on until session 3 has had so many commands and the others were told.
/// Where other transactions run, what is known already may be told again.
async fn until(pieces: &mut Pieces, commands: u64, others: &[u64]) {
    let (mut told, mut latest) = (Vec::new(), 0);
    let all = |told: &[String]| {
        others
            .iter()
            .all(|number| told.contains(&session_id(*number)))
    };
    while latest != commands || !all(&told) {
        let next = piece(pieces).await;
        let third = next.sessions.iter().find(|s| s.session_id == session_id(3));
        latest = third.map_or(latest, |s| {
            s.counts.map_or(0, |counts| counts.command_count)
        });
        told.extend(ids(&next));
    }
}

/// Session 3, which goes on, after another command.
fn busier(commands: u64) -> v1::Session {
    v1::Session {
        counts: Some(v1::Counts {
            command_count: commands,
            ..Default::default()
        }),
        ..session(3)
    }
}

on_both! {

async fn who_follows_sees_what_is_and_what_becomes_of_it(database) {
    let collector = database.collector().await;
    let mut ingest = collector.ingest().await;
    ingest.report(batch(vec![session_report(3, 1), session_report(4, 1)])).await.unwrap();
    let mut active = watch(&collector, of("state = active")).await;
    let first = piece(&mut active).await;
    assert_eq!(ids(&first), [session_id(3)]);
    let mut all = watch(&collector, of("")).await;
    let snapshot = piece(&mut all).await;
    assert_eq!(ids(&snapshot), [session_id(3), session_id(4)]);
    let only_changes = v1::WatchSessionsRequest { only_changes: true, ..of("") };
    let mut changes = watch(&collector, only_changes).await;
    let nothing = piece(&mut changes).await;
    assert!(nothing.caught_up && !nothing.resume_token.is_empty());
    // A change, an old report, and a new session.
    let news = vec![changed_report(busier(7), 3), session_report(3, 2), session_report(9, 1)];
    ingest.report(batch(news)).await.unwrap();
    until(&mut all, 7, &[9]).await;
    until(&mut changes, 7, &[9]).await;
    // After a broken connection only what was missed is told.
    ingest.report(batch(vec![changed_report(busier(8), 4)])).await.unwrap();
    let resumed = v1::WatchSessionsRequest { resume_token: nothing.resume_token.clone(), ..of("") };
    let mut again = watch(&collector, resumed).await;
    until(&mut again, 8, &[9]).await;
    // A token of another database begins anew.
    for token in ["other-1", "nonsense"] {
        let anew = v1::WatchSessionsRequest { resume_token: token.into(), ..of("") };
        let mut anew = watch(&collector, anew).await;
        assert_eq!(piece(&mut anew).await.sessions.len(), 3, "{token}");
    }
    let wrong = collector.query().await.watch_sessions(of("nonsense = 1")).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    // Another collector over the same database takes reports, too.
    let other = database.collector().await;
    other.ingest().await.report(batch(vec![session_report(12, 1)])).await.unwrap();
    loop {
        let told = ids(&piece(&mut again).await);
        if told.contains(&session_id(12)) {
            break;
        }
    }
    other.stop().await;
    collector.stop().await;
    while let Ok(Some(_)) = again.message().await {}
}

async fn many_at_once_are_all_told(database) {
    let collector = database.collector().await;
    let only_changes = v1::WatchSessionsRequest { only_changes: true, ..of("") };
    let mut changes = watch(&collector, only_changes).await;
    piece(&mut changes).await;
    let reporting = (0..8).map(|part: u64| {
        let ingest = collector.ingest();
        async move {
            let mut ingest = ingest.await;
            for number in 0..50 {
                let report = session_report(1000 + part * 50 + number, 1);
                ingest.report(batch(vec![report])).await.unwrap();
            }
        }
    });
    let reporting = futures::future::join_all(reporting);
    let mut told = std::collections::BTreeSet::new();
    let telling = async {
        while told.len() < 400 {
            told.extend(ids(&piece(&mut changes).await));
        }
    };
    tokio::join!(reporting, telling);
    assert_eq!(told.len(), 400);
    collector.stop().await;
}

}
