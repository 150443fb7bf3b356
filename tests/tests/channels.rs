//! Sessions without a terminal, subsystems, and several over one connection.

use std::process::Stdio;

use anyhow::Result;
use auditty_tests::{SOON, Stage, scene::output, store::Recording, wait_for};

/// Bytes that are not text and do not repeat.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| step()).collect()
}

#[test]
fn the_three_streams_of_a_command_without_a_terminal() -> Result<()> {
    let stage = Stage::new()?;
    let upload = noise(3_000_000);
    let remote = "cat > up; cat up; wc -c < up >&2; seq 50000 >&2; exit 9";
    let client = stage.client().run(remote, &upload)?;
    assert_eq!(client.stdout, upload);

    let recording = stage.recording()?;
    recording.assert_complete()?;
    assert!(
        recording.bytes("input", "stdin")? == upload,
        "stdin differs"
    );
    assert!(
        recording.bytes("output", "stdout")? == client.stdout,
        "stdout differs"
    );
    assert!(
        recording.bytes("output", "stderr")? == client.stderr,
        "stderr differs"
    );
    assert_eq!(recording.session()["session_kind"], "exec");
    assert_eq!(recording.session()["command"], remote);
    assert_eq!(recording.session()["exit_code"], 9);
    assert!(recording.of("terminal_open").is_empty());
    stage.end()
}

#[test]
fn a_command_in_a_terminal() -> Result<()> {
    let stage = Stage::new()?;
    let client = stage.client().run_tty("tty; echo to stderr >&2; exit 4")?;

    let recording = stage.recording()?;
    recording.assert_complete()?;
    assert_eq!(recording.bytes("output", "terminal")?, client.stdout);
    let terminal = recording.session()["terminal"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(
        recording
            .shown()?
            .starts_with(&format!("/dev/{terminal}\r\n"))
    );
    assert_eq!(recording.session()["session_kind"], "exec");
    assert_eq!(recording.session()["exit_code"], 4);
    stage.end()
}

#[test]
fn sftp_and_scp() -> Result<()> {
    let stage = Stage::new()?;
    let client = stage.client();
    let local = stage.scene.write("upload", noise(300_000))?;
    let target = format!("{}:uploaded", client.destination());
    output(
        client
            .program("sftp")
            .args(["-b", "/dev/null"])
            .arg(client.destination()),
    )?;
    output(client.program("scp").arg("-O").arg(&local).arg(&target))?;

    let recordings = stage.recordings(2)?;
    let kinds: Vec<_> = recordings
        .iter()
        .map(|one| &one.session()["session_kind"])
        .collect();
    assert_eq!(kinds, ["subsystem", "exec"]);
    assert_eq!(recordings[0].session()["command"], "sftp");
    // The protocol's few bytes around the file count as well.
    let omitted = recordings[1].session()["counts"]["omitted_bytes"].as_u64();
    assert!(omitted.is_some_and(|bytes| bytes >= 300_000), "{omitted:?}");
    stage.end()
}

#[test]
fn several_sessions_over_one_connection() -> Result<()> {
    let stage = Stage::new()?;
    let socket = stage.scene.path("control");
    let path = format!("-oControlPath={}", socket.display());
    let mut master = stage
        .client()
        .with("-N")
        .with("-oControlMaster=yes")
        .with(&path)
        .ssh();
    let mut master = stage.scene.spawn("ssh-master", &mut master)?;
    wait_for("the master", SOON, || Ok(socket.exists().then_some(())))?;

    let client = stage.client().with("-oControlMaster=no").with(&path);
    let mut shell = client.shell()?;
    shell.ready()?;
    shell.command("echo in the shell")?;
    let piped = client.run("echo in a pipe; cat", b"given")?.stdout;
    let mut second = client.shell()?;
    second.ready()?;
    // Both terminals talk at the same time.
    shell.line("for i in $(seq 3000); do echo first; done")?;
    second.line("for i in $(seq 3000); do echo second; done")?;
    shell.line("exit")?;
    second.line("exit")?;
    let (_, shown) = shell.finish(SOON)?;
    let (_, shown_second) = second.finish(SOON)?;
    master.stop(SOON)?;

    let recordings = stage.recordings(3)?;
    let connection = |one: &Recording| one.session()["connection"]["connection_id"].clone();
    assert!(
        recordings
            .iter()
            .all(|one| connection(one) == connection(&recordings[0]))
    );
    for recording in &recordings {
        recording.assert_complete()?;
        assert_eq!(recording.session()["login"]["user"], stage.user.name);
    }
    let with_kind = |kind: &str| -> Vec<&Recording> {
        recordings
            .iter()
            .filter(|one| one.session()["session_kind"] == kind)
            .collect()
    };
    let shells = with_kind("shell");
    assert_eq!(shells.len(), 2);
    assert_eq!(shells[0].bytes("output", "terminal")?, shown);
    assert_eq!(shells[1].bytes("output", "terminal")?, shown_second);
    assert_eq!(with_kind("exec")[0].bytes("output", "stdout")?, piped);
    assert_eq!(with_kind("exec")[0].bytes("input", "stdin")?, b"given");
    stage.end()
}

#[test]
fn a_connection_without_a_session_is_recorded_as_such() -> Result<()> {
    let stage = Stage::new()?;
    let mut forward = stage.client().with("-N").with("-v").ssh();
    forward.stdin(Stdio::null());
    let mut forward = stage.scene.spawn("ssh-forward", &mut forward)?;
    forward.wait_for_log("Authenticated to", SOON)?;
    assert!(stage.run("true")?.status.success());
    forward.stop(SOON)?;
    let recordings = stage.recordings(2)?;
    let kinds: Vec<_> = recordings
        .iter()
        .map(|one| &one.session()["session_kind"])
        .collect();
    assert_eq!(kinds, ["forward", "exec"]);
    stage.end()
}
