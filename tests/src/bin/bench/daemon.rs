//! [`Daemon`]: the agent as it is installed, with the defaults of its
//! configuration but for where its files are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use auditty_tests::{
    SOON, agent, binary,
    process::Process,
    scene::{files_below, output},
    store::Store,
    wait_for,
};

use crate::{clock, rig::Rig};

/// A running agent. Dropped, nothing of it is left in the kernel.
pub struct Daemon {
    process: Process,
    folder: PathBuf,
}

impl Daemon {
    /// Starts an agent that captures in this way, with nothing recorded yet.
    pub fn start(rig: &Rig, mode: &str) -> Result<Self> {
        let folder = rig.folder("daemon")?;
        let path = folder.display();
        fs::create_dir_all(folder.join("grants"))?;
        let config = format!(
            "[host]\nid = \"bench\"\nstate_directory = \"{path}/state\"\n\
             [capture]\nmode = \"{mode}\"\n\
             [store]\nurl = \"file://{path}/store\"\n\
             [collector]\nlisten = [\"unix:{path}/collector.sock\"]\ndatabase = \"{path}/collector.db\"\n\
             [grants]\ndirectory = \"{path}/grants\"\n\
             [spool]\ndirectory = \"{path}/spool\"\n"
        );
        fs::create_dir_all(folder.join("store"))?;
        fs::write(folder.join("agent.toml"), config)?;
        rig.scene
            .later(&format!("'{}' uninstall", program().display()))?;
        let mut process = rig
            .scene
            .spawn("auditty-agent", &mut agent::command(&folder, &[]))?;
        process.wait_for_log("records the SSH sessions of", SOON)?;
        Ok(Self { process, folder })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it used so far.
    pub fn cpu(&self) -> Result<Duration> {
        clock::of_process(self.pid())
    }

    /// Memory that is resident now, bytes: all of it, and without files and what
    /// it shares with the kernel. Ring buffers are mapped twice in a row: the
    /// proportional size counts each page once.
    pub fn memory(&self) -> Result<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid()))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            Ok(number.with_context(|| name.to_owned())?.parse::<u64>()? << 10)
        };
        Ok((field("Pss:")?, field("Pss_Anon:")?))
    }

    /// Its store.
    pub fn store(&self) -> Store {
        Store::new(self.folder.join("store"))
    }

    /// Its spool.
    pub fn spool(&self) -> PathBuf {
        self.folder.join("spool")
    }

    /// Folders of recordings that have their `SHA256SUMS`, which is written last.
    pub fn finished(&self) -> Result<Vec<PathBuf>> {
        let files = files_below(self.store().folder())?;
        let sealed = files.iter().filter(|path| path.ends_with("SHA256SUMS"));
        Ok(sealed
            .filter_map(|path| path.parent().map(Path::to_path_buf))
            .collect())
    }

    /// Waits until there are so many of them.
    pub fn wait_finished(&self, count: usize) -> Result<Vec<PathBuf>> {
        wait_for(&format!("{count} finished recordings"), SOON * 4, || {
            Ok(Some(self.finished()?).filter(|folders| folders.len() >= count))
        })
    }

    /// Whether what it left in the kernel is gone with it.
    pub fn stop(mut self) -> Result<()> {
        let status = self.process.stop(SOON)?;
        if !status.success() {
            bail!("the agent ended with {status}: {}", self.process.log());
        }
        output(Command::new(program()).arg("uninstall"))?;
        fs::remove_dir_all(&self.folder)?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.process.ended(), Ok(None)) {
            // The scene's own cleanup comes after the rounds that follow.
            drop(self.process.kill());
            drop(Command::new(program()).arg("uninstall").output());
        }
    }
}

fn program() -> PathBuf {
    binary("auditty-agent")
}

/// Ways of capture that this machine allows, the first by itself.
pub fn modes(rig: &Rig) -> Result<Vec<&'static str>> {
    let mut allowed = Vec::new();
    for mode in ["kernel-function", "tracepoint", "uprobe"] {
        match Daemon::start(rig, mode) {
            Ok(daemon) => {
                daemon.stop()?;
                allowed.push(mode);
            }
            Err(error) => {
                let text = format!("{error:#}");
                let reason = text.rsplit("auditty-agent: ").next().unwrap_or(&text);
                crate::lines::absent(&format!("auditty, {mode}"), reason);
            }
        }
    }
    Ok(allowed)
}
