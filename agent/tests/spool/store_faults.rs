//! A real S3 server behind a layer that fails.
//!
//! It needs `AUDITTY_TEST_S3_ENDPOINT`, `AUDITTY_TEST_S3_BUCKET` and AWS
//! credentials, which `cargo xtask test` provides.

mod layer;
mod planned;

use std::sync::Arc;
use std::time::{Duration, Instant};

use auditty_agent::delivery::Spool;
use auditty_recording::store::{AnyStore, S3Options, StoreConfig};
use tokio_util::sync::CancellationToken;

use crate::common::*;
use layer::{Fault, Layer};

/// Where the S3 server is, or a printed reason why there is none.
fn server() -> Option<(String, String)> {
    let read = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let found = read("AUDITTY_TEST_S3_ENDPOINT").zip(read("AUDITTY_TEST_S3_BUCKET"));
    if found.is_none() {
        eprintln!("skipped: AUDITTY_TEST_S3_ENDPOINT and AUDITTY_TEST_S3_BUCKET are not set");
    }
    found
}

async fn store(endpoint: &str, bucket: &str, prefix: &str) -> AnyStore {
    let config = StoreConfig {
        url: format!("s3://{bucket}/{prefix}").parse().unwrap(),
        s3: S3Options {
            endpoint_url: Some(endpoint.to_owned()),
            region: Some("us-east-1".into()),
            path_style: true,
            ..S3Options::default()
        },
    };
    config.open().await.unwrap()
}

fn prefix() -> String {
    format!("faults/{}", uuid::Uuid::now_v7())
}

/// Sessions of some chunks; the markers in each.
fn sessions(spool: &mut Spool, count: usize) -> Vec<Taker> {
    let mut takers: Vec<_> = (0..count).map(|_| Taker::begin(spool)).collect();
    for _ in 0..3 {
        for taker in &mut takers {
            for number in 0..5 {
                assert!(taker.give(spool, marker(number)));
            }
        }
        spool.close();
    }
    for taker in &mut takers {
        taker.finish(spool);
    }
    takers
}

/// Whether the store has all of a session.
async fn has(store: &AnyStore, taker: &Taker) -> bool {
    let wanted = format!("session={}/SHA256SUMS", taker.id());
    let listed = store.list("v1/").await.unwrap();
    listed.iter().any(|object| object.key.ends_with(&wanted))
}

async fn assert_whole(store: &AnyStore, takers: &[Taker]) {
    let report = assert_verified(store).await;
    assert_eq!(report.sealed_sessions, takers.len() as u64);
    for taker in takers {
        let keys = auditty_recording::reader::session_keys(store, &Default::default()).await;
        let mut keys = keys.unwrap();
        keys.retain(|key| key.session_id() == taker.id());
        let recording =
            auditty_recording::reader::Recording::open(Arc::clone(store), keys.remove(0));
        let counts = recording.await.unwrap().session().counts;
        assert_eq!((counts.events, counts.gaps), (taker.given + 1, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_survived_and_each_object_is_stored_once() {
    let Some((endpoint, bucket)) = server() else {
        return;
    };
    let faults = [
        Fault::Status(503, "SlowDown"),
        Fault::Reset,
        Fault::ResetMidBody,
        Fault::LoseAnswer,
        Fault::None,
        Fault::Status(500, "InternalError"),
        Fault::Status(403, "RequestTimeTooSkewed"),
        Fault::Slow(Duration::from_millis(700)),
        Fault::Status(400, "ExpiredToken"),
        Fault::LoseAnswer,
        Fault::Status(409, "ConditionalRequestConflict"),
        Fault::None,
    ];
    // Every third request fails, in another way each time.
    let layer = Layer::start(&endpoint, move |_, number| match number % 3 {
        0 => faults[number / 3 % faults.len()],
        _ => Fault::None,
    })
    .await;
    let prefix = prefix();
    let bench = Bench::in_memory();
    let (mut spool, _) = bench.spool().await;
    let takers = sessions(&mut spool, 2);
    let begin = Instant::now();
    deliver(spool, &store(&layer.endpoint, &bucket, &prefix).await).await;
    println!(
        "2 sessions delivered through {} requests in {:?}",
        layer.requests(),
        begin.elapsed()
    );
    assert_whole(&store(&endpoint, &bucket, &prefix).await, &takers).await;
    assert!(names(&bench.path("spool/quarantine")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_of_some_sessions_does_not_delay_another() {
    let Some((endpoint, bucket)) = server() else {
        return;
    };
    let prefix = prefix();
    let bench = Bench::in_memory();
    let (mut spool, _) = bench.spool().await;
    let takers = sessions(&mut spool, 31);
    // Of thirty, the store takes nothing: a quarter hangs, the others are denied.
    // They are older than the last.
    let ids: Vec<String> = takers.iter().map(|taker| taker.id().to_string()).collect();
    let good = ids[30].clone();
    let layer = Layer::start(&endpoint, move |path, _| {
        let hangs = |id: &String| path.contains(id.as_str()) && id.as_bytes()[35].is_multiple_of(4);
        if path.contains(&good) || !path.contains("session") {
            Fault::None
        } else if ids.iter().any(hangs) {
            Fault::Hang
        } else {
            Fault::Status(403, "AccessDenied")
        }
    })
    .await;
    let direct = store(&endpoint, &bucket, &prefix).await;
    let stop = CancellationToken::new();
    upload(
        &spool,
        store(&layer.endpoint, &bucket, &prefix).await,
        &stop,
    );
    let begin = Instant::now();
    while !has(&direct, &takers[30]).await {
        assert!(begin.elapsed() < DEADLINE, "it is held up");
        tokio::time::sleep(Duration::from_millis(50)).await;
        spool.tick(Instant::now());
    }
    let took = begin.elapsed();
    println!("a session behind 30 that cannot be stored was stored in {took:?}");
    stop.cancel();
    for taker in &takers[..30] {
        assert!(!has(&direct, taker).await);
        let folder = bench.session_folder(&taker.record);
        assert!(
            folder.join("000000.jsonl.zst").exists(),
            "nothing is deleted unacknowledged"
        );
    }
    // The store takes them again, and the next agent brings them.
    drop(spool);
    let (spool, _) = bench.spool().await;
    deliver(spool, &direct).await;
    assert_whole(&direct, &takers).await;
}
