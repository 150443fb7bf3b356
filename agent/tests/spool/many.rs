//! Many sessions at once.

use std::time::{Duration, Instant};

use auditty_agent::delivery::Spool;
use auditty_agent::delivery::SpoolOptions;
use auditty_agent::sessions::sink::SessionRecord;

use crate::common::*;

/// What a recovery may take on a quiet machine is 5 s; this one is not quiet.
const RECOVERY: Duration = Duration::from_secs(10);

/// The recorder must never wait longer for the disk: the kernel's rings hold
/// some seconds.
const STALL: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_open_sessions_are_taken_over_in_seconds() {
    const SESSIONS: usize = 1000;
    let bench = Bench::new();
    let (mut spool, _) = bench.spool().await;
    let mut records: Vec<_> = (0..SESSIONS).map(|_| begin(&mut spool)).collect();
    for record in &mut records {
        emit(&mut spool, record, exec("one"));
        emit(&mut spool, record, marker(1));
    }
    let last = bench.session_folder(records.last().unwrap());
    until(&mut spool, "the first sync", |_| {
        let open = last.join("open.jsonl.zst");
        open.metadata().is_ok_and(|file| file.len() > 0)
    })
    .await;
    // The host goes down.
    drop(spool);
    let options = SpoolOptions {
        boot_id: "b2".into(),
        ..bench.options()
    };
    let store = bench.store().await;
    let begin = Instant::now();
    let (_spool, resumable) = Spool::open(options, store, None).unwrap();
    let took = begin.elapsed();
    println!("{SESSIONS} open sessions were taken over in {took:?}");
    assert_eq!(resumable.len(), SESSIONS);
    assert!(resumable.iter().all(|record| record.next_seq == 4));
    assert!(names(&bench.path("spool/quarantine")).is_empty());
    assert!(took < RECOVERY, "{took:?}");
}

/// Other tests use the same disk: one quiet moment of three shows it.
#[tokio::test(flavor = "multi_thread")]
async fn the_recorder_does_not_wait_for_the_disk_session_by_session() {
    const TRIES: usize = 3;
    let mut longest = Vec::new();
    for _ in 0..TRIES {
        let waited = longest_wait_of_busy_sessions().await;
        if waited < STALL {
            return;
        }
        longest.push(waited);
    }
    panic!("the recorder waits each time: {longest:?}");
}

async fn longest_wait_of_busy_sessions() -> Duration {
    const SESSIONS: usize = 200;
    let bench = Bench::new();
    let options = SpoolOptions {
        chunk_interval: Duration::from_secs(1),
        flush_interval: Duration::from_millis(500),
        ..bench.options()
    };
    let (mut spool, _) = Spool::open(options, bench.store().await, None).unwrap();
    let mut records: Vec<_> = (0..SESSIONS).map(|_| begin(&mut spool)).collect();
    let (mut longest, mut total) = (Duration::ZERO, Duration::ZERO);
    let start = Instant::now();
    let mut events = 0;
    while start.elapsed() < Duration::from_secs(4) {
        for record in &mut records {
            emit(&mut spool, record, marker(1));
            events += 1;
        }
        let begin = Instant::now();
        spool.tick(begin);
        let took = begin.elapsed();
        longest = longest.max(took);
        total += took;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!(
        "{SESSIONS} busy sessions, {events} events: the recorder waited at most {longest:?}, {total:?} in all"
    );
    let sealed = |record: &SessionRecord| {
        let folder = bench.session_folder(record);
        folder.join("000000.json").exists()
    };
    until(&mut spool, "the first chunk of each is sealed", |_| {
        records.iter().all(sealed)
    })
    .await;
    longest
}
