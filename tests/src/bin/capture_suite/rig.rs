//! [`Rig`]: an agent in one way of capture, an sshd, a user, and a few open
//! connections that sessions share, because a key exchange is the most expensive
//! thing in an emulated machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use auditty_tests::{
    SOON, Scene,
    agent::{self, Agent, Setting},
    client::{Auth, Client, Typist},
    process::Process,
    scene::{files_below, output},
    sshd::Sshd,
    store::Recording,
    user::TestUser,
    wait_for,
};

use crate::kernel;

/// Open connections that sessions share.
const CONNECTIONS: usize = 4;

/// Where sessions wait, as many as come, without doing anything: a FIFO that has
/// no end as long as this holds it. Dropped, it is open for all.
pub struct Gate {
    _open: fs::File,
}

/// The shell's side of a gate: says that it is there, and waits.
pub fn wait_at(gate: &str, here: &str) -> String {
    format!("exec 9<~/{gate}; : >~/{here}; read -r _ <&9; exec 9<&-")
}

/// What came of starting an agent in a way of capture.
pub enum Start {
    /// It records.
    Ready(Box<Rig>),
    /// This kernel cannot, in the agent's words.
    Refused(String),
}

/// Everything a test needs.
pub struct Rig {
    /// The agent.
    pub agent: Agent,
    /// The server.
    pub sshd: Sshd,
    /// The user, who may use sudo.
    pub user: TestUser,
    /// What `auditty-agent check` says is not captured.
    pub limits: String,
    setting: Setting,
    key: PathBuf,
    connections: Vec<Process>,
    /// Sessions that began before are those of earlier tests; milliseconds.
    began: u128,
    /// Last, so that what the others need is there until they are gone.
    pub scene: Scene,
}

impl Rig {
    /// Starts everything. `default` leaves the choice to the agent.
    pub fn start(mode: &str) -> Result<Start> {
        let scene = Scene::new()?;
        let setting = Setting {
            extra: capture(mode, ""),
            ..Setting::default()
        };
        agent::configure(&scene.path("agent"), &setting)?;
        let check = agent::command(&scene.path("agent"), &[])
            .arg("check")
            .output()
            .context("auditty-agent did not start")?;
        let said = String::from_utf8_lossy(&check.stdout).into_owned();
        if !check.status.success() {
            let errors = String::from_utf8_lossy(&check.stderr).into_owned();
            match kernel::refusal(&said) {
                Some(why) if mode != "default" => return Ok(Start::Refused(why)),
                _ => bail!("auditty-agent check: {said}{errors}"),
            }
        }
        let sshd = Sshd::start(&scene, "")?;
        let user = TestUser::create(&scene)?;
        user.may_sudo(&scene)?;
        let key = sshd.authorize(&user)?;
        let agent = Agent::start(&scene, &setting)?;
        let mut rig = Self {
            agent,
            sshd,
            user,
            limits: said,
            setting,
            key,
            connections: Vec::new(),
            began: 0,
            scene,
        };
        rig.connect()?;
        Ok(Start::Ready(Box::new(rig)))
    }

    /// Opens the connections that sessions share.
    fn connect(&mut self) -> Result<()> {
        for number in 0..CONNECTIONS {
            let client = self.alone().with("-N").with("-oControlMaster=yes");
            let mut ssh = client.with(self.control_path(number)).ssh();
            let mut process = self.scene.spawn("ssh", &mut ssh)?;
            let socket = self.scene.path(&format!("control-{number}"));
            wait_for("a connection", SOON, || {
                let ended = process.ended()?;
                ensure!(ended.is_none(), "ssh ended: {}", process.log());
                Ok(socket.exists().then_some(()))
            })?;
            self.connections.push(process);
        }
        Ok(())
    }

    fn control_path(&self, number: usize) -> String {
        let socket = self.scene.path(&format!("control-{number}"));
        format!("-oControlPath={}", socket.display())
    }

    /// A client with a connection of its own, with the key exchange and cipher
    /// that are cheapest to emulate.
    pub fn alone(&self) -> Client {
        Client::new(&self.sshd, &self.user, Auth::Key(self.key.clone()))
            .with("-oKexAlgorithms=curve25519-sha256")
            .with("-oCiphers=aes128-ctr")
            .with("-oMACs=umac-64@openssh.com")
    }

    /// A client whose sessions go over an open connection.
    pub fn client(&self) -> Client {
        self.client_of(0)
    }

    /// The same over another one.
    pub fn client_of(&self, number: usize) -> Client {
        self.alone().with(self.control_path(number % CONNECTIONS))
    }

    /// The options for `sftp`, `scp` and `rsync` that make them use it.
    pub fn shared(&self) -> String {
        self.control_path(0)
    }

    /// Runs a command without a terminal.
    pub fn run(&self, remote: &str, stdin: &[u8]) -> Result<Output> {
        self.client().run(remote, stdin)
    }

    /// Runs a command in a terminal, and gives what the client was shown. A
    /// client that shares a connection and has no terminal itself asks for one
    /// with every mode off.
    pub fn shown(&self, remote: &str) -> Result<Vec<u8>> {
        let remote = format!("stty sane; {remote}");
        Ok(self.client().run_tty(&remote)?.stdout)
    }

    /// A shell with somebody typing.
    pub fn shell(&self) -> Result<Typist> {
        let mut typist = self.client().shell()?;
        typist.line("stty sane")?;
        typist.ready()?;
        Ok(typist)
    }

    /// Makes a gate in the user's home, closed.
    pub fn gate(&self, name: &str) -> Result<Gate> {
        let path = self.user.home.join(name);
        output(Command::new("mkfifo").args(["-m", "644"]).arg(&path))?;
        // For reading as well, or it would wait for a reader.
        let file = fs::File::options().read(true).write(true).open(&path)?;
        Ok(Gate { _open: file })
    }

    /// Before a test: the agent must be there, as the tests before may have left
    /// it dead.
    pub fn begin(&mut self) -> Result<()> {
        self.began = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        if let Some(status) = self.agent.process.ended()? {
            let log = self.agent.process.log();
            self.restart_agent()?;
            bail!("the agent had ended with {status}: {}", tail(&log, 3));
        }
        Ok(())
    }

    /// Starts the agent again, with the folders it had.
    pub fn restart_agent(&mut self) -> Result<()> {
        self.agent = Agent::start_again(&self.scene, &self.setting)?;
        Ok(())
    }

    /// Starts it with other settings of `[capture]`.
    pub fn reconfigure(&mut self, mode: &str, settings: &str) -> Result<()> {
        drop(self.agent.stop());
        self.setting.extra = capture(mode, settings);
        agent::configure(&self.scene.path("agent"), &self.setting)?;
        self.restart_agent()
    }

    /// The way of capture that the agent was told.
    pub fn mode(&self) -> String {
        let line = self
            .setting
            .extra
            .lines()
            .find(|line| line.starts_with("mode"));
        let word = line.and_then(|line| line.split('"').nth(1));
        word.unwrap_or("default").to_owned()
    }

    /// The user's private key.
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// Process id of the agent.
    pub fn agent_pid(&self) -> u32 {
        self.agent.process.pid()
    }

    /// Waits until `count` more recordings of sessions are finished, and gives
    /// them.
    pub fn recordings(&mut self, count: usize) -> Result<Vec<Recording>> {
        let mut last = Vec::new();
        let found = wait_for(&format!("{count} finished recordings"), SOON, || {
            last = match self.finished() {
                // A file got its name, or went, while it was looked at.
                Err(error) if is_gone(&error) => return Ok(None),
                found => found?,
            };
            Ok((last.len() >= count).then(|| last.clone()))
        });
        let folders = found.with_context(|| format!("finished are {}", last.len()))?;
        ensure!(
            folders.len() == count,
            "{} recordings instead of {count}",
            folders.len()
        );
        folders
            .iter()
            .map(|folder| Recording::read(folder))
            .collect()
    }

    /// The one recording there must be.
    pub fn recording(&mut self) -> Result<Recording> {
        self.recordings(1)?.pop().context("one recording")
    }

    /// Folders of finished recordings of this test, without those of connections
    /// that never had a session. `SHA256SUMS` is written last.
    fn finished(&self) -> Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        for file in files_below(self.agent.store().folder())? {
            let folder = file.parent().unwrap_or(Path::new("/"));
            if file.ends_with("SHA256SUMS") && began(folder) >= Some(self.began) {
                let manifest = fs::read(folder.join("manifest.json"))?;
                let manifest: serde_json::Value = serde_json::from_slice(&manifest)?;
                if manifest["session"]["session_kind"] != "forward" {
                    folders.push(folder.to_owned());
                }
            }
        }
        Ok(folders)
    }

    /// Whether the agent says that it does not capture this.
    pub fn limited(&self, words: &str) -> Option<String> {
        let mut lines = self
            .limits
            .lines()
            .map(|line| line.trim_start_matches("not seen").trim());
        lines.find(|line| line.contains(words)).map(str::to_owned)
    }

    /// Prints what helps after a failure.
    pub fn print_evidence(&mut self, missed: u64) {
        for line in tail(&self.agent.process.log(), 12).lines() {
            println!("| agent: {}", line.chars().take(400).collect::<String>());
        }
        for folder in self.finished().unwrap_or_default() {
            let recording = Recording::read(&folder);
            let Ok(recording) = recording else { continue };
            let session = recording.session();
            println!(
                "| recorded: {} {} {} {}",
                session["verdict"], session["session_kind"], session["command"], session["counts"]
            );
            for gap in recording.of("gap").into_iter().take(4) {
                println!("| gap: {gap}");
            }
        }
        if missed > 0 {
            println!("| missed runs: {missed}");
        }
    }

    /// Stops the agent: it must end well, and never have panicked.
    pub fn end(mut self) -> Result<()> {
        self.connections.clear();
        if self.agent.process.ended()?.is_some() {
            return Ok(());
        }
        let status = self.agent.stop()?;
        let log = self.agent.process.log();
        ensure!(status.success(), "the agent ended with {status}");
        ensure!(
            !log.contains("panicked"),
            "the agent panicked: {}",
            tail(&log, 5)
        );
        Ok(())
    }
}

/// When the session of a recording began, milliseconds: the first 48 bits of its
/// id (UUID version 7).
fn began(folder: &Path) -> Option<u128> {
    let name = folder.file_name()?.to_str()?;
    let id = name.strip_prefix("session=")?.replace('-', "");
    u128::from_str_radix(id.get(..12)?, 16).ok()
}

/// The section `[capture]`.
fn capture(mode: &str, settings: &str) -> String {
    let mode = match mode {
        "default" => String::new(),
        mode => format!("mode = \"{mode}\"\n"),
    };
    format!("[capture]\n{mode}{settings}")
}

/// The last lines.
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(count);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// Whether a program is installed.
pub fn present(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output();
    found.is_ok_and(|output| output.status.success())
}

fn is_gone(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}
