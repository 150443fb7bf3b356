//! How long a keystroke takes there and back.

use std::{
    io::{Read as _, Write as _},
    process::Child,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    lines::sample,
    recorder::{Recorder, turn},
    rig::Rig,
};

/// Faster than anybody types, slower than a pipe is busy.
const PAUSE: Duration = Duration::from_millis(3);

/// What is not counted at the beginning.
const WARM: usize = 30;

pub fn run(rig: &Rig) -> Result<()> {
    let recorders = Recorder::present();
    rig.rounds("keystrokes", &recorders, |round, recorder| {
        turn(rig, *recorder, "keystrokes", |turn| {
            let mut times = type_keys(rig, &turn.around(&rig.work("echo")))?;
            times.sort();
            for (name, part) in [("key.p50", 0.5), ("key.p99", 0.99)] {
                sample(name, recorder.name(), round, percentile(&times, part) * 1e6);
            }
            Ok(())
        })
    })
}

/// Of sorted times, that which `part` of them do not exceed; seconds.
pub fn percentile(sorted: &[Duration], part: f64) -> f64 {
    let place = (sorted.len() as f64 * part).ceil() as usize;
    let time = sorted.get(place.saturating_sub(1).min(sorted.len().saturating_sub(1)));
    time.map_or(f64::NAN, Duration::as_secs_f64)
}

fn type_keys(rig: &Rig, command: &str) -> Result<Vec<Duration>> {
    let mut child = rig.terminal(command)?;
    let times = keys(&mut child, rig.size.keys);
    if times.is_err() {
        child.kill()?;
    }
    child.wait()?;
    times
}

fn keys(child: &mut Child, count: usize) -> Result<Vec<Duration>> {
    let mut keyboard = child.stdin.take().context("stdin is a pipe")?;
    let screen = child.stdout.as_mut().context("stdout is a pipe")?;
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"go>") {
        screen
            .read_exact(&mut byte)
            .context("the work did not begin")?;
        seen.push(byte[0]);
    }
    let mut times = Vec::new();
    for number in 0..count + WARM {
        thread::sleep(PAUSE);
        let key = b"etaoinshr"[number % 9];
        let begun = Instant::now();
        keyboard.write_all(&[key])?;
        screen.read_exact(&mut byte)?;
        if number >= WARM {
            times.push(begun.elapsed());
        }
        ensure!(byte[0] == key, "{} came back for {key}", byte[0]);
    }
    keyboard.write_all(b"q")?;
    // To its end: whoever records may have something to say.
    screen.read_to_end(&mut seen)?;
    Ok(times)
}
