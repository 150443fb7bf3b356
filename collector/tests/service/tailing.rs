//! One session that is followed: what is there, what comes, and its end.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

use std::{sync::Arc, time::Duration};

use crate::{access::Authority, common::*};
use auditty_collector::{Access, access::Tls};
use auditty_proto::v1::{
    self, ingest_service_client::IngestServiceClient, session_service_client::SessionServiceClient,
};
use prost_types::Timestamp;
use tonic::{Code, Status, Streaming};

type Pieces = Streaming<v1::TailSessionResponse>;

fn of(number: u64) -> v1::TailSessionRequest {
    v1::TailSessionRequest {
        name: format!("sessions/{}", session_id(number)),
        ..Default::default()
    }
}

async fn tail(collector: &Collector, ask: v1::TailSessionRequest) -> Result<Pieces, Status> {
    let mut client = collector.query().await;
    Ok(client.tail_session(ask).await?.into_inner())
}

/// What was told.
#[derive(Debug, Default)]
struct Told {
    sessions: Vec<v1::Session>,
    commands: Vec<v1::Command>,
    activities: Vec<u64>,
    token: String,
    caught_up: bool,
}

impl Told {
    /// The next piece; `false` at the end of the stream.
    async fn next(&mut self, pieces: &mut Pieces) -> bool {
        let next = tokio::time::timeout(Duration::from_secs(20), pieces.message());
        let Some(piece) = next.await.unwrap().unwrap() else {
            return false;
        };
        self.sessions.extend(piece.session);
        self.commands.extend(piece.commands);
        let activities = piece.activities.iter().map(|activity| activity.seq);
        self.activities.extend(activities);
        self.token = piece.resume_token;
        self.caught_up = piece.caught_up;
        true
    }

    async fn until(&mut self, pieces: &mut Pieces, enough: impl Fn(&Self) -> bool) {
        while !enough(self) {
            assert!(self.next(pieces).await, "the stream ended: {self:?}");
        }
    }

    /// All of a stream that ends by itself.
    async fn all(mut pieces: Pieces) -> Self {
        let mut told = Self::default();
        while told.next(&mut pieces).await {}
        told
    }

    fn commands(&self) -> Vec<u64> {
        self.commands.iter().map(|command| command.seq).collect()
    }

    /// One after the other: where other transactions run, what is known already may
    /// be told again.
    fn states(&self) -> Vec<v1::SessionState> {
        let mut states: Vec<_> = self.sessions.iter().map(v1::Session::state).collect();
        states.dedup();
        states
    }
}

/// Session 3, which goes on, when it has ended.
fn ended(revision: u64) -> v1::Report {
    let session = v1::Session {
        state: v1::SessionState::Closed.into(),
        end_time: Some(Timestamp {
            seconds: 1_767_230_000,
            nanos: 0,
        }),
        ..session(3)
    };
    changed_report(session, revision)
}

on_both! {

async fn a_session_is_told_until_it_ends(database) {
    let collector = database.collector().await;
    let mut ingest = collector.ingest().await;
    let begun = vec![
        session_report(3, 1), command_report(3, 1), command_report(3, 2), end_report(3, 1),
        activity_report(3, 4), session_report(6, 1), command_report(6, 5),
    ];
    ingest.report(batch(begun)).await.unwrap();
    let mut pieces = tail(&collector, of(3)).await.unwrap();
    let mut told = Told::default();
    told.until(&mut pieces, |told| told.caught_up).await;
    assert_eq!(told.states(), [v1::SessionState::Active]);
    assert_eq!((told.commands(), &*told.activities), (vec![1, 2], &[4][..]));
    assert_eq!(told.commands[0].exit_code, Some(1));
    assert_eq!(told.commands[1].exit_code, None);
    // Without a report of the session itself.
    ingest.report(batch(vec![command_report(3, 6), activity_report(3, 7)])).await.unwrap();
    told.until(&mut pieces, |told| told.commands.len() == 3 && told.activities.len() == 2).await;
    let before = told.token.clone();
    // What is known already is no news.
    ingest.report(batch(vec![command_report(3, 6), ended(2)])).await.unwrap();
    told.until(&mut pieces, |told| told.states().last() == Some(&v1::SessionState::Closed)).await;
    // An agent's last request.
    ingest.report(batch(vec![command_report(3, 9)])).await.unwrap();
    while told.next(&mut pieces).await {}
    assert_eq!((told.commands(), &*told.activities), (vec![1, 2, 6, 9], &[4, 7][..]));
    assert_eq!(told.states(), [v1::SessionState::Active, v1::SessionState::Closed]);

    // After the end, what came late is told to who asks again.
    ingest.report(batch(vec![command_report(3, 11)])).await.unwrap();
    let again = |token: &str| v1::TailSessionRequest { resume_token: token.into(), ..of(3) };
    let late = Told::all(tail(&collector, again(&told.token)).await.unwrap()).await;
    assert_eq!((late.commands(), &*late.activities), (vec![11], &[][..]));
    let missed = Told::all(tail(&collector, again(&before)).await.unwrap()).await;
    assert_eq!(missed.commands(), [9, 11]);
    assert_eq!(missed.states(), [v1::SessionState::Closed]);
    let whole = Told::all(tail(&collector, of(3)).await.unwrap()).await;
    assert_eq!(whole.commands(), [1, 2, 6, 9, 11]);
    assert!(whole.caught_up);
    collector.stop().await;
}

async fn who_wants_only_news_gets_those_of_every_collector(database) {
    let collector = database.collector().await;
    let mut ingest = collector.ingest().await;
    let begun = vec![session_report(3, 1), command_report(3, 1), activity_report(3, 2)];
    ingest.report(batch(begun)).await.unwrap();
    let new_only = v1::TailSessionRequest { new_only: true, ..of(3) };
    let mut pieces = tail(&collector, new_only).await.unwrap();
    let mut told = Told::default();
    assert!(told.next(&mut pieces).await);
    assert!(told.caught_up && told.commands.is_empty() && told.activities.is_empty());
    assert_eq!(told.states(), [v1::SessionState::Active]);
    let begin = told.token.clone();
    let other = database.collector().await;
    let mut others = other.ingest().await;
    others.report(batch(vec![command_report(3, 4), activity_report(3, 5)])).await.unwrap();
    told.until(&mut pieces, |told| told.commands() == [4] && told.activities == [5]).await;
    // On another collector over the same database, from the same place.
    let resumed = v1::TailSessionRequest { resume_token: begin, ..of(3) };
    let mut pieces = tail(&other, resumed).await.unwrap();
    let mut told = Told::default();
    told.until(&mut pieces, |told| told.caught_up).await;
    assert_eq!((told.commands(), &*told.activities), (vec![4], &[5][..]));
    for token in ["other-1.1.1", "nonsense"] {
        let anew = v1::TailSessionRequest { resume_token: token.into(), ..of(3) };
        let mut pieces = tail(&collector, anew).await.unwrap();
        let mut told = Told::default();
        told.until(&mut pieces, |told| told.caught_up).await;
        assert_eq!((told.commands(), &*told.activities), (vec![1, 4], &[2, 5][..]), "{token}");
    }
    other.stop().await;
    collector.stop().await;
    // The stream ends with its collector, though the session goes on.
    while let Ok(Some(_)) = pieces.message().await {}
}

async fn many_commands_come_once_and_in_order(database) {
    let collector = database.collector().await;
    let mut ingest = collector.ingest().await;
    ingest.report(batch(vec![session_report(3, 1)])).await.unwrap();
    let pieces = tail(&collector, of(3)).await.unwrap();
    let reporting = async {
        for part in 0..12 {
            let reports = (1..=100).map(|seq| command_report(3, part * 100 + seq)).collect();
            ingest.report(batch(reports)).await.unwrap();
        }
        ingest.report(batch(vec![ended(2)])).await.unwrap();
    };
    let (told, ()) = tokio::join!(Told::all(pieces), reporting);
    assert_eq!(told.commands(), (1..=1200).collect::<Vec<u64>>());
    // As many that are there already.
    let told = Told::all(tail(&collector, of(3)).await.unwrap()).await;
    assert_eq!(told.commands(), (1..=1200).collect::<Vec<u64>>());
    collector.stop().await;
}

async fn a_session_that_is_not_there_is_not_found(database) {
    let collector = database.collector().await;
    let refused = tail(&collector, of(99)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused}");
    let wrong = v1::TailSessionRequest { name: "sessions/x".into(), ..Default::default() };
    let refused = tail(&collector, wrong).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    collector.stop().await;
}

async fn the_session_of_another_tenant_is_not_found(database) {
    let authority = Authority::new();
    let files = authority.write(database.folder.path());
    let access = Access { tls: Some(Arc::new(Tls::load(files).unwrap())), ..Access::default() };
    let collector = Collector::start_with(&database.location, "127.0.0.1:0", access).await;
    let connect = async |id: &str| {
        let identity = authority.client(id);
        authority.connect(&collector, Some(identity)).await.unwrap()
    };
    let agent = connect(&format!("spiffe://acme/auditty/agent/{HOST}")).await;
    let mut ingest = IngestServiceClient::new(agent);
    ingest.report(batch(vec![session_report(4, 1), command_report(4, 1)])).await.unwrap();
    let viewer = connect("spiffe://acme/auditty/viewer/x").await;
    let seen = SessionServiceClient::new(viewer).tail_session(of(4)).await.unwrap();
    assert_eq!(Told::all(seen.into_inner()).await.commands(), [1]);
    let viewer = connect("spiffe://evil/auditty/viewer/x").await;
    let refused = SessionServiceClient::new(viewer).tail_session(of(4)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused}");
    collector.stop().await;
}

}
