//! `auditty-agent`: the host daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use auditty_agent::config::{Config, DEFAULT_FILE};
use auditty_agent::run;
use clap::{Parser, Subcommand};

/// Records the SSH sessions of this host.
#[derive(Parser)]
#[command(name = "auditty-agent", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Configuration file; without it /etc/auditty/agent.toml, where there is one.
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Record, in the foreground, until SIGTERM or SIGINT (the default).
    Run,
    /// Say what this kernel allows, what would not be captured, and whether the
    /// store and the collector can be reached. Exits with 0 when capture can run
    /// and every kernel program is within its budget.
    Check {
        /// Only check a kernel's type information (a copy of its
        /// /sys/kernel/btf/vmlinux, or a folder of such) for everything that the
        /// kernel programs rely on.
        #[arg(long, value_name = "FILE")]
        btf: Option<PathBuf>,
    },
    /// Remove what a stopped agent leaves in the kernel and in /run: programs
    /// that go on capturing for the next agent. Recordings stay.
    Uninstall,
    /// Say whether a user may have a session now; for pam_exec in sshd's account
    /// phase. Exits with 1 where [strict] asks for a recorder and none works.
    Permit,
    /// End the sessions that [strict] wants recorded when nothing has recorded them
    /// for strict.end_after, in the foreground; a service of its own.
    Guard,
    /// Print the configuration file with every key, its default and its meaning.
    Config,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let command = arguments.command.unwrap_or(Command::Run);
    if matches!(command, Command::Config) {
        print!("{DEFAULT_FILE}");
        return ExitCode::SUCCESS;
    }
    if let Command::Check { btf: Some(path) } = &command {
        return finish(run::check_types(path));
    }
    if matches!(command, Command::Uninstall) {
        return finish(run::uninstall().map(|()| true));
    }
    if matches!(command, Command::Guard) {
        return finish(run::guard(arguments.config.as_deref()).map(|()| true));
    }
    let config = match Config::load(arguments.config.as_deref()) {
        Ok(config) => config,
        // Without a configuration nobody is held: a mistake in it locks nobody out.
        Err(error) if matches!(command, Command::Permit) => {
            eprintln!("auditty-agent: {error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("auditty-agent: {error}");
            return ExitCode::FAILURE;
        }
    };
    finish(match command {
        Command::Check { .. } => run::check(&config),
        Command::Permit => Ok(run::permit(&config)),
        Command::Run | Command::Config | Command::Uninstall | Command::Guard => {
            run::run(&config).map(|()| true)
        }
    })
}

fn finish(outcome: anyhow::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("auditty-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}
