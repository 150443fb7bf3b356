//! A host over several days, as its agent leaves it in a store.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

use auditty_recording::digest::Digest;
use auditty_recording::host::*;
use auditty_recording::key::{ObjectName, SessionKey};
use auditty_recording::manifest::Manifest;
use auditty_recording::signature::SigningKey;
use auditty_recording::store::{AnyStore, LocalStore};
use auditty_recording::verify::{self, FindingKind, Known, Report, Scope};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{Built, HOST_ID, build, one_of_each, start};

pub struct Site {
    pub dir: tempfile::TempDir,
    pub store: AnyStore,
    pub signer: HostSigner,
    pub now: Timestamp,
    sealed: Vec<SealedManifest>,
    open: Vec<OpenSession>,
}

/// A folder in memory where there is one: thousands of verifications wait for
/// no disk.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// A private key that somebody copied.
pub fn steal(signer: &HostSigner) -> SigningKey {
    let text = signer.private_key().unwrap();
    SigningKey::from_openssh(text.as_ref().as_bytes()).unwrap()
}

impl Site {
    pub fn new() -> Self {
        let dir = in_memory();
        let store: AnyStore = Arc::new(LocalStore::new(dir.path()));
        let signer = HostSigner::begin(HOST_ID, SigningKey::generate().unwrap(), start()).unwrap();
        Self {
            dir,
            store,
            signer,
            now: start(),
            sealed: Vec::new(),
            open: Vec::new(),
        }
    }

    /// Three days: two finished sessions a day, one that an agent's restart
    /// interrupted, and one that is still open.
    pub async fn three_days() -> (Self, Vec<SessionKey>) {
        let mut site = Self::new();
        let mut sessions = Vec::new();
        site.begin().await;
        let open = site.open_session(3).await;
        for day in 0..3 {
            sessions.push(site.session(4).await);
            site.digest(DigestReason::Interval).await;
            sessions.push(site.interrupted_session().await);
            site.digest(DigestReason::Interval).await;
            site.now += SignedDuration::from_hours(24);
            if day < 2 {
                site.rotate().await;
            }
        }
        site.digest(DigestReason::Interval).await;
        sessions.push(open);
        (site, sessions)
    }

    pub async fn begin(&mut self) {
        let entry = self.signer.state().entry.clone();
        self.put_signed(&entry).await;
        self.digest(DigestReason::Start).await;
    }

    fn tick(&mut self) {
        self.now += SignedDuration::from_secs(60);
    }

    pub fn path(&self, key: impl ToString) -> PathBuf {
        self.dir.path().join(key.to_string())
    }

    async fn put(&self, key: impl ToString, body: impl Into<Vec<u8>>) {
        let body = auditty_recording::store::Body::from(body.into());
        self.store.put_new(&key.to_string(), body).await.unwrap();
    }

    pub async fn put_signed(&self, object: &SignedObject) {
        self.put(object.key.sig(), object.signature.clone()).await;
        self.put(&object.key, object.json.clone()).await;
    }

    pub fn build(&self, per_chunk: usize) -> Built {
        let key = SessionKey::new(HOST_ID, Uuid::now_v7(), self.now).unwrap();
        build(&key, &one_of_each(), per_chunk)
    }

    /// A finished session.
    pub async fn session(&mut self, per_chunk: usize) -> SessionKey {
        self.tick();
        let built = self.build(per_chunk);
        for number in 0..built.chunks.len() {
            built.put_chunk(&self.store, number).await;
        }
        self.seal(&built.key, built.manifest.clone()).await;
        built.key
    }

    /// A finished session with a checkpoint in its middle.
    pub async fn interrupted_session(&mut self) -> SessionKey {
        self.tick();
        let built = self.build(5);
        let entries: Vec<_> = built
            .chunks
            .iter()
            .map(|(entry, _)| entry.clone())
            .collect();
        let first = entries[..2].to_vec();
        let checkpoint = Manifest::checkpoint(built.manifest.session.clone(), first, Vec::new());
        for number in 0..built.chunks.len() {
            built.put_chunk(&self.store, number).await;
        }
        self.seal(&built.key, checkpoint).await;
        self.digest(DigestReason::Stop).await;
        self.seal(&built.key, built.manifest.clone()).await;
        built.key
    }

    /// A session of which two chunks are stored.
    pub async fn open_session(&mut self, per_chunk: usize) -> SessionKey {
        self.tick();
        let built = self.build(per_chunk);
        built.put_chunk(&self.store, 0).await;
        built.put_chunk(&self.store, 1).await;
        self.open.push(OpenSession {
            session: built.key.clone(),
            chunks: 2,
            chain_head: built.chunks[1].0.chain_head,
        });
        built.key
    }

    pub async fn seal(&mut self, key: &SessionKey, mut manifest: Manifest) {
        self.tick();
        let (json, signature) = self.signer.seal(&mut manifest, self.now).unwrap();
        let name = manifest.name();
        self.put(key.object(name.signature().unwrap()), signature)
            .await;
        if name == ObjectName::Manifest {
            let sums = manifest.sha256sums(&json);
            self.put(key.object(ObjectName::Sha256Sums), sums).await;
        }
        self.sealed.push(SealedManifest {
            manifest: key.object(name),
            sha256: Digest::of(&json),
        });
        self.put(key.object(name), json).await;
    }

    pub async fn digest(&mut self, reason: DigestReason) {
        self.tick();
        let content = DigestContent {
            reason,
            boot_id: "b00t".to_owned(),
            agent_version: "1".to_owned(),
            open: self.open.clone(),
            sealed: std::mem::take(&mut self.sealed),
            ..DigestContent::default()
        };
        let state = self.signer.digest(content, self.now).unwrap();
        self.signer.adopt(state).unwrap();
        let digest = self.signer.state().digest.clone().unwrap();
        self.put_signed(&digest).await;
    }

    pub async fn rotate(&mut self) {
        self.digest(DigestReason::Rotation).await;
        let next = SigningKey::generate().unwrap();
        self.signer = self.signer.succeed(next, self.now).unwrap();
        let entry = self.signer.state().entry.clone();
        self.put_signed(&entry).await;
    }

    /// What the newest digest is now, for later.
    pub async fn known(&self) -> Known {
        let report = self.verify(&Scope::All, &Known::default()).await;
        let heads = report.hosts.iter().filter_map(|host| {
            Some(verify::KnownHead {
                host_id: host.host_id.clone(),
                log: host.log.clone(),
                head: host.head?,
            })
        });
        Known {
            heads: heads.collect(),
            ..Known::default()
        }
    }

    pub async fn verify(&self, scope: &Scope, known: &Known) -> Report {
        verify::verify(&self.store, scope, known, &|_| {})
            .await
            .unwrap()
    }

    /// Every object, by its key.
    pub async fn objects(&self) -> Vec<String> {
        let listed = self.store.list("v1/").await.unwrap();
        listed.into_iter().map(|object| object.key).collect()
    }
}

/// Runs the script of stock tools.
pub fn script(args: &[&std::ffi::OsStr]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("verify.sh");
    std::fs::write(&script, verify::SCRIPT).unwrap();
    Command::new("sh").arg(&script).args(args).output().unwrap()
}

pub fn kinds(report: &Report) -> Vec<FindingKind> {
    let mut kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}
