//! How much is stored for a byte that was shown, by kind of work.

use std::{
    io::{Read as _, Write as _},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    lines::sample,
    recorder::{Recorder, Turn, turn},
    rig::Rig,
    throughput::kept,
};

/// What somebody types into vim to look at a file and change it, again and again,
/// with a pause between the keys, so that it draws as it does for people.
const VIM: [&str; 11] = [
    "\x06",
    "\x06",
    "/int\r",
    "n",
    "oone more line of text\x1b",
    "\x02",
    "G",
    "dd",
    ":set number!\r",
    "gg",
    "u",
];
const VIM_ROUNDS: usize = 10;

pub fn run(rig: &Rig) -> Result<()> {
    let noise = rig.size.noise;
    let source = rig
        .scene
        .write("looked-at.c", std::fs::read(rig.source())?)?;
    let works = [
        ("empty", "echo".to_owned()),
        (
            "ls",
            "ls -lR /usr/share/doc /usr/lib/python3 | head -c 5000000".to_owned(),
        ),
        ("apt", "apt list 2>/dev/null | head -c 5000000".to_owned()),
        (
            "sources",
            "find /usr/include -name '*.h' | sort | head -300 | xargs cat | head -c 3000000"
                .to_owned(),
        ),
        (
            "vim",
            format!("TERM=xterm vim -u NONE -n {}", source.display()),
        ),
        ("base64", format!("head -c {noise} /dev/urandom | base64")),
        (
            "raw",
            format!("stty raw -echo; head -c {noise} /dev/urandom"),
        ),
    ];
    let recorders: Vec<_> = Recorder::present()
        .into_iter()
        .filter(|recorder| !matches!(recorder, Recorder::Nothing | Recorder::Auditd))
        .collect();
    for (name, command) in works {
        // The same bytes each time, or nearly: one round tells.
        for recorder in &recorders {
            eprintln!("storage: {name}, {}", recorder.name());
            turn(rig, *recorder, &format!("storage of {name}"), |turn| {
                measure(rig, turn, name, &command, *recorder)
            })?;
        }
    }
    Ok(())
}

fn measure(
    rig: &Rig,
    turn: &Turn<'_>,
    name: &str,
    command: &str,
    recorder: Recorder,
) -> Result<()> {
    let command = turn.around(command);
    let shown = match name {
        "vim" => edit(rig, &command)?,
        _ => rig.show(&command)?.bytes,
    };
    turn.settle()?;
    let stored = turn.stored()? as f64;
    if name == "empty" {
        sample("storage.empty", recorder.name(), 0, stored / 1000.0);
        return Ok(());
    }
    let part = stored / shown.len() as f64;
    sample(&format!("storage.{name}"), recorder.name(), 0, part);
    let complete = kept(recorder, turn.output()?, &shown)?;
    sample(
        &format!("storage.{name}.complete"),
        recorder.name(),
        0,
        complete,
    );
    Ok(())
}

fn edit(rig: &Rig, command: &str) -> Result<Vec<u8>> {
    let mut child = rig.terminal(command)?;
    let mut keyboard = child.stdin.take().context("stdin is a pipe")?;
    let mut screen = child.stdout.take().context("stdout is a pipe")?;
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        screen.read_to_end(&mut bytes).map(|_| bytes)
    });
    thread::sleep(Duration::from_secs(1));
    for keys in std::iter::repeat_n(VIM, VIM_ROUNDS).flatten() {
        keyboard.write_all(keys.as_bytes())?;
        thread::sleep(Duration::from_millis(70));
    }
    keyboard.write_all(b":q!\r")?;
    child.wait()?;
    reader
        .join()
        .map_err(|_| anyhow::anyhow!("the reader died"))?
        .context("the screen")
}
