//! Sessions that belong together: one inside another, one driving another.
//! `tests/README.md` says which threat each test answers.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use auditty_tests::{
    SOON, Stage,
    client::PROMPT,
    scene::output,
    sshd::{free_port, key_pair, public},
    store::Recording,
};

/// A copy of the user's key that the user can read.
fn own_key(stage: &Stage) -> Result<PathBuf> {
    let key = stage.user.home.join("key");
    fs::copy(&stage.key, &key)?;
    output(Command::new("chown").arg(&stage.user.name).arg(&key))?;
    Ok(key)
}

/// `ssh` from inside a session to this port.
fn inner_ssh(stage: &Stage, port: u16) -> Result<String> {
    let key = own_key(stage)?;
    Ok(format!(
        "ssh -F none -i {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
         -o LogLevel=ERROR -o BatchMode=yes -p {port} 127.0.0.1",
        key.display()
    ))
}

fn assert_linked(recording: &Recording, relation: &str, other: &Recording) {
    let links = recording.of("link");
    let found = links
        .iter()
        .any(|link| link["relation"] == relation && link["session_id"] == other.session_id());
    assert!(
        found,
        "no {relation} {} among {links:?}",
        other.session_id()
    );
}

/// The recordings of two: the first has the exec of `ssh`, the second of what it
/// ran.
fn assert_parent_and_child(parent: &Recording, child: &Recording) {
    assert_linked(parent, "child", child);
    assert_linked(child, "parent", parent);
    assert_eq!(child.session()["parent_session_id"], parent.session_id());
    assert!(parent.session()["parent_session_id"].is_null());
}

#[test]
fn a_login_from_inside_a_session() -> Result<()> {
    let stage = Stage::new()?;
    let ssh = inner_ssh(&stage, stage.sshd.port)?;
    assert!(
        stage
            .run(&format!("{ssh} /bin/echo nested"))?
            .status
            .success()
    );
    let recordings = stage.recordings(2)?;
    let (parent, child) = (&recordings[0], &recordings[1]);
    parent.assert_complete()?;
    child.assert_complete()?;
    child.exec(&["/bin/echo", "nested"])?;
    assert!(parent.exec(&["/bin/echo", "nested"]).is_err());
    assert_parent_and_child(parent, child);
    stage.end()
}

#[test]
fn a_tmux_server_of_another_session() -> Result<()> {
    let stage = Stage::new()?;
    let tmux = "tmux -L auditty-test -f /dev/null";
    let mut first = stage.client().shell_at_terminal(24, 80)?;
    first.ready()?;
    first.command(&format!("{tmux} new-session -d 'PS1=inner\\> sh'"))?;
    let mut second = stage.client().shell_at_terminal(24, 80)?;
    second.ready()?;
    second.line(&format!("{tmux} attach"))?;
    second.expect("inner>")?;
    second.line("/bin/echo dri''ven")?;
    second.expect("driven")?;
    second.line("exit")?;
    second.expect(PROMPT)?;
    second.line("exit")?;
    let (_, shown) = second.finish(SOON)?;
    first.line("exit")?;
    first.finish(SOON)?;

    let recordings = stage.recordings(2)?;
    let (born, drove) = (&recordings[0], &recordings[1]);
    born.assert_complete()?;
    drove.assert_complete()?;
    // It runs where the server was born, and was driven from the other one.
    born.exec(&["/bin/echo", "driven"])?;
    assert!(drove.exec(&["/bin/echo", "driven"]).is_err());
    assert_linked(born, "driven_by", drove);
    assert_linked(drove, "drives", born);
    assert_eq!(drove.bytes("output", "terminal")?, shown);
    stage.end()
}

/// A server of the user's own, started inside a session, and a login to it
/// from outside.
fn own_server(stage: &Stage, server: &str, port: u16) -> Result<(Recording, Recording)> {
    let ssh = stage.user.home.join(".ssh");
    fs::create_dir_all(&ssh)?;
    fs::copy(public(&stage.key), ssh.join("authorized_keys"))?;
    output(
        Command::new("chown")
            .arg("-R")
            .arg(&stage.user.name)
            .arg(&ssh),
    )?;
    output(Command::new("chmod").arg("700").arg(&ssh))?;
    let mut outer = stage.client().shell()?;
    outer.ready()?;
    outer.command(&format!("{server} 2>server.log & server=$!"))?;
    auditty_tests::wait_for("the user's own server", SOON, || {
        Ok(std::net::TcpStream::connect(("127.0.0.1", port)).ok())
    })?;
    let printed = stage
        .client()
        .at(port)
        .run("/bin/echo behind an own server", b"")?
        .stdout;
    let printed = String::from_utf8(printed)?;
    assert_eq!(printed, "behind an own server\n");
    outer.command("kill $server")?;
    outer.line("exit")?;
    outer.finish(SOON)?;
    let outer = stage.recording()?;
    let inner = stage.agent.store().only(port)?;
    Ok((outer, inner))
}

fn assert_of_own_server(stage: &Stage, outer: &Recording, inner: &Recording) -> Result<()> {
    outer.assert_complete()?;
    inner.assert_sound()?;
    inner.exec(&["/bin/echo", "behind", "an", "own", "server"])?;
    let login = &inner.session()["login"];
    assert_eq!(login["evidence"], "untrusted_server");
    assert_eq!(login["uid"], stage.user.uid);
    assert_eq!(inner.session()["parent_session_id"], outer.session_id());
    assert_linked(outer, "child", inner);
    Ok(())
}

#[test]
fn an_sshd_of_the_users_own() -> Result<()> {
    let stage = Stage::new()?;
    let port = free_port()?;
    let key = key_pair(&stage.user.home.join("host_key"))?;
    output(Command::new("chown").arg(&stage.user.name).arg(&key))?;
    let server = format!(
        "/usr/sbin/sshd -D -e -f /dev/null -p {port} -h {} -o ListenAddress=127.0.0.1 \
         -o StrictModes=no -o PidFile=none -o UsePAM=no",
        key.display()
    );
    let (outer, inner) = own_server(&stage, &server, port)?;
    assert_of_own_server(&stage, &outer, &inner)?;
    stage.end()
}

#[test]
fn a_dropbear_of_the_users_own() -> Result<()> {
    let stage = Stage::new()?;
    let port = free_port()?;
    let server = format!(
        "dropbearkey -t ed25519 -f dropbear_key > /dev/null; \
         exec /usr/sbin/dropbear -F -E -p 127.0.0.1:{port} -P dropbear.pid -r dropbear_key"
    );
    let (outer, inner) = own_server(&stage, &format!("sh -c '{server}'"), port)?;
    assert_of_own_server(&stage, &outer, &inner)?;
    stage.end()
}

/// A shell under sshd's name, with a connection for standard input.
const DISGUISED: &str = "\
import os, socket
listener = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
client.sendall(b'/bin/echo behind a name\\n')
client.close()
listener.close()
os.dup2(server.fileno(), 0)
os.execv('./sshd', ['sshd', '-s'])
";

#[test]
fn a_program_with_the_name_and_the_looks_of_an_sshd() -> Result<()> {
    let stage = Stage::new()?;
    let script = stage.scene.write("disguised.py", DISGUISED)?;
    let remote = format!("cp /bin/bash sshd; python3 {}", script.display());
    let printed = stage.run(&remote)?.stdout;
    assert_eq!(String::from_utf8(printed)?, "behind a name\n");
    let outer = stage.recording()?;
    let found = |recording: &Recording| {
        recording
            .exec(&["/bin/echo", "behind", "a", "name"])
            .is_ok()
    };
    let all = stage.agent.store().recordings()?;
    let with = all
        .iter()
        .find(|one| found(one))
        .context("the command is in no recording")?;
    if with.session_id() != outer.session_id() {
        assert_linked(&outer, "child", with);
    }
    stage.end()
}
