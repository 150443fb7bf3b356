//! Processor time, from the kernel's own accounts.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use auditty_tests::{SOON, Scene, wait_for};
use nix::{
    sys::resource::{UsageWho, getrusage},
    time::clock_getcpuclockid,
    unistd::Pid,
};

/// What a process and its threads used so far, those that ended too.
pub fn of_process(pid: u32) -> Result<Duration> {
    let pid = Pid::from_raw(i32::try_from(pid).context("a process id is an i32")?);
    Ok(clock_getcpuclockid(pid)?.now()?.into())
}

/// What this process's children used that it has waited for.
pub fn of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let microseconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64;
    Ok(Duration::from_micros(
        microseconds(usage.user_time()) + microseconds(usage.system_time()),
    ))
}

/// A server and everything below it, in a control group of their own: what the
/// children of a session used is not told to the listener by all versions of
/// sshd, nor by every way in which a client goes away.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
    server: u32,
}

impl Group {
    /// Puts a server into a new group; its sessions are born there.
    pub fn around(scene: &Scene, server: u32) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        let mut mounts = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = mounts.find(|fields| fields.get(2) == Some(&"cgroup2"));
        let mount = mount.context("no cgroup2 is mounted: processor time cannot be counted")?;
        let mount = mount.get(1).context("a folder")?;
        let folder = Path::new(mount).join(format!("auditty-bench-{server}"));
        fs::create_dir(&folder).with_context(|| format!("could not create {folder:?}"))?;
        scene.later(&format!("sleep 0.3; rmdir '{}'", folder.display()))?;
        fs::write(folder.join("cgroup.procs"), server.to_string())
            .with_context(|| format!("could not enter {folder:?}"))?;
        Ok(Self { folder, server })
    }

    /// What it used so far, once no session is left.
    pub fn used(&self) -> Result<Duration> {
        wait_for("the end of the session", SOON, || {
            Ok(childless(self.server)?.then_some(()))
        })?;
        let stat = fs::read_to_string(self.folder.join("cpu.stat"))?;
        let mut lines = stat.lines();
        let usage = lines.find_map(|line| line.strip_prefix("usage_usec "));
        let microseconds = usage.context("usage_usec in cpu.stat")?.parse()?;
        Ok(Duration::from_micros(microseconds))
    }
}

fn childless(pid: u32) -> Result<bool> {
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path().join("stat");
        // Not a process, or one that has just ended.
        let Ok(stat) = fs::read_to_string(path) else {
            continue;
        };
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split(' ').nth(2));
        if parent.is_some_and(|parent| parent == pid.to_string()) {
            return Ok(false);
        }
    }
    Ok(true)
}
