//! Files that went over the connection: which way, which file, how large. Their
//! content is not stored, and their transfer floods nothing.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use auditty_tests::{
    Stage,
    client::{Auth, Client},
    scene::{files_below, output},
    sshd::Sshd,
    store::Recording,
};

const SIZE: u64 = 3_000_000;

/// A file of the client's that compresses to nothing smaller.
fn noise(stage: &Stage, name: &str, size: u64) -> Result<PathBuf> {
    let path = stage.scene.path(name);
    let make = format!("head -c {size} /dev/urandom > {}", path.display());
    output(Command::new("sh").args(["-c", &make]))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640))?;
    Ok(path)
}

/// One transfer of this file, with this much, and nothing of its content.
fn assert_transfer(
    recording: &Recording,
    (protocol, direction): (&str, &str),
    path: &Path,
    size: u64,
) -> Result<()> {
    recording.assert_complete()?;
    let all = recording.of("transfer");
    let path = path.to_string_lossy();
    let mut same = all.iter().filter(|event| event["path"] == path.as_ref());
    let event = same
        .next()
        .with_context(|| format!("no transfer of {path} among {all:?}"))?;
    assert!(same.next().is_none(), "two of them: {all:?}");
    assert_eq!(event["protocol"], protocol);
    assert_eq!(event["direction"], direction);
    assert_eq!(event["bytes"], size, "{event}");
    assert!(event["errno"].is_null());
    let counts = &recording.session()["counts"];
    assert!(counts["omitted_bytes"].as_u64() >= Some(size), "{counts}");
    let stored: u64 = files_below(&recording.folder)?
        .iter()
        .map(|file| fs::metadata(file).map(|file| file.len()))
        .sum::<Result<_, _>>()?;
    assert!(stored < 200_000, "{stored} bytes are stored");
    Ok(())
}

/// Uploads and downloads with `scp` and these options.
fn scp_both_ways(stage: &Stage, client: &Client, options: &[&str], size: u64) -> Result<()> {
    let local = noise(stage, "local", size)?;
    let remote = format!("{}:uploaded", client.destination());
    let scp = |from: &dyn AsRef<std::ffi::OsStr>, to: &dyn AsRef<std::ffi::OsStr>| {
        output(client.program("scp").args(options).arg(from).arg(to))
    };
    scp(&local, &remote)?;
    let back = stage.scene.path("back");
    scp(&remote, &back)?;
    assert!(fs::read(&local)? == fs::read(&back)?);
    Ok(())
}

#[test]
fn scp_of_fifty_megabytes_by_sftp() -> Result<()> {
    const LARGE: u64 = 50_000_000;
    let stage = Stage::new()?;
    scp_both_ways(&stage, &stage.client(), &["-s"], LARGE)?;
    let path = stage.user.home.join("uploaded");
    let recordings = stage.recordings(2)?;
    for (recording, direction) in recordings.iter().zip(["upload", "download"]) {
        assert_eq!(recording.session()["session_kind"], "subsystem");
        assert_transfer(recording, ("sftp", direction), &path, LARGE)?;
    }
    stage.end()
}

#[test]
fn scp_of_fifty_megabytes_by_its_old_protocol() -> Result<()> {
    const LARGE: u64 = 50_000_000;
    let stage = Stage::new()?;
    scp_both_ways(&stage, &stage.client(), &["-O"], LARGE)?;
    let path = stage.user.home.join("uploaded");
    let recordings = stage.recordings(2)?;
    for (recording, direction) in recordings.iter().zip(["upload", "download"]) {
        assert_eq!(recording.session()["session_kind"], "exec");
        assert_transfer(recording, ("scp", direction), &path, LARGE)?;
    }
    let uploaded = recordings[0].of("transfer");
    assert_eq!(
        uploaded[0]["mode"].as_u64().map(|mode| mode & 0o700),
        Some(0o600)
    );
    stage.end()
}

#[test]
fn sftp_with_a_server_of_its_own() -> Result<()> {
    let stage = Stage::new()?;
    let server = Sshd::start(
        &stage.scene,
        "Subsystem auditty-sftp /usr/lib/openssh/sftp-server",
    )?;
    let key = server.authorize(&stage.user)?;
    let client = Client::new(&server, &stage.user, Auth::Key(key));
    let local = noise(&stage, "local", SIZE)?;
    let batch = format!(
        "put {} uploaded\nget uploaded {}.back\nrm uploaded\nget /no/such/file\n",
        local.display(),
        local.display()
    );
    let batch = stage.scene.write("batch", batch)?;
    let mut sftp = client.program("sftp");
    sftp.args(["-s", "auditty-sftp", "-b"]).arg(batch);
    // The last request fails, and with it the batch.
    assert!(!sftp.arg(client.destination()).output()?.status.success());

    let recording = stage.agent.store().only(server.port)?;
    let path = stage.user.home.join("uploaded");
    let ways: Vec<_> = recording
        .of("transfer")
        .iter()
        .filter(|event| event["path"] == path.to_string_lossy().as_ref())
        .map(|event| (event["direction"].clone(), event["bytes"].clone()))
        .collect();
    assert_eq!(
        ways,
        [
            ("upload".into(), SIZE.into()),
            ("download".into(), SIZE.into())
        ]
    );
    let deleted = recording
        .of("file")
        .into_iter()
        .find(|event| event["operation"] == "delete");
    assert_eq!(
        deleted.context("a delete")?["path"],
        path.to_string_lossy().as_ref()
    );
    stage.end()
}

#[test]
fn rsync_both_ways() -> Result<()> {
    let stage = Stage::new()?;
    let client = stage.client();
    let folder = stage.scene.path("folder");
    fs::create_dir_all(&folder)?;
    noise(&stage, "folder/one", SIZE)?;
    noise(&stage, "folder/two", 1_000)?;
    let rsync = |from: &str, to: &str| {
        let mut rsync = Command::new("rsync");
        output(rsync.args(["-a", "--inplace", "-e", &client.ssh_line(), from, to]))
    };
    let local = folder.display().to_string();
    rsync(&local, &format!("{}:", client.destination()))?;
    rsync(
        &format!("{}:folder/", client.destination()),
        &format!("{local}-back"),
    )?;

    let recordings = stage.recordings(2)?;
    for (recording, direction) in recordings.iter().zip(["upload", "download"]) {
        assert_eq!(recording.session()["session_kind"], "exec");
        for (name, size) in [("one", SIZE), ("two", 1_000)] {
            let path = stage.user.home.join("folder").join(name);
            assert_transfer(recording, ("rsync", direction), &path, size)?;
        }
    }
    stage.end()
}

#[test]
fn git_both_ways() -> Result<()> {
    let stage = Stage::new()?;
    let client = stage.client();
    let work = stage.scene.path("work");
    // What the client sends and receives is kept beside.
    let ssh = stage.scene.path("ssh");
    let kept = stage.scene.path("kept");
    fs::create_dir_all(&kept)?;
    let script = format!(
        "#!/bin/bash\ncd {} && tee $$.upload | {} \"$@\" | tee $$.download\n",
        kept.display(),
        client.ssh_line()
    );
    fs::write(&ssh, script)?;
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755))?;
    let git = |folder: &Path, arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=x", "-c", "user.email=x@example.com"]);
        git.env("GIT_SSH", &ssh);
        output(git.arg("-C").arg(folder).args(arguments))
    };
    assert!(
        stage
            .run("git init -q --bare project.git")?
            .status
            .success()
    );
    fs::create_dir_all(&work)?;
    git(&work, &["init", "-q"])?;
    noise(&stage, "work/large", SIZE)?;
    git(&work, &["add", "."])?;
    git(&work, &["commit", "-q", "-m", "one"])?;
    let remote = format!("{}:project.git", client.destination());
    git(&work, &["push", "-q", &remote, "HEAD:main"])?;
    let back = stage.scene.path("back");
    git(
        &work,
        &[
            "clone",
            "-q",
            "-b",
            "main",
            &remote,
            &back.display().to_string(),
        ],
    )?;

    let recordings = stage.recordings(3)?;
    let path = stage.user.home.join("project.git");
    for (recording, direction) in recordings[1..].iter().zip(["upload", "download"]) {
        recording.assert_complete()?;
        let [event] = recording.of("transfer")[..] else {
            anyhow::bail!("not one transfer: {:?}", recording.of("transfer"));
        };
        assert_eq!(
            (&event["protocol"], &event["direction"]),
            (&"git".into(), &direction.into())
        );
        assert_eq!(event["path"], path.to_string_lossy().as_ref());
        let mut moved = Vec::new();
        for file in files_below(&kept)? {
            if file.extension().is_some_and(|way| way == direction) {
                moved.push(fs::metadata(file)?.len());
            }
        }
        assert!(moved.iter().any(|bytes| *bytes > SIZE));
        assert!(
            moved
                .iter()
                .any(|bytes| event["bytes"].as_u64() == Some(*bytes)),
            "{event}, but {moved:?} bytes went over the connection"
        );
        let counts = &recording.session()["counts"];
        assert!(counts["omitted_bytes"].as_u64() > Some(SIZE), "{counts}");
    }
    stage.end()
}
