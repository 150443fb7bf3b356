//! How fast a terminal shows text, what recording it costs, and whether what was
//! stored is what was shown.

use anyhow::{Result, ensure};

use crate::{
    lines::sample,
    recorder::{Recorder, Turn, turn},
    rig::Rig,
};

pub fn run(rig: &Rig) -> Result<()> {
    let recorders = Recorder::present();
    let text = rig.work(&format!("lines {}", rig.size.text));
    rig.rounds("text through ssh", &recorders, |round, recorder| {
        turn(rig, *recorder, "text through ssh", |turn| {
            measure(rig, turn, "text", &text, round, *recorder)
        })
    })?;
    let small = rig.work(&format!("small {}", rig.size.small));
    rig.rounds("small writes through ssh", &recorders, |round, recorder| {
        turn(rig, *recorder, "small writes through ssh", |turn| {
            measure(rig, turn, "small", &small, round, *recorder)
        })
    })?;
    for megabytes in rig.size.lengths {
        let name = format!("text.{megabytes}");
        let text = rig.work(&format!("lines {}", megabytes * 1_000_000));
        let what = format!("{megabytes} MB of text through ssh");
        rig.rounds(
            &what,
            &[Recorder::Nothing, Recorder::Auditty("auto")],
            |round, recorder| {
                turn(rig, *recorder, &what, |turn| {
                    measure(rig, turn, &name, &text, round, *recorder)
                })
            },
        )?;
    }
    Ok(())
}

fn measure(
    rig: &Rig,
    turn: &Turn<'_>,
    work: &str,
    command: &str,
    round: u32,
    recorder: Recorder,
) -> Result<()> {
    let shown = rig.show(&turn.around(command))?;
    turn.settle()?;
    let megabytes = shown.bytes.len() as f64 / 1e6;
    let name = recorder.name();
    let speed = megabytes / shown.lasted.as_secs_f64();
    sample(&format!("{work}.speed"), name, round, speed);
    // For 50 MB, as everybody quotes it.
    let cpu = turn.cpu()?.as_secs_f64() * 50.0 / megabytes;
    sample(&format!("{work}.cpu"), name, round, cpu);
    if recorder != Recorder::Nothing {
        let stored = turn.stored()? as f64 / shown.bytes.len() as f64;
        sample(&format!("{work}.stored"), name, round, stored);
        let complete = kept(recorder, turn.output()?, &shown.bytes)?;
        sample(&format!("{work}.complete"), name, round, complete);
    }
    Ok(())
}

/// Which part of what was shown is stored. Bytes that were never shown, or in
/// another order, are no recording at all.
pub fn kept(recorder: Recorder, stored: Option<Vec<u8>>, shown: &[u8]) -> Result<f64> {
    let stored = stored.unwrap_or_default();
    ensure!(!shown.is_empty(), "nothing was shown");
    // tlog ends with a line of its own, behind what it records.
    let own = shown
        .strip_suffix(b"\r\n")
        .filter(|_| recorder == Recorder::Tlog);
    let shown = own.unwrap_or(shown);
    if stored == shown {
        return Ok(1.0);
    }
    let same = stored
        .iter()
        .zip(shown)
        .take_while(|(one, other)| one == other);
    Ok(same.count() as f64 / shown.len() as f64)
}
