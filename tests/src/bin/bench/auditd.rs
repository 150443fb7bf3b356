//! [`Auditd`]: the kernel's own audit trail, with the rule for `execve` that
//! hardening guides ask for. What a terminal shows is not part of it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use auditty_tests::{SOON, process::Process, scene::output, tools, wait_for};

use crate::{clock, rig::Rig};

/// A running auditd, out of the package as `cargo xtask bench` unpacked it:
/// installed, it would stay on.
pub struct Auditd {
    process: Process,
    log: PathBuf,
}

/// Where it is unpacked.
fn package() -> PathBuf {
    tools().join("auditd")
}

fn program(name: &str) -> Command {
    let mut command = Command::new(package().join("sbin").join(name));
    let mut libraries = Vec::new();
    for folder in ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"] {
        libraries.push(package().join(folder));
    }
    if let Ok(joined) = env::join_paths(libraries) {
        command.env("LD_LIBRARY_PATH", joined);
    }
    command
}

fn control(words: &[&str]) -> Result<String> {
    output(program("auditctl").args(words))
}

/// Why it cannot be had here.
pub fn absent() -> Option<String> {
    if !package().join("sbin/auditd").exists() {
        return Some("it is not unpacked: `cargo xtask bench` does that".to_owned());
    }
    match (control(&["-s"]), control(&["-l"])) {
        (Ok(status), Ok(rules)) => {
            let daemon = status.lines().any(|line| {
                line.strip_prefix("pid ")
                    .is_some_and(|pid| pid.trim() != "0")
            });
            // `-a never,task` is what this leaves behind.
            let rules = rules
                .lines()
                .any(|rule| !rule.contains("No rules") && !rule.contains("never,task"));
            (daemon || rules).then(|| "this machine uses the audit system itself".to_owned())
        }
        (Err(error), _) | (_, Err(error)) => Some(format!("the kernel refuses it: {error:#}")),
    }
}

impl Auditd {
    /// Starts it and makes the rule.
    pub fn start(rig: &Rig, folder: &Path) -> Result<Self> {
        let log = folder.join("audit.log");
        let settings = folder.join("etc");
        fs::create_dir_all(settings.join("plugins.d"))?;
        let config = format!(
            "log_file = {}\nlog_format = ENRICHED\nflush = INCREMENTAL_ASYNC\nfreq = 50\n\
             max_log_file = 500\nmax_log_file_action = IGNORE\nlocal_events = yes\n\
             write_logs = yes\nspace_left = 75\nadmin_space_left = 50\nplugin_dir = {}/plugins.d\n",
            log.display(),
            settings.display()
        );
        fs::write(settings.join("auditd.conf"), config)?;
        let mut command = program("auditd");
        command.arg("-n").arg("-c").arg(&settings);
        // A task that was born while auditing was on pays for each of its system
        // calls for ever, unless this rule exempts it when it is born.
        rig.scene.later(&format!(
            "export LD_LIBRARY_PATH='{0}/lib/x86_64-linux-gnu'; '{0}/sbin/auditctl' -D; '{0}/sbin/auditctl' -e 0; '{0}/sbin/auditctl' -a never,task",
            package().display()
        ))?;
        let mut process = rig.scene.spawn("auditd", &mut command)?;
        wait_for("auditd", SOON, || {
            ensure!(process.ended()?.is_none(), "it ended: {}", process.log());
            let status = control(&["-s"])?;
            Ok(status
                .contains(&format!("pid {}", process.pid()))
                .then_some(()))
        })?;
        control(&["-D"])?;
        control(&["-b", "8192"])?;
        control(&["-e", "1"])?;
        control(&[
            "-a",
            "always,exit",
            "-F",
            "arch=b64",
            "-S",
            "execve,execveat",
            "-k",
            "bench",
        ])?;
        Ok(Self { process, log })
    }

    /// What it used so far.
    pub fn cpu(&self) -> Result<Duration> {
        clock::of_process(self.process.pid())
    }

    /// Waits until it writes no more.
    pub fn settle(&self) -> Result<()> {
        let mut before = self.stored()?;
        loop {
            thread::sleep(Duration::from_millis(300));
            let now = self.stored()?;
            if now == before {
                return Ok(());
            }
            before = now;
        }
    }

    /// Bytes of its log.
    pub fn stored(&self) -> Result<u64> {
        Ok(fs::metadata(&self.log).map_or(0, |file| file.len()))
    }

    /// How many programs of this name it recorded.
    pub fn execs(&self, program: &str) -> Result<u64> {
        let log = fs::read(&self.log)?;
        let log = String::from_utf8_lossy(&log);
        let name = format!("a0=\"{program}\"");
        let of = |line: &&str| line.starts_with("type=EXECVE") && line.contains(&name);
        Ok(log.lines().filter(of).count() as u64)
    }

    /// Stops it; who is born from now on does not pay for it.
    pub fn stop(mut self) -> Result<()> {
        stop_auditing()?;
        self.process.stop(SOON)?;
        Ok(())
    }
}

fn stop_auditing() -> Result<()> {
    control(&["-D"])?;
    control(&["-e", "0"])?;
    control(&["-a", "never,task"])?;
    Ok(())
}

impl Drop for Auditd {
    fn drop(&mut self) {
        if matches!(self.process.ended(), Ok(None)) {
            drop(stop_auditing());
        }
    }
}
