//! Grants pushed over plain HTTP and TLS, as access platforms do it.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

use std::{fs, net::SocketAddr, sync::Arc};

use crate::{access::Authority, common::*, grants::Client};
use auditty_collector::{
    Access, ListenAddress, Listeners,
    access::{ApiToken, Tls, Tokens},
    webhook::{SecretFile, Secrets, Webhook},
};
use auditty_proto::v1::{
    self, Role, audit_service_client::AuditServiceClient, grant_service_client::GrantServiceClient,
};
use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const SECRET: &str = "a secret of more than thirty-two bytes";

struct Platform {
    http: reqwest::Client,
    url: String,
}

enum By {
    Nobody,
    Token(&'static str),
    Signature(&'static str),
}

impl Platform {
    async fn push(&self, by: By, body: &str) -> (StatusCode, Value) {
        let asked = self.http.post(&self.url).body(body.to_owned());
        let asked = match by {
            By::Nobody => asked,
            By::Token(token) => asked.header("authorization", format!("Bearer {token}")),
            By::Signature(secret) => {
                let time = jiff::Timestamp::now().as_second();
                asked.header("x-auditty-signature", sign(secret, time, body))
            }
        };
        let answer = asked.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap())
    }
}

fn sign(secret: &str, time: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, format!("{time}.{body}").as_bytes());
    let digits = signature.as_ref().iter().map(|byte| format!("{byte:02x}"));
    format!("t={time},v1={}", digits.collect::<String>())
}

fn token(text: &str, role: Role) -> ApiToken {
    ApiToken {
        name: format!("{text}@example.com"),
        roles: vec![role],
        tenant: Some("acme".into()),
        sha256: digest(&SHA256, text.as_bytes())
            .as_ref()
            .try_into()
            .unwrap(),
    }
}

async fn start(database: &Database) -> (Collector, Platform, Authority) {
    let authority = Authority::new();
    let folder = database.folder.path();
    let files = authority.write(folder);
    fs::write(folder.join("secret"), format!("{SECRET}\n")).unwrap();
    let secret = SecretFile {
        name: "flow".into(),
        tenant: Some("acme".into()),
        path: folder.join("secret"),
    };
    let anywhere: [ListenAddress; 1] = ["127.0.0.1:0".parse().unwrap()];
    let listeners = Listeners::bind(&anywhere, true).await.unwrap();
    let Some(ListenAddress::Tcp(address)) = listeners.addresses().next().cloned() else {
        unreachable!()
    };
    let tokens = [("writer", Role::GrantWriter), ("viewer", Role::Viewer)];
    let tokens = tokens.map(|(text, role)| token(text, role)).to_vec();
    let access = Access {
        tls: Some(Arc::new(Tls::load(files).unwrap())),
        tokens: Arc::new(Tokens::new(tokens, None)),
        webhook: Some(Webhook {
            listeners,
            secrets: Secrets::load(&[secret]).unwrap(),
        }),
        ..Access::default()
    };
    let collector = Collector::start_with(&database.location, "127.0.0.1:0", access).await;
    let ca = reqwest::Certificate::from_pem(authority.pem.as_bytes()).unwrap();
    let http = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([ca])
        .resolve("localhost", SocketAddr::from(([127, 0, 0, 1], 0)))
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/v1/grants", address.port());
    (collector, Platform { http, url }, authority)
}

fn grant(id: &str) -> Value {
    json!({ "request_id": id, "approvers": ["bob"], "unix_users": ["deploy"],
            "host_labels": { "env": "prod" }, "valid_until": "2099-01-01T00:00:00Z" })
}

on_both! {

async fn platforms_push_and_revoke(database) {
    let (collector, platform, authority) = start(&database).await;
    let body = grant("R-1").to_string();
    let (status, told) = platform.push(By::Signature(SECRET), &body).await;
    assert_eq!(status, StatusCode::OK, "{told}");
    let created = &told["grants"][0];
    assert_eq!(created["creator"], "flow");
    assert_eq!(created["tenant"], "acme");
    assert_eq!(created["grant"]["requestId"], "R-1");
    // Again, and by another with a token: it is what it was.
    let (status, again) = platform.push(By::Token("writer"), &body).await;
    assert_eq!((status, &again), (StatusCode::OK, &told));
    let mut other = grant("R-1");
    other["unix_users"] = json!(["*"]);
    let several = json!([grant("R-2"), other]).to_string();
    let (status, told) = platform.push(By::Token("writer"), &several).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let message = told["error"]["message"].as_str().unwrap();
    assert!(message.contains("R-1") && message.contains("another grant"), "{told}");
    let mut revoked = grant("R-1");
    revoked["revoked_at"] = "2026-01-01T00:00:00Z".into();
    for _ in 0..2 {
        let body = json!({ "grants": [revoked] }).to_string();
        let (status, told) = platform.push(By::Signature(SECRET), &body).await;
        assert_eq!(status, StatusCode::OK, "{told}");
        assert_eq!(told["grants"][0]["grant"]["revokedTime"], "2026-01-01T00:00:00Z");
        assert_eq!(told["grants"][0]["revoker"], "flow");
    }

    let connect = async |role: &str| {
        let identity = authority.client(&format!("spiffe://acme/auditty/{role}/x"));
        authority.connect(&collector, Some(identity)).await.unwrap()
    };
    let mut client = Client(GrantServiceClient::new(connect("viewer").await));
    assert!(client.get("R-1", None).await.unwrap().grant.unwrap().revoked_time.is_some());
    assert!(client.get("R-2", None).await.is_ok());
    let mut audit = AuditServiceClient::new(connect("auditor").await);
    let ask = v1::ListAuditRecordsRequest {
        filter: "method = \"POST /v1/grants\"".into(),
        ..Default::default()
    };
    let records = audit.list_audit_records(ask).await.unwrap().into_inner().records;
    let short: Vec<_> = records.iter().map(|r| (&*r.caller, &*r.proof, &*r.outcome)).collect();
    assert_eq!(short, [
        ("flow", "signature", "OK"),
        ("flow", "signature", "OK"),
        ("writer@example.com", "api_token", "ALREADY_EXISTS"),
        ("writer@example.com", "api_token", "OK"),
        ("flow", "signature", "OK"),
    ]);
    assert!(records[4].request.contains("R-1"), "{:?}", records[4]);
    collector.stop().await;
}

}

#[tokio::test]
async fn what_is_not_taken_is_said() {
    let database = Database::sqlite();
    let (collector, platform, _) = start(&database).await;
    let good = grant("R").to_string();
    let mut unapproved = grant("R");
    unapproved["approvers"] = json!([]);
    let mut unknown = grant("R");
    unknown["approver"] = "bob".into();
    let large = " ".repeat(1024 * 1024 + 1);
    for (by, body, code, word) in [
        (By::Nobody, &*good, 401, "token"),
        (By::Token("no such"), &*good, 401, "not known"),
        (By::Token("viewer"), &*good, 403, "may not call"),
        (
            By::Signature("another secret of as many bytes ........"),
            &*good,
            401,
            "secret",
        ),
        (By::Token("writer"), "", 400, "EOF"),
        (
            By::Token("writer"),
            "{\n\"request_id\": 7}",
            400,
            "body.json:2:15",
        ),
        (
            By::Token("writer"),
            &*unapproved.to_string(),
            400,
            "at least one",
        ),
        (
            By::Token("writer"),
            &*unknown.to_string(),
            400,
            "`approver`",
        ),
        (By::Signature(SECRET), &*large, 413, "larger"),
    ] {
        let (status, told) = platform.push(by, body).await;
        assert_eq!(status.as_u16(), code, "{told}");
        let message = told["error"]["message"].as_str().unwrap();
        assert!(message.contains(word), "{word}: {told}");
    }
    // A signature is of this body, and of this time.
    let old = jiff::Timestamp::now().as_second() - 400;
    let asked = platform.http.post(&platform.url).body(good.clone());
    let asked = asked.header("x-auditty-signature", sign(SECRET, old, &good));
    assert_eq!(asked.send().await.unwrap().status(), 401);
    let asked = platform.http.request(Method::GET, &platform.url);
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers()["allow"], "POST");
    let asked = platform.http.get(platform.url.replace("/v1/grants", "/"));
    assert_eq!(asked.send().await.unwrap().status(), StatusCode::NOT_FOUND);
    collector.stop().await;
}
