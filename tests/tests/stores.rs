//! Folder and bucket: the same recording, read with stock tools.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use auditty_tests::{
    SOON, Scene, Stage,
    agent::Setting,
    cli::Cli,
    client::find,
    s3::{BUCKET, PREFIX, S3},
    scene::output,
    store::{Recording, Store},
    wait_for,
};

/// Types at a shell; what the client saw.
fn login(stage: &Stage) -> Result<Vec<u8>> {
    let mut typist = stage.client().shell_at_terminal(24, 80)?;
    typist.ready()?;
    typist.command("/bin/echo evidence; seq 5000")?;
    typist.command("printf 'not text: \\377\\376\\n'")?;
    typist.line("exit")?;
    Ok(typist.finish(SOON)?.1)
}

/// The specification's own recipes, in a shell.
fn assert_readable_with_stock_tools(recording: &Recording, shown: &[u8]) -> Result<()> {
    recording.assert_complete()?;
    let shell = |line: &str| {
        let mut command = Command::new("bash");
        output(
            command
                .args(["-euo", "pipefail", "-c", line])
                .current_dir(&recording.folder),
        )
    };
    let commands =
        shell("zstd -dc *.jsonl.zst | jq -r 'select(.kind == \"exec\") | .argv | join(\" \")'")?;
    assert!(
        commands.lines().any(|line| line == "/bin/echo evidence"),
        "{commands}"
    );
    shell(
        "zstd -dc *.jsonl.zst \
         | jq -r 'select(.kind == \"output\" and .terminal == 0) | .base64 // (.text // \"\" | @base64)' \
         | while read -r line; do printf %s \"$line\" | base64 -d; done > /tmp/auditty-shown.$$; \
         mv /tmp/auditty-shown.$$ shown.bin",
    )?;
    assert!(std::fs::read(recording.folder.join("shown.bin"))? == shown);
    std::fs::remove_file(recording.folder.join("shown.bin"))?;
    Ok(())
}

/// The export plays in the stock asciinema and prints what the client saw.
fn assert_plays(cli: &Cli, session_id: &str, folder: &Path, shown: &[u8]) -> Result<()> {
    let cast = folder.join("session.cast");
    let file = cast.to_string_lossy().into_owned();
    cli.text(&[
        "export",
        session_id,
        "--format",
        "asciicast-v2",
        "--out",
        &file,
    ])?;
    // asciinema wants a terminal; this one changes nothing on the way.
    let at_terminal = |line: String| {
        let mut script = Command::new("script");
        script.args(["-qec", &format!("stty -opost; {line}"), "/dev/null"]);
        script.stdin(Stdio::null()).output()
    };
    let played = at_terminal(format!("asciinema cat '{file}'"))?;
    assert!(
        played.status.success(),
        "{}",
        String::from_utf8_lossy(&played.stdout)
    );
    assert!(find(&played.stdout, b"evidence\r\n1\r\n2\r\n").is_some());
    assert!(find(&played.stdout, b"4999\r\n5000\r\n").is_some());
    assert!(find(shown, b"4999\r\n5000\r\n").is_some());
    let replay = at_terminal(format!("asciinema play -i 0.01 -s 100 '{file}'"))?;
    assert!(
        replay.status.success(),
        "{}",
        String::from_utf8_lossy(&replay.stdout)
    );
    assert!(find(&replay.stdout, b"4999\r\n5000\r\n").is_some());
    Ok(())
}

#[test]
fn a_folder() -> Result<()> {
    let stage = Stage::new()?;
    let shown = login(&stage)?;
    let recording = stage.recording()?;
    assert_readable_with_stock_tools(&recording, &shown)?;

    let id = recording.session_id();
    assert_plays(
        &stage.agent.cli_after(&id)?,
        &id,
        &stage.scene.path(""),
        &shown,
    )?;
    let url = format!("file://{}", stage.agent.store().folder().display());
    let alone = Cli::new(&["--store", &url], &[]);
    let listed = alone.json(&["sessions"])?;
    assert!(listed.to_string().contains(&id));
    let replayed = alone.text(&["replay", &id])?;
    assert!(replayed.contains("evidence") && !replayed.contains('\u{1b}'));
    let events = alone.text(&["export", &id, "--format", "jsonl"])?;
    assert_eq!(
        events
            .lines()
            .filter(|line| line.contains("\"seq\""))
            .count(),
        recording.events.len()
    );
    stage.end()
}

/// Content is read with the reader's own rights; what for stands in the audit log.
#[test]
fn what_is_done_with_a_recording_is_in_the_audit_log() -> Result<()> {
    let stage = Stage::new()?;
    login(&stage)?;
    let recording = stage.recording()?;
    let id = recording.session_id();
    let cli = stage.agent.cli_after(&id)?;
    assert!(cli.text(&["replay", &id])?.contains("evidence"));
    let copy = stage.scene.path("copy.jsonl");
    let copy = copy.to_string_lossy();
    cli.text(&["export", &id, "--format", "jsonl", "--out", &copy])?;
    for verb in ["replay", "export"] {
        let asked = cli.json(&["audit", "--purpose", verb])?;
        let records = asked["records"].as_array().context("records")?;
        let of_session = |record: &&serde_json::Value| {
            let request = record["request"].as_str().unwrap_or_default();
            record["purpose"] == verb && request.contains(&*id)
        };
        let found = records.iter().filter(of_session).count();
        assert_eq!((found, records.len()), (1, 1), "{asked:#}");
        let listed = cli.text(&["audit", "--purpose", verb, "--output", "csv"])?;
        let line = listed.lines().nth(1).context("a record")?;
        assert!(line.contains(&format!(",{verb},")), "{listed}");
    }
    stage.end()
}

/// The bucket is what the host sealed: by itself, against the collector, and as an
/// archive.
fn assert_verifies(
    stage: &Stage,
    alone: &Cli,
    id: &str,
    source: &[&str],
    environment: &[(String, String)],
) -> Result<()> {
    let report = alone.json(&["verify", "all"])?;
    assert_eq!(report["finding_count"], 0, "{report:#}");
    assert_eq!(report["sealed_sessions"], 1, "{report:#}");
    let beside = [source, &["--collector", stage.agent.collector()]].concat();
    let beside = Cli::new(&beside, environment);
    wait_for("what the collector knows", SOON, || {
        let report = beside.json(&["verify", "all"])?;
        assert_eq!(report["finding_count"], 0, "{report:#}");
        let known = ["receipts", "registered_keys", "known_heads"];
        Ok(known.iter().all(|what| report[what] != 0).then_some(()))
    })?;
    let archive = stage.scene.path("session.tar.zst");
    beside.text(&["bundle", id, "--out", &archive.to_string_lossy()])?;
    let unpacked = stage.scene.path("unpacked");
    std::fs::create_dir(&unpacked)?;
    let mut tar = Command::new("tar");
    tar.args(["--zstd", "-xf"]).arg(&archive);
    output(tar.arg("-C").arg(&unpacked))?;
    let folder = unpacked.join(format!("auditty-{id}"));
    let said = output(Command::new("sh").arg(folder.join("verify.sh")))?;
    assert!(said.contains("VERIFIED: 1 recordings"), "{said}");
    Ok(())
}

#[test]
fn a_bucket_under_a_key_that_may_only_put() -> Result<()> {
    let scene = Scene::new()?;
    let s3 = S3::start(&scene)?;
    s3.writer_may_only_put()?;
    let setting = Setting {
        store: s3.store(),
        environment: s3.writer.environment(),
        ..Setting::default()
    };
    let stage = Stage::with(scene, &setting)?;
    let shown = login(&stage)?;

    let copy = stage.scene.path("copy");
    wait_for("the manifest in the bucket", SOON, || {
        s3.download(&copy)?;
        let files = auditty_tests::scene::files_below(&copy)?;
        Ok(files
            .iter()
            .any(|file| file.ends_with("manifest.json"))
            .then_some(()))
    })?;
    let store = Store::new(copy.join(PREFIX));
    let recording = store.only(stage.sshd.port)?;
    assert_readable_with_stock_tools(&recording, &shown)?;

    let mut environment = s3.reader.environment();
    environment.extend([
        ("AUDITTY_S3_ENDPOINT_URL".to_owned(), s3.endpoint.clone()),
        ("AUDITTY_S3_PATH_STYLE".to_owned(), "true".to_owned()),
    ]);
    let url = format!("s3://{BUCKET}/{PREFIX}");
    let alone = Cli::new(&["--store", &url], &environment);
    let id = recording.session_id();
    assert!(alone.text(&["show", &id])?.contains(&stage.user.name));
    assert_plays(&alone, &id, &stage.scene.path(""), &shown)?;
    assert_verifies(&stage, &alone, &id, &["--store", &url], &environment)?;
    let spool = stage.agent.folder().join("spool");
    wait_for("the end of the local copy", SOON, || {
        let files = auditty_tests::scene::files_below(&spool)?;
        let left = files
            .iter()
            .any(|file| file.to_string_lossy().contains(".jsonl.zst"));
        Ok((!left).then_some(()))
    })?;
    stage.end()
}
