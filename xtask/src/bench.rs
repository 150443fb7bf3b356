//! `cargo xtask bench`.

mod facts;
mod goals;
mod json;
pub mod load;
mod markdown;
mod measures;
mod peers;
mod sheet;
mod statistics;
mod table;

use std::{
    env, fs,
    io::{self, Read as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use self::sheet::Sheet;
use crate::{build, setup, vm, workspace};

/// Compares the agent with no recorder and with other recorders, on this machine
///
/// Sets up and builds what is missing, installs the recorders that a user would
/// pick instead (tlog, script, sudo's I/O log, asciinema; auditd is unpacked, not
/// installed), and lets each of them record the same work, through the stock ssh
/// and an sshd of its own, in rounds that take turns. What counts are ratios
/// within a round: their median and the half that lies around it. A recorder that
/// cannot be had here is listed with the reason. The tables are also kept in
/// target/bench; the machine should do nothing else meanwhile.
///
/// auditd is run only where nobody uses the kernel's audit system. It cannot be
/// undone altogether before the next boot: the rule `never,task` is left behind,
/// so that processes do not pay for it.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only these parts
    #[arg(long, value_enum, value_name = "PART", num_args = 1..)]
    only: Vec<Part>,
    /// How often everything is done; 7, or 3 with --quick
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Less work, for looking whether it runs: no numbers to quote
    #[arg(long)]
    quick: bool,
    /// Also 1,000 sessions at once, a recording of 1 GB, and a collector with ten
    /// million commands
    #[arg(long, conflicts_with = "quick")]
    large: bool,
    /// Print JSON on standard output instead of tables
    #[arg(long)]
    json: bool,
    /// Write docs/benchmarks.md
    #[arg(long)]
    docs: bool,
    /// Measure nothing: take what the runs before this one measured, each part's
    /// last
    #[arg(long)]
    again: bool,
    /// Only set up, build and install what is compared
    #[arg(long)]
    prepare: bool,
    /// Take the binaries in target/release as they are
    #[arg(long)]
    no_build: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Text through ssh: speed, processor time, bytes stored, completeness
    Throughput,
    /// A keystroke there and back
    Latency,
    /// Programs started in a session
    Exec,
    /// What those pay who are in no session
    Outside,
    /// The agent's memory, its idle time, and the way of a keystroke to the store
    Agent,
    /// Bytes stored per byte shown, by kind of work
    Storage,
    /// Verifying, exporting, replaying a long recording
    Reading,
    /// The kernel-function and tracepoint modes in an emulated guest
    Guest,
    /// What a collector takes in and finds, with ten thousand commands and more
    Collector,
}

/// Recorders that cannot be had, in a log like those of the parts.
const ABSENT: &str = "absent";

const PARTS: [(Part, &str); 9] = [
    (Part::Throughput, "throughput"),
    (Part::Latency, "latency"),
    (Part::Exec, "exec"),
    (Part::Outside, "outside"),
    (Part::Agent, "agent"),
    (Part::Storage, "storage"),
    (Part::Reading, "reading"),
    (Part::Guest, "guest"),
    (Part::Collector, "collector"),
];

/// How many commands a collector has.
const COMMANDS: [u64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.prepare {
        return prepare(arguments.no_build);
    }
    if !arguments.again {
        measure(arguments)?;
    }
    let mut sheet = Sheet::default();
    for (part, name) in PARTS {
        let chosen = arguments.only.is_empty() || arguments.only.contains(&part);
        // A part that never ran is not there.
        if let Some(log) = fs::read_to_string(log(name)?).ok().filter(|_| chosen) {
            sheet.read(&log);
        }
    }
    if sheet.is_empty() {
        bail!("nothing was measured");
    }
    if arguments.json {
        println!("{}", json::render(&sheet)?);
    } else {
        println!("{}", table::render(&sheet));
    }
    if arguments.docs {
        markdown::write(&sheet)?;
    }
    Ok(())
}

/// Runs one part after the other, each with a log of its own.
fn measure(arguments: &Arguments) -> Result<()> {
    prepare_quietly(arguments.no_build)?;
    let absent = fs::read_to_string(log(ABSENT)?).unwrap_or_default();
    let rounds = arguments
        .rounds
        .unwrap_or(if arguments.quick { 3 } else { 7 });
    let size = match (arguments.quick, arguments.large) {
        (true, _) => "quick",
        (false, true) => "large",
        (false, false) => "full",
    };
    for (part, name) in PARTS {
        if !arguments.only.is_empty() && !arguments.only.contains(&part) {
            continue;
        }
        let text = match part {
            Part::Guest => guest(rounds)?,
            Part::Collector => load::growth(match (arguments.quick, arguments.large) {
                (true, _) => &COMMANDS[..1],
                (false, false) => &COMMANDS[..3],
                (false, true) => &COMMANDS,
            })?,
            _ => {
                let bench = workspace::root()?.join("target/release/auditty-bench");
                let mut bench = workspace::command(bench)?;
                bench.args([&rounds.to_string(), size, name]);
                let facts = facts::lines();
                let said = listen(&mut bench)?;
                if !said.lines().any(|line| line == "done") {
                    bail!("{} did not reach its end", workspace::show(&bench));
                }
                format!("fact\tsize\t{size}\n{facts}{absent}{said}")
            }
        };
        let log = log(name)?;
        fs::write(&log, text).with_context(|| format!("could not write {}", log.display()))?;
    }
    Ok(())
}

/// Measures in a guest, where there is an emulator.
fn guest(rounds: u32) -> Result<String> {
    if setup::emulator_present() {
        return vm::bench::run(rounds);
    }
    Ok(format!("absent\ta guest\t{}\n", setup::NO_EMULATOR))
}

/// Sets up, builds, and installs the other recorders; keeps which cannot be had.
fn prepare(no_build: bool) -> Result<()> {
    if !no_build {
        setup::ready()?;
        build::products()?;
        build::rig()?;
    }
    let log = log(ABSENT)?;
    fs::write(&log, peers::ensure()?).with_context(|| format!("could not write {}", log.display()))
}

/// The same in a process of its own: all that is said on the way goes to standard
/// error, for what comes out at the end may be JSON.
fn prepare_quietly(no_build: bool) -> Result<()> {
    let program = env::current_exe().context("where is this program?")?;
    let mut prepare = workspace::command(program)?;
    prepare.args(["bench", "--prepare"]).stdout(io::stderr());
    prepare.args(no_build.then_some("--no-build"));
    workspace::run(&mut prepare, "prepare the benchmark")
}

/// The standard output of a command that succeeds.
fn listen(command: &mut Command) -> Result<String> {
    let shown = workspace::show(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .env("RUST_LIB_BACKTRACE", "0")
        .spawn()
        .with_context(|| format!("{shown} did not start"))?;
    let mut output = child.stdout.take().context("a pipe")?;
    let mut text = String::new();
    let read = output.read_to_string(&mut text);
    read.with_context(|| format!("could not read what {shown} says"))?;
    let status = child.wait().context("could not wait for the benchmark")?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(text)
}

/// Where what a part measured is kept.
fn log(part: &str) -> Result<PathBuf> {
    let folder = workspace::root()?.join("target/bench");
    fs::create_dir_all(&folder)
        .with_context(|| format!("could not create {}", folder.display()))?;
    Ok(folder.join(format!("{part}.log")))
}
