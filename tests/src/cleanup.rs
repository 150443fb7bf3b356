//! [`Cleanup`]: undoes things however the process ends.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

/// Shell commands that run, last one first, when this is dropped or when the
/// process dies in any other way, `SIGKILL` included: they wait in a shell of
/// its own process group at the end of a pipe from us.
#[derive(Debug)]
pub struct Cleanup {
    shell: Child,
}

impl Cleanup {
    /// Starts the shell that waits.
    pub fn new() -> Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", "commands=$(tac); eval \"$commands\""])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("could not start the shell that cleans up")?;
        Ok(Self { shell })
    }

    /// Adds one line of shell.
    pub fn later(&mut self, line: &str) -> Result<()> {
        let pipe = self.shell.stdin.as_mut().context("the cleanup is over")?;
        writeln!(pipe, "{line}").context("the shell that cleans up is gone")
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        if let Err(error) = self.shell.wait() {
            eprintln!("cleaning up: {error}");
        }
    }
}
