//! `auditty-agent check`: can it run here, and what would be missed?

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use auditty_proto::v1::ReportRequest;
use auditty_proto::v1::ingest_service_client::IngestServiceClient;
use auditty_recording::encryption::Recipient;
use auditty_recording::session::Host;
use auditty_recording::store::Inspection;
use tonic::Code;

use super::ending::may_end;
use super::process;
use crate::capture::{self, Check, INSTRUCTION_BUDGET};
use crate::config::{Address, Collector, Config, Encryption, Grants};
use crate::delivery::{dial, inspect};
use crate::grants::GrantFolder;

/// Prints the report; whether capture can run.
pub fn check(config: &Config) -> Result<bool> {
    let host = process::host(config.host())?;
    println!("host        {} ({})", host.host_id, host.hostname);
    let can_capture = check_capture(config)?;
    let runtime = process::runtime()?;
    runtime.block_on(async {
        let url = &config.store().url;
        match check_store(config, &host).await {
            Ok(found) => {
                println!("store       {url}: can be written");
                let protection = found.to_string();
                if !protection.is_empty() {
                    println!("            {protection}");
                }
                let problems = found.problems.iter();
                let problems = problems.map(|problem| format!("PROBLEM: {problem}"));
                print_list("", &problems.collect::<Vec<_>>());
            }
            Err(error) => println!("store       {url}: PROBLEM: {error:#}"),
        }
        check_collector(config.collector(), &host).await;
        println!("            {}", told(config));
    });
    println!("spool       {}", config.spool().directory().display());
    print_list("encryption", &encryption(config.encryption()));
    check_grants(config.grants());
    println!(
        "capture     {}",
        if can_capture { "can run" } else { "CANNOT RUN" }
    );
    Ok(can_capture)
}

/// Who may read recordings.
fn encryption(config: &Encryption) -> Vec<String> {
    let Some(recipients) = config.recipients() else {
        return vec!["none: who has the store's objects reads recordings".to_owned()];
    };
    let named = |key: &Recipient| match key.to_string().split_once(' ') {
        Some((kind, _)) => format!("{kind} {}", key.fingerprint()),
        None => key.fingerprint(),
    };
    let mut lines: Vec<String> = recipients.all().iter().map(named).collect();
    let input = recipients.input().iter();
    lines.extend(input.map(|key| format!("input only: {}", named(key))));
    lines
}

/// What the collector learns of what was done.
fn told(config: &Config) -> &'static str {
    match (config.report_content(), config.encryption().recipients()) {
        (false, _) => {
            "is told that programs ran and files changed, but no command line and no path"
        }
        (true, None) => "is told command lines and paths",
        (true, Some(_)) => "is told command lines and paths, NOT encrypted",
    }
}

fn check_grants(config: &Grants) {
    let mut folder = GrantFolder::new(config.directory());
    folder.refresh();
    let (count, place) = (folder.rules().count(), config.directory().display());
    println!("grants      {place}: {count} grants");
    let mut problems: Vec<String> = folder.errors().iter().map(ToString::to_string).collect();
    problems.extend(may_end(config).err().map(|error| error.to_string()));
    for problem in problems {
        println!("            PROBLEM: {problem}");
    }
}

fn check_capture(config: &Config) -> Result<bool> {
    if let Err(error) = process::require_root() {
        println!("kernel      not checked: {error}");
        return Ok(false);
    }
    process::prepare();
    match capture::check(&super::capture_options(config)) {
        Ok(found) => {
            println!("kernel      {}", found.kernel);
            println!("mode        {}", found.mode.name());
            let refused = found.refusals.iter();
            let refused = refused.map(|other| format!("{}: {}", other.mode.name(), other.reason));
            print_list("better ones", &refused.collect::<Vec<_>>());
            print_list("hooks", &found.hooks);
            print_list("not seen", &found.limits);
            print_list("verified", &instructions(&found));
            Ok(found.is_within_budget())
        }
        Err(error) => {
            println!("kernel      PROBLEM: {error}");
            Ok(false)
        }
    }
}

/// What the verifier went through for each program, the most first.
fn instructions(found: &Check) -> Vec<String> {
    let mut counts: Vec<_> = found.verified_instructions.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let line = |(program, count): &(&str, Option<u32>)| match count {
        Some(count) if *count > INSTRUCTION_BUDGET => {
            format!("{program}: {count} instructions, OVER THE BUDGET of {INSTRUCTION_BUDGET}")
        }
        Some(count) => format!("{program}: {count} instructions of {INSTRUCTION_BUDGET}"),
        None => format!("{program}: this kernel does not count"),
    };
    counts.into_iter().map(line).collect()
}

/// Checks the type information in `path`, a file or a folder of files, for
/// everything the programs rely on; prints what is missing.
pub fn check_types(path: &Path) -> Result<bool> {
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = fs::read_dir(path).with_context(|| format!("reading {}", path.display()))?;
        let entries: std::io::Result<Vec<_>> = entries.collect();
        files = entries?.into_iter().map(|entry| entry.path()).collect();
        files.sort();
    }
    let mut all_well = !files.is_empty();
    for file in files {
        let data = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let found = capture::check_types(data);
        let found = found.with_context(|| format!("reading {}", file.display()))?;
        let wrong: Vec<_> = found.iter().filter(|(_, found)| found.is_err()).collect();
        let (checked, name) = (found.len(), file.display());
        println!("{name}: {} of {checked} as expected", checked - wrong.len());
        for (what, found) in wrong {
            let reason = found
                .as_ref()
                .err()
                .map_or_else(String::new, ToString::to_string);
            println!("  PROBLEM: {what}: {reason}");
            all_well = false;
        }
    }
    Ok(all_well)
}

fn print_list(title: &str, lines: &[String]) {
    for (number, line) in lines.iter().enumerate() {
        println!("{:<11} {line}", if number == 0 { title } else { "" });
    }
}

/// Stores the host's check object of this hour, and looks at what protects it.
async fn check_store(config: &Config, host: &Host) -> Result<Inspection> {
    let store = config.store().open().await?;
    Ok(inspect(&store, &host.host_id).await?)
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
        Address::Https(authority, _) => format!("https://{authority}"),
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
        host: None,
    };
    match client.report(request).await {
        Err(status) if status.code() != Code::InvalidArgument => Err(status).context("asking it"),
        _ => Ok(()),
    }
}
