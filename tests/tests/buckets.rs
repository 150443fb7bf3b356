//! A bucket as a customer has it: locked, encrypted, under a key that may only
//! put.

use std::{fs, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result};
use auditty_tests::{
    SOON, Scene,
    agent::{Agent, Setting, command, configure},
    client::{Auth, Client},
    s3::{BUCKET, S3},
    scene::{files_below, output},
    sshd::Sshd,
    user::TestUser,
    wait_for,
};
use serde_json::Value;

const KMS_KEY: &str = "arn:aws:kms:us-east-1:000000000000:key/customer";

/// Sessions of which the content's way is measured, and how far apart they
/// begin.
const SESSIONS: u32 = 4;
const APART: Duration = Duration::from_millis(1500);

#[test]
fn content_is_locked_in_the_bucket_within_ten_seconds() -> Result<()> {
    let scene = Scene::new()?;
    let s3 = S3::start(&scene)?;
    let setting = Setting {
        store: format!(
            "{}\nsse = \"aws:kms\"\nkms_key_id = \"{KMS_KEY}\"",
            s3.store()
        ),
        environment: s3.writer.environment(),
        ..Setting::default()
    };
    let folder = scene.path("agent");
    configure(&folder, &setting)?;
    // The interval of a chunk is the one that everybody has.
    let config = fs::read_to_string(folder.join("agent.toml"))?;
    let config = config.replace("chunk_interval = \"1s\"\n", "");
    fs::write(folder.join("agent.toml"), config)?;
    let sshd = Sshd::start(&scene, "")?;
    let user = TestUser::create(&scene)?;
    let key = sshd.authorize(&user)?;
    let mut agent = Agent::start_again(&scene, &setting)?;
    agent
        .process
        .wait_for_log("the store can be written", SOON)?;

    let arrivals = s3.arrivals()?;
    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        let client = Client::new(&sshd, &user, Auth::Key(key.clone()));
        clients.push(thread::spawn(move || {
            client.run("for i in $(seq 40); do echo $i; sleep 0.3; done", b"")
        }));
        thread::sleep(APART);
    }
    for client in clients {
        let done = client.join().ok().context("a client died")??;
        assert!(done.status.success());
    }
    let copy = scene.path("copy");
    wait_for("the manifests in the bucket", SOON, || {
        s3.download(&copy)?;
        let files = files_below(&copy)?;
        let sums = files.iter().filter(|file| file.ends_with("SHA256SUMS"));
        Ok((sums.count() == SESSIONS as usize).then_some(()))
    })?;
    assert!(agent.stop()?.success());
    let arrivals = arrivals.finish()?;

    let mut delays = Vec::new();
    for (key, seen) in &arrivals {
        if !key.ends_with(".jsonl.zst") {
            continue;
        }
        let chunk = output(Command::new("zstd").arg("-dcq").arg(copy.join(key)))?;
        for line in chunk.lines() {
            let event: Value = serde_json::from_str(line)?;
            if let Some(time) = event["time"].as_str() {
                let time: f64 = output(Command::new("date").args(["+%s.%N", "-d", time]))?
                    .trim()
                    .parse()?;
                delays.push(seen - time);
            }
        }
    }
    delays.sort_by(f64::total_cmp);
    let share = |percent: usize| delays[(delays.len() * percent / 100).min(delays.len() - 1)];
    println!(
        "from the event to its object in the bucket: p50 {:.1} s, p99 {:.1} s, {} events",
        share(50),
        share(99),
        delays.len()
    );
    assert!(delays.len() > 160, "{} events", delays.len());
    assert!(share(99) <= 10.0, "p99 is {} s", share(99));

    let objects = s3.protection()?;
    assert!(objects.len() >= arrivals.len());
    for object in &objects {
        assert_eq!(object["mode"], "COMPLIANCE", "{object}");
        assert_eq!(object["encryption"], "aws:kms", "{object}");
        assert_eq!(object["kms_key"], KMS_KEY, "{object}");
        assert!(object["sha256"].is_string(), "{object}");
    }
    assert!(!agent.process.log().contains("panicked"));
    Ok(())
}

/// What `auditty-agent check` says of a bucket.
fn check(
    scene: &Scene,
    name: &str,
    store: String,
    environment: &[(String, String)],
) -> Result<String> {
    let folder = scene.path(name);
    let setting = Setting {
        store,
        ..Setting::default()
    };
    configure(&folder, &setting)?;
    output(command(&folder, environment).arg("check"))
}

#[test]
fn what_does_not_protect_the_recordings_is_said() -> Result<()> {
    let scene = Scene::new()?;
    let s3 = S3::start(&scene)?;
    let locked = check(&scene, "locked", s3.store(), &s3.writer.environment())?;
    for said in ["can be written", "versioning on", "Object Lock unknown"] {
        assert!(locked.contains(said), "{said} in {locked}");
    }
    assert!(!locked.contains("PROBLEM"), "{locked}");
    let store = s3.store().replace(BUCKET, &format!("{BUCKET}-plain"));
    let plain = check(&scene, "plain", store.clone(), &s3.admin.environment())?;
    for said in [
        "PROBLEM: the bucket keeps no versions",
        "PROBLEM: Object Lock of the bucket is off",
    ] {
        assert!(plain.contains(said), "{said} in {plain}");
    }

    let setting = Setting {
        store,
        environment: s3.admin.environment(),
        ..Setting::default()
    };
    let mut agent = Agent::start(&scene, &setting)?;
    let loud = "ERROR the store is not protected as it should be";
    agent.process.wait_for_log(loud, SOON)?;
    assert!(agent.stop()?.success());
    Ok(())
}
