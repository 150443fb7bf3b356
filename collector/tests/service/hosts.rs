//! Hosts: which there are, what they say of themselves, whether they are heard of.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::common::*;
use auditty_collector::{
    Store,
    alerts::note_silent,
    store::{Heard, HostName, Scope},
};
use auditty_proto::{
    convert,
    filter::Filter,
    v1::{self, host_service_client::HostServiceClient},
};
use jiff::{SignedDuration, Timestamp};
use tonic::Code;

const SILENCE: Duration = Duration::from_secs(18);

pub fn named(tenant: &str, host_id: &str) -> HostName {
    HostName {
        tenant: tenant.to_owned(),
        host_id: host_id.to_owned(),
    }
}

pub fn report(host_id: &str, configuration: &str) -> v1::HostReport {
    v1::HostReport {
        host: Some(v1::Host {
            host_id: host_id.to_owned(),
            hostname: format!("name of {host_id}"),
            capture_mode: "tracepoint".into(),
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            ..Default::default()
        }),
        agent_version: "1.2.3".into(),
        configuration_sha256: configuration.into(),
    }
}

/// A host is heard of at a time, and says something of itself or nothing.
pub async fn hear(store: &Store, host: HostName, time: Timestamp, said: Option<v1::HostReport>) {
    let heard = Heard {
        boot_id: "boot".into(),
        time,
        report: said.map(Box::new),
    };
    store
        .note_heard(&BTreeMap::from([(host, heard)]))
        .await
        .unwrap();
}

pub async fn alerts(store: &Store) -> Vec<v1::Alert> {
    let all = Filter::alerts("").unwrap();
    store
        .alerts_after(&Scope::All, &all, 0, 1000)
        .await
        .unwrap()
        .items
}

pub fn kinds(alerts: &[v1::Alert]) -> Vec<v1::AlertKind> {
    alerts.iter().map(v1::Alert::kind).collect()
}

on_both! {

async fn a_host_says_what_it_is_and_is_listed(database) {
    let collector = database.collector().await;
    let hello = v1::ReportRequest {
        host: Some(report("another id is ignored", "a")),
        ..batch(Vec::new())
    };
    let mut ingest = collector.ingest().await;
    ingest.report(hello).await.unwrap();
    // Two sessions go on there, and one has ended.
    let sessions = [3, 6, 4].map(|number| session_report(number, 1));
    ingest.report(batch(sessions.into())).await.unwrap();
    let mut client = HostServiceClient::new(collector.channel().await);
    let begin = Instant::now();
    let host = loop {
        let ask = v1::GetHostRequest { name: format!("hosts/{HOST}"), tenant: None };
        match client.get_host(ask).await {
            Ok(answer) => break answer.into_inner().host.unwrap(),
            Err(status) => assert_eq!(status.code(), Code::NotFound),
        }
        assert!(begin.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(host.name, format!("hosts/{HOST}"));
    assert_eq!((host.state(), host.open_session_count), (v1::HostState::Live, 2));
    assert_eq!((&*host.agent_version, &*host.configuration_sha256), ("1.2.3", "a"));
    let said = host.host.clone().unwrap();
    assert_eq!((&*said.host_id, &*said.boot_id, &*said.capture_mode), (HOST, "boot", "tracepoint"));
    assert_eq!(said.labels["env"], "prod");
    assert!(host.last_heard_time.is_some() && host.first_heard_time.is_some());
    let listed = client.list_hosts(v1::ListHostsRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().hosts, [host]);
    // What is wrong is said, and is no host.
    let nobody = v1::ReportRequest { host: Some(v1::HostReport::default()), ..batch(Vec::new()) };
    let refused = ingest.report(nobody).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("host.host"), "{refused}");
    for name in ["hosts/", "web-1"] {
        let ask = v1::GetHostRequest { name: name.into(), tenant: None };
        assert_eq!(client.get_host(ask).await.unwrap_err().code(), Code::InvalidArgument);
    }
    collector.stop().await;
}

async fn a_host_without_a_word_is_known_by_its_sessions(database) {
    let store = database.open().await;
    hear(&store, named("", HOST), Timestamp::now(), None).await;
    let host = &store.hosts(&Scope::All, None, None, 10).await.unwrap().items[0];
    assert_eq!(host.host.as_ref().unwrap().hostname, "");
    store.close().await;
    let collector = database.collector().await;
    collector.ingest().await.report(batch(vec![session_report(3, 1)])).await.unwrap();
    let host = &collector.store.hosts(&Scope::All, None, None, 10).await.unwrap().items[0];
    assert_eq!(host.host.as_ref().unwrap().hostname, "web-1");
    assert_eq!(host.agent_version, "");
    collector.stop().await;
}

async fn pages_and_tenants(database) {
    let collector = database.collector().await;
    let now = Timestamp::now();
    for (tenant, host) in [("b", "1"), ("a", "1"), ("", "2"), ("a", "3")] {
        hear(&collector.store, named(tenant, host), now, None).await;
    }
    let mut client = HostServiceClient::new(collector.channel().await);
    let mut found = Vec::new();
    let mut ask = v1::ListHostsRequest { page_size: 1, ..Default::default() };
    loop {
        let answer = client.list_hosts(ask.clone()).await.unwrap().into_inner();
        found.extend(answer.hosts.into_iter().map(|host| (host.tenant, host.name)));
        ask.page_token = answer.next_page_token;
        if ask.page_token.is_empty() {
            break;
        }
    }
    let expected = [("a", "1"), ("b", "1"), ("", "2"), ("a", "3")];
    let expected = expected.map(|(tenant, id)| (tenant.to_owned(), format!("hosts/{id}")));
    assert_eq!(found, expected);
    let of_a = Scope::Tenant("a".into());
    assert_eq!(collector.store.hosts(&of_a, None, None, 10).await.unwrap().items.len(), 2);
    let ask = |tenant: Option<&str>| v1::GetHostRequest {
        name: "hosts/1".into(),
        tenant: tenant.map(str::to_owned),
    };
    let refused = client.get_host(ask(None)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let host = client.get_host(ask(Some("b"))).await.unwrap().into_inner().host.unwrap();
    assert_eq!(host.tenant, "b");
    collector.stop().await;
}

async fn silence_is_noticed_once_and_ends(database) {
    let store = database.open().await;
    let begin = Timestamp::now();
    let at = |seconds: i64| begin + SignedDuration::from_secs(seconds);
    let host = named("", HOST);
    hear(&store, host.clone(), at(0), Some(report(HOST, "a"))).await;
    assert_eq!(note_silent(&store, SILENCE, at(17)).await.unwrap(), 0);
    assert_eq!(note_silent(&store, SILENCE, at(19)).await.unwrap(), 1);
    assert_eq!(note_silent(&store, SILENCE, at(21)).await.unwrap(), 0);
    let silent = store.hosts(&Scope::All, Some(true), None, 10).await.unwrap().items;
    assert_eq!(silent[0].state(), v1::HostState::Silent);
    assert_eq!(silent[0].last_heard_time, Some(convert::timestamp(at(0))));
    assert!(store.hosts(&Scope::All, Some(false), None, 10).await.unwrap().items.is_empty());
    hear(&store, host.clone(), at(40), None).await;
    hear(&store, host.clone(), at(50), None).await;
    assert_eq!(store.hosts(&Scope::All, Some(false), None, 10).await.unwrap().items.len(), 1);
    // The next silence is another one, and so is what is said afterwards.
    assert_eq!(note_silent(&store, SILENCE, at(69)).await.unwrap(), 1);
    hear(&store, host.clone(), at(80), Some(report(HOST, "a"))).await;
    hear(&store, host.clone(), at(81), Some(report(HOST, "b"))).await;
    let told = alerts(&store).await;
    use v1::AlertKind::{HostChanged, HostHeard, HostSilent};
    assert_eq!(kinds(&told), [HostSilent, HostHeard, HostSilent, HostHeard, HostChanged]);
    assert!(told[0].summary.contains("name of host-1"), "{}", told[0].summary);
    assert!(told[1].summary.contains("after 40 s"), "{}", told[1].summary);
    assert!(told[4].summary.contains("configuration"), "{}", told[4].summary);
    assert!(told.iter().all(|alert| alert.host_id == HOST && !alert.alert_id.is_empty()));
    store.close().await;
}

}
