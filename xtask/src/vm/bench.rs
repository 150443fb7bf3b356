//! The benchmark's part in a guest: what the agent costs in kernel-function mode,
//! which many machines that measure do not allow. Emulated: only ratios within one
//! boot mean anything.

use std::{
    fs,
    process::{Command, Stdio},
    sync::mpsc::RecvTimeoutError,
    time::Duration,
};

use anyhow::{Context as _, Error, Result, bail};

use super::{
    guest::{self, Over},
    kernels,
    machine::{self, Plan},
};
use crate::workspace;

/// The kernel that boots: one that is in use, and has all ways of capture.
const KERNEL: &str = "6.12";

/// The work that is measured. The guest has no compiler.
const WORKLOAD: &str = "auditty-workload";

/// From one line to the next.
const SILENCE: Duration = Duration::from_secs(300);

/// How what is measured begins; facts are those of the guest.
const READINGS: [&str; 3] = ["sample\t", "failed\t", "absent\t"];

/// Measures so many rounds, and gives the lines of `auditty-bench`.
pub fn run(rounds: u32) -> Result<String> {
    compile()?;
    let kernel = kernels::parse(KERNEL).map_err(Error::msg)?;
    let over = Over {
        binaries: &["auditty-bench", WORKLOAD],
        ..Over::default()
    };
    let initramfs = guest::build(&kernel.userland, &over)?;
    // The first process hands both on.
    let plan = Plan {
        mode: "bench".to_owned(),
        tests: vec![rounds.to_string()],
    };
    let image = kernel.image()?;
    eprintln!("in a guest: boots {}, emulated", image.version);
    let mut emulator = machine::command(kernel, &image, &initramfs, &plan)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("qemu-system-x86_64 did not start: run `cargo xtask setup`")?;
    let output = emulator.stdout.take();
    let lines = machine::lines_of(output.context("the emulator has no output")?);
    let (mut text, mut console) = (String::new(), String::new());
    let ended = loop {
        match lines.recv_timeout(SILENCE) {
            Ok(line) if line == "done" => break Ok(()),
            Ok(line) => {
                // Progress may stand before it, on the same line of the console.
                if let Some(at) = READINGS.iter().find_map(|reading| line.find(reading)) {
                    text += line.get(at..).unwrap_or_default();
                    text.push('\n');
                }
                console += &line;
                console.push('\n');
            }
            Err(RecvTimeoutError::Timeout) => break Err("said nothing for too long"),
            Err(RecvTimeoutError::Disconnected) => break Err("ended before it was done"),
        }
    };
    let _ = emulator.kill();
    let _ = emulator.wait();
    let _ = fs::remove_file(initramfs);
    keep(&console)?;
    if let Err(why) = ended {
        bail!("the guest {why}; see target/vm/console-bench.log");
    }
    let version = image.version;
    Ok(format!(
        "fact\tguest\t{version}, emulated, {rounds} rounds\n{text}"
    ))
}

fn compile() -> Result<()> {
    let root = workspace::root()?;
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-static", "-o"])
        .arg(root.join("target/release").join(WORKLOAD))
        .arg(root.join("tests/programs/workload.c"));
    workspace::run(&mut gcc, "compile the work that is measured")
}

fn keep(console: &str) -> Result<()> {
    let log = super::folder()?.join("console-bench.log");
    fs::write(&log, console).with_context(|| format!("could not write {}", log.display()))
}
