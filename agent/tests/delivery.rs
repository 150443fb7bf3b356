//! The spool, the uploader and the reporter on real files, a real collector and
//! stock tools.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditty_agent::config::Address;
use auditty_agent::delivery::{Reporter, Spool, SpoolOptions, Uploader, dial};
use auditty_agent::sessions::sink::{SessionRecord, Sink};
use auditty_collector::{Access, Listeners, Location, Store, serve};
use auditty_proto::v1::session_service_client::SessionServiceClient;
use auditty_proto::v1::{ListCommandsRequest, ListSessionsRequest, ReportRequest};
use auditty_recording::digest::Digest;
use auditty_recording::event::{Body, Event, Exec, Gap, Marker, SessionStart};
use auditty_recording::session::{Host, Session, Verdict};
use auditty_recording::store::{AnyStore, S3Options, StoreConfig};
use jiff::Timestamp;
use prost::Message as _;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Everything here takes milliseconds; a machine under load gets time.
const DEADLINE: Duration = Duration::from_secs(30);

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn options(&self) -> SpoolOptions {
        SpoolOptions {
            directory: self.path("spool"),
            max_bytes: 1 << 30,
            chunk_interval: Duration::from_secs(3600),
            chunk_size: 4 << 20,
            flush_interval: Duration::from_millis(10),
            host_id: "h1".into(),
            boot_id: "b1".into(),
            keys_directory: self.path("keys"),
            key_lifetime: Duration::from_secs(3600),
            digest_interval: Duration::from_secs(3600),
            configuration: Digest::ZERO,
        }
    }

    async fn store(&self) -> AnyStore {
        self.store_at(&format!("file://{}", self.path("store").display()))
            .await
    }

    async fn store_at(&self, url: &str) -> AnyStore {
        StoreConfig::from(url.parse::<auditty_recording::store::StoreUrl>().unwrap())
            .open()
            .await
            .unwrap()
    }

    async fn spool(&self) -> (Spool, Vec<SessionRecord>) {
        Spool::open(self.options(), self.store().await, None).unwrap()
    }

    fn session_folder(&self, record: &SessionRecord) -> PathBuf {
        self.path("spool/sessions")
            .join(record.session.session_id.to_string())
    }

    /// The recording in the store.
    fn recording(&self) -> PathBuf {
        self.find_recording().unwrap()
    }

    fn find_recording(&self) -> Option<PathBuf> {
        let mut folder = self.path("store/v1");
        for prefix in ["host=", "date=", "session="] {
            if !folder.exists() {
                return None;
            }
            let names = names(&folder);
            folder.push(names.iter().find(|name| name.starts_with(prefix))?);
        }
        Some(folder)
    }

    /// Whether the store has the whole recording.
    fn is_stored(&self) -> bool {
        let recording = self.find_recording();
        recording.is_some_and(|folder| folder.join("manifest.json").exists())
    }
}

fn record() -> SessionRecord {
    SessionRecord {
        session: Session {
            session_id: Uuid::now_v7(),
            host: Host {
                host_id: "h1".into(),
                hostname: "web-1".into(),
                boot_id: "b1".into(),
                capture_mode: "tracepoint".into(),
                ..Default::default()
            },
            start_time: Timestamp::now(),
            ..Session::default()
        },
        next_seq: 1,
        ..SessionRecord::default()
    }
}

fn emit(spool: &mut Spool, record: &mut SessionRecord, body: Body) {
    let seq = record.next_seq;
    let event = Event {
        seq,
        time: Timestamp::now(),
        boot_ns: seq,
        body,
    };
    (record.next_seq, record.revision) = (seq + 1, record.revision + 1);
    record.session.counts.events += 1;
    spool.append(record, &event).unwrap();
}

fn begin(spool: &mut Spool) -> SessionRecord {
    let mut record = record();
    let start = SessionStart {
        host: record.session.host.clone(),
        connection: Default::default(),
        session_kind: Default::default(),
        adopted: false,
    };
    emit(spool, &mut record, Body::SessionStart(start));
    spool.changed(&record);
    record
}

fn marker(number: u32) -> Body {
    Body::Marker(Marker {
        marker: "test".into(),
        message: format!("number {number}"),
    })
}

fn exec(argument: &str) -> Body {
    Body::Exec(Exec {
        pid: 7,
        parent_pid: 6,
        exe: "/bin/echo".into(),
        filename: "/bin/echo".into(),
        cwd: "/".into(),
        argv: vec!["echo".into(), argument.into()],
        argv_base64: None,
        argv_bytes: 5 + argument.len() as u64 + 1,
        argv_truncated: false,
        uid: 0,
        euid: 0,
        login_uid: None,
        exe_deleted: false,
    })
}

fn finish(spool: &mut Spool, record: &mut SessionRecord) {
    record.session.verdict = Verdict::Complete;
    record.session.end_time = Some(Timestamp::now());
    record.revision += 1;
    spool.finished(record);
}

async fn until(spool: &mut Spool, what: &str, mut done: impl FnMut(&mut Spool) -> bool) {
    let begin = Instant::now();
    while !done(spool) {
        assert!(begin.elapsed() < DEADLINE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        spool.tick(Instant::now());
    }
}

struct Collector {
    address: Address,
    stop: CancellationToken,
    service: tokio::task::JoinHandle<()>,
}

async fn collector(bench: &Bench) -> Collector {
    let socket = bench.path("collector.sock");
    let store = Store::open(&Location::Sqlite(bench.path("collector.db")))
        .await
        .unwrap();
    let listen = format!("unix:{}", socket.display()).parse().unwrap();
    let listeners = Listeners::bind(&[listen], false).await.unwrap();
    let stop = CancellationToken::new();
    let shutdown = stop.clone();
    let service = tokio::spawn(async move {
        serve(listeners, store.clone(), Access::default(), shutdown)
            .await
            .unwrap();
        store.close().await;
    });
    Collector {
        address: Address::Unix(socket),
        stop,
        service,
    }
}

fn report(spool: &Spool, address: &Address, stop: &CancellationToken) {
    tokio::spawn(Reporter::new(spool.outbox(), dial(address).unwrap()).run(stop.clone()));
}

fn upload(spool: &Spool, store: AnyStore, stop: &CancellationToken) {
    tokio::spawn(Uploader::new(spool.uploads(), Arc::clone(&store)).run(stop.clone()));
    let (host_objects, stop) = (spool.host_objects(), stop.clone());
    tokio::spawn(async move { host_objects.upload(store, stop).await });
}

/// Lines that `zstd` reads from the chunks of a folder.
fn lines(folder: &Path) -> Vec<String> {
    let mut chunks: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    chunks.retain(|path| path.to_string_lossy().ends_with(".jsonl.zst"));
    chunks.sort();
    let read = Command::new("zstd")
        .arg("-dc")
        .args(chunks)
        .output()
        .expect("zstd is installed");
    assert!(read.status.success());
    String::from_utf8(read.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
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
    fs::write(bench.session_folder(&bad).join("record.json"), "{").unwrap();
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
        until(&mut spool, "the try", |_| {
            folder.join("000000.jsonl.zst.sent").exists()
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
