//! `auditty grants`: who is allowed what, as the collector keeps it.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use auditty_grants::{CertificateSelector, GrantRule, file};
use auditty_proto::names;
use auditty_proto::v1;
use jiff::{SignedDuration, Timestamp};

use crate::args::{CreateGrant, GrantVerb, Grants, ImportGrants, ListGrants};
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::source::Grants as Source;
use crate::table::{self, Column, Section, Text, Tone};
use crate::{moment, out, paging, sanitise};

/// Largest file that is imported.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Pause before a stream that ended is followed again.
const WATCH_AGAIN: Duration = Duration::from_millis(500);

const COLUMNS: [Column; 7] = [
    Column::whole("REQUEST"),
    Column::text("STATE"),
    Column::text("APPROVED BY"),
    Column::text("FLOW"),
    Column::text("FOR"),
    Column::text("ON"),
    Column::text("UNTIL"),
];

pub(super) async fn run(args: &Grants, config: &Config) -> Result<()> {
    let mut source = Source::open(config).await?;
    match &args.verb {
        GrantVerb::List(args) => list(args, &mut source, config).await,
        GrantVerb::Show(args) => {
            let request = v1::GetGrantRequest {
                name: names::grant_name(&args.request_id),
                tenant: args.tenant.clone(),
            };
            let answer = source.get(request).await?;
            show(&answer, answer.grant.as_ref(), config)
        }
        GrantVerb::Create(args) => {
            let request = create(&grant(args, config)?, &args.tenant);
            let answer = source.create(request).await?;
            show(&answer, answer.grant.as_ref(), config)
        }
        GrantVerb::Import(args) => import(args, &mut source, config).await,
        GrantVerb::Revoke(args) => {
            let answer = source
                .revoke(v1::RevokeGrantRequest {
                    name: names::grant_name(&args.request_id),
                    reason: args.reason.clone(),
                    tenant: args.tenant.clone(),
                })
                .await?;
            show(&answer, answer.grant.as_ref(), config)
        }
        GrantVerb::Watch(args) => watch(args.new, &mut source, config).await,
    }
}

async fn list(args: &ListGrants, source: &mut Source, config: &Config) -> Result<()> {
    let request = v1::ListGrantsRequest {
        page_size: args.paging.limit.into(),
        in_force: args.in_force,
        ..Default::default()
    };
    let answer = paging::list(&args.paging, async |page_token| {
        let request = request.clone();
        source
            .list(v1::ListGrantsRequest {
                page_token,
                ..request
            })
            .await
    })
    .await?;
    if config.json {
        return out::json(&answer);
    }
    if answer.grants.is_empty() {
        return out::print("no grants\n");
    }
    let rows = answer.grants.iter().map(|grant| row(grant, config));
    out::print(&table::render(&COLUMNS, rows.collect(), config.colour))?;
    super::sessions::more(&answer.next_page_token);
    Ok(())
}

fn create(rule: &GrantRule, tenant: &str) -> v1::CreateGrantRequest {
    v1::CreateGrantRequest {
        grant: Some(v1::AccessGrant {
            tenant: tenant.to_owned(),
            ..rule.to_message()
        }),
    }
}

async fn import(args: &ImportGrants, source: &mut Source, config: &Config) -> Result<()> {
    let mut rules = Vec::new();
    for path in &args.files {
        rules.extend(read(path)?);
    }
    for (done, rule) in rules.iter().enumerate() {
        match source.create(create(rule, &args.tenant)).await {
            Ok(answer) if config.json => out::json(&answer)?,
            Ok(_) => {}
            Err(failure) => {
                out::warn(&format!(
                    "{done} of {} grants are imported; {:?} is not",
                    rules.len(),
                    rule.grant.request_id
                ));
                return Err(failure.hint("importing the same again does no harm"));
            }
        }
    }
    match config.json {
        true => Ok(()),
        false => out::print(&format!("{} grants imported\n", rules.len())),
    }
}

fn read(path: &Path) -> Result<Vec<GrantRule>> {
    let failed =
        |error: std::io::Error| Failure::error(format!("cannot read {}: {error}", path.display()));
    let mut text = String::new();
    let file = fs::File::open(path).map_err(failed)?;
    let mut bounded = file.take(MAX_FILE_BYTES + 1);
    bounded.read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(failed(std::io::Error::other("larger than 64 MiB")));
    }
    file::parse(path, &text).map_err(Failure::usage)
}

/// Changes, one line each, until it is interrupted.
async fn watch(only_new: bool, source: &mut Source, config: &Config) -> Result<()> {
    let mut request = v1::WatchGrantsRequest::default();
    let mut skipped = only_new;
    loop {
        // The collector ends a stream from time to time, to see who asks.
        let mut pieces = source.watch(request.clone()).await?;
        while let Some(piece) = pieces.next().await? {
            request.resume_token.clone_from(&piece.resume_token);
            if skipped {
                skipped = !piece.caught_up;
                continue;
            }
            for grant in &piece.grants {
                out::print(&line(grant, config)?)?;
            }
        }
        tokio::time::sleep(WATCH_AGAIN).await;
    }
}

fn line(grant: &v1::AccessGrant, config: &Config) -> Result<String> {
    if config.json {
        let json = auditty_proto::json::to_string(grant).map_err(Failure::error)?;
        return Ok(out::visible_json(&json) + "\n");
    }
    let cells = row(grant, config);
    let cells: Vec<_> = cells.iter().map(Text::as_str).collect();
    Ok(sanitise::line(&cells.join("  ")) + "\n")
}

fn grant(args: &CreateGrant, config: &Config) -> Result<GrantRule> {
    let now = Timestamp::now();
    let at = |text: &Option<String>| {
        let at = text.as_ref().map(|text| config.zone.parse(text, now));
        at.transpose().map_err(Failure::usage)
    };
    let mut rule = GrantRule {
        unix_users: args.users.clone(),
        keys: args.keys.clone(),
        certificates: args
            .certificate_ids
            .iter()
            .map(|id| CertificateSelector {
                key_id: Some(id.clone()),
                ..CertificateSelector::default()
            })
            .collect(),
        hosts: args.hosts.clone(),
        host_labels: args.host_labels.iter().cloned().collect(),
        ..GrantRule::default()
    };
    let grant = &mut rule.grant;
    grant.request_id.clone_from(&args.request_id);
    grant.requester.clone_from(&args.requester);
    grant.approvers.clone_from(&args.approvers);
    grant.access_flow.clone_from(&args.access_flow);
    grant.reason.clone_from(&args.reason);
    grant.ticket.clone_from(&args.ticket);
    grant.valid_from = at(&args.from)?;
    grant.valid_until = at(&args.until)?;
    if let Some(lasting) = args.lasting {
        let lasting = SignedDuration::try_from(lasting);
        let until = lasting
            .ok()
            .and_then(|lasting| now.checked_add(lasting).ok());
        grant.valid_until = Some(until.ok_or_else(|| Failure::usage("--for is too long"))?);
    }
    match rule.fault() {
        Some(fault) => Err(Failure::usage(fault)),
        None => Ok(rule),
    }
}

fn show<M: prost::Message + prost::Name>(
    answer: &M,
    grant: Option<&v1::AccessGrant>,
    config: &Config,
) -> Result<()> {
    match grant {
        Some(grant) if !config.json => out::print(&section(grant, config).render(config.colour)),
        _ => out::json(answer),
    }
}

fn section(grant: &v1::AccessGrant, config: &Config) -> Section {
    let approved = grant.grant.clone().unwrap_or_default();
    let at = |time: &Option<prost_types::Timestamp>| {
        let at = moment::from_proto(time.as_ref());
        at.map_or_else(String::new, |at| config.zone.seconds(at))
    };
    let mut section = Section::new("Grant");
    section
        .row("request", approved.request_id.as_str())
        .row("tenant", grant.tenant.as_str())
        .row("state", state(grant))
        .row("requester", approved.requester.as_str())
        .row("approved by", approved.approvers.join(", "))
        .row("access flow", approved.access_flow.as_str())
        .row("reason", approved.reason.as_str())
        .row("ticket", approved.ticket.as_str())
        .row("users", grant.unix_users.join(", "))
        .row("keys", grant.keys.join(", "))
        .row("certificates", certificates(grant))
        .row("hosts", hosts(grant))
        .row("valid from", at(&approved.valid_from_time))
        .row("valid until", at(&approved.valid_until_time))
        .row("created", at(&grant.create_time))
        .row("created by", grant.creator.as_str())
        .row("revoked", at(&approved.revoked_time))
        .row("revoked by", grant.revoker.as_str())
        .row("revoked for", grant.revoke_reason.as_str());
    section
}

fn row(grant: &v1::AccessGrant, config: &Config) -> Vec<Text> {
    let approved = grant.grant.clone().unwrap_or_default();
    let until = moment::from_proto(approved.valid_until_time.as_ref());
    let logins = [&grant.unix_users, &grant.keys].map(|list| list.join(", "));
    let logins = logins.into_iter().chain([certificates(grant)]);
    let logins: Vec<_> = logins.filter(|list| !list.is_empty()).collect();
    vec![
        approved.request_id.into(),
        state(grant),
        approved.approvers.join(", ").into(),
        approved.access_flow.into(),
        logins.join("; ").into(),
        hosts(grant).into(),
        until
            .map_or_else(|| "no limit".to_owned(), |at| config.zone.seconds(at))
            .into(),
    ]
}

/// Whether it is in force now.
fn state(grant: &v1::AccessGrant) -> Text {
    let approved = grant.grant.clone().unwrap_or_default();
    let now = Timestamp::now();
    let reached = |time: &Option<prost_types::Timestamp>| {
        moment::from_proto(time.as_ref()).is_some_and(|at| at <= now)
    };
    let begun = approved.valid_from_time.is_none() || reached(&approved.valid_from_time);
    if reached(&approved.revoked_time) {
        Text::toned("REVOKED", Tone::Bad)
    } else if reached(&approved.valid_until_time) {
        Text::toned("expired", Tone::Warning)
    } else if begun {
        Text::toned("in force", Tone::Good)
    } else {
        Text::from("to come")
    }
}

fn certificates(grant: &v1::AccessGrant) -> String {
    let one = |selector: &v1::CertificateSelector| {
        let serial = selector.serial.map(|serial| format!("serial {serial}"));
        let ca = selector
            .ca_fingerprint
            .as_ref()
            .map(|ca| format!("of {ca}"));
        let parts: Vec<_> = [selector.key_id.clone(), serial, ca]
            .into_iter()
            .flatten()
            .collect();
        parts.join(" ")
    };
    let all: Vec<_> = grant.certificates.iter().map(one).collect();
    all.join(", ")
}

fn hosts(grant: &v1::AccessGrant) -> String {
    let labels = grant.host_labels.iter();
    let labels = labels.map(|(name, value)| format!("{name}={value}"));
    let all: Vec<_> = grant.hosts.iter().cloned().chain(labels).collect();
    match all.is_empty() {
        true => "every host".to_owned(),
        false => all.join(", "),
    }
}
