//! OpenSSH 10, whose server is three programs (`sshd`, `sshd-session`,
//! `sshd-auth`), beside this machine's own.
//!
//! Debian 13's packages, unpacked into a folder `usr` that the tests lay over
//! `/usr` in a mount namespace of their own: users, PAM's configuration and all
//! other programs stay this machine's. They come from the mirror and with the
//! keys that this machine uses.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::{NETWORK_HINT, Outcome, announce};
use crate::{
    vm::apt::{self, Apt},
    workspace,
};

const SUITE: &str = "trixie";

/// OpenSSH and the libraries and PAM modules that belong to it; nothing that
/// this machine's other programs would rather have their own of.
const PACKAGES: [&str; 24] = [
    "libaudit1",
    "libc6",
    "libcap-ng0",
    "libcap2",
    "libcom-err2",
    "libcrypt1",
    "libgssapi-krb5-2",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libpam-modules",
    "libpam0g",
    "libpcre2-8-0",
    "libselinux1",
    "libsqlite3-0",
    "libssl3t64",
    "libsystemd0",
    "libwrap0",
    "libwtmpdb0",
    "libzstd1",
    "openssh-server",
    "openssh-sftp-server",
    "zlib1g",
];

/// Downloads and unpacks it unless it is there.
pub fn ensure() -> Result<Outcome> {
    let folder = workspace::tools()?.join("openssh-10");
    if apt::intact(&folder) {
        return Ok(Outcome::Present);
    }
    announce(
        "unpack OpenSSH 10",
        "its server is divided into other programs than that of this machine",
    );
    build(&folder).context(NETWORK_HINT)?;
    Ok(Outcome::Done)
}

fn build(folder: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(folder);
    let work = folder.join("download");
    let apt = Apt::new(SUITE, &work)?;
    for archive in apt.download(&PACKAGES)? {
        let name = archive.file_name().unwrap_or_default().to_string_lossy();
        let package = name.split('_').next().unwrap_or_default();
        if PACKAGES.contains(&package) {
            apt::unpack(&archive, &work.join("tree"))?;
        }
    }
    fs::rename(work.join("tree/usr"), folder.join("usr"))
        .context("could not move what was unpacked")?;
    fs::remove_dir_all(&work).with_context(|| format!("could not remove {}", work.display()))?;
    apt::seal(
        folder,
        &[
            "usr/sbin/sshd",
            "usr/lib/openssh/sshd-session",
            "usr/lib/openssh/sshd-auth",
        ],
    )
}
