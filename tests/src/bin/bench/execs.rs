//! How many programs a session starts in a second, and whether all are recorded.

use std::{num::NonZero, thread};

use anyhow::{Context as _, Result};

use crate::{
    lines::sample,
    recorder::{Recorder, Turn, turn},
    rig::Rig,
};

/// What is started.
const PROGRAM: &str = "/bin/true";

pub fn run(rig: &Rig) -> Result<()> {
    let recorders = Recorder::present();
    let count = rig.size.execs;
    rig.rounds("programs in a session", &recorders, |round, recorder| {
        turn(rig, *recorder, "programs in a session", |turn| {
            let command = rig.work(&format!("spawns {count}"));
            measure(rig, turn, "exec", &command, count, round, *recorder)
        })
    })?;
    // More than the machine has processors, so that these are never idle.
    let processes = 2 * thread::available_parallelism().map_or(1, NonZero::get) as u64;
    rig.rounds("a storm of programs", &recorders, |round, recorder| {
        turn(rig, *recorder, "a storm of programs", |turn| {
            let command = rig.work(&format!("spawns {count} {processes}"));
            measure(
                rig,
                turn,
                "storm",
                &command,
                count * processes,
                round,
                *recorder,
            )
        })
    })
}

fn measure(
    rig: &Rig,
    turn: &Turn<'_>,
    work: &str,
    command: &str,
    count: u64,
    round: u32,
    recorder: Recorder,
) -> Result<()> {
    let shown = rig.show(&turn.around(command))?;
    turn.settle()?;
    let name = recorder.name();
    let rate = number(&String::from_utf8_lossy(&shown.bytes), "rate")?;
    sample(&format!("{work}.rate"), name, round, rate);
    if let Some((recorded, declared)) = turn.execs(PROGRAM)? {
        let part = |events: u64| events as f64 / count as f64;
        sample(&format!("{work}.complete"), name, round, part(recorded));
        let accounted = part(recorded + declared);
        sample(&format!("{work}.accounted"), name, round, accounted);
    }
    Ok(())
}

/// What a work says of itself: `name number`.
pub fn number(text: &str, name: &str) -> Result<f64> {
    let mut words = text.split_whitespace();
    words.find(|word| *word == name);
    let number = words
        .next()
        .with_context(|| format!("no {name} in {text}"))?;
    Ok(number.parse()?)
}
