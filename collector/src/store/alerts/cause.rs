//! What an alert is about. The same cause, however often it is reported, is one
//! alert.

use std::collections::BTreeMap;

use auditty_proto::v1::{self, AlertKind, GrantStatus};
use auditty_recording::digest::Digest;
use uuid::Uuid;

use crate::store::{HostName, fact::Batch, nanoseconds};

/// Longest part of a command line in a sentence, bytes.
const MAX_COMMAND_LEN: usize = 512;
/// Longest name in a sentence, bytes.
const MAX_NAME_LEN: usize = 128;

/// Why there is to be an alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// What makes it the same cause.
    text: String,
    /// The alert, without its number and time.
    pub(super) alert: v1::Alert,
}

impl Cause {
    fn new(kind: AlertKind, host: &HostName, what: &str, summary: String) -> Self {
        Self {
            text: format!("{}/{}/{what}", kind.as_str_name(), host.host_id),
            alert: v1::Alert {
                kind: kind.into(),
                summary,
                host_id: host.host_id.clone(),
                tenant: host.tenant.clone(),
                ..v1::Alert::default()
            },
        }
    }

    /// Tenant, and a short text of its own.
    pub(super) fn key(&self) -> (String, String) {
        let digest = Digest::of(self.text.as_bytes());
        (self.alert.tenant.clone(), digest.to_string())
    }

    fn named(mut self, hostname: &str) -> Self {
        hostname.clone_into(&mut self.alert.hostname);
        self
    }

    fn in_session(mut self, session_id: &str) -> Self {
        session_id.clone_into(&mut self.alert.session_id);
        self
    }

    /// What is wrong with a session as its host reports it.
    pub(crate) fn of_session(tenant: &str, session: &v1::Session) -> Vec<Self> {
        let host = session.host.clone().unwrap_or_default();
        let of = HostName {
            tenant: tenant.to_owned(),
            host_id: host.host_id.clone(),
        };
        let id = &*session.session_id;
        let login = session.login.clone().unwrap_or_default();
        let user = shown(&login.user);
        let on = format!("{user} on {}", shown_host(&host));
        let mut causes = Vec::new();
        if let Some((outcome, sentence)) = ungranted(session, &user, &host) {
            let connection = session.connection.as_ref().map(|from| &*from.connection_id);
            let connection = connection.filter(|id| !id.is_empty()).unwrap_or(id);
            let what = format!("{}/{connection}/{outcome}", host.boot_id);
            causes.push(Self::new(AlertKind::UngrantedLogin, &of, &what, sentence));
        }
        let outlived = session.grant.as_ref();
        if outlived.is_some_and(|grant| grant.outlived_time.is_some()) {
            let sentence = format!("a session of {on} goes on although its grant is over");
            causes.push(Self::new(AlertKind::GrantOutlived, &of, id, sentence));
        }
        let counts = session.counts.unwrap_or_default();
        if counts.gap_count > 0 || session.verdict() == v1::Verdict::Lossy {
            let sentence = format!("a session of {on} was not captured whole");
            causes.push(Self::new(AlertKind::SessionLossy, &of, id, sentence));
        }
        if session.verdict() == v1::Verdict::Interrupted {
            let sentence = format!("no agent was running during a part of a session of {on}");
            causes.push(Self::new(AlertKind::SessionInterrupted, &of, id, sentence));
        }
        let causes = causes.into_iter();
        let causes = causes.map(|cause| cause.in_session(id).named(&host.hostname));
        let user = |mut cause: Self| {
            cause.alert.user.clone_from(&login.user);
            cause
        };
        causes.map(user).collect()
    }

    /// A command that a rule names.
    pub(crate) fn sensitive_command(
        batch: &Batch,
        session: Uuid,
        rule: &str,
        command: &v1::Command,
    ) -> Self {
        let line = auditty_proto::filter::command_line(command);
        let end = line.floor_char_boundary(MAX_COMMAND_LEN);
        let line = match line.get(..end) {
            Some(start) if start.len() < line.len() => format!("{start}…"),
            _ => line,
        };
        let host = batch.host();
        let what = format!("{session}/{rule}");
        let sentence = format!("{rule}: {line}");
        let mut cause = Self::new(AlertKind::SensitiveCommand, &host, &what, sentence);
        rule.clone_into(&mut cause.alert.rule);
        cause.in_session(&session.to_string())
    }

    pub(crate) fn host_silent(host: &HostName, report: &v1::HostReport, since_ns: i64) -> Self {
        let known = report.host.clone().unwrap_or_default();
        let name = shown_host_or(&known, host);
        let sentence = format!("nothing is heard of {name} since {}", time(since_ns));
        let kind = AlertKind::HostSilent;
        Self::new(kind, host, &since_ns.to_string(), sentence).named(&known.hostname)
    }

    pub(crate) fn host_heard(
        host: &HostName,
        report: &v1::HostReport,
        since_ns: i64,
        heard_ns: i64,
    ) -> Self {
        let known = report.host.clone().unwrap_or_default();
        let name = shown_host_or(&known, host);
        let seconds = heard_ns.saturating_sub(since_ns) / 1_000_000_000;
        let sentence = format!("{name} is heard of again, after {seconds} s");
        let what = format!("{since_ns}/{heard_ns}");
        Self::new(AlertKind::HostHeard, host, &what, sentence).named(&known.hostname)
    }

    /// What another agent, configuration or mode of capture says.
    pub(crate) fn host_changed(
        host: &HostName,
        before: &v1::HostReport,
        now: &v1::HostReport,
        time_ns: i64,
    ) -> Option<Self> {
        let before_host = before.host.as_ref()?;
        let known = now.host.clone().unwrap_or_default();
        let mut changes = Vec::new();
        if before_host.capture_mode != known.capture_mode {
            changes.push(format!(
                "it captures by {} instead of {}",
                shown(&known.capture_mode),
                shown(&before_host.capture_mode)
            ));
        }
        if before.agent_version != now.agent_version {
            changes.push(format!(
                "its agent is {} instead of {}",
                shown(&now.agent_version),
                shown(&before.agent_version)
            ));
        }
        if before.configuration_sha256 != now.configuration_sha256 {
            changes.push("its configuration is another one".to_owned());
        }
        if changes.is_empty() {
            return None;
        }
        let name = shown_host_or(&known, host);
        let sentence = format!("{name} has changed: {}", changes.join(", "));
        let kind = AlertKind::HostChanged;
        Some(Self::new(kind, host, &time_ns.to_string(), sentence).named(&known.hostname))
    }

    /// Hooks that stopped, and those of them that work again: those of one moment and
    /// reason together.
    pub(crate) fn of_hooks(host: &HostName, boot_id: &str, report: &v1::HostReport) -> Vec<Self> {
        let known = report.host.clone().unwrap_or_default();
        let name = shown_host_or(&known, host);
        let ns = |time: &Option<prost_types::Timestamp>| time.as_ref().and_then(nanoseconds);
        let mut stops: BTreeMap<_, Vec<&str>> = BTreeMap::new();
        for stop in &report.stopped_hooks {
            let Some(stopped) = ns(&stop.stopped_time) else {
                continue;
            };
            let reason = stop.reason.as_str();
            let of = stops.entry((stopped, None, reason)).or_default();
            of.push(&stop.hook);
            if let Some(mended) = ns(&stop.mended_time) {
                let of = stops.entry((stopped, Some(mended), reason)).or_default();
                of.push(&stop.hook);
            }
        }
        let causes = stops.into_iter().map(|((stopped, mended, reason), hooks)| {
            let what = format!("{boot_id}/{stopped}/{mended:?}/{reason}");
            let (hooks, reason) = (shown_list(&hooks), shown(reason));
            let (kind, sentence) = match mended {
                None => {
                    let since = time(stopped);
                    let sentence =
                        format!("{name} does not capture by {hooks} since {since}: {reason}");
                    (AlertKind::HookStopped, sentence)
                }
                Some(mended) => {
                    // Time between the last look and the repair.
                    let seconds = mended.saturating_sub(stopped) / 1_000_000_000;
                    let sentence =
                        format!("{name} captures by {hooks} again, after {seconds} s: {reason}");
                    (AlertKind::HookMended, sentence)
                }
            };
            Self::new(kind, host, &what, sentence).named(&known.hostname)
        });
        causes.collect()
    }

    /// What an agent saw and no recording shows.
    pub(crate) fn not_recorded(
        host: &HostName,
        boot_id: &str,
        report: &v1::HostReport,
    ) -> Option<Self> {
        let counts = report.unrecorded?;
        let several = [
            (counts.connections, "connection", "connections"),
            (counts.sessions, "session", "sessions"),
            (counts.losses, "loss", "losses"),
        ];
        let several = several.iter().filter(|(number, ..)| *number > 0);
        let words = several.clone().map(|(number, one, more)| {
            let noun = if *number == 1 { one } else { more };
            format!("{number} {noun}")
        });
        let words = words.collect::<Vec<_>>().join(", ");
        let total = several.fold(0_u64, |sum, (number, ..)| sum.saturating_add(*number));
        let doublings = total.checked_ilog2()?;
        let known = report.host.clone().unwrap_or_default();
        let start = counts.start_time.as_ref().and_then(nanoseconds)?;
        let (name, since) = (shown_host_or(&known, host), time(start));
        let sentence = format!("{name} has {words} since {since} that are in no recording");
        let what = format!("{boot_id}/{start}/{doublings}");
        let cause = Self::new(AlertKind::HostNotRecorded, host, &what, sentence);
        Some(cause.named(&known.hostname))
    }

    pub(crate) fn uncertified_key(batch: &Batch, fingerprint: &str) -> Self {
        let host = batch.host();
        let sentence = format!(
            "the host {} reports the key {fingerprint}, which none of its keys certifies: it was \
             set up again, or somebody reports in its name",
            shown(&host.host_id)
        );
        Self::new(AlertKind::HostKeyUncertified, &host, fingerprint, sentence)
    }

    /// Somebody found an object that is not what was sealed.
    pub(crate) fn verification_failed(
        host: &HostName,
        hostname: &str,
        session_id: &str,
        finding: &v1::Finding,
    ) -> Self {
        let name = match hostname {
            "" => shown(&host.host_id),
            name => shown(name),
        };
        let object = finding
            .object
            .get(..finding.object.floor_char_boundary(MAX_COMMAND_LEN));
        let detail = finding
            .detail
            .get(..finding.detail.floor_char_boundary(MAX_COMMAND_LEN));
        let sentence = format!(
            "what {name} has recorded is not what was sealed: {} is {}: {}",
            object.unwrap_or_default(),
            finding.kind.replace('_', " "),
            detail.unwrap_or_default()
        );
        let what = format!("{session_id}/{}", finding.kind);
        Self::new(AlertKind::VerificationFailed, host, &what, sentence)
            .in_session(session_id)
            .named(hostname)
    }

    /// A recording ended with less than its host had reported of it.
    pub(crate) fn shortened(batch: &Batch, session_id: &str, (known, now): (i64, i64)) -> Self {
        let what = format!("end of {session_id}");
        let how = format!(
            "reports that the recording of the session {session_id} ended with {now} chunks, and had reported {known}: something was rolled back or removed"
        );
        Self::contradicts(batch, &what, &how).in_session(session_id)
    }

    /// `what` names the place that has two heads, and `in_session` the session.
    pub(crate) fn conflict(batch: &Batch, what: &str, session_id: &str) -> Self {
        let how = format!(
            "reported two heads for {what}: something was rewritten, rolled back or copied"
        );
        Self::contradicts(batch, what, &how).in_session(session_id)
    }

    /// What a host reports is not what it reported before.
    fn contradicts(batch: &Batch, what: &str, how: &str) -> Self {
        let host = batch.host();
        let sentence = format!("the host {} {how}", shown(&host.host_id));
        Self::new(AlertKind::EvidenceConflict, &host, what, sentence)
    }
}

/// How a login stands that not exactly one grant covers.
fn ungranted(session: &v1::Session, user: &str, host: &v1::Host) -> Option<(&'static str, String)> {
    let grant = session.grant.as_ref()?;
    // That it went on afterwards is an alert of its own.
    if grant.outlived_time.is_some() {
        return None;
    }
    let request = grant.grant.as_ref().map(|grant| shown(&grant.request_id));
    let request = request.unwrap_or_else(|| "of before".to_owned());
    let (outcome, how) = match grant.status() {
        GrantStatus::Ungranted => ("ungranted", "without a grant".to_owned()),
        GrantStatus::Expired => {
            let how = format!("at a time that its grant {request} is not for");
            ("expired", how)
        }
        GrantStatus::Revoked => ("revoked", format!("with the revoked grant {request}")),
        GrantStatus::Ambiguous => {
            let several = grant.candidate_request_ids.iter().take(5);
            let several: Vec<_> = several.map(|id| shown(id)).collect();
            let how = format!("and several grants cover it: {}", several.join(", "));
            ("ambiguous", how)
        }
        GrantStatus::Granted | GrantStatus::Unspecified => return None,
    };
    let address = session.connection.as_ref();
    let address = address.map_or("", |from| from.client_address.as_str());
    let from = match address {
        "" => String::new(),
        address => format!(" from {}", shown(address)),
    };
    let name = shown_host(host);
    Some((outcome, format!("{user} logged in to {name}{from} {how}")))
}

/// A name in a sentence, which is never long.
fn shown(name: &str) -> String {
    match name.get(..name.floor_char_boundary(MAX_NAME_LEN)) {
        Some("") | None => "?".to_owned(),
        Some(start) => start.to_owned(),
    }
}

/// The first of several names.
fn shown_list(names: &[&str]) -> String {
    const SHOWN: usize = 4;
    let first: Vec<_> = names.iter().take(SHOWN).map(|name| shown(name)).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

fn shown_host(host: &v1::Host) -> String {
    match host.hostname.as_str() {
        "" => shown(&host.host_id),
        name => shown(name),
    }
}

fn shown_host_or(known: &v1::Host, host: &HostName) -> String {
    match known.hostname.as_str() {
        "" => shown(&host.host_id),
        name => shown(name),
    }
}

fn time(nanoseconds: i64) -> String {
    let at = jiff::Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
