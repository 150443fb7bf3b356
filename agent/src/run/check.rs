//! `auditty-agent check`: can it run here, and what would be missed?

use anyhow::{Context as _, Result};
use auditty_proto::v1::ReportRequest;
use auditty_proto::v1::ingest_service_client::IngestServiceClient;
use auditty_recording::key::host_folder;
use auditty_recording::session::Host;
use auditty_recording::store::Body;
use tonic::Code;

use super::process;
use crate::capture;
use crate::config::{Address, Collector, Config};
use crate::delivery::dial;

/// Prints the report; whether capture can run.
pub fn check(config: &Config) -> Result<bool> {
    let host = process::host(config.host())?;
    println!("host        {} ({})", host.host_id, host.hostname);
    let can_capture = check_capture()?;
    let runtime = process::runtime()?;
    runtime.block_on(async {
        match check_store(config, &host).await {
            Ok(()) => println!("store       {}: can be written", config.store().url),
            Err(error) => println!("store       {}: PROBLEM: {error:#}", config.store().url),
        }
        check_collector(config.collector(), &host).await;
    });
    println!("spool       {}", config.spool().directory().display());
    println!("grants      {}", config.grants().directory().display());
    println!(
        "capture     {}",
        if can_capture { "can run" } else { "CANNOT RUN" }
    );
    Ok(can_capture)
}

fn check_capture() -> Result<bool> {
    if let Err(error) = process::require_root() {
        println!("kernel      not checked: {error}");
        return Ok(false);
    }
    process::prepare();
    match capture::check() {
        Ok(found) => {
            println!("kernel      {}", found.kernel);
            println!("mode        {}", found.mode);
            print_list("hooks", &found.hooks);
            print_list("not seen", &found.limits);
            Ok(true)
        }
        Err(error) => {
            println!("kernel      PROBLEM: {error}");
            Ok(false)
        }
    }
}

fn print_list(title: &str, lines: &[String]) {
    for (number, line) in lines.iter().enumerate() {
        println!("{:<11} {line}", if number == 0 { title } else { "" });
    }
}

/// Stores the host's own check object: the store has no delete, and the same
/// content again changes nothing.
async fn check_store(config: &Config, host: &Host) -> Result<()> {
    let store = config.store().open().await?;
    let key = format!("{}check", host_folder(&host.host_id));
    let body = Body::from_static(b"auditty-agent check was here\n");
    store.put_new(&key, body).await?;
    Ok(())
}

async fn check_collector(config: &Collector, host: &Host) {
    let (kind, address) = match config {
        Collector::Remote(address) => ("remote", Some(address)),
        Collector::Embedded { listen, .. } => ("embedded", listen.first()),
    };
    let Some(address) = address else { return };
    let place = match address {
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Http(url) => url.clone(),
        Address::Tcp(address) => address.to_string(),
    };
    match (ask(address, host).await, kind) {
        (Ok(()), _) => println!("collector   {kind}, {place}: answers"),
        (Err(_), "embedded") => println!("collector   embedded, {place}: starts with the agent"),
        (Err(error), _) => println!("collector   {kind}, {place}: PROBLEM: {error:#}"),
    }
}

/// An empty report: any answer of the service itself means that it is there.
async fn ask(address: &Address, host: &Host) -> Result<()> {
    let mut client = IngestServiceClient::new(dial(address)?);
    let request = ReportRequest {
        host_id: host.host_id.clone(),
        boot_id: host.boot_id.clone(),
        reports: Vec::new(),
    };
    match client.report(request).await {
        Err(status) if status.code() != Code::InvalidArgument => Err(status).context("asking it"),
        _ => Ok(()),
    }
}
