//! `auditty commands`: which programs a session started.

use auditty_proto::v1;

use crate::args::Commands;
use crate::config::Config;
use crate::failure::Result;
use crate::source::Source;
use crate::table::{self, Column, Text, Tone};
use crate::{describe, moment, out, paging, query};

/// Longest shown command line, characters; JSON has all of it.
const MAX_LINE_CHARS: usize = 1000;

const COLUMNS: [Column; 7] = [
    Column::number("SEQ"),
    Column::whole("TIME"),
    Column::number("PID"),
    Column::number("UID"),
    Column::number("EXIT"),
    Column::number("LASTED"),
    Column::text("COMMAND"),
];

pub(super) async fn run(args: &Commands, config: &Config) -> Result<()> {
    let mut source = Source::open(config).await?;
    let session = source.find_session(&args.session).await?;
    let request = v1::ListCommandsRequest {
        parent: session.name,
        page_size: args.page.paging.limit.into(),
        filter: query::commands(args),
        ..Default::default()
    };
    let answer = paging::list(&args.page.paging, async |page_token| {
        let request = request.clone();
        source
            .list_commands(v1::ListCommandsRequest {
                page_token,
                ..request
            })
            .await
    })
    .await?;
    if config.json {
        out::json(&answer)?;
    } else if answer.commands.is_empty() {
        out::print("no commands\n")?;
    } else {
        let rows = answer
            .commands
            .iter()
            .map(|command| row(command, config))
            .collect();
        out::print(&table::render(&COLUMNS, rows, config.colour))?;
        super::sessions::more(&answer.next_page_token);
        super::tell_withheld(
            answer
                .commands
                .iter()
                .any(|command| command.content_withheld),
        );
    }
    super::report(&mut source)
}

fn row(command: &v1::Command, config: &Config) -> Vec<Text> {
    let start = moment::from_proto(command.start_time.as_ref());
    let lasted = command
        .duration
        .and_then(|lasted| std::time::Duration::try_from(lasted).ok());
    vec![
        command.seq.to_string().into(),
        start
            .map_or_else(String::new, |at| config.zone.time_of_day(at))
            .into(),
        command.pid.to_string().into(),
        uids(command),
        exit(command),
        lasted.map_or_else(String::new, moment::short).into(),
        line(command).into(),
    ]
}

/// Its user id, and the effective one where that is another.
pub(super) fn uids(command: &v1::Command) -> Text {
    match command.uid == command.euid {
        true => Text::from(command.uid.to_string()),
        false => Text::toned(format!("{}>{}", command.uid, command.euid), Tone::Warning),
    }
}

/// How it ended.
pub(super) fn exit(command: &v1::Command) -> Text {
    let failed = command.signal.is_some() || command.exit_code.is_some_and(|code| code != 0);
    let tone = if failed { Tone::Warning } else { Tone::Plain };
    Text::toned(describe::exit(command.exit_code, command.signal), tone)
}

/// Its command line, not longer than a table bears.
pub(super) fn line(command: &v1::Command) -> String {
    let mut line = shortened(describe::command_line(command));
    if describe::is_script(command) {
        line.push_str(" (script)");
    }
    line
}

fn shortened(mut line: String) -> String {
    if let Some((at, _)) = line.char_indices().nth(MAX_LINE_CHARS) {
        let bytes = line.len();
        line.truncate(at);
        line.push_str(&format!(
            " … ({bytes} bytes, all of them with --output json)"
        ));
    }
    line
}
