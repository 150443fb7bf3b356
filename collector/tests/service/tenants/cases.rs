//! What is asked of each method.

use auditty_proto::v1;
use prost::Message;
use prost_types::Timestamp;

use self::Kind::{Followed, Lasting, Passing};
use super::Tenant;
use crate::{common::session_id, grants::grant};

/// What becomes of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It stays as it is while nobody changes anything.
    Lasting,
    /// It has times or counts of its own.
    Passing,
    /// It goes on.
    Followed,
}

pub(super) struct Case {
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    /// Asks for everything that a caller of this tenant sees.
    pub(super) plain: Option<Ask>,
    /// Asks for something of this tenant's by its name.
    pub(super) named: Option<Ask>,
    /// Something of this tenant's that it sees in the answers.
    pub(super) shows: fn(&Tenant) -> String,
}

type Ask = fn(&Tenant) -> Vec<u8>;

macro_rules! case {
    ($path:literal, $kind:expr, plain: $plain:expr, named: $named:expr, shows: $shows:expr) => {
        Case {
            path: concat!("/auditty.v1.", $path),
            kind: $kind,
            plain: $plain,
            named: $named,
            shows: $shows,
        }
    };
}

/// Of a message's defaults.
const ALL: Option<Ask> = Some(|_| Vec::new());

fn nothing(_: &Tenant) -> String {
    String::new()
}

fn user(tenant: &Tenant) -> String {
    tenant.its("user")
}

fn its_session(tenant: &Tenant) -> String {
    session_id(tenant.session)
}

fn session_name(tenant: &Tenant) -> String {
    format!("sessions/{}", its_session(tenant))
}

fn grant_name(tenant: &Tenant) -> String {
    format!("grants/{}", tenant.its("grant"))
}

pub(super) const CASES: &[Case] = &[
    case!("SessionService/ListSessions", Lasting, plain: ALL, named: Some(|of| {
        let filter = format!("user = \"{}\"", user(of));
        v1::ListSessionsRequest { filter, ..Default::default() }.encode_to_vec()
    }), shows: user),
    case!("SessionService/GetSession", Lasting, plain: None, named: Some(|of| {
        v1::GetSessionRequest { name: session_name(of) }.encode_to_vec()
    }), shows: user),
    case!("SessionService/WatchSessions", Followed, plain: ALL, named: None, shows: |of| {
        session_id(of.later)
    }),
    case!("SessionService/TailSession", Passing, plain: None, named: Some(|of| {
        v1::TailSessionRequest { name: session_name(of), ..Default::default() }.encode_to_vec()
    }), shows: user),
    case!("SessionService/ListCommands", Lasting, plain: Some(|_| {
        v1::ListCommandsRequest {
            parent: "sessions/-".into(),
            filter: "command_line : \"secret\"".into(),
            ..Default::default()
        }
        .encode_to_vec()
    }), named: Some(|of| {
        v1::ListCommandsRequest { parent: session_name(of), ..Default::default() }.encode_to_vec()
    }), shows: |of| of.its("secret")),
    case!("SessionService/ListActivities", Lasting, plain: None, named: Some(|of| {
        v1::ListActivitiesRequest { parent: session_name(of), ..Default::default() }
            .encode_to_vec()
    }), shows: its_session),
    case!("HostService/ListHosts", Passing, plain: ALL, named: None, shows: |of| of.its("host")),
    case!("HostService/GetHost", Passing, plain: None, named: Some(|of| {
        v1::GetHostRequest {
            name: format!("hosts/{}", of.its("host")),
            tenant: Some(of.name.into()),
        }
        .encode_to_vec()
    }), shows: |of| of.its("host")),
    case!("AuditService/ListAuditRecords", Passing, plain: ALL, named: None, shows: |of| {
        of.name.to_owned()
    }),
    case!("EvidenceService/ListReceipts", Lasting, plain: ALL, named: Some(|of| {
        let (parent, host_id) = (session_name(of), of.its("host"));
        v1::ListReceiptsRequest { parent, host_id, ..Default::default() }.encode_to_vec()
    }), shows: its_session),
    case!("EvidenceService/GetCollectorKey", Lasting, plain: ALL, named: None, shows: nothing),
    case!("EvidenceService/ListHostKeys", Lasting, plain: ALL, named: Some(|of| {
        v1::ListHostKeysRequest { host_id: of.its("host"), ..Default::default() }.encode_to_vec()
    }), shows: Tenant::fingerprint),
    case!("EvidenceService/AcceptHostKey", Passing, plain: None, named: Some(|of| {
        let (host_id, fingerprint) = (of.its("host"), of.fingerprint());
        v1::AcceptHostKeyRequest { host_id, fingerprint }.encode_to_vec()
    }), shows: nothing),
    case!("EvidenceService/ReportFindings", Passing, plain: None, named: Some(|of| {
        let finding = v1::Finding {
            kind: "changed".into(),
            object: format!("v1/host={}/anything", of.its("host")),
            detail: String::new(),
        };
        v1::ReportFindingsRequest { findings: vec![finding] }.encode_to_vec()
    }), shows: nothing),
    case!("EvidenceService/ListDigestHeads", Lasting, plain: ALL, named: Some(|of| {
        v1::ListDigestHeadsRequest { host_id: of.its("host"), ..Default::default() }
            .encode_to_vec()
    }), shows: Tenant::digest),
    case!("LoginService/ListFailedLogins", Lasting, plain: ALL, named: Some(|of| {
        let filter = format!("host_id = \"{}\"", of.its("host"));
        v1::ListFailedLoginsRequest { filter, ..Default::default() }.encode_to_vec()
    }), shows: |of| of.its("login")),
    case!("AlertService/ListAlerts", Lasting, plain: ALL, named: Some(|of| {
        let filter = format!("session_id = \"{}\"", its_session(of));
        v1::ListAlertsRequest { filter, ..Default::default() }.encode_to_vec()
    }), shows: its_session),
    case!("AlertService/WatchAlerts", Followed, plain: ALL, named: None, shows: |of| {
        session_id(of.later)
    }),
    case!("CoverageService/GetCoverage", Passing, plain: Some(|_| {
        let start_time = Some(Timestamp { seconds: 1_767_000_000, nanos: 0 });
        v1::GetCoverageRequest { start_time, end_time: None }.encode_to_vec()
    }), named: None, shows: |of| of.its("host")),
    case!("GrantService/CreateGrant", Passing, plain: None, named: Some(|of| {
        let mut grant = grant(&of.its("grant"));
        grant.tenant = of.name.into();
        v1::CreateGrantRequest { grant: Some(grant) }.encode_to_vec()
    }), shows: |of| of.its("grant")),
    case!("GrantService/GetGrant", Lasting, plain: None, named: Some(|of| {
        v1::GetGrantRequest { name: grant_name(of), tenant: None }.encode_to_vec()
    }), shows: |of| of.its("grant")),
    case!("GrantService/ListGrants", Lasting, plain: ALL, named: None, shows: |of| {
        of.its("grant")
    }),
    case!("GrantService/RevokeGrant", Passing, plain: None, named: Some(|of| {
        let (name, reason) = (grant_name(of), "done".into());
        v1::RevokeGrantRequest { name, reason, tenant: None }.encode_to_vec()
    }), shows: |of| of.its("grant")),
    case!("GrantService/WatchGrants", Followed, plain: Some(|of| {
        v1::WatchGrantsRequest { host_id: of.its("host"), ..Default::default() }.encode_to_vec()
    }), named: None, shows: |of| of.its("later")),
    case!("IngestService/Report", Passing, plain: None, named: Some(|of| {
        of.everything().encode_to_vec()
    }), shows: nothing),
];
