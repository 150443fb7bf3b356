//! `cargo xtask vm`: real sessions on kernels that are not this machine's.

pub mod apt;
mod archive;
pub mod bench;
mod btf;
mod console;
mod docs;
mod guest;
mod kernels;
mod machine;
mod native;
pub mod power;
mod results;
mod systemd;
mod userland;

use std::{
    fs,
    num::NonZero,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, bail};

use self::{
    console::Console,
    kernels::{Kernel, LEFT_OUT, MATRIX, STRESS, Usual},
    machine::Plan,
    native::NATIVE,
    results::Results,
};
use crate::{build, report::Report, setup, workspace};

/// How often the power is cut in `cargo xtask test`.
const POWER_CUTS: u32 = 20;

/// Runs the capture suite on other kernels
///
/// Boots each kernel of the matrix in QEMU, emulated, so that no virtualization
/// is needed: Debian's cloud kernels 5.10, 6.1, 6.12 and 7.2, in the preemption
/// modes they know, with OpenSSH 9.2 or 10.0. In each the release binaries record
/// real sessions, and the recordings are compared with what the client or
/// another witness saw. Kernels and packages come from the Debian mirror of this
/// machine and are kept in target/vm, with their digests. The tables at the end
/// are also in target/vm/report.md, what the guests printed in
/// target/vm/console-*.log.
#[derive(Default, clap::Args)]
pub struct Arguments {
    /// Boot only these
    #[arg(long = "kernel", value_name = "NAME", num_args = 1.., value_parser = kernels::parse)]
    kernels: Vec<&'static Kernel>,
    /// Boot also those that are left out otherwise
    #[arg(long)]
    full: bool,
    /// Only these ways of capture
    #[arg(long = "mode", value_name = "MODE", num_args = 1..)]
    modes: Vec<String>,
    /// Only these tests
    #[arg(long = "test", value_name = "TEST", num_args = 1..)]
    tests: Vec<String>,
    /// Run the suite on this machine's own kernel instead
    #[arg(long)]
    native: bool,
    /// Only cut the power, so many times, of a guest that records sessions, and
    /// compare what is left with what their clients got
    #[arg(long, value_name = "COUNT")]
    power_cuts: Option<u32>,
    /// So many guests, one after the other on the same disk
    #[arg(long, value_name = "COUNT", requires = "power_cuts")]
    power_boots: Option<u32>,
    /// Only run the units of deploy/systemd, in a guest with systemd
    #[arg(long)]
    systemd: bool,
    /// Check what the kernel programs rely on against the type information of
    /// each kernel, and boot none
    #[arg(long)]
    btf: bool,
    /// Write docs/kernels.md from the logs that are kept, and run nothing
    #[arg(long)]
    docs: bool,
    /// Keep the guests' file systems and print how to boot them by hand
    #[arg(long)]
    keep: bool,
    /// Take the binaries in target/release as they are
    #[arg(long)]
    no_build: bool,
}

impl Arguments {
    /// What runs on a machine with these ways of capture, or with those that were
    /// asked for. What is left out unless `all` is to run is noted.
    fn plans(
        &self,
        machine: &str,
        modes: &[(&str, Usual)],
        all: bool,
        results: &mut Results,
    ) -> Vec<Plan> {
        let asked = self.modes.iter().map(|mode| (mode.as_str(), Usual::Suite));
        let modes: Vec<_> = match self.modes.is_empty() {
            true => modes.to_vec(),
            false => asked.collect(),
        };
        let mut plans = Vec::new();
        for (mode, usual) in modes {
            let mut plan = Plan {
                mode: mode.to_owned(),
                tests: self.tests.clone(),
            };
            match usual {
                Usual::Nothing if !all => {
                    let name = format!("{machine} {mode}");
                    results.skipped.push((name, LEFT_OUT.to_owned()));
                    continue;
                }
                Usual::Stress if !all && plan.tests.is_empty() => {
                    plan.tests = STRESS.map(str::to_owned).to_vec();
                }
                _ => {}
            }
            plans.push(plan);
        }
        plans
    }

    /// The kernels to boot, each once for each way of capture.
    fn machines(&self, results: &mut Results) -> Vec<(&'static Kernel, Plan)> {
        let all = self.full || !self.kernels.is_empty();
        let chosen = |kernel: &&Kernel| self.kernels.is_empty() || self.kernels.contains(kernel);
        let mut machines = Vec::new();
        for kernel in MATRIX.iter().filter(chosen) {
            let plans = self.plans(kernel.name, kernel.modes, all, results);
            machines.extend(plans.into_iter().map(|plan| (kernel, plan)));
        }
        machines
    }

    /// What runs on this machine's own kernel.
    fn native(&self, all: bool) -> Result<Results> {
        let mut results = Results::default();
        for plan in self.plans(NATIVE, &native::MODES, all, &mut results) {
            results.columns.extend(native::run(&plan)?);
        }
        Ok(results)
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.docs {
        return docs::write();
    }
    setup::ready()?;
    if !arguments.no_build {
        build::products()?;
        build::rig()?;
    }
    if let Some(cuts) = arguments.power_cuts {
        let mut report = Report::default();
        power::run(&mut report, arguments.power_boots.unwrap_or(1), cuts);
        return report.finish();
    }
    if arguments.systemd {
        let mut report = Report::default();
        systemd::run(&mut report);
        return report.finish();
    }
    if arguments.btf {
        let mut report = Report::default();
        btf::check(&mut report);
        return report.finish();
    }
    let results = if arguments.native {
        arguments.native(true)?
    } else {
        if !setup::emulator_present() {
            bail!("{}", setup::NO_EMULATOR);
        }
        boot_all(arguments)?
    };
    show(&results)?;
    match results.failures() {
        0 => Ok(()),
        failures => bail!("{failures} failed; see target/vm/console-*.log"),
    }
}

/// The capture suite as a part of `cargo xtask test`: on other kernels.
pub fn suite(report: &mut Report) -> Result<()> {
    if !setup::emulator_present() {
        report.skip("vm", setup::NO_EMULATOR);
        return Ok(());
    }
    if let Err(error) = build::tested_products().and_then(|()| build::rig()) {
        report.fail("vm: the product", &error);
        return Ok(());
    }
    btf::check(report);
    power::run(report, 1, POWER_CUTS);
    println!("\n== vm: the capture suite on other kernels");
    match boot_all(&Arguments::default()) {
        Ok(results) => {
            show(&results)?;
            results.count_in(report);
        }
        Err(error) => report.fail("vm", &error),
    }
    Ok(())
}

/// The same on this machine's own kernel.
pub fn native_suite(report: &mut Report) {
    println!("\n== capture: the capture suite on this machine's kernel");
    match build::tested_products().and_then(|()| Arguments::default().native(false)) {
        Ok(results) => {
            println!("\n{}", results.report());
            results.count_in(report);
        }
        Err(error) => report.fail("capture", &error),
    }
}

/// Where kernels, consoles and the report are.
fn folder() -> Result<PathBuf> {
    let folder = workspace::root()?.join("target/vm");
    fs::create_dir_all(&folder)
        .with_context(|| format!("could not create {}", folder.display()))?;
    Ok(folder)
}

/// What a machine said in a way of capture. The log of a whole suite is not
/// replaced by that of a few tests.
fn log(machine: &str, plan: &Plan) -> Result<PathBuf> {
    let part = if plan.tests.is_empty() { "" } else { "-part" };
    Ok(folder()?.join(format!("console-{machine}-{}{part}.log", plan.mode)))
}

/// All machines in the order of the tables.
fn machines() -> Vec<&'static str> {
    let kernels = MATRIX.iter().map(|kernel| kernel.name);
    kernels.chain([NATIVE]).collect()
}

/// Prints the tables and keeps them.
fn show(results: &Results) -> Result<()> {
    let text = results.report();
    println!("\n{text}");
    let report = folder()?.join("report.md");
    fs::write(&report, text).with_context(|| format!("could not write {}", report.display()))
}

/// Boots them, as many at a time as there are processors: half of what a guest
/// does waits for something.
fn boot_all(arguments: &Arguments) -> Result<Results> {
    let mut results = Results::default();
    let chosen = arguments.machines(&mut results);
    let mut machines = Vec::new();
    for (kernel, plan) in chosen {
        match kernel.image().and_then(|image| {
            Ok((
                image,
                guest::build(&kernel.userland, &guest::Over::default())?,
            ))
        }) {
            Ok((image, initramfs)) => machines.push((kernel, plan, image, initramfs)),
            Err(error) => {
                println!("{}: skipped: {error:#}", kernel.name);
                results
                    .skipped
                    .push((kernel.name.to_owned(), format!("{error:#}")));
            }
        }
    }
    // Whole suites take longest.
    machines.sort_by_key(|(_, plan, ..)| !plan.tests.is_empty());
    let at_a_time = thread::available_parallelism().map_or(1, NonZero::get);
    let (queue, shared) = (Mutex::new(machines.iter()), Mutex::new(results));
    thread::scope(|scope| {
        let work = || -> Result<()> {
            loop {
                let Some((kernel, plan, image, initramfs)) = lock(&queue).next() else {
                    return Ok(());
                };
                let console: Console = machine::boot(kernel, image, initramfs, plan)?;
                let columns = console.columns(kernel.name, kernel.preempt);
                lock(&shared).columns.extend(columns);
            }
        };
        let workers: Vec<_> = (0..at_a_time).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })?;
    for (kernel, plan, image, initramfs) in &machines {
        if arguments.keep {
            let command = machine::command(kernel, image, initramfs, plan);
            println!("{}: {}", kernel.name, workspace::show(&command));
        } else {
            // Two machines may have the same one.
            let _ = fs::remove_file(initramfs);
        }
    }
    let mut results = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort(&self::machines());
    Ok(results)
}

/// A lock whose last holder panicked still guards sound data here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
