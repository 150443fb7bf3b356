//! [`Recorder`]: who records, and one turn of it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use auditty_tests::{
    scene::files_below,
    store::{Recording, bytes_of},
};

use crate::{
    auditd::{self, Auditd},
    daemon::Daemon,
    lines, peers,
    rig::Rig,
};

/// Who records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorder {
    /// Nobody: what all others are compared with.
    Nothing,
    /// The agent, in this way of capture.
    Auditty(&'static str),
    /// util-linux.
    Script,
    /// Red Hat's.
    Tlog,
    /// sudo's I/O log.
    Sudo,
    /// Debian's asciinema.
    Asciinema,
    /// The kernel's audit trail: execs, no terminal.
    Auditd,
}

impl Recorder {
    /// As it stands in a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Auditty("auto") => "auditty",
            Self::Auditty("kernel-function") => "auditty, kernel-function",
            Self::Auditty("tracepoint") => "auditty, tracepoint",
            Self::Auditty(_) => "auditty, uprobe",
            Self::Script => "script",
            Self::Tlog => "tlog",
            Self::Sudo => "sudo",
            Self::Asciinema => "asciinema",
            Self::Auditd => "auditd",
        }
    }

    /// Those that can be had here; why the others cannot is said.
    pub fn present() -> Vec<Self> {
        let peers = [
            Self::Script,
            Self::Tlog,
            Self::Sudo,
            Self::Asciinema,
            Self::Auditd,
        ];
        let mut present = vec![Self::Nothing, Self::Auditty("auto")];
        for peer in peers {
            let missing = match (peer, peers::program(peer)) {
                (Self::Auditd, _) => auditd::absent(),
                (_, Some(program)) if !in_path(program) => Some(format!("no {program} here")),
                _ => None,
            };
            match missing {
                None => present.push(peer),
                Some(reason) => lines::absent(peer.name(), &reason),
            }
        }
        present
    }
}

fn in_path(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// A recorder that is ready to record one login.
pub struct Turn<'a> {
    rig: &'a Rig,
    recorder: Recorder,
    folder: PathBuf,
    daemon: Option<Daemon>,
    auditd: Option<Auditd>,
    before: Duration,
}

impl<'a> Turn<'a> {
    /// Makes it ready.
    pub fn begin(rig: &'a Rig, recorder: Recorder) -> Result<Self> {
        let folder = rig.folder("records")?;
        let daemon = match recorder {
            Recorder::Auditty(mode) => Some(Daemon::start(rig, mode)?),
            _ => None,
        };
        let auditd = match recorder {
            Recorder::Auditd => Some(Auditd::start(rig, &folder)?),
            _ => None,
        };
        if recorder == Recorder::Sudo {
            peers::allow_sudo(&rig.user, &folder, &rig.scene)?;
        }
        let mut turn = Self {
            rig,
            recorder,
            folder,
            daemon,
            auditd,
            before: Duration::ZERO,
        };
        turn.before = turn.used()?;
        Ok(turn)
    }

    /// The command line under which it records this command.
    pub fn around(&self, command: &str) -> String {
        peers::around(self.recorder, command, &self.folder, &self.rig.user)
    }

    /// Waits until everything is stored.
    pub fn settle(&self) -> Result<()> {
        if let Some(daemon) = &self.daemon {
            daemon.wait_finished(1)?;
        }
        self.auditd.as_ref().map_or(Ok(()), Auditd::settle)
    }

    /// Processor time since the beginning: of the server, of everything in the
    /// session, and of who records.
    pub fn cpu(&self) -> Result<Duration> {
        Ok(self.used()?.saturating_sub(self.before))
    }

    fn used(&self) -> Result<Duration> {
        let mut used = self.rig.group.used()?;
        if let Some(daemon) = &self.daemon {
            used += daemon.cpu()?;
        }
        if let Some(auditd) = &self.auditd {
            used += auditd.cpu()?;
        }
        Ok(used)
    }

    /// Bytes that it stored.
    pub fn stored(&self) -> Result<u64> {
        match (&self.daemon, &self.auditd) {
            (Some(daemon), _) => {
                let folders = daemon.finished()?;
                folders.iter().map(|folder| size_of(folder)).sum()
            }
            (None, Some(auditd)) => auditd.stored(),
            (None, None) => size_of(&self.folder),
        }
    }

    /// What it stored of what was shown; `None` when it stores no such thing.
    pub fn output(&self) -> Result<Option<Vec<u8>>> {
        match (&self.daemon, self.recorder) {
            (Some(_), _) => {
                let mut bytes = Vec::new();
                for event in self.recording()?.of("output") {
                    if event["terminal"].as_u64().unwrap_or(0) == 0 {
                        bytes.extend(bytes_of(event)?);
                    }
                }
                Ok(Some(bytes))
            }
            (None, Recorder::Nothing | Recorder::Auditd) => Ok(None),
            (None, peer) => peers::output_of(peer, &self.folder).map(Some),
        }
    }

    /// The agent's recording.
    pub fn recording(&self) -> Result<Recording> {
        let daemon = self.daemon.as_ref().context("an agent")?;
        let folders = daemon.finished()?;
        Recording::read(folders.first().context("a recording")?)
    }

    /// How many programs of this name it recorded, and how many it declares lost;
    /// `None` when it records none.
    pub fn execs(&self, program: &str) -> Result<Option<(u64, u64)>> {
        if let Some(auditd) = &self.auditd {
            return Ok(Some((auditd.execs(program)?, 0)));
        }
        if self.daemon.is_none() {
            return Ok(None);
        }
        let recording = self.recording()?;
        let argvs = recording.argvs().into_iter();
        let ran = argvs.filter(|argv| argv.first().is_some_and(|name| name == program));
        let gaps = recording.of("gap").into_iter();
        let gaps = gaps.filter(|gap| gap["class"] == "exec");
        let declared = gaps.filter_map(|gap| gap["events"].as_u64()).sum();
        Ok(Some((ran.count() as u64, declared)))
    }

    /// Ends it, and leaves nothing.
    pub fn end(self) -> Result<()> {
        if let Some(daemon) = self.daemon {
            daemon.stop()?;
        }
        if let Some(auditd) = self.auditd {
            auditd.stop()?;
        }
        fs::remove_dir_all(&self.folder)?;
        Ok(())
    }
}

fn size_of(folder: &Path) -> Result<u64> {
    let files = files_below(folder)?.into_iter();
    files.map(|path| Ok(fs::metadata(path)?.len())).sum()
}

/// One turn of a recorder: what fails is said, and the others go on.
pub fn turn(
    rig: &Rig,
    recorder: Recorder,
    what: &str,
    work: impl FnOnce(&Turn<'_>) -> Result<()>,
) -> Result<()> {
    let done = Turn::begin(rig, recorder).and_then(|turn| {
        work(&turn)?;
        turn.end()
    });
    if let Err(error) = done {
        lines::failed(recorder.name(), what, &error);
    }
    Ok(())
}
