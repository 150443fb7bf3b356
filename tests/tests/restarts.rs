//! Sessions that are older than the agent, and restarts in their middle.

use anyhow::{Context as _, Result};
use auditty_tests::{
    SOON, Scene, Stage,
    agent::{Agent, Collector, Setting},
    client::{Auth, Client},
    python,
    sshd::Sshd,
    store::{Recording, words},
    user::TestUser,
    wait_for,
};
use serde_json::Value;

/// Rows of the collector are those of the recording: each command once.
fn assert_rows(address: &str, recording: &Recording) -> Result<()> {
    let id = recording.session_id();
    let expected: Vec<_> = recording
        .of("exec")
        .iter()
        .map(|exec| (exec["seq"].as_u64(), words(&exec["argv"])))
        .collect();
    let mut rows = Vec::new();
    let same = wait_for("the rows of the collector", SOON, || {
        rows = python::commands(address, &id)?.iter().map(row).collect();
        Ok((rows == expected).then_some(()))
    });
    same.with_context(|| format!("{} rows, {} execs", rows.len(), expected.len()))?;

    let filter = format!("session_id = \"{id}\"");
    let closed = wait_for("the end of the session at the collector", SOON, || {
        let sessions = python::sessions(address, &filter)?;
        anyhow::ensure!(
            sessions.len() == 1,
            "{} rows of one session",
            sessions.len()
        );
        let session = sessions.into_iter().next();
        Ok(session.filter(|session| session["state"] == "SESSION_STATE_CLOSED"))
    })?;
    let counts = &recording.session()["counts"];
    let count = |name: &str| {
        closed["counts"][name]
            .as_str()
            .unwrap_or("0")
            .parse::<u64>()
            .ok()
    };
    assert_eq!(count("commandCount"), counts["commands"].as_u64());
    assert_eq!(count("eventCount"), counts["events"].as_u64());
    assert_eq!(counts["events"], recording.events.len());
    Ok(())
}

/// int64 is a string in proto3 JSON.
fn row(command: &Value) -> (Option<u64>, Vec<String>) {
    let seq = command["seq"].as_str().and_then(|seq| seq.parse().ok());
    (seq, words(&command["argv"]))
}

#[test]
fn a_session_older_than_the_agent_is_adopted() -> Result<()> {
    let scene = Scene::new()?;
    let sshd = Sshd::start(&scene, "")?;
    let user = TestUser::create(&scene)?;
    let key = sshd.authorize(&user)?;
    let mut typist = Client::new(&sshd, &user, Auth::Key(key)).shell()?;
    typist.ready()?;
    typist.command("/bin/echo too early")?;

    let mut agent = Agent::start(&scene, &Setting::default())?;
    typist.command("/bin/echo in time")?;
    typist.line("exit 6")?;
    typist.finish(SOON)?;
    let recording = agent.store().only(sshd.port)?;
    recording.assert_sound()?;
    assert_eq!(recording.events[0]["adopted"], true);
    assert_eq!(recording.session()["adopted"], true);
    assert!(
        recording
            .of("marker")
            .iter()
            .any(|marker| marker["marker"] == "adopted")
    );
    assert_eq!(recording.session()["login"]["user"], user.name);
    assert_eq!(recording.session()["login"]["uid"], user.uid);
    // What was not seen is not guessed.
    assert_eq!(recording.session()["login"]["method"], "unknown");
    assert_eq!(recording.session()["login"]["evidence"], "process_uid");
    assert_eq!(recording.session()["login"]["confidence"], "medium");
    let argvs = recording.argvs();
    assert!(argvs.contains(&["/bin/echo", "in", "time"].map(str::to_owned).to_vec()));
    assert!(!argvs.iter().any(|argv| argv.contains(&"early".to_owned())));
    assert!(recording.shown()?.contains("in time\r\n"));
    assert!(recording.typed()?.contains("/bin/echo in time\r"));
    assert_eq!(recording.session()["exit_code"], 6);
    assert!(agent.stop()?.success());
    Ok(())
}

/// A session that goes on while no agent is there, and no programs either.
fn agent_restart(stop: impl FnOnce(&mut Agent) -> Result<()>) -> Result<()> {
    let unpinned = Setting {
        extra: "[capture]\npin = false\n".to_owned(),
        ..Setting::default()
    };
    let mut stage = Stage::with(Scene::new()?, &unpinned)?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    typist.command("/bin/echo before")?;
    let first = stage.agent.store();
    // The agent has it: it is in the store while the session runs.
    wait_for("the first commands in the store", SOON, || {
        let recordings = first.recordings()?;
        let ours = recordings.iter().flat_map(Recording::argvs);
        Ok(ours.flatten().any(|word| word == "before").then_some(()))
    })?;
    stop(&mut stage.agent)?;
    stage.agent = Agent::start_again(&stage.scene, &Setting::default())?;
    typist.command("/bin/echo after")?;
    typist.line("exit")?;
    typist.finish(SOON)?;

    let recording = stage.recording()?;
    recording.assert_sound()?;
    let words: Vec<_> = recording.argvs().into_iter().flatten().collect();
    for word in ["before", "after"] {
        assert_eq!(words.iter().filter(|one| *one == word).count(), 1, "{word}");
    }
    let shown = recording.shown()?;
    assert!(
        shown.contains("before\r\n") && shown.contains("after\r\n"),
        "{shown}"
    );
    assert_eq!(recording.session()["verdict"], "interrupted");
    assert!(
        recording
            .of("gap")
            .iter()
            .any(|gap| gap["cause"] == "agent_down")
    );
    assert_eq!(recording.session()["login"]["method"], "public_key");
    assert_rows(stage.agent.collector(), &recording)?;
    stage.end()
}

#[test]
fn the_agent_is_stopped_and_started() -> Result<()> {
    agent_restart(|agent| {
        assert!(agent.stop()?.success());
        Ok(())
    })
}

#[test]
fn the_agent_is_killed_and_started() -> Result<()> {
    agent_restart(|agent| agent.process.kill())
}

#[test]
fn the_collector_is_restarted() -> Result<()> {
    let scene = Scene::new()?;
    let mut collector = Collector::start(&scene)?;
    let setting = Setting {
        collector: Some(collector.address.clone()),
        ..Setting::default()
    };
    let stage = Stage::with(scene, &setting)?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    typist.command("/bin/echo before")?;
    wait_for("the session at the collector", SOON, || {
        let filter = format!("user = \"{}\"", stage.user.name);
        Ok(python::sessions(&collector.address, &filter)?.pop())
    })?;
    collector.stop(SOON)?;
    typist.command("for i in $(seq 300); do /bin/echo away; done")?;
    let collector = Collector::start(&stage.scene)?;
    typist.command("/bin/echo after")?;
    typist.line("exit")?;
    typist.finish(SOON)?;

    let recording = stage.recording()?;
    recording.assert_complete()?;
    assert!(recording.argvs().len() > 300);
    assert_rows(&collector.address, &recording)?;
    stage.end()
}

#[test]
fn a_foreign_client_finds_its_way_by_reflection() -> Result<()> {
    let stage = Stage::new()?;
    assert!(stage.run("/bin/echo asked; exit 2")?.status.code() == Some(2));
    let recording = stage.recording()?;
    let address = stage.agent.collector();
    let services = python::services(address)?;
    for service in ["auditty.v1.SessionService", "grpc.health.v1.Health"] {
        assert!(
            services.contains(&service.to_owned()),
            "{service} in {services:?}"
        );
    }
    let health = python::call(
        address,
        "grpc.health.v1.Health/Check",
        &serde_json::json!({}),
    )?;
    assert_eq!(health["status"], "SERVING");
    assert_rows(address, &recording)?;

    let name = serde_json::json!({ "name": format!("sessions/{}", recording.session_id()) });
    let answer = python::call(address, "auditty.v1.SessionService/GetSession", &name)?;
    let session = &answer["session"];
    assert_eq!(session["login"]["user"], stage.user.name);
    assert_eq!(session["exitCode"], 2);
    assert_eq!(session["verdict"], "VERDICT_COMPLETE");
    stage.end()
}
