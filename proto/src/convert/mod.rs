//! The recording's model → messages.
//!
//! Everything is taken over as it is; what the model cannot know of itself,
//! [`v1::Session::recording`] and what else only reports say, is left to the caller.

use auditty_recording::{
    event::{self, Event},
    session,
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{names, v1};

/// Enumerations with values of the same meaning on both sides.
macro_rules! same_values {
    ($($from:ty => $to:ident { $($value:ident => $name:ident),* $(,)? })*) => {$(
        impl From<$from> for v1::$to {
            fn from(value: $from) -> Self {
                match value {
                    $(<$from>::$value => Self::$name,)*
                }
            }
        }
    )*};
}

mod activity;

pub use activity::{activity, end_connect};

/// A moment as a message.
pub fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    // Protobuf counts nanoseconds upwards from the second, also before 1970.
    let (seconds, nanos) = match (time.as_second(), time.subsec_nanosecond()) {
        (seconds, nanos @ ..0) => (seconds - 1, nanos + 1_000_000_000),
        whole => whole,
    };
    prost_types::Timestamp { seconds, nanos }
}

/// A message as a moment; `None` when it is not one (years -9999 to 9999,
/// nanoseconds below one second).
pub fn from_timestamp(time: &prost_types::Timestamp) -> Option<Timestamp> {
    (0..1_000_000_000)
        .contains(&time.nanos)
        .then(|| Timestamp::new(time.seconds, time.nanos).ok())
        .flatten()
}

/// A length of time as a message; from nanoseconds.
pub fn duration(nanoseconds: u64) -> prost_types::Duration {
    prost_types::Duration {
        // At most 2^64 / 10^9 seconds, and less than 10^9 nanoseconds: both fit.
        seconds: (nanoseconds / 1_000_000_000).cast_signed(),
        nanos: (nanoseconds % 1_000_000_000) as i32,
    }
}

/// A command as a message, from the exec `seq` of a session at `time`. How it
/// ended is another event's news: [`end_command`].
pub fn command(session_id: Uuid, seq: u64, time: Timestamp, exec: &event::Exec) -> v1::Command {
    v1::Command {
        name: names::command_name(session_id, seq),
        seq,
        start_time: Some(timestamp(time)),
        pid: exec.pid,
        parent_pid: exec.parent_pid,
        exe: exec.exe.clone(),
        filename: exec.filename.clone(),
        cwd: exec.cwd.clone(),
        argv: exec.argv.clone(),
        argv_byte_count: exec.argv_bytes,
        argv_truncated: exec.argv_truncated,
        uid: exec.uid,
        euid: exec.euid,
        login_uid: exec.login_uid,
        exit_code: None,
        signal: None,
        duration: None,
        content_withheld: false,
        session: None,
    }
}

/// Adds to a command how it ended.
pub fn end_command(command: &mut v1::Command, exit: &event::Exit) {
    command.exit_code = exit.status.exit_code.map(u32::from);
    command.signal = exit.status.signal.map(u32::from);
    command.duration = Some(duration(exit.duration_ns));
}

/// What an agent reports of an event: a command or an activity, the end of
/// one, or nothing.
pub fn report(session_id: Uuid, event: &Event) -> Option<v1::Report> {
    let fact = match &event.body {
        event::Body::Exec(exec) => v1::report::Fact::Command(v1::CommandReport {
            session_id: session_id.to_string(),
            command: Some(command(session_id, event.seq, event.time, exec)),
        }),
        event::Body::Exit(exit) => v1::report::Fact::CommandEnd(v1::CommandEndReport {
            session_id: session_id.to_string(),
            seq: exit.exec_seq?,
            exit_code: exit.status.exit_code.map(u32::from),
            signal: exit.status.signal.map(u32::from),
            duration_ns: exit.duration_ns,
        }),
        event::Body::Disconnect(end) => v1::report::Fact::ConnectEnd(v1::ConnectEndReport {
            session_id: session_id.to_string(),
            seq: end.connect_seq,
            sent_byte_count: end.sent_bytes,
            received_byte_count: end.received_bytes,
            duration_ns: end.duration_ns,
        }),
        _ => v1::report::Fact::Activity(v1::ActivityReport {
            session_id: session_id.to_string(),
            activity: Some(activity(session_id, event)?),
        }),
    };
    Some(v1::Report { fact: Some(fact) })
}

impl From<&session::Session> for v1::Session {
    fn from(session: &session::Session) -> Self {
        let state = match session.end_time {
            None => v1::SessionState::Active,
            Some(_) => v1::SessionState::Closed,
        };
        Self {
            name: names::session_name(session.session_id),
            session_id: session.session_id.to_string(),
            host: Some((&session.host).into()),
            connection: Some((&session.connection).into()),
            login: Some((&session.login).into()),
            grant: Some((&session.grant).into()),
            kind: v1::SessionKind::from(session.session_kind).into(),
            command: session.command.clone(),
            terminal: session.terminal.clone(),
            state: state.into(),
            start_time: Some(timestamp(session.start_time)),
            end_time: session.end_time.map(timestamp),
            end_reason: session
                .end_reason
                .map_or(v1::EndReason::Unspecified, Into::into)
                .into(),
            exit_code: session.exit_code.map(u32::from),
            signal: session.signal.map(u32::from),
            adopted: session.adopted,
            running_process_count: session.running_processes,
            processes_end_time: session.processes_end_time.map(timestamp),
            parent_session_id: session
                .parent_session_id
                .map(|id| id.to_string())
                .unwrap_or_default(),
            counts: Some((&session.counts).into()),
            verdict: v1::Verdict::from(session.verdict).into(),
            recording: None,
            gap_times: Vec::new(),
            content_withheld: false,
        }
    }
}

impl From<&session::Host> for v1::Host {
    fn from(host: &session::Host) -> Self {
        Self {
            host_id: host.host_id.clone(),
            hostname: host.hostname.clone(),
            boot_id: host.boot_id.clone(),
            capture_mode: host.capture_mode.clone(),
            labels: host.labels.clone(),
        }
    }
}

impl From<&session::Connection> for v1::Connection {
    fn from(connection: &session::Connection) -> Self {
        let address = |address: Option<std::net::IpAddr>| {
            address.map_or_else(String::new, |address| address.to_string())
        };
        Self {
            connection_id: connection.connection_id.clone(),
            client_address: address(connection.client_address),
            client_port: connection.client_port.unwrap_or_default().into(),
            server_address: address(connection.server_address),
            server_port: connection.server_port.unwrap_or_default().into(),
            server_exe: connection.server_exe.clone(),
            pid: connection.pid,
        }
    }
}

impl From<&session::Login> for v1::Login {
    fn from(login: &session::Login) -> Self {
        Self {
            user: login.user.clone(),
            uid: login.uid,
            method: v1::AuthMethod::from(login.method).into(),
            key_fingerprint: login.key_fingerprint.clone().unwrap_or_default(),
            key_type: login.key_type.clone().unwrap_or_default(),
            certificate: login.certificate.as_ref().map(Into::into),
            evidence: v1::Evidence::from(login.evidence).into(),
            confidence: v1::Confidence::from(login.confidence).into(),
            client_host: login.client_host.as_deref().map(Into::into),
        }
    }
}

impl From<&session::ClientHost> for v1::ClientHost {
    fn from(host: &session::ClientHost) -> Self {
        Self {
            name: host.name.clone(),
            user: host.user.clone(),
            key_fingerprint: host.key_fingerprint.clone(),
        }
    }
}

impl From<&session::Certificate> for v1::Certificate {
    fn from(certificate: &session::Certificate) -> Self {
        Self {
            key_id: certificate.key_id.clone(),
            serial: certificate.serial,
            ca_fingerprint: certificate.ca_fingerprint.clone(),
            principals: certificate.principals.clone(),
            valid_after_time: certificate.valid_after.map(timestamp),
            valid_before_time: certificate.valid_before.map(timestamp),
        }
    }
}

impl From<&session::GrantMatch> for v1::GrantMatch {
    fn from(found: &session::GrantMatch) -> Self {
        Self {
            status: v1::GrantStatus::from(found.status).into(),
            grant: found.grant.as_ref().map(Into::into),
            candidate_request_ids: found.candidates.clone(),
            outlived_time: found.outlived_at.map(timestamp),
        }
    }
}

impl From<&session::Grant> for v1::Grant {
    fn from(grant: &session::Grant) -> Self {
        Self {
            request_id: grant.request_id.clone(),
            requester: grant.requester.clone(),
            approvers: grant.approvers.clone(),
            access_flow: grant.access_flow.clone(),
            reason: grant.reason.clone(),
            ticket: grant.ticket.clone(),
            valid_from_time: grant.valid_from.map(timestamp),
            valid_until_time: grant.valid_until.map(timestamp),
            revoked_time: grant.revoked_at.map(timestamp),
        }
    }
}

impl From<&session::Counts> for v1::Counts {
    fn from(counts: &session::Counts) -> Self {
        Self {
            event_count: counts.events,
            command_count: counts.commands,
            output_byte_count: counts.output_bytes,
            input_byte_count: counts.input_bytes,
            masked_byte_count: counts.masked_bytes,
            gap_count: counts.gaps,
            lost_event_count: counts.lost_events,
            lost_byte_count: counts.lost_bytes,
            omitted_byte_count: counts.omitted_bytes,
            inner_terminal_count: counts.inner_terminals,
            file_count: counts.files,
            transfer_count: counts.transfers,
            connect_count: counts.connects,
        }
    }
}

same_values! {
    session::SessionKind => SessionKind {
        Shell => Shell, Exec => Exec, Subsystem => Subsystem, Forward => Forward, Unknown => Unspecified,
    }
    session::AuthMethod => AuthMethod {
        PublicKey => PublicKey, Certificate => Certificate, Password => Password,
        KeyboardInteractive => KeyboardInteractive, HostBased => HostBased,
        Gssapi => Gssapi, Unknown => Unspecified,
    }
    session::Evidence => Evidence {
        SshdMonitor => SshdMonitor, ProcessUid => ProcessUid,
        UntrustedServer => UntrustedServer, None => Unspecified,
    }
    session::Confidence => Confidence {
        High => High, Medium => Medium, Low => Low, None => Unspecified,
    }
    session::GrantStatus => GrantStatus {
        Granted => Granted, Ungranted => Ungranted, Expired => Expired,
        Ambiguous => Ambiguous, Revoked => Revoked,
    }
    session::Verdict => Verdict {
        Open => Open, Complete => Complete, Lossy => Lossy, Interrupted => Interrupted,
    }
    event::EndReason => EndReason {
        Exited => Exited, Killed => Killed, Disconnected => Disconnected, Unknown => Unknown,
        GrantOver => GrantOver, ServerKilled => ServerKilled, HostReboot => HostReboot,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_both_ways() {
        for text in [
            "2026-11-21T12:46:41.123456789Z",
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59.25Z",
        ] {
            let time: Timestamp = text.parse().unwrap();
            let message = timestamp(time);
            assert!((0..1_000_000_000).contains(&message.nanos));
            assert_eq!(from_timestamp(&message), Some(time));
        }
        for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (i64::MAX, 0)] {
            let message = prost_types::Timestamp { seconds, nanos };
            assert_eq!(from_timestamp(&message), None);
        }
    }

    #[test]
    fn the_longest_duration_fits() {
        assert_eq!(
            duration(u64::MAX),
            prost_types::Duration {
                seconds: 18_446_744_073,
                nanos: 709_551_615
            }
        );
    }

    #[test]
    fn a_session_is_active_until_it_has_an_end() {
        let mut session = session::Session {
            session_id: Uuid::from_u128(7),
            ..Default::default()
        };
        let message = v1::Session::from(&session);
        assert_eq!(
            message.name,
            "sessions/00000000-0000-0000-0000-000000000007"
        );
        assert_eq!(message.state(), v1::SessionState::Active);
        assert_eq!(message.verdict(), v1::Verdict::Open);
        assert_eq!(message.recording, None);
        session.end_time = Some(Timestamp::UNIX_EPOCH);
        session.end_reason = Some(event::EndReason::Disconnected);
        session.exit_code = Some(0);
        let message = v1::Session::from(&session);
        assert_eq!(message.state(), v1::SessionState::Closed);
        assert_eq!(message.end_reason(), v1::EndReason::Disconnected);
        assert_eq!(message.exit_code, Some(0));
        assert_eq!(message.signal, None);
    }

    #[test]
    fn only_execs_and_the_exits_of_execs_are_reported() {
        let event = |body| Event {
            seq: 9,
            time: Timestamp::UNIX_EPOCH,
            boot_ns: 0,
            body,
        };
        let exit = |exec_seq| {
            event(event::Body::Exit(event::Exit {
                pid: 1,
                exec_seq,
                status: event::ExitStatus {
                    exit_code: Some(3),
                    signal: None,
                },
                duration_ns: 1_500_000_000,
            }))
        };
        assert_eq!(report(Uuid::nil(), &exit(None)), None);
        assert_eq!(
            report(Uuid::nil(), &exit(Some(4))).and_then(|report| report.fact),
            Some(v1::report::Fact::CommandEnd(v1::CommandEndReport {
                session_id: Uuid::nil().to_string(),
                seq: 4,
                exit_code: Some(3),
                signal: None,
                duration_ns: 1_500_000_000,
            }))
        );
    }
}
