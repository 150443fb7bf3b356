//! The measurements of `cargo xtask bench`, on a real sshd and the stock `ssh`:
//! no recorder, the agent, and the recorders a user would pick instead.
//!
//! `auditty-bench ROUNDS SIZE PART…` prints what it measures, raw, in lines
//! of tab-separated fields on standard output, and its progress on standard
//! error. `xtask/src/bench` makes ratios, medians and tables of them.
//!
//! ```text
//! sample <measure> <recorder> <round> <value>   one reading
//! absent <recorder> <reason>                    it cannot be had here
//! failed <recorder> <what> <reason>             a reading that is missing
//! fact <name> <text>                            what the numbers hold for
//! done                                          it reached its end
//! ```
//!
//! In every round each recorder does the same work once, in an order that
//! rotates, so that what a busy machine adds falls on all of them.
#![forbid(unsafe_code)]

mod agent;
mod auditd;
mod clock;
mod daemon;
mod execs;
mod guest;
mod keys;
mod lines;
mod outside;
mod peers;
mod reading;
mod recorder;
mod rig;
mod storage;
mod throughput;

use std::{env, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use self::rig::Rig;

/// A part of the benchmark, by the name that `--only` takes.
type Part = (&'static str, fn(&Rig) -> Result<()>);

const PARTS: [Part; 8] = [
    ("throughput", throughput::run),
    ("latency", keys::run),
    ("exec", execs::run),
    ("outside", outside::run),
    ("agent", agent::run),
    ("storage", storage::run),
    ("reading", reading::run),
    ("guest", guest::run),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    const USAGE: &str = "usage: auditty-bench ROUNDS quick|full|large|guest PART…";
    let mut words = env::args().skip(1);
    let rounds = words.next().context("how many rounds")?.parse()?;
    let size = match words.next().as_deref() {
        Some("quick") => rig::QUICK,
        Some("full") => rig::FULL,
        Some("large") => rig::LARGE,
        Some("guest") => rig::GUEST,
        _ => bail!(USAGE),
    };
    let chosen: Vec<_> = words.collect();
    if chosen.is_empty() {
        bail!(USAGE);
    }
    for name in &chosen {
        if !PARTS.iter().any(|(part, _)| part == name) {
            bail!("there is no part {name}");
        }
    }
    let rig = Rig::new(rounds, size)?;
    for (name, part) in PARTS {
        if chosen.iter().any(|word| word == name) {
            part(&rig).with_context(|| name.to_owned())?;
        }
    }
    lines::done();
    Ok(())
}
