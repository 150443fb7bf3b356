//! A host that says nothing any more, and one whose agent is another than before: each
//! is an alert within half a minute.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use auditty_tests::{
    SOON, Scene, Stage,
    agent::{Agent, Collector, Setting, configure},
    cli::Cli,
    wait_for,
};
use nix::sys::signal::Signal;

/// What is promised.
const NOTICED: Duration = Duration::from_secs(30);

/// The way from a host to its collector.
struct Wire {
    address: String,
    is_cut: Arc<AtomicBool>,
}

impl Wire {
    fn to(collector: &str, socket: &Path) -> Result<Self> {
        let target = collector.strip_prefix("unix:").context("a Unix socket")?;
        let target = PathBuf::from(target);
        let listener = UnixListener::bind(socket)?;
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = UnixStream::connect(&target) else {
                    continue;
                };
                if let (Ok(a), Ok(b)) = (near.try_clone(), far.try_clone()) {
                    carry(a, b, &cut);
                    carry(far, near, &cut);
                }
            }
        });
        Ok(Self {
            address: format!("unix:{}", socket.display()),
            is_cut,
        })
    }

    /// Nothing is carried, and nobody is told.
    fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
    }
}

fn carry(mut from: UnixStream, mut to: UnixStream, cut: &Arc<AtomicBool>) {
    let cut = Arc::clone(cut);
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            while cut.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(20));
            }
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// Waits until there are so many alerts of a kind.
fn alerts(cli: &Cli, kind: &str, count: usize) -> Result<Duration> {
    let begin = Instant::now();
    wait_for(&format!("{count} {kind}"), NOTICED * 2, || {
        let answer = cli.json(&["alerts", "--kind", kind])?;
        let alerts = answer["alerts"].as_array();
        let there = alerts.map_or(0, Vec::len);
        ensure!(there <= count, "{answer}");
        Ok((there == count).then_some(()))
    })?;
    Ok(begin.elapsed())
}

#[test]
fn a_silent_or_changed_agent_is_an_alert_within_half_a_minute() -> Result<()> {
    let scene = Scene::new()?;
    let collector = Collector::start(&scene)?;
    let wire = Wire::to(&collector.address, &scene.path("wire.sock"))?;
    let mut setting = Setting {
        collector: Some(wire.address.clone()),
        ..Setting::default()
    };
    let cli = Cli::new(&["--collector", &collector.address], &[]);
    let mut stage = Stage::with(scene, &setting)?;
    wait_for("the host", SOON, || {
        let hosts = cli.json(&["hosts", "--live"])?;
        Ok(hosts["hosts"].get(0).map(|_| ()))
    })?;

    // Its configuration is another one.
    ensure!(stage.agent.stop()?.success());
    "key_lifetime = \"12h\"".clone_into(&mut setting.recording);
    configure(stage.agent.folder(), &setting)?;
    stage.agent = Agent::start_again(&stage.scene, &setting)?;
    let mut noticed = vec![("changed", alerts(&cli, "host_changed", 1)?)];

    // It is frozen.
    stage.agent.process.signal(Signal::SIGSTOP)?;
    noticed.push(("frozen", alerts(&cli, "host_silent", 1)?));
    assert!(cli.text(&["hosts"])?.contains("SILENT"));
    stage.agent.process.signal(Signal::SIGCONT)?;
    alerts(&cli, "host_heard", 1)?;

    // It is unplugged.
    wire.cut(true);
    noticed.push(("unplugged", alerts(&cli, "host_silent", 2)?));
    wire.cut(false);
    alerts(&cli, "host_heard", 2)?;

    // It is dead.
    stage.agent.process.kill()?;
    noticed.push(("dead", alerts(&cli, "host_silent", 3)?));
    stage.agent = Agent::start_again(&stage.scene, &setting)?;
    alerts(&cli, "host_heard", 3)?;

    for (what, after) in noticed {
        assert!(after < NOTICED, "{what}: noticed after {after:?}");
    }
    stage.end()
}
