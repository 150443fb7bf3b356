//! How sessions end, and what is said about it.

use std::process::Command;

use anyhow::Result;
use auditty_tests::{SOON, Stage, scene::output, store::Recording};

/// Reason, exit code and signal, on the timeline and in the manifest.
fn assert_end(
    recording: &Recording,
    reason: &str,
    exit_code: Option<u64>,
    signal: Option<u64>,
) -> Result<()> {
    let end = recording.end()?;
    let session = recording.session();
    assert_eq!(end["reason"], reason);
    assert_eq!(session["end_reason"], reason);
    for said in [end, session] {
        assert_eq!(said["exit_code"].as_u64(), exit_code, "exit code");
        assert_eq!(said["signal"].as_u64(), signal, "signal");
    }
    assert!(session["end_time"].as_str() > session["start_time"].as_str());
    Ok(())
}

#[test]
fn exit_codes_of_commands() -> Result<()> {
    let stage = Stage::new()?;
    for code in [0, 1, 3, 255] {
        assert_eq!(
            stage.run(&format!("exit {code}"))?.status.code(),
            Some(code)
        );
    }
    let recordings = stage.recordings(4)?;
    for (recording, code) in recordings.iter().zip([0, 1, 3, 255]) {
        assert_end(recording, "exited", Some(code), None)?;
        recording.assert_complete()?;
    }
    stage.end()
}

#[test]
fn a_logout() -> Result<()> {
    let stage = Stage::new()?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    typist.send("\u{4}")?;
    typist.finish(SOON)?;
    assert_end(&stage.recording()?, "exited", Some(0), None)?;
    stage.end()
}

#[test]
fn an_exit_with_a_code() -> Result<()> {
    let stage = Stage::new()?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    typist.line("exit 3")?;
    assert_eq!(typist.finish(SOON)?.0.code(), Some(3));
    assert_end(&stage.recording()?, "exited", Some(3), None)?;
    stage.end()
}

#[test]
fn a_killed_client() -> Result<()> {
    let stage = Stage::new()?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    typist.kill()?;
    let recording = stage.recording()?;
    assert_eq!(recording.end()?["reason"], "disconnected");
    assert_eq!(recording.session()["end_reason"], "disconnected");
    recording.assert_complete()?;
    stage.end()
}

#[test]
fn a_killed_shell() -> Result<()> {
    let stage = Stage::new()?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    typist.line("kill -KILL $$")?;
    typist.finish(SOON)?;
    assert_end(&stage.recording()?, "killed", None, Some(9))?;
    stage.end()
}

#[test]
fn a_killed_connection() -> Result<()> {
    let stage = Stage::new()?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    // The sshd process of the user, which serves the terminal.
    let pid = output(Command::new("pgrep").args(["-u", &stage.user.name, "-x", "sshd"]))?;
    output(Command::new("kill").args(["-KILL", pid.trim()]))?;
    typist.finish(SOON)?;
    let recording = stage.recording()?;
    assert_eq!(recording.end()?["reason"], "server_killed");
    stage.end()
}

#[test]
fn a_user_who_kills_the_own_server_process() -> Result<()> {
    let stage = Stage::new()?;
    // The parent of the shell is sshd, as this user.
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    typist.command(
        "nohup setsid sh -c '>started; sleep 1; /bin/echo afterwards' >/dev/null 2>&1 &",
    )?;
    typist.command("until [ -e started ]; do sleep 0.05; done")?;
    typist.line("kill -9 $PPID")?;
    typist.finish(SOON)?;
    let recording = stage.recording()?;
    recording.assert_complete()?;
    assert_eq!(recording.session()["end_reason"], "server_killed");
    let end = recording.end()?;
    let afterwards = recording.exec(&["/bin/echo", "afterwards"])?;
    assert!(afterwards["seq"].as_u64() > end["seq"].as_u64());
    assert!(end["running_processes"].as_u64() >= Some(1));
    stage.end()
}
