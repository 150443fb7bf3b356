//! Hosts that fall silent, and come back.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::common::*;
use auditty_collector::{
    Access, Store,
    hearing::close_silent,
    store::{Batch, Fact, GoingOn, Heard, HostName, Scope},
};
use auditty_proto::{convert, filter::Filter, names, v1};
use jiff::{SignedDuration, Timestamp};

const SILENCE: Duration = Duration::from_secs(600);

fn host() -> HostName {
    HostName {
        tenant: String::new(),
        host_id: HOST.to_owned(),
    }
}

fn heard(time: Timestamp) -> BTreeMap<HostName, Heard> {
    let boot_id = "boot".to_owned();
    BTreeMap::from([(
        host(),
        Heard {
            boot_id,
            time,
            report: None,
        },
    )])
}

async fn apply(store: &Store, sessions: Vec<(i64, v1::Session)>) {
    let facts = sessions
        .into_iter()
        .map(|(revision, session)| Fact::Session {
            revision,
            id: names::parse_session_id(&session.session_id).unwrap(),
            session: Box::new(session),
        });
    let batch = Batch {
        host_id: HOST.into(),
        tenant: String::new(),
        facts: facts.collect(),
        receipts: Vec::new(),
        causes: Vec::new(),
    };
    store.apply(&batch).await.unwrap();
}

async fn find(store: &Store, filter: &str) -> Vec<v1::Session> {
    let filter = Filter::sessions(filter).unwrap();
    let found = store
        .sessions(&Scope::All, &filter, GoingOn::default(), None, 100)
        .await;
    found.unwrap().items
}

on_both! {
    async fn sessions_of_a_silent_host_are_closed_until_it_is_back(database) {
        let store = database.open().await;
        let now = Timestamp::now();
        let at = |minutes: i64| now + SignedDuration::from_mins(minutes);
        // Two go on, and one has ended.
        apply(&store, vec![(1, session(3)), (1, session(6)), (1, session(4))]).await;
        store.note_heard(&heard(at(0))).await.unwrap();
        assert_eq!(close_silent(&store, SILENCE, at(9)).await.unwrap(), 0);
        assert_eq!(close_silent(&store, SILENCE, at(11)).await.unwrap(), 2);
        assert_eq!(close_silent(&store, SILENCE, at(12)).await.unwrap(), 0);
        let silent = "end_reason = host_silent AND state = closed AND verdict = interrupted";
        let closed = find(&store, silent).await;
        assert_eq!(closed.len(), 2);
        for session in &closed {
            assert_eq!(session.end_time, Some(convert::timestamp(at(0))));
            assert_eq!(session.end_reason(), v1::EndReason::HostSilent);
        }
        assert!(find(&store, "state = active").await.is_empty());
        // It is back, with sessions as they were.
        let back = store.note_heard(&heard(at(13))).await.unwrap();
        assert_eq!(back, [(host(), 2)]);
        let mut active = find(&store, "state = active").await;
        active.sort_by_key(|session| session.session_id.clone());
        assert_eq!(active, [session(3), session(6)]);
        assert!(find(&store, silent).await.is_empty());
        // It falls silent again, and what it reports then is the truth.
        assert_eq!(close_silent(&store, SILENCE, at(30)).await.unwrap(), 2);
        let mut ended = session(3);
        ended.set_state(v1::SessionState::Closed);
        ended.set_end_reason(v1::EndReason::Exited);
        ended.end_time = Some(convert::timestamp(at(29)));
        apply(&store, vec![(2, ended.clone()), (1, session(6))]).await;
        assert_eq!(store.note_heard(&heard(at(31))).await.unwrap(), [(host(), 2)]);
        let id = names::parse_session_id(&ended.session_id).unwrap();
        assert_eq!(store.session(&Scope::All, id).await.unwrap(), Some(ended));
        assert_eq!(find(&store, "state = active").await, [session(6)]);
        assert_eq!(store.note_heard(&heard(at(32))).await.unwrap(), []);
        assert_eq!(store.last_heard(&host()).await.unwrap(), Some(at(32)));
        store.close().await;
    }

    async fn a_host_without_news_is_heard_of_all_the_same(database) {
        let access = Access { silence: Some(SILENCE), ..Access::default() };
        let collector = Collector::start_with(&database.location, "127.0.0.1:0", access).await;
        let before = Timestamp::now();
        collector.ingest().await.report(batch(Vec::new())).await.unwrap();
        let begin = Instant::now();
        let heard = loop {
            if let Some(heard) = collector.store.last_heard(&host()).await.unwrap() {
                break heard;
            }
            assert!(begin.elapsed() < Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(heard >= before && heard <= Timestamp::now());
        collector.stop().await;
    }
}
