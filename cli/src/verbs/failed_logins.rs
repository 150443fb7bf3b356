//! `auditty failed-logins`: who tried to log in, and was not let in.

use auditty_proto::filter::FAILED_LOGIN_FIELDS;
use auditty_proto::v1::{self, LoginOutcome};

use crate::args::FailedLogins;
use crate::config::Config;
use crate::csv::{self, Cell};
use crate::failure::Result;
use crate::source::Watching;
use crate::table::{self, Column, Text, Tone};
use crate::{describe, moment, out, paging, query};

const COLUMNS: [Column; 7] = [
    Column::whole("TIME"),
    Column::text("HOST"),
    Column::text("USER"),
    Column::text("CLIENT"),
    Column::text("OUTCOME"),
    Column::number("TIMES"),
    Column::text("REFUSED"),
];

/// What stands in CSV behind the fields that filters can name.
const MORE: [&str; 2] = ["refused", "key_fingerprints"];

pub(super) async fn run(args: &FailedLogins, config: &Config) -> Result<()> {
    let request = v1::ListFailedLoginsRequest {
        page_size: args.page.paging.limit.into(),
        filter: query::failed_logins(args, &config.zone)?,
        ..Default::default()
    };
    let mut source = Watching::open("failed-logins", config).await?;
    let answer = paging::list(&args.page.paging, async |page_token| {
        let request = request.clone();
        let request = v1::ListFailedLoginsRequest {
            page_token,
            ..request
        };
        source.failed_logins(request).await
    })
    .await?;
    if config.json {
        return out::json(&answer);
    }
    if config.csv {
        let names = FAILED_LOGIN_FIELDS.iter().map(|field| field.name);
        let rows = answer.failed_logins.iter().map(csv_row);
        out::print(&(csv::header(names.chain(MORE)) + &rows.collect::<String>()))?;
    } else if answer.failed_logins.is_empty() {
        out::print("no failed logins\n")?;
    } else {
        let rows = answer.failed_logins.iter().map(|login| row(login, config));
        out::print(&table::render(&COLUMNS, rows.collect(), config.colour))?;
    }
    super::sessions::more(&answer.next_page_token);
    Ok(())
}

fn row(login: &v1::FailedLogin, config: &Config) -> Vec<Text> {
    let at = moment::from_proto(login.start_time.as_ref());
    let known = |text: &str| match text {
        "" => describe::UNKNOWN.to_owned(),
        text => text.to_owned(),
    };
    let host = match login.hostname.as_str() {
        "" => &login.host_id,
        _ => &login.hostname,
    };
    let client = match login.client_port {
        0 => known(&login.client_address),
        port if login.client_address.contains(':') => format!("[{}]:{port}", login.client_address),
        port => format!("{}:{port}", login.client_address),
    };
    let tone = match login.outcome() {
        LoginOutcome::LoggedIn => Tone::Plain,
        LoginOutcome::NotTried | LoginOutcome::Unspecified => Tone::Warning,
        LoginOutcome::Failed | LoginOutcome::NotRecorded => Tone::Bad,
    };
    vec![
        at.map_or_else(String::new, |at| config.zone.seconds(at))
            .into(),
        host.as_str().into(),
        known(&login.user).into(),
        client.into(),
        Text::toned(describe::name::<LoginOutcome>(login.outcome), tone),
        login.connection_count.to_string().into(),
        refused(login, ", ").into(),
    ]
}

/// `password 3, public key 1`.
fn refused(login: &v1::FailedLogin, between: &str) -> String {
    let methods = login.methods.iter().map(|failed| {
        let method = describe::name::<v1::AuthMethod>(failed.method);
        format!("{method} {}", failed.failure_count)
    });
    methods.collect::<Vec<_>>().join(between)
}

fn csv_row(login: &v1::FailedLogin) -> String {
    let more = [
        Cell::Plain(refused(login, ";")),
        Cell::Text(login.key_fingerprints.join(";")),
    ];
    let cells = csv::fields(FAILED_LOGIN_FIELDS, login);
    csv::row(cells.into_iter().chain(more))
}
