//! The guests' user space: Debian packages, unpacked and packed into an
//! initramfs, so that a guest does not depend on what this machine has
//! installed. `target/vm/userland/<suite>` keeps it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    apt::{self, Apt},
    archive::Archive,
};

/// A user space, by the version of OpenSSH that matters.
#[derive(Debug, PartialEq, Eq)]
pub struct Userland {
    /// What its files are called.
    pub name: &'static str,
    /// Debian's suite.
    suite: &'static str,
    /// The server in it.
    pub openssh: &'static str,
    /// What it has besides [`PACKAGES`].
    more: &'static [&'static str],
}

/// Debian 12.
pub const BOOKWORM: Userland = Userland {
    name: "bookworm",
    suite: "bookworm",
    openssh: "9.2",
    more: &[],
};

/// Debian 12 as a host has it.
pub const SYSTEMD: Userland = Userland {
    name: "bookworm-systemd",
    suite: "bookworm",
    openssh: "9.2",
    more: &["systemd", "systemd-sysv"],
};

/// Debian 13: sshd in three programs.
pub const TRIXIE: Userland = Userland {
    name: "trixie",
    suite: "trixie",
    openssh: "10.0",
    // `script` is in a package of its own there, and so is `useradd`'s
    // configuration a dependency of it.
    more: &["bsdextrautils"],
};

/// What the suite and its rig use, and what Debian takes for granted.
const PACKAGES: [&str; 33] = [
    "base-passwd",
    "bash",
    "bsdutils",
    "coreutils",
    "dash",
    "diffutils",
    "dropbear-bin",
    "findutils",
    "grep",
    "hostname",
    "iproute2",
    "libc-bin",
    "libpam-modules",
    "libpam-runtime",
    "login",
    "mawk",
    "mount",
    "ncurses-base",
    "ncurses-bin",
    "openssh-client",
    "openssh-server",
    "openssh-sftp-server",
    "openssl",
    "passwd",
    "procps",
    "rsync",
    "sed",
    "sshpass",
    "strace",
    "sudo",
    "tmux",
    "util-linux",
    "zstd",
];

/// Where there is only text that nobody reads in a guest, or perl.
const LEFT_OUT: [&str; 10] = [
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/perl",
    "usr/share/perl5",
    "usr/share/bash-completion",
    "usr/share/zsh",
    "usr/lib/x86_64-linux-gnu/perl",
    "usr/lib/x86_64-linux-gnu/gconv",
];

impl Userland {
    /// The kept archive, or a new one.
    pub fn archive(&self) -> Result<PathBuf> {
        let folder = super::folder()?.join("userland").join(self.name);
        let wanted = self.packages().join("\n");
        let kept = fs::read_to_string(folder.join("packages"));
        if !(kept.is_ok_and(|kept| kept == wanted) && apt::intact(&folder)) {
            eprintln!("userland: downloads the packages of {}", self.name);
            self.build(&folder)
                .with_context(|| format!("no user space from {}", self.suite))?;
        }
        Ok(folder.join("base.cpio"))
    }

    fn packages(&self) -> Vec<&'static str> {
        PACKAGES.iter().chain(self.more).copied().collect()
    }

    fn build(&self, folder: &Path) -> Result<()> {
        let _ = fs::remove_dir_all(folder);
        let work = folder.join("download");
        let apt = Apt::new(self.suite, &work)?;
        let packages = self.packages();
        let tree = work.join("tree");
        for archive in apt.download(&packages)? {
            apt::unpack(&archive, &tree)?;
        }
        let path = folder.join("base.cpio");
        let mut archive = Archive::create(&path).context("could not create the archive")?;
        archive
            .merged_usr()
            .context("could not write the archive")?;
        archive
            .tree(&tree, &LEFT_OUT)
            .context("could not write the archive")?;
        archive.finish().context("could not write the archive")?;
        fs::write(folder.join("packages"), packages.join("\n"))
            .context("could not write the list of packages")?;
        fs::remove_dir_all(&work)
            .with_context(|| format!("could not remove {}", work.display()))?;
        apt::seal(folder, &["base.cpio", "packages"])
    }
}
