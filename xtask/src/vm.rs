//! `cargo xtask vm`: real logins on kernels that are not this machine's.

mod archive;
mod guest;
mod kernels;
mod machine;
mod results;

use std::{
    fs,
    num::NonZero,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, bail};

use self::{
    kernels::{Kernel, MATRIX},
    results::Results,
};
use crate::{build, report::Report, setup, workspace};

/// Records real SSH logins on other kernels
///
/// Boots each kernel of the matrix in QEMU, emulated, so that no virtualization
/// is needed: Debian's cloud kernels 5.10, 6.1, 6.12 and 7.2, the last two also
/// fully preemptible. In each the release binaries record logins to a real
/// sshd, and the recordings are compared with what the ssh client saw. Kernels
/// come from the Debian mirror of this machine and are kept in target/vm. The
/// table at the end is also in target/vm/report.md, what the guests printed in
/// target/vm/console-*.log.
#[derive(clap::Args)]
pub struct Arguments {
    /// Boot only these
    #[arg(long = "kernel", value_name = "NAME", num_args = 1.., value_parser = kernels::parse)]
    kernels: Vec<&'static Kernel>,
    /// Keep the guests' file system and print how to boot it by hand
    #[arg(long)]
    keep: bool,
    /// Take the binaries in target/release as they are
    #[arg(long)]
    no_build: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::ready()?;
    if !setup::emulator_present() {
        bail!("{}", setup::NO_EMULATOR);
    }
    if !arguments.no_build {
        build::products()?;
    }
    let all = || MATRIX.iter().collect();
    let chosen = Some(&arguments.kernels).filter(|list| !list.is_empty());
    let results = boot_all(&chosen.cloned().unwrap_or_else(all), arguments.keep)?;
    match results.failures() {
        0 => Ok(()),
        failures => bail!("{failures} failed; see target/vm/console-*.log"),
    }
}

/// The whole matrix as a part of `cargo xtask test`.
pub fn suite(report: &mut Report) -> Result<()> {
    if !setup::emulator_present() {
        report.skip("vm", setup::NO_EMULATOR);
        return Ok(());
    }
    if let Err(error) = build::products() {
        report.fail("vm: the product", &error);
        return Ok(());
    }
    println!("\n== vm: real logins on other kernels");
    match boot_all(&MATRIX.iter().collect::<Vec<_>>(), false) {
        Ok(results) => results.count_in(report),
        Err(error) => report.fail("vm", &error),
    }
    Ok(())
}

/// Where kernels, consoles and the report are.
fn folder() -> Result<PathBuf> {
    let folder = workspace::root()?.join("target/vm");
    fs::create_dir_all(&folder)
        .with_context(|| format!("could not create {}", folder.display()))?;
    Ok(folder)
}

/// Boots them, as many at a time as there are processors: half of what a guest
/// does waits for something.
fn boot_all(chosen: &[&'static Kernel], keep: bool) -> Result<Results> {
    let initramfs = guest::build()?;
    let mut results = Results::default();
    let mut images = Vec::new();
    for kernel in chosen {
        match kernel.image() {
            Ok(image) => images.push((*kernel, image)),
            Err(error) => {
                println!("{}: skipped: {error:#}", kernel.name);
                results.skip(kernel, &format!("{error:#}"));
            }
        }
    }
    let at_a_time = thread::available_parallelism().map_or(1, NonZero::get);
    let (queue, results) = (Mutex::new(images.iter()), Mutex::new(results));
    thread::scope(|scope| {
        let work = || -> Result<()> {
            loop {
                let Some((kernel, image)) = lock(&queue).next() else {
                    return Ok(());
                };
                let column = machine::test(kernel, image, &initramfs)?;
                lock(&results).add(kernel, column);
            }
        };
        let workers: Vec<_> = (0..at_a_time).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })?;
    for (kernel, image) in images.iter().filter(|_| keep) {
        let command = machine::command(kernel, image, &initramfs);
        println!("{}: {}", kernel.name, workspace::show(&command));
    }
    if !keep {
        fs::remove_file(&initramfs)
            .with_context(|| format!("could not remove {}", initramfs.display()))?;
    }
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort();
    let table = results.table();
    println!("\n{table}");
    let report = folder()?.join("report.md");
    fs::write(&report, table).with_context(|| format!("could not write {}", report.display()))?;
    Ok(results)
}

/// A lock whose last holder panicked still guards sound data here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
