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
        ..Default::default()
    }
}

fn every_host() -> Filter<v1::KnownHost> {
    Filter::hosts("").unwrap()
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
    let host = &store.hosts(&Scope::All, &every_host(), None, None, 10).await.unwrap().items[0];
    assert_eq!(host.host.as_ref().unwrap().hostname, "");
    store.close().await;
    let collector = database.collector().await;
    collector.ingest().await.report(batch(vec![session_report(3, 1)])).await.unwrap();
    let host = &collector.store.hosts(&Scope::All, &every_host(), None, None, 10).await.unwrap().items[0];
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
    assert_eq!(collector.store.hosts(&of_a, &every_host(), None, None, 10).await.unwrap().items.len(), 2);
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
    let silent = store.hosts(&Scope::All, &every_host(), Some(true), None, 10).await.unwrap().items;
    assert_eq!(silent[0].state(), v1::HostState::Silent);
    assert_eq!(silent[0].last_heard_time, Some(convert::timestamp(at(0))));
    assert!(store.hosts(&Scope::All, &every_host(), Some(false), None, 10).await.unwrap().items.is_empty());
    hear(&store, host.clone(), at(40), None).await;
    hear(&store, host.clone(), at(50), None).await;
    assert_eq!(store.hosts(&Scope::All, &every_host(), Some(false), None, 10).await.unwrap().items.len(), 1);
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

async fn hosts_and_alerts_are_found_by_the_labels_of_the_host(database) {
    let collector = database.collector().await;
    let labelled = |id: &str, labels: &[(&str, &str)]| {
        let mut said = report(id, "a");
        let pairs = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        said.host.as_mut().unwrap().labels = pairs.collect();
        said
    };
    let begin = Timestamp::now();
    let at = |seconds: i64| begin + SignedDuration::from_secs(seconds);
    let store = &collector.store;
    for (tenant, id, labels) in [
        ("", "1", &[("env", "prod"), ("zone", "a")][..]),
        ("", "2", &[("env", "prod"), ("zone", "b")]),
        ("", "3", &[("env", "test")]),
        ("other", "3", &[("env", "prod")]),
        ("", "4", &[]),
    ] {
        hear(store, named(tenant, id), at(0), Some(labelled(id, labels))).await;
    }
    let mut client = HostServiceClient::new(collector.channel().await);
    let mut find = async |filter: &str| {
        let ask = v1::ListHostsRequest { filter: filter.into(), ..Default::default() };
        let hosts = client.list_hosts(ask).await.unwrap().into_inner().hosts;
        let id = |host: &v1::KnownHost| host.host.as_ref().unwrap().host_id.clone() + &host.tenant;
        hosts.iter().map(id).collect::<Vec<_>>()
    };
    assert_eq!(find("labels.env = prod").await, ["1", "2", "3other"]);
    assert_eq!(find("labels.env = prod AND labels.zone != b").await, ["1", "3other"]);
    assert_eq!(find("label : \"ZONE=\"").await, ["1", "2"]);
    assert_eq!(find("labels.env != prod").await, ["3", "4"]);
    assert_eq!(find("hostname = \"name of 2\" AND capture_mode = tracepoint").await, ["2"]);
    assert_eq!(find("agent_version != 1.2.3").await, [""; 0]);
    // A host that says nothing of itself is what it was, and one that says something
    // else is that.
    hear(store, named("", "1"), at(5), None).await;
    hear(store, named("", "2"), at(5), Some(labelled("2", &[("env", "lab")]))).await;
    assert_eq!(find("labels.env = prod").await, ["1", "3other"]);
    assert_eq!(find("labels.env = lab").await, ["2"]);
    let wrong = v1::ListHostsRequest { filter: "labels.env : x".into(), ..Default::default() };
    assert_eq!(client.list_hosts(wrong).await.unwrap_err().code(), Code::InvalidArgument);

    // An alert has the labels that the host had then.
    note_silent(store, SILENCE, at(60)).await.unwrap();
    hear(store, named("", "1"), at(61), Some(labelled("1", &[("env", "gone")]))).await;
    let prod = Filter::alerts("labels.env = prod AND kind = host_silent").unwrap();
    let found = store.alerts(&Scope::All, &prod, None, 10).await.unwrap().items;
    let mut ids: Vec<_> = found.iter().map(|alert| alert.host_id.as_str()).collect();
    ids.sort();
    assert_eq!(ids, ["1", "3"]);
    assert!(found.iter().all(|alert| prod.matches(alert) && alert.labels["env"] == "prod"));
    let other = Filter::alerts("labels.env != prod AND kind = host_silent").unwrap();
    let others = store.alerts(&Scope::All, &other, None, 10).await.unwrap().items;
    assert_eq!(others.len(), 3);
    assert!(others.iter().all(|alert| other.matches(alert)));
    collector.stop().await;
}

async fn what_is_in_no_recording_is_an_alert_each_time_it_doubles(database) {
    let store = database.open().await;
    let begin = Timestamp::now();
    let said = |sessions: u64, losses: u64, bytes: u64| {
        let start_time = Some(convert::timestamp(begin));
        let counts = v1::UnrecordedCounts {
            start_time, sessions, losses, bytes, ..Default::default()
        };
        Some(v1::HostReport { unrecorded: Some(counts), ..report(HOST, "a") })
    };
    let host = named("", HOST);
    // Bytes alone are none: sshd's own are among them.
    let told = [(0, 0, 9), (1, 0, 9), (1, 0, 9), (2, 0, 9), (2, 1, 9), (2, 2, 9)];
    for (seconds, (sessions, losses, bytes)) in (2..).zip(told) {
        let at = begin + SignedDuration::from_secs(seconds);
        hear(&store, host.clone(), at, said(sessions, losses, bytes)).await;
    }
    let known = store.hosts(&Scope::All, &every_host(), None, None, 10).await.unwrap().items;
    let unrecorded = known[0].unrecorded.unwrap();
    assert_eq!((unrecorded.sessions, unrecorded.losses, unrecorded.bytes), (2, 2, 9));
    let told = alerts(&store).await;
    assert_eq!(kinds(&told), [v1::AlertKind::HostNotRecorded; 3]);
    let words: Vec<_> = told.iter().map(|told| told.summary.split(" since").next()).collect();
    let expected = ["1 session", "2 sessions", "2 sessions, 2 losses"];
    for (words, expected) in words.into_iter().flatten().zip(expected) {
        assert!(words.ends_with(&format!(" has {expected}")), "{words}");
    }
    store.close().await;
}

async fn a_hook_that_stops_is_an_alert_until_it_is_mended(database) {
    use v1::AlertKind::{HookMended, HookStopped};
    let store = database.open().await;
    let begin = Timestamp::now();
    let at = |seconds: i64| begin + SignedDuration::from_secs(seconds);
    let stop = |hook: &str, stopped: i64, mended: Option<i64>| v1::StoppedHook {
        hook: hook.into(),
        reason: "it was detached".into(),
        stopped_time: Some(convert::timestamp(at(stopped))),
        mended_time: mended.map(|mended| convert::timestamp(at(mended))),
    };
    let said = |stops: Vec<v1::StoppedHook>| {
        Some(v1::HostReport { stopped_hooks: stops, ..report(HOST, "a") })
    };
    let host = named("", HOST);
    let first = vec![stop("tracepoint a:b", 1, None), stop("tracepoint c:d", 1, None)];
    for seconds in [2, 12] {
        hear(&store, host.clone(), at(seconds), said(first.clone())).await;
    }
    let known = store.hosts(&Scope::All, &every_host(), None, None, 10).await.unwrap().items;
    assert_eq!(known[0].stopped_hooks, first);
    // One is mended; of another one all is told at once.
    let then = vec![
        stop("tracepoint a:b", 1, Some(21)),
        stop("tracepoint c:d", 1, None),
        stop("kprobe e", 20, Some(21)),
    ];
    for seconds in [22, 32] {
        hear(&store, host.clone(), at(seconds), said(then.clone())).await;
    }
    let known = store.hosts(&Scope::All, &every_host(), None, None, 10).await.unwrap().items;
    assert_eq!(known[0].stopped_hooks, then[1..2]);
    let told = alerts(&store).await;
    assert_eq!(kinds(&told), [HookStopped, HookMended, HookStopped, HookMended]);
    let summary = &told[0].summary;
    assert!(summary.contains("tracepoint a:b, tracepoint c:d since"), "{summary}");
    assert!(summary.ends_with("it was detached"), "{summary}");
    assert!(told[1].summary.contains("tracepoint a:b again, after 20 s"), "{}", told[1].summary);
    assert!(told[2].summary.contains("kprobe e"), "{}", told[2].summary);
    assert!(told.iter().all(|alert| alert.labels["env"] == "prod"));
    store.close().await;
}

}
