//! The emulated machine, and what its console says.
//!
//! The guest speaks in lines on the serial console:
//!
//! ```text
//! VM init                     the first process runs
//! VM <test> ok [<remark>]
//! VM <test> FAILED <why>
//! VM <test> skip <why>
//! VM done                     the suite reached its end
//! ```
//!
//! Everything else is the kernel's, or evidence that the suite prints after a
//! failure.

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
    kernels::{Image, Kernel},
    results::{Column, Outcome, TESTS},
};

/// To the first process; it takes 3 to 6 seconds on an idle machine.
const BOOT: Duration = Duration::from_secs(60);
/// All in all; it takes less than one minute on an idle machine.
const WHOLE: Duration = Duration::from_secs(360);
/// From `VM done` to the end of the emulator.
const POWER_OFF: Duration = Duration::from_secs(20);

/// What a kernel prints when something is wrong with it.
const COMPLAINTS: [&str; 7] = [
    "Kernel panic",
    "Oops:",
    "BUG:",
    "general protection fault",
    "detected stall",
    "soft lockup",
    "blocked for more than",
];

/// The command that boots a kernel.
pub fn command(kernel: &Kernel, image: &Image, initramfs: &Path) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-M", "q35", "-accel", "tcg,thread=multi"]);
    // QEMU 7.2 emulates cmpxchg16b wrongly where newer kernels use it.
    command.args(["-cpu", "max,cx16=off", "-smp", "2", "-m", "2G"]);
    command.args(["-display", "none", "-monitor", "none", "-serial", "stdio"]);
    command.args(["-nic", "none", "-no-reboot"]);
    command.arg("-kernel").arg(&image.path);
    command.arg("-initrd").arg(initramfs);
    command.arg("-append").arg(format!(
        "console=ttyS0 quiet panic=-1 oops=panic mitigations=off rdinit=/init {}",
        kernel.parameters
    ));
    command
}

/// Boots a kernel and takes what its tests say.
pub fn test(kernel: &Kernel, image: &Image, initramfs: &Path) -> Result<Column> {
    let mut console = boot(kernel, image, initramfs)?;
    if !console.reached_init {
        // The emulator now and then stops before that, whatever the kernel.
        println!(
            "{}: did not reach its first process, boots again",
            kernel.name
        );
        console = boot(kernel, image, initramfs)?;
    }
    Ok(console.column())
}

fn boot(kernel: &Kernel, image: &Image, initramfs: &Path) -> Result<Console> {
    println!("{}: boots {}", kernel.name, image.version);
    let log = super::folder()?.join(format!("console-{}.log", kernel.name));
    let mut log =
        File::create(&log).with_context(|| format!("could not create {}", log.display()))?;
    let mut emulator = command(kernel, image, initramfs)
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
    let started = Instant::now();
    let mut deadline = started + BOOT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) => {
                writeln!(log, "{:7.2} {line}", started.elapsed().as_secs_f64())
                    .context("could not write the console's log")?;
                if console.take(&line) {
                    println!("{}: {line}", kernel.name);
                }
                if console.reached_init && !console.done {
                    deadline = started + WHOLE;
                } else if line == DONE {
                    deadline = Instant::now() + POWER_OFF;
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                console.hung = !console.done;
                // It may have ended by itself this very moment.
                let _ = emulator.kill();
                break;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    emulator.wait().context("could not wait for the emulator")?;
    println!("{}: {:.0} s", kernel.name, started.elapsed().as_secs_f64());
    Ok(console)
}

/// Reads in a thread of its own, so that waiting for a line can have an end.
fn lines_of(output: ChildStdout) -> Receiver<String> {
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

/// Without the control sequences of firmware and kernel.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.chars().filter(|char| !char.is_control()).collect()
}

const DONE: &str = "VM done";

/// What the console said so far.
#[derive(Default)]
struct Console {
    reached_init: bool,
    done: bool,
    hung: bool,
    complaint: Option<String>,
    outcomes: Vec<(String, Outcome)>,
}

impl Console {
    /// Takes a line; whether it is worth showing.
    fn take(&mut self, line: &str) -> bool {
        if let Some(message) = line.strip_prefix("VM ") {
            match message {
                "init" => self.reached_init = true,
                "done" => self.done = true,
                _ => self.outcomes.extend(outcome(message)),
            }
            return !matches!(message, "init" | "done");
        }
        let evidence = line.starts_with("| ");
        let complains = !evidence && COMPLAINTS.iter().any(|text| line.contains(text));
        if complains && self.complaint.is_none() {
            self.complaint = Some(line.to_owned());
        }
        evidence || complains
    }

    /// One outcome a test.
    fn column(&self) -> Column {
        TESTS.map(|test| {
            if test == "kernel" {
                return self.kernel();
            }
            let mut said = self.outcomes.iter().filter(|(name, _)| name == test);
            match said.next_back() {
                Some((_, outcome)) => outcome.clone(),
                None => Outcome::Failed("it said nothing".to_owned()),
            }
        })
    }

    fn kernel(&self) -> Outcome {
        if let Some(complaint) = &self.complaint {
            return Outcome::Failed(complaint.clone());
        }
        let why = match (self.reached_init, self.hung, self.done) {
            (false, ..) => "it never reached its first process",
            (true, true, _) => "it hung",
            (true, false, false) => "it ended before the suite did",
            (true, false, true) => return Outcome::Passed(String::new()),
        };
        Outcome::Failed(why.to_owned())
    }
}

/// `<test> ok|FAILED|skip [<text>]`.
fn outcome(message: &str) -> Option<(String, Outcome)> {
    let mut words = message.splitn(3, ' ');
    let test = words.next()?.to_owned();
    let word = words.next()?;
    let text = words.next().unwrap_or_default().to_owned();
    let outcome = match word {
        "ok" => Outcome::Passed(text),
        "FAILED" => Outcome::Failed(text),
        "skip" => Outcome::Skipped(text),
        _ => return None,
    };
    Some((test, outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(lines: &[&str]) -> Column {
        let mut console = Console::default();
        for line in lines {
            console.take(line);
        }
        console.column()
    }

    #[test]
    fn a_test_that_says_nothing_failed() {
        let column = column(&[
            "VM init",
            "VM check ok 5 programs",
            "VM pty FAILED it differs",
            DONE,
        ]);
        let expected = [
            Outcome::Passed(String::new()),
            Outcome::Passed("5 programs".to_owned()),
            Outcome::Failed("it differs".to_owned()),
            Outcome::Failed("it said nothing".to_owned()),
        ];
        assert_eq!(column[..4], expected);
    }

    #[test]
    fn a_kernel_that_complains_failed() {
        let panic = "[    2.1] Kernel panic - not syncing: no init";
        assert_eq!(column(&[panic])[0], Outcome::Failed(panic.to_owned()));
        let evidence = "| the client saw: BUG: none";
        let column = column(&["VM init", evidence, DONE]);
        assert_eq!(column[0], Outcome::Passed(String::new()));
    }

    #[test]
    fn a_kernel_that_stops_half_way_failed() {
        let why = "it ended before the suite did".to_owned();
        assert_eq!(column(&["VM init", "VM check ok"])[0], Outcome::Failed(why));
    }
}
