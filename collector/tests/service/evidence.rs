//! Receipts for chain heads, and the key that signs them.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

use std::{fs, os::unix::fs::PermissionsExt};

use crate::{common::*, hosts};
use auditty_collector::Countersigner;
use auditty_proto::v1::{self, alert_service_client::AlertServiceClient};
use auditty_recording::{
    digest::Digest,
    host::HostSigner,
    receipt::SignedReceipt,
    signature::{PublicKey, SigningKey},
};
use jiff::Timestamp;
use tonic::Code;

/// A report of a session that has so many chunks in the store.
fn report(number: u64, revision: u64, chunks: u32, head: &[u8]) -> v1::Report {
    let mut session = session(number);
    session.recording = Some(v1::Recording {
        uri: format!(
            "s3://bucket/audit/v1/host={HOST}/date=2026-01-01/session={}/",
            session.session_id
        ),
        chunk_count: chunks,
        stored_byte_count: 1,
        chain_head: Digest::of(head).to_string(),
        ..v1::Recording::default()
    });
    changed_report(session, revision)
}

async fn send(collector: &Collector, reports: Vec<v1::Report>) {
    collector
        .ingest()
        .await
        .report(batch(reports))
        .await
        .unwrap();
}

/// Alerts that something reported contradicts what was before, newest first.
async fn conflicts(collector: &Collector) -> Vec<v1::Alert> {
    let mut client = AlertServiceClient::new(collector.channel().await);
    let filter = "kind = evidence_conflict".into();
    let ask = v1::ListAlertsRequest {
        filter,
        ..Default::default()
    };
    client.list_alerts(ask).await.unwrap().into_inner().alerts
}

async fn receipts(collector: &Collector, parent: &str, host_id: &str) -> Vec<v1::Receipt> {
    let mut all = Vec::new();
    let mut request = v1::ListReceiptsRequest {
        parent: parent.to_owned(),
        host_id: host_id.to_owned(),
        page_size: 2,
        page_token: String::new(),
    };
    let mut client = collector.evidence().await;
    loop {
        let answer = client.list_receipts(request.clone()).await;
        let page = answer.unwrap().into_inner();
        all.extend(page.receipts);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

on_both! {
    async fn every_new_chain_head_gets_one_receipt(database) {
        let collector = database.collector().await;
        send(&collector, vec![report(1, 1, 1, b"a"), report(2, 1, 1, b"x")]).await;
        // The same again, an older one late, and two more.
        send(&collector, vec![report(1, 1, 1, b"a"), report(1, 3, 3, b"c")]).await;
        send(&collector, vec![report(1, 2, 2, b"b")]).await;
        let name = format!("sessions/{}", session_id(1));
        let found = receipts(&collector, &name, "").await;
        let chunks: Vec<_> = found.iter().map(|receipt| receipt.chunk_count).collect();
        assert_eq!(chunks, [1, 2, 3]);
        assert_eq!(receipts(&collector, "", HOST).await.len(), 4);
        assert_eq!(receipts(&collector, "", "host-2").await.len(), 0);

        let mut client = collector.evidence().await;
        let answer = client.get_collector_key(v1::GetCollectorKeyRequest {}).await;
        let key: PublicKey = answer.unwrap().into_inner().public_key.parse().unwrap();
        let signed = SignedReceipt {
            json: found[2].json.clone(),
            signature: found[2].signature.clone(),
        };
        let receipt = signed.verify(&key).unwrap();
        assert_eq!((receipt.chunks, receipt.chain_head), (3, Digest::of(b"c")));
        assert_eq!(receipt.recording.session_id().to_string(), session_id(1));

        // Who rewrites leaves two heads for one number of chunks.
        send(&collector, vec![report(1, 4, 3, b"other")]).await;
        assert_eq!(receipts(&collector, &name, "").await.len(), 4);
        let told = conflicts(&collector).await;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].session_id, session_id(1));
        assert!(told[0].summary.contains("first 3 chunks"), "{}", told[0].summary);
        // What names no folder of the session has no receipt.
        let mut foreign = report(3, 1, 1, b"a");
        if let Some(v1::report::Fact::Session(fact)) = &mut foreign.fact {
            let recording = fact.session.as_mut().unwrap().recording.as_mut().unwrap();
            recording.uri = recording.uri.replace(HOST, "host-2");
        }
        send(&collector, vec![foreign]).await;
        assert_eq!(receipts(&collector, "", "").await.len(), 5);
        let wrong = v1::ListReceiptsRequest { parent: "x".to_owned(), ..Default::default() };
        let refused = client.list_receipts(wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        collector.stop().await;
    }

    async fn a_recording_that_ends_with_less_than_was_reported_is_an_alert(database) {
        let collector = database.collector().await;
        let ended = |number: u64, revision: u64, chunks: u32, head: &[u8]| {
            let mut report = report(number, revision, chunks, head);
            if let Some(v1::report::Fact::Session(fact)) = &mut report.fact {
                fact.session.as_mut().unwrap().state = v1::SessionState::Closed.into();
            }
            report
        };
        let open = |number: u64, revision: u64, chunks: u32, head: &[u8]| {
            let mut report = report(number, revision, chunks, head);
            if let Some(v1::report::Fact::Session(fact)) = &mut report.fact {
                fact.session.as_mut().unwrap().state = v1::SessionState::Active.into();
            }
            report
        };
        // It ends before the last of it is stored; older news come again, and late.
        send(&collector, vec![open(1, 1, 1, b"a"), open(1, 3, 3, b"c")]).await;
        send(&collector, vec![ended(1, 5, 4, b"d"), ended(1, 4, 3, b"c")]).await;
        send(&collector, vec![ended(1, 6, 5, b"e"), ended(1, 2, 2, b"b")]).await;
        // An older state of one that goes on: what follows will show.
        send(&collector, vec![open(2, 1, 2, b"y"), open(2, 2, 1, b"x")]).await;
        assert_eq!(conflicts(&collector).await, []);
        // The same heads, but the end is gone.
        send(&collector, vec![ended(1, 7, 3, b"c")]).await;
        send(&collector, vec![ended(1, 8, 2, b"b"), ended(2, 3, 1, b"x")]).await;
        let told = conflicts(&collector).await;
        let of: Vec<_> = told.iter().map(|alert| alert.session_id.clone()).collect();
        assert_eq!(of, [session_id(2), session_id(1)]);
        let words = "ended with 3 chunks, and had reported 5";
        assert!(told[1].summary.contains(words), "{}", told[1].summary);
        collector.stop().await;
    }

    async fn the_first_key_of_a_host_counts_and_what_it_certifies(database) {
        use v1::KeyStanding::{Accepted, Certified, First, Uncertified};
        let collector = database.collector().await;
        let first = begin();
        let second = next(&first);
        send(&collector, vec![key(&first)]).await;
        send(&collector, vec![key(&first), key(&second)]).await;
        assert_eq!(standings(&collector).await, [First, Certified]);
        // A copy of the first key certifies another second one.
        let copy = next(&first);
        send(&collector, vec![key(&copy)]).await;
        // The host is set up again, and goes on.
        let again = begin();
        let later = next(&again);
        send(&collector, vec![key(&again), key(&later)]).await;
        send(&collector, vec![key(&next(&second))]).await;
        let mut found = standings(&collector).await;
        found.sort();
        assert_eq!(found, [First, Certified, Certified, Uncertified, Uncertified, Uncertified]);
        let accept = |host: &str, fingerprint: String| v1::AcceptHostKeyRequest {
            host_id: host.to_owned(),
            fingerprint,
        };
        let fingerprint = again.entry().fingerprint.clone();
        let mut client = collector.evidence().await;
        let wrong = accept("host-2", fingerprint.clone());
        let refused = client.accept_host_key(wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        let fork = accept(HOST, copy.entry().fingerprint.clone());
        let refused = client.accept_host_key(fork).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let accepted = client.accept_host_key(accept(HOST, fingerprint)).await.unwrap();
        assert_eq!(accepted.into_inner().accepted_count, 2);
        send(&collector, vec![key(&next(&later))]).await;
        let mut found = standings(&collector).await;
        found.sort();
        assert_eq!(found, [First, Certified, Certified, Certified, Certified, Accepted, Uncertified]);
        // What is no entry of this host's is refused, and the batch with it.
        let mut ingest = collector.ingest().await;
        let foreign = HostSigner::begin("host-2", SigningKey::generate().unwrap(), now()).unwrap();
        let mut changed = key(&begin());
        if let Some(v1::report::Fact::HostKey(report)) = &mut changed.fact {
            report.json = report.json.replace("not_before", "not_Before");
        }
        let mut unsigned = key(&begin());
        if let Some(v1::report::Fact::HostKey(report)) = &mut unsigned.fact {
            report.signature = String::new();
        }
        for wrong in [key(&foreign), changed, unsigned] {
            let refused = ingest.report(batch(vec![wrong])).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
        }
        assert_eq!(standings(&collector).await.len(), 7);
        collector.stop().await;
    }

    async fn the_newest_digest_of_a_chain_is_known_and_every_fork(database) {
        let collector = database.collector().await;
        let head = |log: &str, number: u64, content: &[u8]| fact(v1::report::Fact::DigestHead(
            v1::DigestHeadReport {
                log: log.to_owned(),
                number,
                sha256: Digest::of(content).to_string(),
            },
        ));
        let (log, other) = ("0123456789abcdef", "fedcba9876543210");
        let first = vec![head(log, 0, b"0"), head(log, 1, b"1"), head(other, 7, b"7")];
        send(&collector, first).await;
        send(&collector, vec![head(log, 2, b"2"), head(log, 1, b"1"), head(log, 2, b"2")]).await;
        let mut client = collector.evidence().await;
        let request = v1::ListDigestHeadsRequest { page_size: 1, ..Default::default() };
        let page = client.list_digest_heads(request.clone()).await.unwrap().into_inner();
        assert_eq!((page.heads.len(), page.heads[0].number), (1, 2));
        let request = v1::ListDigestHeadsRequest { page_token: page.next_page_token, ..request };
        let page = client.list_digest_heads(request).await.unwrap().into_inner();
        assert_eq!((page.heads[0].log.as_str(), page.next_page_token), (other, String::new()));
        // What is said again is no news, also when it is old.
        assert_eq!(conflicts(&collector).await, []);
        send(&collector, vec![head(log, 2, b"two"), head(log, 1, b"1")]).await;
        let told = conflicts(&collector).await;
        assert_eq!(told.len(), 1);
        let chain = format!("two heads for digest 2 of its chain {log}");
        assert!(told[0].summary.contains(&chain), "{}", told[0].summary);
        let request = v1::ListDigestHeadsRequest { host_id: HOST.to_owned(), ..Default::default() };
        let page = client.list_digest_heads(request).await.unwrap().into_inner();
        let numbers: Vec<_> = page.heads.iter().map(|head| head.number).collect();
        assert_eq!(numbers, [2, 2, 7]);
        // A chain that went on from an older state, by a digest that is not the one
        // that is known.
        send(&collector, vec![head(other, 8, b"8"), head(other, 3, b"three")]).await;
        let told = conflicts(&collector).await;
        assert_eq!(told.len(), 2);
        let chain = format!("two heads for digest 3 of its chain {other}");
        assert!(told[0].summary.contains(&chain), "{}", told[0].summary);
        let refused = collector.ingest().await.report(batch(vec![head("x", 1, b"")])).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
        collector.stop().await;
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}

fn begin() -> HostSigner {
    HostSigner::begin(HOST, SigningKey::generate().unwrap(), now()).unwrap()
}

fn next(signer: &HostSigner) -> HostSigner {
    signer
        .succeed(SigningKey::generate().unwrap(), now())
        .unwrap()
}

pub fn key(signer: &HostSigner) -> v1::Report {
    let entry = &signer.state().entry;
    fact(v1::report::Fact::HostKey(v1::HostKeyReport {
        json: entry.json.clone(),
        signature: entry.signature.clone(),
    }))
}

async fn standings(collector: &Collector) -> Vec<v1::KeyStanding> {
    let request = v1::ListHostKeysRequest::default();
    let mut client = collector.evidence().await;
    let listed = client.list_host_keys(request).await.unwrap().into_inner();
    listed.keys.iter().map(v1::HostKey::standing).collect()
}

#[test]
fn the_key_is_made_once_for_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("collector.key");
    let made = Countersigner::open(&path).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(Countersigner::open(&path).unwrap().public(), made.public());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = Countersigner::open(&path).unwrap_err().to_string();
    assert!(refused.contains("chmod 600"), "{refused}");
}

on_both! {

async fn what_a_verification_finds_is_an_alert(database) {
    let collector = database.collector().await;
    let told = hosts::report(HOST, "a");
    hosts::hear(&collector.store, hosts::named("", HOST), Timestamp::now(), Some(told)).await;
    let session = session_id(1);
    let folder = format!("v1/host={HOST}/date=2026-01-01/session={session}/");
    let finding = |kind: &str, object: String| v1::Finding {
        kind: kind.into(),
        object,
        detail: "its SHA-256 is another one".into(),
    };
    let findings = vec![
        finding("changed", format!("{folder}000000.jsonl.zst")),
        // The same again, of the same recording.
        finding("changed", format!("{folder}000001.jsonl.zst")),
        finding("missing", folder.clone()),
        finding("rolled_back", format!("v1/host={HOST}/digests/x.json")),
        finding("missing", "v1/host=never%2Fheard/keys/x.json".into()),
    ];
    let mut evidence = collector.evidence().await;
    for _ in 0..2 {
        let findings = findings.clone();
        evidence.report_findings(v1::ReportFindingsRequest { findings }).await.unwrap();
    }
    let mut client = AlertServiceClient::new(collector.channel().await);
    let ask = v1::ListAlertsRequest { filter: "kind = verification_failed".into(), ..Default::default() };
    let mut alerts = client.list_alerts(ask).await.unwrap().into_inner().alerts;
    alerts.sort_by_key(|alert| alert.revision);
    let found: Vec<_> = alerts.iter().map(|a| (&*a.host_id, &*a.session_id)).collect();
    assert_eq!(found, [(HOST, &*session), (HOST, &*session), (HOST, ""), ("never/heard", "")]);
    let first = &alerts[0];
    assert!(first.summary.contains("000000.jsonl.zst is changed: its SHA-256"), "{first:?}");
    assert_eq!(first.hostname, format!("name of {HOST}"));

    for wrong in [
        Vec::new(),
        vec![finding("changed", "elsewhere".into())],
        vec![finding("Changed!", folder.clone())],
        vec![finding("changed", folder + &"x".repeat(5000))],
    ] {
        let request = v1::ReportFindingsRequest { findings: wrong };
        let refused = evidence.report_findings(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().starts_with("findings"), "{refused}");
    }
    collector.stop().await;
}

}
