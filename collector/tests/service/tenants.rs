//! What a tenant has stays with it, whatever anybody of another one calls.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

mod cases;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use auditty_proto::{
    access::METHODS,
    v1::{self, LoginOutcome, ingest_service_client::IngestServiceClient},
};
use auditty_recording::{digest::Digest, host::HostSigner, signature::SigningKey};
use jiff::Timestamp;
use prost::bytes::{Buf, BufMut};
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

use crate::{
    access::{Authority, collector, with_tls},
    common::*,
    evidence, failed_logins, grants, hosts,
    policy::ROLES,
};
use cases::{CASES, Case, Kind};

/// Longest wait for what should be there soon.
const DEADLINE: Duration = Duration::from_secs(60);
const LOG: &str = "0123456789abcdef";

/// A tenant, whose name everything of its own begins with that has a name.
struct Tenant {
    name: &'static str,
    /// The number of its session.
    session: u64,
    /// The number of one that begins later.
    later: u64,
    key: HostSigner,
}

impl Tenant {
    fn new(name: &'static str, session: u64) -> Self {
        let key = SigningKey::generate().unwrap();
        Self {
            name,
            session,
            later: session + 1,
            key: HostSigner::begin(&format!("{name}-host"), key, Timestamp::now()).unwrap(),
        }
    }

    /// Something of its own.
    fn its(&self, what: &str) -> String {
        format!("{}-{what}", self.name)
    }

    fn fingerprint(&self) -> String {
        self.key.entry().fingerprint.clone()
    }

    fn digest(&self) -> String {
        Digest::of(self.name.as_bytes()).to_string()
    }

    /// What nobody else may see.
    fn secrets(&self) -> [String; 5] {
        [
            self.name.to_owned(),
            session_id(self.session),
            session_id(self.later),
            self.fingerprint(),
            self.digest(),
        ]
    }

    fn session_report(&self, number: u64) -> v1::Report {
        let mut session = session(number);
        let host = session.host.as_mut().unwrap();
        host.host_id = self.its("host");
        host.hostname = self.its("hostname");
        session.login.as_mut().unwrap().user = self.its("user");
        session.connection = Some(v1::Connection {
            connection_id: self.its(&format!("connection-{number}")),
            ..Default::default()
        });
        session.grant = Some(v1::GrantMatch {
            status: v1::GrantStatus::Ungranted.into(),
            ..Default::default()
        });
        session.verdict = v1::Verdict::Open.into();
        session.recording = Some(v1::Recording {
            uri: format!(
                "s3://bucket/audit/v1/host={}/date=2026-01-01/session={}/",
                self.its("host"),
                session.session_id
            ),
            chunk_count: 1,
            stored_byte_count: 1,
            chain_head: Digest::of(session.session_id.as_bytes()).to_string(),
            ..Default::default()
        });
        changed_report(session, 1)
    }

    fn command_report(&self) -> v1::Report {
        let mut command = command(self.session, 1);
        command.argv.push(self.its("secret"));
        fact(v1::report::Fact::Command(v1::CommandReport {
            session_id: session_id(self.session),
            command: Some(command),
        }))
    }

    fn of_its_host(&self, reports: Vec<v1::Report>) -> v1::ReportRequest {
        v1::ReportRequest {
            host_id: self.its("host"),
            ..batch(reports)
        }
    }

    /// One of each that an agent reports.
    fn everything(&self) -> v1::ReportRequest {
        let id = self.its("login");
        let mut login = failed_logins::failed(&id, LoginOutcome::Failed, Timestamp::now(), 1);
        login.host_id = self.its("host");
        login.hostname = self.its("hostname");
        let reports = vec![
            self.session_report(self.session),
            self.command_report(),
            // Number 5 is access to a file.
            activity_report(self.session, 5),
            evidence::key(&self.key),
            fact(v1::report::Fact::DigestHead(v1::DigestHeadReport {
                log: LOG.into(),
                number: 0,
                sha256: self.digest(),
            })),
            fact(v1::report::Fact::FailedLogin(v1::FailedLoginReport {
                failed_login: Some(login),
            })),
        ];
        v1::ReportRequest {
            host: Some(hosts::report(&self.its("host"), "a")),
            ..self.of_its_host(reports)
        }
    }
}

/// Messages as they are on the wire.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; from.remaining()];
        from.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}

async fn open(
    channel: &Channel,
    path: &'static str,
    request: Vec<u8>,
) -> Result<Streaming<Vec<u8>>, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static(path);
    let answer = client.server_streaming(Request::new(request), path, Raw);
    Ok(answer.await?.into_inner())
}

/// The one answer, or the first piece of many.
async fn ask(channel: &Channel, path: &'static str, request: Vec<u8>) -> Result<Vec<u8>, Status> {
    let mut answers = open(channel, path, request).await?;
    let answer = tokio::time::timeout(DEADLINE, answers.message()).await;
    Ok(answer.unwrap()?.unwrap_or_default())
}

fn has(bytes: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(bytes).contains(text)
}

/// A collector, and who is who.
struct Rig {
    collector: Collector,
    authority: Authority,
}

impl Rig {
    async fn start(database: &Database) -> Self {
        let authority = Authority::new();
        let mut access = with_tls(authority.write(database.folder.path()));
        // No alert but those that are made here.
        access.alarm.silence = Duration::from_secs(3600);
        let collector = collector(database, access).await;
        Self {
            collector,
            authority,
        }
    }

    /// Callers of different tenants have the same names.
    async fn of(&self, tenant: &Tenant, role: &str) -> Channel {
        let name = match role {
            "agent" => tenant.its("host"),
            role => format!("some-{role}"),
        };
        let id = format!("spiffe://{}/auditty/{role}/{name}", tenant.name);
        let identity = self.authority.client(&id);
        let channel = self.authority.connect(&self.collector, Some(identity));
        channel.await.unwrap()
    }

    async fn fill(&self, tenant: &Tenant) {
        let agent = self.of(tenant, "agent").await;
        let mut ingest = IngestServiceClient::new(agent);
        ingest.report(tenant.everything()).await.unwrap();
        self.grant(tenant, "grant").await;
        // Hosts are written a little later; and this leaves a record.
        let viewer = self.of(tenant, "viewer").await;
        let begin = Instant::now();
        let path = "/auditty.v1.HostService/ListHosts";
        while !has(
            &ask(&viewer, path, Vec::new()).await.unwrap(),
            &tenant.its("host"),
        ) {
            assert!(begin.elapsed() < DEADLINE, "no host");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn grant(&self, tenant: &Tenant, name: &str) {
        let writer = self.of(tenant, "grant-writer").await;
        let client = v1::grant_service_client::GrantServiceClient::new(writer);
        let grant = grants::grant(&tenant.its(name));
        grants::Client(client).create(grant).await.unwrap();
    }

    /// Something new of what can be followed.
    async fn stir(&self, tenant: &Tenant) {
        let agent = self.of(tenant, "agent").await;
        let report = tenant.session_report(tenant.later);
        let report = tenant.of_its_host(vec![report]);
        IngestServiceClient::new(agent)
            .report(report)
            .await
            .unwrap();
        self.grant(tenant, "later").await;
    }

    /// What a tenant sees that others could have changed.
    async fn kept(&self, tenant: &Tenant) -> Vec<(&'static str, Vec<u8>)> {
        let admin = self.of(tenant, "admin").await;
        let mut kept = Vec::new();
        for case in CASES.iter().filter(|case| case.kind == Kind::Lasting) {
            if let Some(request) = case.plain {
                let answer = ask(&admin, case.path, request(tenant)).await;
                kept.push((case.path, answer.unwrap()));
            }
        }
        kept
    }
}

/// The methods that a role may call.
fn allowed(role: v1::Role) -> impl Iterator<Item = &'static Case> {
    let methods = METHODS
        .iter()
        .filter(move |method| method.roles.contains(&role));
    methods.filter_map(|method| CASES.iter().find(|case| case.path == method.path))
}

/// What somebody who follows was told.
struct Told {
    path: &'static str,
    awaited: String,
    bytes: Arc<Mutex<Vec<u8>>>,
}

fn follow(mut answers: Streaming<Vec<u8>>, path: &'static str, awaited: String) -> Told {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&bytes);
    tokio::spawn(async move {
        while let Ok(Some(piece)) = answers.message().await {
            told.lock().unwrap().extend(piece);
        }
    });
    Told {
        path,
        awaited,
        bytes,
    }
}

impl Told {
    async fn assert_nothing_of(&self, other: &Tenant) {
        let begin = Instant::now();
        loop {
            let told = self.bytes.lock().unwrap().clone();
            for secret in other.secrets() {
                assert!(!has(&told, &secret), "{}: {secret}", self.path);
            }
            if has(&told, &self.awaited) {
                return;
            }
            let (path, awaited) = (self.path, &self.awaited);
            assert!(begin.elapsed() < DEADLINE, "{path}: {awaited} is not told");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[test]
fn every_method_has_a_case() {
    for method in METHODS {
        let cases = CASES.iter().filter(|case| case.path == method.path).count();
        assert_eq!(cases, 1, "tenants/cases.rs: {}", method.path);
    }
    assert_eq!(CASES.len(), METHODS.len());
}

on_both! {

async fn nobody_sees_what_another_tenant_has(database) {
    let rig = Rig::start(&database).await;
    let (own, other) = (Tenant::new("acme", 101), Tenant::new("globex", 201));
    rig.fill(&other).await;
    rig.fill(&own).await;
    let mut followed = Vec::new();
    for (role, role_name) in ROLES {
        let channel = rig.of(&own, role_name).await;
        for case in allowed(role) {
            let requests = [case.plain, case.named].into_iter().flatten();
            let mut seen = Vec::new();
            for request in requests.map(|request| request(&own)) {
                if case.kind == Kind::Followed {
                    let answers = open(&channel, case.path, request).await.unwrap();
                    followed.push(follow(answers, case.path, (case.shows)(&own)));
                    continue;
                }
                // Some of what they ask to be changed cannot be changed once more.
                if let Ok(answer) = ask(&channel, case.path, request).await {
                    seen.extend(answer);
                }
            }
            for secret in other.secrets() {
                assert!(!has(&seen, &secret), "{role_name} {}: {secret}", case.path);
            }
            let shows = (case.shows)(&own);
            let shown = case.kind == Kind::Followed || has(&seen, &shows);
            assert!(shown, "{role_name} {}: no {shows}", case.path);
        }
    }
    assert_eq!(followed.len(), 5 + 3 + 3, "roles that follow grants, sessions, alerts");
    // All are told what is theirs, and never what was there before it.
    rig.stir(&other).await;
    rig.stir(&own).await;
    for told in &followed {
        told.assert_nothing_of(&other).await;
    }
    rig.collector.stop().await;
}

async fn what_is_another_tenants_is_as_what_does_not_exist(database) {
    let rig = Rig::start(&database).await;
    let (own, other) = (Tenant::new("acme", 101), Tenant::new("globex", 201));
    let absent = Tenant::new("nobody", 302);
    rig.fill(&other).await;
    rig.fill(&own).await;
    let before = rig.kept(&other).await;
    let alike = |text: &str| {
        let secrets = [other.secrets(), absent.secrets()].concat();
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
    };
    for (role, role_name) in ROLES {
        let channel = rig.of(&own, role_name).await;
        for case in allowed(role) {
            let Some(named) = case.named else {
                continue;
            };
            let theirs = ask(&channel, case.path, named(&other)).await;
            let nobodys = ask(&channel, case.path, named(&absent)).await;
            let [theirs, nobodys] = [theirs, nobodys].map(|answer| match answer {
                Ok(bytes) => (Code::Ok, alike(&String::from_utf8_lossy(&bytes))),
                Err(status) => (status.code(), alike(status.message())),
            });
            assert_eq!(theirs, nobodys, "{role_name} {}", case.path);
        }
    }
    // A session that is there already belongs to who reported it first.
    let mut agent = IngestServiceClient::new(rig.of(&own, "agent").await);
    let mut stolen = own.session_report(other.session);
    if let Some(v1::report::Fact::Session(report)) = &mut stolen.fact {
        report.revision = 9;
    }
    for report in [stolen, other.command_report(), activity_report(other.session, 6)] {
        let refused = agent.report(own.of_its_host(vec![report])).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    assert_eq!(rig.kept(&other).await, before);
    rig.collector.stop().await;
}

}
