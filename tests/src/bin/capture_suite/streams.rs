//! Bytes of terminals and pipes are what the client got.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use auditty_tests::scene::output;

use crate::{
    account::{self, SHOWN, Stream},
    outcome::Outcome,
    rig::Rig,
};

/// Lines of text through a terminal.
pub fn terminal(rig: &mut Rig) -> Result<Outcome> {
    let shown = rig.shown("seq 1 20000")?;
    ensure!(
        shown.ends_with(b"20000\r\n"),
        "the client was shown {} bytes",
        shown.len()
    );
    account::compare(&rig.recording()?, SHOWN, &shown)
}

/// Bytes of any kind through a terminal.
pub fn binary(rig: &mut Rig) -> Result<Outcome> {
    let file = rig.scene.path("random");
    let make = format!("head -c 1000000 /dev/urandom > {}", file.display());
    output(Command::new("sh").args(["-c", &make]))?;
    let shown = rig.shown(&format!("stty raw; cat {}", file.display()))?;
    ensure!(
        shown == fs::read(&file)?,
        "the client was not shown the file"
    );
    account::compare(&rig.recording()?, SHOWN, &shown)
}

/// Input, output and errors of a command without a terminal.
pub fn three(rig: &mut Rig) -> Result<Outcome> {
    let input: String = (1..=30_000).map(|number| format!("{number}\n")).collect();
    let run = rig.run("cat; seq 3000 >&2; exit 7", input.as_bytes())?;
    ensure!(
        run.status.code() == Some(7),
        "ssh ended with {}",
        run.status
    );
    ensure!(
        run.stdout == input.as_bytes(),
        "the client did not get back what it sent"
    );
    let recording = rig.recording()?;
    let code = &recording.session()["exit_code"];
    ensure!(code == 7, "the exit code is {code}");
    let streams = [
        ("input", "stdin", input.as_bytes()),
        ("output", "stdout", &run.stdout),
        ("output", "stderr", &run.stderr),
    ];
    let outcomes = streams.map(|(kind, name, bytes)| {
        let stream = Stream {
            kind,
            name,
            terminal: 0,
        };
        account::compare(&recording, stream, bytes)
    });
    let outcomes = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
    outcomes
        .into_iter()
        .reduce(Outcome::and)
        .context("three streams")
}
