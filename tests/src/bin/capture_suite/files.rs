//! Files that go over the connection: intact, and accounted for.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};
use auditty_tests::{scene::output, store::Recording};
use serde_json::Value;

use crate::{
    account,
    outcome::Outcome,
    rig::{Rig, present},
};

/// Bytes of a file that is transferred.
const SIZE: u64 = 300_000;

/// What is on the client's side, and what comes back to it.
struct Files {
    here: PathBuf,
    back: PathBuf,
    /// On the host, in the user's home.
    there: PathBuf,
}

impl Files {
    fn make(rig: &Rig, name: &str) -> Result<Self> {
        let here = rig.scene.path(&format!("{name}.here"));
        let make = format!("head -c {SIZE} /dev/urandom > {}", here.display());
        output(Command::new("sh").args(["-c", &make]))?;
        Ok(Self {
            back: rig.scene.path(&format!("{name}.back")),
            there: rig.user.home.join(format!("{name}.there")),
            here,
        })
    }

    /// What came back is what was sent.
    fn intact(&self, run: &Output) -> Result<()> {
        let errors = String::from_utf8_lossy(&run.stderr);
        ensure!(
            run.status.success(),
            "it ended with {}: {errors}",
            run.status
        );
        ensure!(
            fs::read(&self.here)? == fs::read(&self.back)?,
            "the file came back changed"
        );
        Ok(())
    }
}

/// Up and down over the sftp subsystem.
pub fn sftp(rig: &mut Rig) -> Result<Outcome> {
    let files = Files::make(rig, "sftp")?;
    let batch = rig.scene.write(
        "batch",
        format!(
            "put {} {}\nget {} {}\n",
            files.here.display(),
            files.there.display(),
            files.there.display(),
            files.back.display()
        ),
    )?;
    let client = rig.client();
    let mut command = client.program("sftp");
    command
        .arg(rig.shared())
        .arg("-b")
        .arg(batch)
        .arg(client.destination());
    files.intact(&command.output()?)?;
    let recordings = rig.recordings(1)?;
    accounted(rig, &recordings, "sftp", &files)
}

/// Up and down with scp, which is sftp since OpenSSH 9.0.
pub fn scp(rig: &mut Rig) -> Result<Outcome> {
    copy(rig, "sftp", &[])
}

/// Up and down with scp's old protocol.
pub fn scp_legacy(rig: &mut Rig) -> Result<Outcome> {
    copy(rig, "scp", &["-O"])
}

fn copy(rig: &mut Rig, protocol: &str, options: &[&str]) -> Result<Outcome> {
    let files = Files::make(rig, &format!("scp-{protocol}"))?;
    let client = rig.client();
    let remote = format!("{}:{}", client.destination(), files.there.display());
    let program = || {
        let mut command = client.program("scp");
        command.arg(rig.shared()).args(options);
        command
    };
    output(program().arg(&files.here).arg(&remote))?;
    files.intact(&program().arg(&remote).arg(&files.back).output()?)?;
    let recordings = rig.recordings(2)?;
    accounted(rig, &recordings, protocol, &files)
}

/// Up and down with rsync.
pub fn rsync(rig: &mut Rig) -> Result<Outcome> {
    if !present("rsync") {
        return Ok(Outcome::Skip("no rsync here".to_owned()));
    }
    let files = Files::make(rig, "rsync")?;
    let client = rig.client();
    let ssh = client.program("ssh");
    let mut shell = ssh.get_program().to_string_lossy().into_owned();
    for word in ssh.get_args() {
        shell = format!("{shell} {}", word.to_string_lossy());
    }
    let shell = format!("{shell} {}", rig.shared());
    let remote = format!("{}:{}", client.destination(), files.there.display());
    output(
        Command::new("rsync")
            .args(["-e", &shell])
            .arg(&files.here)
            .arg(&remote),
    )?;
    let mut down = Command::new("rsync");
    files.intact(
        &down
            .args(["-e", &shell])
            .arg(&remote)
            .arg(&files.back)
            .output()?,
    )?;
    let recordings = rig.recordings(2)?;
    accounted(rig, &recordings, "rsync", &files)
}

/// One transfer each way, with the file's size, and none of its bytes stored;
/// or, from an agent that says it keeps no account, the bytes themselves.
fn accounted(
    rig: &Rig,
    recordings: &[Recording],
    protocol: &str,
    files: &Files,
) -> Result<Outcome> {
    let mut outcome = Outcome::pass();
    let mut transfers: Vec<&Value> = Vec::new();
    let mut bytes = 0;
    for recording in recordings {
        outcome = outcome.and(account::declared(recording)?);
        transfers.extend(recording.of("transfer"));
        let counts = &recording.session()["counts"];
        let number = |key: &str| counts[key].as_u64().unwrap_or(0);
        bytes += number("output_bytes") + number("input_bytes");
    }
    if transfers.is_empty() {
        let why = rig
            .limited("transfers")
            .context("no transfer is recorded")?;
        let all = 2 * SIZE;
        ensure!(
            bytes > all || recordings.iter().any(|r| account::unseen(r).is_some()),
            "{bytes} bytes are recorded of {all} and more"
        );
        return Ok(outcome.and(Outcome::Limit(why)));
    }
    let there = files.there.to_string_lossy();
    // rsync writes to a hidden file beside it, and renames that.
    let hidden = there
        .rsplit_once('/')
        .map(|(folder, name)| format!("{folder}/.{name}."));
    for direction in ["upload", "download"] {
        let is_it = |path: &str| {
            path == there
                || protocol == "rsync"
                    && direction == "upload"
                    && hidden
                        .as_deref()
                        .is_some_and(|hidden| path.starts_with(hidden))
        };
        let found = transfers.iter().filter(|transfer| {
            transfer["direction"] == direction && transfer["path"].as_str().is_some_and(is_it)
        });
        let found: Vec<_> = found.collect();
        ensure!(found.len() == 1, "{direction}s: {found:?} of {transfers:?}");
        for transfer in found {
            let name = &transfer["protocol"];
            ensure!(name == protocol, "the protocol is {name}");
            let size = &transfer["bytes"];
            ensure!(
                protocol == "rsync" || *size == SIZE,
                "{direction} of {size} bytes"
            );
        }
    }
    Ok(outcome)
}
