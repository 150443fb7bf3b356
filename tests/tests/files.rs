//! What programs of a session do to files.

use std::fs;

use anyhow::{Context as _, Result};
use auditty_tests::{Stage, agent::Setting, scene::Scene, store::Recording};
use serde_json::Value;

/// The file event with this operation and path.
fn file<'a>(recording: &'a Recording, operation: &str, path: &str) -> Result<&'a Value> {
    let all = recording.of("file");
    let mut of_path = all.iter().filter(|event| event["path"] == path);
    let found = of_path.find(|event| event["operation"] == operation);
    found.copied().with_context(|| {
        let lines: Vec<_> = all
            .iter()
            .map(|event| format!("{} {}", event["operation"], event["path"]))
            .collect();
        format!("no {operation} of {path} among {lines:#?}")
    })
}

#[test]
fn every_operation_with_its_path() -> Result<()> {
    let stage = Stage::new()?;
    let remote = "umask 022; echo new > created; echo more >> created; mv created moved; \
                  chmod 600 moved; chgrp $(id -g) moved; ln moved second; ln -s moved pointer; \
                  truncate -s 1 moved; mkdir folder; (cd folder; echo x > ../folder/inside); \
                  rm folder/inside; rmdir folder; rm second pointer moved; /bin/echo finished";
    assert!(stage.run(remote)?.status.success());
    let recording = stage.recording()?;
    recording.assert_complete()?;
    let home = stage.user.home.display().to_string();
    let at = |name: &str| format!("{home}/{name}");
    let shell = recording.of("exec")[0]["pid"].clone();

    let created = file(&recording, "create", &at("created"))?;
    assert_eq!(created["pid"], shell);
    assert_eq!(created["mode"], 0o644);
    file(&recording, "open_write", &at("created"))?;
    assert_eq!(
        file(&recording, "rename", &at("created"))?["target"],
        at("moved")
    );
    assert_eq!(file(&recording, "chmod", &at("moved"))?["mode"], 0o600);
    let chown = file(&recording, "chown", &at("moved"))?;
    assert!(chown["uid"].is_null() && chown["gid"].is_u64(), "{chown}");
    assert_eq!(
        file(&recording, "link", &at("moved"))?["target"],
        at("second")
    );
    let symlink = file(&recording, "symlink", &at("pointer"))?;
    assert_eq!(symlink["target"], "moved");
    file(&recording, "truncate", &at("moved"))?;
    file(&recording, "mkdir", &at("folder"))?;
    file(&recording, "create", &at("folder/inside"))?;
    file(&recording, "delete", &at("folder/inside"))?;
    file(&recording, "rmdir", &at("folder"))?;
    for name in ["second", "pointer", "moved"] {
        file(&recording, "delete", &at(name))?;
    }
    for event in recording.of("file") {
        assert!(event["errno"].is_null(), "{event}");
    }
    let count = recording.of("file").len();
    assert_eq!(recording.session()["counts"]["files"], count);
    stage.end()
}

#[test]
fn operations_that_fail() -> Result<()> {
    const EACCES: u64 = 13;
    let stage = Stage::new()?;
    let remote = "rm -f /etc/hostname; chmod 777 /etc/hostname; echo x > /etc/hostname; \
                  mv /etc/hostname ~/stolen; mkdir /etc/folder; true";
    assert!(stage.run(remote)?.status.success());
    let recording = stage.recording()?;
    recording.assert_complete()?;
    for operation in ["delete", "open_write", "rename"] {
        let event = file(&recording, operation, "/etc/hostname")?;
        assert_eq!(event["errno"], EACCES, "{event}");
    }
    assert_eq!(file(&recording, "chmod", "/etc/hostname")?["errno"], 1);
    assert_eq!(file(&recording, "mkdir", "/etc/folder")?["errno"], EACCES);
    stage.end()
}

#[test]
fn reads_of_sensitive_files() -> Result<()> {
    let scene = Scene::new()?;
    let secret = scene.write("vault/secret", "content\n")?;
    let plain = scene.write("plain", "content\n")?;
    let setting = Setting {
        extra: format!(
            "[capture]\nsensitive_paths = [\"{}\", \"/etc/shadow\"]\n",
            scene.path("vault").display()
        ),
        ..Setting::default()
    };
    let stage = Stage::with(scene, &setting)?;
    let remote = format!(
        "cat {} {} /etc/shadow; ln -s {} innocent; cat innocent; true",
        secret.display(),
        plain.display(),
        secret.display()
    );
    assert!(stage.run(&remote)?.status.success());
    let recording = stage.recording()?;
    recording.assert_complete()?;
    let reads: Vec<_> = recording
        .of("file")
        .iter()
        .filter(|event| event["operation"] == "open_read")
        .map(|event| (event["path"].clone(), event["errno"].as_u64()))
        .collect();
    let secret = secret.display().to_string();
    // By a link too: the path is the one that the kernel found.
    assert_eq!(
        reads,
        [
            (secret.as_str().into(), None),
            ("/etc/shadow".into(), Some(13)),
            (secret.as_str().into(), None),
        ]
    );
    stage.end()
}

#[test]
fn more_changes_than_one_would_list() -> Result<()> {
    const FILES: u64 = 3000;
    let stage = Stage::new()?;
    let remote = format!(
        "mkdir many; cd many; python3 -c 'for n in range({FILES}): open(str(n), \"w\").close()'; \
         cd; rm -r many"
    );
    assert!(stage.run(&remote)?.status.success());
    assert!(fs::metadata(stage.user.home.join("many")).is_err());
    let recording = stage.recording()?;
    recording.assert_sound()?;
    let count = |operation: &str| {
        let all = recording.of("file").into_iter();
        let below = all.filter(|event| {
            event["operation"] == operation
                && event["path"]
                    .as_str()
                    .is_some_and(|path| path.contains("/many/"))
        });
        below.count() as u64
    };
    let gaps = recording.of("gap").into_iter();
    let lost: u64 = gaps
        .filter(|gap| gap["class"] == "file")
        .filter_map(|gap| gap["events"].as_u64())
        .sum();
    assert_eq!(count("create") + count("delete") + lost, 2 * FILES);
    stage.end()
}
