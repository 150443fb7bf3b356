//! [`TestUser`]: a throw-away unix user.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};

use crate::scene::{Scene, output};

/// A unix user with a password and a home, gone when the scene is over.
#[derive(Clone, Debug)]
pub struct TestUser {
    /// Name.
    pub name: String,
    /// Password: unique, so that a search for it finds only it.
    pub password: String,
    /// User id.
    pub uid: u32,
    /// Home folder.
    pub home: PathBuf,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl TestUser {
    /// Creates a user with a name that is free.
    pub fn create(scene: &Scene) -> Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::create_named(scene, &format!("audt{}x{number}", std::process::id()))
    }

    /// Creates a user of this name.
    pub fn create_named(scene: &Scene, name: &str) -> Result<Self> {
        // What is there already is not ours to remove afterwards.
        let taken = Command::new("id").arg(name).output()?.status.success();
        ensure!(
            !taken,
            "the user {name} exists already; remove it, if it is a leftover"
        );
        scene.later(&format!("userdel --remove --force {name}"))?;
        scene.later(&format!("pkill -KILL -u {name} && sleep 0.2"))?;
        output(Command::new("useradd").args(["--create-home", "--shell", "/bin/bash", name]))?;
        let random = output(Command::new("openssl").args(["rand", "-hex", "9"]))?;
        let password = format!("pw-{}", random.trim());
        let mut chpasswd = Command::new("chpasswd")
            .stdin(Stdio::piped())
            .spawn()
            .context("chpasswd did not start")?;
        if let Some(mut pipe) = chpasswd.stdin.take() {
            writeln!(pipe, "{name}:{password}")?;
        }
        ensure!(chpasswd.wait()?.success(), "chpasswd failed");
        let uid = output(Command::new("id").args(["-u", name]))?
            .trim()
            .parse()?;
        Ok(Self {
            name: name.to_owned(),
            password,
            uid,
            home: PathBuf::from("/home").join(name),
        })
    }

    /// Lets the user become root with `sudo`, asked for the password each time,
    /// once.
    pub fn may_sudo(&self, scene: &Scene) -> Result<()> {
        let file = format!("/etc/sudoers.d/{}", self.name);
        scene.later(&format!("rm -f {file}"))?;
        let name = &self.name;
        std::fs::write(
            &file,
            format!(
                "{name} ALL=(ALL) ALL\nDefaults:{name} timestamp_timeout=0, passwd_tries=1, !lecture\n"
            ),
        )?;
        output(Command::new("chmod").args(["440", &file]))?;
        Ok(())
    }
}
