//! `auditty hosts`: which hosts there are, and whether they are heard of.

use auditty_proto::names::ShortName;
use auditty_proto::v1;
use jiff::Timestamp;

use crate::args::Hosts;
use crate::config::Config;
use crate::csv::{self, Cell};
use crate::failure::Result;
use crate::source::Watching;
use crate::table::{self, Column, Text, Tone};
use crate::{moment, out, paging, query};

const COLUMNS: [Column; 8] = [
    Column::text("HOST"),
    Column::whole("HOST ID"),
    Column::text("STATE"),
    Column::whole("LAST HEARD"),
    Column::number("OPEN"),
    Column::whole("AGENT"),
    Column::text("CAPTURE"),
    Column::text("LABELS"),
];

pub(super) async fn run(args: &Hosts, config: &Config) -> Result<()> {
    let mut source = Watching::open("hosts", config).await?;
    let state = match (args.silent, args.live) {
        (true, _) => v1::HostState::Silent,
        (_, true) => v1::HostState::Live,
        _ => v1::HostState::Unspecified,
    };
    let request = v1::ListHostsRequest {
        page_size: args.paging.limit.into(),
        state: state.into(),
        filter: query::hosts(args),
        ..Default::default()
    };
    let answer = paging::list(&args.paging, async |page_token| {
        let request = request.clone();
        source
            .hosts(v1::ListHostsRequest {
                page_token,
                ..request
            })
            .await
    })
    .await?;
    if config.json {
        return out::json(&answer);
    }
    if config.csv {
        out::print(&csv_of(&answer.hosts))?;
    } else if answer.hosts.is_empty() {
        out::print("no hosts\n")?;
    } else {
        let now = Timestamp::now();
        let rows = answer.hosts.iter().map(|host| row(host, now, config));
        out::print(&table::render(&COLUMNS, rows.collect(), config.colour))?;
    }
    super::sessions::more(&answer.next_page_token);
    Ok(())
}

fn row(known: &v1::KnownHost, now: Timestamp, config: &Config) -> Vec<Text> {
    let host = known.host.clone().unwrap_or_default();
    let heard = moment::from_proto(known.last_heard_time.as_ref());
    let state = match (known.state(), heard) {
        (v1::HostState::Silent, Some(heard)) => {
            let ago = moment::short(moment::between(heard, now));
            Text::toned(format!("SILENT for {ago}"), Tone::Bad)
        }
        (v1::HostState::Silent, None) => Text::toned("SILENT", Tone::Bad),
        (state, _) => {
            let told = [vec![state.short_name()], wrong(known)].concat();
            let tone = if told.len() == 1 {
                Tone::Good
            } else {
                Tone::Bad
            };
            Text::toned(told.join(", "), tone)
        }
    };
    vec![
        host.hostname.as_str().into(),
        host.host_id.as_str().into(),
        state,
        heard
            .map_or_else(String::new, |at| config.zone.seconds(at))
            .into(),
        known.open_session_count.to_string().into(),
        known.agent_version.as_str().into(),
        host.capture_mode.as_str().into(),
        labels(&host).into(),
    ]
}

/// What is not as it should be with a host that is heard of.
fn wrong(known: &v1::KnownHost) -> Vec<String> {
    let unrecorded = known.unrecorded.unwrap_or_default();
    let several = [
        (known.stopped_hooks.len() as u64, "HOOK", "HOOKS", "STOPPED"),
        (
            unrecorded.connections,
            "CONNECTION",
            "CONNECTIONS",
            "NOT RECORDED",
        ),
        (unrecorded.sessions, "SESSION", "SESSIONS", "NOT RECORDED"),
        (unrecorded.losses, "LOSS", "LOSSES", "OUTSIDE SESSIONS"),
        (unrecorded.refused_reports, "REPORT", "REPORTS", "REFUSED"),
    ];
    let several = several.iter().filter(|(number, ..)| *number > 0);
    let words = several.map(|(number, one, more, what)| {
        let noun = if *number == 1 { one } else { more };
        format!("{number} {noun} {what}")
    });
    words.collect()
}

fn labels(host: &v1::Host) -> String {
    let labels = host.labels.iter();
    let labels: Vec<_> = labels
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    labels.join(", ")
}

fn stopped_hooks(known: &v1::KnownHost) -> String {
    let stops = known.stopped_hooks.iter();
    let stops: Vec<_> = stops
        .map(|stop| format!("{}: {}", stop.hook, stop.reason))
        .collect();
    stops.join(", ")
}

fn csv_of(hosts: &[v1::KnownHost]) -> String {
    let mut text = csv::header([
        "host_id",
        "hostname",
        "state",
        "last_heard_time",
        "first_heard_time",
        "open_session_count",
        "agent_version",
        "capture_mode",
        "labels",
        "stopped_hooks",
        "unrecorded_connections",
        "unrecorded_sessions",
        "unrecorded_losses",
        "unrecorded_bytes",
        "refused_reports",
        "tenant",
    ]);
    for known in hosts {
        let host = known.host.clone().unwrap_or_default();
        let unrecorded = known.unrecorded.unwrap_or_default();
        let time = |time: &Option<prost_types::Timestamp>| {
            let time = moment::from_proto(time.as_ref());
            Cell::Plain(time.map_or_else(String::new, |time| time.to_string()))
        };
        text += &csv::row([
            Cell::from(host.host_id.as_str()),
            Cell::from(host.hostname.as_str()),
            Cell::Plain(known.state().short_name()),
            time(&known.last_heard_time),
            time(&known.first_heard_time),
            Cell::from(known.open_session_count),
            Cell::from(known.agent_version.as_str()),
            Cell::from(host.capture_mode.as_str()),
            Cell::Text(labels(&host)),
            Cell::Text(stopped_hooks(known)),
            Cell::from(unrecorded.connections),
            Cell::from(unrecorded.sessions),
            Cell::from(unrecorded.losses),
            Cell::from(unrecorded.bytes),
            Cell::from(unrecorded.refused_reports),
            Cell::from(known.tenant.as_str()),
        ]);
    }
    text
}
