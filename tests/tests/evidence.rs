//! What a real agent leaves is signed, and stock tools prove it (T47, T48).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use auditty_tests::{
    SOON, Scene, Stage,
    agent::Setting,
    cli::Cli,
    scene::{files_below, output},
    store::Recording,
    wait_for,
};

/// An agent that changes its key every two seconds.
fn stage() -> Result<Stage> {
    let setting = Setting {
        recording: "digest_interval = \"1s\"\nkey_lifetime = \"2s\"".to_owned(),
        ..Setting::default()
    };
    Stage::with(Scene::new()?, &setting)
}

/// Entries of the key log in the store.
fn keys(store: &Path) -> Result<Vec<PathBuf>> {
    let mut files = files_below(store)?;
    files.retain(|path| {
        let path = path.to_string_lossy();
        path.contains("/keys/log=") && path.ends_with(".json")
    });
    Ok(files)
}

/// The script of the bundle, with nothing but stock tools.
fn script(script: &Path, arguments: &[&Path]) -> Result<(bool, String)> {
    let Output { status, stdout, .. } = Command::new("sh").arg(script).args(arguments).output()?;
    Ok((
        status.success(),
        String::from_utf8_lossy(&stdout).into_owned(),
    ))
}

#[test]
fn stock_tools_prove_what_an_agent_recorded_and_notice_tampering() -> Result<()> {
    let mut stage = stage()?;
    let store = stage.agent.store().folder().to_owned();
    stage.run("echo first")?;
    let before = stage.scene.path("before");
    stage.recordings(1)?;
    output(Command::new("cp").arg("-a").arg(&store).arg(&before))?;
    let log = keys(&store)?.len();
    wait_for("two changes of the key", SOON, || {
        Ok((keys(&store)?.len() >= log + 2).then_some(()))
    })?;
    stage.run("echo second")?;
    let recordings = stage.recordings(2)?;
    let receipts = compared_with_the_collector(&stage, &recordings, &before)?;
    let stopped = stage.agent.stop()?;
    ensure!(stopped.success(), "the agent ended with {stopped}");

    // One private key, for root only.
    let private: Vec<_> = fs::read_dir(stage.agent.folder().join("state/keys"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    let private: Vec<_> = private
        .iter()
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "key"))
        .collect();
    let [key] = private.as_slice() else {
        anyhow::bail!("private keys: {private:?}")
    };
    assert_eq!(fs::metadata(key)?.permissions().mode() & 0o777, 0o600);

    let place = store.to_string_lossy().into_owned();
    let cli = Cli::new(&["--store", &place], &[]);
    let report = cli.json(&["verify", "all"])?;
    assert_eq!(report["finding_count"], 0, "{report:#}");
    assert_eq!(report["sealed_sessions"], 2);
    let signers = stage.scene.path("allowed_signers");
    fs::write(&signers, cli.text(&["keys", "export"])?)?;
    let given = ["verify", "all", "--keys", &signers.to_string_lossy()];
    assert_eq!(cli.json(&given)?["keys_given"], true);

    // A bundle proves itself.
    let (id, archive) = (recordings[0].session_id(), stage.scene.path("one.tar.zst"));
    cli.text(&["bundle", &id, "-o", &archive.to_string_lossy()])?;
    let unpacked = stage.scene.path("unpacked");
    fs::create_dir(&unpacked)?;
    unpack(&archive, &unpacked)?;
    let bundle = unpacked.join(format!("auditty-{id}"));
    output(
        Command::new("sha256sum")
            .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
            .current_dir(&bundle),
    )?;
    let verify = bundle.join("verify.sh");
    // What the collector saw is another matter for the script than the store.
    let (good, said) = script(&receipts.join("verify.sh"), &[])?;
    assert!(good && said.contains("1 receipts"), "{said}");
    let wrong = receipts.join("receipts/000000.json.sig");
    fs::write(&wrong, fs::read_to_string(&wrong)?.replace('A', "B"))?;
    let (good, said) = script(&receipts.join("verify.sh"), &[])?;
    assert!(!good && said.contains("receipts/000000.json"), "{said}");
    let (good, said) = script(&verify, &[])?;
    assert!(good && said.contains("VERIFIED: 1 recordings"), "{said}");
    let (good, said) = script(&verify, &[&bundle, &signers])?;
    assert!(good, "{said}");

    // The whole store as well, and what is changed in it is named.
    let whole = [Path::new("-a"), &store, &signers];
    let (good, said) = script(&verify, &whole)?;
    assert!(good && said.contains("VERIFIED: 2 recordings"), "{said}");
    let chunk = recordings[0].folder.join("000000.jsonl.zst");
    let content = fs::read(&chunk)?;
    let mut flipped = content.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    fs::write(&chunk, &flipped)?;
    assert_noticed(&cli, &verify, &whole, "000000.jsonl.zst")?;
    fs::write(&chunk, &content)?;
    let away = stage.scene.path("away");
    output(Command::new("mv").arg(&recordings[1].folder).arg(&away))?;
    assert_noticed(&cli, &verify, &whole, &recordings[1].session_id())?;
    output(Command::new("mv").arg(&away).arg(&recordings[1].folder))?;

    // Sealed again with the key that is left on the host.
    seal_again(&recordings[0].folder, key)?;
    assert_noticed(&cli, &verify, &whole, "manifest.json")?;
    Ok(())
}

/// With the collector's receipts the store is good, and an older copy of it is
/// not. A bundle with receipts, unpacked.
fn compared_with_the_collector(
    stage: &Stage,
    recordings: &[Recording],
    older: &Path,
) -> Result<PathBuf> {
    let id = recordings[1].session_id();
    let collector = stage.agent.cli_after(&id)?;
    wait_for("the receipt of the second session", SOON, || {
        let report = collector.json(&["verify", "--session", &id])?;
        Ok((report["receipts"] == 1).then_some(()))
    })?;
    let key = stage.scene.path("collector_signers");
    fs::write(&key, collector.text(&["keys", "collector"])?)?;
    let key = key.to_string_lossy();
    let place = stage.agent.store().folder().to_string_lossy().into_owned();
    let whole = ["verify", "all", "--collector-key", &key, "--store"];
    let report = collector.json(&[&whole[..], &[&place]].concat())?;
    assert_eq!(report["receipts"], 2, "{report:#}");
    assert_eq!(report["finding_count"], 0, "{report:#}");
    assert!(report["registered_keys"].as_u64() >= Some(3), "{report:#}");
    assert_eq!(report["known_heads"], 1, "{report:#}");
    let keys = collector.text(&["keys", "list"])?;
    assert!(
        keys.contains(" first ") && !keys.contains("uncertified"),
        "{keys}"
    );
    let trusted = stage.scene.path("registered_signers");
    fs::write(&trusted, collector.text(&["keys", "export"])?)?;
    let trusted = trusted.to_string_lossy();
    let offline = ["verify", "--session", &id, "--keys", &trusted];
    let report = collector.json(&[&offline[..], &["--store", &place]].concat())?;
    assert_eq!(report["finding_count"], 0, "{report:#}");
    let older = older.to_string_lossy();
    let said = collector.run(&[&whole[..], &[&older]].concat())?;
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains(&id) && said.contains("receipt"), "{said}");
    assert!(said.contains("the digest was seen before"), "{said}");

    let archive = stage.scene.path("receipts.tar.zst");
    collector.text(&["bundle", &id, "-o", &archive.to_string_lossy()])?;
    let unpacked = stage.scene.path("with-receipts");
    fs::create_dir(&unpacked)?;
    unpack(&archive, &unpacked)?;
    Ok(unpacked.join(format!("auditty-{id}")))
}

fn unpack(archive: &Path, to: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--zstd", "-xf"]).arg(archive).arg("-C").arg(to);
    output(&mut tar)?;
    Ok(())
}

/// Both the CLI and the script end with 1 and name it.
fn assert_noticed(cli: &Cli, verify: &Path, whole: &[&Path], object: &str) -> Result<()> {
    let output = cli.run(&["verify", "all"])?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(object), "{object}: {said}");
    let (good, said) = script(verify, whole)?;
    assert!(!good && said.contains(object), "{object}: {said}");
    Ok(())
}

/// What a thief of the key can do with stock tools: another user in the
/// manifest, the sums anew, and a good signature.
fn seal_again(folder: &Path, key: &Path) -> Result<()> {
    let edit = "set -e; cd \"$1\"; jq '.session.login.user = \"mallory\"' manifest.json > m; \
                mv -f m manifest.json; rm manifest.json.sig; \
                ssh-keygen -q -Y sign -f \"$2\" -n auditty-manifest@v1 manifest.json; \
                sha256sum *.jsonl.zst manifest.json > SHA256SUMS";
    let mut command = Command::new("sh");
    command.args(["-c", edit, "seal"]).arg(folder).arg(key);
    output(&mut command).context("sealing again")?;
    Ok(())
}
