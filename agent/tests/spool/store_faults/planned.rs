//! One fault after the other, each at a put of its own. The agent's key may put
//! objects and nothing else.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditty_agent::delivery::{Spool, Uploader, Uploads};
use auditty_agent::sessions::sink::{SessionRecord, Sink};
use auditty_recording::digest::Digest;
use auditty_recording::event::{Body as EventBody, Event, Marker};
use auditty_recording::key::{ObjectName, SessionKey};
use auditty_recording::manifest::Manifest;
use auditty_recording::session::{Session, Verdict};
use auditty_recording::store::{AnyStore, Body, MAX_OBJECT_BYTES, S3Options, S3Store, StoreConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::layer::{Fault, Layer, Plan};
use super::server;
use crate::common::spool_options;

const DEADLINE: Duration = Duration::from_secs(30);

/// A spool, an uploader, a layer that fails, a server.
struct Bench {
    folder: TempDir,
    plan: Plan,
    /// May do anything, past the layer.
    admin: AnyStore,
    spool: Spool,
    uploads: Arc<Uploads>,
    _stop: DropGuard,
}

fn setting(name: &str) -> Option<String> {
    std::env::var(format!("AUDITTY_TEST_S3_{name}")).ok()
}

impl Bench {
    /// With a key that may only put; `None`, and the reason is printed, where
    /// there is no server.
    async fn new() -> Option<Self> {
        let writer = setting("WRITER_KEY_ID").zip(setting("WRITER_SECRET"));
        Self::with(writer).await
    }

    /// With this key, or with one that may do anything.
    async fn with(key: Option<(String, String)>) -> Option<Self> {
        let (endpoint, bucket) = server()?;
        let (layer, plan) = Layer::planned(&endpoint).await;
        let prefix = format!("faults/{}", Uuid::now_v7());
        let options = |endpoint: &str| S3Options {
            endpoint_url: Some(endpoint.to_owned()),
            region: Some("us-east-1".to_owned()),
            path_style: true,
            ..S3Options::default()
        };
        let admin = StoreConfig {
            url: format!("s3://{bucket}/{prefix}").parse().unwrap(),
            s3: options(&endpoint),
        };
        let mut shared = aws_config::defaults(aws_config::BehaviorVersion::latest());
        if let Some((id, secret)) = key {
            let key = Credentials::new(id, secret, None, None, "test");
            shared = shared.credentials_provider(SharedCredentialsProvider::new(key));
        }
        let shared = shared.load().await;
        let options = options(&layer.endpoint);
        let store: AnyStore =
            Arc::new(S3Store::with_config(&shared, &bucket, &prefix, &options).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) =
            Spool::open(spool_options(folder.path()), Arc::clone(&store), None).unwrap();
        let (uploads, stop) = (spool.uploads(), CancellationToken::new());
        let host_objects = spool.host_objects();
        tokio::spawn({
            let (store, stop) = (Arc::clone(&store), stop.clone());
            async move { host_objects.upload(store, stop).await }
        });
        // Faults are for recordings: the host's key is there before them.
        let begin = Instant::now();
        while !spool.host_objects().is_empty() {
            assert!(begin.elapsed() < DEADLINE, "not in time: the host's key");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::spawn(Uploader::new(Arc::clone(&uploads), store).run(stop.clone()));
        Some(Self {
            folder,
            plan,
            admin: admin.open().await.unwrap(),
            spool,
            uploads,
            _stop: stop.drop_guard(),
        })
    }

    /// A session of one chunk, finished.
    fn session(&mut self) -> SessionKey {
        let mut record = SessionRecord {
            session: Session {
                session_id: Uuid::now_v7(),
                start_time: Timestamp::now(),
                verdict: Verdict::Complete,
                ..Session::default()
            },
            next_seq: 2,
            revision: 1,
            ..SessionRecord::default()
        };
        let marker = Marker {
            marker: "test".into(),
            message: "content".into(),
        };
        let event = Event {
            seq: 1,
            time: Timestamp::now(),
            boot_ns: 1,
            body: EventBody::Marker(marker),
        };
        self.spool.append(&record, &event).unwrap();
        record.session.counts.events = 1;
        self.spool.finished(&record);
        let session = &record.session;
        SessionKey::new("h1", session.session_id, session.start_time).unwrap()
    }

    fn waiting(&self, key: &SessionKey) -> PathBuf {
        let sessions = self.folder.path().join("spool/sessions");
        sessions.join(key.session_id().to_string())
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !done(self) {
            assert!(begin.elapsed() < DEADLINE, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.spool.tick(Instant::now());
        }
    }

    async fn until_stored(&mut self, key: &SessionKey) {
        let begin = Instant::now();
        loop {
            self.spool.tick(Instant::now());
            let stored = self.admin.list(&key.to_string()).await.unwrap();
            let last = stored
                .iter()
                .any(|object| object.key.ends_with("SHA256SUMS"));
            if last && self.uploads.is_empty() && !self.has_waiting(key) {
                return;
            }
            assert!(begin.elapsed() < DEADLINE, "not in time: the recording");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether an object of the recording is still in the spool.
    fn has_waiting(&self, key: &SessionKey) -> bool {
        let left = std::fs::read_dir(self.waiting(key)).into_iter().flatten();
        let mut names = left.map(|entry| entry.unwrap().file_name());
        names.any(|name| {
            let name = name.to_string_lossy();
            name.parse::<ObjectName>().is_ok() || name.ends_with(".new")
        })
    }

    /// What the bucket has is what the manifest says.
    async fn assert_whole(&self, key: &SessionKey) {
        let manifest = key.object(ObjectName::Manifest).to_string();
        let json = self.admin.get(&manifest, MAX_OBJECT_BYTES).await.unwrap();
        let manifest: Manifest = serde_json::from_slice(&json).unwrap();
        assert_eq!(manifest.chunks.len(), 1);
        for chunk in &manifest.chunks {
            let stored = self
                .admin
                .get(&chunk.key.to_string(), MAX_OBJECT_BYTES)
                .await
                .unwrap();
            assert_eq!(Digest::of(&stored), chunk.sha256);
        }
        let stored = self.admin.list(&key.to_string()).await.unwrap();
        let names: Vec<_> = stored
            .iter()
            .filter_map(|object| object.key.rsplit('/').next())
            .collect();
        let whole = [
            "000000.jsonl.zst",
            "SHA256SUMS",
            "manifest.json",
            "manifest.json.sig",
        ];
        assert_eq!(names, whole);
    }
}

/// Everything that passes by itself, each at the first put of a session.
#[tokio::test(flavor = "multi_thread")]
async fn a_recording_arrives_whole_after_every_fault() {
    let Some(mut bench) = Bench::new().await else {
        return;
    };
    for fault in [
        Fault::Status(500, "InternalError"),
        Fault::Status(503, "SlowDown"),
        Fault::Status(409, "ConditionalRequestConflict"),
        Fault::Status(403, "RequestTimeTooSkewed"),
        Fault::Status(400, "ExpiredToken"),
        Fault::Reset,
        Fault::LoseAnswer,
        Fault::Flip,
    ] {
        bench.plan.add(&[fault]);
        let key = bench.session();
        bench.until_stored(&key).await;
        assert!(bench.plan.is_through(), "{fault:?}");
        bench.assert_whole(&key).await;
        bench
            .until("the trouble is over", |bench| {
                bench.uploads.state().trouble.is_none()
            })
            .await;
    }
}

/// An object stands where the first chunk belongs.
async fn assert_conflict(mut bench: Bench, planned: &[Fault]) {
    bench.plan.add(planned);
    let key = bench.session();
    let taken = key.chunk(0).to_string();
    let other = Body::from_static(b"not a chunk");
    bench.admin.put_new(&taken, other.clone()).await.unwrap();
    bench
        .until("the conflict is noticed", |bench| {
            let trouble = bench.uploads.state().trouble;
            trouble.is_some_and(|trouble| trouble.contains("is there"))
        })
        .await;
    assert_eq!(bench.admin.get(&taken, 100).await.unwrap(), other);
    // The rest of it has left the host, and nobody else waits.
    let manifest = key.object(ObjectName::Manifest).to_string();
    let manifest = bench.admin.get(&manifest, MAX_OBJECT_BYTES).await;
    assert!(manifest.is_ok(), "{manifest:?}");
    let next = bench.session();
    bench
        .until("another session is stored", |bench| {
            !bench.waiting(&next).join("manifest.json").exists()
                && !bench.waiting(&next).join("000000.jsonl.zst").exists()
                && bench.waiting(&next).join("000000.json").exists()
        })
        .await;
    let kept = bench.waiting(&key).join("000000.jsonl.zst");
    assert!(kept.exists(), "the local chunk is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_with_another_hash_is_a_loud_error_and_loses_nothing() {
    if let Some(bench) = Bench::with(None).await {
        assert_conflict(bench, &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_may_not_be_read_is_nobodys_until_an_answer_was_lost() {
    if let Some(bench) = Bench::new().await {
        assert_conflict(bench, &[]).await;
    }
    // A put that was refused has stored nothing.
    if let Some(bench) = Bench::new().await {
        assert_conflict(bench, &[Fault::Status(503, "SlowDown")]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_hangs_holds_up_nobody_else() {
    let Some(mut bench) = Bench::new().await else {
        return;
    };
    bench.plan.add(&[Fault::Hang]);
    let hanging = bench.session();
    bench
        .until("the put hangs", |bench| bench.plan.is_through())
        .await;
    let others: Vec<_> = (0..20).map(|_| bench.session()).collect();
    bench
        .until("the others are stored", |bench| {
            let waits = |key| bench.waiting(key).join("manifest.json").exists();
            let sealed = |key| bench.waiting(key).join("000000.json").exists();
            others.iter().all(|key| sealed(key) && !waits(key))
        })
        .await;
    assert!(bench.waiting(&hanging).join("000000.jsonl.zst").exists());
}

/// What does not pass by itself is an operator's, and says what it is.
#[tokio::test(flavor = "multi_thread")]
async fn settings_and_rights_are_told_from_trouble_that_passes() {
    for (status, code) in [
        (403, "AccessDenied"),
        (403, "InvalidAccessKeyId"),
        (301, "PermanentRedirect"),
        (400, "KMS.DisabledException"),
        (404, "NoSuchBucket"),
    ] {
        let Some(mut bench) = Bench::new().await else {
            return;
        };
        bench.plan.add(&[Fault::Status(status, code)]);
        let key = bench.session();
        bench
            .until("the trouble is noticed", |bench| {
                let trouble = bench.uploads.state().trouble;
                trouble.is_some_and(|trouble| trouble.contains(code))
            })
            .await;
        assert!(bench.waiting(&key).join("000000.jsonl.zst").exists());
    }
}
