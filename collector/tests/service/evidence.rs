//! Receipts for chain heads, and the key that signs them.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

use std::{fs, os::unix::fs::PermissionsExt};

use crate::common::*;
use auditty_collector::Countersigner;
use auditty_proto::v1;
use auditty_recording::{digest::Digest, receipt::SignedReceipt, signature::PublicKey};
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
