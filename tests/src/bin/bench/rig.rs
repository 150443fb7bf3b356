//! [`Rig`]: a server, a user and the work, the same for all recorders.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use auditty_tests::{
    Scene,
    client::{Auth, Client},
    program,
    sshd::Sshd,
    user::TestUser,
};

use crate::{clock::Group, lines};

/// How much work a run does.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Bytes of text on a terminal.
    pub text: u64,
    /// Megabytes of it in sessions of different length.
    pub lengths: &'static [u64],
    /// Lines that are written one by one.
    pub small: u64,
    /// Keystrokes.
    pub keys: usize,
    /// Programs that are started.
    pub execs: u64,
    /// Children that are forked; messages are ten times, connections half of that.
    pub turns: u64,
    /// How long an idle agent is watched.
    pub idle: Duration,
    /// How many sessions the memory of the agent is looked at with.
    pub sessions: &'static [usize],
    /// Bytes of the recording that is read.
    pub big: u64,
    /// Keystrokes of which the way to the disk is followed.
    pub followed: usize,
    /// Bytes of incompressible output.
    pub noise: u64,
}

/// For the numbers that are quoted.
pub const FULL: Size = Size {
    text: 50_000_000,
    lengths: &[1, 10, 100],
    small: 200_000,
    keys: 500,
    execs: 2000,
    turns: 2000,
    idle: Duration::from_secs(30),
    sessions: &[1, 100],
    big: 100_000_000,
    followed: 60,
    noise: 5_000_000,
};

/// For looking whether it works.
pub const QUICK: Size = Size {
    text: 10_000_000,
    lengths: &[1, 10],
    small: 30_000,
    keys: 150,
    execs: 300,
    turns: 500,
    idle: Duration::from_secs(10),
    sessions: &[1, 20],
    big: 20_000_000,
    followed: 15,
    noise: 1_000_000,
};

/// A thousand sessions, and a gigabyte to read.
pub const LARGE: Size = Size {
    sessions: &[1, 100, 1000],
    big: 1_000_000_000,
    ..FULL
};

/// For an emulated machine.
pub const GUEST: Size = Size {
    text: 2_000_000,
    small: 4_000,
    turns: 200,
    ..QUICK
};

/// See the module's description.
pub struct Rig {
    /// How often everything is done.
    pub rounds: u32,
    /// How much of it.
    pub size: Size,
    /// The server.
    pub sshd: Sshd,
    /// What it and its sessions use.
    pub group: Group,
    /// Who logs in.
    pub user: TestUser,
    key: PathBuf,
    work: PathBuf,
    /// The folder, and what must be undone.
    pub scene: Scene,
}

/// What a client got.
pub struct Shown {
    /// Byte for byte.
    pub bytes: Vec<u8>,
    /// From the first byte to the last.
    pub lasted: Duration,
}

impl Rig {
    /// Starts the server, creates the user, compiles the work.
    pub fn new(rounds: u32, size: Size) -> Result<Self> {
        ensure!(rounds > 0, "at least one round");
        let scene = Scene::new()?;
        // PAM may move sessions to groups of systemd's.
        let sshd = Sshd::start(&scene, "UsePAM no")?;
        let group = Group::around(&scene, sshd.process.pid())?;
        let user = TestUser::create(&scene)?;
        let key = sshd.authorize(&user)?;
        let work = program::compile(&scene, "workload", &[])?;
        fs::set_permissions(&work, fs::Permissions::from_mode(0o755))?;
        describe_machine()?;
        lines::fact("rounds", &rounds.to_string());
        Ok(Self {
            rounds,
            size,
            sshd,
            group,
            user,
            key,
            work,
            scene,
        })
    }

    /// A client that logs in with the key.
    pub fn client(&self) -> Client {
        Client::new(&self.sshd, &self.user, Auth::Key(self.key.clone()))
    }

    /// The command line of a work.
    pub fn work(&self, words: &str) -> String {
        format!("{} {words}", self.work.display())
    }

    /// The source of the work: something to compile.
    pub fn source(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/workload.c")
    }

    /// A new folder that the user may write to.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.scene.path(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777))?;
        Ok(folder)
    }

    /// Runs a command in a terminal of a login, and keeps what comes.
    pub fn show(&self, command: &str) -> Result<Shown> {
        let mut child = self.terminal(command)?;
        let mut pipe = child.stdout.take().context("stdout is a pipe")?;
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        let (mut first, mut last) = (None, Instant::now());
        loop {
            let count = pipe.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            last = Instant::now();
            first.get_or_insert(last);
            bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
        let status = child.wait()?;
        ensure!(
            status.success(),
            "{command} ended with {status}: {}",
            String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(300)..])
        );
        let lasted = last.duration_since(first.context("it showed nothing")?);
        Ok(Shown { bytes, lasted })
    }

    /// Starts a command in a terminal of a login. Its input stays open.
    pub fn terminal(&self, command: &str) -> Result<Child> {
        let mut ssh = self.client().with("-tt").ssh();
        ssh.arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("ssh did not start")
    }

    /// Runs something in each round, for each of these, in an order that rotates.
    pub fn rounds<T>(
        &self,
        what: &str,
        all: &[T],
        mut each: impl FnMut(u32, &T) -> Result<()>,
    ) -> Result<()> {
        for round in 0..self.rounds {
            for place in 0..all.len() {
                let at = (place + round as usize) % all.len();
                eprint!(
                    "\r{what}: round {} of {}, {}/{} ",
                    round + 1,
                    self.rounds,
                    place + 1,
                    all.len()
                );
                std::io::stderr().flush()?;
                each(round, &all[at])?;
            }
        }
        eprintln!("\r{what}: done                         ");
        Ok(())
    }
}

/// Processor, kernel and load: ratios hold for these.
fn describe_machine() -> Result<()> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.unwrap_or("?").trim_start_matches([' ', '\t', ':']);
    let count = cpus
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    lines::fact("machine", &format!("{count} × {model}"));
    lines::fact(
        "kernel",
        fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
    );
    let load = fs::read_to_string("/proc/loadavg")?;
    let load: Vec<_> = load.split(' ').take(2).collect();
    lines::fact("load at the start (1 and 5 minutes)", &load.join(", "));
    let version = Command::new("ssh").arg("-V").output()?;
    lines::fact("ssh", String::from_utf8_lossy(&version.stderr).trim());
    Ok(())
}
