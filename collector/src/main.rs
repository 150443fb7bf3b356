//! `auditty-collector`: the metadata and query service on its own.
#![forbid(unsafe_code)]

mod log;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context;
use auditty_collector::{
    Access, Countersigner, ListenAddress, Listeners, Location, Store,
    access::{Tls, Tokens},
    alerts::Alarm,
    config::{Config, Flags},
    serve,
    webhook::{Secrets, Webhook},
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
            let access = access(&config)?;
            for address in config.listen() {
                println!("listen           {address}");
            }
            println!("database         {}", config.database());
            println!("signing_key      {}", config.signing_key().display());
            println!("silent_after     {} s", config.silence().as_secs());
            println!("allow_plaintext  {}", config.allow_plaintext());
            println!(
                "tls              {}",
                if access.tls.is_some() { "on" } else { "off" }
            );
            println!(
                "oidc             {}",
                config.oidc().map_or("off", |oidc| &oidc.issuer)
            );
            println!("api_tokens       {}", config.api_tokens().len());
            if let Some(webhook) = config.webhook() {
                let secrets = Secrets::load(&webhook.secrets)?;
                for address in &webhook.listen {
                    println!("webhook          {address}, secrets of {secrets:?}");
                }
            }
            println!("alert_rules      {}", access.alarm.rules.len());
            for destination in &access.alarm.destinations {
                println!("alerts_to        {}", destination.name());
            }
            access.tokens.refresh().await?;
            Ok(())
        }
    }
}

fn access(config: &Config) -> anyhow::Result<Access> {
    let tls = config.tls().cloned().map(Tls::load).transpose()?;
    let tokens = Tokens::new(config.api_tokens().to_vec(), config.oidc().cloned());
    Ok(Access {
        tls: tls.map(Arc::new),
        tokens: Arc::new(tokens),
        limits: config.limits(),
        silence: Some(config.silence()),
        webhook: None,
        alarm: Alarm::load(config.alerts())?,
    })
}

/// Binds what grants are pushed to, where that is wanted.
async fn webhook(config: &Config, may_be_reached: bool) -> anyhow::Result<Option<Webhook>> {
    let Some(settings) = config.webhook() else {
        return Ok(None);
    };
    Ok(Some(Webhook {
        secrets: Secrets::load(&settings.secrets)?,
        listeners: Listeners::bind(&settings.listen, may_be_reached).await?,
    }))
}

/// Every connection is an open file, and the usual bound is 1024.
fn allow_many_connections() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!("the bound of open files stays: {error}");
    }
}

async fn run(config: &Config) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    allow_many_connections();
    let mut access = access(config)?;
    let store = Store::open(config.database()).await?;
    let signer = Countersigner::open(config.signing_key())?;
    let may_be_reached = access.tls.is_some() || config.allow_plaintext();
    let listeners = Listeners::bind(config.listen(), may_be_reached).await?;
    access.webhook = webhook(config, may_be_reached).await?;
    let stopped = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down");
        stopped.cancel();
    });
    let served = serve(listeners, store.clone(), signer, access, shutdown).await;
    store.close().await;
    Ok(served?)
}
