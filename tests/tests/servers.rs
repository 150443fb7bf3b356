//! SSH servers other than the system's own sshd: OpenSSH 10, which is three
//! programs, dropbear, and a server that somebody else starts for each client.

use std::{
    os::{fd::OwnedFd, unix::net::UnixListener},
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};
use auditty_tests::{
    SOON, Stage,
    agent::{Agent, Setting},
    client::{Auth, Client},
    dropbear::Dropbear,
    scene::{Scene, output},
    sshd::{Sshd, certify, fingerprint, key_pair, public},
    user::TestUser,
    wait_for,
};

fn openssh_10() -> Result<Stage> {
    let scene = Scene::new()?;
    let sshd = Sshd::start_openssh_10(&scene, "")?;
    Stage::on(scene, sshd, &Setting::default())
}

#[test]
fn openssh_10_knows_who_and_shows_what() -> Result<()> {
    let stage = openssh_10()?;
    let said = stage.client().run_tty("/bin/echo from ten; exit 5")?;
    let recording = stage.recording()?;
    let login = &recording.session()["login"];
    assert_eq!(login["user"], stage.user.name);
    assert_eq!(login["key_fingerprint"], fingerprint(&public(&stage.key))?);
    assert_eq!(login["evidence"], "sshd_monitor");
    let connection = &recording.session()["connection"];
    assert_eq!(connection["server_exe"], "/usr/lib/openssh/sshd-session");
    recording.exec(&["/bin/echo", "from", "ten"])?;
    assert_eq!(recording.bytes("output", "terminal")?, said.stdout);
    stage.end()
}

#[test]
fn ways_to_log_in_to_openssh_10() -> Result<()> {
    let scene = Scene::new()?;
    let authority = key_pair(&scene.path("authority"))?;
    let trusted = format!("TrustedUserCAKeys {}", public(&authority).display());
    let sshd = Sshd::start_openssh_10(&scene, &trusted)?;
    let user = TestUser::create(&scene)?;
    let agent = Agent::start(&scene, &Setting::default())?;
    let key = key_pair(&scene.path("certified"))?;
    let key_id = "root (serial 999) CA ED25519 SHA256:AAAA\nAccepted password for root";
    certify(&authority, &key, key_id, 7, &user.name)?;
    let password = || user.password.clone();
    let ways = [
        (Auth::Key(key), "certificate"),
        (Auth::Password(password()), "password"),
        (
            Auth::KeyboardInteractive(password()),
            "keyboard_interactive",
        ),
    ];
    for (auth, _) in &ways {
        let run = Client::new(&sshd, &user, auth.clone()).run("true", b"")?;
        ensure!(run.status.success(), "{auth:?} was refused");
    }
    let recordings = agent.store().finished(sshd.port, ways.len())?;
    for (recording, (_, method)) in recordings.iter().zip(ways) {
        let login = &recording.session()["login"];
        assert_eq!(login["user"], user.name);
        assert_eq!(login["method"], method);
        assert_eq!(login["confidence"], "high");
    }
    let certificate = &recordings[0].session()["login"]["certificate"];
    assert_eq!(certificate["key_id"], key_id);
    assert_eq!(certificate["serial"], 7);
    let ca = fingerprint(&public(&authority))?;
    assert_eq!(certificate["ca_fingerprint"], ca);
    Ok(())
}

#[test]
fn channels_of_openssh_10_and_its_root() -> Result<()> {
    let stage = openssh_10()?;
    let control = stage.scene.path("control");
    let socket = format!("-oControlPath={}", control.display());
    let master = stage
        .client()
        .with("-oControlMaster=yes")
        .with("-oControlPersist=30");
    let first = master.with(&socket).run("/bin/echo first", b"")?;
    assert_eq!(first.stdout, b"first\n");
    let second = stage.client().with(&socket).run("/bin/echo second", b"")?;
    assert_eq!(second.stdout, b"second\n");
    output(stage.client().with(&socket).ssh().args(["-O", "exit"]))?;

    let root = TestUser {
        name: "root".to_owned(),
        ..stage.user.clone()
    };
    let key = stage.sshd.authorize(&root)?;
    let client = Client::new(&stage.sshd, &root, Auth::Key(key.clone()));
    client.run("/bin/echo as root", b"")?;
    let recordings = stage.recordings(3)?;
    for (recording, words) in recordings.iter().zip(["first", "second", "as root"]) {
        let argv: Vec<_> = ["/bin/echo"].into_iter().chain(words.split(' ')).collect();
        recording.exec(&argv)?;
        assert_eq!(
            recording.bytes("output", "stdout")?,
            format!("{words}\n").into_bytes()
        );
    }
    let login = &recordings[2].session()["login"];
    assert_eq!(login["user"], "root");
    assert_eq!(login["key_fingerprint"], fingerprint(&public(&key))?);
    stage.end()
}

#[test]
fn dropbear() -> Result<()> {
    let mut stage = Stage::new()?;
    let server = Dropbear::start(&stage.scene, &stage.user, &stage.key)?;
    stage.sshd.port = server.port;

    // It goes when everything is shown: see [`Dropbear`].
    let asked = "stty -echo; seq 1 500; read -r go; exit 3";
    let mut typist = stage.client().typist(asked)?;
    typist.expect("\n500\r\n")?;
    typist.line("go")?;
    let (status, shown) = typist.finish(SOON)?;
    assert_eq!(status.code(), Some(3));
    let piped = stage.client().run("cat; echo done >&2", b"what went in")?;
    assert_eq!(piped.stdout, b"what went in");
    let recordings = stage.recordings(2)?;
    let [terminal, pipes] = &recordings[..] else {
        anyhow::bail!("not two recordings");
    };
    recordings.iter().for_each(|recording| {
        let login = &recording.session()["login"];
        assert_eq!(login["user"], stage.user.name);
        assert_eq!(login["evidence"], "process_uid");
        let connection = &recording.session()["connection"];
        assert_eq!(connection["client_address"], "127.0.0.1");
        assert_eq!(connection["server_exe"], "/usr/sbin/dropbear");
    });
    assert_eq!(terminal.bytes("output", "terminal")?, shown);
    assert_eq!(pipes.bytes("input", "stdin")?, b"what went in");
    assert_eq!(pipes.bytes("output", "stdout")?, b"what went in");
    assert_eq!(pipes.bytes("output", "stderr")?, b"done\n");
    stage.end()
}

/// As `ssh .host` and virtual machines' hosts do it.
#[test]
fn a_server_for_one_client_behind_a_unix_socket() -> Result<()> {
    let stage = Stage::new()?;
    let path = stage.scene.path("ssh.sock");
    let listener = UnixListener::bind(&path)?;
    let proxy = format!(
        "-oProxyCommand=python3 {} {}",
        bridge(&stage)?.display(),
        path.display()
    );
    let client = stage.client().with(proxy);
    let run = std::thread::spawn(move || client.run("/bin/echo from behind", b""));
    let (connection, _) = listener.accept()?;
    let config = stage
        .scene
        .path(&format!("sshd-{}/sshd_config", stage.sshd.port));
    let output = OwnedFd::from(connection.try_clone()?);
    let mut server = Command::new("/usr/sbin/sshd")
        .arg("-f")
        .arg(config)
        .arg("-i")
        .stdin(Stdio::from(OwnedFd::from(connection)))
        .stdout(Stdio::from(output))
        .stderr(Stdio::null())
        .spawn()?;
    let run = run
        .join()
        .map_err(|_| anyhow::anyhow!("the client panicked"))??;
    assert_eq!(run.stdout, b"from behind\n");
    server.wait()?;
    let recording = wait_for("the recording", SOON, || {
        let mut all = stage.agent.store().recordings()?.into_iter();
        Ok(all.find(|one| one.manifest.is_some()))
    })?;
    recording.exec(&["/bin/echo", "from", "behind"])?;
    let session = recording.session();
    assert_eq!(session["login"]["evidence"], "sshd_monitor");
    assert!(session["connection"]["client_address"].is_null());
    stage.end()
}

/// A program that carries bytes between a Unix socket and its own pipes.
fn bridge(stage: &Stage) -> Result<std::path::PathBuf> {
    stage.scene.write(
        "bridge.py",
        "import os, socket, sys, threading\n\
         s = socket.socket(socket.AF_UNIX)\n\
         s.connect(sys.argv[1])\n\
         def copy(a, b):\n\
         \x20   while data := os.read(a, 65536): os.write(b, data)\n\
         threading.Thread(target=copy, args=(0, s.fileno()), daemon=True).start()\n\
         copy(s.fileno(), 1)\n",
    )
}
