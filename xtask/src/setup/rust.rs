//! Components of the pinned Rust toolchain.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{NETWORK_HINT, Outcome, announce};
use crate::workspace;

/// Component, a file that it brings (below the sysroot), and the reason.
const COMPONENTS: [(&str, &str, &str); 3] = [
    (
        "rust-src",
        "lib/rustlib/src/rust/library/core/Cargo.toml",
        "`core` is compiled for the BPF target from it",
    ),
    ("clippy", "bin/cargo-clippy", "the tests lint"),
    ("rustfmt", "bin/cargo-fmt", "the tests check the format"),
];

/// Adds the missing ones.
pub fn ensure() -> Result<Outcome> {
    let sysroot = sysroot()?;
    let mut outcome = Outcome::Present;
    for (component, file, reason) in COMPONENTS {
        if sysroot.join(file).exists() {
            continue;
        }
        announce(&format!("add the Rust component {component}"), reason);
        workspace::run(
            workspace::command("rustup")?.args(["component", "add", component]),
            &format!("add the Rust component {component}"),
        )
        .context(NETWORK_HINT)?;
        outcome = Outcome::Done;
    }
    Ok(outcome)
}

/// Where the toolchain lives.
pub fn sysroot() -> Result<PathBuf> {
    let mut rustc = workspace::command("rustc")?;
    let sysroot = workspace::output(rustc.args(["--print", "sysroot"]))
        .context("`rustc --print sysroot` failed: install rustup from https://rustup.rs")?;
    Ok(PathBuf::from(sysroot))
}
