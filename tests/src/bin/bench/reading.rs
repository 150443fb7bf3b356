//! How fast a long recording is verified, exported, replayed, and how long a
//! reader waits who begins near its end.

use std::{process::Command, time::Instant};

use anyhow::{Context as _, Result, ensure};
use auditty_tests::binary;

use crate::{daemon::Daemon, lines::sample, rig::Rig};

pub fn run(rig: &Rig) -> Result<()> {
    eprintln!("reading: recording {} MB", rig.size.big / 1_000_000);
    let daemon = Daemon::start(rig, "auto")?;
    let begun = Instant::now();
    let shown = rig.show(&rig.work(&format!("lines {}", rig.size.big)))?;
    let lasted = begun.elapsed();
    let folders = daemon.wait_finished(1)?;
    let name = folders
        .first()
        .and_then(|folder| folder.file_name())
        .context("a recording")?;
    let id = name
        .to_string_lossy()
        .trim_start_matches("session=")
        .to_owned();
    let megabytes = shown.bytes.len() as f64 / 1e6;
    drop(shown);
    sample("read.size", "auditty", 0, megabytes);
    let store = format!("file://{}", daemon.store().folder().display());
    // Near the end, in a replay that shows it as it was.
    let late = format!("{}s", lasted.mul_f64(0.8).as_secs().max(1));
    let verbs: [(&str, Vec<&str>); 4] = [
        ("verify", vec!["verify", "--session", &id]),
        ("text", vec!["export", &id, "--format", "text"]),
        ("replay", vec!["replay", &id]),
        (
            "seek",
            vec!["replay", &id, "--idle-limit", "0s", "--from", &late],
        ),
    ];
    let read = rig.rounds("reading", &verbs, |round, (name, words)| {
        let begun = Instant::now();
        let output = Command::new(binary("auditty"))
            .args(words)
            .args(["--store", &store])
            .output()?;
        let taken = begun.elapsed().as_secs_f64();
        // 2: no key to trust was given, all else was verified.
        let fine =
            output.status.success() || (*name == "verify" && output.status.code() == Some(2));
        ensure!(
            fine,
            "auditty {words:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        match *name {
            "seek" => sample("read.seek", "auditty", round, taken),
            name => sample(&format!("read.{name}"), "auditty", round, megabytes / taken),
        }
        Ok(())
    });
    read?;
    daemon.stop()
}
