//! What is typed: recorded, or masked where the terminal hides it.

use std::{fs, process::Command};

use anyhow::{Result, ensure};
use auditty_tests::{
    SOON,
    client::{Typist, find, wait_for_hidden_input},
    scene::files_below,
    store::Recording,
};

use crate::{
    account::{self, SHOWN, Stream},
    outcome::Outcome,
    rig::Rig,
};

const TYPED: Stream = Stream {
    kind: "input",
    name: "terminal",
    terminal: 0,
};

/// A line editor's input is recorded as it was typed.
pub fn typed(rig: &mut Rig) -> Result<Outcome> {
    let mut typist = rig.shell()?;
    typist.command("echo typed-$((6*7))")?;
    typist.command("cat <<END\rone line\rEND")?;
    typist.line("exit")?;
    let typed = typist.typed();
    let (_, shown) = typist.finish(SOON)?;
    let recording = rig.recording()?;
    let shown = account::compare(&recording, SHOWN, &shown)?;
    Ok(shown.and(account::compare(&recording, TYPED, typed.as_bytes())?))
}

/// Unique, so that a search for it finds only it.
const SECRET: &str = "Tq7-hidden-Zx";

/// What `read -s` reads is nowhere, and its length is known.
pub fn masked_read(rig: &mut Rig) -> Result<Outcome> {
    let mut typist = rig.shell()?;
    let terminal = typist.remote_terminal()?;
    typist.line("read -rs hidden; echo \"length ${#hidden}\"")?;
    wait_for_hidden_input(&terminal)?;
    typist.send(&format!("{SECRET}\r"))?;
    typist.expect(&format!("length {}", SECRET.len()))?;
    leave(rig, typist, SECRET)
}

/// The same at the prompt of su.
pub fn masked_su(rig: &mut Rig) -> Result<Outcome> {
    let mut typist = rig.shell()?;
    let terminal = typist.remote_terminal()?;
    typist.line(&format!("su {} -c 'echo su-$((6*7))'", rig.user.name))?;
    wait_for_hidden_input(&terminal)?;
    let password = rig.user.password.clone();
    typist.send(&format!("{password}\r"))?;
    typist.expect("su-42")?;
    leave(rig, typist, &password)
}

/// Ends the shell, and looks for the secret everywhere.
fn leave(rig: &mut Rig, mut typist: Typist, secret: &str) -> Result<Outcome> {
    typist.command("echo typed-in-the-open")?;
    typist.line("exit")?;
    typist.finish(SOON)?;
    let recording = rig.recording()?;
    let outcome = account::declared(&recording)?;
    ensure!(
        !holds(&recording, secret)?,
        "the secret is in the recording"
    );
    for file in files_below(rig.agent.folder())? {
        // Some are gone meanwhile: what was delivered is removed.
        let bytes = fs::read(&file).unwrap_or_default();
        ensure!(
            find(&bytes, secret.as_bytes()).is_none(),
            "the secret is in {}",
            file.display()
        );
    }
    if let Some(unseen) = account::unseen(&recording) {
        return Ok(unseen);
    }
    let masked: u64 = recording
        .of("input")
        .iter()
        .filter_map(|event| event["masked_bytes"].as_u64())
        .sum();
    ensure!(
        masked == secret.len() as u64 + 1,
        "{masked} bytes are masked"
    );
    ensure!(
        holds(&recording, "typed-in-the-open")?,
        "what was typed in the open is nowhere"
    );
    Ok(outcome)
}

/// Whether text is in any chunk.
fn holds(recording: &Recording, text: &str) -> Result<bool> {
    let chunks = files_below(&recording.folder)?.into_iter();
    let chunks = chunks.filter(|path| path.to_string_lossy().ends_with(".zst"));
    let unpacked = Command::new("zstd").arg("-dcq").args(chunks).output()?;
    Ok(find(&unpacked.stdout, text.as_bytes()).is_some())
}

/// The window's sizes are recorded in their order.
pub fn resize(rig: &mut Rig) -> Result<Outcome> {
    let mut typist = rig.alone().shell_at_terminal(24, 80)?;
    typist.ready()?;
    for (rows, columns) in [(33, 111), (50, 132)] {
        typist.resize(rows, columns)?;
        // Not the next prompt: the shell draws one more for a new size.
        typist.line(&format!(
            "until [ \"$(stty size)\" = '{rows} {columns}' ]; do sleep 0.1; done; \
             echo now $(stty size)"
        ))?;
        typist.expect(&format!("now {rows} {columns}"))?;
    }
    typist.line("exit")?;
    typist.finish(SOON)?;
    let recording = rig.recording()?;
    let outcome = account::declared(&recording)?;
    if let Some(unseen) = account::unseen(&recording) {
        return Ok(unseen);
    }
    let sizes: Vec<_> = recording
        .of("resize")
        .iter()
        .map(|event| (event["rows"].as_u64(), event["columns"].as_u64()))
        .collect();
    let expected =
        [(24, 80), (33, 111), (50, 132)].map(|(rows, columns)| (Some(rows), Some(columns)));
    ensure!(sizes == expected, "sizes are {sizes:?}");
    Ok(outcome)
}
