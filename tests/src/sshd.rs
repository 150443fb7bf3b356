//! [`Sshd`]: a real server on a free loopback port, and the keys it trusts.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    SOON,
    process::Process,
    scene::{Scene, output},
    tools,
    user::TestUser,
    wait_for,
};

/// A running sshd with a configuration of its own.
#[derive(Debug)]
pub struct Sshd {
    /// The listener.
    pub process: Process,
    /// Its port on 127.0.0.1.
    pub port: u16,
    folder: PathBuf,
}

impl Sshd {
    /// Starts it; `extra` is added to its configuration.
    pub fn start(scene: &Scene, extra: &str) -> Result<Self> {
        // By its path: it executes itself again for every connection.
        Self::launch(scene, extra, Command::new("/usr/sbin/sshd"))
    }

    /// The same with this environment.
    pub fn start_in<'a>(
        scene: &Scene,
        extra: &str,
        environment: impl IntoIterator<Item = (&'a str, PathBuf)>,
    ) -> Result<Self> {
        let mut command = Command::new("/usr/sbin/sshd");
        command.envs(environment);
        Self::launch(scene, extra, command)
    }

    /// Starts OpenSSH 10, where `cargo xtask setup` unpacked it: laid over `/usr`
    /// for this server and its sessions alone.
    pub fn start_openssh_10(scene: &Scene, extra: &str) -> Result<Self> {
        let usr = tools().join("openssh-10/usr");
        anyhow::ensure!(usr.is_dir(), "no {}: run cargo xtask setup", usr.display());
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg(
            "mount -t overlay overlay -o lowerdir=\"$0\":/usr /usr && exec /usr/sbin/sshd \"$@\"",
        );
        command.arg(usr);
        Self::launch(scene, extra, command)
    }

    /// Starts it with lines of its own at the top of PAM's stack.
    pub fn start_with_pam(scene: &Scene, lines: &str) -> Result<Self> {
        const STACK: &str = "/etc/pam.d/sshd";
        let stack = format!("{lines}\n{}", fs::read_to_string(STACK)?);
        let stack = scene.write("pam-sshd", stack)?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg(format!(
            "mount --bind \"$0\" {STACK} && exec /usr/sbin/sshd \"$@\""
        ));
        command.arg(stack);
        Self::launch(scene, "", command)
    }

    fn launch(scene: &Scene, extra: &str, mut command: Command) -> Result<Self> {
        let port = free_port()?;
        let folder = scene.path(&format!("sshd-{port}"));
        fs::create_dir_all(folder.join("authorized_keys"))?;
        let host_key = key_pair(&folder.join("host_key"))?;
        let folder_name = folder.display();
        // Of a keyword that comes twice, sshd takes the first.
        let pam = if extra.contains("UsePAM no") {
            "no"
        } else {
            "yes"
        };
        let config = format!(
            "Port {port}\n\
             ListenAddress 127.0.0.1\n\
             HostKey {}\n\
             PidFile none\n\
             AuthorizedKeysFile {folder_name}/authorized_keys/%u\n\
             StrictModes no\n\
             UsePAM {pam}\n\
             PasswordAuthentication yes\n\
             PermitRootLogin yes\n\
             MaxStartups 100\n\
             MaxSessions 50\n\
             LogLevel VERBOSE\n\
             PrintMotd no\n\
             Subsystem sftp internal-sftp\n\
             {extra}\n",
            host_key.display(),
        );
        let config_path = folder.join("sshd_config");
        fs::write(&config_path, config)?;
        command.args(["-D", "-e", "-f"]).arg(&config_path);
        let mut process = scene.spawn("sshd", &mut command)?;
        wait_for("sshd on its port", SOON, || {
            anyhow::ensure!(process.ended()?.is_none(), "sshd ended: {}", process.log());
            Ok(TcpStream::connect(("127.0.0.1", port)).ok())
        })?;
        Ok(Self {
            process,
            port,
            folder,
        })
    }

    /// Makes a key pair that may log in as `user`, and gives the private key.
    pub fn authorize(&self, user: &TestUser) -> Result<PathBuf> {
        let key = key_pair(&self.folder.join(format!("key-{}", user.name)))?;
        self.restrict(user, &key, "")?;
        Ok(key)
    }

    /// Says what the key may do as `user`: options of `authorized_keys`, such as
    /// `command="…"`.
    pub fn restrict(&self, user: &TestUser, key: &Path, options: &str) -> Result<()> {
        let list = self.folder.join("authorized_keys").join(&user.name);
        let public = fs::read_to_string(public(key))?;
        fs::write(list, format!("{options} {public}"))?;
        Ok(())
    }
}

/// Makes an ed25519 key pair without a passphrase; gives back the path.
pub fn key_pair(path: &Path) -> Result<PathBuf> {
    output(
        Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(path),
    )?;
    Ok(path.to_owned())
}

/// Signs a key for an hour, as `<key>-cert.pub`.
pub fn certify(authority: &Path, key: &Path, key_id: &str, serial: u64, users: &str) -> Result<()> {
    let mut sign = Command::new("ssh-keygen");
    sign.args([
        "-q",
        "-I",
        key_id,
        "-z",
        &serial.to_string(),
        "-V",
        "-1h:+1h",
    ]);
    sign.args(["-n", users, "-s"]).arg(authority);
    output(sign.arg(public(key))).map(drop)
}

/// The public half of a key.
pub fn public(key: &Path) -> PathBuf {
    key.with_extension("pub")
}

/// `SHA256:…` of a key or certificate file, as `ssh-keygen -l` says.
pub fn fingerprint(file: &Path) -> Result<String> {
    let line = output(Command::new("ssh-keygen").arg("-lf").arg(file))?;
    let fingerprint = line
        .split(' ')
        .nth(1)
        .context("ssh-keygen -l has a second field")?;
    Ok(fingerprint.to_owned())
}

/// A port nobody listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
