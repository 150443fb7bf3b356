//! `auditty coverage`: what was recorded in a time range, and what was not.

use std::time::Duration;

use auditty_proto::{convert, v1};
use jiff::Timestamp;

use crate::args::Coverage;
use crate::config::Config;
use crate::csv::{self, Cell};
use crate::failure::{Failure, Result};
use crate::source::Watching;
use crate::table::{self, Column, Text, Tone};
use crate::{describe, moment, out};

const HOSTS: [Column; 13] = [
    Column::text("HOST"),
    Column::number("LOGINS"),
    Column::number("FAILED"),
    Column::number("UNRECORDED"),
    Column::number("SESSIONS"),
    Column::number("UNGRANTED"),
    Column::number("AMBIGUOUS"),
    Column::number("LOSSY"),
    Column::number("INTERRUPTED"),
    Column::number("LOST BYTES"),
    Column::number("GAPS"),
    Column::number("SILENT"),
    Column::text("NOW"),
];

const GRANTS: [Column; 3] = [
    Column::whole("REQUEST"),
    Column::text("REQUESTER"),
    Column::text("HOSTS"),
];

pub(super) async fn run(args: &Coverage, config: &Config) -> Result<()> {
    let now = Timestamp::now();
    let time = |text: &str| config.zone.parse(text, now).map_err(Failure::usage);
    let until = args.until.as_deref().map(time).transpose()?;
    let request = v1::GetCoverageRequest {
        start_time: Some(convert::timestamp(time(&args.since)?)),
        end_time: until.map(convert::timestamp),
    };
    let mut source = Watching::open("coverage", config).await?;
    let answer = source.coverage(request).await?;
    match (config.json, config.csv, args.unused_grants) {
        (true, ..) => out::json(&answer),
        (_, true, false) => out::print(&csv_of_hosts(&answer.hosts)),
        (_, true, true) => out::print(&csv_of_grants(&answer.unused_grants)),
        (_, _, true) => out::print(&grants(&answer, config)),
        _ => out::print(&hosts(&answer, config)),
    }
}

fn hosts(answer: &v1::GetCoverageResponse, config: &Config) -> String {
    let at = |time: &Option<prost_types::Timestamp>| {
        let time = moment::from_proto(time.as_ref());
        time.map_or_else(String::new, |time| config.zone.seconds(time))
    };
    let (from, until) = (at(&answer.start_time), at(&answer.end_time));
    let mut text = format!("from {from} until {until}\n\n");
    if answer.hosts.is_empty() {
        return text + "no hosts\n";
    }
    let rows = answer.hosts.iter().map(row).collect();
    text += &table::render(&HOSTS, rows, config.colour);
    if !answer.unused_grants.is_empty() {
        let grants = describe::count(
            answer.unused_grants.len() as u64,
            "grant was",
            "grants were",
        );
        text += &format!("\n{grants} used by no session: --unused-grants lists them\n");
    }
    text
}

fn row(host: &v1::HostCoverage) -> Vec<Text> {
    let count = |count: u64, tone: Tone| match count {
        0 => Text::from("0"),
        count => Text::toned(count.to_string(), tone),
    };
    let lasted = |time: Duration, tone: Tone| match time.is_zero() {
        true => Text::from("0"),
        false => Text::toned(moment::short(time), tone),
    };
    vec![
        match host.hostname.as_str() {
            "" => host.host_id.as_str(),
            name => name,
        }
        .into(),
        host.login_count.to_string().into(),
        host.failed_login_count.to_string().into(),
        count(host.unrecorded_login_count, Tone::Bad),
        host.session_count.to_string().into(),
        count(host.ungranted_session_count, Tone::Bad),
        count(host.ambiguous_session_count, Tone::Warning),
        count(host.lossy_session_count, Tone::Warning),
        count(host.interrupted_session_count, Tone::Bad),
        count(host.lost_byte_count, Tone::Warning),
        lasted(length(&host.gap_duration), Tone::Warning),
        lasted(length(&host.silent_duration), Tone::Bad),
        match host.silent {
            true => Text::toned("SILENT", Tone::Bad),
            false if host.last_heard_time.is_none() => Text::toned("never heard", Tone::Warning),
            false => Text::toned("live", Tone::Good),
        },
    ]
}

fn length(time: &Option<prost_types::Duration>) -> Duration {
    let time = time
        .as_ref()
        .and_then(|time| Duration::try_from(*time).ok());
    time.unwrap_or_default()
}

/// For spreadsheets.
fn minutes(time: &Option<prost_types::Duration>) -> String {
    format!("{:.3}", length(time).as_secs_f64() / 60.0)
}

fn grants(answer: &v1::GetCoverageResponse, config: &Config) -> String {
    if answer.unused_grants.is_empty() {
        return "every grant was used\n".to_owned();
    }
    let row = |grant: &v1::UnusedGrant| {
        vec![
            Text::from(grant.request_id.as_str()),
            grant.requester.as_str().into(),
            match (grant.no_live_host, grant.unwatched_hosts.join(", ")) {
                (true, hosts) if hosts.is_empty() => {
                    Text::toned("none of its hosts is heard of", Tone::Bad)
                }
                (_, hosts) if hosts.is_empty() => Text::default(),
                (_, hosts) => Text::toned(format!("not heard of: {hosts}"), Tone::Bad),
            },
        ]
    };
    let rows = answer.unused_grants.iter().map(row).collect();
    table::render(&GRANTS, rows, config.colour)
}

fn csv_of_hosts(hosts: &[v1::HostCoverage]) -> String {
    let mut text = csv::header([
        "host_id",
        "hostname",
        "tenant",
        "login_count",
        "failed_login_count",
        "unrecorded_login_count",
        "session_count",
        "ungranted_session_count",
        "ambiguous_session_count",
        "lossy_session_count",
        "interrupted_session_count",
        "gap_count",
        "lost_event_count",
        "lost_byte_count",
        "silence_count",
        "gap_minutes",
        "silent_minutes",
        "silent_now",
        "last_heard_time",
    ]);
    for host in hosts {
        let names = [&host.host_id, &host.hostname, &host.tenant];
        let names = names.map(|name| Cell::from(name.as_str()));
        let counts = [
            host.login_count,
            host.failed_login_count,
            host.unrecorded_login_count,
            host.session_count,
            host.ungranted_session_count,
            host.ambiguous_session_count,
            host.lossy_session_count,
            host.interrupted_session_count,
            host.gap_count,
            host.lost_event_count,
            host.lost_byte_count,
            host.silence_count,
        ];
        let heard = moment::from_proto(host.last_heard_time.as_ref());
        let rest = [
            minutes(&host.gap_duration),
            minutes(&host.silent_duration),
            host.silent.to_string(),
            heard.map_or_else(String::new, |heard| heard.to_string()),
        ];
        let cells = names.into_iter().chain(counts.map(Cell::from));
        text += &csv::row(cells.chain(rest.map(Cell::Plain)));
    }
    text
}

fn csv_of_grants(grants: &[v1::UnusedGrant]) -> String {
    let mut text = csv::header([
        "request_id",
        "requester",
        "tenant",
        "no_live_host",
        "unwatched_hosts",
    ]);
    for grant in grants {
        text += &csv::row([
            Cell::from(grant.request_id.as_str()),
            Cell::from(grant.requester.as_str()),
            Cell::from(grant.tenant.as_str()),
            Cell::Plain(grant.no_live_host.to_string()),
            Cell::Text(grant.unwatched_hosts.join(";")),
        ]);
    }
    text
}
