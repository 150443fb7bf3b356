//! Failed logins as reports.

use auditty_proto::convert::timestamp;
use auditty_proto::v1::{self, Report, report::Fact};

use crate::sessions::{FailedLogin, Outcome};

pub(super) fn report(login: &FailedLogin) -> Report {
    let methods = login.tries.failures.iter();
    let methods = methods.map(|(method, count)| v1::FailedMethod {
        method: v1::AuthMethod::from(*method).into(),
        failure_count: *count,
    });
    let address = login.client_address.map(|address| address.to_string());
    let failed_login = v1::FailedLogin {
        name: auditty_proto::names::failed_login_name(&login.id),
        failed_login_id: login.id.clone(),
        hostname: login.hostname.clone(),
        connection_id: login.connection_id.clone().unwrap_or_default(),
        client_address: address.unwrap_or_default(),
        client_port: login.client_port.unwrap_or_default().into(),
        user: login.user.clone(),
        outcome: outcome(login.outcome).into(),
        methods: methods.collect(),
        key_fingerprints: login.tries.keys.clone(),
        start_time: Some(timestamp(login.start)),
        end_time: Some(timestamp(login.end)),
        connection_count: login.connections,
        ..v1::FailedLogin::default()
    };
    Report {
        fact: Some(Fact::FailedLogin(v1::FailedLoginReport {
            failed_login: Some(failed_login),
        })),
    }
}

fn outcome(outcome: Outcome) -> v1::LoginOutcome {
    match outcome {
        Outcome::LoggedIn => v1::LoginOutcome::LoggedIn,
        Outcome::NotTried => v1::LoginOutcome::NotTried,
        Outcome::Failed => v1::LoginOutcome::Failed,
        Outcome::NotRecorded => v1::LoginOutcome::NotRecorded,
    }
}
