//! `auditty alerts`: what somebody should look at.

use std::time::Duration;

use auditty_proto::filter::ALERT_FIELDS;
use auditty_proto::v1::{self, AlertKind};

use crate::args::Alerts;
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::source::Watching;
use crate::table::{self, Column, Text, Tone};
use crate::{csv, describe, moment, out, paging, query, sanitise};

/// Pause before a stream that ended is followed again.
const WATCH_AGAIN: Duration = Duration::from_millis(500);
/// Beginning of a session's id that other verbs take.
const SHORT_ID_CHARS: usize = 13;

const COLUMNS: [Column; 6] = [
    Column::whole("TIME"),
    Column::whole("KIND"),
    Column::text("HOST"),
    Column::text("USER"),
    Column::whole("SESSION"),
    Column::text("WHAT"),
];

pub(super) async fn run(args: &Alerts, config: &Config) -> Result<()> {
    let mut source = Watching::open("alerts", config).await?;
    let filter = query::alerts(args, &config.zone)?;
    if args.follow {
        return follow(args, filter, &mut source, config).await;
    }
    let answer = paging::list(&args.page.paging, async |page_token| {
        let first = first_page(args, &filter);
        source
            .alerts(v1::ListAlertsRequest {
                page_token,
                ..first
            })
            .await
    })
    .await?;
    if config.json {
        return out::json(&answer);
    }
    if config.csv {
        let rows = answer.alerts.iter();
        let rows = rows.map(|alert| csv::row(csv::fields(ALERT_FIELDS, alert)));
        out::print(&(header() + &rows.collect::<String>()))?;
    } else if answer.alerts.is_empty() {
        out::print("no alerts\n")?;
    } else {
        let rows = answer.alerts.iter().map(|alert| row(alert, config));
        out::print(&table::render(&COLUMNS, rows.collect(), config.colour))?;
    }
    super::sessions::more(&answer.next_page_token);
    Ok(())
}

fn first_page(args: &Alerts, filter: &str) -> v1::ListAlertsRequest {
    v1::ListAlertsRequest {
        page_size: args.page.paging.limit.into(),
        filter: filter.to_owned(),
        ..Default::default()
    }
}

/// The latest, and then every new one, one line each, until it is interrupted.
async fn follow(
    args: &Alerts,
    filter: String,
    source: &mut Watching,
    config: &Config,
) -> Result<()> {
    let mut request = v1::WatchAlertsRequest {
        filter: filter.clone(),
        ..Default::default()
    };
    // First the place to go on from, then what is there: none falls between.
    let mut pieces = source.watch_alerts(request.clone()).await?;
    let first = pieces.next().await?.unwrap_or_default();
    request.resume_token = first.resume_token;
    let known = source.alerts(first_page(args, &filter)).await?.alerts;
    let mut told = known.first().map_or(0, |latest| latest.revision);
    if config.csv {
        out::print(&header())?;
    }
    for alert in known.iter().rev() {
        out::print(&line(alert, config)?)?;
    }
    loop {
        while let Some(piece) = pieces.next().await? {
            request.resume_token.clone_from(&piece.resume_token);
            for alert in piece.alerts.iter().filter(|alert| alert.revision > told) {
                out::print(&line(alert, config)?)?;
            }
            told = 0;
        }
        // The collector ends a stream from time to time, to see who asks.
        tokio::time::sleep(WATCH_AGAIN).await;
        pieces = source.watch_alerts(request.clone()).await?;
    }
}

fn line(alert: &v1::Alert, config: &Config) -> Result<String> {
    if config.json {
        let json = auditty_proto::json::to_string(alert).map_err(Failure::error)?;
        return Ok(out::visible_json(&json) + "\n");
    }
    if config.csv {
        return Ok(csv::row(csv::fields(ALERT_FIELDS, alert)));
    }
    let cells = row(alert, config);
    let cells: Vec<_> = cells.iter().map(Text::as_str).collect();
    let cells: Vec<_> = cells.into_iter().filter(|cell| !cell.is_empty()).collect();
    Ok(sanitise::line(&cells.join("  ")) + "\n")
}

fn header() -> String {
    csv::header(ALERT_FIELDS.iter().map(|field| field.name))
}

fn row(alert: &v1::Alert, config: &Config) -> Vec<Text> {
    let at = moment::from_proto(alert.time.as_ref());
    let tone = match alert.kind() {
        AlertKind::HostHeard | AlertKind::HookMended => Tone::Good,
        AlertKind::SessionLossy | AlertKind::HostChanged => Tone::Warning,
        _ => Tone::Bad,
    };
    let host = match alert.hostname.is_empty() {
        true => &alert.host_id,
        false => &alert.hostname,
    };
    let session = alert.session_id.get(..SHORT_ID_CHARS).unwrap_or_default();
    vec![
        at.map_or_else(String::new, |at| config.zone.seconds(at))
            .into(),
        Text::toned(describe::name::<AlertKind>(alert.kind), tone),
        host.as_str().into(),
        alert.user.as_str().into(),
        session.into(),
        alert.summary.as_str().into(),
    ]
}
