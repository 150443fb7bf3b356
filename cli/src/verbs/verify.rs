//! `auditty verify`: is the store what its hosts sealed?

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use auditty_proto::v1;
use auditty_recording::host::DigestHead;
use auditty_recording::key::SessionKey;
use auditty_recording::store::AnyStore;
use auditty_recording::verify::{self, Known, KnownHead, Report, Scope, TrustedKeys};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::keys::store as open_store;
use super::receipts;
use crate::args::Verify;
use crate::config::Config;
use crate::failure::{Failure, Kind, Result};
use crate::out;
use crate::source::{self, Source, store_failure};
use crate::table::{self, Column, Text, Tone};

/// How often the progress is drawn; shorter runs show none.
const PROGRESS_TICK: Duration = Duration::from_secs(1);

/// Findings that a collector takes at once, and the longest text of one, bytes.
const FINDINGS_AT_ONCE: usize = 200;
const MAX_TEXT_LEN: usize = 4096;

const COLUMNS: [Column; 3] = [
    Column::whole("WRONG"),
    Column::whole("OBJECT"),
    Column::text("WHAT"),
];

pub(super) async fn run(args: &Verify, config: &Config) -> Result<()> {
    if args.report && config.beside.is_none() {
        return Err(Failure::usage(
            "--report needs --collector, which is to be told",
        ));
    }
    let report = check(args, config).await.map_err(Failure::unchecked)?;
    print(&report, config)?;
    if args.report
        && let Err(failure) = tell(&report, config).await
    {
        out::warn(&format!("the collector was not told: {failure}"));
    }
    outcome(&report)
}

/// Tells the collector what is wrong.
async fn tell(report: &Report, config: &Config) -> Result<()> {
    let findings = report.findings.iter().map(|finding| {
        let kind = serde_json::to_value(finding.kind).ok();
        let kind = kind.and_then(|kind| Some(kind.as_str()?.to_owned()));
        v1::Finding {
            kind: kind.unwrap_or_default(),
            object: start(&finding.object),
            detail: start(&finding.detail),
        }
    });
    let findings: Vec<_> = findings.collect();
    if findings.is_empty() {
        return Ok(());
    }
    let mut collector = receipts::collector(config).await?;
    for findings in findings.chunks(FINDINGS_AT_ONCE) {
        let findings = findings.to_vec();
        let request = v1::ReportFindingsRequest { findings };
        collector.report_findings(request).await?;
    }
    Ok(())
}

/// As much of a text as a collector takes.
fn start(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_TEXT_LEN);
    text.get(..end).unwrap_or_default().to_owned()
}

async fn check(args: &Verify, config: &Config) -> Result<Report> {
    let mut known = Known {
        keys: args.keys.as_deref().map(trusted).transpose()?,
        heads: args
            .seen
            .iter()
            .map(|text| head(text))
            .collect::<Result<_>>()?,
        identities: config.keys.clone(),
        ..Known::default()
    };
    let (store, scope) = match (&args.session, &args.host, args.date) {
        (Some(session), _, _) => {
            let (store, key) = session_of(session, config).await?;
            (store, Scope::Session(key))
        }
        (None, host, Some(date)) => (open_store(config).await?, Scope::Date(date, host.clone())),
        (None, Some(host), None) => (open_store(config).await?, Scope::Host(host.clone())),
        (None, None, None) => (open_store(config).await?, Scope::All),
    };
    if config.beside.is_some() {
        let key = args.collector_key.as_deref();
        receipts::compare(config, &scope, key, &mut known).await?;
    }
    verified(&store, &scope, &known).await
}

/// Verifies, with a progress bar where somebody looks.
pub(super) async fn verified(store: &AnyStore, scope: &Scope, known: &Known) -> Result<Report> {
    let bar = progress();
    let report = verify::verify(store, scope, known, &|progress| {
        bar.set_length(progress.of);
        bar.set_position(progress.sessions);
    })
    .await;
    bar.finish_and_clear();
    report.map_err(|error| store_failure(&error))
}

/// Where a session is.
pub(super) async fn session_of(typed: &str, config: &Config) -> Result<(AnyStore, SessionKey)> {
    let mut source = Source::open(config).await?;
    let session = source.find_session(typed).await?;
    source::locate(&session, config).await
}

pub(super) fn trusted(path: &Path) -> Result<TrustedKeys> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::error(format!("cannot read {shown}: {error}")))?;
    TrustedKeys::parse(&text).map_err(|error| Failure::error(format!("{shown}: {error}")))
}

/// `HOST:LOG:NUMBER:SHA256`, as [`head_text`] writes it.
fn head(text: &str) -> Result<KnownHead> {
    let parsed = || {
        let mut parts = text.rsplitn(4, ':');
        let sha256 = parts.next()?.parse().ok()?;
        let number = parts.next()?.parse().ok()?;
        let log = parts.next()?.parse().ok()?;
        Some(KnownHead {
            host_id: parts.next()?.to_owned(),
            log,
            head: DigestHead { number, sha256 },
        })
    };
    parsed().ok_or_else(|| {
        Failure::usage(format!("`{text}` is no digest that was seen"))
            .hint("give HOST:LOG:NUMBER:SHA256 as an earlier `auditty verify` printed it")
    })
}

fn print(report: &Report, config: &Config) -> Result<()> {
    if config.json {
        let json = serde_json::to_string_pretty(report).map_err(Failure::error)?;
        return out::print(&(out::visible_json(&json) + "\n"));
    }
    let mut text = String::new();
    if !report.findings.is_empty() {
        let rows = report.findings.iter().map(|finding| {
            let kind = serde_json::to_value(finding.kind).ok();
            let kind = kind.and_then(|kind| Some(kind.as_str()?.replace('_', " ")));
            vec![
                Text::toned(kind.unwrap_or_default(), Tone::Bad),
                finding.object.as_str().into(),
                finding.detail.as_str().into(),
            ]
        });
        text += &table::render(&COLUMNS, rows.collect(), config.colour);
        text.push('\n');
    }
    text += &summary(report);
    out::print(&text)?;
    for problem in &report.unchecked {
        out::warn(&format!("not checked: {problem}"));
    }
    for notice in &report.notices {
        out::warn(notice);
    }
    Ok(())
}

fn summary(report: &Report) -> String {
    let mut text = format!(
        "{} finished and {} open recordings, {} objects, {} MiB read\n",
        report.sealed_sessions,
        report.open_sessions,
        report.objects,
        report.bytes >> 20
    );
    if report.encrypted_chunks > 0 {
        text += &format!(
            "{} of the chunks are encrypted and were compared as they are stored; of {} the content, too\n",
            report.encrypted_chunks, report.opened_chunks
        );
    }
    for host in &report.hosts {
        let head = match host.head {
            Some(head) => format!(
                "{}:{}:{}:{}",
                host.host_id, host.log, head.number, head.sha256
            ),
            None => "none".to_owned(),
        };
        let line = format!(
            "{}: {} keys, {} digests, the newest: {head}",
            host.host_id, host.keys, host.digests
        );
        text += &(crate::sanitise::line(&line) + "\n");
    }
    if report.receipts + report.registered_keys > 0 {
        text += &format!(
            "compared with {} receipts, {} digests and {} keys that the collector has\n",
            report.receipts, report.known_heads, report.registered_keys
        );
    }
    text += match (report.keys_given, report.registered_keys) {
        _ if !report.is_verified() => "",
        (true, _) => "verified with the given keys\n",
        (false, 0) => {
            "verified, with the keys that the store itself has: --keys gives ones that you trust\n"
        }
        (false, _) => "verified with the keys that hosts have registered with the collector\n",
    };
    text
}

/// What the exit code says.
pub(super) fn outcome(report: &Report) -> Result<()> {
    match (report.finding_count, report.unchecked.len()) {
        (0, 0) => Ok(()),
        (0, count) => Err(Failure::new(
            Kind::Unchecked,
            format!("{count} objects could not be checked; nothing wrong in the others"),
        )),
        (count, _) => Err(Failure::new(
            Kind::Findings,
            format!("not verified: {count} problems"),
        )),
    }
}

/// On the standard error, and only where somebody looks at it.
fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    if let Ok(style) =
        ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} sessions {eta}")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(PROGRESS_TICK);
    bar
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_head_is_read_as_it_is_printed() {
        let sha256 = "a".repeat(64);
        let head = super::head(&format!("web:1:0123456789abcdef:7:{sha256}")).unwrap();
        assert_eq!((head.host_id.as_str(), head.head.number), ("web:1", 7));
        assert!(super::head("web-1:7").is_err());
    }
}
