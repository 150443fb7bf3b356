//! One file per verb.

mod activities;
mod alerts;
mod audit;
mod bundle;
mod commands;
mod completions;
mod coverage;
mod export;
mod failed_logins;
mod files;
mod grants;
mod hosts;
mod keys;
mod network;
mod receipts;
mod registry;
mod replay;
mod search;
mod sessions;
mod sessions_follow;
mod show;
mod tail;
mod transfers;
mod verify;

use crate::args::Verb;
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::out;
use crate::source::Source;

/// Does what was asked.
///
/// # Errors
/// What went wrong, ready to be printed.
pub async fn run(verb: Verb, config: &Config) -> Result<()> {
    let has_csv = matches!(
        verb,
        Verb::Sessions(_)
            | Verb::FailedLogins(_)
            | Verb::Audit(_)
            | Verb::Hosts(_)
            | Verb::Alerts(_)
            | Verb::Coverage(_)
    );
    if config.csv && !has_csv {
        return Err(Failure::usage(
            "--output csv is for sessions, failed-logins, audit, hosts, alerts and coverage",
        ));
    }
    match verb {
        Verb::Sessions(args) => sessions::run(&args, config).await,
        Verb::Show(args) => show::run(&args, config).await,
        Verb::Commands(args) => commands::run(&args, config).await,
        Verb::Search(args) => search::run(&args, config).await,
        Verb::Files(args) => activities::run(&args, &files::LIST, config).await,
        Verb::Transfers(args) => activities::run(&args, &transfers::LIST, config).await,
        Verb::Network(args) => activities::run(&args, &network::LIST, config).await,
        Verb::FailedLogins(args) => failed_logins::run(&args, config).await,
        Verb::Audit(args) => audit::run(&args, config).await,
        Verb::Hosts(args) => hosts::run(&args, config).await,
        Verb::Alerts(args) => alerts::run(&args, config).await,
        Verb::Coverage(args) => coverage::run(&args, config).await,
        Verb::Grants(args) => grants::run(&args, config).await,
        Verb::Replay(args) => replay::run(&args, config).await,
        Verb::Tail(args) => tail::run(&args, config).await,
        Verb::Export(args) => export::run(&args, config).await,
        Verb::Verify(args) => verify::run(&args, config).await,
        Verb::Bundle(args) => bundle::run(&args, config).await,
        Verb::Keys(args) => keys::run(&args, config).await,
        Verb::Completions(args) => completions::run(&args),
    }
}

/// Reports what the source found damaged, after everything good was shown.
fn report(source: &mut Source) -> Result<()> {
    report_problems(&source.take_problems())
}

/// Says where the rest is, when something stands only in recordings.
fn tell_withheld(withheld: bool) {
    if withheld {
        out::warn(
            "command lines and paths stand only in the recording: its host keeps them out of \
             reports; --store reads it, with --identity where it is encrypted",
        );
    }
}

fn report_problems(problems: &[String]) -> Result<()> {
    for problem in problems {
        out::warn(problem);
    }
    report_count(problems.len())
}

/// What it means that so many problems were told.
fn report_count(problems: usize) -> Result<()> {
    match problems {
        0 => Ok(()),
        1 => Err(Failure::integrity(
            "one problem was found; everything else was shown",
        )),
        count => Err(Failure::integrity(format!(
            "{count} problems were found; everything else was shown"
        ))),
    }
}
