//! What the agent costs those who are in no session: system calls, children,
//! connections, ordinary programs.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use auditty_tests::{program, scene::output};

use crate::{
    clock,
    daemon::{self, Daemon},
    execs::number,
    lines::{failed, sample},
    rig::Rig,
};

/// Who records meanwhile, and whom.
#[derive(Clone, Copy)]
enum State {
    NoAgent,
    /// Programs that do nothing: the kernel's own part of what watching costs.
    EmptyPrograms,
    /// Nobody is connected.
    Nobody(&'static str),
    /// Somebody is, and does nothing.
    Idle(&'static str),
}

pub fn run(rig: &Rig) -> Result<()> {
    let mut states = vec![State::NoAgent];
    let modes = daemon::modes(rig)?;
    if modes.contains(&"tracepoint") {
        states.push(State::EmptyPrograms);
    }
    for mode in modes {
        states.extend([State::Nobody(mode), State::Idle(mode)]);
    }
    // What is read from the disk the first time is in memory afterwards.
    for (_, command) in programs(rig)? {
        shell(&command)?;
    }
    rig.rounds("outside sessions", &states, |round, state| {
        let done = match state {
            State::NoAgent => measure(rig, "no agent", round),
            State::EmptyPrograms => {
                with_empty_programs(rig, || measure(rig, "two empty programs", round))
            }
            State::Nobody(mode) => Daemon::start(rig, mode).and_then(|daemon| {
                measure(rig, &format!("{mode}, nobody connected"), round)?;
                daemon.stop()
            }),
            State::Idle(mode) => Daemon::start(rig, mode).and_then(|daemon| {
                let state = format!("{mode}, somebody idle");
                beside_somebody(rig, || measure(rig, &state, round))?;
                daemon.stop()
            }),
        };
        if let Err(error) = done {
            failed("auditty", "outside sessions", &error);
        }
        Ok(())
    })
}

/// Does something while empty programs are attached to all system calls.
fn with_empty_programs(rig: &Rig, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let program = program::compile(&rig.scene, "empty_programs", &[])?;
    let mut attached = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    let pipe = attached.stdout.take().context("stdout is a pipe")?;
    BufReader::new(pipe).read_line(&mut said)?;
    let worked = match said.trim() {
        "attached" => work(),
        _ => Err(anyhow!("the kernel does not take empty programs")),
    };
    drop(attached.stdin.take());
    attached.wait()?;
    worked
}

/// Measures while somebody is logged in who does nothing.
pub fn beside_somebody(rig: &Rig, measure: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut client = connect(rig)?;
    let measured = measure();
    drop(client.stdin.take());
    client.kill()?;
    client.wait()?;
    measured
}

fn connect(rig: &Rig) -> Result<Child> {
    let mut client = rig.terminal("echo in; cat")?;
    let mut screen = client.stdout.take().context("stdout is a pipe")?;
    std::io::Read::read_exact(&mut screen, &mut [0; 2])?;
    // Nothing is in flight any more.
    thread::sleep(Duration::from_millis(300));
    client.stdout = Some(screen);
    Ok(client)
}

fn measure(rig: &Rig, state: &str, round: u32) -> Result<()> {
    calls_and_turns(rig, ("call", "turn"), state, round)?;
    for (name, command) in programs(rig)? {
        let before = clock::of_children()?;
        shell(&command)?;
        let used = clock::of_children()?.saturating_sub(before);
        sample(&format!("program.{name}"), state, round, used.as_secs_f64());
    }
    Ok(())
}

/// System calls, by name behind the first prefix, and what is done many times,
/// behind the other.
pub fn calls_and_turns(
    rig: &Rig,
    (of_calls, of_turns): (&str, &str),
    state: &str,
    round: u32,
) -> Result<()> {
    let calls = work(rig, "calls")?;
    for call in ["getppid", "read", "write", "open", "pipe"] {
        let measure = format!("{of_calls}.{call}");
        sample(&measure, state, round, number(&calls, call)?);
    }
    let turns = rig.size.turns;
    for (name, count) in [
        ("forks", turns),
        ("loopback", 10 * turns),
        ("connects", turns / 2),
    ] {
        // A processor's time, not the clock's: who waits for a busy one costs nothing.
        let before = clock::of_children()?;
        work(rig, &format!("{name} {count}"))?;
        let used = clock::of_children()?.saturating_sub(before);
        let each = used.as_secs_f64() * 1e6 / count as f64;
        sample(&format!("{of_turns}.{name}"), state, round, each);
    }
    Ok(())
}

/// What everybody runs, with its name.
fn programs(rig: &Rig) -> Result<[(&'static str, String); 4]> {
    let source = fs::canonicalize(rig.source())?;
    Ok([
        (
            "find",
            "find /usr/lib /usr/share -xdev -size +1M".to_owned(),
        ),
        (
            "tar",
            "tar cf - /usr/include /usr/lib/python3 /etc 2>/dev/null | wc -c".to_owned(),
        ),
        (
            "python",
            "for i in 1 2 3 4 5 6; do \
             python3 -c 'import json, email, http.client, decimal; sum(range(300000))'; done"
                .to_owned(),
        ),
        (
            "gcc",
            format!(
                "for i in 1 2 3; do gcc -O2 -c -o /dev/null '{}'; done",
                source.display()
            ),
        ),
    ])
}

fn shell(command: &str) -> Result<()> {
    output(
        Command::new("sh")
            .arg("-c")
            .arg(command)
            .stderr(Stdio::null()),
    )?;
    Ok(())
}

fn work(rig: &Rig, words: &str) -> Result<String> {
    output(Command::new("sh").arg("-c").arg(rig.work(words)))
}
