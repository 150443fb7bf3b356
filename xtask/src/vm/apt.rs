//! apt with everything of its own but the keys and the network settings: it
//! downloads what this machine does not have installed, from suites that it does
//! not use, and leaves no trace in its lists.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::workspace;

/// apt for one suite of Debian, in a folder of its own.
pub struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Empties the folder and reads the lists of the suite.
    pub fn new(suite: &str, folder: &Path) -> Result<Self> {
        let _ = fs::remove_dir_all(folder);
        for name in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(folder.join(name))
                .with_context(|| format!("could not create {}", folder.display()))?;
        }
        let write = |name: &str, text: String| {
            let file = folder.join(name);
            fs::write(&file, text).with_context(|| format!("could not write {}", file.display()))
        };
        write(
            "sources.list",
            format!("deb [arch=amd64] {} {suite} main\n", mirror()?),
        )?;
        // Nothing is installed.
        write("status", String::new())?;
        let apt = Self {
            folder: folder.to_owned(),
        };
        apt.run("apt-get", &["update"])?;
        Ok(apt)
    }

    /// Downloads packages with all that they depend on, and gives the files.
    pub fn download(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let options = [
            "install",
            "--yes",
            "--download-only",
            "--no-install-recommends",
        ];
        self.run("apt-get", &[&options[..], packages].concat())?;
        self.archives("archives")
    }

    /// Downloads one package without what it depends on.
    pub fn download_alone(&self, package: &str) -> Result<PathBuf> {
        self.run("apt-get", &["download", package])?;
        let mut files = self.archives(".")?;
        files
            .pop()
            .with_context(|| format!("apt-get downloaded no {package}"))
    }

    /// The package with this prefix that `package` depends on.
    pub fn dependency(&self, package: &str, prefix: &str) -> Result<String> {
        let list = self.run("apt-cache", &["depends", "--important", package])?;
        list.lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with(prefix))
            .map(str::to_owned)
            .with_context(|| format!("{package} depends on no {prefix}*"))
    }

    fn archives(&self, name: &str) -> Result<Vec<PathBuf>> {
        let folder = self.folder.join(name);
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("could not read {}", folder.display()))?;
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|kind| kind == "deb"));
        files.sort();
        Ok(files)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let folder = self.folder.display();
        let mut command = Command::new(program);
        command.current_dir(&self.folder).arg("-q");
        for option in [
            &format!("Dir::Etc::sourcelist={folder}/sources.list"),
            "Dir::Etc::sourceparts=-",
            &format!("Dir::State::lists={folder}/lists"),
            &format!("Dir::State::status={folder}/status"),
            &format!("Dir::Cache::archives={folder}/archives"),
            // No caches of other lists, and none left behind.
            "Dir::Cache::pkgcache=",
            "Dir::Cache::srcpkgcache=",
            "APT::Architecture=amd64",
            "APT::Sandbox::User=root",
        ] {
            command.args(["-o", option]);
        }
        let output = command
            .args(arguments)
            .output()
            .with_context(|| format!("{program} did not start"))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        let trouble = errors.lines().find(|line| line.starts_with(['E', 'W']));
        ensure!(
            output.status.success() && trouble.is_none(),
            "{program} {}: {}",
            arguments.join(" "),
            trouble.unwrap_or("failed")
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Unpacks a package without installing it.
pub fn unpack(archive: &Path, folder: &Path) -> Result<()> {
    workspace::run(
        Command::new("dpkg-deb").arg("-x").arg(archive).arg(folder),
        "unpack a package",
    )
}

/// The mirror in this machine's sources, whatever their syntax: where the
/// release itself comes from, not its updates.
fn mirror() -> Result<String> {
    let format = "$(RELEASE) $(ORIGIN) $(REPO_URI)";
    let targets = workspace::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        format,
        "Created-By: Packages",
    ]))
    .context("apt does not name its sources: run `apt-get update`")?;
    targets
        .lines()
        .filter_map(|line| line.split_once(" Debian "))
        .find(|(release, _)| !release.contains('-'))
        .map(|(_, address)| address.to_owned())
        .context("this machine has no Debian mirror in its sources")
}

/// Whether a folder holds what was once downloaded: `SHA256SUMS` is written
/// last, so that what was interrupted is done again.
pub fn intact(folder: &Path) -> bool {
    folder.join("SHA256SUMS").exists()
        && Command::new("sha256sum")
            .args(["--check", "--strict", "--status", "SHA256SUMS"])
            .current_dir(folder)
            .status()
            .is_ok_and(|status| status.success())
}

/// Writes `SHA256SUMS` for these files of a folder.
pub fn seal(folder: &Path, files: &[&str]) -> Result<()> {
    let sums = workspace::output(Command::new("sha256sum").args(files).current_dir(folder))
        .context("sha256sum failed")?;
    fs::write(folder.join("SHA256SUMS"), sums + "\n").context("could not write SHA256SUMS")
}
