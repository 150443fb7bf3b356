//! Files that are whole or absent.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A call on a file of the spool failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {call} {}: {problem}", path.display())]
pub struct SpoolError {
    /// What was tried.
    pub call: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why it failed.
    pub problem: io::Error,
}

impl SpoolError {
    pub(super) fn new(call: &'static str, path: &Path, problem: impl Into<io::Error>) -> Self {
        Self {
            call,
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    /// The disk, or what this user may have of it, is full.
    pub(super) fn is_no_room(&self) -> bool {
        matches!(
            self.problem.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// Content that cannot be what the agent wrote.
    pub(super) fn malformed(path: &Path, problem: impl ToString) -> Self {
        Self::new("read", path, io::Error::other(problem.to_string()))
    }
}

/// Creates a folder and its parents, for root only.
pub(super) fn create_folder(path: &Path) -> Result<(), SpoolError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| SpoolError::new("create", path, error))
}

/// The same, with durable names: what is synced in it later is there then.
pub(super) fn place_folder(path: &Path) -> Result<(), SpoolError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("")) {
        place_folder(parent)?;
    }
    create_folder(path)?;
    sync_parent(path)
}

/// Opens a new file, for root only; an old one is emptied.
pub(super) fn create_file(path: &Path) -> Result<File, SpoolError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| SpoolError::new("create", path, error))
}

/// Writes a file durably that is not there under its name before it is whole.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> Result<(), SpoolError> {
    let unfinished = unfinished(path);
    write_synced(&unfinished, content)?;
    rename(&unfinished, path)
}

/// Where a file is until it is whole.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    with_suffix(path, ".new")
}

/// Writes a file and syncs it. An old one with this name goes: after a failed
/// sync, the same file is not to be trusted.
pub(super) fn write_synced(path: &Path, content: &[u8]) -> Result<(), SpoolError> {
    delete(path)?;
    let mut file = create_file(path)?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(|error| SpoolError::new("write", path, error))
}

/// Renames a file durably.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), SpoolError> {
    fs::rename(from, to).map_err(|error| SpoolError::new("rename", from, error))?;
    sync_parent(to)
}

/// Makes the names in the folder of `path` durable.
pub(super) fn sync_parent(path: &Path) -> Result<(), SpoolError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| SpoolError::new("sync", folder, error))
}

/// Deletes a file; one that is not there is deleted already.
pub(super) fn delete(path: &Path) -> Result<(), SpoolError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SpoolError::new("delete", path, error))
        }
        _ => Ok(()),
    }
}

/// Names in a folder, sorted; those that are not UTF-8 are not the agent's.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, SpoolError> {
    let failed = |error| SpoolError::new("list", folder, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// `path` with `suffix` behind its name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
