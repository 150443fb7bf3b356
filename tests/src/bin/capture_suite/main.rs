//! The capture suite: small real sessions, each compared with what its client,
//! or another witness, saw.
//!
//! `cargo xtask vm` runs it in the guests, `cargo xtask test` on this machine.
//! It says what happens in lines on standard output:
//!
//! ```text
//! VM mode <mode>                 what follows is this way of capture
//! VM plan <test>,…               the tests that run
//! VM programs <name>=<count> …   verified instructions of its kernel programs
//! VM start <test>
//! VM <test> PASS [<remark>]      recorded is what the witness saw
//! VM <test> LIMIT <why>          what is missing is declared, as it should be
//! VM <test> FAIL <why>
//! VM <test> SKIP <why>           this machine lacks something
//! VM done                        the suite reached its end
//! ```
//!
//! Lines that begin with `| ` are evidence after a failure. Whoever reads this
//! takes a test that started and says nothing for minutes as hung.
#![forbid(unsafe_code)]

mod account;
mod crowds;
mod execs;
mod files;
mod inner;
mod input;
mod kernel;
mod login;
mod outcome;
mod power;
mod restarts;
mod rig;
mod servers;
mod streams;
mod units;
mod uses;

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use self::{
    outcome::Outcome,
    rig::{Rig, Start},
};

/// A test, by its name in the table.
type Test = (&'static str, fn(&mut Rig) -> Result<Outcome>);

const TESTS: [Test; 28] = [
    ("check", kernel::check),
    ("terminal-output", streams::terminal),
    ("binary-output", streams::binary),
    ("three-streams", streams::three),
    ("exit-codes", execs::exit_codes),
    ("argv", execs::argv),
    ("login", login::login),
    ("typed-input", input::typed),
    ("masked-read", input::masked_read),
    ("masked-su", input::masked_su),
    ("resize", input::resize),
    ("sftp", files::sftp),
    ("scp", files::scp),
    ("scp-legacy", files::scp_legacy),
    ("rsync", files::rsync),
    ("uses", uses::uses),
    ("inner-script", inner::script),
    ("inner-sudo", inner::sudo),
    ("inner-tmux", inner::tmux),
    ("one-by-one", crowds::one_by_one),
    ("crowd-40", crowds::sessions),
    ("crowd-scripts", crowds::scripts),
    ("exec-loops", execs::loops),
    ("fork-storm", execs::forks),
    ("stopped-agent", restarts::stopped),
    ("killed-agent", restarts::killed),
    ("dropbear", servers::dropbear),
    ("small-rings", restarts::small_rings),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("capture-suite: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What to run. Both lists come from the environment, because the command line
/// of a guest's first process is the kernel's.
struct Plan {
    modes: Vec<String>,
    only: Vec<String>,
}

fn run() -> Result<()> {
    if let Ok(boot) = std::env::var("vm_power") {
        return power::run(&boot, Path::new("/disk"));
    }
    let list = |name: &str| -> Vec<String> {
        let value = std::env::var(name).unwrap_or_default();
        let words = value.split(',').filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    let plan = Plan {
        modes: list("vm_modes"),
        only: list("vm_tests"),
    };
    if plan.modes == ["systemd"] {
        return units::run();
    }
    for name in &plan.only {
        let known = TESTS.iter().any(|(test, _)| test == name);
        if !known {
            bail!("there is no test {name}");
        }
    }
    for mode in &plan.modes {
        println!("VM mode {mode}");
        in_mode(mode, &plan.only).with_context(|| format!("in mode {mode}"))?;
    }
    println!("VM done");
    Ok(())
}

/// The whole suite under one agent.
fn in_mode(mode: &str, only: &[String]) -> Result<()> {
    let chosen = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let tests: Vec<Test> = TESTS.into_iter().filter(|(name, _)| chosen(name)).collect();
    let plan: Vec<_> = tests.iter().map(|(name, _)| *name).collect();
    println!("VM plan {}", plan.join(","));
    let mut rig = match Rig::start(mode)? {
        Start::Ready(rig) => *rig,
        Start::Refused(why) => {
            for (name, _) in tests {
                println!("VM {name} LIMIT {}", one_line(&why));
            }
            return Ok(());
        }
    };
    for (name, test) in tests {
        println!("VM start {name}");
        let missed = kernel::missed_runs(rig.agent_pid());
        let outcome = rig.begin().and_then(|()| test(&mut rig));
        let missed = kernel::missed_runs(rig.agent_pid()).saturating_sub(missed);
        match outcome {
            Ok(outcome) => println!("VM {name} {}", one_line(&outcome.with_missed(missed))),
            Err(error) => {
                println!("VM {name} FAIL {}", one_line(&format!("{error:#}")));
                rig.print_evidence(missed);
            }
        }
    }
    rig.end()
}

/// The protocol has lines, and readers have patience for so much of one.
fn one_line(text: &str) -> String {
    const SHOWN: usize = 4000;
    let line = text.replace('\n', " ");
    line.chars().take(SHOWN).collect()
}
