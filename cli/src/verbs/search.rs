//! `auditty search`: which commands there were, across all sessions.

use auditty_proto::{names, v1};

use super::commands::line;
use crate::args::Search;
use crate::config::Config;
use crate::failure::Result;
use crate::source::Source;
use crate::table::{self, Column, Text, Tone};
use crate::{describe, moment, out, query};

/// The most that a collector counts of what it could not search.
const MAX_WITHHELD: i32 = 1000;

const COLUMNS: [Column; 8] = [
    Column::text("TIME"),
    Column::whole("SESSION"),
    Column::text("USER"),
    Column::text("HOST"),
    Column::number("UID"),
    Column::number("EXIT"),
    Column::text("GRANT"),
    Column::text("COMMAND"),
];

pub(super) async fn run(args: &Search, config: &Config) -> Result<()> {
    let limit = usize::from(args.page.paging.limit);
    let mut request = v1::ListCommandsRequest {
        parent: names::ALL_SESSIONS.to_owned(),
        page_size: args.page.paging.limit.into(),
        page_token: args.page.paging.page_token.clone().unwrap_or_default(),
        filter: query::search(args, &config.zone)?,
    };
    let mut source = Source::open(config).await?;
    let mut answer = source.list_commands(request.clone()).await?;
    // A page may be short, or empty, with more behind it.
    while !answer.next_page_token.is_empty()
        && (args.page.paging.all || answer.commands.len() < limit)
    {
        let missing = match args.page.paging.all {
            true => limit,
            false => limit - answer.commands.len(),
        };
        request.page_size = i32::try_from(missing).unwrap_or(i32::MAX);
        request.page_token = std::mem::take(&mut answer.next_page_token);
        let next = source.list_commands(request.clone()).await?;
        answer.commands.extend(next.commands);
        answer.next_page_token = next.next_page_token;
    }
    if config.json {
        out::json(&answer)?;
    } else {
        out::print(&render(&answer.commands, config))?;
        super::sessions::more(&answer.next_page_token);
    }
    tell_unsearched(answer.withheld_command_count);
    super::report(&mut source)
}

fn render(commands: &[v1::Command], config: &Config) -> String {
    if commands.is_empty() {
        return "no commands\n".to_owned();
    }
    let ids = commands.iter().map(session_id);
    let id_chars = super::sessions::id_chars(ids.collect());
    let rows = commands
        .iter()
        .map(|command| row(command, id_chars, config));
    table::render(&COLUMNS, rows.collect(), config.colour)
}

fn row(command: &v1::Command, id_chars: usize, config: &Config) -> Vec<Text> {
    let start = moment::from_proto(command.start_time.as_ref());
    let of = command.session.clone().unwrap_or_default();
    let known = |text: String| match text.as_str() {
        "" => describe::UNKNOWN.to_owned(),
        _ => text,
    };
    vec![
        start
            .map_or_else(String::new, |at| config.zone.seconds(at))
            .into(),
        super::sessions::short(session_id(command), id_chars).into(),
        known(of.user).into(),
        known(match of.hostname.is_empty() {
            true => of.host_id,
            false => of.hostname,
        })
        .into(),
        super::commands::uids(command),
        super::commands::exit(command),
        grant(of.grant_status, of.request_id),
        line(command).into(),
    ]
}

fn session_id(command: &v1::Command) -> &str {
    let name = command.session.as_ref().map_or("", |of| &of.name);
    name.strip_prefix("sessions/").unwrap_or(name)
}

/// Under which request, or that there is none.
fn grant(status: i32, request_id: String) -> Text {
    let name = describe::name::<v1::GrantStatus>(status).to_uppercase();
    match v1::GrantStatus::try_from(status) {
        Ok(v1::GrantStatus::Granted) => request_id.into(),
        Ok(v1::GrantStatus::Unspecified) => describe::UNKNOWN.into(),
        Ok(v1::GrantStatus::Ambiguous) | Err(_) => Text::toned(name, Tone::Warning),
        Ok(_) => Text::toned(format!("{name} {request_id}").trim_end(), Tone::Bad),
    }
}

/// Says what was not looked at.
fn tell_unsearched(count: i32) {
    if count > 0 {
        let more = if count >= MAX_WITHHELD {
            " or more"
        } else {
            ""
        };
        let commands = match count {
            1 => "1 command".to_owned(),
            count => format!("{count}{more} commands"),
        };
        out::warn(&format!(
            "{commands} could not be searched: their hosts keep command lines and paths out of \
             reports; --store reads the recordings themselves"
        ));
    }
}
