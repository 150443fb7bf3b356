//! The kernels of the matrix, and where they come from.
//!
//! Debian's cloud kernels: everything that the guest needs is built in, they
//! have BTF, and the suites hold one long-term kernel each. apt downloads them
//! with a sources list and lists of its own, from the mirror that this machine
//! uses and with the keys that it trusts. `target/vm/kernels/<suite>` keeps the
//! image, its version and its digest: the second run downloads nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::workspace;

/// A kernel, and how it is booted.
#[derive(Debug, PartialEq, Eq)]
pub struct Kernel {
    /// What the table calls it.
    pub name: &'static str,
    /// Debian's suite.
    suite: &'static str,
    /// Added to its command line. What the kernel does not know, such as
    /// `vm_tracefs`, is in the environment of the guest's first process.
    pub parameters: &'static str,
}

/// The preemption mode matters: a kernel program that is preempted half-way can
/// make the kernel skip the same program for everybody else on that CPU.
/// Debian's 7.2 is lazily preemptible by default, the others voluntarily.
pub const MATRIX: [Kernel; 6] = [
    Kernel {
        name: "5.10",
        suite: "bullseye",
        parameters: "",
    },
    Kernel {
        name: "6.1",
        suite: "bookworm",
        parameters: "vm_tracefs=agent",
    },
    Kernel {
        name: "6.12",
        suite: "trixie",
        parameters: "",
    },
    Kernel {
        name: "6.12-preempt",
        suite: "trixie",
        parameters: "preempt=full",
    },
    Kernel {
        name: "7.2",
        suite: "sid",
        parameters: "",
    },
    Kernel {
        name: "7.2-preempt",
        suite: "sid",
        parameters: "preempt=full",
    },
];

/// A bootable kernel.
pub struct Image {
    /// The compressed kernel.
    pub path: PathBuf,
    /// Name of the package it is from.
    pub version: String,
}

/// Finds a kernel by its name.
pub fn parse(name: &str) -> Result<&'static Kernel, String> {
    MATRIX
        .iter()
        .find(|kernel| kernel.name == name)
        .ok_or_else(|| {
            let names: Vec<_> = MATRIX.iter().map(|kernel| kernel.name).collect();
            format!("the kernels are {}", names.join(", "))
        })
}

impl Kernel {
    /// The kept image, or a downloaded one.
    pub fn image(&self) -> Result<Image> {
        let folder = super::folder()?.join("kernels").join(self.suite);
        if !intact(&folder) {
            download(self.suite, &folder)
                .with_context(|| format!("no kernel from {}, the suite of Debian", self.suite))?;
        }
        let version = fs::read_to_string(folder.join("version"))
            .context("could not read the version of the kernel")?;
        Ok(Image {
            path: folder.join("vmlinuz"),
            version: version.trim().to_owned(),
        })
    }
}

/// Whether the folder holds what was once downloaded.
fn intact(folder: &Path) -> bool {
    // Written last: what was interrupted is done again.
    folder.join("SHA256SUMS").exists()
        && Command::new("sha256sum")
            .args(["--check", "--strict", "--status", "SHA256SUMS"])
            .current_dir(folder)
            .status()
            .is_ok_and(|status| status.success())
}

fn download(suite: &str, folder: &Path) -> Result<()> {
    let work = folder.join("download");
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(work.join("lists/partial"))
        .with_context(|| format!("could not create {}", work.display()))?;
    let list = work.join("sources.list");
    fs::write(
        &list,
        format!("deb [arch=amd64] {} {suite} main\n", mirror()?),
    )
    .with_context(|| format!("could not write {}", list.display()))?;
    let apt = Apt { work: &work };
    apt.run("apt-get", &["update"])?;
    let image = apt.dependency("linux-image-cloud-amd64", "linux-image-")?;
    // Newer kernels ship the image in a package that linux-image depends on.
    let package = apt.dependency(&image, "linux-binary-").unwrap_or(image);
    apt.run("apt-get", &["download", &package])?;

    let archive = find(&work, |name| name.ends_with(".deb"))?;
    let tree = work.join("tree");
    workspace::run(
        Command::new("dpkg-deb").arg("-x").arg(archive).arg(&tree),
        "unpack the kernel's package",
    )?;
    let kernel = find(&tree, |name| name.starts_with("vmlinuz"))?;
    fs::rename(&kernel, folder.join("vmlinuz"))
        .with_context(|| format!("could not move {}", kernel.display()))?;
    fs::write(folder.join("version"), &package).context("could not write the version")?;
    let sums = workspace::output(
        Command::new("sha256sum")
            .args(["vmlinuz", "version"])
            .current_dir(folder),
    )
    .context("sha256sum failed")?;
    fs::remove_dir_all(&work).with_context(|| format!("could not remove {}", work.display()))?;
    fs::write(folder.join("SHA256SUMS"), sums + "\n").context("could not write SHA256SUMS")
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

/// apt with everything of its own but the keys and the network settings.
struct Apt<'a> {
    work: &'a Path,
}

impl Apt<'_> {
    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let work = self.work.display();
        let mut command = Command::new(program);
        command.current_dir(self.work).args(["-q", "-o"]);
        for option in [
            format!("Dir::Etc::sourcelist={work}/sources.list"),
            "-o".to_owned(),
            "Dir::Etc::sourceparts=-".to_owned(),
            "-o".to_owned(),
            format!("Dir::State::lists={work}/lists"),
            "-o".to_owned(),
            // No caches of other lists, and none left behind.
            "Dir::Cache::pkgcache=".to_owned(),
            "-o".to_owned(),
            "Dir::Cache::srcpkgcache=".to_owned(),
            "-o".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "-o".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.arg(option);
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

    /// The package with this prefix that `package` depends on.
    fn dependency(&self, package: &str, prefix: &str) -> Result<String> {
        let list = self.run("apt-cache", &["depends", "--important", package])?;
        list.lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with(prefix))
            .map(str::to_owned)
            .with_context(|| format!("{package} depends on no {prefix}*"))
    }
}

/// The first file below a folder with such a name.
fn find(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("could not read {}", folder.display()))?;
        for entry in entries {
            let entry = entry.context("could not read a folder")?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else if wanted(&entry.file_name().to_string_lossy()) {
                return Ok(entry.path());
            }
        }
    }
    anyhow::bail!("{} does not hold the expected file", folder.display())
}
