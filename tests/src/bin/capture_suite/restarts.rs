//! The agent stands still, dies, or has too little room; the sessions go on.

use anyhow::{Result, anyhow, ensure};
use nix::sys::signal::Signal;

use crate::{
    account::{self, SHOWN},
    inner::wait_for_file,
    outcome::Outcome,
    rig::{Rig, wait_at},
};

/// A session in three parts, each of which waits at a gate.
fn in_parts(name: &str, lines: u32) -> String {
    let wait = |part: &str| wait_at(&format!("{name}-{part}-gate"), &format!("{name}-{part}"));
    format!(
        "stty sane; seq 1 1000; {}; seq 1 {lines}; /bin/true meanwhile; {}; seq 1 1000",
        wait("first"),
        wait("second")
    )
}

/// Runs it; `down` and `up` are what happens to the agent before and after the
/// part in the middle. Gives what the client was shown.
fn run(
    rig: &mut Rig,
    (name, lines): (&str, u32),
    down: impl FnOnce(&mut Rig) -> Result<()>,
    up: impl FnOnce(&mut Rig) -> Result<()>,
) -> Result<Vec<u8>> {
    let (client, remote) = (rig.client(), in_parts(name, lines));
    let first = rig.gate(&format!("{name}-first-gate"))?;
    let second = rig.gate(&format!("{name}-second-gate"))?;
    let session = std::thread::spawn(move || client.run_tty(&remote));
    // Gates are open when this is over, so that the session ends even when
    // something else went wrong.
    let steps = |rig: &mut Rig| -> Result<()> {
        let (first, _second) = (first, second);
        wait_for_file(rig, &format!("{name}-first"))?;
        down(rig)?;
        drop(first);
        wait_for_file(rig, &format!("{name}-second"))?;
        up(rig)
    };
    let steps = steps(rig);
    let session = session.join();
    let shown = session
        .map_err(|_| anyhow!("the client's thread died"))??
        .stdout;
    steps?;
    let end = shown.ends_with(b"1000\r\n");
    ensure!(end, "the session was cut: {} bytes", shown.len());
    Ok(shown)
}

/// An agent that stands still for a while loses nothing, as long as the rings
/// hold.
pub fn stopped(rig: &mut Rig) -> Result<Outcome> {
    let shown = run(
        rig,
        ("stopped", 20_000),
        |rig| rig.agent.process.signal(Signal::SIGSTOP),
        |rig| rig.agent.process.signal(Signal::SIGCONT),
    )?;
    account::compare(&rig.recording()?, SHOWN, &shown)
}

/// One that is killed and started again loses nothing either, or says that it
/// was away.
pub fn killed(rig: &mut Rig) -> Result<Outcome> {
    let shown = run(
        rig,
        ("killed", 20_000),
        |rig| rig.agent.process.kill(),
        Rig::restart_agent,
    )?;
    let recording = rig.recording()?;
    if recording.session()["verdict"] == "complete" {
        return account::compare(&recording, SHOWN, &shown);
    }
    let gaps = recording.of("gap");
    let away = gaps.iter().any(|gap| gap["cause"] == "agent_down");
    ensure!(away, "no gap says that the agent was away: {gaps:?}");
    account::declared(&recording)
}

/// With rings that are too small and an agent that stands still, recorded and
/// declared bytes together are what the client was shown.
pub fn small_rings(rig: &mut Rig) -> Result<Outcome> {
    let mode = rig.mode();
    rig.reconfigure(
        &mode,
        "data_ring_size = \"256 KiB\"\ncontrol_ring_size = \"256 KiB\"\n",
    )?;
    let shown = run(
        rig,
        ("small", 100_000),
        |rig| rig.agent.process.signal(Signal::SIGSTOP),
        |rig| rig.agent.process.signal(Signal::SIGCONT),
    );
    let outcome = shown.and_then(|shown| account::compare(&rig.recording()?, SHOWN, &shown));
    rig.reconfigure(&mode, "")?;
    match outcome? {
        Outcome::Limit(declared) => Ok(Outcome::Pass(format!("lost and declared: {declared}"))),
        other => Ok(other),
    }
}
