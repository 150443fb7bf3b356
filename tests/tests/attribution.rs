//! Whatever a user's processes turn into, they stay in their session.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail, ensure};
use auditty_tests::{
    SOON, Scene, Stage,
    agent::Setting,
    client::{Auth, Client, PROMPT, wait_for_hidden_input},
    scene::files_below,
    sshd::Sshd,
    user::TestUser,
    wait_for,
};
use serde_json::Value;

#[test]
fn sudo_and_su() -> Result<()> {
    let stage = Stage::new()?;
    stage.user.may_sudo(&stage.scene)?;
    let other = TestUser::create(&stage.scene)?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    let terminal = typist.remote_terminal()?;
    typist.line("sudo /bin/echo as root")?;
    wait_for_hidden_input(&terminal)?;
    typist.line(&stage.user.password)?;
    typist.expect(PROMPT)?;
    typist.line(&format!("su {} -c '/bin/echo as another'", other.name))?;
    wait_for_hidden_input(&terminal)?;
    typist.line(&other.password)?;
    typist.expect(PROMPT)?;
    typist.line("exit")?;
    typist.finish(SOON)?;

    let recording = stage.recording()?;
    recording.assert_complete()?;
    let root = recording.exec(&["/bin/echo", "as", "root"])?;
    assert_eq!((&root["uid"], &root["euid"]), (&0.into(), &0.into()));
    let another = recording.exec(&["/bin/echo", "as", "another"])?;
    assert_eq!(another["uid"], other.uid);
    // sudo runs as root for a user who is not: the real id says who.
    let sudo = recording.exec(&["sudo", "/bin/echo", "as", "root"])?;
    assert_eq!(sudo["uid"], stage.user.uid);
    assert_eq!(sudo["euid"], 0);
    assert_eq!(recording.session()["login"]["user"], stage.user.name);
    stage.end()
}

#[test]
fn processes_that_leave_their_parents() -> Result<()> {
    let stage = Stage::new()?;
    let remote = "setsid -w /bin/echo setsid; \
                  (setsid sh -c '(/bin/echo orphan >done) &' &); \
                  until [ -s done ]; do sleep 0.05; done; \
                  /bin/echo a | /bin/cat | /usr/bin/tr a b; \
                  nohup /bin/echo nohup; \
                  timeout 5 sh -c 'sh -c \"/bin/echo deep; true\"; true'";
    assert!(stage.run(remote)?.status.success());
    let recording = stage.recording()?;
    recording.assert_complete()?;
    for argv in [
        &["/bin/echo", "setsid"][..],
        &["/bin/echo", "orphan"],
        &["/bin/cat"],
        &["/usr/bin/tr", "a", "b"],
        &["/bin/echo", "nohup"],
        &["/bin/echo", "deep"],
    ] {
        recording.exec(argv)?;
    }
    stage.end()
}

#[test]
fn what_runs_on_after_the_logout() -> Result<()> {
    let stage = Stage::new()?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    typist.command("nohup sh -c 'sleep 2; /bin/echo afterlife' >/dev/null 2>&1 &")?;
    typist.line("exit")?;
    typist.finish(SOON)?;

    let recording = stage.recording()?;
    recording.assert_complete()?;
    let afterlife = recording.exec(&["/bin/echo", "afterlife"])?;
    let end = recording.end()?;
    assert!(
        afterlife["seq"].as_u64() > end["seq"].as_u64(),
        "it ran after the end"
    );
    assert!(end["running_processes"].as_u64() >= Some(1));
    // The last of them ended too, and the session says when.
    let markers = recording.of("marker");
    let ended = markers
        .iter()
        .find(|marker| marker["marker"] == "processes_ended");
    assert!(ended.is_some_and(|ended| ended["seq"].as_u64() > afterlife["seq"].as_u64()));
    let session = recording.session();
    assert!(session["processes_end_time"].as_str() > session["end_time"].as_str());
    stage.end()
}

/// Told to, the agent pays for nothing once everybody has left: it says so, and
/// processes are still recorded.
#[test]
fn what_runs_on_with_the_hooks_detached() -> Result<()> {
    let setting = Setting {
        extra: "[capture]\nattach = \"while-connected\"".to_owned(),
        ..Setting::default()
    };
    let stage = Stage::with(Scene::new()?, &setting)?;
    let remote = "nohup sh -c 'while [ ! -e ~/go ]; do sleep 0.2; done; echo x > ~/written; \
                  /bin/echo afterlife' >/dev/null 2>&1 </dev/null &";
    assert!(stage.run(remote)?.status.success());
    wait_for("the hook on system calls to go", SOON, || {
        let hook = |file: &PathBuf| file.ends_with("raw_sys_enter");
        let pins = files_below(Path::new("/sys/fs/bpf/auditty"))?;
        Ok((!pins.iter().any(hook)).then_some(()))
    })?;
    fs::write(stage.user.home.join("go"), "")?;

    let recording = stage.recording()?;
    recording.assert_sound()?;
    recording.exec(&["/bin/echo", "afterlife"])?;
    let written = stage.user.home.join("written").display().to_string();
    let files = recording.of("file");
    assert!(!files.iter().any(|file| file["path"] == written));
    let gaps = recording.of("gap");
    let [gap] = &gaps[..] else {
        bail!("not one gap: {gaps:?}");
    };
    assert_eq!(gap["cause"], "detached");
    assert_eq!(recording.session()["verdict"], "lossy");
    let detached = |marker: &&Value| marker["marker"] == "detached";
    assert_eq!(
        recording.of("marker").into_iter().filter(detached).count(),
        1
    );
    stage.end()
}

#[test]
fn an_inner_terminal() -> Result<()> {
    let stage = Stage::new()?;
    let mut typist = stage.client().shell_at_terminal(24, 80)?;
    typist.ready()?;
    typist.command("script -qc '/bin/echo inside' /dev/null")?;
    typist.command("tmux -L auditty-test -f /dev/null new-session '/bin/echo in tmux; sleep 1'")?;
    typist.line("exit")?;
    let (_, shown) = typist.finish(SOON)?;

    let recording = stage.recording()?;
    recording.assert_complete()?;
    recording.exec(&["/bin/echo", "inside"])?;
    recording.exec(&["/bin/echo", "in", "tmux"])?;
    assert_eq!(recording.bytes("output", "terminal")?, shown);
    stage.end()
}

/// Root is served by the process that PAM's session modules run in.
#[test]
fn what_pam_runs_in_a_login_of_root() -> Result<()> {
    const RUNS: usize = 8;
    let scene = Scene::new()?;
    let said = scene.path("by-pam");
    let script = scene.write(
        "of-pam",
        format!(
            "#!/bin/sh\n/bin/echo by pam $PAM_TYPE\necho $PAM_TYPE >> {}\n",
            said.display()
        ),
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let script = script.display();
    let sshd = Sshd::start_with_pam(
        &scene,
        &format!(
            "session optional pam_exec.so quiet {script}\n\
             session optional pam_exec.so quiet stdout {script}"
        ),
    )?;
    let stage = Stage::on(scene, sshd, &Setting::default())?;
    let root = TestUser {
        name: "root".to_owned(),
        ..stage.user.clone()
    };
    let key = stage.sshd.authorize(&root)?;
    let client = Client::new(&stage.sshd, &root, Auth::Key(key));
    let piped = client.run("/bin/echo as root", b"")?;
    ensure!(piped.stdout == b"as root\n", "{piped:?}");
    let shown = client.run_tty("/bin/echo as root; exit 3")?;
    ensure!(shown.status.code() == Some(3), "{shown:?}");
    // Two lines, at the beginning and the end of two logins.
    wait_for("what PAM runs", SOON, || {
        let lines = fs::read_to_string(&said)
            .unwrap_or_default()
            .lines()
            .count();
        Ok((lines >= RUNS).then_some(()))
    })?;
    for recording in stage.recordings(2)? {
        recording.assert_complete()?;
        recording.exec(&["/bin/echo", "as", "root"])?;
        let words: Vec<String> = recording.argvs().into_iter().flatten().collect();
        assert!(!words.contains(&"pam".to_owned()), "{words:?}");
        assert_eq!(recording.session()["login"]["user"], "root");
    }
    stage.end()
}
