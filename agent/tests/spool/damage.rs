//! Files of the spool that are not what the agent wrote.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use auditty_agent::sessions::sink::Sink as _;
use auditty_recording::event::Body;
use auditty_recording::verify::{Known, Scope, verify};

use crate::common::*;

/// A session with two sealed chunks and an open one, whose agent died; how many
/// markers were given.
async fn left_behind(bench: &Bench) -> (Taker, u64) {
    let (mut spool, _) = bench.spool().await;
    let mut taker = Taker::begin(&mut spool);
    let open = bench.session_folder(&taker.record).join("open.jsonl.zst");
    for part in 0..3 {
        for number in 0..10 {
            assert!(taker.give(&mut spool, marker(number)));
        }
        spool.changed(&taker.record);
        until(&mut spool, "a sync", |spool| {
            !spool.is_syncing() && open.metadata().is_ok_and(|file| file.len() > 0)
        })
        .await;
        drop(spool);
        if part == 2 {
            break;
        }
        // The next agent seals the chunk.
        let resumable;
        (spool, resumable) = bench.spool().await;
        taker.record = resumable[0].clone();
    }
    let given = taker.given;
    (taker, given)
}

fn spoil(path: &Path) {
    let mut content = fs::read(path).unwrap();
    let middle = content.len() / 2;
    for byte in &mut content[middle..] {
        *byte ^= 0x5a;
    }
    fs::write(path, content).unwrap();
}

/// Takes the session over, ends it and delivers it: recorded, declared.
async fn delivered(bench: &Bench, taker: &Taker) -> (u64, u64) {
    let (mut spool, resumable) = bench.spool().await;
    let [resumed] = resumable.as_slice() else {
        panic!("{resumable:?}")
    };
    assert_eq!(resumed.session.session_id, taker.id());
    let mut resumed = Taker::resume(resumed.clone());
    resumed.finish(&mut spool);
    let store = bench.store().await;
    deliver(spool, &store).await;
    assert_verified(&store).await;
    let events = events(&stored(&bench.path("store"), taker.id()).unwrap());
    let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    account(&events)
}

fn quarantined(bench: &Bench) -> Vec<String> {
    names(&bench.path("spool/quarantine"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_rebuilt_from_the_chunks() {
    let bench = Bench::in_memory();
    let (taker, given) = left_behind(&bench).await;
    let record = bench.session_folder(&taker.record).join("record.json");
    fs::write(&record, "{").unwrap();
    assert_eq!(delivered(&bench, &taker).await, (given, 0));
    let [held] = quarantined(&bench).try_into().unwrap();
    assert!(held.ends_with("-record.json"), "{held}");
    let events = events(&stored(&bench.path("store"), taker.id()).unwrap());
    assert!(events.iter().any(
        |event| matches!(&event.body, Body::Marker(marker) if marker.marker == "record_rebuilt")
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_on_its_way_to_its_name_counts() {
    let bench = Bench::in_memory();
    let (mut spool, _) = bench.spool().await;
    let mut taker = Taker::begin(&mut spool);
    assert!(taker.give(&mut spool, marker(1)));
    spool.changed(&taker.record);
    let folder = bench.session_folder(&taker.record);
    let (record, open) = (folder.join("record.json"), folder.join("open.jsonl.zst"));
    until(&mut spool, "a sync", |spool| {
        !spool.is_syncing() && open.metadata().is_ok_and(|file| file.len() > 0)
    })
    .await;
    drop(spool);
    // What a power loss leaves that comes before the first sync is over.
    fs::rename(&record, folder.join("record.json.new")).unwrap();
    fs::write(&record, "").unwrap();
    fs::write(&open, "").unwrap();
    // The session's beginning, too.
    let lost = taker.given + 1;
    assert_eq!(delivered(&bench, &taker).await, (0, lost));
    assert!(quarantined(&bench).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_seal_is_made_again() {
    let bench = Bench::in_memory();
    let (taker, given) = left_behind(&bench).await;
    spoil(&bench.session_folder(&taker.record).join("000000.json"));
    assert_eq!(delivered(&bench, &taker).await, (given, 0));
    assert!(quarantined(&bench)[0].ends_with("-000000.json"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_open_chunk_is_kept_as_far_as_it_can_be_read() {
    let bench = Bench::in_memory();
    let (taker, given) = left_behind(&bench).await;
    spoil(&bench.session_folder(&taker.record).join("open.jsonl.zst"));
    let (recorded, declared) = delivered(&bench, &taker).await;
    assert!(recorded >= 20 && recorded < given, "{recorded}");
    assert_eq!(recorded + declared, given);
    assert!(quarantined(&bench)[0].ends_with("-000002.jsonl.zst"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_chunk_without_a_seal_does_not_take_the_session_along() {
    let bench = Bench::in_memory();
    let (taker, given) = left_behind(&bench).await;
    let folder = bench.session_folder(&taker.record);
    fs::remove_file(folder.join("000001.json")).unwrap();
    spoil(&folder.join("000001.jsonl.zst"));
    let (recorded, declared) = delivered(&bench, &taker).await;
    assert!(recorded >= 10, "{recorded}");
    assert_eq!(recorded + declared, given);
    assert!(!quarantined(&bench).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_chunk_that_is_damaged_later_is_missed_and_declared_and_holds_nothing_up() {
    let bench = Bench::in_memory();
    let (taker, given) = left_behind(&bench).await;
    let folder = bench.session_folder(&taker.record);
    spoil(&folder.join("000000.jsonl.zst"));
    let (mut spool, resumable) = bench.spool().await;
    let mut resumed = Taker::resume(resumable[0].clone());
    let store = bench.store().await;
    let stop = tokio_util::sync::CancellationToken::new();
    upload(&spool, Arc::clone(&store), &stop);
    let mut note = None;
    until(&mut spool, "the note", |spool| {
        note = spool.take_notes().pop();
        note.is_some()
    })
    .await;
    let (id, body) = note.unwrap();
    assert_eq!(id, taker.id());
    assert!(resumed.note(&mut spool, body));
    resumed.finish(&mut spool);
    until(&mut spool, "the manifest", |_| {
        stored(&bench.path("store"), id).is_some_and(|folder| folder.join("SHA256SUMS").exists())
    })
    .await;
    stop.cancel();
    deliver(spool, &store).await;
    assert!(quarantined(&bench)[0].ends_with("-000000.jsonl.zst"));
    let (recorded, declared) = account(&events(&stored(&bench.path("store"), id).unwrap()));
    // The first chunk held the start of the session too.
    assert_eq!((recorded, declared), (given - 10, 11));
    let report = verify(&store, &Scope::All, &Known::default(), &|_| {}).await;
    let report = report.unwrap();
    assert_eq!(report.findings.len(), 1, "{report:#?}");
    assert!(report.findings[0].object.ends_with("000000.jsonl.zst"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_of_noise_does_not_disturb_the_others() {
    let bench = Bench::in_memory();
    let (taker, given) = left_behind(&bench).await;
    let noise = bench.path("spool/sessions/0192a0a0-0000-7000-8000-000000000000");
    fs::create_dir_all(&noise).unwrap();
    for name in ["record.json", "open.jsonl.zst", "000007.json"] {
        fs::write(noise.join(name), b"noise").unwrap();
    }
    assert_eq!(delivered(&bench, &taker).await, (given, 0));
    assert!(!noise.exists());
    assert_eq!(quarantined(&bench).len(), 1);
}
