//! Many sessions, one after the other and at once.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::{
    account::{self, SHOWN, Stream},
    inner,
    outcome::Outcome,
    rig::{Rig, wait_at},
};

/// Sessions at a time.
const SESSIONS: usize = 40;

const STDOUT: Stream = Stream {
    kind: "output",
    name: "stdout",
    terminal: 0,
};

/// Sessions one after the other.
const IN_A_ROW: usize = 12;

/// Sessions of one connection, each in a terminal that has the index of the one
/// before, and often its address: each is what its own client was shown.
pub fn one_by_one(rig: &mut Rig) -> Result<Outcome> {
    let mut shown = BTreeMap::new();
    for number in 1..=IN_A_ROW {
        let remote = format!("seq {number}000 {number}020");
        shown.insert(remote.clone(), rig.client().run_tty(&remote)?.stdout);
    }
    each(rig, &shown)
}

/// Each recording is what the client of its command was shown.
fn each(rig: &mut Rig, shown: &BTreeMap<String, Vec<u8>>) -> Result<Outcome> {
    let mut outcome = Outcome::pass();
    for recording in rig.recordings(shown.len())? {
        let command = recording.session()["command"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let shown = shown
            .get(&command)
            .with_context(|| format!("nobody asked for {command}"))?;
        ensure!(
            shown.ends_with(b"\n"),
            "the client of {command} got {} bytes",
            shown.len()
        );
        let terminal = recording.session()["terminal"].is_string();
        let stream = if terminal { SHOWN } else { STDOUT };
        let one = account::compare(&recording, stream, shown);
        outcome = outcome.and(one.with_context(|| command.clone())?);
    }
    Ok(outcome)
}

/// Forty sessions that all write at the same time, every second one in a
/// terminal: each is byte for byte what its own client got. They wait for each
/// other before they begin.
pub fn sessions(rig: &mut Rig) -> Result<Outcome> {
    let gate = rig.gate("gate")?;
    let shown = std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..SESSIONS)
            .map(|number| {
                let client = rig.client_of(number);
                let base = (number + 1) * 100_000;
                let wait = wait_at("gate", &format!("here-{number}"));
                let remote = format!("{wait}; seq {base} {}", base + 1500);
                scope.spawn(move || {
                    let run = match number % 2 {
                        0 => client.run_tty(&remote),
                        _ => client.run(&remote, b""),
                    };
                    run.map(|output| (remote, output.stdout))
                })
            })
            .collect();
        let all: Result<()> = (0..SESSIONS)
            .try_for_each(|number| inner::wait_for_file(rig, &format!("here-{number}")));
        // They must end even when one of them never came.
        drop(gate);
        let shown = sessions.into_iter().map(|session| {
            let ended = session.join();
            ended.map_err(|_| anyhow!("a client's thread died"))?
        });
        let shown: Result<BTreeMap<String, Vec<u8>>> = shown.collect();
        all.and(shown)
    })?;
    each(rig, &shown)
}

/// Inner terminals at a time.
const SCRIPTS: usize = 40;

/// Forty inner terminals in one session that all write at the same time.
pub fn scripts(rig: &mut Rig) -> Result<Outcome> {
    let remote = format!(
        "for i in $(seq {SCRIPTS}); do script -qec \"seq ${{i}}00001 ${{i}}01500\" ~/typescript-$i >/dev/null & done; wait"
    );
    let run = rig.run(&remote, b"")?;
    ensure!(run.status.success(), "ssh ended with {}", run.status);
    let recording = rig.recording()?;
    let mut outcome = account::declared(&recording)?;
    let opened = recording.of("terminal_open").len();
    if let (0, Some(why)) = (opened, rig.limited("inner terminals (")) {
        return Ok(outcome.and(Outcome::Limit(why)));
    }
    let mut exact = 0;
    for event in recording.of("terminal_open") {
        let terminal = event["terminal"].as_u64().context("a number")?;
        let output = account::recorded(&recording, Stream { terminal, ..SHOWN })?;
        exact += usize::from((1..=SCRIPTS).any(|number| {
            let lines = (1..=1500).map(|line| format!("{}\r\n", number * 100_000 + line));
            output == lines.collect::<String>().as_bytes()
        }));
    }
    if exact < SCRIPTS {
        ensure!(
            outcome != Outcome::pass(),
            "{exact} of {SCRIPTS} terminals are exact, and no gap is declared"
        );
        outcome = outcome.and(Outcome::Limit(format!(
            "{exact} of {SCRIPTS} terminals are exact"
        )));
    }
    Ok(outcome)
}
