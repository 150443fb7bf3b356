//! Bad input and broken surroundings: a clear error, nothing lost, no panic.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, Result};
use auditty_tests::{
    SOON, Scene, Stage,
    agent::{Agent, Setting, command, configure},
    cli::Cli,
    s3::{Key, PREFIX, S3},
    scene::{files_below, output},
    sshd::free_port,
    store::Store,
    wait_for,
};

/// Runs an agent that must refuse to start; what it says.
fn refusal(scene: &Scene, setting: &Setting) -> Result<String> {
    let folder = scene.path("refused");
    configure(&folder, setting)?;
    let mut process = scene.spawn("refused", &mut command(&folder, &setting.environment))?;
    let status = process.wait(SOON)?;
    assert!(!status.success(), "it started");
    let log = process.log();
    assert!(!log.contains("panicked"), "{log}");
    Ok(log)
}

#[test]
fn an_unknown_key_in_the_configuration() -> Result<()> {
    let scene = Scene::new()?;
    let setting = Setting {
        extra: "[capture]\ninputt = \"off\"\n".to_owned(),
        ..Setting::default()
    };
    let said = refusal(&scene, &setting)?;
    for word in [
        "agent.toml:",
        "inputt",
        "`input`",
        "`attach`",
        "`data_ring_size`",
    ] {
        assert!(said.contains(word), "{word} in {said}");
    }
    Ok(())
}

#[test]
fn a_second_agent() -> Result<()> {
    let stage = Stage::new()?;
    let said = refusal(&stage.scene, &Setting::default())?;
    assert!(
        said.contains("another agent") || said.contains("already"),
        "{said}"
    );
    assert!(stage.run("/bin/echo still recorded")?.status.success());
    stage.recording()?.assert_complete()?;
    stage.end()
}

/// Records a session while the store fails, stops the agent, starts it with a
/// store that works: the whole session arrives.
fn nothing_is_lost(s3: &S3, scene: Scene, broken: &Setting, said: &[&str]) -> Result<()> {
    let mut stage = Stage::with(scene, broken)?;
    let shown = stage.run("seq 1 20000")?.stdout;
    wait_for("the report of the failing store", SOON, || {
        let log = stage.agent.process.log();
        Ok(said.iter().all(|word| log.contains(word)).then_some(()))
    })?;
    assert!(
        stage.agent.stop()?.success(),
        "it stops although the store fails"
    );
    assert!(!stage.agent.process.log().contains("panicked"));

    let works = Setting {
        store: s3.store(),
        environment: s3.writer.environment(),
        ..Setting::default()
    };
    configure(stage.agent.folder(), &works)?;
    stage.agent = Agent::start_again(&stage.scene, &works)?;
    let copy = stage.scene.path("copy");
    wait_for("the recording in the bucket", SOON, || {
        s3.download(&copy)?;
        let files = files_below(&copy)?;
        Ok(files
            .iter()
            .any(|file| file.ends_with("manifest.json"))
            .then_some(()))
    })?;
    let recording = Store::new(copy.join(PREFIX)).only(stage.sshd.port)?;
    recording.assert_complete()?;
    assert!(recording.bytes("output", "stdout")? == shown);
    stage.end()
}

#[test]
fn an_unreachable_bucket() -> Result<()> {
    let scene = Scene::new()?;
    let s3 = S3::start(&scene)?;
    let nowhere = format!("http://127.0.0.1:{}", free_port()?);
    let broken = Setting {
        store: s3.store().replace(&s3.endpoint, &nowhere),
        environment: s3.writer.environment(),
        ..Setting::default()
    };
    nothing_is_lost(&s3, scene, &broken, &[&nowhere])
}

#[test]
fn wrong_credentials_for_the_bucket() -> Result<()> {
    let scene = Scene::new()?;
    let s3 = S3::start(&scene)?;
    let wrong = Key {
        secret: "wrong".to_owned(),
        ..s3.writer.clone()
    };
    let broken = Setting {
        store: s3.store(),
        environment: wrong.environment(),
        ..Setting::default()
    };
    nothing_is_lost(&s3, scene, &broken, &["SignatureDoesNotMatch"])
}

#[test]
fn a_store_folder_that_is_read_only() -> Result<()> {
    let scene = Scene::new()?;
    let folder = scene.path("agent/store");
    fs::create_dir_all(&folder)?;
    // root ignores modes, not mounts.
    let mount = |options: &str| {
        output(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", options, "none"])
                .arg(&folder),
        )
    };
    scene.later(&format!("umount -l '{}'", folder.display()))?;
    mount("ro")?;
    let mut stage = Stage::with(scene, &Setting::default())?;
    let shown = stage.run("seq 1 20000")?.stdout;
    let named = folder.display().to_string();
    wait_for("the report of the read-only folder", SOON, || {
        let log = stage.agent.process.log();
        let mut lines = log.lines();
        let reported = lines.any(|line| {
            line.contains("recordings cannot be stored")
                && line.contains("Read-only file system")
                && line.contains(&named)
        });
        Ok(reported.then_some(()))
    })?;
    output(
        Command::new("mount")
            .args(["-o", "remount,rw"])
            .arg(&folder),
    )?;
    // What an operator must mend is tried again once a minute.
    let minute_and_a_half = Duration::from_secs(90);
    stage
        .agent
        .process
        .wait_for_log("the store takes recordings again", minute_and_a_half)?;
    let recording = stage.recording()?;
    recording.assert_complete()?;
    assert!(recording.bytes("output", "stdout")? == shown);
    stage.end()
}

#[test]
fn a_truncated_chunk() -> Result<()> {
    let stage = Stage::new()?;
    assert!(stage.run("seq 1 50000")?.status.success());
    let recording = stage.recording()?;
    let copy = stage.scene.path("copy");
    output(
        Command::new("cp")
            .arg("-r")
            .arg(stage.agent.store().folder())
            .arg(&copy),
    )?;
    let chunk = files_below(&copy)?
        .into_iter()
        .find(|file| file.to_string_lossy().ends_with("000000.jsonl.zst"))
        .context("a chunk")?;
    let whole = fs::read(&chunk)?;
    fs::write(&chunk, &whole[..whole.len() / 2])?;

    let url = format!("file://{}", copy.display());
    let cli = Cli::new(&["--store", &url], &[]);
    let id = recording.session_id();
    for arguments in [
        &["replay", id.as_str()][..],
        &["export", &id, "--format", "text"],
        &["export", &id, "--format", "jsonl"],
    ] {
        let answer = cli.run(arguments)?;
        let said = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert_eq!(answer.status.code(), Some(4), "{arguments:?}: {said}");
        assert!(said.contains("000000.jsonl.zst"), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
    stage.end()
}
