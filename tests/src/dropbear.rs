//! [`Dropbear`]: the SSH server of small systems.

use std::{fs, net::TcpStream, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Result, ensure};

use crate::{
    SOON,
    process::Process,
    scene::{Scene, output},
    sshd::{free_port, public},
    user::TestUser,
    wait_for,
};

/// A running dropbear.
///
/// It ends a session as soon as the command ends, and what it has not read from
/// the terminal by then nobody gets: a command whose output is compared with what
/// the client got must not end right behind it.
#[derive(Debug)]
pub struct Dropbear {
    /// The listener.
    pub process: Process,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl Dropbear {
    /// Starts it; the user may log in with this key.
    pub fn start(scene: &Scene, user: &TestUser, key: &Path) -> Result<Self> {
        trust(user, key)?;
        let host_key = scene.path("dropbear-key");
        output(
            Command::new("dropbearkey")
                .args(["-t", "ed25519", "-f"])
                .arg(&host_key),
        )?;
        let port = free_port()?;
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new("/usr/sbin/dropbear");
        command.args(["-F", "-E", "-P", "/dev/null", "-p", &address, "-r"]);
        let mut process = scene.spawn("dropbear", command.arg(&host_key))?;
        wait_for("dropbear on its port", SOON, || {
            let ended = process.ended()?;
            ensure!(ended.is_none(), "dropbear ended: {}", process.log());
            Ok(TcpStream::connect(("127.0.0.1", port)).ok())
        })?;
        Ok(Self { process, port })
    }
}

/// Lets the user in where dropbear looks, which is only there.
fn trust(user: &TestUser, key: &Path) -> Result<()> {
    let folder = user.home.join(".ssh");
    let keys = folder.join("authorized_keys");
    fs::create_dir_all(&folder)?;
    fs::copy(public(key), &keys)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600))?;
    let owner = format!("{0}:{0}", user.name);
    output(Command::new("chown").args(["-R", &owner]).arg(&folder))?;
    Ok(())
}
