//! No recorder, no session, for those whom the policy names.

use std::{
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use auditty_tests::{
    SOON, Scene,
    agent::{Agent, Setting},
    binary,
    client::{Auth, Client},
    scene::files_below,
    sshd::Sshd,
    user::TestUser,
    wait_for,
};
use nix::sys::signal::Signal;

/// A refusal takes at most this, the whole login with it.
const SECOND: Duration = Duration::from_secs(1);

/// What a machine under test may add to that.
const BUSY: Duration = Duration::from_secs(2);

/// How long sessions go on without a recorder: longer than a restart takes.
const END_AFTER: Duration = Duration::from_secs(5);

struct Gate {
    agent: Agent,
    sshd: Sshd,
    scene: Scene,
    setting: Setting,
    /// Held, held but may break the glass, not held.
    clients: [Client; 3],
}

impl Gate {
    fn new() -> Result<Self> {
        let scene = Scene::new()?;
        let config = scene.path("agent/agent.toml");
        let sshd = Sshd::start_with_pam(
            &scene,
            &format!(
                "account required pam_exec.so quiet stdout {} --config {} permit",
                binary("auditty-agent").canonicalize()?.display(),
                config.display()
            ),
        )?;
        let users: Vec<TestUser> = (0..3)
            .map(|_| TestUser::create(&scene))
            .collect::<Result<_>>()?;
        let client = |user: &TestUser| -> Result<Client> {
            let key = sshd.authorize(user)?;
            Ok(Client::new(&sshd, user, Auth::Key(key)).with_banners())
        };
        let clients = [client(&users[0])?, client(&users[1])?, client(&users[2])?];
        // Every user has a group of the same name.
        let setting = Setting {
            extra: format!(
                "[strict]\nusers = [\"{}\", \"@{}\"]\nbreak_glass = [\"@{}\"]\nend_after = \"{}s\"\n",
                users[0].name,
                users[1].name,
                users[1].name,
                END_AFTER.as_secs()
            ),
            ..Setting::default()
        };
        Ok(Self {
            agent: Agent::start(&scene, &setting)?,
            sshd,
            scene,
            setting,
            clients,
        })
    }

    fn assert_open(&self) -> Result<()> {
        for client in &self.clients {
            let done = client.run("echo in", b"")?;
            assert_eq!(done.stdout, b"in\n", "{}", text(&done));
            assert!(!text(&done).contains("auditty:"), "{}", text(&done));
        }
        Ok(())
    }

    /// The held user is refused, and told why; the others get in.
    fn assert_held(&self, why: &str) -> Result<()> {
        let [held, glass, free] = &self.clients;
        let begin = Instant::now();
        let refused = held.run("echo in", b"")?;
        let took = begin.elapsed();
        println!("{why}: refused after {:.2} s", took.as_secs_f64());
        assert!(refused.stdout.is_empty() && !refused.status.success());
        assert!(text(&refused).contains("are only allowed while they are recorded"));
        assert!(text(&refused).contains(why), "{}", text(&refused));
        assert!(took < SECOND + BUSY, "{took:?}");
        let begin = Instant::now();
        let free = free.run("echo in", b"")?;
        assert_eq!(free.stdout, b"in\n", "{}", text(&free));
        assert!(begin.elapsed() < SECOND + BUSY);
        let glass = glass.run("echo in", b"")?;
        assert_eq!(glass.stdout, b"in\n", "{}", text(&glass));
        Ok(())
    }

    fn notes(&self, below: &str) -> Result<usize> {
        let files = files_below(&self.scene.path("agent").join(below))?;
        let note = |path: &std::path::PathBuf| path.to_string_lossy().contains("/break-glass/");
        Ok(files.iter().filter(|path| note(path)).count())
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn no_session_without_a_recorder_for_those_who_are_held() -> Result<()> {
    let mut gate = Gate::new()?;
    gate.assert_open()?;

    gate.agent.process.signal(Signal::SIGSTOP)?;
    gate.assert_held("the recorder does not answer")?;
    gate.agent.process.signal(Signal::SIGCONT)?;
    wait_for("the recorder to answer again", SOON, || {
        let held = gate.clients[0].run("echo in", b"")?;
        Ok((held.stdout == b"in\n").then_some(()))
    })?;

    gate.agent.process.kill()?;
    gate.assert_held("no recorder runs")?;
    // Still there when the agent returns.
    let glass = gate.clients[1].clone();
    let open = std::thread::spawn(move || glass.run("echo before; sleep 6; echo after", b""));
    wait_for("the note of the session", SOON, || {
        Ok((gate.notes("state")? == 3).then_some(()))
    })?;
    gate.agent = Agent::start_again(&gate.scene, &gate.setting)?;
    gate.assert_open()?;
    assert!(
        open.join()
            .is_ok_and(|done| done.is_ok_and(|done| done.status.success()))
    );

    // Three uses, in the store and in the recordings of their sessions.
    wait_for("the notes in the store", SOON, || {
        Ok((gate.notes("store")? == 3).then_some(()))
    })?;
    wait_for("the sessions that were let in", SOON, || {
        let recordings = gate.agent.store().recordings()?;
        let mut flagged = 0;
        for recording in &recordings {
            assert_ne!(
                recording.session()["login"]["user"],
                "root",
                "what PAM runs"
            );
            let markers = recording.of("marker");
            let used = markers
                .iter()
                .filter(|marker| marker["marker"] == "break_glass");
            flagged += usize::from(used.count() == 1);
        }
        Ok((flagged == 3).then_some(()))
    })?;
    assert!(gate.agent.process.log().contains("break-glass: "));
    assert!(gate.agent.stop()?.success());
    gate.assert_held("no recorder runs")?;
    drop(gate.sshd);
    Ok(())
}

/// The session of `client`: whether it is still open.
fn sleeper(client: &Client) -> Result<std::thread::JoinHandle<Result<Output>>> {
    let client = client.clone();
    Ok(std::thread::spawn(move || {
        client.run_tty("echo open; sleep 600")
    }))
}

#[test]
fn open_sessions_of_those_who_are_held_end_when_nothing_records_them_for_long() -> Result<()> {
    let mut gate = Gate::new()?;
    let config = gate.agent.folder().join("agent.toml");
    let mut guard = Command::new(binary("auditty-agent"));
    guard.arg("--config").arg(&config).arg("guard");
    let mut guard = gate.scene.spawn("auditty-guard", &mut guard)?;
    let [held, glass, free] = &gate.clients;
    let (held, glass, free) = (sleeper(held)?, sleeper(glass)?, sleeper(free)?);
    wait_for("three open sessions", SOON, || {
        let open = gate.agent.store().recordings()?;
        Ok((open.len() >= 3).then_some(()))
    })?;

    // One that is back in time ends nobody's session.
    gate.agent.process.kill()?;
    guard.wait_for_log("the recorder does not work", SOON)?;
    gate.agent = Agent::start_again(&gate.scene, &gate.setting)?;
    guard.wait_for_log("the recorder works again", SOON)?;
    assert!(!held.is_finished());

    let begin = Instant::now();
    gate.agent.process.signal(Signal::SIGSTOP)?;
    wait_for("the end of the held session", SOON, || {
        Ok(held.is_finished().then_some(()))
    })?;
    let took = begin.elapsed();
    println!("a held session was ended {took:.1?} after the recorder stood still");
    assert!(took >= END_AFTER && took < END_AFTER + 3 * SECOND + BUSY);
    assert!(!glass.is_finished() && !free.is_finished());
    gate.agent.process.signal(Signal::SIGCONT)?;
    wait_for("the recorder to answer again", SOON, || {
        let held = gate.clients[0].run("echo in", b"")?;
        Ok((held.stdout == b"in\n").then_some(()))
    })?;
    wait_for("the note in the store", SOON, || {
        Ok((gate.notes("store")? == 1).then_some(()))
    })?;
    assert!(gate.agent.process.log().contains("was ended at"));
    for client in &gate.clients[1..] {
        client.run("pkill -u $(id -un) sleep", b"")?;
    }
    for session in [glass, free] {
        let ended = session.join().map_err(|_| anyhow!("a client died"))??;
        assert!(ended.stdout.starts_with(b"open"), "{ended:?}");
    }
    guard.kill()?;
    assert!(gate.agent.stop()?.success());
    Ok(())
}

#[test]
fn a_broken_configuration_locks_nobody_out() -> Result<()> {
    let gate = Gate::new()?;
    let config = gate.agent.folder().join("agent.toml");
    std::fs::write(&config, "[strict]\nusers = \"all\"\n")?;
    gate.agent.process.signal(Signal::SIGKILL)?;
    gate.assert_open()?;
    std::fs::remove_file(&config)?;
    gate.assert_open()
}
