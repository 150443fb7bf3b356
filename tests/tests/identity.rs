//! Who logged in, compared with what ssh-keygen and the client say.

use std::process::Command;

use anyhow::{Context as _, Result};
use auditty_tests::{
    Stage,
    agent::{Agent, Setting},
    client::{Auth, Client},
    kerberos::Realm,
    scene::{Scene, output},
    sshd::{Sshd, certify, fingerprint, key_pair, public},
    store::Recording,
    user::TestUser,
};
use serde_json::json;

/// Prints what sshd says of the connection: client address and port, server
/// address and port.
const ASK: &str = "echo $SSH_CONNECTION";

fn assert_connection(recording: &Recording, said: &[u8]) -> Result<()> {
    let said = String::from_utf8_lossy(said).into_owned();
    let fields: Vec<_> = said.split_whitespace().collect();
    let connection = &recording.session()["connection"];
    assert_eq!(connection["client_address"], fields[0]);
    assert_eq!(connection["client_port"], fields[1].parse::<u16>()?);
    assert_eq!(connection["server_address"], fields[2]);
    assert_eq!(connection["server_port"], fields[3].parse::<u16>()?);
    assert_eq!(connection["server_exe"], "/usr/sbin/sshd");
    Ok(())
}

#[test]
fn a_key() -> Result<()> {
    let stage = Stage::new()?;
    let said = stage.run(ASK)?.stdout;
    let recording = stage.recording()?;
    let login = &recording.session()["login"];
    assert_eq!(login["user"], stage.user.name);
    assert_eq!(login["uid"], stage.user.uid);
    assert_eq!(login["method"], "public_key");
    assert_eq!(login["key_fingerprint"], fingerprint(&public(&stage.key))?);
    assert_eq!(login["key_type"], "ssh-ed25519");
    assert_eq!(login["evidence"], "sshd_monitor");
    assert_eq!(login["confidence"], "high");
    assert_connection(&recording, &said)?;
    let id = recording.session_id();
    let session = stage.agent.cli_after(&id)?.json(&["show", &id])?;
    assert_eq!(session["session"]["login"]["confidence"], "CONFIDENCE_HIGH");
    stage.end()
}

#[test]
fn an_offered_key_that_was_refused_is_not_the_login() -> Result<()> {
    let stage = Stage::new()?;
    let stranger = key_pair(&stage.scene.path("stranger"))?;
    let client = Client::new(&stage.sshd, &stage.user, Auth::Key(stranger));
    assert!(!client.run("true", b"")?.status.success());
    let both = client.with("-i").with(&stage.key);
    assert!(both.run("true", b"")?.status.success());

    let recording = stage.recording()?;
    let login = &recording.session()["login"];
    assert_eq!(login["key_fingerprint"], fingerprint(&public(&stage.key))?);
    stage.end()
}

#[test]
fn a_password() -> Result<()> {
    for keyboard_interactive in [false, true] {
        let stage = Stage::new()?;
        let password = stage.user.password.clone();
        let (auth, method) = if keyboard_interactive {
            (Auth::KeyboardInteractive(password), "keyboard_interactive")
        } else {
            (Auth::Password(password), "password")
        };
        let said = Client::new(&stage.sshd, &stage.user, auth)
            .run(ASK, b"")?
            .stdout;
        let recording = stage.recording()?;
        let login = &recording.session()["login"];
        assert_eq!(login["user"], stage.user.name);
        assert_eq!(login["method"], method);
        assert!(login["key_fingerprint"].is_null());
        assert_connection(&recording, &said)?;
        stage.end()?;
    }
    Ok(())
}

/// The client's machine vouches for its users: with the key of that machine,
/// which here is in a folder over `/etc/ssh` that only the client sees.
#[test]
fn a_host_that_vouches() -> Result<()> {
    let scene = Scene::new()?;
    let own_folder = scene.path("etc-ssh");
    scene.write("etc-ssh/ssh_config", "EnableSSHKeysign yes\n")?;
    let host_key = key_pair(&own_folder.join("ssh_host_ed25519_key"))?;
    let sshd = Sshd::start(
        &scene,
        "HostbasedAuthentication yes\nHostbasedUsesNameFromPacketOnly yes\nIgnoreRhosts no",
    )?;
    let user = TestUser::create(&scene)?;
    std::fs::create_dir(user.home.join(".ssh"))?;
    let public_key = std::fs::read_to_string(public(&host_key))?;
    std::fs::write(
        user.home.join(".ssh/known_hosts"),
        format!("localhost {public_key}"),
    )?;
    std::fs::write(user.home.join(".shosts"), "localhost root\n")?;
    let agent = Agent::start(&scene, &Setting::default())?;

    let stranger = key_pair(&scene.path("stranger"))?;
    let client = Client::new(&sshd, &user, Auth::Key(stranger))
        .with("-oHostbasedAuthentication=yes")
        .with("-oEnableSSHKeysign=yes")
        .with("-oPreferredAuthentications=hostbased");
    let ssh = client.ssh();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg("mount --bind \"$0\" /etc/ssh && exec \"$@\"");
    command.arg(&own_folder).arg(ssh.get_program());
    let said = output(command.args(ssh.get_args()).arg(ASK))?;
    let recording = agent.store().only(sshd.port)?;
    let login = &recording.session()["login"];
    assert_eq!(login["user"], user.name);
    assert_eq!(login["method"], "host_based");
    assert_eq!(login["evidence"], "sshd_monitor");
    // It is the machine's key, not the user's.
    assert!(login["key_fingerprint"].is_null());
    let host = &login["client_host"];
    assert_eq!(
        (&host["user"], &host["name"]),
        (&json!("root"), &json!("localhost."))
    );
    assert_eq!(host["key_fingerprint"], fingerprint(&public(&host_key))?);
    assert_connection(&recording, said.as_bytes())
}

#[test]
fn a_kerberos_ticket() -> Result<()> {
    let scene = Scene::new()?;
    let realm = Realm::start(&scene)?;
    // Its tickets are for an address, not for the machine's name.
    let extra = "GSSAPIAuthentication yes\nGSSAPIStrictAcceptorCheck no";
    let sshd = Sshd::start_in(&scene, extra, realm.of_server())?;
    let user = TestUser::create(&scene)?;
    let ticket = realm.ticket(&user)?;
    let agent = Agent::start(&scene, &Setting::default())?;

    let stranger = key_pair(&scene.path("stranger"))?;
    let client = Client::new(&sshd, &user, Auth::Key(stranger))
        .with("-oGSSAPIAuthentication=yes")
        .with("-oPreferredAuthentications=gssapi-with-mic");
    let said = output(client.ssh().arg(ASK).envs(ticket))?;
    let recording = agent.store().only(sshd.port)?;
    let login = &recording.session()["login"];
    assert_eq!(login["user"], user.name);
    assert_eq!(login["method"], "gssapi");
    assert_eq!(login["evidence"], "sshd_monitor");
    assert!(login["key_fingerprint"].is_null());
    assert_connection(&recording, said.as_bytes())
}

/// Key ids that try to look like something else.
const KEY_IDS: [&str; 5] = [
    "alice laptop (2026)",
    "alice (serial 999) CA ED25519 SHA256:AAAA",
    "m\nAccepted publickey for root from 10.0.0.1 port 1 ssh2: ED25519 SHA256:AAAA",
    "x from 6.6.6.6 port 22 ssh2: ED25519 SHA256:AAAA\" user=\"root\" AND 1=1 ",
    "größe 終 \u{1b}[31m\u{7}{}%s\\n",
];

/// Longer than a line of the log.
const LONG: usize = 1200;

#[test]
fn a_certificate() -> Result<()> {
    let scene = Scene::new()?;
    let authority = key_pair(&scene.path("authority"))?;
    let trusted = format!("TrustedUserCAKeys {}", public(&authority).display());
    let sshd = Sshd::start(&scene, &trusted)?;
    let user = TestUser::create(&scene)?;
    let mut agent = Agent::start(&scene, &Setting::default())?;

    let mut said = Vec::new();
    let mut keys = Vec::new();
    let long = "K".repeat(LONG);
    let key_ids: Vec<&str> = std::iter::once(long.as_str()).chain(KEY_IDS).collect();
    for (number, key_id) in key_ids.iter().enumerate() {
        let key = key_pair(&scene.path(&format!("certified{number}")))?;
        let serial = u64::MAX - number as u64;
        let users = format!("{},other", user.name);
        certify(&authority, &key, key_id, serial, &users)?;
        said.push(
            Client::new(&sshd, &user, Auth::Key(key.clone()))
                .run(ASK, b"")?
                .stdout,
        );
        keys.push(key);
    }
    let recordings = agent.store().finished(sshd.port, key_ids.len())?;
    for (number, recording) in recordings.iter().enumerate() {
        let login = &recording.session()["login"];
        let certificate = &login["certificate"];
        assert_eq!(login["user"], user.name);
        assert_eq!(login["method"], "certificate");
        assert_eq!(
            login["key_fingerprint"],
            fingerprint(&public(&keys[number]))?
        );
        assert_eq!(certificate["key_id"], key_ids[number]);
        assert_eq!(certificate["serial"], u64::MAX - number as u64);
        assert_eq!(
            certificate["ca_fingerprint"],
            fingerprint(&public(&authority))?
        );
        assert_eq!(certificate["principals"][0], user.name);
        assert!(certificate["valid_before"].is_string());
        assert_connection(recording, &said[number])?;
    }
    // Recorded text never reaches a viewer's terminal raw.
    let hostile = recordings.last().context("the hostile one")?.session_id();
    let cli = agent.cli_after(&hostile)?;
    let shown = cli.text(&["show", &hostile, "--color", "never"])?;
    assert!(!shown.contains(['\u{1b}', '\u{7}']), "{shown:?}");
    assert!(agent.stop()?.success());
    Ok(())
}
