//! The rig of the end-to-end tests: a real sshd, real users, a real ssh client,
//! the product's own binaries, a real S3 server, and readers that are not ours.
//!
//! A test makes a [`Scene`], which owns a temporary folder and everything that
//! must be gone afterwards; when the test fails, the logs of its processes are
//! printed. Nothing here links the product: recordings are read with `zstd`,
//! the collector is asked by a Python client.
#![forbid(unsafe_code)]

pub mod agent;
pub mod authority;
pub mod cleanup;
pub mod cli;
pub mod client;
pub mod dropbear;
pub mod kerberos;
pub mod oracle;
pub mod process;
pub mod program;
pub mod python;
pub mod s3;
pub mod scene;
pub mod sshd;
pub mod stage;
pub mod store;
pub mod target;
pub mod traces;
pub mod user;

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

pub use scene::Scene;
pub use stage::Stage;

/// How long a condition may take that should hold at once. Machines under test
/// are small and busy.
pub const SOON: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until `condition` gives something, for at most `within`, times
/// `AUDITTY_PATIENCE` on a machine that is emulated.
pub fn wait_for<T>(
    what: &str,
    within: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let patience = std::env::var("AUDITTY_PATIENCE").ok();
    let patience: u32 = patience.map_or(Ok(1), |times| times.parse())?;
    let within = within * patience;
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("{what}: not within {} s", within.as_secs());
        }
        thread::sleep(LOOK * patience);
    }
}

/// The root of the checkout.
pub fn workspace() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Where `cargo xtask setup` installs things.
pub fn tools() -> PathBuf {
    std::env::var_os("AUDITTY_TOOLS")
        .map_or_else(|| workspace().join("target/tools"), PathBuf::from)
}

/// A binary of the product. `AUDITTY_BINARIES` says where they are on a machine
/// without the checkout, such as a guest.
pub fn binary(name: &str) -> PathBuf {
    std::env::var_os("AUDITTY_BINARIES")
        .map_or_else(|| workspace().join("target/release"), PathBuf::from)
        .join(name)
}

/// Ends the test as skipped, with the reason; `cargo xtask test` counts it.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("test").to_owned();
        // Past libtest, which keeps the output of tests that end well.
        let line = format!("\nSKIPPED {test}: {}\n", format!($($reason)*));
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes())?;
        return Ok(());
    }};
}
