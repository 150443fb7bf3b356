//! Every way to use a connection leaves the session that it was.
//! `tests/README.md` says which threat each test answers.

use std::process::Command;

use anyhow::{Context as _, Result};
use auditty_tests::{
    SOON, Stage,
    client::{Auth, Client},
    scene::output,
    sshd::Sshd,
    store::Recording,
    target::Target,
};

/// Kind and command of a recording whose login is the user's, by key.
fn shape(stage: &Stage, recording: &Recording) -> Result<(String, String)> {
    recording.assert_complete()?;
    let session = recording.session();
    assert_eq!(session["login"]["user"], stage.user.name);
    assert_eq!(session["login"]["method"], "public_key");
    assert_eq!(session["connection"]["client_address"], "127.0.0.1");
    assert!(session["end_time"].is_string());
    let text = |field: &str| session[field].as_str().unwrap_or_default().to_owned();
    Ok((text("session_kind"), text("command")))
}

fn shapes(stage: &Stage, count: usize) -> Result<Vec<(String, String)>> {
    let recordings = stage.recordings(count)?;
    recordings.iter().map(|one| shape(stage, one)).collect()
}

fn of(shapes: &[(String, String)]) -> Vec<(&str, &str)> {
    let pairs = shapes.iter();
    pairs
        .map(|(kind, command)| (kind.as_str(), command.as_str()))
        .collect()
}

#[test]
fn shells_and_commands() -> Result<()> {
    let stage = Stage::new()?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    typist.line("exit")?;
    typist.finish(SOON)?;
    let piped = stage
        .client()
        .with("-T")
        .run_bare(b"/bin/echo typed into a pipe\n")?;
    assert!(piped.stdout.ends_with(b"typed into a pipe\n"));
    assert!(stage.run("/bin/echo piped")?.status.success());
    assert!(
        stage
            .client()
            .run_tty("/bin/echo in a terminal")?
            .status
            .success()
    );

    assert_eq!(
        of(&shapes(&stage, 4)?),
        [
            ("shell", ""),
            ("shell", ""),
            ("exec", "/bin/echo piped"),
            ("exec", "/bin/echo in a terminal"),
        ]
    );
    let recordings = stage.recordings(4)?;
    let with_terminal = recordings
        .iter()
        .map(|one| !one.of("terminal_open").is_empty());
    assert_eq!(
        with_terminal.collect::<Vec<_>>(),
        [true, false, false, true]
    );
    recordings[1].exec(&["/bin/echo", "typed", "into", "a", "pipe"])?;
    stage.end()
}

#[test]
fn a_forced_command() -> Result<()> {
    let stage = Stage::new()?;
    stage.sshd.restrict(
        &stage.user,
        &stage.key,
        "restrict,command=\"/bin/echo forced $SSH_ORIGINAL_COMMAND\"",
    )?;
    let printed = stage.run("/bin/cat /etc/shadow")?.stdout;
    assert_eq!(String::from_utf8(printed)?, "forced /bin/cat /etc/shadow\n");
    assert_eq!(
        of(&shapes(&stage, 1)?),
        [("exec", "/bin/echo forced $SSH_ORIGINAL_COMMAND")]
    );
    stage
        .recording()?
        .exec(&["/bin/echo", "forced", "/bin/cat", "/etc/shadow"])?;
    stage.end()
}

#[test]
fn file_transfers() -> Result<()> {
    let stage = Stage::new()?;
    let client = stage.client();
    let local = stage.scene.write("local", "content\n")?;
    let remote = format!("{}:uploaded", client.destination());
    let sftp = |options: &[&str]| {
        let mut sftp = client.program("sftp");
        sftp.args(options)
            .args(["-b", "/dev/null"])
            .arg(client.destination());
        output(&mut sftp)
    };
    sftp(&[])?;
    sftp(&["-s", "/usr/lib/openssh/sftp-server"])?;
    output(client.program("scp").arg(&local).arg(&remote))?;
    output(client.program("scp").arg("-O").arg(&local).arg(&remote))?;
    let mut rsync = Command::new("rsync");
    output(
        rsync
            .args(["-e", &client.ssh_line()])
            .arg(&local)
            .arg(&remote),
    )?;
    let mut git = Command::new("git");
    git.env("GIT_SSH_COMMAND", client.ssh_line());
    // There is no repository; that it was asked for counts.
    let asked = git.arg("ls-remote").arg(&remote).output()?;
    assert!(!asked.status.success());

    let shapes = shapes(&stage, 6)?;
    let programs = shapes.iter().map(|(kind, command)| {
        let program = command.split(' ').next().unwrap_or_default();
        (kind.as_str(), program)
    });
    assert_eq!(
        programs.collect::<Vec<_>>(),
        [
            ("subsystem", "sftp"),
            ("subsystem", "/usr/lib/openssh/sftp-server"),
            ("subsystem", "sftp"),
            ("exec", "scp"),
            ("exec", "rsync"),
            ("exec", "git-upload-pack"),
        ]
    );
    stage.end()
}

#[test]
fn a_jump_through_the_host() -> Result<()> {
    let stage = Stage::new()?;
    let here = format!("127.0.0.1:{}", stage.sshd.port);
    // What `-J` makes of itself.
    let client = stage.client();
    let jump = format!("{} -W {here} {}", client.ssh_line(), client.destination());
    let client = client.with("-o").with(format!("ProxyCommand={jump}"));
    assert!(client.run("/bin/echo beyond", b"")?.status.success());

    let recordings = stage.recordings(2)?;
    let (jump, beyond) = (&recordings[0], &recordings[1]);
    let kinds = recordings.iter().map(|one| &one.session()["session_kind"]);
    assert_eq!(kinds.collect::<Vec<_>>(), ["forward", "exec"]);
    beyond.assert_complete()?;
    beyond.exec(&["/bin/echo", "beyond"])?;
    let forwarded = jump
        .of("connect")
        .into_iter()
        .find(|event| event["remote"] == here);
    assert_eq!(forwarded.context("the forward")?["forwarded"], true);
    assert_eq!(beyond.session()["parent_session_id"], jump.session_id());
    stage.end()
}

#[test]
fn a_forwarded_agent() -> Result<()> {
    let stage = Stage::new()?;
    let socket = stage.scene.path("agent.sock");
    let mut agent = Command::new("ssh-agent");
    let mut agent = stage
        .scene
        .spawn("ssh-agent", agent.args(["-D", "-a"]).arg(&socket))?;
    agent.wait_for_log("SSH_AUTH_SOCK", SOON)?;
    output(
        Command::new("ssh-add")
            .arg(&stage.key)
            .env("SSH_AUTH_SOCK", &socket),
    )?;
    let client = stage.client().with("-A");
    let mut ssh = client.ssh();
    ssh.env("SSH_AUTH_SOCK", &socket).arg("ssh-add -l");
    assert!(output(&mut ssh)?.contains("ED25519"));

    assert_eq!(of(&shapes(&stage, 1)?), [("exec", "ssh-add -l")]);
    let recording = stage.recording()?;
    let connects = recording.of("connect");
    let agent = |forwarded: bool| {
        connects.iter().any(|event| {
            (event["forwarded"] == true) == forwarded
                && event["unix_path"]
                    .as_str()
                    .is_some_and(|path| path.contains("/agent."))
        })
    };
    assert!(agent(true), "sshd serves the agent: {connects:?}");
    assert!(agent(false), "ssh-add asks it: {connects:?}");
    stage.end()
}

#[test]
fn forwarded_windows() -> Result<()> {
    let stage = Stage::new()?;
    let server = Sshd::start(&stage.scene, "X11Forwarding yes\nX11UseLocalhost yes")?;
    let key = server.authorize(&stage.user)?;
    let client = Client::new(&server, &stage.user, Auth::Key(key)).with("-Y");
    let authority = stage.scene.path("Xauthority");
    let mut xauth = Command::new("xauth");
    let cookie = "00112233445566778899aabbccddeeff";
    output(
        xauth
            .arg("-f")
            .arg(&authority)
            .args(["add", ":77", ".", cookie]),
    )?;
    // Nothing shows windows here: the connection reaches the client and ends.
    let ask = "import os, socket; display = os.environ[\"DISPLAY\"].split(\":\")[1]; \
               port = 6000 + int(display.split(\".\")[0]); \
               socket.create_connection((\"127.0.0.1\", port)).close(); print(port)";
    let mut ssh = client.ssh();
    ssh.env("DISPLAY", ":77").env("XAUTHORITY", &authority);
    let port = output(ssh.arg(format!("python3 -c '{ask}'")))?;

    let recording = stage.agent.store().only(server.port)?;
    recording.assert_complete()?;
    let address = format!("127.0.0.1:{}", port.trim());
    let roles: Vec<_> = recording
        .of("connect")
        .iter()
        .filter(|event| event["forwarded"] == true && event["local"] == address)
        .map(|event| event["role"].clone())
        .collect();
    assert!(
        roles.contains(&"listen".into()) && roles.contains(&"accept".into()),
        "{roles:?}"
    );
    let own = recording
        .of("connect")
        .into_iter()
        .find(|event| event["remote"] == address);
    assert!(own.context("the program's own connection")?["forwarded"].is_null());
    stage.end()
}

#[test]
fn a_connection_that_only_forwards() -> Result<()> {
    let stage = Stage::new()?;
    let target = Target::start()?;
    let client = stage.client().with("-W").with(target.address());
    drop(client.run_bare(b"too little for an answer")?);
    assert_eq!(of(&shapes(&stage, 1)?), [("forward", "")]);
    stage.end()
}
