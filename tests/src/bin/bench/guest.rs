//! The ways of capture beside each other on a kernel that has all of them: in a
//! guest, which is emulated.

use anyhow::Result;

use crate::{
    daemon::{self, Daemon},
    lines::{failed, sample},
    outside::{beside_somebody, calls_and_turns},
    rig::Rig,
};

pub fn run(rig: &Rig) -> Result<()> {
    let mut modes = vec![None];
    let allowed = daemon::modes(rig)?;
    modes.extend(
        allowed
            .into_iter()
            .filter(|mode| *mode != "uprobe")
            .map(Some),
    );
    rig.rounds("in a guest", &modes, |round, mode| {
        let done = match mode {
            None => without(rig, round),
            Some(mode) => with(rig, mode, round),
        };
        if let Err(error) = done {
            failed("auditty", "in a guest", &error);
        }
        Ok(())
    })
}

fn without(rig: &Rig, round: u32) -> Result<()> {
    outside(rig, "no agent", round)?;
    inside(rig, "no agent", round)
}

fn with(rig: &Rig, mode: &str, round: u32) -> Result<()> {
    let daemon = Daemon::start(rig, mode)?;
    outside(rig, &format!("{mode}, nobody connected"), round)?;
    beside_somebody(rig, || {
        outside(rig, &format!("{mode}, somebody idle"), round)
    })?;
    inside(rig, &format!("{mode}, in a session"), round)?;
    daemon.stop()
}

fn outside(rig: &Rig, state: &str, round: u32) -> Result<()> {
    calls_and_turns(rig, ("guest", "guest"), state, round)
}

/// Through ssh, megabytes a second.
fn inside(rig: &Rig, state: &str, round: u32) -> Result<()> {
    for (measure, work) in [
        ("guest.text", format!("lines {}", rig.size.text)),
        ("guest.small", format!("small {}", rig.size.small)),
    ] {
        let shown = rig.show(&rig.work(&work))?;
        let speed = shown.bytes.len() as f64 / 1e6 / shown.lasted.as_secs_f64();
        sample(measure, state, round, speed);
    }
    Ok(())
}
