//! The capture suite on this machine's own kernel, whatever that allows.

use std::{
    fs::File,
    io::Write as _,
    process::{Command, Stdio},
    sync::mpsc::RecvTimeoutError,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{
    console::{Console, HUNG},
    kernels::Usual,
    machine::{Plan, lines_of},
    results::Column,
};
use crate::workspace;

/// What the tables call it.
pub const NATIVE: &str = "native";

/// Ways of capture that are tested here.
pub const MODES: [(&str, Usual); 2] = [("tracepoint", Usual::Suite), ("uprobe", Usual::Stress)];

/// From one line to the next.
const SILENCE: Duration = Duration::from_secs(180);

/// Runs the suite in one of them, and listens to it.
pub fn run(plan: &Plan) -> Result<Vec<Column>> {
    let suite = workspace::root()?.join("target/release/auditty-capture-suite");
    let path = super::log(NATIVE, plan)?;
    let mut log =
        File::create(&path).with_context(|| format!("could not create {}", path.display()))?;
    let release = workspace::output(Command::new("uname").arg("-r")).unwrap_or_default();
    let mut console = Console::default();
    let mut take = |line: &str| -> Result<()> {
        writeln!(log, "{line}").context("could not write the log")?;
        if console.take(line) {
            println!("{NATIVE}: {line}");
        }
        Ok(())
    };
    for line in plan.preface(&release) {
        take(&line)?;
    }
    take("VM init")?;
    let mut command = workspace::command(suite)?;
    let mut suite = command
        .env("vm_modes", &plan.mode)
        .env("vm_tests", plan.tests.join(","))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("the capture suite did not start")?;
    let output = suite.stdout.take().context("the suite has no output")?;
    let lines = lines_of(output);
    loop {
        match lines.recv_timeout(SILENCE) {
            Ok(line) => take(&line)?,
            Err(RecvTimeoutError::Timeout) => {
                take(HUNG)?;
                let _ = suite.kill();
                break;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    suite.wait().context("could not wait for the suite")?;
    Ok(console.columns(NATIVE, None))
}
