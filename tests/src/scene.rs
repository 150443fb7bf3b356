//! [`Scene`]: the folder of one test, and everything that must be gone after it.

use std::{
    cell::{Cell, RefCell},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::{cleanup::Cleanup, process::Process};

/// The folder of one test. `AUDITTY_KEEP=1` keeps it, for looking around.
#[derive(Debug)]
pub struct Scene {
    folder: TempDir,
    cleanup: RefCell<Cleanup>,
    processes: Cell<usize>,
}

impl Scene {
    /// A new folder that users of the test can enter.
    pub fn new() -> Result<Self> {
        let keep = std::env::var_os("AUDITTY_KEEP").is_some();
        let folder = tempfile::Builder::new()
            .prefix("auditty-test-")
            .disable_cleanup(keep)
            .tempdir()
            .context("could not create a temporary folder")?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let cleanup = RefCell::new(Cleanup::new()?);
        let scene = Self {
            folder,
            cleanup,
            processes: Cell::new(0),
        };
        if keep {
            eprintln!("kept: {}", scene.folder.path().display());
        } else {
            scene.later(&format!("rm -rf '{}'", scene.folder.path().display()))?;
        }
        Ok(scene)
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file in the folder.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, content).with_context(|| format!("could not write {}", path.display()))?;
        Ok(path)
    }

    /// Runs a line of shell when everything is over, however it ends.
    pub fn later(&self, line: &str) -> Result<()> {
        self.cleanup.borrow_mut().later(line)
    }

    /// Starts a process whose output goes to a log in the folder.
    pub fn spawn(&self, name: &str, command: &mut Command) -> Result<Process> {
        let number = self.processes.get() + 1;
        self.processes.set(number);
        let folder = self.folder.path();
        command.env("AUDITTY_SCENE", folder);
        let process = Process::start(name, command, &self.path(&format!("{number}-{name}.log")))?;
        // The process id may have a new owner by then: only one that names us.
        self.later(&format!(
            "cat /proc/{pid}/cmdline /proc/{pid}/environ | grep -qaF '{}' && kill -KILL {pid}",
            folder.display(),
            pid = process.pid()
        ))?;
        Ok(process)
    }
}

/// Runs a command that must succeed, and gives its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("{command:?} did not start"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Every file below a folder.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if !folder.exists() {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}
