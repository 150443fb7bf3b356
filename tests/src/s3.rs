//! [`S3`]: MiniStack, a server that checks signatures and policies.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    SOON,
    process::Process,
    python,
    scene::{Scene, output},
    sshd::free_port,
    tools, wait_for,
};

/// The region of everything.
pub const REGION: &str = "us-east-1";

/// The bucket of the recordings: with Object Lock. `<name>-plain` has nothing.
pub const BUCKET: &str = "auditty-recordings";
/// The prefix of the recordings in it.
pub const PREFIX: &str = "auditty";

/// An access key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Access key id.
    pub id: String,
    /// Secret access key.
    pub secret: String,
}

impl Key {
    /// The environment every AWS client understands.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ACCESS_KEY_ID", self.id.as_str()),
            ("AWS_SECRET_ACCESS_KEY", self.secret.as_str()),
            ("AWS_REGION", REGION),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }
}

/// A running server with two buckets.
#[derive(Debug)]
pub struct S3 {
    /// The server.
    pub process: Process,
    /// `http://127.0.0.1:port`.
    pub endpoint: String,
    /// May put objects of the host `test-host`.
    pub writer: Key,
    /// May list and get.
    pub reader: Key,
    /// May do anything.
    pub admin: Key,
}

impl S3 {
    /// Starts it and makes the buckets and their users.
    pub fn start(scene: &Scene) -> Result<Self> {
        Self::start_for(scene, PREFIX)
    }

    /// The same, with a writer for this prefix; `*` for any.
    pub fn start_for(scene: &Scene, prefix: &str) -> Result<Self> {
        let port = free_port()?;
        let endpoint = format!("http://127.0.0.1:{port}");
        let root = Key {
            id: "AKIDROOT".to_owned(),
            secret: "root-secret".to_owned(),
        };
        let mut command = Command::new(tools().join("ministack/bin/ministack"));
        command
            .current_dir(scene.path(""))
            .envs(root.environment())
            .env("AUTH", "true")
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("SERVICES", "s3,kms,iam,sts,sns")
            .env("PERSIST_STATE", "0");
        let mut process = scene.spawn("ministack", &mut command)?;
        wait_for("the S3 server", SOON, || {
            ensure!(
                process.ended()?.is_none(),
                "ministack ended: {}",
                process.log()
            );
            Ok(ready(port).ok().filter(|ready| *ready))
        })?;
        let mut provision = script(&root, &endpoint);
        let keys = output(provision.args(["provision", BUCKET, prefix]))?;
        let keys: Value = serde_json::from_str(&keys)?;
        Ok(Self {
            process,
            endpoint,
            writer: key(&keys["writer"])?,
            reader: key(&keys["reader"])?,
            admin: root,
        })
    }

    /// The `[store]` table for it.
    pub fn store(&self) -> String {
        format!(
            "url = \"s3://{BUCKET}/{PREFIX}\"\nendpoint_url = \"{}\"\nregion = \"{REGION}\"\n\
             path_style = true",
            self.endpoint
        )
    }

    /// Downloads the bucket with boto3.
    pub fn download(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        output(
            script(&self.reader, &self.endpoint)
                .args(["download", BUCKET])
                .arg(folder),
        )?;
        Ok(())
    }

    /// Shows that the agent's key can put objects of its host, and nothing else.
    pub fn writer_may_only_put(&self) -> Result<()> {
        let mut script = script(&self.writer, &self.endpoint);
        output(script.args(["may-only-put", BUCKET, PREFIX]))?;
        Ok(())
    }

    /// What protects each object of the bucket. Fails when an administrator could
    /// delete one for good.
    pub fn protection(&self) -> Result<Vec<Value>> {
        let lines = output(script(&self.admin, &self.endpoint).args(["protection", BUCKET]))?;
        lines
            .lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }

    /// Writes down when which object appears in the bucket.
    pub fn arrivals(&self) -> Result<Arrivals> {
        let mut script = script(&self.reader, &self.endpoint);
        let watcher = script
            .args(["arrivals", BUCKET])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Arrivals { watcher })
    }
}

/// A reader that lists the bucket again and again.
#[derive(Debug)]
pub struct Arrivals {
    watcher: Child,
}

impl Arrivals {
    /// Keys, and when they were first seen, seconds since 1970.
    pub fn finish(mut self) -> Result<HashMap<String, f64>> {
        drop(self.watcher.stdin.take());
        let seen = self.watcher.wait_with_output()?;
        ensure!(
            seen.status.success(),
            "the watcher ended with {}",
            seen.status
        );
        let lines = String::from_utf8(seen.stdout)?;
        let seen = lines.lines().map(|line| Ok(serde_json::from_str(line)?));
        seen.collect()
    }
}

fn script(key: &Key, endpoint: &str) -> Command {
    let mut command = python::script("s3.py");
    command
        .envs(key.environment())
        .env("AWS_ENDPOINT_URL", endpoint);
    command
}

fn key(value: &Value) -> Result<Key> {
    let field = |name: &str| value[name].as_str().map(str::to_owned);
    Ok(Key {
        id: field("access_key").context("no access key")?,
        secret: field("secret_key").context("no secret key")?,
    })
}

fn ready(port: u16) -> Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET /_ministack/ready HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer
        .lines()
        .next()
        .is_some_and(|status| status.contains(" 200")))
}
