//! [`Stage`]: what most tests begin with.

use std::{path::PathBuf, process::Output};

use anyhow::{Result, ensure};

use crate::{
    SOON,
    agent::{Agent, Setting},
    client::{Auth, Client},
    scene::Scene,
    sshd::Sshd,
    store::Recording,
    user::TestUser,
};

/// An agent, an sshd, and a user with a key.
#[derive(Debug)]
pub struct Stage {
    /// The agent.
    pub agent: Agent,
    /// The server.
    pub sshd: Sshd,
    /// The user.
    pub user: TestUser,
    /// The user's key.
    pub key: PathBuf,
    /// The folder, and what must be undone.
    pub scene: Scene,
}

impl Stage {
    /// Sets up the default: a folder store and the embedded collector.
    pub fn new() -> Result<Self> {
        Self::with(Scene::new()?, &Setting::default())
    }

    /// Sets up in a scene, with what differs from the default.
    pub fn with(scene: Scene, setting: &Setting) -> Result<Self> {
        let sshd = Sshd::start(&scene, "")?;
        Self::on(scene, sshd, setting)
    }

    /// Sets up around a server of the scene.
    pub fn on(scene: Scene, sshd: Sshd, setting: &Setting) -> Result<Self> {
        let user = TestUser::create(&scene)?;
        let key = sshd.authorize(&user)?;
        let agent = Agent::start(&scene, setting)?;
        Ok(Self {
            agent,
            sshd,
            user,
            key,
            scene,
        })
    }

    /// A client that logs in with the key.
    pub fn client(&self) -> Client {
        Client::new(&self.sshd, &self.user, Auth::Key(self.key.clone()))
    }

    /// Runs a command without a terminal.
    pub fn run(&self, remote: &str) -> Result<Output> {
        self.client().run(remote, b"")
    }

    /// The one recording there must be, finished.
    pub fn recording(&self) -> Result<Recording> {
        self.agent.store().only(self.sshd.port)
    }

    /// `count` finished recordings.
    pub fn recordings(&self, count: usize) -> Result<Vec<Recording>> {
        self.agent.store().finished(self.sshd.port, count)
    }

    /// Stops the agent: it must end well, and never have panicked.
    pub fn end(mut self) -> Result<()> {
        let status = self.agent.process.stop(SOON)?;
        let log = self.agent.process.log();
        ensure!(status.success(), "the agent ended with {status}");
        ensure!(!log.contains("panicked"), "the agent panicked");
        Ok(())
    }
}
