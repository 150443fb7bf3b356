//! The emulated machine.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    console::Console,
    kernels::{Image, Kernel},
};

/// To the first process; it takes 3 to 6 seconds on an idle machine.
const BOOT: Duration = Duration::from_secs(120);
/// From one line to the next: a test has deadlines of its own, nearly all
/// shorter.
const SILENCE: Duration = Duration::from_secs(360);
/// From `VM done` to the end of the emulator.
const POWER_OFF: Duration = Duration::from_secs(20);

/// What the guest is told to run.
pub struct Plan {
    /// Way of capture.
    pub mode: String,
    /// Only these tests; empty: all.
    pub tests: Vec<String>,
}

impl Plan {
    /// What stands at the beginning of a log: of which kernel it is, and what was
    /// asked for.
    pub fn preface(&self, kernel: &str) -> [String; 2] {
        let modes = format!("VM modes {}", self.mode);
        [format!("VM kernel {kernel}"), modes]
    }
}

/// The command that boots a kernel.
pub fn command(kernel: &Kernel, image: &Image, initramfs: &Path, plan: &Plan) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-M", "q35", "-accel", "tcg,thread=multi"]);
    // QEMU 7.2 emulates cmpxchg16b wrongly where newer kernels use it.
    command.args(["-cpu", "max,cx16=off", "-smp", "2", "-m", "2G"]);
    command.args(["-display", "none", "-monitor", "none", "-serial", "stdio"]);
    command.args(["-nic", "none", "-no-reboot"]);
    command.arg("-kernel").arg(&image.path);
    command.arg("-initrd").arg(initramfs);
    command.arg("-append").arg(parameters(kernel, plan));
    command
}

/// The kernel's command line.
pub fn parameters(kernel: &Kernel, plan: &Plan) -> String {
    format!(
        // A timer that is late because this machine is busy is no broken one.
        "console=ttyS0 quiet panic=-1 oops=panic mitigations=off no_timer_check rdinit=/init {} \
         vm_modes={} vm_tests={}",
        kernel.parameters,
        plan.mode,
        plan.tests.join(","),
    )
}

/// Boots a kernel and listens to what its console says.
pub fn boot(kernel: &Kernel, image: &Image, initramfs: &Path, plan: &Plan) -> Result<Console> {
    let console = boot_once(kernel, image, initramfs, plan)?;
    if console.reached_init() {
        return Ok(console);
    }
    // The emulator now and then stops before that, whatever the kernel.
    println!(
        "{}: did not reach its first process, boots again",
        kernel.name
    );
    boot_once(kernel, image, initramfs, plan)
}

fn boot_once(kernel: &Kernel, image: &Image, initramfs: &Path, plan: &Plan) -> Result<Console> {
    let name = format!("{} {}", kernel.name, plan.mode);
    println!("{name}: boots {}", image.version);
    let log = super::log(kernel.name, plan)?;
    let mut log =
        File::create(&log).with_context(|| format!("could not create {}", log.display()))?;
    let mut emulator = command(kernel, image, initramfs, plan)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("qemu-system-x86_64 did not start: run `cargo xtask setup`")?;
    let output = emulator
        .stdout
        .take()
        .context("the emulator has no output")?;
    let lines = lines_of(output);

    let mut console = Console::default();
    for line in plan.preface(&image.version) {
        writeln!(log, "{line}").context("could not write the console's log")?;
        console.take(&line);
    }
    let started = Instant::now();
    let mut deadline = started + BOOT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) => {
                writeln!(log, "{line}").context("could not write the console's log")?;
                if console.take(&line) {
                    let second = started.elapsed().as_secs();
                    println!("{name} {second:3} s: {line}");
                }
                if console.done() {
                    deadline = Instant::now() + POWER_OFF;
                } else if console.reached_init() {
                    deadline = Instant::now() + SILENCE;
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                if !console.done() {
                    writeln!(log, "{}", super::console::HUNG)
                        .context("could not write the console's log")?;
                    console.take(super::console::HUNG);
                    for line in console.tail() {
                        println!("{name}: | {line}");
                    }
                }
                // It may have ended by itself this very moment.
                let _ = emulator.kill();
                break;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    emulator.wait().context("could not wait for the emulator")?;
    println!("{name}: {} s", started.elapsed().as_secs());
    Ok(console)
}

/// Reads in a thread of its own, so that waiting for a line can have an end.
pub fn lines_of(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(printable(&line)).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Without the control characters of firmware and kernel, but for tabs.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.chars()
        .filter(|char| *char == '\t' || !char.is_control())
        .collect()
}
