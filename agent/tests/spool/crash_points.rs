//! Power loss at every point.
//!
//! A child process records three sessions and uploads them, under `strace`,
//! which tells every call that changes a file, with its bytes. From that the
//! disk of the spool is rebuilt as it may look when the power goes at each of
//! these calls: with nothing but what was synced, and with more than that. Every
//! such disk has to open without help, hold everything that was synced, and end
//! in a recording that verifies.

mod disk;
mod trace;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditty_agent::delivery::{Spool, SpoolOptions};
use auditty_recording::verify::{Known, Scope, verify};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::common::*;
use disk::{Disk, Loss};

const CHILD: &str = "AUDITTY_TEST_CRASH_POINTS";

/// Points are many, and each costs some tens of milliseconds: so many are taken,
/// spread over all, with another kind of loss each time. A soak takes all of them,
/// with every kind of loss.
const POINTS: usize = 32;

/// The losses to be tried at a point, of so many.
fn losses(number: usize, of: usize) -> Vec<Loss> {
    let every = (of / POINTS).max(1);
    match std::env::var_os("AUDITTY_TEST_ALL_CRASH_POINTS") {
        Some(_) => Loss::ALL.to_vec(),
        None if number.is_multiple_of(every) => vec![Loss::ALL[number / every % Loss::ALL.len()]],
        None => Vec::new(),
    }
}

fn options(folder: &Path) -> SpoolOptions {
    SpoolOptions {
        directory: folder.join("spool"),
        // What is signed is another matter.
        keys_directory: folder.join("keys"),
        chunk_interval: Duration::from_millis(150),
        flush_interval: Duration::from_millis(30),
        reserve: 4096,
        ..Bench::in_memory().options()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let folder = Path::new(&folder);
    let bench = Bench::in_memory();
    let store = bench
        .store_at(&format!("file://{}", folder.join("store").display()))
        .await;
    let (mut spool, _) = Spool::open(options(folder), Arc::clone(&store), None).unwrap();
    let stop = CancellationToken::new();
    upload(&spool, store, &stop);
    let mut takers: Vec<Taker> = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(700) {
        if takers.len() < 3 {
            takers.push(Taker::begin(&mut spool));
        }
        for taker in &mut takers {
            taker.give(&mut spool, marker(1));
        }
        if begin.elapsed() > Duration::from_millis(400)
            && takers[0].record.session.end_time.is_none()
        {
            let mut ended = takers.remove(0);
            ended.finish(&mut spool);
            takers.push(Taker::begin(&mut spool));
        }
        spool.tick(Instant::now());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
}

/// Takes over what a power loss left, ends and delivers it: how far each
/// recording reaches.
async fn recovered(folder: &Path, point: &str) -> BTreeMap<Uuid, u64> {
    let bench = Bench::in_memory();
    let url = format!("file://{}", folder.join("store").display());
    let store = bench.store_at(&url).await;
    let options = SpoolOptions {
        boot_id: "after".into(),
        flush_interval: Duration::ZERO,
        ..options(folder)
    };
    let (mut spool, resumable) = Spool::open(options, Arc::clone(&store), None)
        .unwrap_or_else(|error| panic!("{point}: {error}"));
    for record in resumable {
        Taker::resume(record).finish(&mut spool);
    }
    deliver(spool, &store).await;
    let report = verify(&store, &Scope::All, &Known::default(), &|_| {})
        .await
        .unwrap();
    assert!(report.is_verified(), "{point}: {report:#?}");
    assert_eq!(
        report.open_sessions, 0,
        "{point}: every recording ends: {report:#?}"
    );
    let mut reach = BTreeMap::new();
    let keys = auditty_recording::reader::session_keys(&store, &Default::default()).await;
    for key in keys.unwrap() {
        let recording = auditty_recording::reader::Recording::open(Arc::clone(&store), key).await;
        let manifest = recording.unwrap().manifest().cloned().expect("a manifest");
        let last = manifest.chunks.last().map_or(0, |chunk| chunk.last_seq);
        reach.insert(manifest.session.session_id, last);
    }
    reach
}

#[tokio::test(flavor = "multi_thread")]
async fn power_may_fail_at_any_point() {
    let bench = Bench::in_memory();
    let folder = bench.path("host");
    fs::create_dir_all(&folder).unwrap();
    let log = bench.path("trace");
    let output = Command::new("strace")
        .args(["-f", "-y", "-x", "-qq", "-s", "10000000", "-o"])
        .arg(&log)
        .args(["-e", &format!("trace={}", trace::CALLS)])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "crash_points::child", "--test-threads=1"])
        .env(CHILD, &folder)
        .output()
        .expect("strace is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );

    let calls = trace::read(&fs::read_to_string(&log).unwrap(), &folder);
    let mut disk = Disk::new(&folder);
    let (mut tried, mut synced) = (0, BTreeMap::new());
    let begin = Instant::now();
    for (number, call) in calls.iter().enumerate() {
        disk.apply(call);
        for (id, seq) in disk.synced_events(call) {
            let known = synced.entry(id).or_insert(seq);
            *known = seq.max(*known);
        }
        for loss in losses(number, calls.len()) {
            let point = format!("after call {number} of {}, {call:?}, {loss:?}", calls.len());
            // Not the folder of a point before: its uploads may not have heard
            // yet that they are over.
            let after = bench.path(&format!("after-{tried}"));
            disk.write(&after, loss);
            let reach = recovered(&after, &point).await;
            for (id, seq) in &synced {
                let reached = reach.get(id).copied().unwrap_or(0);
                assert!(
                    reached >= *seq,
                    "{point}: {id} was synced to {seq}, {reached} are there"
                );
            }
            // Zeros are damage. Otherwise a record that was not durable yet may be
            // set aside, and what had nothing synced yet.
            let mut quarantined = names(&after.join("spool/quarantine"));
            quarantined.retain(|name| {
                let begun = |id: &Uuid| name.contains(&id.to_string());
                synced.keys().any(begun) && !name.ends_with("-record.json")
            });
            assert!(
                loss == Loss::Zeros || quarantined.is_empty(),
                "{point}: {quarantined:?}"
            );
            fs::remove_dir_all(&after).unwrap();
            tried += 1;
        }
    }
    println!(
        "{tried} of {} points tried in {:?}; {} sessions had events synced",
        calls.len(),
        begin.elapsed(),
        synced.len()
    );
    assert!(tried >= POINTS && synced.len() >= 3, "{tried}");
}
