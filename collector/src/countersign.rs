//! What the collector vouches for. While a session runs, its agent reports the
//! head of the recording's hash chain; the collector signs each head it did not
//! know, with the time of its own clock, and stores that together with the report
//! before it answers. Whoever rewrites the
//! recording later, with the host's keys or in the bucket, contradicts that.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use auditty_recording::{
    digest::Digest,
    key::{ROOT, SessionKey},
    receipt::{ReceiptError, SignedReceipt},
    signature::{PublicKey, SignatureError, SigningKey},
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::store::{Batch, Fact, KnownHead, Location};

/// Where the key is when the database is none of this machine's files.
const DEFAULT_KEY: &str = "/var/lib/auditty-collector/collector.key";

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum CountersignError {
    /// The key file cannot be read or written.
    #[error("cannot {operation} the signing key {path}: {source}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read the key file.
    #[error("others may read the signing key {path} (mode {mode:o}): chmod 600")]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file holds no key.
    #[error("the signing key {path}: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SignatureError,
    },
}

/// Where the key is unless told otherwise: beside the database.
pub fn default_key(database: &Location) -> PathBuf {
    match database {
        Location::Sqlite(path) => path.with_extension("key"),
        Location::Postgres(_) => DEFAULT_KEY.into(),
    }
}

/// Signs in the collector's name. Clones share one key.
#[derive(Clone, Debug)]
pub struct Countersigner {
    key: Arc<SigningKey>,
}

impl Countersigner {
    /// Reads the Ed25519 key in this OpenSSH key file; makes one, readable by
    /// its owner only, where there is none.
    pub fn open(path: &Path) -> Result<Self, CountersignError> {
        let failed = |operation| {
            move |source| CountersignError::File {
                operation,
                path: path.to_owned(),
                source,
            }
        };
        let wrong = |source| CountersignError::Key {
            path: path.to_owned(),
            source,
        };
        if !path.exists() {
            let key = SigningKey::generate().map_err(wrong)?;
            let text = key.to_openssh("auditty-collector").map_err(wrong)?;
            create(path, text.as_ref()).map_err(failed("create"))?;
            let fingerprint = key.public().fingerprint();
            tracing::info!(fingerprint, path = %path.display(), "a signing key was made");
        }
        let mode = fs::metadata(path).map_err(failed("read"))?.permissions();
        let mode = mode.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(CountersignError::Readable {
                path: path.to_owned(),
                mode,
            });
        }
        let text = fs::read(path).map_err(failed("read"))?;
        let key = SigningKey::from_openssh(&text).map_err(wrong)?;
        Ok(Self { key: Arc::new(key) })
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// Receipts for the chain heads of a batch, in their order, with the time
    /// that it is now. What was signed before is signed again, which takes less
    /// than looking for it: the store keeps the first one.
    pub(crate) fn receipts(
        &self,
        batch: &Batch,
    ) -> Result<Vec<(KnownHead, SignedReceipt)>, ReceiptError> {
        let now = Timestamp::now();
        let heads = batch.facts.iter();
        let heads = heads.filter_map(|fact| known_head(&batch.host_id, fact));
        let heads: BTreeMap<_, _> = heads.collect();
        let sign = |(head, (recording, digest)): (KnownHead, _)| {
            let chunks = head.chunks;
            let signed = SignedReceipt::sign(&self.key, recording, chunks, digest, now)?;
            Ok((head, signed))
        };
        heads.into_iter().map(sign).collect()
    }
}

/// Whole or not at all, and never over another one.
fn create(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension(format!("key.{}", Uuid::now_v7()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let linked = match fs::hard_link(&new, path) {
        // Another collector was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    fs::remove_file(&new)?;
    linked?;
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// What a session's report says of its chain.
fn known_head(host_id: &str, fact: &Fact) -> Option<(KnownHead, (SessionKey, Digest))> {
    let Fact::Session { id, session, .. } = fact else {
        return None;
    };
    let recording = session.recording.as_ref()?;
    let digest: Digest = recording.chain_head.parse().ok()?;
    if recording.chunk_count == 0 {
        return None;
    }
    let at = recording.uri.rfind(&format!("{ROOT}host="))?;
    let folder = recording.uri.get(at..)?.trim_end_matches('/');
    let key: SessionKey = format!("{folder}/").parse().ok()?;
    let own = key.session_id() == *id && key.host_id() == host_id;
    own.then(|| {
        let head = KnownHead {
            session: *id,
            chunks: recording.chunk_count,
            chain_head: digest.to_string(),
        };
        (head, (key, digest))
    })
}
