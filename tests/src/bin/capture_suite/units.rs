//! The units of `deploy/systemd`, under the systemd that started this program.
//!
//! What systemd takes away from the agent must not be missed, and what it does for
//! the agent (ready, restart, watchdog) must work, with sessions open all the time.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use auditty_tests::{
    SOON, Scene,
    client::{Auth, Client},
    scene::output,
    sshd::Sshd,
    store::{Recording, Store},
    user::TestUser,
    wait_for,
};

use crate::{one_line, rig::tail};

type Test = (&'static str, fn(&Host) -> Result<()>);

const TESTS: [Test; 7] = [
    ("unit-start", start),
    ("unit-killed", killed),
    ("unit-stuck", stuck),
    ("unit-stopped", stopped),
    ("unit-guard", guard),
    ("unit-collector", collector),
    ("unit-removed", removed),
];

const AGENT: &str = "auditty-agent.service";
const GUARD: &str = "auditty-guard.service";
const COLLECTOR: &str = "auditty-collector.service";

/// How long sessions of the held user go on without a recorder.
const END_AFTER: Duration = Duration::from_secs(5);

/// A host with the units installed.
struct Host {
    /// Held by `[strict]`.
    held: Client,
    free: Client,
    home: PathBuf,
    _sshd: Sshd,
    _scene: Scene,
}

/// Runs every test, in this order: each goes on where the one before has ended.
pub fn run() -> Result<()> {
    println!("VM mode systemd");
    println!("VM plan {}", TESTS.map(|(name, _)| name).join(","));
    let host = Host::new()?;
    for (name, test) in TESTS {
        println!("VM start {name}");
        match test(&host) {
            Ok(()) => println!("VM {name} PASS"),
            Err(error) => {
                println!("VM {name} FAIL {}", one_line(&format!("{error:#}")));
                print_evidence();
            }
        }
    }
    println!("VM done");
    Ok(())
}

impl Host {
    fn new() -> Result<Self> {
        let scene = Scene::new()?;
        let line = "account required pam_exec.so quiet stdout /usr/bin/auditty-agent permit";
        let sshd = Sshd::start_with_pam(&scene, line)?;
        let (held, free) = (TestUser::create(&scene)?, TestUser::create(&scene)?);
        let config = format!(
            "[recording]\nchunk_interval = \"1s\"\n\
             [strict]\nusers = [\"{}\"]\nend_after = \"{}s\"\n",
            held.name,
            END_AFTER.as_secs()
        );
        fs::write("/etc/auditty/agent.toml", config)?;
        let client = |user: &TestUser| -> Result<Client> {
            let client = Client::new(&sshd, user, Auth::Key(sshd.authorize(user)?));
            // What is cheapest to emulate.
            Ok(client
                .with_banners()
                .with("-oKexAlgorithms=curve25519-sha256")
                .with("-oCiphers=aes128-ctr")
                .with("-oMACs=umac-64@openssh.com"))
        };
        Ok(Self {
            held: client(&held)?,
            free: client(&free)?,
            home: free.home.clone(),
            _sshd: sshd,
            _scene: scene,
        })
    }

    /// A session that `interrupt` comes in the middle of: it must not notice, and its
    /// recording must be complete.
    fn survives(&self, name: &str, interrupt: impl FnOnce() -> Result<()>) -> Result<()> {
        let session = self.open(name)?;
        let interrupted = interrupt();
        fs::write(self.home.join(format!("{name}-go")), "")?;
        let shown = join(session)?.stdout;
        interrupted?;
        let shown = String::from_utf8(shown)?;
        ensure!(
            shown.contains(&format!("{name} end")),
            "the session was cut: {shown}"
        );
        let recording = recording_of(name)?;
        recording.assert_complete()?;
        ensure!(
            recording.shown()? == shown,
            "recorded is not what was shown"
        );
        let found = recording.exec(&["/bin/true", name]).map(drop);
        found.with_context(|| {
            let markers = recording.of("marker");
            format!("{} {markers:?}", recording.session())
        })?;
        Ok(())
    }

    /// Opens a session that goes on when there is a file `<name>-go`.
    fn open(&self, name: &str) -> Result<JoinHandle<Result<Output>>> {
        let client = self.free.clone();
        let remote = format!(
            "echo {name} begin; : >~/{name}-here; until [ -e ~/{name}-go ]; do sleep 0.1; done; \
             seq 1 500; /bin/true {name}; echo {name} end"
        );
        let session = std::thread::spawn(move || client.run_tty(&remote));
        let here = self.home.join(format!("{name}-here"));
        wait_for("the session", SOON, || Ok(here.exists().then_some(())))?;
        Ok(session)
    }
}

fn start(host: &Host) -> Result<()> {
    systemctl(&["daemon-reload"])?;
    let session = host.open("adopted")?;
    // Returns when the agent says that it is ready.
    systemctl(&["enable", "--now", AGENT])?;
    ensure!(is_active(AGENT)?, "not active after its start");
    fs::write(host.home.join("adopted-go"), "")?;
    join(session)?;
    let adopted = recording_of("adopted end")?;
    ensure!(adopted.session()["adopted"] == true, "not adopted");
    host.survives("plain", || Ok(()))?;
    let check = output(Command::new("/usr/bin/auditty-agent").arg("check"))?;
    ensure!(check.contains("kernel-function"), "{check}");
    Ok(())
}

fn killed(host: &Host) -> Result<()> {
    let before = restarts()?;
    host.survives("killed", || {
        systemctl(&["kill", "--signal=KILL", "--kill-whom=main", AGENT])
    })?;
    restarted_since(before)
}

fn stuck(host: &Host) -> Result<()> {
    let before = restarts()?;
    host.survives("stuck", || {
        systemctl(&["kill", "--signal=STOP", "--kill-whom=main", AGENT])?;
        restarted_since(before)
    })
}

fn stopped(host: &Host) -> Result<()> {
    host.survives("stopped", || {
        systemctl(&["stop", AGENT])?;
        ensure!(!is_active(AGENT)?, "active after its stop");
        systemctl(&["start", AGENT])
    })
}

/// Who is held has no session without a recorder.
fn guard(host: &Host) -> Result<()> {
    systemctl(&["enable", "--now", GUARD])?;
    ensure!(is_active(GUARD)?, "not active after its start");
    let client = host.held.clone();
    let open = std::thread::spawn(move || client.run_tty("echo open; sleep 600"));
    wait_for("the session of the held user", SOON, || {
        let recordings = recordings().unwrap_or_default();
        let mut shown = recordings.iter().filter_map(|it| it.shown().ok());
        Ok(shown.any(|shown| shown == "open\r\n").then_some(()))
    })?;
    systemctl(&["stop", AGENT])?;
    let begin = Instant::now();
    wait_for("the end of the held session", SOON, || {
        Ok(open.is_finished().then_some(()))
    })?;
    let took = begin.elapsed();
    ensure!(
        took + Duration::from_secs(1) > END_AFTER,
        "ended after {took:?}"
    );
    let refused = host.held.run("echo in", b"")?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        !refused.status.success() && said.contains("only allowed while they are recorded"),
        "{said}"
    );
    ensure!(
        host.free.run("echo in", b"")?.stdout == b"in\n",
        "everybody is held"
    );
    systemctl(&["start", AGENT])?;
    ensure!(
        host.held.run("echo in", b"")?.stdout == b"in\n",
        "held with a recorder"
    );
    systemctl(&["disable", "--now", GUARD])
}

/// With the configuration as it is delivered.
fn collector(_: &Host) -> Result<()> {
    systemctl(&["enable", "--now", COLLECTOR])?;
    let socket = "/run/auditty-collector/collector.sock";
    wait_for("the collector's socket", SOON, || {
        Ok(Path::new(socket).exists().then_some(()))
    })?;
    ensure!(is_active(COLLECTOR)?, "not active after its start");
    let address = format!("unix:{socket}");
    let mut sessions = Command::new("/usr/bin/auditty");
    output(sessions.args(["--collector", &address, "sessions", "--output", "json"]))?;
    systemctl(&["disable", "--now", COLLECTOR])
}

fn removed(host: &Host) -> Result<()> {
    systemctl(&["disable", "--now", AGENT])?;
    output(Command::new("/usr/bin/auditty-agent").arg("uninstall"))?;
    ensure!(
        !Path::new("/sys/fs/bpf/auditty").exists(),
        "programs are left"
    );
    ensure!(
        host.free.run("echo in", b"")?.stdout == b"in\n",
        "sshd is in trouble"
    );
    Ok(())
}

fn join(session: JoinHandle<Result<Output>>) -> Result<Output> {
    session
        .join()
        .map_err(|_| anyhow!("the client's thread died"))?
}

fn systemctl(words: &[&str]) -> Result<()> {
    output(Command::new("systemctl").args(words)).map(drop)
}

fn is_active(unit: &str) -> Result<bool> {
    let status = Command::new("systemctl")
        .args(["is-active", "--quiet", unit])
        .status();
    Ok(status.context("systemctl did not start")?.success())
}

/// How often systemd has started the agent again.
fn restarts() -> Result<u32> {
    let shown =
        output(Command::new("systemctl").args(["show", "--property=NRestarts", "--value", AGENT]))?;
    shown.trim().parse().context("NRestarts")
}

fn restarted_since(before: u32) -> Result<()> {
    wait_for("the agent's restart", SOON, || {
        Ok((restarts()? > before && is_active(AGENT)?).then_some(()))
    })
}

fn recordings() -> Result<Vec<Recording>> {
    Store::new("/var/lib/auditty/recordings").recordings()
}

/// The finished recording in which this was shown.
fn recording_of(text: &str) -> Result<Recording> {
    wait_for("the finished recording", SOON, || {
        // A file got its name while it was looked at.
        let Ok(mut found) = recordings() else {
            return Ok(None);
        };
        found.retain(|it| it.end().is_ok() && it.shown().is_ok_and(|shown| shown.contains(text)));
        Ok(found.pop())
    })
}

/// Prints what helps after a failure.
fn print_evidence() {
    for unit in [AGENT, GUARD, COLLECTOR] {
        let mut journal = Command::new("journalctl");
        journal.args(["--no-pager", "--output=cat", "--lines=12", "--unit", unit]);
        let said = output(&mut journal).unwrap_or_default();
        for line in tail(&said, 12).lines() {
            println!("| {unit}: {}", line.chars().take(400).collect::<String>());
        }
    }
}
