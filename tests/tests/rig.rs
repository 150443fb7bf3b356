//! The rig itself: what the other tests rely on, without the product.

use std::{process::Command, time::Duration};

use anyhow::Result;
use auditty_tests::{
    SOON, Scene,
    agent::Collector,
    client::{Auth, Client, find},
    oracle::Oracle,
    python,
    s3::S3,
    scene::output,
    sshd::Sshd,
    user::TestUser,
    wait_for,
};
use serde_json::Value;

#[test]
fn a_login_works_by_key_and_by_password() -> Result<()> {
    let scene = Scene::new()?;
    let sshd = Sshd::start(&scene, "")?;
    let user = TestUser::create(&scene)?;
    let key = sshd.authorize(&user)?;

    let by_key = Client::new(&sshd, &user, Auth::Key(key)).run("id -un; cat >&2", b"input")?;
    assert_eq!(by_key.stdout, format!("{}\n", user.name).as_bytes());
    assert_eq!(by_key.stderr, b"input");
    let by_password = Client::new(&sshd, &user, Auth::Password(user.password.clone()));
    assert_eq!(by_password.run_tty("exit 7")?.status.code(), Some(7));
    Ok(())
}

#[test]
fn a_typist_sees_what_the_shell_prints() -> Result<()> {
    let scene = Scene::new()?;
    let sshd = Sshd::start(&scene, "")?;
    let user = TestUser::create(&scene)?;
    let key = sshd.authorize(&user)?;

    let mut typist = Client::new(&sshd, &user, Auth::Key(key)).shell()?;
    typist.ready()?;
    typist.command("tty; ech0\u{7f}o 'a'\"b\"")?;
    typist.line("exit 3")?;
    let (status, screen) = typist.finish(SOON)?;
    assert_eq!(status.code(), Some(3));
    assert!(find(&screen, b"/dev/pts/").is_some());
    assert!(
        find(&screen, b"\r\nab\r\n").is_some(),
        "the backspace corrected the command"
    );
    Ok(())
}

#[test]
fn strace_witnesses_a_login() -> Result<()> {
    let scene = Scene::new()?;
    let sshd = Sshd::start(&scene, "")?;
    let user = TestUser::create(&scene)?;
    let key = sshd.authorize(&user)?;
    let oracle = Oracle::attach(&scene, &sshd)?;

    let client = Client::new(&sshd, &user, Auth::Key(key));
    assert!(
        client
            .run("/bin/echo one; (/bin/echo two | /bin/cat)", b"")?
            .status
            .success()
    );
    let leader = ["bash", "-c", "/bin/echo one; (/bin/echo two | /bin/cat)"];
    let execs = oracle.execs_below(&leader)?;
    let mut argvs: Vec<_> = execs
        .values()
        .flatten()
        .map(|exec| exec.argv.join(" "))
        .collect();
    argvs.sort();
    assert_eq!(
        argvs,
        [
            "/bin/cat",
            "/bin/echo one",
            "/bin/echo two",
            &leader.join(" ")
        ]
    );
    Ok(())
}

#[test]
fn the_s3_server_enforces_its_policies() -> Result<()> {
    let scene = Scene::new()?;
    S3::start(&scene)?.writer_may_only_put()
}

#[test]
fn a_collector_answers_a_client_that_knows_only_reflection() -> Result<()> {
    let scene = Scene::new()?;
    let mut collector = Collector::start(&scene)?;
    assert_eq!(
        python::sessions(&collector.address, "user = \"nobody\"")?,
        [Value::Null; 0]
    );
    let refused = python::sessions(&collector.address, "no_such_field = 1");
    assert!(
        format!("{refused:?}").contains("INVALID_ARGUMENT"),
        "{refused:?}"
    );
    assert!(collector.stop(SOON)?.success());
    Ok(())
}

#[test]
fn a_scene_leaves_nothing_behind() -> Result<()> {
    let scene = Scene::new()?;
    let sleeper = scene.spawn("sleep", Command::new("sleep").arg("1000"))?;
    let pid = sleeper.pid();
    let user = TestUser::create(&scene)?;
    let folder = scene.path("");
    // As if we were killed: nothing of ours is dropped.
    std::mem::forget(sleeper);
    drop(scene);

    assert!(!folder.exists());
    assert!(output(Command::new("id").arg(&user.name)).is_err());
    let state = format!("/proc/{pid}/stat");
    wait_for("the death of the sleeper", Duration::from_secs(5), || {
        let stat = std::fs::read_to_string(&state).unwrap_or_default();
        Ok((stat.is_empty() || stat.contains(") Z ")).then_some(()))
    })
}
