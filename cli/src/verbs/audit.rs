//! `auditty audit`: who looked at what.

use auditty_proto::filter::AUDIT_FIELDS;
use auditty_proto::v1;

use crate::args::Audit;
use crate::config::Config;
use crate::csv::{self, Cell};
use crate::failure::Result;
use crate::source::Source;
use crate::table::{self, Column, Text, Tone};
use crate::{moment, out, paging, query};

const COLUMNS: [Column; 7] = [
    Column::whole("TIME"),
    Column::text("CALLER"),
    Column::whole("FROM"),
    Column::text("METHOD"),
    Column::text("PURPOSE"),
    Column::whole("OUTCOME"),
    Column::text("REQUEST"),
];

/// What stands in CSV behind the fields that filters can name.
const MORE: [&str; 3] = ["proof", "user_agent", "detail"];

pub(super) async fn run(args: &Audit, config: &Config) -> Result<()> {
    let mut source = Source::open(config).await?;
    let request = v1::ListAuditRecordsRequest {
        page_size: args.page.paging.limit.into(),
        filter: query::audit(args, &config.zone)?,
        ..Default::default()
    };
    let answer = paging::list(&args.page.paging, async |page_token| {
        let request = request.clone();
        source
            .list_audit_records(v1::ListAuditRecordsRequest {
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
        let names = AUDIT_FIELDS.iter().map(|field| field.name);
        let rows = answer.records.iter().map(csv_row);
        out::print(&(csv::header(names.chain(MORE)) + &rows.collect::<String>()))?;
    } else if answer.records.is_empty() {
        out::print("no audit records\n")?;
    } else {
        let rows = answer.records.iter();
        let rows = rows.map(|record| row(record, config)).collect();
        out::print(&table::render(&COLUMNS, rows, config.colour))?;
    }
    super::sessions::more(&answer.next_page_token);
    Ok(())
}

fn csv_row(record: &v1::AuditRecord) -> String {
    let more = [&record.proof, &record.user_agent, &record.detail];
    let cells = csv::fields(AUDIT_FIELDS, record).into_iter();
    csv::row(cells.chain(more.map(|text| Cell::from(text.as_str()))))
}

fn row(record: &v1::AuditRecord, config: &Config) -> Vec<Text> {
    let at = moment::from_proto(record.time.as_ref());
    let tone = match record.outcome.as_str() {
        "PERMISSION_DENIED" | "UNAUTHENTICATED" | "RESOURCE_EXHAUSTED" => Tone::Warning,
        _ => Tone::Plain,
    };
    let method = record.method.rsplit('/').next().unwrap_or_default();
    let what = match record.detail.is_empty() {
        true => &record.request,
        false => &record.detail,
    };
    vec![
        at.map_or_else(String::new, |at| config.zone.seconds(at))
            .into(),
        record.caller.as_str().into(),
        record.address.as_str().into(),
        method.into(),
        record.purpose.as_str().into(),
        Text::toned(record.outcome.clone(), tone),
        what.as_str().into(),
    ]
}
