//! A store that is away for days: everything waits, nothing grows in memory.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditty_agent::delivery::{Spool, SpoolOptions};
use tokio_util::sync::CancellationToken;

use crate::common::*;

const CHILD: &str = "AUDITTY_TEST_OUTAGE";

const SESSIONS: usize = 10;

/// Of an outage, hours. The clock is the test's, so they pass in seconds.
fn hours() -> u32 {
    let hours = std::env::var("AUDITTY_TEST_OUTAGE_HOURS");
    hours.map_or(72, |hours| hours.parse().unwrap())
}

/// Chunks that a session seals in an hour.
const CHUNKS_PER_HOUR: u32 = 2;

/// What the allocator keeps back varies.
const GROWTH: u64 = 24 << 20;

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// Incompressible text.
fn noise(number: u32) -> auditty_recording::event::Body {
    let random: String = (0..128)
        .map(|_| uuid::Uuid::now_v7().simple().to_string())
        .collect();
    auditty_recording::event::Body::Marker(auditty_recording::event::Marker {
        marker: "test".into(),
        message: format!("{number} {random}"),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let folder = Path::new(&folder);
    // A file where the store's folder has to be.
    fs::write(folder.join("blocked"), "").unwrap();
    let bench = Bench::in_memory();
    let away = bench
        .store_at(&format!(
            "file://{}",
            folder.join("blocked/store").display()
        ))
        .await;
    let options = SpoolOptions {
        directory: folder.join("spool"),
        keys_directory: folder.join("keys"),
        chunk_interval: Duration::from_secs(3600 / u64::from(CHUNKS_PER_HOUR)),
        ..bench.options()
    };
    let (mut spool, _) = Spool::open(options, Arc::clone(&away), None).unwrap();
    let stop = CancellationToken::new();
    upload(&spool, away, &stop);
    let mut takers: Vec<_> = (0..SESSIONS).map(|_| Taker::begin(&mut spool)).collect();
    let mut now = Instant::now();
    let (begin, mut early) = (now, 0);
    let steps = hours() * CHUNKS_PER_HOUR;
    for step in 0..steps {
        for taker in &mut takers {
            for number in 0..4 {
                assert!(taker.give(&mut spool, noise(number)), "the spool takes it");
            }
        }
        now += Duration::from_secs(3600 / u64::from(CHUNKS_PER_HOUR) + 1);
        spool.tick(now);
        // What is begun beside this thread ends in real time.
        while spool.is_syncing() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            spool.tick(now);
        }
        if step == steps / 6 {
            early = resident_bytes();
        }
    }
    let late = resident_bytes();
    println!(
        "{} hours passed in {:?}: {} KiB resident early, {} KiB at the end",
        hours(),
        begin.elapsed(),
        early >> 10,
        late >> 10
    );
    assert!(late < early + GROWTH, "{early} → {late}");
    for taker in &mut takers {
        taker.finish(&mut spool);
        fs::write(folder.join(taker.id().to_string()), taker.given.to_string()).unwrap();
    }
    stop.cancel();
    spool.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_days_without_a_store() {
    let bench = Bench::in_memory();
    // Alone in a process: its memory is looked at.
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "outage::child",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, bench.folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    print!("{said}");
    let begin = Instant::now();
    let (spool, _) = bench.spool().await;
    let store = bench.store().await;
    deliver(spool, &store).await;
    let report = assert_verified(&store).await;
    assert_eq!(report.sealed_sessions, SESSIONS as u64);
    let mut chunks = 0;
    for name in names(bench.folder.path()) {
        let Ok(id) = name.parse() else { continue };
        let given: u64 = fs::read_to_string(bench.path(&name))
            .unwrap()
            .parse()
            .unwrap();
        let folder = stored(&bench.path("store"), id).unwrap();
        assert_eq!(account(&events(&folder)), (given, 0));
        chunks += names(&folder)
            .iter()
            .filter(|name| name.ends_with(".zst"))
            .count();
    }
    println!(
        "{chunks} chunks delivered and verified in {:?}",
        begin.elapsed()
    );
    assert!(chunks as u32 >= SESSIONS as u32 * hours() * CHUNKS_PER_HOUR);
}
