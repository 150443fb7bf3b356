//! `cargo xtask demo`.

use anyhow::Result;

use crate::{build, setup, workspace};

/// Records a real SSH login on this machine and shows what was kept
///
/// Sets up and builds what is missing. Then, beside and without touching any
/// sshd of this machine: starts an sshd of its own on a free loopback port,
/// creates the throw-away user `auditty-demo`, starts the agent with a
/// configuration of its own, logs in, types a few commands (a password prompt
/// among them), and shows the session with the CLI. User and processes are gone
/// at the end, also after ctrl-c; the recording stays for the reader.
#[derive(clap::Args)]
pub struct Arguments {}

pub fn run(_: &Arguments) -> Result<()> {
    setup::ready()?;
    build::products()?;
    build::rig()?;
    let demo = workspace::root()?.join("target/release/auditty-demo");
    let mut demo = workspace::command(demo)?;
    workspace::run(demo.env("RUST_LIB_BACKTRACE", "0"), "show the demo")
}
