//! A disk that fails: `strace` lets system calls of a child process fail.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use auditty_agent::delivery::{Spool, SpoolOptions};
use auditty_recording::event::Body;

use crate::common::*;

const CHILD: &str = "AUDITTY_TEST_INJECTED";

/// Runs [`child`] in a folder, with these system calls failing.
fn run(bench: &Bench, inject: &[&str]) -> String {
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync,fsync,write,openat,rename",
    ]);
    for inject in inject {
        command.args(["-e", inject]);
    }
    let output = command
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "injected::child",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, bench.folder.path())
        .output()
        .expect("strace is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn child() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let folder = Path::new(&folder);
    let options = SpoolOptions {
        directory: folder.join("spool"),
        keys_directory: folder.join("keys"),
        chunk_interval: Duration::from_millis(400),
        flush_interval: Duration::from_millis(20),
        ..Bench::in_memory().options()
    };
    let url = format!("file://{}", folder.join("store").display());
    // The runtime's own writes are no matter of the spool.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(Bench::in_memory().store_at(&url));
    drop(runtime);
    // A disk that fails now and then also fails at the start.
    let (mut spool, _) = loop {
        match Spool::open(options.clone(), store.clone(), None) {
            Ok(opened) => break opened,
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    };
    let mut takers: Vec<_> = Vec::new();
    let begin = Instant::now();
    let mut number = 0;
    while begin.elapsed() < Duration::from_secs(2) {
        if takers.len() < 3 {
            takers.push(Taker::begin_when_possible(&mut spool));
        }
        for taker in &mut takers {
            taker.give(&mut spool, marker(number));
        }
        number += 1;
        spool.tick(Instant::now());
        for (id, note) in spool.take_notes() {
            if let Some(taker) = takers.iter_mut().find(|taker| taker.id() == id) {
                taker.note(&mut spool, note);
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
    let mut until = |what: &str, done: &mut dyn FnMut(&mut Spool) -> bool| {
        let begin = Instant::now();
        while !done(&mut spool) {
            assert!(begin.elapsed() < DEADLINE, "not in time: {what}");
            thread::sleep(Duration::from_millis(5));
            spool.tick(Instant::now());
        }
    };
    for taker in &mut takers {
        until("the last gap", &mut |spool| taker.declare(spool));
        until("the end", &mut |spool| {
            taker.finish(spool);
            true
        });
    }
    until("the manifests", &mut |_| {
        let manifest = |id| {
            folder
                .join(format!("spool/sessions/{id}/manifest.json"))
                .exists()
        };
        takers.iter().map(Taker::id).all(manifest)
    });
    for taker in &takers {
        let given = folder.join(taker.id().to_string());
        while fs::write(&given, taker.given.to_string()).is_err() {}
    }
}

/// Every session is in the store, whole or with its losses declared; the markers
/// that the spool left on timelines.
async fn settled(bench: &Bench) -> Vec<String> {
    let (spool, _) = bench.spool().await;
    let store = bench.store().await;
    deliver(spool, &store).await;
    assert_verified(&store).await;
    assert!(names(&bench.path("spool/quarantine")).is_empty());
    let mut notes = Vec::new();
    let mut sessions = 0;
    for name in names(bench.folder.path()) {
        let Ok(id) = name.parse() else { continue };
        let given: u64 = fs::read_to_string(bench.path(&name))
            .unwrap()
            .parse()
            .unwrap();
        let events = events(&stored(&bench.path("store"), id).unwrap());
        let (recorded, declared) = account(&events);
        assert_eq!(recorded + declared, given, "{id}");
        println!("{id}: {recorded} recorded, {declared} declared");
        notes.extend(events.into_iter().filter_map(|event| match event.body {
            Body::Marker(marker) if marker.marker != "test" => Some(marker.marker),
            _ => None,
        }));
        sessions += 1;
    }
    assert_eq!(sessions, 3);
    notes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_is_not_trusted_and_nothing_is_lost() {
    let bench = Bench::in_memory();
    run(&bench, &["inject=fdatasync:error=EIO:when=3+9"]);
    let notes = settled(&bench).await;
    assert!(
        notes.iter().any(|note| note == "spool_rewritten"),
        "{notes:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_sync_may_fail() {
    let bench = Bench::in_memory();
    run(&bench, &["inject=fdatasync,fsync:error=EIO:when=20+7"]);
    settled(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_may_find_no_room() {
    let bench = Bench::in_memory();
    run(&bench, &["inject=write:error=ENOSPC:when=40..700+13"]);
    settled(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_may_be_refused_for_every_reason() {
    // No file descriptor is left; a quota is used up; now and then.
    for inject in [
        "inject=openat:error=EMFILE:when=200..1500+7",
        "inject=openat,write:error=EDQUOT:when=300..1500+11",
    ] {
        let bench = Bench::in_memory();
        run(&bench, &[inject]);
        settled(&bench).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_may_be_read_only_for_a_while() {
    let bench = Bench::in_memory();
    let begin = Instant::now();
    run(
        &bench,
        &["inject=openat,write,rename,fdatasync,fsync:error=EROFS:when=600..900"],
    );
    // Every refused call is one that was tried: a spool that does not rest has
    // used them up at once, one that waits for ever never ends.
    println!("{:?}", begin.elapsed());
    settled(&bench).await;
}
