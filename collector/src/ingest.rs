//! `IngestService`: checks a batch as a whole, stores it as a whole, answers
//! when it is durable.

use std::sync::Arc;

use auditty_proto::{
    names,
    v1::{self, activity::Activity, ingest_service_server::IngestService, report},
};
use auditty_recording::host::{DigestHead, SignedEntry};
use prost::Message;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::access::Principal;
use crate::alerts::{self, Rule};
use crate::countersign::Countersigner;
use crate::hearing::Hearing;
use crate::store::{Batch, CommandEnd, ConnectEnd, Fact, HostName, Store, StoreError, nanoseconds};

/// Most reports in a batch: bounds how long one transaction holds the database.
pub const MAX_REPORTS: usize = 10_000;
/// Longest host and boot id, in bytes.
pub const MAX_ID_LEN: usize = 255;
/// Longest name of a host or a user, in bytes; Linux has 64 and 256. PostgreSQL
/// has both in indexes, which take at most 2,704.
pub const MAX_NAME_LEN: usize = 1024;
/// Largest session, encoded.
pub const MAX_SESSION_LEN: usize = 256 * 1024;
/// Largest command, encoded: well above the longest argument block an agent
/// keeps.
pub const MAX_COMMAND_LEN: usize = 2 * 1024 * 1024;

/// Largest activity, encoded: two paths of the longest kind, and the rest.
pub const MAX_ACTIVITY_LEN: usize = 64 * 1024;

/// Largest failed login, encoded.
pub const MAX_FAILED_LOGIN_LEN: usize = 16 * 1024;

/// Largest description of a host, encoded.
pub const MAX_HOST_LEN: usize = 64 * 1024;

/// Largest entry of a key log, and its signature.
pub const MAX_KEY_LEN: usize = 16 * 1024;

/// The service over a store.
#[derive(Clone, Debug)]
pub struct Ingest {
    store: Store,
    signer: Countersigner,
    hearing: Hearing,
    rules: Arc<[Rule]>,
}

impl Ingest {
    /// Takes reports into this store, signs the chain heads in them, hears of
    /// their hosts, and makes alerts of the commands that `rules` name.
    pub fn new(store: Store, signer: Countersigner, hearing: Hearing, rules: Arc<[Rule]>) -> Self {
        Self {
            store,
            signer,
            hearing,
            rules,
        }
    }
}

#[tonic::async_trait]
impl IngestService for Ingest {
    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        let sender = Principal::of(&request)?.clone();
        let mut request = request.into_inner();
        if let Some(host) = sender.host()
            && host != request.host_id
        {
            return Err(Status::permission_denied(format!(
                "host_id: must be {host:?}, whose certificate or token this is"
            )));
        }
        let boot_id = request.boot_id.clone();
        let report = request.host.take();
        let mut batch = check(request, sender.tenant())
            .map_err(|malformed| Status::invalid_argument(malformed.to_string()))?;
        let host = batch.host();
        let report = report
            .map(|report| check_host(report, &host, &boot_id))
            .transpose()
            .map_err(|malformed| Status::invalid_argument(malformed.to_string()))?;
        self.hearing.heard(host, &boot_id, report);
        if batch.facts.is_empty() {
            return Ok(Response::new(v1::ReportResponse {}));
        }
        batch.receipts = self.signer.receipts(&batch).map_err(|error| {
            tracing::error!(host_id = batch.host_id, "batch not signed: {error}");
            Status::unavailable(format!("batch not signed: {error}"))
        })?;
        batch.causes = alerts::causes(&batch, &self.rules);
        match self.store.apply(&batch).await {
            Ok(()) => Ok(Response::new(v1::ReportResponse {})),
            Err(error @ StoreError::OtherHost { .. }) => {
                tracing::warn!(host_id = batch.host_id, "batch refused: {error}");
                Err(Status::permission_denied(error.to_string()))
            }
            Err(error) => {
                tracing::error!(host_id = batch.host_id, "batch not stored: {error}");
                Err(Status::unavailable(format!("batch not stored: {error}")))
            }
        }
    }
}

/// What is wrong with a batch.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
struct Malformed {
    field: String,
    problem: String,
}

fn malformed<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed {
        field: field.into(),
        problem: problem.into(),
    })
}

fn check(request: v1::ReportRequest, tenant: &str) -> Result<Batch, Malformed> {
    let v1::ReportRequest {
        host_id,
        boot_id,
        reports,
        host: _,
    } = request;
    if host_id.is_empty() || host_id.len() > MAX_ID_LEN {
        return malformed("host_id", format!("must have 1 to {MAX_ID_LEN} bytes"));
    }
    if boot_id.len() > MAX_ID_LEN {
        return malformed("boot_id", format!("must have at most {MAX_ID_LEN} bytes"));
    }
    if reports.len() > MAX_REPORTS {
        return malformed("reports", format!("must be at most {MAX_REPORTS}"));
    }
    let mut facts = Vec::with_capacity(reports.len());
    for (index, report) in reports.into_iter().enumerate() {
        let checked = check_fact(report.fact, &host_id, &mut facts);
        checked.map_err(|Malformed { field, problem }| Malformed {
            field: format!("reports[{index}].{field}"),
            problem,
        })?;
    }
    Ok(Batch {
        host_id,
        tenant: tenant.to_owned(),
        facts,
        receipts: Vec::new(),
        causes: Vec::new(),
    })
}

/// What a host says of itself. Which host it is the request says.
fn check_host(
    mut report: v1::HostReport,
    name: &HostName,
    boot_id: &str,
) -> Result<v1::HostReport, Malformed> {
    let Some(host) = &mut report.host else {
        return malformed("host.host", "is missing");
    };
    if host.hostname.len() > MAX_NAME_LEN {
        let most = format!("must have at most {MAX_NAME_LEN} bytes");
        return malformed("host.host.hostname", most);
    }
    host.host_id.clone_from(&name.host_id);
    boot_id.clone_into(&mut host.boot_id);
    if report.encoded_len() > MAX_HOST_LEN {
        return malformed("host", format!("must have at most {MAX_HOST_LEN} bytes"));
    }
    Ok(report)
}

fn check_fact(
    fact: Option<report::Fact>,
    host_id: &str,
    facts: &mut Vec<Fact>,
) -> Result<(), Malformed> {
    match fact {
        Some(report::Fact::Session(report)) => {
            let Some(session) = report.session else {
                return malformed("session.session", "is missing");
            };
            let Ok(revision) = i64::try_from(report.revision) else {
                return malformed("session.revision", "must be less than 2^63");
            };
            facts.push(check_session(revision, session, host_id)?);
        }
        Some(report::Fact::Command(report)) => {
            let session = session_id("command.session_id", &report.session_id)?;
            let Some(command) = report.command else {
                return malformed("command.command", "is missing");
            };
            check_command(session, command, facts)?;
        }
        Some(report::Fact::CommandEnd(end)) => {
            facts.push(Fact::CommandEnd(CommandEnd {
                session: session_id("command_end.session_id", &end.session_id)?,
                seq: seq("command_end.seq", end.seq)?,
                exit_code: end.exit_code,
                signal: end.signal,
                // Longer than the machine has existed: the longest there is.
                duration_ns: i64::try_from(end.duration_ns).unwrap_or(i64::MAX),
            }));
        }
        Some(report::Fact::Activity(report)) => {
            let session = session_id("activity.session_id", &report.session_id)?;
            let Some(activity) = report.activity else {
                return malformed("activity.activity", "is missing");
            };
            facts.push(check_activity(session, activity)?);
        }
        Some(report::Fact::ConnectEnd(end)) => {
            // More than a machine can send in its life: the most there is.
            let bytes = |count: Option<u64>| count.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
            facts.push(Fact::ConnectEnd(ConnectEnd {
                session: session_id("connect_end.session_id", &end.session_id)?,
                seq: seq("connect_end.seq", end.seq)?,
                sent_bytes: bytes(end.sent_byte_count),
                received_bytes: bytes(end.received_byte_count),
                duration_ns: i64::try_from(end.duration_ns).unwrap_or(i64::MAX),
            }));
        }
        Some(report::Fact::HostKey(key)) => facts.push(check_key(key, host_id)?),
        Some(report::Fact::DigestHead(head)) => {
            let wrong = |field: &str| malformed(format!("digest_head.{field}"), "is none");
            let Ok(log) = head.log.parse() else {
                return wrong("log");
            };
            let Ok(sha256) = head.sha256.parse() else {
                return wrong("sha256");
            };
            number("digest_head.number", head.number)?;
            let number = head.number;
            let head = DigestHead { number, sha256 };
            facts.push(Fact::DigestHead { log, head });
        }
        Some(report::Fact::FailedLogin(report)) => {
            let Some(login) = report.failed_login else {
                return malformed("failed_login.failed_login", "is missing");
            };
            facts.push(check_failed_login(login, host_id)?);
        }
        None => return malformed("fact", "is missing"),
    }
    Ok(())
}

fn check_key(key: v1::HostKeyReport, host_id: &str) -> Result<Fact, Malformed> {
    let v1::HostKeyReport { json, signature } = key;
    if json.len() > MAX_KEY_LEN || signature.len() > MAX_KEY_LEN {
        return malformed("host_key", format!("must have at most {MAX_KEY_LEN} bytes"));
    }
    let signed = match SignedEntry::read(json, signature) {
        Ok(signed) => signed,
        Err(error) => return malformed("host_key.json", error.to_string()),
    };
    if signed.entry.host_id != host_id {
        let must = format!("must be of the reporting host, {host_id:?}");
        return malformed("host_key.json", must);
    }
    number("host_key.json.number", signed.entry.number)?;
    Ok(Fact::HostKey(Box::new(signed)))
}

fn number(field: &str, number: u64) -> Result<(), Malformed> {
    match i64::try_from(number) {
        Ok(_) => Ok(()),
        Err(_) => malformed(field, "must be less than 2^63"),
    }
}

fn check_session(revision: i64, session: v1::Session, host_id: &str) -> Result<Fact, Malformed> {
    let id = session_id("session.session.session_id", &session.session_id)?;
    let name = names::session_name(id);
    if session.name != name {
        return malformed("session.session.name", format!("must be {name:?}"));
    }
    let host = session.host.as_ref().map_or("", |host| &host.host_id);
    if host != host_id {
        return malformed(
            "session.session.host.host_id",
            format!("must be the reporting host's, {host_id:?}"),
        );
    }
    let hostname = session.host.as_ref().map_or("", |host| &host.hostname);
    let user = session.login.as_ref().map_or("", |login| &login.user);
    for (field, name) in [("host.hostname", hostname), ("login.user", user)] {
        if name.len() > MAX_NAME_LEN {
            let most = format!("must have at most {MAX_NAME_LEN} bytes");
            return malformed(format!("session.session.{field}"), most);
        }
    }
    time("session.session.start_time", session.start_time.as_ref())?;
    if session.end_time.is_some() {
        time("session.session.end_time", session.end_time.as_ref())?;
    }
    if session.encoded_len() > MAX_SESSION_LEN {
        let most = format!("must have at most {MAX_SESSION_LEN} bytes");
        return malformed("session.session", most);
    }
    Ok(Fact::Session {
        revision,
        id,
        session: Box::new(session),
    })
}

/// A command that has ended already counts as two facts.
fn check_command(
    session: Uuid,
    mut command: v1::Command,
    facts: &mut Vec<Fact>,
) -> Result<(), Malformed> {
    let seq = seq("command.command.seq", command.seq)?;
    let name = names::command_name(session, command.seq);
    if command.name != name {
        return malformed("command.command.name", format!("must be {name:?}"));
    }
    time("command.command.start_time", command.start_time.as_ref())?;
    if command.encoded_len() > MAX_COMMAND_LEN {
        let most = format!("must have at most {MAX_COMMAND_LEN} bytes");
        return malformed("command.command", most);
    }
    if command.argv.iter().any(|argument| argument.contains('\0')) {
        return malformed("command.command.argv", "must not contain NUL");
    }
    // That is said in answers, of what the session itself has reported.
    command.session = None;
    let exit_code = command.exit_code.take();
    let signal = command.signal.take();
    let duration = command.duration.take();
    if let Some(duration) = duration {
        let ns = i128::from(duration.seconds) * 1_000_000_000 + i128::from(duration.nanos);
        let Ok(ns) = u64::try_from(ns) else {
            return malformed("command.command.duration", "must be 0 or more");
        };
        facts.push(Fact::CommandEnd(CommandEnd {
            session,
            seq,
            exit_code,
            signal,
            duration_ns: i64::try_from(ns).unwrap_or(i64::MAX),
        }));
    } else if exit_code.is_some() || signal.is_some() {
        return malformed(
            "command.command.duration",
            "is missing for a command that ended",
        );
    }
    facts.push(Fact::Command {
        session,
        command: Box::new(command),
    });
    Ok(())
}

fn check_activity(session: Uuid, activity: v1::Activity) -> Result<Fact, Malformed> {
    seq("activity.activity.seq", activity.seq)?;
    let name = names::activity_name(session, activity.seq);
    if activity.name != name {
        return malformed("activity.activity.name", format!("must be {name:?}"));
    }
    time("activity.activity.time", activity.time.as_ref())?;
    let kind = match activity.activity {
        Some(Activity::File(_)) => v1::ActivityKind::File,
        Some(Activity::Transfer(_)) => v1::ActivityKind::Transfer,
        Some(Activity::Connect(_)) => v1::ActivityKind::Connect,
        Some(Activity::Link(_)) => v1::ActivityKind::Link,
        Some(Activity::Handoff(_)) => v1::ActivityKind::Handoff,
        None => return malformed("activity.activity.activity", "is missing"),
    };
    if activity.kind() != kind {
        let must = format!("must be {}, as the activity is", kind.as_str_name());
        return malformed("activity.activity.kind", must);
    }
    if activity.encoded_len() > MAX_ACTIVITY_LEN {
        let most = format!("must have at most {MAX_ACTIVITY_LEN} bytes");
        return malformed("activity.activity", most);
    }
    Ok(Fact::Activity {
        session,
        activity: Box::new(activity),
    })
}

/// Which host it is of, the request says.
fn check_failed_login(mut login: v1::FailedLogin, host_id: &str) -> Result<Fact, Malformed> {
    let within = |field: &str| format!("failed_login.failed_login.{field}");
    for (field, id, least) in [
        ("failed_login_id", &login.failed_login_id, 1),
        ("connection_id", &login.connection_id, 0),
        ("client_address", &login.client_address, 0),
    ] {
        if id.len() < least || id.len() > MAX_ID_LEN {
            let must = format!("must have {least} to {MAX_ID_LEN} bytes");
            return malformed(within(field), must);
        }
    }
    for (field, name) in [("user", &login.user), ("hostname", &login.hostname)] {
        if name.len() > MAX_NAME_LEN {
            let most = format!("must have at most {MAX_NAME_LEN} bytes");
            return malformed(within(field), most);
        }
    }
    time(&within("start_time"), login.start_time.as_ref())?;
    time(&within("end_time"), login.end_time.as_ref())?;
    if login.connection_count == 0 {
        return malformed(within("connection_count"), "must be 1 or more");
    }
    number(&within("connection_count"), login.connection_count)?;
    if login.encoded_len() > MAX_FAILED_LOGIN_LEN {
        let most = format!("must have at most {MAX_FAILED_LOGIN_LEN} bytes");
        return malformed("failed_login.failed_login", most);
    }
    login.name = names::failed_login_name(&login.failed_login_id);
    host_id.clone_into(&mut login.host_id);
    login.tenant.clear();
    Ok(Fact::FailedLogin(Box::new(login)))
}

fn session_id(field: &str, id: &str) -> Result<Uuid, Malformed> {
    match names::parse_session_id(id) {
        Some(id) => Ok(id),
        None => malformed(field, "must be a UUID in lower case with hyphens"),
    }
}

fn seq(field: &str, seq: u64) -> Result<i64, Malformed> {
    match i64::try_from(seq) {
        Ok(seq @ 1..) => Ok(seq),
        _ => malformed(field, "must be 1 or more, and less than 2^63"),
    }
}

fn time(field: &str, time: Option<&prost_types::Timestamp>) -> Result<(), Malformed> {
    match time.map(nanoseconds) {
        Some(Some(_)) => Ok(()),
        Some(None) => malformed(field, "must be a time from 1678 to 2261"),
        None => malformed(field, "is missing"),
    }
}
