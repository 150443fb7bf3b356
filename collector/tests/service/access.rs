//! Who may connect and who may call what, over real TLS, with certificates made
//! for the test.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

use std::{fs, path::PathBuf, process::Command, sync::Arc};

use crate::{
    common::*,
    grants::{Client, grant, ids, piece},
};
use auditty_collector::{
    Access,
    access::{ApiToken, Jwks, Limits, OidcSettings, Tls, TlsFiles, Tokens},
};
use auditty_proto::v1::{
    self, Role, grant_service_client::GrantServiceClient,
    ingest_service_client::IngestServiceClient, session_service_client::SessionServiceClient,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use tonic::{
    Code, Request,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

/// An authority, and the collector's files in a folder.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// Certificate and key for a name of the server's, or a client's URI.
    fn issue(&self, name: SanType) -> (String, String) {
        self.issue_as(name, |_| ())
    }

    fn issue_as(
        &self,
        name: SanType,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.subject_alt_names = vec![name];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub fn client(&self, id: &str) -> Identity {
        let (certificate, key) = self.issue(SanType::URI(id.try_into().unwrap()));
        Identity::from_pem(certificate, key)
    }

    /// A client whose certificate held until 2020.
    pub fn expired_client(&self, id: &str) -> Identity {
        let name = SanType::URI(id.try_into().unwrap());
        let (certificate, key) = self.issue_as(name, |params| {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        });
        Identity::from_pem(certificate, key)
    }

    /// Puts the files of a server into a folder, trusting this authority.
    pub fn write(&self, folder: &std::path::Path) -> TlsFiles {
        let (certificate, key) = self.issue(SanType::DnsName("localhost".try_into().unwrap()));
        let file = |name: &str, text: &str| -> PathBuf {
            fs::write(folder.join(name), text).unwrap();
            folder.join(name)
        };
        TlsFiles {
            certificate: file("server.pem", &certificate),
            key: file("server.key", &key),
            client_ca: Some(file("ca.pem", &self.pem)),
            client_crl: None,
        }
    }

    pub async fn connect(
        &self,
        collector: &Collector,
        identity: Option<Identity>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.pem))
            .domain_name("localhost");
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let endpoint = Endpoint::try_from(format!("https://{}", collector.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await
    }
}

pub async fn collector(database: &Database, access: Access) -> Collector {
    Collector::start_with(&database.location, "127.0.0.1:0", access).await
}

pub fn with_tls(files: TlsFiles) -> Access {
    Access {
        tls: Some(Arc::new(Tls::load(files).unwrap())),
        ..Access::default()
    }
}

pub async fn list(channel: Channel) -> Result<Vec<v1::Session>, tonic::Status> {
    let mut client = SessionServiceClient::new(channel);
    let listed = client.list_sessions(v1::ListSessionsRequest::default());
    Ok(listed.await?.into_inner().sessions)
}

fn of_host(host: &str, number: u64) -> v1::ReportRequest {
    let mut session = session(number);
    session.host.as_mut().unwrap().host_id = host.into();
    v1::ReportRequest {
        host_id: host.into(),
        ..batch(vec![changed_report(session, 1)])
    }
}

#[tokio::test]
async fn host_and_tenant_come_from_the_certificate() {
    let database = Database::sqlite();
    let authority = Authority::new();
    let collector = collector(&database, with_tls(authority.write(database.folder.path()))).await;
    let connect = async |id: &str| {
        let identity = authority.client(id);
        authority.connect(&collector, Some(identity)).await.unwrap()
    };
    let mut acme = IngestServiceClient::new(connect("spiffe://acme/auditty/agent/web-1").await);
    acme.report(of_host("web-1", 1)).await.unwrap();
    let refused = acme.report(of_host("web-2", 2)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    // Another tenant may have a host of the same name, but not its session.
    let mut evil = IngestServiceClient::new(connect("spiffe://evil/auditty/agent/web-1").await);
    let refused = evil.report(of_host("web-1", 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    evil.report(of_host("web-1", 3)).await.unwrap();
    for (tenant, number, other) in [("acme", 1, 3), ("evil", 3, 1)] {
        let channel = connect(&format!("spiffe://{tenant}/auditty/viewer/x")).await;
        let seen = list(channel.clone()).await.unwrap();
        let ids: Vec<_> = seen.iter().map(|s| s.session_id.clone()).collect();
        assert_eq!(ids, [session_id(number)]);
        let mut client = SessionServiceClient::new(channel);
        let name = format!("sessions/{}", session_id(other));
        let parent = name.clone();
        let get = client.get_session(v1::GetSessionRequest { name }).await;
        assert_eq!(get.unwrap_err().code(), Code::NotFound);
        let commands = v1::ListCommandsRequest {
            parent,
            ..Default::default()
        };
        let commands = client.list_commands(commands).await;
        assert_eq!(commands.unwrap_err().code(), Code::NotFound);
    }
    collector.stop().await;
}

#[tokio::test]
async fn new_files_hold_without_a_restart() {
    let database = Database::sqlite();
    let (before, after) = (Authority::new(), Authority::new());
    let files = before.write(database.folder.path());
    let access = with_tls(files.clone());
    let tls = access.tls.clone().unwrap();
    let collector = collector(&database, access).await;
    let identity = |authority: &Authority| authority.client("spiffe://acme/auditty/viewer/x");
    let old = before.connect(&collector, Some(identity(&before))).await;
    list(old.unwrap()).await.unwrap();
    // Half of a rotation changes nothing.
    fs::write(&files.key, "-----BEGIN").unwrap();
    assert!(tls.reload().unwrap_err().to_string().contains("server.key"));
    let still = before.connect(&collector, Some(identity(&before))).await;
    list(still.unwrap()).await.unwrap();
    after.write(database.folder.path());
    assert!(tls.reload().unwrap());
    assert!(!tls.reload().unwrap());
    let new = after.connect(&collector, Some(identity(&after))).await;
    list(new.unwrap()).await.unwrap();
    assert!(
        before
            .connect(&collector, Some(identity(&before)))
            .await
            .is_err()
    );
    collector.stop().await;
}

/// A provider's key, and what is in its key set.
struct Provider {
    key: KeyPair,
}

impl Provider {
    fn jwks(&self) -> String {
        // An uncompressed point: 4, x, y.
        let point = self.key.public_key_raw();
        let part = |range: std::ops::Range<usize>| BASE64_URL_SAFE_NO_PAD.encode(&point[range]);
        serde_json::json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k1",
            "x": part(1..33), "y": part(33..65),
        }]})
        .to_string()
    }

    fn token(&self, change: impl Fn(&mut serde_json::Value)) -> String {
        let now = jiff::Timestamp::now().as_second();
        let mut claims = serde_json::json!({
            "iss": "https://idp", "aud": "auditty", "exp": now + 60, "nbf": now - 60,
            "email": "alice@example.com", "groups": ["everybody", "security"],
        });
        change(&mut claims);
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        header.kid = Some("k1".into());
        let key = jsonwebtoken::EncodingKey::from_ec_der(&self.key.serialize_der());
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    }
}

async fn list_with(channel: &Channel, token: &str) -> Result<usize, tonic::Status> {
    let mut request = Request::new(v1::ListSessionsRequest::default());
    let value = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    let mut client = SessionServiceClient::new(channel.clone());
    Ok(client
        .list_sessions(request)
        .await?
        .into_inner()
        .sessions
        .len())
}

#[tokio::test]
async fn tokens_say_who_somebody_is() {
    let database = Database::sqlite();
    let authority = Authority::new();
    let provider = Provider {
        key: KeyPair::generate().unwrap(),
    };
    let jwks = database.folder.path().join("jwks.json");
    fs::write(&jwks, provider.jwks()).unwrap();
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"long-and-random");
    let api = |tenant: Option<&str>| ApiToken {
        name: "platform".into(),
        roles: vec![Role::Viewer],
        tenant: tenant.map(str::to_owned),
        sha256: sha256.as_ref().try_into().unwrap(),
    };
    let oidc = OidcSettings {
        issuer: "https://idp".into(),
        audience: "auditty".into(),
        jwks: Jwks::File(jwks),
        name_claim: "email".into(),
        roles_claim: "groups".into(),
        tenant_claim: None,
        tenant: None,
        roles: [("security".to_owned(), Role::Auditor)].into(),
    };
    let tokens = Arc::new(Tokens::new(vec![api(Some("acme"))], Some(oidc)));
    tokens.refresh().await.unwrap();
    let mut access = with_tls(authority.write(database.folder.path()));
    access.tokens = tokens;
    let collector = collector(&database, access).await;
    let agent = authority.client("spiffe://acme/auditty/agent/web-1");
    let agent = authority.connect(&collector, Some(agent)).await.unwrap();
    IngestServiceClient::new(agent)
        .report(of_host("web-1", 1))
        .await
        .unwrap();

    let channel = authority.connect(&collector, None).await.unwrap();
    assert_eq!(list_with(&channel, "long-and-random").await.unwrap(), 1);
    assert_eq!(
        list_with(&channel, &provider.token(|_| ())).await.unwrap(),
        1
    );
    let other = Provider {
        key: KeyPair::generate().unwrap(),
    };
    // The public key taken for a shared secret, as in a famous mistake.
    let claims = provider.token(|_| ());
    let claims = claims.split('.').nth(1).unwrap();
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    header.kid = Some("k1".into());
    let claims: serde_json::Value =
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let secret = jsonwebtoken::EncodingKey::from_secret(provider.key.public_key_raw());
    let confused = jsonwebtoken::encode(&header, &claims, &secret).unwrap();
    for (token, words) in [
        ("wrong".to_owned(), "not known"),
        (provider.token(|c| c["aud"] = "other".into()), "refused"),
        (
            provider.token(|c| c["iss"] = "https://evil".into()),
            "refused",
        ),
        (
            provider.token(|c| c["exp"] = 1_700_000_000.into()),
            "refused",
        ),
        (
            provider.token(|c| c["nbf"] = 4_000_000_000_u64.into()),
            "refused",
        ),
        (
            provider.token(|c| c["groups"] = "everybody".into()),
            "means a role",
        ),
        (other.token(|_| ()), "refused"),
        (confused, "algorithm"),
    ] {
        let refused = list_with(&channel, &token).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
        assert!(refused.message().contains(words), "{words}: {refused}");
    }
    collector.stop().await;
}

#[tokio::test]
async fn a_flood_of_one_caller_is_stopped() {
    let database = Database::sqlite();
    let access = Access {
        limits: Limits {
            requests_per_second: 1.0,
            burst: 5.0,
        },
        ..Access::default()
    };
    let collector = collector(&database, access).await;
    let channel = collector.channel().await;
    let mut refused = 0;
    for _ in 0..20 {
        match list(channel.clone()).await {
            Ok(_) => {}
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted);
                refused += 1;
            }
        }
    }
    assert!(refused >= 10, "{refused}");
    collector.stop().await;
}

/// curl, run by another user of this machine: only root can start it so.
#[tokio::test]
async fn other_users_of_the_machine_are_nobody_on_loopback() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let database = Database::sqlite();
    let collector = database.collector().await;
    let url = format!(
        "http://{}/auditty.v1.SessionService/ListSessions",
        collector.address
    );
    let ask = |uid: &str| {
        let mut curl = Command::new("setpriv");
        curl.args([&format!("--reuid={uid}"), "--clear-groups", "curl", "-sS"]);
        curl.args([
            "--max-time",
            "20",
            "--http2-prior-knowledge",
            "-D-",
            "-o",
            "/dev/null",
        ]);
        curl.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
        curl.args(["--data-raw", "", &url]);
        let child = curl.stdout(std::process::Stdio::piped()).spawn().unwrap();
        tokio::task::spawn_blocking(move || {
            let output = child.wait_with_output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    };
    let nobody = ask("65534").await.unwrap();
    assert!(nobody.contains("grpc-status: 16"), "{nobody}");
    let root = ask("0").await.unwrap();
    assert!(
        !root.contains("grpc-status: 16") && root.contains("200"),
        "{root}"
    );
    collector.stop().await;
}

/// Agents and platforms of two tenants, and a person who sees both.
#[tokio::test]
async fn grants_stay_with_their_tenant() {
    let database = Database::sqlite();
    let authority = Authority::new();
    let admin = ApiToken {
        name: "root@example.com".into(),
        roles: vec![Role::Admin],
        tenant: None,
        sha256: aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"admin")
            .as_ref()
            .try_into()
            .unwrap(),
    };
    let access = Access {
        tokens: Arc::new(Tokens::new(vec![admin], None)),
        ..with_tls(authority.write(database.folder.path()))
    };
    let collector = collector(&database, access).await;
    let connect = async |id: &str| {
        let identity = authority.client(&format!("spiffe://{id}"));
        let channel = authority.connect(&collector, Some(identity)).await.unwrap();
        Client(GrantServiceClient::new(channel))
    };
    let mut acme = connect("acme/auditty/grant-writer/flow").await;
    let mut other = connect("other/auditty/grant-writer/flow").await;
    let created = acme.create(grant("same")).await.unwrap();
    assert_eq!((&*created.tenant, &*created.creator), ("acme", "flow"));
    other.create(grant("same")).await.unwrap();
    other.create(grant("theirs")).await.unwrap();
    assert_eq!(ids(&acme.list(false, 0).await), ["same"]);
    assert_eq!(
        acme.get("theirs", None).await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(
        acme.revoke("theirs").await.unwrap_err().code(),
        Code::NotFound
    );
    let foreign = v1::AccessGrant {
        tenant: "other".into(),
        ..grant("x")
    };
    let refused = acme.create(foreign.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused = acme.get("same", Some("other")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    let mut agent = connect("acme/auditty/agent/web-1").await;
    let refused = agent.watch("", "web-2").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let mut pieces = agent.watch("", "web-1").await.unwrap();
    assert_eq!(ids(&piece(&mut pieces).await.grants), ["same"]);

    let nobody = authority.connect(&collector, None).await.unwrap();
    let mut admin = GrantServiceClient::with_interceptor(nobody, |mut request: Request<()>| {
        let token = "Bearer admin".parse().unwrap();
        request.metadata_mut().insert("authorization", token);
        Ok(request)
    });
    let ask = |tenant: Option<&str>| v1::GetGrantRequest {
        name: "grants/same".into(),
        tenant: tenant.map(str::to_owned),
    };
    let refused = admin.get_grant(ask(None)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("tenant"), "{refused}");
    let found = admin
        .get_grant(ask(Some("other")))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(found.grant.unwrap().tenant, "other");
    let made = v1::CreateGrantRequest {
        grant: Some(v1::AccessGrant {
            tenant: "acme".into(),
            ..foreign
        }),
    };
    admin.create_grant(made).await.unwrap();
    assert_eq!(ids(&piece(&mut pieces).await.grants), ["x"]);
    collector.stop().await;
}
