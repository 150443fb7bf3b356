//! [`Process`]: a child whose output is kept.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait_for;

/// A running child. Dropped, it is killed, and a failing test shows the end of
/// its log.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// How much of a log a failing test shows.
const SHOWN_LINES: usize = 60;

impl Process {
    /// Starts `command` with its output going to `log`, in a session of its own as
    /// service managers do: ctrl-c reaches it only through us.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("could not create {log:?}"))?;
        let mut command = in_session(command);
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("{name} did not start: {command:?}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file that what it prints goes to.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).context("a process id is an i32")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        wait_for(&format!("the end of {}", self.name), within, || {
            Ok(self.child.try_wait()?)
        })
    }

    /// Asks it to stop (`SIGTERM`) and waits until it has.
    pub fn stop(&mut self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(within)
    }

    /// Kills it (`SIGKILL`).
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it has printed `text`.
    pub fn wait_for_log(&mut self, text: &str, within: Duration) -> Result<()> {
        let what = format!("`{text}` in the log of {}", self.name);
        wait_for(&what, within, || {
            if self.log().contains(text) {
                return Ok(Some(()));
            }
            if let Some(status) = self.ended()? {
                bail!(
                    "{} ended with {status} and never printed `{text}`:\n{}",
                    self.name,
                    self.log()
                );
            }
            Ok(None)
        })
    }
}

/// The same command, through setsid(1), which it takes the place of.
fn in_session(command: &Command) -> Command {
    let mut setsid = Command::new("setsid");
    setsid.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => setsid.env(name, value),
            None => setsid.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        setsid.current_dir(folder);
    }
    setsid
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = matches!(self.child.try_wait(), Ok(Some(_)));
        if !ended {
            // It may end by itself in between.
            drop(self.child.kill());
            drop(self.child.wait());
        }
        // libtest keeps it, and shows it when the test fails; a main thread is no
        // test.
        if std::thread::current().name() != Some("main") {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let first = lines.len().saturating_sub(SHOWN_LINES);
            println!(
                "---- end of the log of {} ({})",
                self.name,
                self.log.display()
            );
            for line in lines.iter().skip(first) {
                println!("{line}");
            }
        }
    }
}
