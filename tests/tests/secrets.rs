//! What is typed while it is hidden is nowhere; what is typed at a shell is,
//! unless only auditors may read it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use auditty_tests::{
    SOON, Scene, Stage,
    agent::{Agent, Setting},
    cli::Cli,
    client::{Auth, Client, PROMPT, wait_for_hidden_input},
    scene::{files_below, output},
    traces::Traces,
    wait_for,
};

const READ: &str = "Tq7-read-secret-Zx";

#[test]
fn a_hidden_password_is_in_no_file() -> Result<()> {
    let stage = Stage::new()?;
    stage.user.may_sudo(&stage.scene)?;
    let password = stage.user.password.clone();
    let login = Client::new(&stage.sshd, &stage.user, Auth::Password(password.clone()));
    let mut typist = login.shell()?;
    typist.ready()?;
    let terminal = typist.remote_terminal()?;
    typist.command("echo typed-at-the-shell")?;
    typist.line("read -s -p 'Secret: ' secret")?;
    wait_for_hidden_input(&terminal)?;
    typist.line(READ)?;
    typist.expect(PROMPT)?;
    typist.line("sudo /bin/true")?;
    wait_for_hidden_input(&terminal)?;
    typist.line(&password)?;
    typist.expect(PROMPT)?;

    let traces = Traces::of(&stage.agent);
    for secret in [READ, &password] {
        assert_eq!(traces.find(secret)?, [""; 0], "while the session is open");
    }
    typist.line("exit")?;
    typist.finish(SOON)?;
    let recording = stage.recording()?;
    recording.assert_complete()?;
    for secret in [READ, &password] {
        assert_eq!(traces.find(secret)?, [""; 0], "after the session");
    }

    // The search finds what is there, and the shell's lines are.
    assert!(!traces.find("typed-at-the-shell")?.is_empty());
    let typed = recording.typed()?;
    assert!(typed.contains("echo typed-at-the-shell\r"), "{typed}");
    let hidden: u64 = recording
        .of("input")
        .iter()
        .filter_map(|e| e["masked_bytes"].as_u64())
        .sum();
    let least = READ.len() + password.len();
    assert!(
        (least as u64..=least as u64 + 2).contains(&hidden),
        "{hidden} bytes masked"
    );
    assert_eq!(recording.session()["counts"]["masked_bytes"], hidden);
    stage.end()
}

/// Typed, shown, an argument, and part of the command that was asked for.
const CANARY: &str = "Kq4-canary-Wv";

/// A collector that is told no content has none, in any file; it says what it could
/// not search, and the recordings can be searched without it.
#[test]
fn what_is_kept_out_of_reports_stands_in_the_recording_alone() -> Result<()> {
    let setting = Setting {
        reports: "report_content = false".into(),
        ..Setting::default()
    };
    let stage = Stage::with(Scene::new()?, &setting)?;
    stage.run(&format!(
        "/bin/echo {CANARY} && touch /tmp/{CANARY} && rm /tmp/{CANARY}"
    ))?;
    let recording = stage.recording()?;
    recording.assert_complete()?;
    let id = recording.session()["session_id"]
        .as_str()
        .context("its id")?
        .to_owned();
    let cli = stage.agent.cli_after(&id)?;
    let commands = wait_for("the commands", SOON, || {
        let json = cli.json(&["commands", &id])?;
        let commands = json["commands"].as_array().cloned().unwrap_or_default();
        Ok((commands.len() >= 3).then_some(commands))
    })?;
    for command in &commands {
        assert_eq!(command["contentWithheld"], true, "{command}");
    }
    let held = Traces::on_disk(&stage.agent, CANARY)?;
    ensure!(held.iter().any(|file| file.contains("/store/")), "{held:?}");
    ensure!(
        !held.iter().any(|file| file.contains("/collector.db")),
        "{held:?}"
    );

    let answer = cli.run(&["search", CANARY])?;
    let said = String::from_utf8_lossy(&answer.stderr);
    ensure!(said.contains("commands could not be searched"), "{said}");
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "no commands\n");
    let store = stage.agent.store().folder().to_string_lossy().into_owned();
    let found = Cli::new(&["--store", &store], &[]).text(&["search", CANARY])?;
    ensure!(
        found.contains("/bin/echo") && found.contains("touch"),
        "{found}"
    );
    stage.end()
}

/// Everything that stock `age` and `zstd` make of the chunks with this suffix.
fn decrypted(folder: &Path, key: &Path, suffix: &str) -> Result<String> {
    let line = format!(
        "for chunk in *{suffix}; do age -d -i '{}' \"$chunk\" || exit 1; done | zstd -dcq",
        key.display()
    );
    output(Command::new("sh").args(["-c", &line]).current_dir(folder))
}

/// An agent that encrypts to a key of age, and the input to one of OpenSSH; its
/// death in the middle of a session costs nothing, although nobody can read there
/// what it had written.
#[test]
fn an_encrypted_recording_is_readable_for_its_recipients_alone() -> Result<()> {
    let scene = Scene::new()?;
    let (all, input) = (scene.path("all.key"), scene.path("input.key"));
    output(Command::new("age-keygen").arg("-o").arg(&all))?;
    let mut keygen = Command::new("ssh-keygen");
    output(keygen.args(["-qt", "ed25519", "-N", "", "-f"]).arg(&input))?;
    let age = output(Command::new("age-keygen").arg("-y").arg(&all))?;
    let ssh = fs::read_to_string(input.with_extension("key.pub"))?;
    let (age, ssh) = (age.trim(), ssh.trim());
    let setting = Setting {
        extra: format!(
            "[encryption]\nrecipients = [\"{age}\", \"{ssh}\"]\ninput_recipients = [\"{ssh}\"]"
        ),
        ..Setting::default()
    };
    let mut stage = Stage::with(scene, &setting)?;
    let checked = output(auditty_tests::agent::command(stage.agent.folder(), &[]).arg("check"))?;
    ensure!(
        checked.contains(age) && checked.contains("ssh-ed25519 SHA256:"),
        "{checked}"
    );

    let mut typist = stage.client().shell()?;
    typist.ready()?;
    typist.command(&format!("/bin/echo {CANARY}"))?;
    typist.command(&format!("touch /tmp/{CANARY} && rm /tmp/{CANARY}"))?;
    let on_disk = |agent: &Agent| Traces::on_disk(agent, CANARY);
    assert_eq!(on_disk(&stage.agent)?, [""; 0], "while the session is open");
    stage.agent.process.kill()?;
    typist.command(&format!("/bin/echo {CANARY}"))?;
    assert_eq!(on_disk(&stage.agent)?, [""; 0], "after the agent's death");
    stage.agent = Agent::start_again(&stage.scene, &setting)?;
    typist.command(&format!("/bin/echo {CANARY}"))?;
    typist.line("exit")?;
    typist.finish(SOON)?;
    stage.run(&format!("/bin/echo {CANARY}"))?;
    let store = stage.agent.store().folder().to_owned();
    let folders = wait_for("two finished recordings", SOON, || {
        let files = files_below(&store)?.into_iter();
        let sums = files.filter(|file| file.ends_with("SHA256SUMS"));
        let folders = sums.filter_map(|file| file.parent().map(Path::to_path_buf));
        let mut folders: Vec<_> = folders.collect();
        folders.retain(|folder| folder.join("manifest.json").exists());
        folders.sort();
        Ok((folders.len() == 2).then_some(folders))
    })?;
    let [shell, exec] = folders.as_slice() else {
        anyhow::bail!("{folders:?}");
    };
    let status = stage.agent.stop()?;
    ensure!(status.success(), "the agent ended with {status}");
    assert_eq!(on_disk(&stage.agent)?, [""; 0], "after the sessions");

    // Stock tools read it, each key its part.
    let read = decrypted(shell, &all, "[0-9].jsonl.zst.age")?;
    let events: Vec<serde_json::Value> = read
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let argv = |event: &&serde_json::Value| event["argv"][1] == CANARY;
    assert_eq!(events.iter().filter(argv).count(), 3);
    let seqs: Vec<_> = events
        .iter()
        .filter_map(|event| event["seq"].as_u64())
        .collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    ensure!(
        !events
            .iter()
            .any(|event| event["kind"] == "input" && event["text"] != serde_json::Value::Null)
    );
    ensure!(
        events
            .iter()
            .any(|event| event["encrypted_bytes"].as_u64() > Some(0))
    );
    let typed = decrypted(shell, &input, ".input.jsonl.zst.age")?;
    let echoes = |lines: &str| {
        let events = lines.lines().map(serde_json::from_str::<serde_json::Value>);
        let input = events.flatten().filter(|event| event["kind"] == "input");
        let typed: String = input
            .filter_map(|event| Some(event["text"].as_str()?.to_owned()))
            .collect();
        typed.matches(&format!("echo {CANARY}")).count()
    };
    assert_eq!(echoes(&typed), 3, "{typed}");
    ensure!(decrypted(shell, &all, ".input.jsonl.zst.age").is_err());
    ensure!(decrypted(exec, &input, "[0-9].jsonl.zst.age")?.contains(CANARY));
    let manifest = fs::read(shell.join("manifest.json"))?;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest)?;
    assert_eq!(manifest["session"]["verdict"], "complete", "{manifest:#}");
    assert_eq!(manifest["encryption"][0]["recipients"][0], age);

    // So does the CLI, and it says what takes a key.
    let place = store.to_string_lossy().into_owned();
    let cli = |key: Option<&Path>| {
        let key = key.map(|key| key.to_string_lossy().into_owned());
        let mut source = vec!["--store", &place];
        source.extend(key.iter().flat_map(|key| ["--identity", key]));
        Cli::new(&source, &[])
    };
    let id = shell.to_string_lossy();
    let id = id.rsplit("session=").next().context("the session's id")?;
    let shown = cli(None).text(&["show", id])?;
    ensure!(
        shown.contains("encrypted to") && shown.contains(age),
        "{shown}"
    );
    let refused = cli(None).run(&["commands", id])?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        !refused.status.success() && said.contains("--identity"),
        "{said}"
    );
    ensure!(cli(Some(&all)).text(&["commands", id])?.contains(CANARY));
    ensure!(cli(Some(&all)).text(&["replay", id])?.contains(CANARY));
    let export = |key: &Path| cli(Some(key)).text(&["export", id, "--format", "jsonl"]);
    assert_eq!((echoes(&export(&all)?), echoes(&export(&input)?)), (0, 3));
    for key in [None, Some(all.as_path()), Some(&input)] {
        let report = cli(key).json(&["verify", "all"])?;
        assert_eq!(report["finding_count"], 0, "{report:#}");
        let whole = report["opened_chunks"] == report["encrypted_chunks"];
        assert_eq!(whole, key == Some(&input), "{report:#}");
    }
    let chunk = shell.join("000000.jsonl.zst.age");
    let mut content = fs::read(&chunk)?;
    *content.last_mut().context("a byte")? ^= 1;
    fs::write(&chunk, content)?;
    let changed = cli(None).run(&["verify", "all"])?;
    let said = String::from_utf8_lossy(&changed.stdout);
    ensure!(said.contains("000000.jsonl.zst.age"), "{said}");
    Ok(())
}
