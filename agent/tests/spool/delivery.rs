//! The spool, the uploader and the reporter on real files, a real collector and
//! stock tools.

use std::fs::{self, OpenOptions};
use std::process::Command;
use std::time::{Duration, Instant};

use auditty_agent::delivery::{Spool, SpoolOptions, dial};
use auditty_agent::sessions::sink::Sink;
use auditty_collector::store::{HostName, Scope};
use auditty_proto::v1::report::Fact;
use auditty_proto::v1::session_service_client::SessionServiceClient;
use auditty_proto::v1::{KeyStanding, ListCommandsRequest, ListSessionsRequest, ReportRequest};
use auditty_recording::event::{Body, Event, Gap};
use auditty_recording::store::{S3Options, StoreConfig};
use jiff::Timestamp;
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use crate::common::*;

/// Without encryption too: what was done stands in the recording and in nothing of
/// the collector's, which says that it is missing.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_out_of_reports_is_in_the_recording_alone() {
    const SECRET: &str = "known-to-the-bucket-alone";
    let bench = Bench::new();
    let collector = collector(&bench).await;
    let options = SpoolOptions {
        report_content: false,
        ..bench.options()
    };
    let (mut spool, _) = Spool::open(options, bench.store().await, None).unwrap();
    let stop = CancellationToken::new();
    upload(&spool, bench.store().await, &stop);
    let mut record = begin(&mut spool);
    record.session.command = format!("echo {SECRET}");
    emit(&mut spool, &mut record, exec(SECRET));
    finish(&mut spool, &mut record);
    until(&mut spool, "the recording", |_| bench.is_stored()).await;
    // Nor in what waits for the collector.
    for file in fs::read_dir(bench.path("spool/outbox"))
        .into_iter()
        .flatten()
    {
        let waiting = fs::read(file.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&waiting).contains(SECRET));
    }
    report(&spool, &collector.address, &stop);
    until(&mut spool, "delivery", |spool| spool.is_delivered()).await;

    let recorded = lines(&bench.recording());
    assert!(recorded.iter().any(|line| line.contains(SECRET)));
    let mut client = SessionServiceClient::new(dial(&collector.address).unwrap());
    let search = ListCommandsRequest {
        parent: "sessions/-".into(),
        // Not all of it: what was asked is kept as well.
        filter: format!("command_line : \"{}\"", &SECRET[..12]),
        ..Default::default()
    };
    let found = client.list_commands(search).await.unwrap().into_inner();
    assert_eq!((found.commands.len(), found.withheld_command_count), (0, 1));
    let sessions = client.list_sessions(ListSessionsRequest::default());
    let sessions = sessions.await.unwrap().into_inner().sessions;
    assert_eq!((sessions.len(), sessions[0].command.as_str()), (1, ""));
    for file in ["collector.db", "collector.db-wal"] {
        let stored = fs::read(bench.path(file)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&stored).contains(SECRET), "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_arrives_whole_in_store_and_collector_and_leaves_the_spool() {
    let bench = Bench::new();
    let collector = collector(&bench).await;
    let (mut spool, resumable) = bench.spool().await;
    assert!(resumable.is_empty());
    let stop = CancellationToken::new();
    report(&spool, &collector.address, &stop);
    upload(&spool, bench.store().await, &stop);

    let mut record = begin(&mut spool);
    emit(&mut spool, &mut record, exec("one"));
    finish(&mut spool, &mut record);
    let folder = bench.session_folder(&record);
    until(&mut spool, "the session leaves the spool", |_| {
        !folder.exists()
    })
    .await;
    until(&mut spool, "delivery", |spool| spool.is_delivered()).await;

    assert_eq!(
        names(&bench.recording()),
        [
            "000000.jsonl.zst",
            "SHA256SUMS",
            "manifest.json",
            "manifest.json.sig"
        ]
    );
    assert_eq!(lines(&bench.recording()).len(), 3);
    let sums = Command::new("sha256sum")
        .args(["-c", "SHA256SUMS"])
        .current_dir(bench.recording())
        .output();
    assert!(sums.unwrap().status.success());

    let mut client = SessionServiceClient::new(dial(&collector.address).unwrap());
    let listed = client
        .list_sessions(ListSessionsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let [session] = listed.sessions.as_slice() else {
        panic!("{listed:?}")
    };
    let recording = session.recording.as_ref().unwrap();
    assert_eq!(recording.chunk_count, 1);
    assert_eq!(
        recording.uri.trim_end_matches('/'),
        format!("file://{}", bench.recording().display())
    );
    assert_eq!(recording.chain_head.len(), 64);
    let request = ListCommandsRequest {
        parent: session.name.clone(),
        ..Default::default()
    };
    let commands = client
        .list_commands(request)
        .await
        .unwrap()
        .into_inner()
        .commands;
    assert_eq!(commands.len(), 1);
    assert_eq!(commands[0].argv, ["echo", "one"]);

    // The host has registered its key, and the digest that is in the store.
    let page = collector.store.host_keys(&Scope::All, "h1", None, 10).await;
    let keys = page.unwrap().items;
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].1.standing(), KeyStanding::First);
    let page = collector.store.digest_heads(&Scope::All, "h1", None, 10);
    let heads = page.await.unwrap().items;
    assert_eq!((heads.len(), heads[0].1.number), (1, 0));
    let digests = bench.path("store/v1/host=h1/digest");
    let sum = Command::new("sh")
        .args(["-c", "find -name '000000.json' -exec sha256sum {} +"])
        .current_dir(digests)
        .output()
        .unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert!(sum.starts_with(&heads[0].1.sha256), "{sum}");
    stop.cancel();
    collector.stop.cancel();
    collector.service.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_chunk_is_recovered_up_to_its_last_whole_line() {
    let bench = Bench::new();
    let (mut spool, _) = bench.spool().await;
    let mut record = begin(&mut spool);
    let flushed = bench.session_folder(&record).join("open.jsonl.zst");
    let size = || fs::metadata(&flushed).map_or(0, |file| file.len());
    // Three flushes: what is cut off below belongs to the last one.
    until(&mut spool, "the first flush", |_| size() > 0).await;
    for half in 0..2 {
        let before = size();
        for number in 0..50 {
            emit(&mut spool, &mut record, marker(half * 50 + number));
        }
        spool.changed(&record);
        until(&mut spool, "a flush", |_| size() > before).await;
    }
    drop(spool);
    let file = OpenOptions::new().write(true).open(&flushed).unwrap();
    file.set_len(file.metadata().unwrap().len() - 20).unwrap();

    let (mut spool, resumable) = bench.spool().await;
    let [resumed] = resumable.as_slice() else {
        panic!("{resumable:?}")
    };
    let mut resumed = resumed.clone();
    assert_eq!(resumed.session.session_id, record.session.session_id);
    emit(&mut spool, &mut resumed, marker(1000));
    finish(&mut spool, &mut resumed);
    let stop = CancellationToken::new();
    upload(&spool, bench.store().await, &stop);
    until(&mut spool, "the upload", |_| bench.is_stored()).await;
    stop.cancel();

    let events: Vec<Event> = lines(&bench.recording())
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    let kept = events
        .iter()
        .filter(|event| matches!(event.body, Body::Marker(_)))
        .count() as u64
        - 1;
    let lost: u64 = events
        .iter()
        .filter_map(|event| match &event.body {
            Body::Gap(Gap { events, .. }) => *events,
            _ => None,
        })
        .sum();
    assert!(lost > 0 && kept >= 50, "{kept} kept, {lost} lost");
    assert_eq!(kept + lost, 100, "every event is there or counted as lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_session_goes_to_quarantine_and_the_others_go_on() {
    let bench = Bench::new();
    let (mut spool, _) = bench.spool().await;
    let (bad, good) = (begin(&mut spool), begin(&mut spool));
    spool.close();
    drop(spool);
    let folder = bench.session_folder(&bad);
    for name in names(&folder) {
        fs::write(folder.join(name), "{").unwrap();
    }
    let (_spool, resumable) = bench.spool().await;
    let ids: Vec<_> = resumable
        .iter()
        .map(|record| record.session.session_id)
        .collect();
    assert_eq!(ids, [good.session.session_id]);
    assert_eq!(names(&bench.path("spool/quarantine")).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_is_told_who_holds_the_spool() {
    let bench = Bench::new();
    let (_spool, _) = bench.spool().await;
    let error = Spool::open(bench.options(), bench.store().await, None)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains(&format!(
            "another agent is running, with pid {}",
            std::process::id()
        )),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_refuses_waits_and_the_next_agent_delivers_it() {
    let bench = Bench::new();
    // A file where a folder has to be; and a server that is not there.
    fs::write(bench.path("file"), "").unwrap();
    let refusing = bench
        .store_at(&format!("file://{}", bench.path("file/below").display()))
        .await;
    let unreachable = StoreConfig {
        url: "s3://bucket/prefix".parse().unwrap(),
        s3: S3Options {
            endpoint_url: Some("http://127.0.0.1:1".into()),
            region: Some("us-east-1".into()),
            path_style: true,
            ..S3Options::default()
        },
    };
    for store in [refusing, unreachable.open().await.unwrap()] {
        let bench = Bench::new();
        let (mut spool, _) = bench.spool().await;
        let mut record = begin(&mut spool);
        finish(&mut spool, &mut record);
        let folder = bench.session_folder(&record);
        let stop = CancellationToken::new();
        upload(&spool, store, &stop);
        until(&mut spool, "the try", |spool| {
            spool.uploads().state().trouble.is_some()
        })
        .await;
        stop.cancel();
        drop(spool);
        assert!(folder.join("000000.jsonl.zst").exists());

        let (mut spool, resumable) = bench.spool().await;
        assert!(resumable.is_empty(), "it had ended");
        let stop = CancellationToken::new();
        upload(&spool, bench.store().await, &stop);
        until(&mut spool, "the upload", |_| bench.is_stored()).await;
        assert_eq!(lines(&bench.recording()).len(), 2);
        stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_report_goes_to_the_dead_letters_and_the_rest_arrives() {
    let bench = Bench::new();
    let outbox = bench.path("spool/outbox");
    fs::create_dir_all(&outbox).unwrap();
    let nonsense = ReportRequest {
        reports: vec![Default::default()],
        ..Default::default()
    };
    fs::write(
        outbox.join(format!("{:020}.pb", 1)),
        nonsense.encode_to_vec(),
    )
    .unwrap();
    let collector = collector(&bench).await;
    let (mut spool, _) = bench.spool().await;
    let _record = begin(&mut spool);
    let stop = CancellationToken::new();
    report(&spool, &collector.address, &stop);
    until(&mut spool, "the reports", |spool| {
        spool.outbox().is_empty() && names(&outbox).is_empty()
    })
    .await;
    assert_eq!(
        names(&bench.path("spool/dead-letter")),
        [format!("{:020}.pb", 1)]
    );
    let mut client = SessionServiceClient::new(dial(&collector.address).unwrap());
    let begin = Instant::now();
    loop {
        let listed = client
            .list_sessions(ListSessionsRequest::default())
            .await
            .unwrap()
            .into_inner();
        if listed.sessions.len() == 1 {
            break;
        }
        assert!(begin.elapsed() < DEADLINE);
        spool.tick(Instant::now());
    }
    stop.cancel();
    collector.stop.cancel();
}

/// As those of a host id that the host had before.
#[tokio::test(flavor = "multi_thread")]
async fn reports_that_are_not_permitted_keep_no_other_waiting() {
    let first = Bench::new();
    let collector = collector(&first).await;
    let (mut known, _) = first.spool().await;
    let _record = begin(&mut known);
    let written = first.path("spool/outbox");
    let mut reports = Vec::new();
    until(&mut known, "the session's report", |_| {
        for name in names(&written) {
            let batch = fs::read(written.join(name)).unwrap();
            let batch = ReportRequest::decode(&*batch).unwrap();
            let sessions = batch.reports.into_iter();
            reports.extend(sessions.filter(|r| matches!(r.fact, Some(Fact::Session(_)))));
        }
        !reports.is_empty()
    })
    .await;
    let stop = CancellationToken::new();
    report(&known, &collector.address, &stop);
    until(&mut known, "its delivery", |spool| {
        spool.outbox().is_empty()
    })
    .await;

    // The same session, of another host.
    for report in &mut reports {
        if let Some(Fact::Session(fact)) = &mut report.fact {
            let session = fact.session.as_mut().unwrap();
            session.host.as_mut().unwrap().host_id = "h2".into();
        }
    }
    let count = reports.len();
    let batch = ReportRequest {
        host_id: "h2".into(),
        boot_id: "b1".into(),
        reports,
        ..Default::default()
    };
    let bench = Bench::new();
    let outbox = bench.path("spool/outbox");
    fs::create_dir_all(&outbox).unwrap();
    let planted = outbox.join(format!("{:020}.pb", 1));
    fs::write(planted, batch.encode_to_vec()).unwrap();
    let (mut spool, _) = bench.spool().await;
    let _record = begin(&mut spool);
    report(&spool, &collector.address, &stop);
    until(&mut spool, "the reports", |spool| {
        spool.outbox().is_empty() && names(&outbox).is_empty()
    })
    .await;
    let dead = names(&bench.path("spool/dead-letter"));
    assert_eq!(dead, [format!("{:020}.pb", 1)]);
    assert_eq!(spool.outbox().refused(), count as u64);
    stop.cancel();
    collector.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_refuses_events_and_says_so() {
    let bench = Bench::new();
    let options = SpoolOptions {
        max_bytes: 1,
        ..bench.options()
    };
    let (mut spool, _) = Spool::open(options, bench.store().await, None).unwrap();
    let mut record = begin(&mut spool);
    let begin = Instant::now();
    loop {
        let seq = record.next_seq;
        let event = Event {
            seq,
            time: Timestamp::now(),
            boot_ns: 1,
            body: marker(1),
        };
        match spool.append(&record, &event) {
            Ok(()) => record.next_seq += 1,
            Err(error) => {
                assert_eq!(
                    error.to_string(),
                    "the spool did not take the event: it is full"
                );
                break;
            }
        }
        assert!(begin.elapsed() < DEADLINE);
        spool.tick(Instant::now());
    }
}

/// An agent that has nothing to say is there all the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_collector_hears_of_a_recorder_that_works() {
    let bench = Bench::new();
    let collector = collector(&bench).await;
    let (mut spool, _) = bench.spool().await;
    let stop = CancellationToken::new();
    let begin = Timestamp::now();
    report(&spool, &collector.address, &stop);
    upload(&spool, bench.store().await, &stop);
    until(&mut spool, "delivery", |spool| spool.is_delivered()).await;
    let reported = Timestamp::now();
    let host = HostName {
        tenant: String::new(),
        host_id: "h1".to_owned(),
    };
    let mut heard = begin;
    let wait = Instant::now();
    while heard < reported {
        assert!(wait.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(100)).await;
        spool.tick(Instant::now());
        let last = collector.store.last_heard(&host).await.unwrap();
        heard = last.unwrap_or(begin);
    }
    stop.cancel();
    collector.stop.cancel();
    collector.service.await.unwrap();
}
