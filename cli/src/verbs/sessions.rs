//! `auditty sessions`: which sessions there were.

use std::collections::HashSet;

use auditty_proto::filter::SESSION_FIELDS;
use auditty_proto::{convert, v1};
use jiff::Timestamp;

use super::sessions_follow;
use crate::args::Sessions;
use crate::config::Config;
use crate::csv::{self, Cell};
use crate::failure::Result;
use crate::source::Source;
use crate::table::{self, Column, Text};
use crate::{describe, moment, out, paging, query};

/// Shortest shown id: the milliseconds of a UUID version 7.
pub(super) const SHORT_ID_CHARS: usize = 13;

pub(super) const COLUMNS: [Column; 11] = [
    Column::whole("ID"),
    Column::text("START"),
    Column::number("LASTED"),
    Column::text("USER"),
    Column::text("HOST"),
    Column::text("CLIENT"),
    Column::text("KIND"),
    Column::text("STATE"),
    Column::number("CMDS"),
    Column::text("GRANT"),
    Column::whole("VERDICT"),
];

pub(super) async fn run(args: &Sessions, config: &Config) -> Result<()> {
    let mut request = v1::ListSessionsRequest {
        page_size: args.page.paging.limit.into(),
        filter: query::sessions(args, &config.zone)?,
        ..Default::default()
    };
    if let Some((from, until)) = query::minute(args, &config.zone)? {
        request.going_on_from_time = Some(convert::timestamp(from));
        request.going_on_until_time = Some(convert::timestamp(until));
    }
    if args.follow {
        return sessions_follow::run(args, request, config).await;
    }
    let mut source = Source::open(config).await?;
    let answer = paging::list(&args.page.paging, async |page_token| {
        let request = request.clone();
        source
            .list_sessions(v1::ListSessionsRequest {
                page_token,
                ..request
            })
            .await
    })
    .await?;
    if config.json {
        out::json(&answer)?;
    } else if config.csv {
        let rows = answer.sessions.iter().map(csv_row);
        out::print(&(csv_header() + &rows.collect::<String>()))?;
        more(&answer.next_page_token);
    } else {
        out::print(&render(&answer.sessions, config))?;
        more(&answer.next_page_token);
    }
    super::report(&mut source)
}

/// Tells where the next page is.
pub(super) fn more(next_page_token: &str) {
    if !next_page_token.is_empty() {
        out::warn(&format!(
            "there are more: --page-token {next_page_token}, or --all"
        ));
    }
}

fn render(sessions: &[v1::Session], config: &Config) -> String {
    if sessions.is_empty() {
        return "no sessions\n".to_owned();
    }
    let ids = sessions.iter().map(|session| session.session_id.as_str());
    let id_chars = id_chars(ids.collect());
    let now = Timestamp::now();
    let rows = sessions
        .iter()
        .map(|session| row(session, id_chars, now, config))
        .collect();
    table::render(&COLUMNS, rows, config.colour)
}

/// As many characters as tell these sessions apart.
pub(super) fn id_chars(ids: HashSet<&str>) -> usize {
    let distinct = |chars: usize| {
        let mut seen = HashSet::new();
        ids.iter().all(|id| seen.insert(short(id, chars)))
    };
    (SHORT_ID_CHARS..36)
        .find(|chars| distinct(*chars))
        .unwrap_or(36)
}

pub(super) fn short(id: &str, chars: usize) -> &str {
    id.get(..chars).unwrap_or(id)
}

pub(super) fn row(
    session: &v1::Session,
    id_chars: usize,
    now: Timestamp,
    config: &Config,
) -> Vec<Text> {
    let start = moment::from_proto(session.start_time.as_ref());
    let host = session.host.clone().unwrap_or_default();
    let connection = session.connection.as_ref();
    let counts = session.counts.unwrap_or_default();
    let known = |text: String| match text.as_str() {
        "" => describe::UNKNOWN.to_owned(),
        _ => text,
    };
    vec![
        short(&session.session_id, id_chars).into(),
        start
            .map_or_else(String::new, |at| config.zone.seconds(at))
            .into(),
        describe::duration(session, now).into(),
        known(session.login.clone().unwrap_or_default().user).into(),
        known(if host.hostname.is_empty() {
            host.host_id
        } else {
            host.hostname
        })
        .into(),
        known(connection.map_or_else(String::new, |from| from.client_address.clone())).into(),
        describe::name::<v1::SessionKind>(session.kind).into(),
        describe::state(session).into(),
        counts.command_count.to_string().into(),
        describe::grant(session),
        describe::verdict(session),
    ]
}

/// What stands in CSV behind the fields that filters can name.
const MORE: [&str; 8] = [
    "connection_id",
    "client_port",
    "outlived_time",
    "command_count",
    "gap_count",
    "lost_event_count",
    "lost_byte_count",
    "recording",
];

pub(super) fn csv_header() -> String {
    csv::header(SESSION_FIELDS.iter().map(|field| field.name).chain(MORE))
}

pub(super) fn csv_row(session: &v1::Session) -> String {
    let connection = session.connection.clone().unwrap_or_default();
    let counts = session.counts.unwrap_or_default();
    let outlived = session.grant.as_ref();
    let outlived = outlived.and_then(|grant| moment::from_proto(grant.outlived_time.as_ref()));
    let recording = session.recording.as_ref();
    let more = [
        Cell::from(connection.connection_id.as_str()),
        Cell::from(u64::from(connection.client_port)),
        Cell::Plain(outlived.map_or_else(String::new, |at| at.to_string())),
        Cell::from(counts.command_count),
        Cell::from(counts.gap_count),
        Cell::from(counts.lost_event_count),
        Cell::from(counts.lost_byte_count),
        Cell::from(recording.map_or("", |recording| &recording.uri)),
    ];
    let cells = csv::fields(SESSION_FIELDS, session);
    csv::row(cells.into_iter().chain(more))
}

#[cfg(test)]
mod tests {
    #[test]
    fn short_ids_tell_sessions_apart() {
        let ids = [
            "0199e0a4-7b1c-7000-8000-000000000001",
            "0199e0a4-7b1d-7000-8000-000000000001",
            "0199e0a4-7b1c-7001-8000-000000000001",
        ];
        let chars = |count| super::id_chars(ids.into_iter().take(count).collect());
        assert_eq!(chars(2), 13);
        assert_eq!(chars(3), 18);
    }
}
