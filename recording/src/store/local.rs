//! A store in a local folder: the embedded default.
//!
//! An object is written to a temporary name, synced, and given its name by a
//! hard link, which fails when the name exists: a crash leaves the object whole
//! or absent. Temporary names begin with a dot and are not listed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{
    Body, BoxFuture, Failure, Inspection, Listed, MAX_LISTED, PutOutcome, Store, StoreError,
    StoreUrl, is_plain,
};
use crate::digest::{Digest, Hasher};

/// Folders and files are for the owner and the group (`audit`, say) only.
const FOLDER_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;

/// Objects as files below a folder.
#[derive(Clone, Debug)]
pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    /// A store in `root`, which is created with the first object.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Runs `work` on the path of `key` where blocking is allowed.
    fn run<'a, T: Send + 'static>(
        &'a self,
        operation: &'static str,
        key: &'a str,
        work: impl FnOnce(PathBuf) -> Result<T, Failure> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        Box::pin(async move {
            let outcome = if key.is_empty() || is_plain(key) {
                let path = self.root.join(key);
                match tokio::task::spawn_blocking(move || work(path)).await {
                    Ok(outcome) => outcome,
                    Err(error) => Err(Failure::Transient(error.to_string())),
                }
            } else {
                Err(Failure::InvalidKey)
            };
            outcome.map_err(|failure| StoreError {
                operation,
                uri: self.uri(key),
                failure,
            })
        })
    }
}

impl Store for LocalStore {
    fn put_new<'a>(
        &'a self,
        key: &'a str,
        body: Body,
    ) -> BoxFuture<'a, Result<PutOutcome, StoreError>> {
        self.run("write", key, move |path| put(&path, &body))
    }

    fn get<'a>(&'a self, key: &'a str, limit: u64) -> BoxFuture<'a, Result<Body, StoreError>> {
        self.run("read", key, move |path| {
            let mut body = Vec::new();
            let count = File::open(path)?.take(limit + 1).read_to_end(&mut body)?;
            if count as u64 > limit {
                return Err(Failure::TooLarge { limit });
            }
            Ok(Body::from(body))
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        let root = self.root.clone();
        self.run("list", prefix, move |path| {
            let mut found = Vec::new();
            walk(&root, &path, &mut found)?;
            found.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(found)
        })
    }

    fn folders<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        let below = prefix.to_owned();
        self.run("list", prefix, move |path| {
            let mut found = Vec::new();
            for entry in entries(&path)? {
                if entry.file_type()?.is_dir() {
                    let name = entry.file_name();
                    found.push(format!("{below}{}/", name.to_string_lossy()));
                }
            }
            found.sort();
            Ok(found)
        })
    }

    fn inspect<'a>(
        &'a self,
        key: &'a str,
        body: Body,
    ) -> BoxFuture<'a, Result<Inspection, StoreError>> {
        Box::pin(async move {
            self.put_new(key, body).await?;
            Ok(Inspection::default())
        })
    }

    fn uri(&self, key: &str) -> String {
        StoreUrl::Local(self.root.join(key)).to_string()
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::Unsupported => Self::Config(error.to_string()),
            _ => Self::Transient(error.to_string()),
        }
    }
}

fn put(path: &Path, body: &[u8]) -> Result<PutOutcome, Failure> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Failure::InvalidKey);
    };
    create_folders(folder)?;
    let unique = uuid::Uuid::now_v7();
    let temporary = folder.join(format!(".{}.{unique}", name.to_string_lossy()));
    let linked = write(&temporary, body).and_then(|()| fs::hard_link(&temporary, path));
    let removed = fs::remove_file(&temporary);
    match linked {
        Ok(()) => {
            removed?;
            File::open(folder)?.sync_all()?;
            Ok(PutOutcome::Created)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let (expected, found) = (Digest::of(body), digest(path)?);
            if expected != found {
                return Err(Failure::Conflict { expected, found });
            }
            // The put that made it may have died before this.
            File::open(folder)?.sync_all()?;
            Ok(PutOutcome::AlreadyIdentical)
        }
        Err(error) => Err(error.into()),
    }
}

fn write(path: &Path, body: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)?;
    file.write_all(body)?;
    file.sync_all()
}

fn digest(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// Creates `folder` and its missing parents, each durable in its parent.
fn create_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|parent| *parent != Path::new(""));
    if let Some(parent) = parent {
        create_folders(parent)?;
    }
    match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// The visible entries of a folder; none when it does not exist.
fn entries(folder: &Path) -> Result<Vec<fs::DirEntry>, Failure> {
    let mut found = Vec::new();
    let listing = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        other => other?,
    };
    for entry in listing {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            found.push(entry);
        }
        if found.len() > MAX_LISTED {
            return Err(Failure::TooMany);
        }
    }
    Ok(found)
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<Listed>) -> Result<(), Failure> {
    for entry in entries(folder)? {
        let kind = entry.file_type()?;
        let path = entry.path();
        if kind.is_dir() {
            walk(root, &path, found)?;
        } else if let (true, Ok(key)) = (kind.is_file(), path.strip_prefix(root)) {
            found.push(Listed {
                key: key.to_string_lossy().into_owned(),
                bytes: entry.metadata()?.len(),
            });
        }
        if found.len() > MAX_LISTED {
            return Err(Failure::TooMany);
        }
    }
    Ok(())
}
