//! What the machine itself must be, and the folders and mounts it must have.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};

use super::{Outcome, announce};
use crate::workspace;

const BTF: &str = "/sys/kernel/btf/vmlinux";
const TRACEFS: &str = "/sys/kernel/tracing";
const SSHD_FOLDER: &str = "/run/sshd";

/// Stops with a sentence that says what to do when this machine cannot serve.
pub fn require() -> Result<()> {
    let user = fs::metadata("/proc/self")
        .context("/proc is not mounted")?
        .uid();
    if user != 0 {
        bail!(
            "this needs root: it installs packages, loads kernel programs and creates test \
             users. Run it in a root shell (sudo -i), with rustup installed for root"
        );
    }
    if workspace::find("apt-get").is_none() || workspace::find("dpkg-query").is_none() {
        bail!(
            "this machine has no apt: setup knows only Debian and Ubuntu. On another system \
             install the equivalents of the packages in xtask/src/setup/packages.rs by hand, \
             or use a Debian 12 virtual machine (not a container of your own kernel: the tests \
             load kernel programs)"
        );
    }
    if !Path::new(BTF).exists() {
        bail!(
            "this kernel has no {BTF}: the agent takes the layout of kernel structures from \
             there. Boot a kernel built with CONFIG_DEBUG_INFO_BTF=y; Debian 11 and Ubuntu \
             20.10 and everything newer have it"
        );
    }
    Ok(())
}

/// Provides the folders and mounts.
pub fn ensure() -> Result<Outcome> {
    let mut outcome = Outcome::Present;
    if !Path::new(SSHD_FOLDER).is_dir() {
        announce(
            &format!("create {SSHD_FOLDER}"),
            "sshd's unprivileged child is locked into it; without systemd nobody else creates it",
        );
        fs::DirBuilder::new()
            .mode(0o755)
            .create(SSHD_FOLDER)
            .with_context(|| format!("could not create {SSHD_FOLDER}"))?;
        outcome = Outcome::Done;
    }
    if !Path::new(TRACEFS).join("events").exists() {
        mount_tracefs()?;
        outcome = Outcome::Done;
    }
    Ok(outcome)
}

fn mount_tracefs() -> Result<()> {
    announce(
        &format!("mount tracefs at {TRACEFS}"),
        "the ids of the kernel's tracepoints are read there",
    );
    if !Path::new(TRACEFS).is_dir() {
        bail!(
            "this kernel has no {TRACEFS}: it was built without tracing \
             (CONFIG_FTRACE, CONFIG_EVENT_TRACING), and the agent needs tracepoints"
        );
    }
    workspace::run(
        workspace::command("mount")?.args(["-t", "tracefs", "tracefs", TRACEFS]),
        "mount tracefs (in a container: run it privileged, or mount it on the host)",
    )
}
