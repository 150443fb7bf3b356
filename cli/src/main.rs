//! `auditty`, what security teams type: which SSH sessions there were, who
//! allowed them, what was done in them, and a replay.
//!
//! | room | what is in it |
//! |---|---|
//! | [`args`], [`config`] | what was typed, and what it means |
//! | [`verbs`] | one file per verb |
//! | [`source`] | a collector, or a store alone |
//! | [`replay`] | a recording on the viewer's terminal |
//! | [`sanitise`] | the one place that decides what may reach a terminal |
#![forbid(unsafe_code)]

mod args;
mod config;
mod csv;
mod describe;
mod failure;
mod identities;
mod moment;
mod out;
mod paging;
mod query;
mod replay;
mod sanitise;
mod source;
mod table;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::args::Cli;
use crate::config::Config;
use crate::failure::{Failure, Result};

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let verb = matches.subcommand_name().unwrap_or_default();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match run(cli, verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("auditty: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(cli: Cli, verb: &str) -> Result<()> {
    let config = Config::new(&cli.global, verb, |name| std::env::var(name).ok())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("cannot start: {error}")))?;
    runtime.block_on(verbs::run(cli.verb, &config))
}
