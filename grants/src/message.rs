//! Grants as messages of `auditty.v1`.

use auditty_proto::convert::{from_timestamp, timestamp};
use auditty_proto::v1;
use auditty_recording::session::Grant;
use jiff::Timestamp;
use prost_types::Timestamp as Moment;

use crate::{CertificateSelector, GrantRule};

impl GrantRule {
    /// Reads a message, and says what is wrong with it.
    pub fn from_message(message: &v1::AccessGrant) -> Result<Self, String> {
        let grant = message.grant.clone().unwrap_or_default();
        let rule = Self {
            grant: Grant {
                request_id: grant.request_id,
                requester: grant.requester,
                approvers: grant.approvers,
                access_flow: grant.access_flow,
                reason: grant.reason,
                ticket: grant.ticket,
                valid_from: moment("valid_from_time", grant.valid_from_time)?,
                valid_until: moment("valid_until_time", grant.valid_until_time)?,
                revoked_at: moment("revoked_time", grant.revoked_time)?,
            },
            unix_users: message.unix_users.clone(),
            keys: message.keys.clone(),
            certificates: message.certificates.iter().map(Into::into).collect(),
            hosts: message.hosts.clone(),
            host_labels: message.host_labels.clone(),
        };
        match rule.fault() {
            Some(fault) => Err(fault),
            None => Ok(rule),
        }
    }

    /// As a message; what only the collector knows is not in it.
    pub fn to_message(&self) -> v1::AccessGrant {
        v1::AccessGrant {
            grant: Some((&self.grant).into()),
            unix_users: self.unix_users.clone(),
            keys: self.keys.clone(),
            certificates: self.certificates.iter().map(Into::into).collect(),
            hosts: self.hosts.clone(),
            host_labels: self.host_labels.clone(),
            ..v1::AccessGrant::default()
        }
    }
}

impl From<&v1::CertificateSelector> for CertificateSelector {
    fn from(selector: &v1::CertificateSelector) -> Self {
        Self {
            key_id: selector.key_id.clone(),
            serial: selector.serial,
            ca: selector.ca_fingerprint.clone(),
        }
    }
}

impl From<&CertificateSelector> for v1::CertificateSelector {
    fn from(selector: &CertificateSelector) -> Self {
        Self {
            key_id: selector.key_id.clone(),
            serial: selector.serial,
            ca_fingerprint: selector.ca.clone(),
        }
    }
}

fn moment(field: &str, time: Option<Moment>) -> Result<Option<Timestamp>, String> {
    time.map(|time| from_timestamp(&time).ok_or_else(|| format!("`{field}` is no moment")))
        .transpose()
}

/// The message of a moment, for those who set one.
pub fn at(moment: Timestamp) -> Moment {
    timestamp(moment)
}

#[cfg(test)]
mod tests {
    use super::GrantRule;
    use crate::file::parse;

    #[test]
    fn a_grant_survives_both_ways() {
        let text = r#"{"request_id": "R", "approvers": ["b"], "unix_users": ["u"],
            "keys": ["SHA256:k"], "certificates": [{"serial": 7}], "hosts": ["web-*"],
            "host_labels": {"env": "prod"}, "valid_until": "2026-01-01T00:00:00Z"}"#;
        let rule = parse("a.json".as_ref(), text).unwrap().remove(0);
        assert_eq!(GrantRule::from_message(&rule.to_message()), Ok(rule));
    }

    #[test]
    fn a_message_is_checked_as_a_file_is() {
        let fault = GrantRule::from_message(&Default::default()).unwrap_err();
        assert!(fault.contains("request_id"), "{fault}");
    }
}
