//! `cargo xtask build`.

use anyhow::Result;

use crate::workspace;

/// Builds the agent with its kernel programs, the collector and the CLI
///
/// Runs `cargo build --release --locked` with target/tools/bin in PATH, where
/// `cargo xtask setup` puts bpf-linker. The binaries are in target/release.
#[derive(clap::Args)]
pub struct Arguments {}

pub fn run(_: &Arguments) -> Result<()> {
    products()
}

/// Builds what ships.
pub fn products() -> Result<()> {
    workspace::run(
        workspace::cargo()?.args(["build", "--release", "--locked"]),
        "build the workspace",
    )
}

/// Builds what ships together with its tests. Test dependencies switch on
/// features of others: built any other way, half of the dependencies would be
/// built twice.
pub fn tested_products() -> Result<()> {
    workspace::run(
        workspace::cargo()?.args(["test", "--release", "--locked", "--no-run"]),
        "build the workspace and its tests",
    )
}

/// Builds the rig of the end-to-end tests and the demo.
pub fn rig() -> Result<()> {
    workspace::run(
        workspace::cargo()?.args([
            "build",
            "--release",
            "--locked",
            "--package",
            "auditty-tests",
        ]),
        "build the test rig",
    )
}
