//! The guest's file system in memory: a user space of Debian's, and over it the
//! product's binaries, the capture suite, and the little configuration that
//! packages make when they are installed.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{archive::Archive, userland::Userland};
use crate::workspace;

/// The first process: mounts, network, the suite, power off.
const INIT: &str = include_str!("guest/init.sh");

/// What is built here and runs there.
const BINARIES: [&str; 2] = ["auditty-agent", "auditty-capture-suite"];

/// Mount points, and folders that sshd and useradd insist on.
const FOLDERS: [&str; 8] = [
    "/dev",
    "/etc",
    "/home",
    "/proc",
    "/root",
    "/run",
    "/sys",
    "/var/empty",
];

const FILES: [(&str, u32, &str); 13] = [
    ("/init", 0o755, INIT),
    (
        "/etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/bash\n\
         sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    (
        "/etc/group",
        0o644,
        "root:x:0:\ntty:x:5:\nsudo:x:27:\nshadow:x:42:\nutmp:x:43:\nusers:x:100:\nnogroup:x:65534:\n",
    ),
    (
        "/etc/shadow",
        0o640,
        "root:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n",
    ),
    ("/etc/gshadow", 0o640, "root:*::\n"),
    // dropbear lets nobody in whose shell is not here.
    ("/etc/shells", 0o644, "/bin/sh\n/bin/bash\n"),
    ("/etc/hosts", 0o644, "127.0.0.1 localhost guest\n"),
    (
        "/etc/nsswitch.conf",
        0o644,
        "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
    ),
    (
        "/etc/pam.d/common-auth",
        0o644,
        "auth required pam_unix.so\n",
    ),
    (
        "/etc/pam.d/common-account",
        0o644,
        "account required pam_unix.so\n",
    ),
    // The hash that is cheapest to emulate.
    (
        "/etc/pam.d/common-password",
        0o644,
        "password required pam_unix.so sha512 rounds=1000\n",
    ),
    (
        "/etc/pam.d/common-session",
        0o644,
        "session required pam_unix.so\n",
    ),
    (
        "/etc/pam.d/common-session-noninteractive",
        0o644,
        "session required pam_unix.so\n",
    ),
];

/// What one guest has over what all of them have.
#[derive(Default)]
pub struct Over {
    /// Built here.
    pub binaries: &'static [&'static str],
    /// Path and content.
    pub files: Vec<(String, String)>,
    /// Path and target.
    pub links: Vec<(String, String)>,
}

/// Writes the initramfs for a user space and gives its path.
pub fn build(userland: &Userland, more: &Over) -> Result<PathBuf> {
    let base = userland.archive()?;
    let path = super::folder()?.join(format!("initramfs-{}.cpio", userland.name));
    let over = path.with_extension("over");
    overlay(&over, more)?;
    let join = || format!("could not write {}", path.display());
    // The kernel unpacks one archive after the other; the later one wins.
    let mut file = File::create(&path).with_context(join)?;
    for part in [&base, &over] {
        let mut part = File::open(part).with_context(join)?;
        io::copy(&mut part, &mut file).with_context(join)?;
    }
    fs::remove_file(&over).with_context(|| format!("could not remove {}", over.display()))?;
    Ok(path)
}

fn overlay(path: &Path, more: &Over) -> Result<()> {
    let write = || format!("could not write {}", path.display());
    let mut archive = Archive::create(path).with_context(write)?;
    archive.merged_usr().with_context(write)?;
    for folder in FOLDERS {
        archive.folder(folder, 0o755).with_context(write)?;
    }
    for (name, permissions, content) in FILES {
        archive
            .text(name, permissions, content)
            .with_context(write)?;
    }
    for (name, content) in &more.files {
        archive.text(name, 0o644, content).with_context(write)?;
    }
    for (name, target) in &more.links {
        archive.link(name, target).with_context(write)?;
    }
    for name in BINARIES.iter().chain(more.binaries) {
        let binary = stripped(name)?;
        archive
            .copy(&format!("usr/bin/{name}"), &binary)
            .with_context(|| format!("could not copy {}", binary.display()))?;
    }
    archive.finish().with_context(write)
}

/// A binary without its symbols: an emulated machine unpacks every byte.
fn stripped(name: &str) -> Result<PathBuf> {
    let built = workspace::root()?.join("target/release").join(name);
    let stripped = super::folder()?.join(name);
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&stripped).arg(&built);
    workspace::run(
        &mut strip,
        "strip a binary; without --no-build it is built first",
    )?;
    Ok(stripped)
}
