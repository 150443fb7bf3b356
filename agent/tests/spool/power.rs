//! What a real power loss leaves: disks of guests whose emulator was killed while
//! an agent recorded real logins. `cargo xtask vm --power-cuts` makes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditty_agent::capture::now_boot_ns;
use auditty_agent::delivery::{Spool, SpoolOptions};
use auditty_agent::sessions::{Clock, Limits, Restart, Sessions, SystemUsers};
use auditty_grants::GrantBook;
use auditty_recording::event::{Body, EndReason, GapCause, Stream};
use auditty_recording::session::{Host, Verdict};
use jiff::Timestamp;

use crate::common::*;

/// How much of a recording a power loss may cost.
const MAY_BE_LOST: Duration = Duration::from_secs(1);

/// The lines of a session that its client had got, and how old they were.
type Expected = BTreeMap<String, Vec<(u32, Duration)>>;

struct Disk(PathBuf);

impl Disk {
    /// Mounts it, which replays its journal.
    fn mount(image: &Path, at: PathBuf) -> Self {
        fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount")
            .args(["-o", "loop"])
            .arg(image)
            .arg(&at)
            .output()
            .unwrap();
        assert!(mounted.status.success(), "{mounted:?}");
        Self(at)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn expected(image: &Path) -> Expected {
    let text = fs::read_to_string(image.with_extension("expected")).unwrap();
    let got = |word: &str| {
        let (number, age) = word.split_once(':').unwrap();
        let age = Duration::from_millis(age.parse().unwrap());
        (number.parse().unwrap(), age)
    };
    let line = |line: &str| {
        let mut words = line.split(' ');
        let session = words.next().unwrap();
        (session.to_owned(), words.map(got).collect())
    };
    text.lines().map(line).collect()
}

/// Does what an agent does that starts there: how long the start took.
async fn recover(agent: &Path, bench: &Bench) -> Duration {
    let host = Host {
        host_id: "power".into(),
        boot_id: "after the power loss".into(),
        ..Host::default()
    };
    let options = SpoolOptions {
        directory: agent.join("spool"),
        keys_directory: agent.join("state/keys"),
        host_id: host.host_id.clone(),
        boot_id: host.boot_id.clone(),
        ..bench.options()
    };
    let store = bench
        .store_at(&format!("file://{}", agent.join("store").display()))
        .await;
    let begin = Instant::now();
    let (mut spool, open) = Spool::open(options, Arc::clone(&store), None).unwrap();
    let took = begin.elapsed();
    let clock = Clock::new(now_boot_ns(), Timestamp::now());
    let (users, grants) = (SystemUsers, GrantBook::default());
    let mut sessions = Sessions::new(host, clock, users, grants, Limits::default());
    let nobody_lives = |_: u32, _: u64| false;
    let restart = Restart::Unpinned(open);
    sessions.resume(restart, &nobody_lives, now_boot_ns(), &mut spool);
    assert_eq!(sessions.open_sessions(), 0);
    deliver(spool, &store).await;
    let report = assert_verified(&store).await;
    assert_eq!(report.open_sessions, 0);
    assert!(names(&agent.join("spool/quarantine")).is_empty());
    took
}

/// Checks every recording: the lines that each session has.
fn recorded(agent: &Path) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    for folder in recordings(&agent.join("store/v1")) {
        let manifest = fs::read(folder.join("manifest.json")).unwrap();
        let manifest = auditty_recording::manifest::Manifest::from_json(&manifest).unwrap();
        let session = &manifest.session;
        let events = events(&folder);
        let mut text = Vec::new();
        for event in &events {
            match &event.body {
                Body::Output(output) if output.stream == Stream::Terminal => {
                    text.extend_from_slice(&output.data.0);
                }
                Body::Gap(gap) => assert!(
                    matches!(gap.cause, GapCause::AgentDown | GapCause::Spool),
                    "{gap:?}"
                ),
                _ => {}
            }
        }
        let text = String::from_utf8(text).unwrap();
        let mut lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let cut_off = session.end_reason == Some(EndReason::HostReboot);
        // One that had ended, and was not sealed yet, ends as it did.
        let interrupted = session.verdict == Verdict::Interrupted;
        assert!(interrupted || !cut_off, "{session:?}");
        assert!(session.end_time.unwrap() >= session.start_time);
        let Some((name, _)) = text.split_once(' ') else {
            continue;
        };
        // From the first line on, none is missing.
        let mut last = 0;
        for number in 1.. {
            let Some(line) = lines.next() else { break };
            assert_eq!(line.trim_end(), format!("{name} {number}"));
            last = number;
        }
        let twice = found.insert(name.to_owned(), last);
        assert_eq!(twice, None, "{name} is recorded twice");
    }
    found
}

fn recordings(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        match path.is_dir() {
            true if name.to_string_lossy().starts_with("session=") => found.push(path),
            true => found.extend(recordings(&path)),
            false => {}
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "`cargo xtask vm --power-cuts` makes the disks"]
async fn what_a_power_loss_leaves() {
    let folder = std::env::var_os("AUDITTY_TEST_POWER").expect("a folder of disks");
    let folder = Path::new(&folder);
    let (mut cuts, mut cut_off) = (0, 0);
    let (mut most_lost, mut longest) = (Duration::ZERO, Duration::ZERO);
    for name in names(folder) {
        if !(name.starts_with("cut-") && name.ends_with(".img")) {
            continue;
        }
        let image = folder.join(&name);
        let bench = Bench::new();
        let disk = Disk::mount(&image, bench.path("disk"));
        let agent = disk.0.join("agent");
        longest = longest.max(recover(&agent, &bench).await);
        let found = recorded(&agent);
        for (session, lines) in expected(&image) {
            let reached = found.get(&session).copied().unwrap_or(0);
            let missing = lines.iter().filter(|(number, _)| *number > reached);
            let Some((number, age)) = missing.max_by_key(|(_, age)| *age) else {
                continue;
            };
            assert!(
                *age <= MAY_BE_LOST,
                "{name}: line {number} of {session} was {age:?} old and is lost; {reached} are recorded"
            );
            cut_off += 1;
            most_lost = most_lost.max(*age);
        }
        cuts += 1;
        drop(disk);
        fs::remove_file(&image).unwrap();
    }
    println!(
        "{cuts} power losses: {cut_off} recordings were cut off, by at most {most_lost:?}; the longest recovery took {longest:?}"
    );
    assert!(cuts > 0);
}
