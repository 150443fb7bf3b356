//! The recorders that run around a command: how they are called, and what they
//! stored of what was shown. Each as its own documentation starts it, with input
//! recorded where that is what it does by default.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use auditty_tests::{
    scene::{files_below, output},
    user::TestUser,
};
use serde_json::Value;

use crate::recorder::Recorder;

/// A word of shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The command line that records `command` into `folder`.
pub fn around(recorder: Recorder, command: &str, folder: &Path, user: &TestUser) -> String {
    let folder = folder.display();
    let inner = quoted(command);
    match recorder {
        Recorder::Script => {
            format!("script -q -e -O {folder}/typescript -T {folder}/timing -c {inner}")
        }
        Recorder::Tlog => format!(
            "LC_ALL=C.UTF-8 tlog-rec --writer=file --file-path={folder}/tlog.json /bin/bash -c {inner}"
        ),
        Recorder::Asciinema => {
            format!("LC_ALL=C.UTF-8 asciinema rec -q --overwrite -c {inner} {folder}/session.cast")
        }
        Recorder::Sudo => format!("sudo -n -u {} /bin/bash -c {inner}", user.name),
        Recorder::Nothing | Recorder::Auditty(_) | Recorder::Auditd => command.to_owned(),
    }
}

/// The program that has to be there.
pub fn program(recorder: Recorder) -> Option<&'static str> {
    match recorder {
        Recorder::Script => Some("script"),
        Recorder::Tlog => Some("tlog-rec"),
        Recorder::Asciinema => Some("asciinema"),
        Recorder::Sudo => Some("sudo"),
        Recorder::Nothing | Recorder::Auditty(_) | Recorder::Auditd => None,
    }
}

/// What it stored of what was shown.
pub fn output_of(recorder: Recorder, folder: &Path) -> Result<Vec<u8>> {
    match recorder {
        Recorder::Script => typescript(&fs::read(folder.join("typescript"))?),
        Recorder::Tlog => tlog(&fs::read_to_string(folder.join("tlog.json"))?),
        Recorder::Asciinema => asciicast(&fs::read_to_string(folder.join("session.cast"))?),
        Recorder::Sudo => {
            let files = files_below(folder)?;
            let mut files = files.iter().filter(|path| path.ends_with("ttyout"));
            let log = files.next().context("no ttyout")?;
            let text = Command::new("gzip").arg("-dcf").arg(log).output()?;
            Ok(text.stdout)
        }
        Recorder::Nothing | Recorder::Auditty(_) | Recorder::Auditd => Ok(Vec::new()),
    }
}

/// Between a line of its own at the top and one at the end.
fn typescript(file: &[u8]) -> Result<Vec<u8>> {
    let top = file
        .iter()
        .position(|byte| *byte == b'\n')
        .context("no first line")?;
    let rest = file.get(top + 1..).unwrap_or_default();
    let end = b"\nScript done on";
    let last = rest.windows(end.len()).rposition(|window| window == end);
    Ok(rest
        .get(..last.unwrap_or(rest.len()))
        .unwrap_or_default()
        .to_vec())
}

/// Text, and what is no text beside it; `timing` says which comes when.
fn tlog(file: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for line in file.lines() {
        let message: Value = serde_json::from_str(line).context("tlog's line")?;
        let mut text = message["out_txt"].as_str().unwrap_or_default().chars();
        let binary = message["out_bin"].as_array();
        let mut binary = binary.into_iter().flatten().filter_map(Value::as_u64);
        let timing = message["timing"].as_str().unwrap_or_default();
        let starts: Vec<_> = timing
            .char_indices()
            .filter(|(_, letter)| !letter.is_ascii_digit() && *letter != '/')
            .map(|(at, _)| at)
            .collect();
        for (index, at) in starts.iter().enumerate() {
            let until = starts.get(index + 1).copied().unwrap_or(timing.len());
            let record = timing.get(*at..until).unwrap_or_default();
            let number = |text: &str| text.parse::<usize>().unwrap_or(0);
            match record.split_at_checked(1) {
                Some((">", count)) => {
                    let part: String = text.by_ref().take(number(count)).collect();
                    bytes.extend_from_slice(part.as_bytes());
                }
                Some(("]", counts)) => {
                    let (characters, count) = counts.split_once('/').unwrap_or((counts, ""));
                    text.by_ref().take(number(characters)).for_each(drop);
                    let part = binary.by_ref().take(number(count));
                    bytes.extend(part.filter_map(|byte| u8::try_from(byte).ok()));
                }
                _ => {}
            }
        }
    }
    Ok(bytes)
}

/// Version 2: a header, then `[time, "o", text]`.
fn asciicast(file: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for line in file.lines().skip(1) {
        let event: Value = serde_json::from_str(line).context("asciinema's line")?;
        if event[1] == "o" {
            bytes.extend_from_slice(event[2].as_str().unwrap_or_default().as_bytes());
        }
    }
    Ok(bytes)
}

/// Lets sudo record what the user does as the user, as `sudoers(5)` says.
pub fn allow_sudo(user: &TestUser, folder: &Path, scene: &auditty_tests::Scene) -> Result<()> {
    let file = format!("/etc/sudoers.d/{}-bench", user.name);
    let name = &user.name;
    scene.later(&format!("rm -f {file}"))?;
    fs::write(
        &file,
        format!(
            "{name} ALL=(ALL:ALL) NOPASSWD: ALL\n\
             Defaults:{name} use_pty, log_output, log_input, !lecture\n\
             Defaults:{name} iolog_dir={}\n",
            folder.display()
        ),
    )?;
    output(Command::new("chmod").args(["440", &file]))?;
    output(Command::new("visudo").args(["-c", "-q", "-f", &file]))?;
    Ok(())
}
