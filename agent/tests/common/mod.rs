//! A spool on real files, what goes into it, and where it delivers to.
#![allow(dead_code, reason = "every test file uses a part")]
use auditty_agent::config::Address;
use auditty_agent::delivery::{Reporter, Spool, SpoolOptions, Uploader, dial};
use auditty_agent::sessions::sink::{SessionRecord, Sink};
use auditty_collector::{
    Access, Countersigner, Listeners, Location, Store as CollectorStore, serve,
};
use auditty_recording::digest::Digest;
use auditty_recording::encryption::Recipients;
use auditty_recording::event::{Body, Event, Exec, Gap, GapCause, GapClass, Marker, SessionStart};
use auditty_recording::session::{Host, Session, Verdict};
use auditty_recording::store::{AnyStore, StoreConfig};
use auditty_recording::verify::{Known, Report, Scope, verify};
use jiff::Timestamp;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Everything here takes milliseconds; a machine under load gets time.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub struct Bench {
    pub folder: TempDir,
    /// Who may read, where that is not everybody.
    pub recipients: Option<Arc<Recipients>>,
}

/// A spool and keys in this folder, and nothing that time alone would do.
pub fn spool_options(folder: &Path) -> SpoolOptions {
    SpoolOptions {
        directory: folder.join("spool"),
        max_bytes: 1 << 30,
        shed: Vec::new(),
        reserve: 1 << 20,
        chunk_interval: Duration::from_secs(3600),
        chunk_size: 4 << 20,
        flush_interval: Duration::from_millis(10),
        host_id: "h1".into(),
        boot_id: "b1".into(),
        keys_directory: folder.join("keys"),
        key_lifetime: Duration::from_secs(3600),
        digest_interval: Duration::from_secs(3600),
        configuration: Digest::ZERO,
        encryption: None,
        report_content: true,
    }
}

impl Bench {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            recipients: None,
        }
    }

    /// In memory, where there is no disk to wait for.
    pub fn in_memory() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self {
            folder: folder.unwrap(),
            recipients: None,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn options(&self) -> SpoolOptions {
        SpoolOptions {
            encryption: self.recipients.clone(),
            report_content: self.recipients.is_none(),
            ..spool_options(self.folder.path())
        }
    }

    pub async fn store(&self) -> AnyStore {
        self.store_at(&format!("file://{}", self.path("store").display()))
            .await
    }

    pub async fn store_at(&self, url: &str) -> AnyStore {
        StoreConfig::from(url.parse::<auditty_recording::store::StoreUrl>().unwrap())
            .open()
            .await
            .unwrap()
    }

    pub async fn spool(&self) -> (Spool, Vec<SessionRecord>) {
        Spool::open(self.options(), self.store().await, None).unwrap()
    }

    pub fn session_folder(&self, record: &SessionRecord) -> PathBuf {
        self.path("spool/sessions")
            .join(record.session.session_id.to_string())
    }

    /// The recording in the store.
    pub fn recording(&self) -> PathBuf {
        self.find_recording().unwrap()
    }

    pub fn find_recording(&self) -> Option<PathBuf> {
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
    pub fn is_stored(&self) -> bool {
        let recording = self.find_recording();
        recording.is_some_and(|folder| folder.join("manifest.json").exists())
    }
}

pub fn record() -> SessionRecord {
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

pub fn emit(spool: &mut Spool, record: &mut SessionRecord, body: Body) {
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

pub fn begin(spool: &mut Spool) -> SessionRecord {
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

pub fn marker(number: u32) -> Body {
    Body::Marker(Marker {
        marker: "test".into(),
        message: format!("number {number}"),
    })
}

pub fn exec(argument: &str) -> Body {
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

pub fn finish(spool: &mut Spool, record: &mut SessionRecord) {
    record.session.verdict = Verdict::Complete;
    record.session.end_time = Some(Timestamp::now());
    record.revision += 1;
    spool.finished(record);
}

pub async fn until(spool: &mut Spool, what: &str, mut done: impl FnMut(&mut Spool) -> bool) {
    let begin = Instant::now();
    while !done(spool) {
        assert!(begin.elapsed() < DEADLINE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        spool.tick(Instant::now());
    }
}

pub struct Collector {
    pub address: Address,
    pub store: CollectorStore,
    pub stop: CancellationToken,
    pub service: tokio::task::JoinHandle<()>,
}

pub async fn collector(bench: &Bench) -> Collector {
    let socket = bench.path("collector.sock");
    let signer = Countersigner::open(&bench.path("collector.key")).unwrap();
    let store = CollectorStore::open(&Location::Sqlite(bench.path("collector.db")))
        .await
        .unwrap();
    let listen = format!("unix:{}", socket.display()).parse().unwrap();
    let listeners = Listeners::bind(&[listen], false).await.unwrap();
    let stop = CancellationToken::new();
    let (shutdown, kept) = (stop.clone(), store.clone());
    let service = tokio::spawn(async move {
        serve(
            listeners,
            store.clone(),
            signer,
            Access::default(),
            shutdown,
        )
        .await
        .unwrap();
        store.close().await;
    });
    Collector {
        address: Address::Unix(socket),
        store: kept,
        stop,
        service,
    }
}

pub fn report(spool: &Spool, address: &Address, stop: &CancellationToken) {
    tokio::spawn(Reporter::new(spool.outbox(), dial(address).unwrap()).run(stop.clone()));
}

pub fn upload(spool: &Spool, store: AnyStore, stop: &CancellationToken) {
    tokio::spawn(Uploader::new(spool.uploads(), Arc::clone(&store)).run(stop.clone()));
    let (host_objects, stop) = (spool.host_objects(), stop.clone());
    tokio::spawn(async move { host_objects.upload(store, stop).await });
}

/// A session that counts what it offers, and declares what was refused, as the
/// sessions of the agent do.
pub struct Taker {
    pub record: SessionRecord,
    /// Markers that were offered.
    pub given: u64,
    refused: u64,
}

impl Taker {
    pub fn begin(spool: &mut Spool) -> Self {
        Self {
            record: begin(spool),
            given: 0,
            refused: 0,
        }
    }

    /// On a disk that fails now and then.
    pub fn begin_when_possible(spool: &mut Spool) -> Self {
        let mut taker = Self::resume(record());
        let start = SessionStart {
            host: taker.record.session.host.clone(),
            connection: Default::default(),
            session_kind: Default::default(),
            adopted: false,
        };
        while !taker.append(spool, Body::SessionStart(start.clone())) {
            std::thread::sleep(Duration::from_millis(5));
            spool.tick(Instant::now());
        }
        spool.changed(&taker.record);
        taker
    }

    pub fn resume(record: SessionRecord) -> Self {
        Self {
            record,
            given: 0,
            refused: 0,
        }
    }

    pub fn id(&self) -> Uuid {
        self.record.session.session_id
    }

    /// Offers a marker; whether it was taken.
    pub fn give(&mut self, spool: &mut Spool, body: Body) -> bool {
        self.given += 1;
        let taken = self.declare(spool) && self.append(spool, body);
        self.refused += u64::from(!taken);
        taken
    }

    /// Declares what was refused; whether nothing is left to declare.
    pub fn declare(&mut self, spool: &mut Spool) -> bool {
        self.refused == 0
            || self
                .append(spool, gap(self.refused))
                .then(|| self.refused = 0)
                .is_some()
    }

    /// What the spool itself has to say.
    pub fn note(&mut self, spool: &mut Spool, body: Body) -> bool {
        self.append(spool, body)
    }

    pub fn finish(&mut self, spool: &mut Spool) {
        self.declare(spool);
        finish(spool, &mut self.record);
    }

    fn append(&mut self, spool: &mut Spool, body: Body) -> bool {
        let seq = self.record.next_seq;
        let event = Event {
            seq,
            time: Timestamp::now(),
            boot_ns: seq,
            body,
        };
        let before = self.record.clone();
        self.record.next_seq += 1;
        self.record.revision += 1;
        self.record.session.counts.add(&event.body);
        let taken = spool.append(&self.record, &event).is_ok();
        if !taken {
            self.record = before;
        }
        taken
    }
}

pub fn gap(events: u64) -> Body {
    Body::Gap(Gap {
        cause: GapCause::Spool,
        class: GapClass::Any,
        events: Some(events),
        bytes: None,
        stream: None,
        terminal: None,
        offset: None,
        from_boot_ns: 0,
        to_boot_ns: 0,
    })
}

/// The events of a folder with chunks, in order, as `zstd` reads them.
pub fn events(folder: &Path) -> Vec<Event> {
    let lines = lines(folder);
    let events = lines
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok());
    events.collect()
}

/// Test markers among the events, and events that are declared missing.
pub fn account(events: &[Event]) -> (u64, u64) {
    let recorded = events
        .iter()
        .filter(|event| matches!(&event.body, Body::Marker(marker) if marker.marker == "test"));
    let declared = events.iter().filter_map(|event| match &event.body {
        Body::Gap(gap) => gap.events,
        _ => None,
    });
    (recorded.count() as u64, declared.sum())
}

/// The folder of a session in a local store.
pub fn stored(store: &Path, id: Uuid) -> Option<PathBuf> {
    let name = format!("session={id}");
    let mut found = vec![store.join("v1")];
    while let Some(folder) = found.pop() {
        if folder.ends_with(&name) {
            return Some(folder);
        }
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        found.extend(
            entries
                .map(|entry| entry.path())
                .filter(|path| path.is_dir()),
        );
    }
    None
}

/// Brings everything that waits to the store, as an agent that stops does.
pub async fn deliver(mut spool: Spool, store: &AnyStore) {
    spool.close();
    let stop = CancellationToken::new();
    upload(&spool, Arc::clone(store), &stop);
    until(&mut spool, "delivery", |spool| {
        spool.uploads().is_empty() && spool.host_objects().is_empty()
    })
    .await;
    spool.conclude();
    until(&mut spool, "the last digest", |spool| {
        spool.uploads().is_empty() && spool.host_objects().is_empty()
    })
    .await;
    stop.cancel();
}

/// Nothing is wrong with any recording in the store.
pub async fn assert_verified(store: &AnyStore) -> Report {
    let report = verify(store, &Scope::All, &Known::default(), &|_| {}).await;
    let report = report.unwrap();
    assert!(report.is_verified(), "{report:#?}");
    report
}

/// Lines that `zstd` reads from the chunks of a folder.
pub fn lines(folder: &Path) -> Vec<String> {
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

pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
