//! `kill -9`, again and again, while sessions are busy.
//!
//! A child takes numbers from a source that goes on where it is told to, as the
//! kernel's rings do, and records each in every session. It is killed at random
//! moments; the next child goes on where the journal says. In the end every
//! recording holds every number once.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use auditty_agent::delivery::{Journaled, Point, Spool, SpoolOptions};
use auditty_recording::event::Body;
use auditty_recording::session::Verdict;
use tokio_util::sync::CancellationToken;

use crate::common::*;
use crate::encrypted::Auditors;

const CHILD: &str = "AUDITTY_TEST_KILLS_CHILD";

/// How many sessions are busy; a soak has more.
fn session_count() -> usize {
    let count = std::env::var("AUDITTY_TEST_KILL_SESSIONS");
    count.map_or(10, |count| count.parse().unwrap())
}

const RINGS: &str = "rings";

/// How many times; a soak has more.
fn kills() -> u32 {
    let kills = std::env::var("AUDITTY_TEST_KILLS");
    kills.map_or(15, |kills| kills.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let folder = Path::new(&folder);
    let bench = Bench::in_memory();
    let options = SpoolOptions {
        encryption: Auditors::of(folder).map(|auditors| auditors.recipients()),
        directory: folder.join("spool"),
        keys_directory: folder.join("keys"),
        chunk_interval: Duration::from_millis(300),
        flush_interval: Duration::from_millis(50),
        ..bench.options()
    };
    let url = format!("file://{}", folder.join("store").display());
    let store = bench.store_at(&url).await;
    let before = Journaled::read(&options.directory).filter(|j| j.is_of("b1", RINGS));
    let mut step = before
        .as_ref()
        .map_or(0, |j| j.handover().marks.data.cursor);
    let first = before.is_none();
    if first {
        // Killed before its first checkpoint: nothing was taken from the source.
        for name in ["spool", "store", "keys"] {
            let _ = fs::remove_dir_all(folder.join(name));
        }
    }
    let (mut spool, resumable) = Spool::open(options, store.clone(), before.as_ref()).unwrap();
    spool.begin_journal(Some(RINGS), before).unwrap();
    let stop = CancellationToken::new();
    upload(&spool, store, &stop);
    let mut takers: Vec<_> = resumable.into_iter().map(Taker::resume).collect();
    if first {
        takers.extend((0..session_count()).map(|_| Taker::begin(&mut spool)));
    }
    assert_eq!(takers.len(), session_count());
    let last = fs::read_to_string(folder.join("last")).is_ok();
    let begin = Instant::now();
    let mut committed = Instant::now();
    loop {
        for taker in &mut takers {
            taker.give(&mut spool, marker(u32::try_from(step).unwrap()));
        }
        step += 1;
        let over = last && begin.elapsed() > Duration::from_secs(1);
        if over {
            for taker in &mut takers {
                taker.record.session.verdict = Verdict::Complete;
                taker.finish(&mut spool);
            }
        }
        if over || committed.elapsed() > Duration::from_millis(20) {
            committed = Instant::now();
            let mut marks = auditty_agent::capture::ring::Marks::default();
            marks.data.cursor = step;
            spool.commit(&Point {
                marks,
                declared: None,
                connections: Default::default(),
            });
            spool.tick(Instant::now());
        }
        if over {
            break;
        }
        thread::sleep(Duration::from_micros(500));
    }
    spool.close();
    until(&mut spool, "delivery", |spool| spool.uploads().is_empty()).await;
    fs::write(folder.join("steps"), step.to_string()).unwrap();
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_recorded_once_wherever_the_agent_dies() {
    killed_again_and_again(&Bench::in_memory(), None, kills()).await;
}

/// The agents cannot read what they take over.
#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_recorded_once_encrypted_as_well() {
    let bench = Bench::in_memory();
    let auditors = Auditors::begin(bench.folder.path());
    killed_again_and_again(&bench, Some(&auditors), kills() / 2).await;
}

async fn killed_again_and_again(bench: &Bench, auditors: Option<&Auditors>, kills: u32) {
    let run = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "kills::child", "--nocapture", "--test-threads=1"])
            .env(CHILD, bench.folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    for kill in 0..kills {
        let mut child = run().spawn().unwrap();
        // Spread over a sync, a seal, an upload, and a start.
        let alive = Duration::from_millis(60 + u64::from(kill) * 7919 % 400);
        thread::sleep(alive);
        assert!(
            child.try_wait().unwrap().is_none(),
            "it died by itself: {:?}",
            child.wait_with_output()
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }
    fs::write(bench.path("last"), "").unwrap();
    let output = run().output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let steps: u64 = fs::read_to_string(bench.path("steps"))
        .unwrap()
        .parse()
        .unwrap();

    let (spool, resumable) = bench.spool().await;
    assert!(resumable.is_empty());
    let store = bench.store().await;
    deliver(spool, &store).await;
    let report = assert_verified(&store).await;
    assert_eq!(report.sealed_sessions, session_count() as u64);
    let keys = auditty_recording::reader::session_keys(&store, &Default::default()).await;
    for key in keys.unwrap() {
        let folder = stored(&bench.path("store"), key.session_id()).unwrap();
        let events = match auditors {
            Some(auditors) => auditors.events(&folder),
            None => events(&folder),
        };
        let numbers = events.into_iter().filter_map(|event| match event.body {
            Body::Marker(marker) if marker.marker == "test" => Some(marker.message),
            Body::Gap(gap) => Some(format!("{gap:?}")),
            _ => None,
        });
        let expected = (0..steps).map(|number| format!("number {number}"));
        assert!(numbers.eq(expected), "{}", key.session_id());
    }
    println!(
        "{} kills, {} sessions, {steps} events each, once",
        kills,
        session_count()
    );
}
