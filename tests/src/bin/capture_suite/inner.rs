//! Terminals inside the terminal: script, sudo and tmux make ptys of their own.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use auditty_tests::{
    SOON,
    client::{PROMPT, find, wait_for_hidden_input},
    store::Recording,
    wait_for,
};

use crate::{
    account::{self, SHOWN, Stream},
    outcome::Outcome,
    rig::{Rig, present},
};

/// The output of an inner terminal is what `script` wrote into its own file.
pub fn script(rig: &mut Rig) -> Result<Outcome> {
    let file = rig.user.home.join("typescript");
    let shown = rig.shown("script -qec 'seq 1 3000' ~/typescript")?;
    let recording = rig.recording()?;
    let outer = account::compare(&recording, SHOWN, &shown)?;
    let written = fs::read(&file)?;
    ensure!(
        find(&written, b"3000\r\n").is_some(),
        "script did not see all"
    );
    inner(rig, &recording, |output| {
        // A header and a footer of its own stand around it.
        find(&written, output).is_some()
            && output.ends_with(b"3000\r\n")
            && output.starts_with(b"1\r\n")
    })
    .map(|inner| outer.and(inner))
}

/// sudo with `use_pty`: what its command writes is in the inner terminal, and
/// the password is nowhere.
pub fn sudo(rig: &mut Rig) -> Result<Outcome> {
    let rules = format!("/etc/sudoers.d/{}", rig.user.name);
    let more = format!(
        "{}Defaults:{} use_pty\n",
        fs::read_to_string(&rules)?,
        rig.user.name
    );
    fs::write(&rules, more)?;
    let mut typist = rig.shell()?;
    let terminal = typist.remote_terminal()?;
    typist.line("sudo seq 1 500")?;
    wait_for_hidden_input(&terminal)?;
    typist.send(&format!("{}\r", rig.user.password))?;
    typist.expect("500\r\n")?;
    typist.expect(PROMPT)?;
    typist.line("exit")?;
    let (_, shown) = typist.finish(SOON)?;
    let recording = rig.recording()?;
    let outer = account::compare(&recording, SHOWN, &shown)?;
    let kept = recording
        .events
        .iter()
        .any(|event| event.to_string().contains(&rig.user.password));
    ensure!(!kept, "the password is in the recording");
    let expected: String = (1..=500).map(|number| format!("{number}\r\n")).collect();
    inner(rig, &recording, |output| output == expected.as_bytes()).map(|inner| outer.and(inner))
}

/// A tmux server: what its pane printed is what tmux piped into a file.
pub fn tmux(rig: &mut Rig) -> Result<Outcome> {
    if !present("tmux") {
        return Ok(Outcome::Skip("no tmux here".to_owned()));
    }
    let tmux = "tmux -L suite -f /dev/null";
    let remote = format!(
        "{tmux} new-session -d 'until [ -e ~/go ]; do sleep 0.1; done; seq 1 2000; touch ~/gone; sleep 60' && \
         {tmux} pipe-pane 'cat > ~/pane' && touch ~/go && \
         until [ -e ~/gone ] && tail -c 6 ~/pane | grep -q 2000; do sleep 0.1; done; {tmux} kill-server"
    );
    let run = rig.run(&remote, b"")?;
    let errors = String::from_utf8_lossy(&run.stderr);
    ensure!(
        run.status.success(),
        "ssh ended with {}: {errors}",
        run.status
    );
    let recording = rig.recording()?;
    let pane = fs::read(rig.user.home.join("pane"))?;
    ensure!(pane.ends_with(b"2000\r\n"), "tmux did not see all");
    let outer = account::declared(&recording)?;
    inner(rig, &recording, |output| output == pane).map(|inner| outer.and(inner))
}

/// One of the inner terminals has the output that the witness knows; or the
/// agent says that it does not see into them.
fn inner(rig: &Rig, recording: &Recording, expected: impl Fn(&[u8]) -> bool) -> Result<Outcome> {
    let opened = recording.of("terminal_open").into_iter();
    let numbers: Vec<_> = opened
        .filter_map(|event| event["terminal"].as_u64())
        .filter(|number| *number > 0)
        .collect();
    if numbers.is_empty() {
        return match rig.limited("inner terminals (") {
            Some(why) => Ok(Outcome::Limit(why)),
            None => bail!("no inner terminal is recorded"),
        };
    }
    let mut lengths = Vec::new();
    for terminal in numbers {
        let output = account::recorded(recording, Stream { terminal, ..SHOWN })?;
        if expected(&output) {
            return Ok(Outcome::pass());
        }
        lengths.push(output.len());
    }
    bail!("no inner terminal has the output; they have {lengths:?} bytes")
}

/// Waits for a file that a session makes.
pub fn wait_for_file(rig: &Rig, name: &str) -> Result<()> {
    let path = rig.user.home.join(name);
    wait_for(name, SOON, || Ok(path.exists().then_some(())))
        .context("the session did not get there")
}
