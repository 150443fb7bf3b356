//! What is lost is declared: recorded and declared bytes together are what the
//! client was shown, exactly.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use auditty_tests::{
    SOON, Stage,
    agent::Setting,
    program,
    scene::{Scene, files_below, output},
    wait_for,
};
use nix::sys::signal::Signal;

/// Kernel buffers so small that an agent that stands still must lose.
const SMALL_RINGS: &str =
    "[capture]\ndata_ring_size = \"256 KiB\"\ncontrol_ring_size = \"256 KiB\"\n";

fn stage() -> Result<Stage> {
    let setting = Setting {
        extra: SMALL_RINGS.to_owned(),
        ..Setting::default()
    };
    Stage::with(Scene::new()?, &setting)
}

/// Runs a command whose second half happens while the agent stands still.
/// Returns what the client was shown.
fn run_past_a_stopped_agent(stage: &Stage, remote: &str) -> Result<Vec<u8>> {
    let client = stage.client();
    let remote = format!("echo begin; while [ ! -e ~/go ]; do sleep 0.05; done; {remote}");
    let login = std::thread::spawn(move || client.run_tty(&remote));
    let sessions = stage.agent.folder().join("spool/sessions");
    wait_for("the session in the spool", SOON, || {
        let open = fs::read_dir(&sessions)?.next();
        Ok(open.map(|_| ()))
    })?;
    stage.agent.process.signal(Signal::SIGSTOP)?;
    fs::write(stage.user.home.join("go"), "")?;
    let login = login
        .join()
        .map_err(|_| anyhow!("the client's thread died"))?;
    let shown = login?.stdout;
    stage.agent.process.signal(Signal::SIGCONT)?;
    Ok(shown)
}

#[test]
fn a_flood_past_a_stopped_agent() -> Result<()> {
    let stage = stage()?;
    let shown = run_past_a_stopped_agent(&stage, "seq 1 500000")?;
    ensure!(
        shown.ends_with(b"500000\r\n"),
        "the session went on as ever"
    );

    let recording = stage.recording()?;
    recording.assert_sound()?;
    let mut recorded = 0;
    for event in recording.of("output") {
        let at = usize::try_from(event["offset"].as_u64().unwrap())?;
        let bytes = auditty_tests::store::bytes_of(event)?;
        assert_eq!(&shown[at..at + bytes.len()], bytes, "at {at}");
        recorded += bytes.len();
    }
    let declared: u64 = recording
        .of("gap")
        .iter()
        .filter(|gap| gap["class"] != "process" && gap["class"] != "exec")
        .map(|gap| gap["bytes"].as_u64().unwrap())
        .sum();
    assert!(declared > 1_000_000, "only {declared} bytes were lost");
    assert_eq!(recorded as u64 + declared, shown.len() as u64);
    let session = recording.session();
    assert_eq!(session["verdict"], "lossy");
    assert_eq!(session["counts"]["lost_bytes"], declared);
    stage.end()
}

#[test]
fn a_storm_of_execs_past_a_stopped_agent() -> Result<()> {
    const EXECS: usize = 3000;
    let stage = stage()?;
    let storm = format!("for i in $(seq {EXECS}); do /bin/true; done");
    run_past_a_stopped_agent(&stage, &storm)?;

    let recording = stage.recording()?;
    recording.assert_sound()?;
    let argvs = recording.argvs();
    let recorded = argvs.iter().filter(|argv| argv[0] == "/bin/true").count();
    let declared: u64 = recording
        .of("gap")
        .iter()
        .filter(|gap| gap["class"] == "exec")
        .map(|gap| gap["events"].as_u64().unwrap())
        .sum();
    assert!(recorded < EXECS, "nothing was lost");
    assert_eq!(recorded as u64 + declared, EXECS as u64);
    assert_eq!(recording.session()["verdict"], "lossy");
    stage.end()
}

/// Two sessions past a stopped agent: one floods, the other shows a few lines
/// and runs a few programs.
#[test]
fn a_flood_costs_another_session_nothing() -> Result<()> {
    let rings = "[capture]\ndata_ring_size = \"1 MiB\"\ncontrol_ring_size = \"1 MiB\"\n";
    let setting = Setting {
        extra: rings.to_owned(),
        ..Setting::default()
    };
    let stage = Stage::with(Scene::new()?, &setting)?;
    let wait = "while [ ! -e ~/go ]; do sleep 0.05; done";
    let flood = format!("{wait}; seq 1 400000; for i in $(seq 2000); do /bin/true; done");
    let quiet = format!("{wait}; sleep 1; for i in $(seq 200); do /bin/echo line $i; done");
    let run = |remote: String| {
        let client = stage.client();
        std::thread::spawn(move || client.run_tty(&remote))
    };
    let (flood, quiet) = (run(flood), run(quiet));
    let sessions = stage.agent.folder().join("spool/sessions");
    wait_for("both sessions in the spool", SOON, || {
        let open = fs::read_dir(&sessions)?.count();
        Ok((open == 2).then_some(()))
    })?;
    stage.agent.process.signal(Signal::SIGSTOP)?;
    fs::write(stage.user.home.join("go"), "")?;
    let mut shown = Vec::new();
    for login in [flood, quiet] {
        let login = login
            .join()
            .map_err(|_| anyhow!("the client's thread died"))??;
        shown.push(login.stdout);
    }
    stage.agent.process.signal(Signal::SIGCONT)?;

    let (mut flooded, mut spared) = (0, 0);
    for recording in stage.recordings(2)? {
        recording.assert_sound()?;
        if recording.session()["verdict"] == "complete" {
            assert!(recording.bytes("output", "terminal")? == shown[1]);
            let argvs = recording.argvs();
            assert_eq!(
                argvs.iter().filter(|argv| argv[0] == "/bin/echo").count(),
                200
            );
            spared += 1;
            continue;
        }
        let recorded = recording.session()["counts"]["output_bytes"]
            .as_u64()
            .unwrap();
        let declared: u64 = recording
            .of("gap")
            .iter()
            .filter(|gap| gap["class"] == "output" || gap["class"] == "any")
            .map(|gap| gap["bytes"].as_u64().unwrap())
            .sum();
        assert_eq!(recorded + declared, shown[0].len() as u64);
        assert!(declared > 0, "nothing was lost");
        flooded += 1;
    }
    assert_eq!((flooded, spared), (1, 1));
    stage.end()
}

/// The name in bpffs that keeps a program attached, once it is there.
fn pin(program: &str) -> Result<PathBuf> {
    wait_for(program, SOON, || {
        let pins = files_below(Path::new("/sys/fs/bpf/auditty"))?;
        Ok(pins.into_iter().find(|pin| pin.ends_with(program)))
    })
}

/// What root can do to the hooks while a session goes on: each is told, undone, and
/// declared where something was missed.
#[test]
fn hooks_that_stop_are_said_and_attached_again() -> Result<()> {
    let mut stage = Stage::new()?;
    let stop_hooks = program::compile(&stage.scene, "stop_hooks", &[])?;
    let stop_hooks = |arguments: &[&str]| output(Command::new(&stop_hooks).args(arguments));
    let client = stage.client();
    let remote = "echo begin; while [ ! -e ~/go ]; do sleep 0.1; done; /bin/echo end";
    let login = std::thread::spawn(move || client.run_tty(remote));
    let enter = pin("raw_sys_enter")?;
    let sessions = stage.agent.folder().join("spool/sessions");
    wait_for("the session in the spool", SOON, || {
        Ok(fs::read_dir(&sessions)?.next().map(|_| ()))
    })?;

    // Its link is closed inside the agent, and its name removed.
    let agent = stage.agent.process.pid().to_string();
    stop_hooks(&["detach", &agent, &enter.display().to_string()])?;
    let works = "a hook works again";
    stage.agent.process.wait_for_log(works, SOON)?;
    assert!(enter.exists(), "it is pinned again");
    // All are switched off in the map that says which programs work.
    let folder = enter.ancestors().nth(3).context("the layout's folder")?;
    stop_hooks(&["off", &folder.display().to_string()])?;
    wait_for("all hooks to work again", SOON, || {
        let log = stage.agent.process.log();
        Ok((log.matches(works).count() > 3).then_some(()))
    })?;
    // What would keep them past the agent's end is removed.
    let pins = || files_below(Path::new("/sys/fs/bpf/auditty"));
    let before = pins()?;
    fs::remove_dir_all("/sys/fs/bpf/auditty")?;
    wait_for("the pins", SOON, || Ok((pins()? == before).then_some(())))?;

    fs::write(stage.user.home.join("go"), "")?;
    let login = login.join().map_err(|_| anyhow!("the client's thread"))??;
    assert!(login.stdout.ends_with(b"end\r\n"));
    let recording = stage.recording()?;
    recording.assert_sound()?;
    recording.exec(&["/bin/echo", "end"])?;
    let shown = recording.bytes("output", "terminal")?;
    assert!(shown.ends_with(b"end\r\n"), "what came afterwards is there");
    let gaps = recording.of("gap");
    let detached = gaps.iter().filter(|gap| gap["cause"] == "detached");
    assert_eq!(detached.count(), 2, "{gaps:?}");
    assert_eq!(recording.session()["verdict"], "lossy");

    let cli = stage.agent.cli();
    for kind in ["hook_stopped", "hook_mended"] {
        let asked = ["alerts", "--kind", kind, "--label", "env=test"];
        let alerts = wait_for(kind, SOON, || {
            let alerts = cli.json(&asked)?["alerts"].clone();
            Ok((alerts.as_array().map(Vec::len) == Some(3)).then_some(alerts))
        })?;
        let summaries = alerts.as_array().into_iter().flatten();
        let summaries: Vec<_> = summaries.filter_map(|a| a["summary"].as_str()).collect();
        let own = "tracepoint raw_syscalls:sys_enter";
        for words in [
            "it was detached",
            "the programs were switched off",
            "/sys/fs/bpf was removed: it would have ended with the agent",
        ] {
            let said = summaries.iter().find(|said| said.ends_with(words));
            assert!(said.is_some(), "{words}: {summaries:?}");
        }
        assert!(summaries.iter().any(|said| said.contains(own)));
    }
    // With the host's next report.
    wait_for("a host whose hooks work", SOON, || {
        let hosts = cli.text(&["hosts", "--label", "env=test"])?;
        Ok(hosts.contains(" live ").then_some(()))
    })?;
    assert!(
        cli.text(&["hosts", "--label", "env=prod"])?
            .contains("no hosts")
    );

    // The next one is whole.
    assert!(stage.run("/bin/echo whole")?.status.success());
    let recordings = stage.recordings(2)?;
    let verdicts: Vec<_> = recordings
        .iter()
        .map(|r| r.session()["verdict"].clone())
        .collect();
    assert!(
        verdicts.iter().any(|verdict| verdict == "complete"),
        "{verdicts:?}"
    );
    stage.end()
}
