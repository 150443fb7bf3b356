//! Connections that sshd makes for its client, and those that a session's
//! programs make: who, where to, how much.

use std::net::TcpStream;

use anyhow::{Context as _, Result};
use auditty_tests::{
    SOON, Stage,
    client::Client,
    sshd::free_port,
    store::Recording,
    target::{ANSWERED, ASKED, Target, ask, through_socks},
    wait_for,
};
use serde_json::Value;

/// The one connect event with this role that names the address as `end`.
fn connect<'a>(
    recording: &'a Recording,
    role: &str,
    end: &str,
    address: &str,
) -> Result<&'a Value> {
    let all = recording.of("connect");
    let mut found = all
        .iter()
        .filter(|event| event["role"] == role && event[end] == address);
    let event = found
        .next()
        .with_context(|| format!("no {role} with {end} {address} among {all:?}"))?;
    assert!(found.next().is_none(), "two of them: {all:?}");
    Ok(event)
}

/// What its end says: bytes sent and received.
fn counted(recording: &Recording, connect: &Value) -> Result<(u64, u64)> {
    let mut all = recording.of("disconnect").into_iter();
    let end = all
        .find(|event| event["connect_seq"] == connect["seq"])
        .with_context(|| format!("no disconnect of {connect}"))?;
    assert!(end["duration_ns"].as_u64() > Some(0));
    let bytes = |field: &str| {
        end[field]
            .as_u64()
            .with_context(|| format!("{field} in {end}"))
    };
    Ok((bytes("sent_bytes")?, bytes("received_bytes")?))
}

fn assert_forward_session(stage: &Stage, recording: &Recording) -> Result<()> {
    recording.assert_complete()?;
    let session = recording.session();
    assert_eq!(session["session_kind"], "forward");
    assert_eq!(session["login"]["user"], stage.user.name);
    assert_eq!(session["login"]["method"], "public_key");
    assert!(recording.of("exec").is_empty());
    Ok(())
}

/// sshd connected to the target, and all that was asked and answered went
/// through.
fn assert_forwarded(recording: &Recording, target: &Target) -> Result<()> {
    let event = connect(recording, "connect", "remote", &target.address())?;
    assert_eq!(event["forwarded"], true);
    let through = (ASKED as u64, ANSWERED as u64);
    assert_eq!(counted(recording, event)?, through);
    Ok(())
}

/// Runs `ssh -N` with these options while `work` happens, which is tried until
/// the port of the forward takes connections.
fn while_forwarding(
    stage: &Stage,
    options: &[&str],
    port: u16,
    work: impl FnOnce(TcpStream) -> Result<()>,
) -> Result<Recording> {
    let client = stage.client().with("-N");
    let client = options
        .iter()
        .fold(client, |client, option| client.with(*option));
    let mut ssh = stage.scene.spawn("ssh", &mut client.ssh())?;
    let stream = wait_for("the port of the forward", SOON, || {
        Ok(TcpStream::connect(("127.0.0.1", port)).ok())
    })?;
    work(stream)?;
    ssh.stop(SOON)?;
    stage.recording()
}

#[test]
fn a_local_forward() -> Result<()> {
    let stage = Stage::new()?;
    let target = Target::start()?;
    let port = free_port()?;
    let forward = format!("{port}:{}", target.address());
    let recording = while_forwarding(&stage, &["-L", &forward], port, ask)?;
    assert_forward_session(&stage, &recording)?;
    assert_forwarded(&recording, &target)?;
    stage.end()
}

#[test]
fn a_dynamic_forward() -> Result<()> {
    let stage = Stage::new()?;
    let target = Target::start()?;
    let port = free_port()?;
    let recording = while_forwarding(&stage, &["-D", &port.to_string()], port, |proxy| {
        ask(through_socks(proxy, target)?)
    })?;
    assert_forward_session(&stage, &recording)?;
    assert_forwarded(&recording, &target)?;
    stage.end()
}

#[test]
fn a_remote_forward() -> Result<()> {
    let stage = Stage::new()?;
    let target = Target::start()?;
    let port = free_port()?;
    let forward = format!("127.0.0.1:{port}:{}", target.address());
    let recording = while_forwarding(&stage, &["-R", &forward], port, ask)?;
    assert_forward_session(&stage, &recording)?;
    let address = format!("127.0.0.1:{port}");
    let listen = connect(&recording, "listen", "local", &address)?;
    assert_eq!(listen["forwarded"], true);
    let accept = connect(&recording, "accept", "local", &address)?;
    assert_eq!(accept["forwarded"], true);
    assert_eq!(
        counted(&recording, accept)?,
        (ANSWERED as u64, ASKED as u64)
    );
    stage.end()
}

#[test]
fn standard_input_and_output_through_the_host() -> Result<()> {
    let stage = Stage::new()?;
    let target = Target::start()?;
    let client: Client = stage.client().with("-W").with(target.address());
    let answer = client.run_bare(&[b'q'; ASKED])?.stdout;
    assert_eq!(answer.len(), ANSWERED);
    let recording = stage.recording()?;
    assert_forward_session(&stage, &recording)?;
    assert_forwarded(&recording, &target)?;
    stage.end()
}

#[test]
fn forwards_and_the_connections_of_programs_are_told_apart() -> Result<()> {
    let stage = Stage::new()?;
    let (forwarded, own) = (Target::start()?, Target::start()?);
    let port = free_port()?;
    let client = stage
        .client()
        .with("-L")
        .with(format!("{port}:{}", forwarded.address()));
    let mut typist = client.shell()?;
    typist.ready()?;
    ask(TcpStream::connect(("127.0.0.1", port))?)?;
    typist.command(&format!(
        "exec 3<>/dev/tcp/127.0.0.1/{}; head -c {ASKED} /dev/zero >&3; cat <&3 | wc -c; exec 3>&-",
        own.port
    ))?;
    typist.line("exit")?;
    typist.finish(SOON)?;

    let recording = stage.recording()?;
    recording.assert_complete()?;
    assert_eq!(recording.session()["session_kind"], "shell");
    assert!(recording.shown()?.contains(&format!("\r\n{ANSWERED}\r\n")));
    let event = connect(&recording, "connect", "remote", &forwarded.address())?;
    assert_eq!(event["forwarded"], true);
    let event = connect(&recording, "connect", "remote", &own.address())?;
    assert!(event["forwarded"].is_null(), "{event}");
    assert_eq!(event["pid"], recording.of("exec")[0]["pid"]);
    assert_eq!(counted(&recording, event)?, (ASKED as u64, ANSWERED as u64));
    stage.end()
}
