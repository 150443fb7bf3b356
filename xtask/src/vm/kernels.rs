//! The kernels of the matrix, and where they come from.
//!
//! Debian's cloud kernels: everything that the guest needs is built in, they
//! have BTF, and the suites hold one long-term kernel each.
//! `target/vm/kernels/<suite>` keeps the image, its version and its digest: the
//! second run downloads nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    apt::{self, Apt},
    userland::{BOOKWORM, TRIXIE, Userland},
};

/// A kernel, and how it is booted.
#[derive(Debug, PartialEq, Eq)]
pub struct Kernel {
    /// What the table calls it.
    pub name: &'static str,
    /// Debian's suite.
    suite: &'static str,
    /// What runs in it.
    pub userland: Userland,
    /// The preemption mode that must be in force, where the kernel tells. It
    /// matters: a kernel program that is preempted half-way can make the kernel
    /// skip the same program for everybody else on that CPU.
    pub preempt: Option<&'static str>,
    /// Added to its command line. What the kernel does not know, such as
    /// `vm_tracefs`, is in the environment of the guest's first process.
    pub parameters: &'static str,
    /// The ways of capture that are tested, and how much of each unless
    /// everything is asked for.
    pub modes: &'static [(&'static str, Usual)],
}

/// How much of the suite runs unless everything is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usual {
    /// Every test.
    Suite,
    /// [`STRESS`].
    Stress,
    /// None.
    Nothing,
}

/// The tests whose outcome depends on the preemption mode: many sessions and
/// programs at a time.
pub const STRESS: [&str; 6] = [
    "check",
    "one-by-one",
    "crowd-40",
    "crowd-scripts",
    "exec-loops",
    "fork-storm",
];

/// Why something is left out unless everything is asked for.
pub const LEFT_OUT: &str = "only with `cargo xtask vm --full` or `--native`, for the time it takes";

/// Every way of capture, best first.
pub const MODES: [&str; 3] = ["kernel-function", "tracepoint", "uprobe"];

/// Of each kernel one preemption mode is tested in every way of capture, the
/// others in the one that the agent chooses.
const EVERY_WAY: &[(&str, Usual)] = &[
    ("kernel-function", Usual::Suite),
    ("tracepoint", Usual::Nothing),
    ("uprobe", Usual::Nothing),
];
const EVERY_WAY_STRESSED: &[(&str, Usual)] = &[
    ("kernel-function", Usual::Stress),
    ("tracepoint", Usual::Nothing),
    ("uprobe", Usual::Nothing),
];
/// Real sessions run there when the power is cut.
const EVERY_WAY_LEFT: &[(&str, Usual)] = &[
    ("kernel-function", Usual::Nothing),
    ("tracepoint", Usual::Nothing),
    ("uprobe", Usual::Nothing),
];
const STRESSED: &[(&str, Usual)] = &[("kernel-function", Usual::Stress)];
const LEFT: &[(&str, Usual)] = &[("kernel-function", Usual::Nothing)];

/// Every preemption mode that each kernel knows: 5.10 is built without a choice,
/// 7.2 knows `lazy` (its default) and `full`, those between `none`, `voluntary`
/// (their default) and `full`.
pub const MATRIX: [Kernel; 9] = [
    Kernel {
        name: "5.10",
        suite: "bullseye",
        userland: BOOKWORM,
        preempt: None,
        parameters: "",
        modes: EVERY_WAY_STRESSED,
    },
    Kernel {
        name: "6.1",
        suite: "bookworm",
        userland: BOOKWORM,
        preempt: Some("voluntary"),
        parameters: "vm_tracefs=agent",
        modes: LEFT,
    },
    Kernel {
        name: "6.1-none",
        suite: "bookworm",
        userland: BOOKWORM,
        preempt: Some("none"),
        parameters: "preempt=none vm_tracefs=agent",
        modes: EVERY_WAY_LEFT,
    },
    Kernel {
        name: "6.1-full",
        suite: "bookworm",
        userland: BOOKWORM,
        preempt: Some("full"),
        parameters: "preempt=full",
        modes: LEFT,
    },
    Kernel {
        name: "6.12",
        suite: "trixie",
        userland: TRIXIE,
        preempt: Some("voluntary"),
        parameters: "",
        modes: LEFT,
    },
    Kernel {
        name: "6.12-none",
        suite: "trixie",
        userland: BOOKWORM,
        preempt: Some("none"),
        parameters: "preempt=none",
        modes: LEFT,
    },
    Kernel {
        name: "6.12-full",
        suite: "trixie",
        userland: BOOKWORM,
        preempt: Some("full"),
        parameters: "preempt=full",
        modes: EVERY_WAY_STRESSED,
    },
    Kernel {
        name: "7.2-lazy",
        suite: "sid",
        userland: TRIXIE,
        preempt: Some("lazy"),
        parameters: "",
        modes: STRESSED,
    },
    Kernel {
        name: "7.2-full",
        suite: "sid",
        userland: TRIXIE,
        preempt: Some("full"),
        parameters: "preempt=full",
        modes: EVERY_WAY,
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
        if !apt::intact(&folder) {
            eprintln!("kernel: downloads that of {}", self.suite);
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

fn download(suite: &str, folder: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(folder);
    let work = folder.join("download");
    let apt = Apt::new(suite, &work)?;
    let image = apt.dependency("linux-image-cloud-amd64", "linux-image-")?;
    // Newer kernels ship the image in a package that linux-image depends on.
    let package = apt.dependency(&image, "linux-binary-").unwrap_or(image);
    let tree = work.join("tree");
    apt::unpack(&apt.download_alone(&package)?, &tree)?;
    let kernel = find(&tree, |name| name.starts_with("vmlinuz"))?;
    fs::rename(&kernel, folder.join("vmlinuz"))
        .with_context(|| format!("could not move {}", kernel.display()))?;
    fs::write(folder.join("version"), &package).context("could not write the version")?;
    fs::remove_dir_all(&work).with_context(|| format!("could not remove {}", work.display()))?;
    apt::seal(folder, &["vmlinuz", "version"])
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
