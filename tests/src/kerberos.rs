//! [`Realm`]: a Kerberos realm of one test, on a free loopback port.

use std::{
    io::Write as _,
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    SOON,
    process::Process,
    scene::{Scene, output},
    sshd::free_port,
    user::TestUser,
    wait_for,
};

const REALM: &str = "AUDITTY.TEST";

/// A running key distribution centre with a principal for the sshd on the
/// loopback.
#[derive(Debug)]
pub struct Realm {
    /// The process.
    pub process: Process,
    folder: PathBuf,
}

impl Realm {
    /// Makes the realm and starts its server.
    pub fn start(scene: &Scene) -> Result<Self> {
        let folder = scene.path("kerberos");
        let (port, at) = (free_port()?, folder.display());
        // Names are taken as they are: nothing asks a name server.
        scene.write(
            "kerberos/krb5.conf",
            format!(
                "[libdefaults]\ndefault_realm = {REALM}\nrdns = false\n\
                 dns_canonicalize_hostname = false\ndns_lookup_kdc = false\n\
                 [realms]\n{REALM} = {{\nkdc = 127.0.0.1:{port}\n}}\n\
                 [domain_realm]\n127.0.0.1 = {REALM}\n"
            ),
        )?;
        scene.write(
            "kerberos/kdc.conf",
            format!(
                "[realms]\n{REALM} = {{\ndatabase_name = {at}/principal\n\
                 key_stash_file = {at}/stash\nkdc_listen = 127.0.0.1:{port}\n\
                 kdc_tcp_listen = 127.0.0.1:{port}\n}}\n"
            ),
        )?;
        let command = |program: &str| {
            let mut command = Command::new(program);
            command.env("KRB5_CONFIG", folder.join("krb5.conf"));
            command.env("KRB5_KDC_PROFILE", folder.join("kdc.conf"));
            command
        };
        output(command("kdb5_util").args(["create", "-s", "-P", "master"]))?;
        let admin = |query: &str| output(command("kadmin.local").args(["-q", query]));
        admin("addprinc -randkey host/127.0.0.1")?;
        admin(&format!("ktadd -k {at}/keytab host/127.0.0.1"))?;
        let mut process = scene.spawn("krb5kdc", command("krb5kdc").arg("-n"))?;
        wait_for("the key distribution centre", SOON, || {
            ensure!(process.ended()?.is_none(), "it ended: {}", process.log());
            Ok(TcpStream::connect(("127.0.0.1", port)).ok())
        })?;
        Ok(Self { process, folder })
    }

    /// The environment of an sshd that takes tickets of this realm.
    pub fn of_server(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("KRB5_CONFIG", self.folder.join("krb5.conf")),
            ("KRB5_KTNAME", self.folder.join("keytab")),
        ]
    }

    /// Makes a principal for the user and fetches a ticket; the environment of
    /// a client that uses it.
    pub fn ticket(&self, user: &TestUser) -> Result<[(&'static str, PathBuf); 2]> {
        let client = [
            ("KRB5_CONFIG", self.folder.join("krb5.conf")),
            ("KRB5CCNAME", self.folder.join("tickets")),
        ];
        let query = format!("addprinc -pw {} {}", user.password, user.name);
        let mut admin = Command::new("kadmin.local");
        admin.env("KRB5_KDC_PROFILE", self.folder.join("kdc.conf"));
        output(admin.envs(client.clone()).args(["-q", &query]))?;
        let mut kinit = Command::new("kinit")
            .arg(&user.name)
            .envs(client.clone())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("kinit did not start")?;
        if let Some(mut keyboard) = kinit.stdin.take() {
            writeln!(keyboard, "{}", user.password)?;
        }
        ensure!(kinit.wait()?.success(), "kinit failed");
        Ok(client)
    }
}
