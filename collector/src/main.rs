//! `auditty-collector`: the metadata and query service on its own.
#![forbid(unsafe_code)]

mod log;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use auditty_collector::{
    ListenAddress, Listeners, Location, Store,
    config::{Config, Flags},
    serve,
};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use log::LogFormat;

/// Takes in what agents report, and answers queries over gRPC.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (TOML).
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen: unix:/path or address:port; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<ListenAddress>,
    /// Database: a file, created where there is none, or a postgres:// URL.
    #[arg(long, value_name = "FILE|URL")]
    database: Option<Location>,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check the configuration and print what it means.
    CheckConfig,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log::start(arguments.log_format);
    match start(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(arguments: Arguments) -> anyhow::Result<()> {
    let flags = Flags {
        listen: arguments.listen,
        database: arguments.database,
    };
    let config = Config::load(arguments.config.as_deref(), flags)?;
    match arguments.verb {
        None => run(&config).await,
        Some(Verb::CheckConfig) => {
            for address in config.listen() {
                println!("listen           {address}");
            }
            println!("database         {}", config.database());
            println!("allow_plaintext  {}", config.allow_plaintext());
            Ok(())
        }
    }
}

async fn run(config: &Config) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let store = Store::open(config.database()).await?;
    let listeners = Listeners::bind(config.listen(), config.allow_plaintext()).await?;
    let stopped = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down");
        stopped.cancel();
    });
    let served = serve(listeners, store.clone(), shutdown).await;
    store.close().await;
    Ok(served?)
}
