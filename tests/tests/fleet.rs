//! A collector for a fleet: hosts and people prove who they are, by certificates
//! or by tokens of an identity provider.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use auditty_tests::{
    SOON, Scene, Stage,
    agent::Setting,
    authority::Authority,
    binary,
    cli::Cli,
    process::Process,
    scene::{files_below, output},
    sshd::free_port,
    tools, wait_for,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

/// A collector on TCP, with TLS and an identity provider.
struct Fleet {
    authority: Authority,
    address: String,
    provider: Provider,
    _collector: Process,
}

/// An identity provider: a key, and its public half on a web server.
struct Provider {
    key: std::path::PathBuf,
    url: String,
    _server: Process,
}

impl Provider {
    fn start(scene: &Scene, authority: &Authority) -> Result<Self> {
        let (folder, port) = (scene.path("provider"), free_port()?);
        fs::create_dir_all(&folder)?;
        let key = folder.join("signing.pem");
        output(Command::new("openssl").args(["genrsa", "-out"]).arg(&key))?;
        let modulus = output(
            Command::new("openssl")
                .args(["rsa", "-noout", "-modulus", "-in"])
                .arg(&key),
        )?;
        let digits = modulus.trim().strip_prefix("Modulus=").context("modulus")?;
        let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16);
        let bytes = (0..digits.len()).step_by(2).map(pair);
        let modulus = bytes.collect::<Result<Vec<u8>, _>>()?;
        let keys = json!({"keys": [{
            "kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k1", "e": "AQAB",
            "n": BASE64_URL_SAFE_NO_PAD.encode(modulus),
        }]});
        fs::write(folder.join("keys.json"), keys.to_string())?;
        let (certificate, server_key) = authority.issue("provider", "DNS:localhost")?;
        let mut server = Command::new("openssl");
        server.args(["s_server", "-WWW", "-accept", &port.to_string(), "-cert"]);
        server.arg(certificate).arg("-key").arg(server_key);
        server.current_dir(&folder).stdin(Stdio::null());
        let server = scene.spawn("provider", &mut server)?;
        Ok(Self {
            key,
            url: format!("https://localhost:{port}/keys.json"),
            _server: server,
        })
    }

    /// A token for a person in these groups.
    fn token(&self, groups: &[&str]) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": "k1"});
        let claims = json!({
            "iss": "https://idp", "aud": "auditty", "exp": now + 300,
            "email": "alice@example.com", "groups": groups,
        });
        let part = |json: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let text = self.key.with_file_name("token");
        fs::write(&text, &signed)?;
        let signature = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .args([&self.key, &text])
            .output()?;
        ensure!(signature.status.success(), "{signature:?}");
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature.stdout);
        Ok(format!("{signed}.{signature}"))
    }
}

impl Fleet {
    fn start(scene: &Scene) -> Result<Self> {
        let authority = Authority::new(scene.path("authority"))?;
        let (certificate, key) = authority.issue("collector", "DNS:localhost")?;
        let provider = Provider::start(scene, &authority)?;
        let port = free_port()?;
        let folder = scene.path("collector");
        fs::create_dir_all(&folder)?;
        let config = format!(
            "listen = [\"127.0.0.1:{port}\"]\ndatabase = \"{folder}/collector.db\"\n\
             [tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n\
             client_ca = \"{ca}\"\nclient_crl = \"{crl}\"\n\
             [oidc]\nissuer = \"https://idp\"\naudience = \"auditty\"\njwks = \"{jwks}\"\n\
             name_claim = \"email\"\ntenant = \"acme\"\n[oidc.roles]\nsecurity = \"auditor\"\n",
            folder = folder.display(),
            certificate = certificate.display(),
            key = key.display(),
            ca = authority.certificate().display(),
            crl = authority.revoked()?.display(),
            jwks = provider.url,
        );
        let config = scene.write("collector/collector.toml", config)?;
        let mut command = Command::new(binary("auditty-collector"));
        command.arg("--config").arg(config);
        // The provider's certificate is from the same authority.
        command.env("SSL_CERT_FILE", authority.certificate());
        let mut collector = scene.spawn("auditty-collector", &mut command)?;
        collector.wait_for_log("with TLS", SOON)?;
        Ok(Self {
            authority,
            address: format!("https://localhost:{port}"),
            provider,
            _collector: collector,
        })
    }

    /// An agent that reports here, if the collector's certificate is of `ca`.
    fn agent(&self, ca: &Authority) -> Result<Setting> {
        let id = "URI:spiffe://acme/auditty/agent/test-host";
        let (certificate, key) = self.authority.issue("agent", id)?;
        let tls = format!(
            "{}\"\nca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}",
            self.address,
            ca.certificate().display(),
            certificate.display(),
            key.display()
        );
        Ok(Setting {
            collector: Some(tls),
            ..Setting::default()
        })
    }

    fn cli(&self, proof: &[&str]) -> Cli {
        let ca = self.authority.certificate();
        let ca = ca.to_string_lossy();
        let source = ["--collector", &self.address, "--ca", &*ca];
        Cli::new(&[&source, proof].concat(), &[])
    }

    /// The CLI of somebody with a certificate for this role, and the certificate.
    fn person(&self, name: &str, role: &str) -> Result<(Cli, std::path::PathBuf)> {
        let id = format!("URI:spiffe://acme/auditty/{role}/{name}");
        let (certificate, key) = self.authority.issue(name, &id)?;
        let proof = ["--cert", text(&certificate)?, "--key", text(&key)?];
        let cli = self.cli(&proof);
        Ok((cli, certificate))
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path in UTF-8")
}

/// What it says when it must fail.
fn refusal(cli: &Cli) -> Result<String> {
    let answer = cli.run(&["sessions"])?;
    ensure!(!answer.status.success(), "{answer:?}");
    Ok(String::from_utf8(answer.stderr)?)
}

#[test]
fn hosts_and_people_prove_who_they_are() -> Result<()> {
    let scene = Scene::new()?;
    let fleet = Fleet::start(&scene)?;
    let stage = Stage::with(scene, &fleet.agent(&fleet.authority)?)?;
    assert!(stage.run("echo a fleet")?.status.success());
    let session = stage.recording()?.session()["session_id"].clone();
    let session = session.as_str().context("a session")?.to_owned();

    // By certificate.
    let (viewer, certificate) = fleet.person("vera", "viewer")?;
    wait_for("the report", SOON, || {
        let listed = viewer.text(&["sessions"])?;
        Ok(listed.contains(&stage.user.name).then_some(()))
    })?;
    let shown = viewer.json(&["show", &session])?;
    assert_eq!(shown["session"]["host"]["hostId"], "test-host", "{shown}");
    let denied = viewer.run(&["audit"])?;
    assert!(!denied.status.success());
    let denied = String::from_utf8(denied.stderr)?;
    assert!(denied.contains("viewer"), "{denied}");
    assert!(!refusal(&fleet.cli(&[]))?.is_empty());

    // Taken back: new connections only, within seconds, without a restart.
    fleet.authority.revoke(&certificate)?;
    wait_for("the revoked certificate to be refused", SOON, || {
        Ok((!viewer.run(&["sessions"])?.status.success()).then_some(()))
    })?;
    let (other, _) = fleet.person("otto", "auditor")?;
    assert!(other.text(&["sessions"])?.contains(&stage.user.name));

    // By a token of the provider, whose keys the collector fetched.
    let token = fleet.provider.token(&["everybody", "security"])?;
    let person = fleet.cli(&["--token", &token]);
    wait_for("the provider's keys", SOON, || {
        let listed = person.run(&["sessions"])?;
        let listed = String::from_utf8_lossy(&listed.stdout).contains(&stage.user.name);
        Ok(listed.then_some(()))
    })?;
    let nobody = fleet.provider.token(&["everybody"])?;
    refusal(&fleet.cli(&["--token", &nobody]))?;
    let forged = token.replace('.', "..");
    refusal(&fleet.cli(&["--token", &forged]))?;
    let asked = person.text(&["audit", "--all"])?;
    assert!(asked.contains("alice@example.com"), "{asked}");

    stage.end()
}

/// Somebody stands between the host and its collector.
#[test]
fn a_host_tells_nothing_to_a_collector_it_does_not_know() -> Result<()> {
    let scene = Scene::new()?;
    let fleet = Fleet::start(&scene)?;
    let expected = Authority::new(scene.path("expected"))?;
    let mut stage = Stage::with(scene, &fleet.agent(&expected)?)?;
    assert!(stage.run("echo a secret")?.status.success());
    stage.recording()?.assert_sound()?;
    let refused = "the collector does not take reports";
    stage.agent.process.wait_for_log(refused, SOON)?;
    let outbox = stage.agent.folder().join("spool/outbox");
    assert!(!files_below(&outbox)?.is_empty(), "reports wait");
    let (auditor, _) = fleet.person("otto", "auditor")?;
    assert_eq!(auditor.text(&["sessions"])?, "no sessions\n");
    stage.end()
}

/// One written in Go, that knows of the API only what reflection says.
#[test]
fn a_foreign_client_proves_who_it_is() -> Result<()> {
    let buf = tools().join("buf/node_modules/.bin/buf");
    if !buf.exists() {
        println!(
            "SKIPPED a_foreign_client_proves_who_it_is: buf comes from npm, and npm is not installed"
        );
        return Ok(());
    }
    let scene = Scene::new()?;
    let fleet = Fleet::start(&scene)?;
    let id = "URI:spiffe://acme/auditty/viewer/gopher";
    let (certificate, key) = fleet.authority.issue("gopher", id)?;
    let call = |method: &str, proof: &[&str]| {
        let mut curl = Command::new(&buf);
        curl.args(["curl", "--protocol", "grpc", "--cacert"]);
        curl.arg(fleet.authority.certificate()).args(proof);
        curl.args(["-d", "{\"filter\": \"user = nobody\"}"]);
        curl.arg(format!("{}/auditty.v1.{method}", fleet.address));
        output(&mut curl)
    };
    let proof = ["--cert", text(&certificate)?, "--key", text(&key)?];
    assert_eq!(call("SessionService/ListSessions", &proof)?.trim(), "{}");
    let denied = call("AuditService/ListAuditRecords", &proof);
    let denied = format!("{:#}", denied.unwrap_err());
    assert!(denied.contains("permission_denied"), "{denied}");
    assert!(call("SessionService/ListSessions", &[]).is_err());
    Ok(())
}
