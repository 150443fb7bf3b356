//! `cargo xtask setup`: one step a thing, each with its reason.

mod bpf_linker;
mod emulator;
mod machine;
mod openssh;
mod packages;
mod python;
mod rust;
mod schema_linter;

use anyhow::Result;

pub use self::emulator::{NO_EMULATOR, present as emulator_present};

/// Installs or builds what this machine lacks for building and testing
///
/// For a Debian or Ubuntu machine with rustup, as root. Looks at each thing,
/// does only what is missing, and says why: Debian packages, components of the
/// pinned Rust toolchain, bpf-linker (built against rustc's own LLVM), Python
/// environments (an S3 server and foreign clients for the tests), buf where npm
/// is, QEMU for the tests on other kernels, a newer OpenSSH than this machine's,
/// and /run/sshd and tracefs. Running it again changes nothing.
#[derive(clap::Args)]
pub struct Arguments {
    /// Do only these steps
    #[arg(long, value_enum)]
    only: Vec<Step>,
}

/// The steps in their order: each may use what those before it provide.
const STEPS: [Step; 8] = [
    Step::Packages,
    Step::Rust,
    Step::BpfLinker,
    Step::Python,
    Step::Buf,
    Step::Emulator,
    Step::Openssh,
    Step::Machine,
];

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Step {
    /// Debian packages
    Packages,
    /// Components of the Rust toolchain
    Rust,
    /// The linker of the kernel programs
    BpfLinker,
    /// Python environments of the tests
    Python,
    /// The linter of the protobuf schemas
    Buf,
    /// QEMU, for the tests on other kernels
    Emulator,
    /// A newer OpenSSH than this machine's
    Openssh,
    /// Folders and mounts
    Machine,
}

/// What a step found.
enum Outcome {
    /// All there.
    Present,
    /// Something was missing and is there now.
    Done,
    /// It cannot be had here, and that is no error.
    Skipped(&'static str),
}

pub fn run(arguments: &Arguments) -> Result<()> {
    machine::require()?;
    let chosen = |step: &Step| arguments.only.is_empty() || arguments.only.contains(step);
    let mut changed = false;
    for step in STEPS.into_iter().filter(chosen) {
        let outcome = match step {
            Step::Packages => packages::ensure()?,
            Step::Rust => rust::ensure()?,
            Step::BpfLinker => bpf_linker::ensure()?,
            Step::Python => python::ensure()?,
            Step::Buf => schema_linter::ensure()?,
            Step::Emulator => emulator::ensure()?,
            Step::Openssh => openssh::ensure()?,
            Step::Machine => machine::ensure()?,
        };
        match outcome {
            Outcome::Present => {}
            Outcome::Done => changed = true,
            Outcome::Skipped(reason) => println!("setup: skipped: {reason}"),
        }
    }
    println!("setup: {}", if changed { "done" } else { "nothing to do" });
    Ok(())
}

/// Runs every step, for the verbs that need a ready machine.
pub fn ready() -> Result<()> {
    run(&Arguments { only: Vec::new() })
}

/// Installs one more Debian package, for a verb that needs it.
pub fn install(package: &str, reason: &str) -> Result<()> {
    packages::install(&[(package, reason)]).map(drop)
}

/// Announces what is done and why.
fn announce(what: &str, why: &str) {
    println!("setup: {what}: {why}");
}

/// What to try when a download failed.
const NETWORK_HINT: &str = "if this was the network: check the connection and the proxy settings, then run \
     `cargo xtask setup` again; it goes on where it stopped";
