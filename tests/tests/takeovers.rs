//! The agent dies, stops, or stands still, and nothing is lost: its programs go
//! on in the kernel, and the next agent takes over where it was.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use anyhow::{Result, anyhow, bail, ensure};
use auditty_tests::{
    SOON, Stage,
    agent::{self, Agent, Setting},
    binary,
    store::Recording,
    wait_for,
};
use nix::sys::signal::Signal;

const PINS: &str = "/sys/fs/bpf/auditty";

/// A login shows numbered lines and runs a program for each, while `happens`
/// happens. All of it must be in the recording, once.
fn nothing_is_lost(happens: impl FnOnce(&mut Stage) -> Result<()>) -> Result<Stage> {
    const COMMANDS: usize = 400;
    let mut stage = Stage::new()?;
    let client = stage.client();
    let login = thread::spawn(move || {
        client.run_tty(&format!(
            "for i in $(seq {COMMANDS}); do seq $((i * 100)) $((i * 100 + 99)); /bin/true $i; done; \
             while [ ! -e ~/go ]; do sleep 0.05; done; exit 6"
        ))
    });
    in_the_spool(&stage)?;
    happens(&mut stage)?;
    fs::write(stage.user.home.join("go"), "")?;
    let login = login
        .join()
        .map_err(|_| anyhow!("the client's thread died"))??;
    ensure!(login.status.code() == Some(6), "the session never noticed");

    let recording = stage.recording()?;
    recording.assert_complete()?;
    assert!(
        recording.bytes("output", "terminal")? == login.stdout,
        "what was shown is not what was recorded"
    );
    for exec in recording.of("exec") {
        let complete = exec["argv_truncated"] != true && exec["argv"] != serde_json::json!([]);
        assert!(complete, "{exec}");
    }
    let expected: Vec<String> = (1..=COMMANDS).map(|i| i.to_string()).collect();
    let run: Vec<String> = recording
        .argvs()
        .into_iter()
        .filter(|argv| argv[0] == "/bin/true")
        .map(|argv| argv[1].clone())
        .collect();
    assert_eq!(run, expected);
    assert_exits(&recording);
    assert_eq!(recording.session()["exit_code"], 6);
    assert_eq!(recording.session()["login"]["method"], "public_key");
    Ok(stage)
}

/// Waits until the agent has something of a session on its disk.
fn in_the_spool(stage: &Stage) -> Result<()> {
    let sessions = stage.agent.folder().join("spool/sessions");
    wait_for("the session in the spool", SOON, || {
        let open = fs::read_dir(&sessions)?.next();
        Ok(open.map(|_| ()))
    })
}

/// Each exec that ended has one exit.
fn assert_exits(recording: &Recording) {
    let mut ended: Vec<_> = recording
        .of("exit")
        .iter()
        .map(|exit| exit["exec_seq"].as_u64())
        .collect();
    let all = ended.len();
    ended.sort_unstable();
    ended.dedup();
    assert_eq!(ended.len(), all, "an exec with two exits");
    assert_eq!(all, recording.of("exec").len(), "an exec without an exit");
}

fn again(stage: &mut Stage) -> Result<()> {
    stage.agent = Agent::start_again(&stage.scene, &Setting::default())?;
    Ok(())
}

#[test]
fn killed_three_times_in_the_middle_of_it() -> Result<()> {
    nothing_is_lost(|stage| {
        for _ in 0..3 {
            stage.agent.process.kill()?;
            again(stage)?;
        }
        Ok(())
    })?
    .end()
}

/// At moments before and after the first checkpoint that knows the session.
#[test]
fn killed_as_a_session_begins() -> Result<()> {
    const ROUNDS: u64 = 6;
    let mut stage = Stage::new()?;
    for round in 0..ROUNDS {
        let home = &stage.user.home;
        let (here, go) = (
            home.join(format!("here{round}")),
            home.join(format!("go{round}")),
        );
        let client = stage.client();
        let login = thread::spawn(move || {
            client.run_tty(&format!(
                "echo begin; : >here{round}; while [ ! -e go{round} ]; do sleep 0.05; done; \
                 /bin/true {round}; echo end"
            ))
        });
        wait_for("the session", SOON, || Ok(here.exists().then_some(())))?;
        thread::sleep(Duration::from_millis(round * 100));
        stage.agent.process.kill()?;
        fs::write(go, "")?;
        let shown = login
            .join()
            .map_err(|_| anyhow!("the client's thread died"))??;
        again(&mut stage)?;
        let recordings = stage.recordings(usize::try_from(round)? + 1)?;
        let recording = recordings.last().ok_or_else(|| anyhow!("no recording"))?;
        recording.assert_complete()?;
        recording.exec(&["/bin/true", &round.to_string()])?;
        assert_eq!(recording.bytes("output", "terminal")?, shown.stdout);
        assert_exits(recording);
    }
    stage.end()
}

#[test]
fn stopped_and_started() -> Result<()> {
    nothing_is_lost(|stage| {
        assert!(stage.agent.stop()?.success());
        again(stage)
    })?
    .end()
}

#[test]
fn five_seconds_of_a_stopped_agent() -> Result<()> {
    nothing_is_lost(|stage| {
        stage.agent.process.signal(Signal::SIGSTOP)?;
        // The time is what is tested.
        thread::sleep(Duration::from_secs(5));
        stage.agent.process.signal(Signal::SIGCONT)
    })?
    .end()
}

#[test]
fn a_session_that_ends_while_no_agent_runs() -> Result<()> {
    let mut stage = Stage::new()?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    stage.agent.process.kill()?;
    typist.command("/bin/echo nobody looks")?;
    typist.line("exit 4")?;
    let (_, shown) = typist.finish(SOON)?;
    again(&mut stage)?;
    let recording = stage.recording()?;
    recording.assert_complete()?;
    assert!(recording.bytes("output", "terminal")? == shown);
    assert_eq!(recording.session()["exit_code"], 4);
    stage.end()
}

#[test]
fn a_login_while_no_agent_runs_is_recorded_in_part_and_says_so() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.agent.process.kill()?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    typist.command("/bin/echo nobody looks")?;
    again(&mut stage)?;
    typist.command("/bin/echo somebody does")?;
    typist.line("exit")?;
    typist.finish(SOON)?;
    let recording = stage.recording()?;
    recording.assert_sound()?;
    let words: Vec<String> = recording.argvs().into_iter().flatten().collect();
    assert!(words.contains(&"nobody".to_owned()), "{words:?}");
    assert!(words.contains(&"somebody".to_owned()), "{words:?}");
    assert_eq!(recording.session()["verdict"], "interrupted");
    assert_eq!(recording.session()["login"]["user"], stage.user.name);
    stage.end()
}

#[test]
fn a_second_agent_is_refused_and_harms_nothing() -> Result<()> {
    nothing_is_lost(|stage| {
        let folder = stage.scene.path("second");
        agent::configure(&folder, &Setting::default())?;
        let second = agent::command(&folder, &[]).output()?;
        ensure!(!second.status.success(), "two agents run");
        let said = String::from_utf8_lossy(&second.stderr);
        ensure!(said.contains("another agent is running"), "{said}");
        let uninstall = Command::new(binary("auditty-agent"))
            .arg("uninstall")
            .output()?;
        ensure!(!uninstall.status.success(), "uninstalled under an agent");
        Ok(())
    })?
    .end()
}

#[test]
fn uninstalling_leaves_nothing_in_the_kernel() -> Result<()> {
    let mut stage = Stage::new()?;
    assert!(stage.run("/bin/true")?.status.success());
    stage.recording()?.assert_complete()?;
    assert!(stage.agent.stop()?.success());
    assert!(Path::new(PINS).exists(), "nothing was pinned");
    let uninstall = Command::new(binary("auditty-agent"))
        .arg("uninstall")
        .output()?;
    let said = String::from_utf8_lossy(&uninstall.stderr);
    ensure!(uninstall.status.success(), "{said}");
    for left in [PINS, "/run/auditty"] {
        assert!(!Path::new(left).exists(), "{left}");
    }
    for list in ["kprobe_events", "uprobe_events"] {
        let path = Path::new("/sys/kernel/tracing").join(list);
        let probes = fs::read_to_string(path).unwrap_or_default();
        assert!(!probes.contains("auditty"), "{probes}");
    }
    Ok(())
}

/// The agent is killed, the session goes on, and an agent comes that cannot go on
/// with its rings: those of another size, or in a folder of another `layout`.
fn another_layout(setting: &Setting, layout: Option<&str>) -> Result<()> {
    let mut stage = Stage::new()?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    typist.command("/bin/echo somebody looks")?;
    in_the_spool(&stage)?;
    stage.agent.process.kill()?;
    typist.command("seq 1 3000; /bin/echo nobody looks")?;
    for entry in fs::read_dir(PINS)?.flatten() {
        if let Some(layout) = layout {
            fs::rename(entry.path(), Path::new(PINS).join(layout))?;
        }
    }
    agent::configure(stage.agent.folder(), setting)?;
    let restarted = boot_ns()?;
    stage.agent = Agent::start_again(&stage.scene, setting)?;
    ensure!(fs::read_dir(PINS)?.count() == 1, "other layouts are left");
    typist.command("/bin/echo somebody looks again")?;
    typist.line("exit 4")?;
    let (_, shown) = typist.finish(SOON)?;
    let recording = stage.recording()?;
    recording.assert_sound()?;
    assert_eq!(recording.session()["exit_code"], 4);
    let again = recording.exec(&["/bin/echo", "somebody", "looks", "again"])?;
    let again = again["boot_ns"].as_u64();
    let gaps = recording.of("gap");
    let [gap] = gaps[..] else {
        bail!("{gaps:?}");
    };
    assert_eq!(
        (&gap["cause"], &gap["class"]),
        (&"agent_down".into(), &"any".into())
    );
    assert!(gap["to_boot_ns"].as_u64() <= again, "{gap}");
    // Nothing happened in the session while none captured.
    assert!(gap["from_boot_ns"].as_u64() >= Some(restarted), "{gap}");
    assert!(recording.bytes("output", "terminal")? == shown);
    let exec = recording.exec(&["/bin/echo", "nobody", "looks"])?;
    recording.exit_of(exec)?;
    stage.end()
}

/// Nanoseconds since boot.
fn boot_ns() -> Result<u64> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)?;
    Ok(u64::try_from(Duration::from(time).as_nanos())?)
}

#[test]
fn rings_of_another_size_are_read_to_their_end() -> Result<()> {
    let setting = Setting {
        extra: "[capture]\ndata_ring_size = \"8 MiB\"\n".to_owned(),
        ..Setting::default()
    };
    another_layout(&setting, None)
}

#[test]
fn rings_of_another_version_are_read_to_their_end() -> Result<()> {
    another_layout(&Setting::default(), Some("8-another"))
}
