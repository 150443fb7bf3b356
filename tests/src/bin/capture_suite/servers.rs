//! Servers other than OpenSSH.

use std::{fs, io, net::TcpStream, os::unix::fs::PermissionsExt as _, process::Command};

use anyhow::{Result, bail, ensure};
use auditty_tests::{
    SOON,
    scene::output,
    sshd::{free_port, public},
    wait_for,
};

use crate::{
    account::{self, SHOWN},
    outcome::Outcome,
    rig::{Rig, present},
};

/// A login to dropbear is recorded like one to OpenSSH, or the agent says that
/// it is not.
pub fn dropbear(rig: &mut Rig) -> Result<Outcome> {
    if !present("dropbear") {
        return Ok(Outcome::Skip("no dropbear here".to_owned()));
    }
    let folder = rig.user.home.join(".ssh");
    fs::create_dir_all(&folder)?;
    let keys = folder.join("authorized_keys");
    fs::copy(public(rig.key()), &keys)?;
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600))?;
    let owner = format!("{0}:{0}", rig.user.name);
    output(Command::new("chown").args(["-R", &owner]).arg(&folder))?;
    let host_key = rig.scene.path("dropbear-key");
    output(
        Command::new("dropbearkey")
            .args(["-t", "ed25519", "-f"])
            .arg(&host_key),
    )?;
    let port = free_port()?;
    let mut command = Command::new("dropbear");
    command
        .args([
            "-F",
            "-E",
            "-P",
            "/dev/null",
            "-p",
            &format!("127.0.0.1:{port}"),
            "-r",
        ])
        .arg(&host_key);
    let mut server = rig.scene.spawn("dropbear", &mut command)?;
    wait_for("dropbear on its port", SOON, || {
        ensure!(
            server.ended()?.is_none(),
            "dropbear ended: {}",
            server.log()
        );
        Ok(TcpStream::connect(("127.0.0.1", port)).ok())
    })?;

    // The first of two options wins in ssh.
    let mut ssh = Command::new("ssh");
    ssh.args([
        "-tt",
        "-F",
        "none",
        "-o",
        &format!("Port={port}"),
        "-oStrictHostKeyChecking=no",
    ]);
    ssh.args([
        "-oUserKnownHostsFile=/dev/null",
        "-oLogLevel=ERROR",
        "-oBatchMode=yes",
    ]);
    ssh.args(["-oKexAlgorithms=curve25519-sha256", "-i"])
        .arg(rig.key());
    ssh.arg(format!("{}@127.0.0.1", rig.user.name))
        .arg("seq 1 2000");
    // At the end of its input newer dropbears end the session at once.
    let (input, _open) = io::pipe()?;
    let run = ssh.stdin(input).output()?;
    ensure!(
        run.status.success(),
        "ssh ended with {}: {}; dropbear said: {}",
        run.status,
        String::from_utf8_lossy(&run.stderr),
        server.log()
    );
    let limit = rig.limited("servers other than OpenSSH");
    if let Some(why) = limit.filter(|why| !why.contains("dropbear")) {
        return Ok(Outcome::Limit(why));
    }
    let recording = rig.recording()?;
    let user = &recording.session()["login"]["user"];
    if *user != rig.user.name.as_str() {
        bail!("the user is {user}");
    }
    account::compare(&recording, SHOWN, &run.stdout)
}
