//! Names people type and read: enum values without their prefix, and resource
//! names.

use uuid::Uuid;

use crate::v1;

/// An enumeration of the schema, whose values have short names: `active` for
/// `SESSION_STATE_ACTIVE`.
pub trait ShortName: Copy {
    /// What every full name of the enumeration begins with.
    const PREFIX: &'static str;

    /// Full name, as in the schema.
    fn full_name(self) -> &'static str;

    /// Short name, lower case.
    fn short_name(self) -> String {
        short(Self::PREFIX, self.full_name())
    }
}

/// Cuts `prefix` off a full name and puts the rest in lower case.
pub(crate) fn short(prefix: &str, full: &str) -> String {
    full.strip_prefix(prefix)
        .unwrap_or(full)
        .to_ascii_lowercase()
}

macro_rules! short_names {
    ($($kind:ident $prefix:literal,)*) => {$(
        impl ShortName for v1::$kind {
            const PREFIX: &'static str = $prefix;

            fn full_name(self) -> &'static str {
                self.as_str_name()
            }
        }
    )*};
}

short_names! {
    SessionKind "SESSION_KIND_",
    SessionState "SESSION_STATE_",
    AuthMethod "AUTH_METHOD_",
    Evidence "EVIDENCE_",
    Confidence "CONFIDENCE_",
    GrantStatus "GRANT_STATUS_",
    EndReason "END_REASON_",
    Verdict "VERDICT_",
    ActivityKind "ACTIVITY_KIND_",
    FileOperation "FILE_OPERATION_",
    TransferProtocol "TRANSFER_PROTOCOL_",
    TransferDirection "TRANSFER_DIRECTION_",
    ConnectRole "CONNECT_ROLE_",
    LinkRelation "LINK_RELATION_",
    HandoffTo "HANDOFF_TO_",
    Role "ROLE_",
    KeyStanding "KEY_STANDING_",
    HostState "HOST_STATE_",
    AlertKind "ALERT_KIND_",
    LoginOutcome "LOGIN_OUTCOME_",
}

/// Resource name of a session.
pub fn session_name(session_id: impl std::fmt::Display) -> String {
    format!("sessions/{session_id}")
}

/// Stands for all sessions where a session's resource name is expected
/// (AIP-159).
pub const ALL_SESSIONS: &str = "sessions/-";

/// Resource name of a grant.
pub fn grant_name(request_id: &str) -> String {
    format!("grants/{request_id}")
}

/// Resource name of a host.
pub fn host_name(host_id: &str) -> String {
    format!("hosts/{host_id}")
}

/// Resource name of a failed login.
pub fn failed_login_name(failed_login_id: &str) -> String {
    format!("failedLogins/{failed_login_id}")
}

/// Resource name of a command.
pub fn command_name(session_id: impl std::fmt::Display, seq: u64) -> String {
    format!("sessions/{session_id}/commands/{seq}")
}

/// Resource name of an activity.
pub fn activity_name(session_id: impl std::fmt::Display, seq: u64) -> String {
    format!("sessions/{session_id}/activities/{seq}")
}

/// The id in a session's resource name; `None` unless it is
/// `sessions/{lower-case hyphenated UUID}`.
pub fn parse_session_name(name: &str) -> Option<Uuid> {
    parse_session_id(name.strip_prefix("sessions/")?)
}

/// A session id in the one spelling it has: hyphenated and in lower case.
pub fn parse_session_id(id: &str) -> Option<Uuid> {
    let uuid = Uuid::try_parse(id).ok()?;
    (uuid.to_string() == id).then_some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_drop_the_prefix() {
        assert_eq!(v1::SessionState::Active.short_name(), "active");
        assert_eq!(v1::AuthMethod::PublicKey.short_name(), "public_key");
        assert_eq!(v1::Evidence::SshdMonitor.short_name(), "sshd_monitor");
    }

    #[test]
    fn session_names_have_one_spelling() {
        let id = "0199e0a4-7b1c-7000-8000-0123456789ab";
        assert_eq!(
            parse_session_name(&session_name(id)).map(|id| id.to_string()),
            Some(id.to_owned())
        );
        for wrong in [
            id.to_owned(),
            format!("sessions/{}", id.to_uppercase()),
            format!("sessions/{}", id.replace('-', "")),
            format!("sessions/{{{id}}}"),
            format!("sessions/{id}/"),
            "sessions/".to_owned(),
        ] {
            assert_eq!(parse_session_name(&wrong), None, "{wrong}");
        }
    }
}
