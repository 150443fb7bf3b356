//! [`Agent`] and [`Collector`]: the product's daemons, each with a
//! configuration of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    SOON, binary, cli::Cli, process::Process, python, scene::Scene, store::Store, wait_for,
};

/// What differs between the agents of the tests. The default is the embedded
/// collector and a folder as the store.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// `url` and the other keys of `[store]`; empty: a folder of the scene.
    pub store: String,
    /// Environment, such as credentials for a bucket.
    pub environment: Vec<(String, String)>,
    /// Address of a collector that runs elsewhere; `None`: embedded.
    pub collector: Option<String>,
    /// Further keys of `[collector]`.
    pub reports: String,
    /// Further keys of `[recording]`.
    pub recording: String,
    /// Further keys of `[grants]`.
    pub grants: String,
    /// Further tables of the configuration.
    pub extra: String,
}

/// A running agent. It keeps its folders when it is stopped or killed, so that
/// [`Agent::start_again`] goes on where it was.
#[derive(Debug)]
pub struct Agent {
    /// The process.
    pub process: Process,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    collector: String,
}

impl Agent {
    /// Writes a configuration, starts the agent and waits until it records.
    pub fn start(scene: &Scene, setting: &Setting) -> Result<Self> {
        let folder = scene.path("agent");
        configure(&folder, setting)?;
        Self::launch(scene, folder, setting)
    }

    /// Starts an agent with the folders and configuration of one before.
    pub fn start_again(scene: &Scene, setting: &Setting) -> Result<Self> {
        Self::launch(scene, scene.path("agent"), setting)
    }

    fn launch(scene: &Scene, folder: PathBuf, setting: &Setting) -> Result<Self> {
        // Pinned programs outlive their agent, and would be the next test's.
        scene.later(&format!(
            "'{}' uninstall",
            binary("auditty-agent").display()
        ))?;
        let mut command = command(&folder, &setting.environment);
        let mut process = scene.spawn("auditty-agent", &mut command)?;
        process.wait_for_log("records the SSH sessions of", SOON)?;
        let embedded = format!("unix:{}", folder.join("collector.sock").display());
        Ok(Self {
            process,
            folder,
            environment: setting.environment.clone(),
            collector: setting.collector.clone().unwrap_or(embedded),
        })
    }

    /// Its folder: configuration, state, spool, store, database, grants.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder store.
    pub fn store(&self) -> Store {
        Store::new(self.folder.join("store"))
    }

    /// Address of the collector it reports to.
    pub fn collector(&self) -> &str {
        &self.collector
    }

    /// The CLI, asking that collector.
    pub fn cli(&self) -> Cli {
        Cli::new(&["--collector", &self.collector], &self.environment)
    }

    /// The same, once the collector has the whole session: the report follows the
    /// recording in the store.
    pub fn cli_after(&self, session_id: &str) -> Result<Cli> {
        let cli = self.cli();
        wait_for("the report of the stored recording", SOON, || {
            let shown = cli.run(&["show", session_id, "--output", "json"])?;
            let reported = String::from_utf8_lossy(&shown.stdout).contains("chunkCount");
            Ok((shown.status.success() && reported).then_some(()))
        })?;
        Ok(cli)
    }

    /// The most memory it ever had, bytes.
    pub fn peak_memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        Ok(kilobytes.context("VmHWM in the status")?.parse::<u64>()? << 10)
    }

    /// `SIGTERM`, and waits: open recordings are sealed.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.stop(SOON)
    }
}

/// The command that runs an agent with the configuration in `folder`.
pub fn command(folder: &Path, environment: &[(String, String)]) -> Command {
    let mut command = Command::new(binary("auditty-agent"));
    command
        .arg("--config")
        .arg(folder.join("agent.toml"))
        .env_remove("RUST_LOG")
        .envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

/// Writes the configuration of an agent into `folder`.
pub fn configure(folder: &Path, setting: &Setting) -> Result<()> {
    let path = folder.display();
    fs::create_dir_all(folder.join("grants"))?;
    let store = if setting.store.is_empty() {
        fs::create_dir_all(folder.join("store"))?;
        format!("url = \"file://{path}/store\"")
    } else {
        setting.store.clone()
    };
    let collector = match &setting.collector {
        Some(address) => format!("mode = \"remote\"\naddress = \"{address}\""),
        None => {
            format!("listen = [\"unix:{path}/collector.sock\"]\ndatabase = \"{path}/collector.db\"")
        }
    };
    let config = format!(
        "[host]\nid = \"test-host\"\nlabels = {{ env = \"test\" }}\nstate_directory = \"{path}/state\"\n\n\
         [recording]\nchunk_interval = \"1s\"\nflush_interval = \"200ms\"\n{}\n\n\
         [store]\n{store}\n\n\
         [collector]\n{collector}\n{}\n\n\
         [grants]\ndirectory = \"{path}/grants\"\n{}\n\n\
         [spool]\ndirectory = \"{path}/spool\"\n\n\
         {}\n",
        setting.recording, setting.reports, setting.grants, setting.extra
    );
    fs::write(folder.join("agent.toml"), config)?;
    Ok(())
}

/// A collector that runs alone.
#[derive(Debug)]
pub struct Collector {
    /// The process.
    pub process: Process,
    /// Where agents and readers reach it.
    pub address: String,
}

impl Collector {
    /// Starts it over the database in the scene, and waits until it answers.
    pub fn start(scene: &Scene) -> Result<Self> {
        let folder = scene.path("collector");
        fs::create_dir_all(&folder)?;
        let address = format!("unix:{}", folder.join("collector.sock").display());
        let mut command = Command::new(binary("auditty-collector"));
        command.arg("--database").arg(folder.join("collector.db"));
        command.args(["--listen", &address]);
        let mut process = scene.spawn("auditty-collector", &mut command)?;
        wait_for("the collector", SOON, || {
            ensure!(
                process.ended()?.is_none(),
                "the collector ended: {}",
                process.log()
            );
            Ok(python::services(&address).ok())
        })?;
        Ok(Self { process, address })
    }

    /// Stops it.
    pub fn stop(&mut self, within: Duration) -> Result<ExitStatus> {
        self.process.stop(within)
    }
}
