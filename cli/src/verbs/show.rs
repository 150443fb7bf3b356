//! `auditty show`: everything known about one session.

use auditty_proto::v1;
use jiff::Timestamp;

use crate::args::Show;
use crate::config::Config;
use crate::failure::Result;
use crate::source::{self, Source};
use crate::table::{Section, Text, Tone};
use crate::{describe, moment, out};

pub(super) async fn run(args: &Show, config: &Config) -> Result<()> {
    let mut source = Source::open(config).await?;
    let session = source.find_session(&args.session).await?;
    if config.json {
        out::json(&v1::GetSessionResponse {
            session: Some(session),
        })?;
    } else {
        let gaps = gaps(&session, config).await;
        let sections = [
            about(&session, config),
            who(&session, config),
            allowed(&session, config),
            what(&session, gaps),
            recorded(&session),
        ];
        let text: Vec<String> = sections
            .iter()
            .map(|section| section.render(config.colour))
            .collect();
        out::print(&text.join("\n"))?;
    }
    super::report(&mut source)
}

/// The gaps in words; they stand in the recording, not in the metadata.
async fn gaps(session: &v1::Session, config: &Config) -> Vec<String> {
    let count = session.counts.unwrap_or_default().gap_count;
    if count == 0 {
        return Vec::new();
    }
    match source::open_content(session, config).await {
        Ok(content) => content.gaps(&config.zone),
        Err(failure) => vec![format!("their causes cannot be read: {failure}")],
    }
}

fn about(session: &v1::Session, config: &Config) -> Section {
    let at = |time: &Option<prost_types::Timestamp>| {
        moment::from_proto(time.as_ref()).map_or_else(String::new, |at| config.zone.full(at))
    };
    let host = session.host.clone().unwrap_or_default();
    let mut section = Section::new("Session");
    section
        .row("id", session.session_id.as_str())
        .row("started", at(&session.start_time))
        .row("ended", at(&session.end_time))
        .row("lasted", describe::duration(session, Timestamp::now()))
        .row("state", describe::state(session))
        .row("end", end(session))
        .row("kind", describe::name::<v1::SessionKind>(session.kind))
        .row("command", session.command.as_str())
        .row("terminal", session.terminal.as_str())
        .row("host", format!("{} ({})", host.hostname, host.host_id))
        .row("labels", labels(&host))
        .row("boot", host.boot_id)
        .row("capture", host.capture_mode);
    if session.adopted {
        let text = "already open when the agent started; what came before is not recorded";
        section.row("adopted", Text::toned(text, Tone::Warning));
    }
    section
        .row("parent", session.parent_session_id.as_str())
        .row("left running", left_running(session, config));
    section
}

fn labels(host: &v1::Host) -> String {
    let labels = host.labels.iter();
    let labels: Vec<String> = labels
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    labels.join(", ")
}

/// Processes that ran on after the end.
fn left_running(session: &v1::Session, config: &Config) -> String {
    let over = moment::from_proto(session.processes_end_time.as_ref());
    match (over, session.running_process_count) {
        (Some(at), _) => format!("nothing since {}", config.zone.full(at)),
        (None, count) if count > 0 && session.end_time.is_some() => {
            describe::count(count.into(), "process", "processes")
        }
        _ => String::new(),
    }
}

fn end(session: &v1::Session) -> String {
    if session.end_reason() == v1::EndReason::Unspecified {
        return String::new();
    }
    let reason = describe::name::<v1::EndReason>(session.end_reason);
    match (session.exit_code, session.signal) {
        (None, None) => reason,
        (Some(code), None) => format!("{reason}, exit code {code}"),
        (code, signal) => format!("{reason}, {}", describe::exit(code, signal)),
    }
}

fn who(session: &v1::Session, config: &Config) -> Section {
    let login = session.login.clone().unwrap_or_default();
    let from = session.connection.clone().unwrap_or_default();
    let mut section = Section::new("Who");
    section
        .row("user", login.user.as_str())
        .row(
            "uid",
            login.uid.map_or_else(String::new, |uid| uid.to_string()),
        )
        .row("method", describe::name::<v1::AuthMethod>(login.method))
        .row(
            "key",
            format!("{} {}", login.key_type, login.key_fingerprint).trim(),
        )
        .row(
            "client",
            describe::address(&from.client_address, from.client_port),
        )
        .row(
            "server",
            describe::address(&from.server_address, from.server_port),
        )
        .row("sshd", from.server_exe.as_str())
        .row("connection", from.connection_id.as_str());
    if let Some(certificate) = &login.certificate {
        let at = |time: &Option<prost_types::Timestamp>, always: &str| {
            let at = moment::from_proto(time.as_ref());
            at.map_or_else(|| always.to_owned(), |at| config.zone.seconds(at))
        };
        section
            .row(
                "certificate",
                format!("{} serial {}", certificate.key_id, certificate.serial),
            )
            .row("CA", certificate.ca_fingerprint.as_str())
            .row("principals", certificate.principals.join(", "))
            .row(
                "valid",
                format!(
                    "{} – {}",
                    at(&certificate.valid_after_time, "always"),
                    at(&certificate.valid_before_time, "for ever")
                ),
            );
    }
    if let Some(host) = &login.client_host {
        section
            .row("vouched by", format!("{}, for {}", host.name, host.user))
            .row("its key", host.key_fingerprint.as_str());
    }
    section.row("evidence", evidence(&login)).row(
        "confidence",
        describe::name::<v1::Confidence>(login.confidence),
    );
    section
}

fn evidence(login: &v1::Login) -> Text {
    match login.evidence() {
        v1::Evidence::SshdMonitor => Text::toned(
            "sshd's own messages, read before the login was complete",
            Tone::Good,
        ),
        v1::Evidence::ProcessUid => Text::toned(
            "only the user id of the process; method and key are unknown",
            Tone::Warning,
        ),
        v1::Evidence::UntrustedServer => Text::toned(
            "the server ran under a user's control: this is that user's word",
            Tone::Bad,
        ),
        v1::Evidence::Unspecified => Text::toned("none", Tone::Bad),
    }
}

fn allowed(session: &v1::Session, config: &Config) -> Section {
    let matched = session.grant.clone().unwrap_or_default();
    let mut section = Section::new("Who allowed it");
    let tone = match matched.status() {
        v1::GrantStatus::Granted => Tone::Good,
        v1::GrantStatus::Ambiguous | v1::GrantStatus::Unspecified => Tone::Warning,
        v1::GrantStatus::Ungranted | v1::GrantStatus::Expired | v1::GrantStatus::Revoked => {
            Tone::Bad
        }
    };
    let status = describe::name::<v1::GrantStatus>(matched.status).to_uppercase();
    section.row("grant", Text::toned(status, tone));
    section.row("candidates", matched.candidate_request_ids.join(", "));
    if let Some(since) = moment::from_proto(matched.outlived_time.as_ref()) {
        let text = format!("since {}: the session went on", config.zone.seconds(since));
        section.row("outlived", Text::toned(text, Tone::Bad));
    }
    if let Some(grant) = &matched.grant {
        let at = |time: &Option<prost_types::Timestamp>| {
            let at = moment::from_proto(time.as_ref());
            at.map_or_else(|| "no limit".to_owned(), |at| config.zone.seconds(at))
        };
        let (from, until) = (at(&grant.valid_from_time), at(&grant.valid_until_time));
        section
            .row("approved by", grant.approvers.join(", "))
            .row("access flow", grant.access_flow.as_str())
            .row("request", grant.request_id.as_str())
            .row("requester", grant.requester.as_str())
            .row("reason", grant.reason.as_str())
            .row("ticket", grant.ticket.as_str())
            .row("valid", format!("{from} – {until}"));
        if let Some(revoked) = moment::from_proto(grant.revoked_time.as_ref()) {
            let text = Text::toned(config.zone.seconds(revoked), Tone::Bad);
            section.row("revoked", text);
        }
    }
    section
}

fn what(session: &v1::Session, gaps: Vec<String>) -> Section {
    let counts = session.counts.unwrap_or_default();
    let mut section = Section::new("What");
    section
        .row("commands", counts.command_count.to_string())
        .row("output", describe::bytes(counts.output_byte_count))
        .row("input", input(&counts))
        .row("inner terminals", inner_terminals(&counts))
        .row("files", some(counts.file_count, "auditty files"))
        .row("transfers", transfers(&counts))
        .row("network", some(counts.connect_count, "auditty network"))
        .row("events", counts.event_count.to_string())
        .row("verdict", describe::verdict(session));
    if session.content_withheld {
        let text = "withheld by its host: command lines and paths stand only in the recording";
        section.row("content", Text::toned(text, Tone::Warning));
    }
    if counts.gap_count > 0 {
        let text = format!(
            "{}; known lost: {} events, {} bytes",
            counts.gap_count, counts.lost_event_count, counts.lost_byte_count
        );
        section.row("gaps", Text::toned(text, Tone::Warning));
    }
    for gap in gaps {
        section.row("", Text::toned(gap, Tone::Warning));
    }
    section
}

/// A count, and the verb that lists what was counted; nothing for none.
fn some(count: u64, verb: &str) -> String {
    match count {
        0 => String::new(),
        count => format!("{count} (`{verb}` lists them)"),
    }
}

fn transfers(counts: &v1::Counts) -> String {
    let mut text = some(counts.transfer_count, "auditty transfers");
    if counts.omitted_byte_count > 0 {
        let omitted = describe::bytes(counts.omitted_byte_count);
        text.push_str(&format!(
            "{}{omitted} not stored",
            if text.is_empty() { "" } else { ", " }
        ));
    }
    text
}

fn inner_terminals(counts: &v1::Counts) -> String {
    match counts.inner_terminal_count {
        0 => String::new(),
        1 => "1 (`auditty replay --terminal 1` shows it)".to_owned(),
        count => format!("{count} (`auditty replay --terminal 1` to `{count}` shows them)"),
    }
}

fn input(counts: &v1::Counts) -> String {
    let all = describe::bytes(counts.input_byte_count);
    match counts.masked_byte_count {
        0 => all,
        masked => format!("{all}, {masked} bytes of it masked"),
    }
}

fn recorded(session: &v1::Session) -> Section {
    let recording = session.recording.clone().unwrap_or_default();
    let mut section = Section::new("Where");
    section
        .row("recording", recording.uri.as_str())
        .row(
            "chunks",
            format!(
                "{}, {}",
                recording.chunk_count,
                describe::bytes(recording.stored_byte_count)
            ),
        )
        .row("chain head", recording.chain_head.as_str());
    let keys = [
        ("encrypted to", &recording.recipients),
        ("its input to", &recording.input_recipients),
    ];
    for (title, keys) in keys {
        for (number, key) in keys.iter().enumerate() {
            let title = if number == 0 { title } else { "" };
            section.row(title, describe::recipient(key));
        }
    }
    section
}
