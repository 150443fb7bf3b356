//! Whole recordings: every kind of damage is named, and good data behind it is
//! still read.

#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use std::path::PathBuf;
use std::sync::Arc;

use auditty_recording::chunk::Record;
use auditty_recording::digest::Digest;
use auditty_recording::event::Event;
use auditty_recording::manifest::{Manifest, ManifestError};
use auditty_recording::reader::{Issue, Item, Position, Recording, Records, State};
use auditty_recording::store::{AnyStore, LocalStore};
use common::*;

struct Case {
    dir: tempfile::TempDir,
    store: AnyStore,
    events: Vec<Event>,
    built: Built,
}

impl Case {
    /// 30 events in chunks of 5, nothing stored yet.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store: AnyStore = Arc::new(LocalStore::new(dir.path()));
        let mut events = one_of_each();
        let next = events.len() as u64 + 1;
        events.extend((next..=30).map(|seq| event(seq, output(&[seq as u8; 50]))));
        let built = build(&new_session_key(), &events, 5);
        Self {
            dir,
            store,
            events,
            built,
        }
    }

    fn chunk(&self, number: u32) -> PathBuf {
        self.dir
            .path()
            .join(self.built.key.chunk(number).to_string())
    }

    async fn open(&self) -> Recording {
        Recording::open(self.store.clone(), self.built.key.clone())
            .await
            .unwrap()
    }

    async fn read(&self) -> (Vec<u64>, Vec<Issue>) {
        let recording = self.open().await;
        let (records, issues) = read(&recording).await;
        (records.iter().map(|record| record.seq).collect(), issues)
    }
}

async fn read(recording: &Recording) -> (Vec<Record>, Vec<Issue>) {
    all(&mut recording.records()).await
}

async fn all(items: &mut Records<'_>) -> (Vec<Record>, Vec<Issue>) {
    let (mut records, mut issues) = (Vec::new(), Vec::new());
    while let Some(item) = items.next().await.unwrap() {
        match item {
            Item::Record(record) => records.push(record),
            Item::Issue(issue) => issues.push(issue),
        }
    }
    (records, issues)
}

#[tokio::test]
async fn a_whole_recording_reads_without_an_issue() {
    let case = Case::new();
    case.built.put_all(&case.store).await;
    let recording = case.open().await;
    assert_eq!(recording.state(), State::Sealed);
    assert_eq!(recording.session(), &case.built.manifest.session);
    let (records, issues) = read(&recording).await;
    assert!(
        issues.is_empty() && recording.issues().is_empty(),
        "{issues:?}"
    );
    let events: Vec<_> = records
        .into_iter()
        .map(|record| record.event.unwrap())
        .collect();
    assert_eq!(events, case.events);
}

#[tokio::test]
async fn an_open_recording_gives_the_session_its_events_tell() {
    let case = Case::new();
    for number in 0..6 {
        case.built.put_chunk(&case.store, number).await;
    }
    let recording = case.open().await;
    assert_eq!(recording.state(), State::Open);
    let mut told = case.built.manifest.session.clone();
    told.verdict = auditty_recording::session::Verdict::Open;
    assert_eq!(recording.session(), &told);
    assert_eq!(recording.gaps(), case.built.manifest.gaps);
    assert!(read(&recording).await.1.is_empty());
}

#[tokio::test]
async fn an_open_recording_is_read_on_as_it_grows() {
    let case = Case::new();
    let mut recording = case.open().await;
    let (mut position, mut seqs) = (Position::default(), Vec::new());
    // A chunk that is seen before the one in front of it waits for that one.
    for (chunk, there) in [(0, 5), (2, 5), (1, 15), (3, 20), (4, 25), (5, 30)] {
        case.built.put_chunk(&case.store, chunk).await;
        recording.refresh().await.unwrap();
        let mut items = recording.records_from(position);
        let (records, issues) = all(&mut items).await;
        position = items.position();
        drop(items);
        seqs.extend(records.iter().map(|record| record.seq));
        assert!(issues.is_empty(), "{issues:?}");
        assert_eq!(seqs, (1..=there).collect::<Vec<u64>>());
        assert!(!recording.has_ended());
    }
    case.built
        .put_manifest(&case.store, &case.built.manifest)
        .await;
    recording.refresh().await.unwrap();
    assert!(recording.has_ended());
    assert_eq!(recording.session(), &case.built.manifest.session);
    let rest = all(&mut recording.records_from(position)).await;
    assert!(rest.0.is_empty() && rest.1.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn a_chunk_that_never_came_is_missing_at_the_end() {
    let case = Case::new();
    for chunk in [0, 2, 3, 4, 5] {
        case.built.put_chunk(&case.store, chunk).await;
    }
    let mut recording = case.open().await;
    let mut items = recording.records_from(Position::default());
    assert_eq!(all(&mut items).await.0.len(), 5);
    let position = items.position();
    drop(items);
    case.built
        .put_manifest(&case.store, &case.built.manifest)
        .await;
    recording.refresh().await.unwrap();
    let (records, issues) = all(&mut recording.records_from(position)).await;
    assert_eq!(records.len(), 20);
    assert!(
        matches!(
            issues.as_slice(),
            [Issue::MissingChunk { .. }, Issue::MissingEvents { .. }]
        ),
        "{issues:?}"
    );
}

#[tokio::test]
async fn a_checkpoint_counts_and_chunks_behind_it_are_found() {
    let case = Case::new();
    let entries = &case.built.manifest.chunks;
    for number in 0..6 {
        case.built.put_chunk(&case.store, number).await;
    }
    for count in [2, 4] {
        let part = build(&case.built.key, &case.events[..count * 5], 5);
        let session = part.manifest.session.clone();
        let gaps = part.manifest.gaps.clone();
        let checkpoint = Manifest::checkpoint(session, entries[..count].to_vec(), gaps);
        assert_eq!(
            checkpoint.name().to_string(),
            format!("manifest-00000{count}.json")
        );
        case.built.put_manifest(&case.store, &checkpoint).await;
    }
    let recording = case.open().await;
    assert_eq!(recording.state(), State::Checkpoint);
    assert_eq!(recording.manifest().unwrap().chunks.len(), 4);
    assert_eq!(
        recording.session().counts,
        case.built.manifest.session.counts
    );
    let (records, issues) = read(&recording).await;
    assert_eq!(records.len(), 30);
    assert!(issues.is_empty(), "{issues:?}");
}

#[tokio::test]
async fn a_missing_chunk_is_named_with_the_events_it_held() {
    let case = Case::new();
    case.built.put_all(&case.store).await;
    std::fs::remove_file(case.chunk(2)).unwrap();
    let (seqs, issues) = case.read().await;
    assert_eq!(seqs, (1..=10).chain(16..=30).collect::<Vec<_>>());
    assert!(
        matches!(&issues[..], [
        Issue::MissingChunk { key },
        Issue::MissingEvents { first: 11, last: 15, .. },
    ] if *key == case.built.key.chunk(2)),
        "{issues:?}"
    );
}

#[tokio::test]
async fn without_a_manifest_a_missing_chunk_is_seen_too() {
    let case = Case::new();
    for number in [0, 1, 3] {
        case.built.put_chunk(&case.store, number).await;
    }
    let (seqs, issues) = case.read().await;
    assert_eq!(seqs.len(), 15);
    assert!(
        matches!(
            &issues[..],
            [
                Issue::MissingChunk { .. },
                Issue::MissingEvents {
                    first: 11,
                    last: 15,
                    ..
                },
            ]
        ),
        "{issues:?}"
    );
}

#[tokio::test]
async fn a_truncated_chunk_keeps_what_is_good_around_it() {
    let case = Case::new();
    case.built.put_all(&case.store).await;
    let bytes = std::fs::read(case.chunk(4)).unwrap();
    std::fs::write(case.chunk(4), &bytes[..bytes.len() - 3]).unwrap();
    let (seqs, issues) = case.read().await;
    assert_eq!(seqs[..20], (1..=20).collect::<Vec<_>>());
    assert_eq!(seqs[seqs.len() - 5..], [26, 27, 28, 29, 30]);
    let words: Vec<_> = issues.iter().map(ToString::to_string).collect();
    assert!(words[0].contains("SHA-256"), "{words:?}");
    assert!(words[1].contains("cut off"), "{words:?}");
}

#[tokio::test]
async fn an_exchanged_chunk_breaks_hash_and_chain() {
    let case = Case::new();
    case.built.put_all(&case.store).await;
    let mut forged = case.events[5..10].to_vec();
    forged[0] = event(6, exec(&["true"]));
    let header = header(&case.built.key, 1, case.built.chunks[0].0.chain_head, 6);
    std::fs::write(case.chunk(1), seal(header, &forged).1).unwrap();
    let (seqs, issues) = case.read().await;
    assert_eq!(seqs.len(), 30);
    assert!(
        matches!(
            &issues[..],
            [Issue::HashMismatch { .. }, Issue::BrokenChain { .. }]
        ),
        "{issues:?}"
    );
    // Without a manifest the chain alone tells.
    std::fs::remove_file(
        case.dir
            .path()
            .join(format!("{}manifest.json", case.built.key)),
    )
    .unwrap();
    let (_, issues) = case.read().await;
    assert!(
        matches!(&issues[..], [Issue::BrokenChain { .. }]),
        "{issues:?}"
    );
}

#[tokio::test]
async fn foreign_and_unlisted_chunks_are_named() {
    let case = Case::new();
    case.built.put_all(&case.store).await;
    let other = build(&new_session_key(), &case.events, 5);
    std::fs::write(case.chunk(6), &other.chunks[0].1).unwrap();
    let (_, issues) = case.read().await;
    let words: Vec<_> = issues.iter().map(ToString::to_string).collect();
    for expected in [
        "not in the manifest",
        "another session",
        "another chunk number",
        "hash chain",
    ] {
        assert!(
            words.iter().any(|word| word.contains(expected)),
            "{expected}: {words:?}"
        );
    }
    assert!(issues.iter().any(|issue| matches!(
        issue,
        Issue::RepeatedEvent {
            previous: 30,
            found: 1,
            ..
        }
    )));
}

#[tokio::test]
async fn a_bad_manifest_is_an_issue_and_the_chunks_are_read() {
    let case = Case::new();
    case.built.put_all(&case.store).await;
    let path = case
        .dir
        .path()
        .join(format!("{}manifest.json", case.built.key));
    std::fs::write(&path, b"{\"format\":\"auditty.recording/7\"}").unwrap();
    let recording = case.open().await;
    assert_eq!(recording.state(), State::Open);
    assert!(
        recording.issues()[0]
            .to_string()
            .contains("auditty.recording/7")
    );
    assert_eq!(read(&recording).await.0.len(), 30);
}

#[test]
fn a_manifest_survives_json_and_notices_every_change() {
    let built = build(&new_session_key(), &one_of_each(), 5);
    let json = built.manifest.to_json().unwrap();
    let text = String::from_utf8(json.clone()).unwrap();
    assert_eq!(Manifest::from_json(&json).unwrap(), built.manifest);
    let more = text.replacen('{', "{\"from_the_future\": [1],", 1);
    assert_eq!(
        Manifest::from_json(more.as_bytes()).unwrap(),
        built.manifest
    );
    built.manifest.verify(&built.key).unwrap();

    let wrong = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = built.manifest.clone();
        change(&mut manifest);
        manifest.verify(&built.key).unwrap_err()
    };
    assert!(matches!(
        wrong(&|m| {
            m.chunks.remove(1);
        }),
        ManifestError::Chunk { number: 1, .. }
    ));
    assert!(matches!(
        wrong(&|m| {
            m.chunks.pop();
        }),
        ManifestError::ChainHead
    ));
    assert!(matches!(
        wrong(&|m| m.chunks.swap(0, 1)),
        ManifestError::Chunk { number: 0, .. }
    ));
    assert!(matches!(
        wrong(&|m| m.chunks[1].sha256 = Digest::ZERO),
        ManifestError::Chunk { number: 1, .. }
    ));
    assert!(matches!(
        wrong(&|m| m.chunks[2].first_seq += 1),
        ManifestError::Chunk { number: 2, .. }
    ));
    assert!(matches!(
        wrong(&|m| m.chain_head = Digest::ZERO),
        ManifestError::ChainHead
    ));
    let other = built.manifest.verify(&new_session_key()).unwrap_err();
    assert!(matches!(other, ManifestError::OtherSession(_)));
}
