//! The host's signing key, its key log and its digest chain, on disk.
//!
//! ```text
//! <state>/keys/NNNNNN.key   the private key that signs now (OpenSSH format, 0600)
//!             /state.json   the newest key log entry and digest: the commit point
//! <spool>/sealed/…          one file for each manifest that no digest lists yet
//! <spool>/host/…            entries and digests on their way to the store
//! ```
//!
//! What they are for, and in which order they are written, is said in
//! [`auditty_recording::host`]. A state that cannot be read any more begins a
//! new key log: recording goes on, and verification shows the break.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditty_recording::digest::Digest;
use auditty_recording::host::{
    DigestContent, HostSigner, SealedManifest, SignerError, SignerState,
};
use auditty_recording::key::ObjectKey;
use auditty_recording::manifest::Manifest;
use auditty_recording::signature::SigningKey;
use jiff::{SignedDuration, Timestamp};

use super::files::{SpoolError, delete, names, place_folder, sync_parent, write_whole};
use super::host_objects::HostObjects;

/// Most manifests that one digest lists; the rest stands in the next one.
const MAX_SEALED: usize = 10_000;

/// How long a key that could not be changed signs on before the next try.
const ROTATION_PAUSE: Duration = Duration::from_secs(60);

/// Signs, and keeps what is needed to go on signing.
pub(super) struct Signer {
    directory: PathBuf,
    sealed: PathBuf,
    signer: HostSigner,
    lifetime: SignedDuration,
    interval: Duration,
    last_digest: Instant,
    /// Not before this moment the key is changed.
    next_rotation: Instant,
    /// Something of the kept state may not be on its way to the store.
    unsent: bool,
    objects: Arc<HostObjects>,
}

/// How a [`Signer`] works.
pub(super) struct SignerOptions<'a> {
    /// Folder of keys.
    pub(super) keys: &'a Path,
    /// The spool.
    pub(super) spool: &'a Path,
    /// The host.
    pub(super) host_id: &'a str,
    /// How long a key signs.
    pub(super) lifetime: Duration,
    /// Time between digests.
    pub(super) interval: Duration,
}

impl Signer {
    /// Goes on with the key of an agent before, or begins a key log.
    pub(super) fn open(
        options: &SignerOptions<'_>,
        objects: Arc<HostObjects>,
    ) -> Result<Self, SpoolError> {
        let sealed = options.spool.join("sealed");
        place_folder(options.keys)?;
        place_folder(&sealed)?;
        let signer = match kept(options.keys, options.host_id)? {
            Some(signer) => signer,
            None => begin(options.keys, options.host_id)?,
        };
        let mut new = Self {
            directory: options.keys.to_owned(),
            sealed,
            signer,
            lifetime: SignedDuration::try_from(options.lifetime).unwrap_or(SignedDuration::MAX),
            interval: options.interval,
            last_digest: Instant::now(),
            next_rotation: Instant::now(),
            // An agent before may have died before it let them out.
            unsent: true,
            objects,
        };
        new.destroy_other_keys()?;
        new.send_again()?;
        Ok(new)
    }

    /// Signs a manifest: its JSON and its signature.
    pub(super) fn seal(
        &mut self,
        manifest: &mut Manifest,
        path: &Path,
    ) -> Result<(Vec<u8>, String), SpoolError> {
        self.signer
            .seal(manifest, Timestamp::now())
            .map_err(|error| SpoolError::malformed(path, error))
    }

    /// Notes a manifest for the next digest; to be called before it can leave
    /// the spool, with its final content.
    pub(super) fn list(&self, manifest: ObjectKey, json: &[u8]) -> Result<(), SpoolError> {
        let name = format!("{}-{}", manifest.session.session_id(), manifest.name);
        let path = self.sealed.join(name);
        let entry = SealedManifest {
            manifest,
            sha256: Digest::of(json),
        };
        let json =
            serde_json::to_vec(&entry).map_err(|error| SpoolError::malformed(&path, error))?;
        write_whole(&path, &json)
    }

    /// Whether a digest is due.
    pub(super) fn digest_is_due(&self, now: Instant) -> bool {
        now.duration_since(self.last_digest) >= self.interval
    }

    /// Whether another key is due.
    pub(super) fn key_is_due(&self, now: Instant) -> bool {
        now >= self.next_rotation && self.signer.is_due(Timestamp::now(), self.lifetime)
    }

    /// The next change of the key, when this one fails, is tried later.
    pub(super) fn put_off_rotation(&mut self, now: Instant) {
        self.next_rotation = now + ROTATION_PAUSE;
    }

    /// Makes the next digest. After an error it is tried again at the next
    /// interval: what it would have listed stays in the spool.
    pub(super) fn digest(&mut self, mut content: DigestContent) -> Result<(), SpoolError> {
        self.last_digest = Instant::now();
        self.send_again()?;
        let listed = self.listed(&mut content)?;
        let state = self
            .signer
            .digest(content, Timestamp::now())
            .map_err(|error| self.failed(error))?;
        keep(&self.directory, &state)?;
        self.signer
            .adopt(state)
            .map_err(|error| self.failed(error))?;
        self.unsent = true;
        if let Some(digest) = &self.signer.state().digest {
            self.objects.push(digest)?;
        }
        self.unsent = false;
        listed.iter().try_for_each(|path| delete(path))
    }

    /// Puts what is noted into `content`; the files to delete afterwards.
    fn listed(&self, content: &mut DigestContent) -> Result<Vec<PathBuf>, SpoolError> {
        let mut listed = Vec::new();
        for name in names(&self.sealed)?.into_iter().take(MAX_SEALED) {
            let path = self.sealed.join(name);
            if path.extension().is_some_and(|suffix| suffix == "new") {
                continue;
            }
            let json = fs::read(&path).map_err(|error| SpoolError::new("read", &path, error))?;
            match serde_json::from_slice(&json) {
                Ok(entry) => content.sealed.push(entry),
                Err(error) => {
                    tracing::error!(%error, path = %path.display(), "the note of a sealed manifest is damaged: no digest will list it")
                }
            }
            listed.push(path);
        }
        Ok(listed)
    }

    /// Changes the key, and destroys the old one.
    pub(super) fn rotate(&mut self) -> Result<(), SpoolError> {
        self.send_again()?;
        let key = generate(&self.directory)?;
        let next = self
            .signer
            .succeed(key, Timestamp::now())
            .map_err(|error| self.failed(error))?;
        // The key file has to be there before the state that names it.
        let number = next.entry().number;
        keep_key(&self.directory, number, &next)?;
        keep(&self.directory, next.state())?;
        (self.signer, self.unsent) = (next, true);
        self.next_rotation = Instant::now();
        self.destroy_other_keys()?;
        self.objects.push(&self.signer.state().entry)?;
        self.unsent = false;
        Ok(())
    }

    /// Nothing new is signed before all that was is on its way: the kept state
    /// holds one entry and one digest only.
    fn send_again(&mut self) -> Result<(), SpoolError> {
        if self.unsent {
            let state = self.signer.state();
            self.objects.push_again(&state.entry)?;
            if let Some(digest) = &state.digest {
                self.objects.push_again(digest)?;
            }
            self.unsent = false;
        }
        Ok(())
    }

    /// Destroys every private key but the one that signs.
    fn destroy_other_keys(&self) -> Result<(), SpoolError> {
        let current = key_file(&self.directory, self.signer.entry().number);
        for name in names(&self.directory)? {
            let path = self.directory.join(&name);
            if name.contains(".key") && path != current {
                destroy(&path)?;
            }
        }
        Ok(())
    }

    fn failed(&self, error: SignerError) -> SpoolError {
        SpoolError::malformed(&self.directory, error)
    }
}

fn key_file(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:06}.key"))
}

fn state_file(directory: &Path) -> PathBuf {
    directory.join("state.json")
}

/// The signer of an agent before; `None` when there is none that works.
fn kept(directory: &Path, host_id: &str) -> Result<Option<HostSigner>, SpoolError> {
    let path = state_file(directory);
    let Some(json) = read_if_there(&path)? else {
        return Ok(None);
    };
    match resume(directory, host_id, &json) {
        Ok(signer) => Ok(Some(signer)),
        Err(error) => {
            tracing::error!(%error, path = %path.display(), "the host's signing key cannot be used any more: a new key log begins, and verification shows the break");
            Ok(None)
        }
    }
}

fn resume(directory: &Path, host_id: &str, json: &[u8]) -> Result<HostSigner, SignerError> {
    let state: SignerState = serde_json::from_slice(json)?;
    let entry = auditty_recording::host::KeyEntry::from_json(state.entry.json.as_bytes())?;
    let key = fs::read(key_file(directory, entry.number)).unwrap_or_default();
    HostSigner::resume(host_id, state, SigningKey::from_openssh(&key)?)
}

fn begin(directory: &Path, host_id: &str) -> Result<HostSigner, SpoolError> {
    let key = generate(directory)?;
    let signer = HostSigner::begin(host_id, key, Timestamp::now())
        .map_err(|error| SpoolError::malformed(directory, error))?;
    keep_key(directory, 0, &signer)?;
    keep(directory, signer.state())?;
    tracing::info!(
        fingerprint = signer.entry().fingerprint,
        log = %signer.entry().log,
        "a key log begins: recordings of this host are signed"
    );
    Ok(signer)
}

fn generate(directory: &Path) -> Result<SigningKey, SpoolError> {
    SigningKey::generate().map_err(|error| SpoolError::malformed(directory, error))
}

fn keep_key(directory: &Path, number: u64, signer: &HostSigner) -> Result<(), SpoolError> {
    let path = key_file(directory, number);
    let text = signer
        .private_key()
        .map_err(|error| SpoolError::malformed(&path, error))?;
    write_whole(&path, text.as_ref().as_bytes())
}

fn keep(directory: &Path, state: &SignerState) -> Result<(), SpoolError> {
    let path = state_file(directory);
    let json = serde_json::to_vec(state).map_err(|error| SpoolError::malformed(&path, error))?;
    write_whole(&path, &json)
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, SpoolError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SpoolError::new("read", path, error)),
    }
}

/// Overwrites and deletes a private key. On a file system that writes
/// elsewhere, and on flash, the old blocks may outlive this.
fn destroy(path: &Path) -> Result<(), SpoolError> {
    let length = fs::metadata(path).map_or(0, |file| file.len());
    let zeros = vec![0; usize::try_from(length).unwrap_or(0).min(64 << 10)];
    let overwritten = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| {
            std::io::Write::write_all(&mut file, &zeros)?;
            file.sync_all()
        });
    overwritten.map_err(|error| SpoolError::new("overwrite", path, error))?;
    delete(path)?;
    sync_parent(path)
}
