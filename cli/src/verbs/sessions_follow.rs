//! `auditty sessions --follow`: sessions as they begin, change and end.

use std::collections::HashMap;
use std::time::Duration;

use auditty_proto::v1;
use jiff::Timestamp;

use super::sessions::{COLUMNS, SHORT_ID_CHARS, csv_header, csv_row, row};
use crate::args::Sessions;
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::source::Watching;
use crate::table::Text;
use crate::{out, query, sanitise};

/// Pause before a stream that ended is followed again.
const WATCH_AGAIN: Duration = Duration::from_millis(500);
/// What changes all the time, and is not worth a line of its own.
const RESTLESS: [&str; 2] = ["LASTED", "CMDS"];

/// The latest, and then every change, one line each, until it is interrupted.
pub(super) async fn run(
    args: &Sessions,
    first_page: v1::ListSessionsRequest,
    config: &Config,
) -> Result<()> {
    let mut source = Watching::open("changes of sessions", config).await?;
    let mut request = v1::WatchSessionsRequest {
        filter: query::sessions(args, &config.zone)?,
        only_changes: true,
        ..Default::default()
    };
    // First the place to go on from, then what is there: none falls between.
    let mut pieces = source.watch_sessions(request.clone()).await?;
    let first = pieces.next().await?.unwrap_or_default();
    request.resume_token = first.resume_token;
    if config.csv {
        out::print(&csv_header())?;
    }
    let mut lines = Lines::default();
    let known = source.sessions(first_page).await?;
    for session in first.sessions.iter().chain(known.iter().rev()) {
        lines.tell(session, config)?;
    }
    loop {
        while let Some(piece) = pieces.next().await? {
            if !piece.resume_token.is_empty() {
                request.resume_token.clone_from(&piece.resume_token);
            }
            for session in &piece.sessions {
                lines.tell(session, config)?;
            }
        }
        // The collector ends a stream from time to time, to see who asks.
        tokio::time::sleep(WATCH_AGAIN).await;
        pieces = source.watch_sessions(request.clone()).await?;
    }
}

/// What was told of sessions that go on.
#[derive(Default)]
struct Lines(HashMap<String, Vec<Text>>);

impl Lines {
    fn tell(&mut self, session: &v1::Session, config: &Config) -> Result<()> {
        if config.json {
            let json = auditty_proto::json::to_string(session).map_err(Failure::error)?;
            return out::print(&(out::visible_json(&json) + "\n"));
        }
        if config.csv {
            return out::print(&csv_row(session));
        }
        let cells = row(session, SHORT_ID_CHARS, Timestamp::now(), config);
        let line: Vec<_> = cells.iter().map(Text::as_str).collect();
        let line = sanitise::line(&line.join("  "));
        let lasting = COLUMNS.iter().zip(cells);
        let lasting = lasting.filter(|(column, _)| !RESTLESS.contains(&column.title));
        let lasting: Vec<_> = lasting.map(|(_, cell)| cell).collect();
        let before = match session.state() {
            v1::SessionState::Closed => self.0.remove(&session.session_id),
            _ => self.0.insert(session.session_id.clone(), lasting.clone()),
        };
        match before.is_some_and(|before| before == lasting) {
            true => Ok(()),
            false => out::print(&(line + "\n")),
        }
    }
}
