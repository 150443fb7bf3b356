//! Logins that came to nothing.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

use crate::{
    common::*,
    hosts::{hear, named, report},
};
use auditty_proto::{
    convert,
    v1::{
        self, LoginOutcome, coverage_service_client::CoverageServiceClient,
        login_service_client::LoginServiceClient,
    },
};
use jiff::{SignedDuration, Timestamp};
use tonic::{Code, transport::Channel};

pub fn failed(id: &str, outcome: LoginOutcome, at: Timestamp, count: u64) -> v1::FailedLogin {
    v1::FailedLogin {
        name: format!("failedLogins/{id}"),
        failed_login_id: id.into(),
        host_id: HOST.into(),
        hostname: "web-1".into(),
        client_address: "192.0.2.7".into(),
        client_port: 4000,
        user: "x from 9.9.9.9 port 22\n\0".into(),
        outcome: outcome.into(),
        methods: vec![v1::FailedMethod {
            method: v1::AuthMethod::Password.into(),
            failure_count: count,
        }],
        start_time: Some(convert::timestamp(at)),
        end_time: Some(convert::timestamp(at)),
        connection_count: count,
        ..Default::default()
    }
}

fn reported(login: v1::FailedLogin) -> v1::Report {
    fact(v1::report::Fact::FailedLogin(v1::FailedLoginReport {
        failed_login: Some(login),
    }))
}

async fn list(
    client: &mut LoginServiceClient<Channel>,
    filter: &str,
    page_size: i32,
) -> Vec<v1::FailedLogin> {
    let mut request = v1::ListFailedLoginsRequest {
        page_size,
        filter: filter.into(),
        ..Default::default()
    };
    let mut all = Vec::new();
    loop {
        let answer = client.list_failed_logins(request.clone()).await.unwrap();
        let answer = answer.into_inner();
        all.extend(answer.failed_logins);
        if answer.next_page_token.is_empty() {
            return all;
        }
        request.page_token = answer.next_page_token;
    }
}

on_both! {

async fn they_are_listed_once_newest_first_and_counted(database) {
    let collector = database.collector().await;
    let now = Timestamp::now();
    let ago = |minutes: i64| now - SignedDuration::from_mins(minutes);
    hear(&collector.store, named("", HOST), ago(60), Some(report(HOST, "a"))).await;
    let logins = [
        failed("boot-1", LoginOutcome::Failed, ago(30), 1),
        failed("boot-2", LoginOutcome::NotTried, ago(20), 1),
        failed("boot-3", LoginOutcome::LoggedIn, ago(10), 1),
        failed("boot-4", LoginOutcome::NotRecorded, ago(5), 2),
        // It has the same start as another one, and grows.
        failed("1-1", LoginOutcome::Failed, ago(20), 3),
        failed("old", LoginOutcome::Failed, ago(600), 1),
    ];
    let grown = failed("1-1", LoginOutcome::Failed, ago(20), 500);
    let mut ingest = collector.ingest().await;
    for again in 0..2 {
        let reports = logins.iter().cloned().map(reported).collect();
        ingest.report(batch(reports)).await.unwrap();
        if again == 0 {
            ingest.report(batch(vec![reported(grown.clone())])).await.unwrap();
        }
    }
    let mut client = LoginServiceClient::new(collector.channel().await);
    let [one, two, three, unrecorded, _, old] = logins;
    let all = [unrecorded, three, two, grown.clone(), one, old];
    assert_eq!(list(&mut client, "", 2).await, all);
    assert_eq!(list(&mut client, "", 1000).await, all);
    let since = format!("start_time >= \"{}\" AND outcome = failed", ago(40));
    assert_eq!(list(&mut client, &since, 0).await, [grown.clone(), all[4].clone()]);
    let crowds = list(&mut client, "connection_count > 2 AND user : \"9.9.9.9\"", 0).await;
    assert_eq!(crowds, [grown]);

    let ask = v1::GetCoverageRequest { start_time: Some(convert::timestamp(ago(50))), end_time: None };
    let answer = CoverageServiceClient::new(collector.channel().await).get_coverage(ask).await;
    let host = answer.unwrap().into_inner().hosts.remove(0);
    assert_eq!((host.failed_login_count, host.unrecorded_login_count), (502, 2));

    let wrong = v1::ListFailedLoginsRequest { filter: "rule = a".into(), ..Default::default() };
    let refused = client.list_failed_logins(wrong).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    collector.stop().await;
}

async fn what_is_malformed_is_named(database) {
    let collector = database.collector().await;
    let mut ingest = collector.ingest().await;
    let good = failed("a", LoginOutcome::Failed, Timestamp::now(), 1);
    let wrong = [
        ("failed_login_id", v1::FailedLogin { failed_login_id: String::new(), ..good.clone() }),
        ("user", v1::FailedLogin { user: "u".repeat(2000), ..good.clone() }),
        ("start_time", v1::FailedLogin { start_time: None, ..good.clone() }),
        ("connection_count", v1::FailedLogin { connection_count: 0, ..good.clone() }),
        ("bytes", v1::FailedLogin { key_fingerprints: vec!["k".repeat(20_000)], ..good.clone() }),
    ];
    for (field, login) in wrong {
        let refused = ingest.report(batch(vec![reported(login)])).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(field), "{refused}");
    }
    // Host and tenant are the reporter's, whatever it says.
    let other = v1::FailedLogin { host_id: "other".into(), tenant: "other".into(), ..good.clone() };
    ingest.report(batch(vec![reported(other)])).await.unwrap();
    let mut client = LoginServiceClient::new(collector.channel().await);
    assert_eq!(list(&mut client, "", 0).await, [good]);
    collector.stop().await;
}

}
