//! What the client was shown is what is recorded, byte for byte.

use anyhow::Result;
use auditty_tests::{SOON, Stage, cli::Cli, scene::output, wait_for};
use std::process::Command;

/// Compares without printing megabytes.
fn assert_same(recorded: &[u8], shown: &[u8]) {
    let differs = recorded
        .iter()
        .zip(shown)
        .position(|(left, right)| left != right);
    assert_eq!(differs, None, "the first byte that differs");
    assert_eq!(recorded.len(), shown.len(), "length");
}

#[test]
fn numbers_through_a_terminal() -> Result<()> {
    let stage = Stage::new()?;
    let shown = stage.client().run_tty("seq 1 200000")?.stdout;
    assert!(shown.ends_with(b"199999\r\n200000\r\n"));

    let recording = stage.recording()?;
    recording.assert_complete()?;
    assert_same(&recording.bytes("output", "terminal")?, &shown);
    stage.end()
}

#[test]
fn fifty_megabytes_of_anything_through_a_terminal() -> Result<()> {
    let stage = Stage::new()?;
    let file = stage.scene.path("anything");
    let make = format!("head -c 50000000 /dev/urandom > {}", file.display());
    output(Command::new("sh").args(["-c", &make]))?;
    let shown = stage
        .client()
        .run_tty(&format!("cat {}", file.display()))?
        .stdout;
    assert!(shown.len() > 50_000_000, "only {} bytes came", shown.len());

    let recording = stage.recording()?;
    recording.assert_complete()?;
    assert_same(&recording.bytes("output", "terminal")?, &shown);
    stage.end()
}

#[test]
fn eight_logins_at_once() -> Result<()> {
    let stage = Stage::new()?;
    let shown: Vec<_> = std::thread::scope(|scope| {
        let logins: Vec<_> = (0..8)
            .map(|number| {
                let client = stage.client();
                let remote = format!("seq {number}00000 {number}20000");
                scope.spawn(move || client.run_tty(&remote).map(|output| output.stdout))
            })
            .collect();
        logins
            .into_iter()
            .map(|login| login.join().unwrap())
            .collect::<Result<_>>()
    })?;
    let mut recorded = Vec::new();
    for recording in stage.recordings(8)? {
        recording.assert_complete()?;
        recorded.push(recording.bytes("output", "terminal")?);
    }
    recorded.sort();
    let mut shown: Vec<Vec<u8>> = shown;
    shown.sort();
    for (recorded, shown) in recorded.iter().zip(&shown) {
        assert_same(recorded, shown);
    }
    stage.end()
}

#[test]
fn a_session_is_followed_while_it_runs() -> Result<()> {
    let stage = Stage::new()?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    // Quoted apart, so that the echo of a line is not what it prints.
    typist.command("echo be''fore")?;
    let id = wait_for("the session in the collector", SOON, || {
        let sessions = stage.agent.cli().json(&["sessions"])?;
        let id = sessions["sessions"][0]["sessionId"].as_str();
        Ok(id.map(str::to_owned))
    })?;
    let follow = |name: &str, cli: &Cli| {
        let mut command = cli.command(&["tail", &id, "--lines", "all"]);
        stage.scene.spawn(name, &mut command)
    };
    let mut asked = follow("tail", &stage.agent.cli())?;
    asked.wait_for_log("\nbefore\n", SOON)?;
    let url = format!("file://{}", stage.agent.store().folder().display());
    let alone = Cli::new(&["--store", &url], &[]);
    let mut of_store = follow("tail-of-the-store", &alone)?;
    of_store.wait_for_log("\nbefore\n", SOON)?;

    typist.command("echo wh''ile it runs; printf '\\e[31mr''ed\\e[0m\\n'")?;
    for tail in [&mut asked, &mut of_store] {
        tail.wait_for_log("\nwhile it runs\nred\n", SOON)?;
        assert!(tail.ended()?.is_none());
    }
    typist.line("exit")?;
    typist.finish(SOON)?;
    for tail in [&mut asked, &mut of_store] {
        assert!(tail.wait(SOON)?.success());
        let log = tail.log();
        assert_eq!(log.matches("\nwhile it runs\n").count(), 1, "{log}");
        assert!(!log.contains('\u{1b}'), "{log}");
    }
    let recording = stage.recording()?;
    recording.assert_complete()?;
    assert_eq!(recording.session_id(), id);
    let last = alone.text(&["tail", &id])?;
    assert!(last.contains("\nwhile it runs\n"), "{last}");
    stage.end()
}
