//! `auditty completions`: a completion script for a shell.

use clap::CommandFactory;

use crate::args::{Cli, Completions};
use crate::failure::Result;
use crate::out;

pub(super) fn run(args: &Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "auditty", &mut script);
    out::print(&String::from_utf8_lossy(&script))
}
