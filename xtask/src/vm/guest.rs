//! The guest: this machine's sshd and ssh, the product's binaries, busybox and
//! two scripts, as a file system in memory.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::archive::Archive;
use crate::workspace;

/// The first process: mounts, network, the suite, power off.
const INIT: &str = include_str!("guest/init.sh");
/// The tests.
const SUITE: &str = include_str!("guest/suite.sh");

/// What must be there. Everything else is busybox's.
const PROGRAMS: [&str; 6] = ["bash", "jq", "ssh", "ssh-keygen", "sshd", "zstd"];

/// What exists only with some versions: sshd's parts from OpenSSH 9.8 and 10.0
/// on, and NSS before glibc 2.34.
const OPTIONAL: [&str; 3] = [
    "/usr/lib/openssh/sshd-session",
    "/usr/lib/openssh/sshd-auth",
    "/lib/x86_64-linux-gnu/libnss_files.so.2",
];

/// Mount points, and folders that sshd insists on.
const FOLDERS: [&str; 6] = [
    "/dev",
    "/home/tester",
    "/proc",
    "/root",
    "/sys",
    "/var/empty",
];

const FILES: [(&str, u32, &str); 9] = [
    ("/init", 0o755, INIT),
    ("/suite.sh", 0o755, SUITE),
    (
        "/etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/bash\n\
         tester:x:1000:1000::/home/tester:/bin/bash\n\
         sshd:x:100:65534::/run/sshd:/bin/false\n",
    ),
    (
        "/etc/group",
        0o644,
        "root:x:0:\ntty:x:5:\nutmp:x:43:\ntester:x:1000:\nnogroup:x:65534:\n",
    ),
    (
        "/etc/shadow",
        0o600,
        "root:*:19000:0:99999:7:::\ntester:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n",
    ),
    ("/etc/hosts", 0o644, "127.0.0.1 localhost\n"),
    (
        "/etc/nsswitch.conf",
        0o644,
        "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
    ),
    (
        "/etc/ssh/sshd_config",
        0o644,
        "ListenAddress 127.0.0.1\n\
         HostKey /run/ssh/host_key\n\
         AuthorizedKeysFile /run/ssh/%u.pub\n\
         StrictModes no\n\
         UsePAM no\n\
         MaxStartups 100\n\
         PrintMotd no\n\
         PrintLastLog no\n",
    ),
    // The key exchange that is cheapest to emulate.
    (
        "/etc/ssh/ssh_config",
        0o644,
        "Host guest\n\
         HostName 127.0.0.1\n\
         User tester\n\
         IdentityFile /run/ssh/tester\n\
         KexAlgorithms curve25519-sha256\n\
         StrictHostKeyChecking no\n\
         UserKnownHostsFile /dev/null\n\
         LogLevel ERROR\n",
    ),
];

/// Writes the initramfs and gives its path.
pub fn build() -> Result<PathBuf> {
    let path = super::folder()?.join("initramfs.cpio");
    let write = || format!("could not write {}", path.display());
    let mut archive = Archive::create(&path).with_context(write)?;
    for folder in FOLDERS {
        archive.folder(folder, 0o755).with_context(write)?;
    }
    // Where every Debian has been merging for years.
    for name in ["bin", "lib", "lib64", "sbin"] {
        archive
            .folder(&format!("usr/{name}"), 0o755)
            .with_context(write)?;
        archive
            .link(name, &format!("usr/{name}"))
            .with_context(write)?;
    }
    for (name, permissions, content) in FILES {
        archive
            .text(name, permissions, content)
            .with_context(write)?;
    }
    for source in everything()? {
        let name = source.to_string_lossy();
        let name = match name.strip_prefix("/usr/") {
            Some(below) => format!("usr/{below}"),
            None => format!("usr{name}"),
        };
        let copy = || format!("could not copy {}", source.display());
        archive.copy(&name, &source).with_context(copy)?;
    }
    for product in ["auditty-agent", "auditty"] {
        let binary = product_binary(product)?;
        archive
            .copy(&format!("usr/bin/{product}"), &binary)
            .with_context(|| {
                format!(
                    "could not copy {}: `cargo xtask build` makes it",
                    binary.display()
                )
            })?;
    }
    archive.finish().with_context(write)?;
    Ok(path)
}

fn product_binary(name: &str) -> Result<PathBuf> {
    Ok(workspace::root()?.join("target/release").join(name))
}

/// All programs and libraries, by where they are on this machine.
fn everything() -> Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    let mut linked = vec![product_binary("auditty-agent")?, product_binary("auditty")?];
    for name in PROGRAMS {
        let program = find(name)?;
        linked.push(program.clone());
        files.insert(program);
    }
    for path in OPTIONAL
        .map(PathBuf::from)
        .into_iter()
        .filter(|path| path.exists())
    {
        linked.push(path.clone());
        files.insert(path);
    }
    files.insert(find("busybox")?);
    for program in linked {
        files.extend(libraries(&program)?);
    }
    Ok(files)
}

/// sbin is not in everybody's PATH.
fn find(name: &str) -> Result<PathBuf> {
    let places = ["/usr/bin", "/usr/sbin"].map(|folder| Path::new(folder).join(name));
    places
        .into_iter()
        .find(|path| path.exists())
        .with_context(|| format!("{name} is not installed: run `cargo xtask setup`"))
}

/// The libraries and the dynamic loader, as ldd lists them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let list = workspace::output(Command::new("ldd").arg(program))
        .with_context(|| format!("ldd does not know {}", program.display()))?;
    // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` or `/lib64/ld-… (0x…)`.
    let path = |line: &str| {
        let word = line.split_whitespace().find(|word| word.starts_with('/'))?;
        Some(PathBuf::from(word))
    };
    Ok(list.lines().filter_map(path).collect())
}
