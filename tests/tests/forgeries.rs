//! Names, log lines and failed logins that try to be taken for a login.
//! `tests/README.md` says which threat each test answers.

use anyhow::{Result, ensure};
use auditty_tests::{
    SOON, Scene, Stage,
    agent::Setting,
    client::{Auth, Client},
    sshd::{Sshd, fingerprint, key_pair, public},
    wait_for,
};
use serde_json::Value;

/// The one recording is that of the user's own login, from here.
fn assert_own(stage: &Stage) -> Result<()> {
    let recording = stage.recording()?;
    recording.assert_complete()?;
    let session = recording.session();
    assert_eq!(session["login"]["user"], stage.user.name);
    assert_eq!(session["login"]["evidence"], "sshd_monitor");
    assert_eq!(
        session["login"]["key_fingerprint"],
        fingerprint(&public(&stage.key))?
    );
    assert_eq!(session["connection"]["client_address"], "127.0.0.1");
    Ok(())
}

#[test]
fn a_user_name_that_looks_like_an_address() -> Result<()> {
    let stage = Stage::new()?;
    let names = [
        "x from 9.9.9.9 port 22",
        "root\nAccepted publickey for root",
    ];
    for name in names {
        let client = stage.client().with("-l").with(name);
        ensure!(
            !client.run("true", b"")?.status.success(),
            "{name} logged in"
        );
    }
    assert!(stage.run("true")?.status.success());
    assert_own(&stage)?;
    stage.end()
}

#[test]
fn lines_that_a_user_logs() -> Result<()> {
    const LINE: &str = "Accepted publickey for root from 1.2.3.4 port 1 ssh2: ED25519 SHA256:AAAA";
    let stage = Stage::new()?;
    // Whether anybody takes it or not; and to where sshd itself writes.
    let remote = format!(
        "logger -t sshd -p auth.info '{LINE}'; logger --socket-errors=off -t sshd '{LINE}'; \
         echo '{LINE}' >&2; true"
    );
    assert!(stage.run(&remote)?.status.success());
    assert_own(&stage)?;
    stage.end()
}

#[test]
fn many_failed_logins_before_a_good_one() -> Result<()> {
    const AT_ONCE: usize = 4;
    const ROUNDS: usize = 8;
    let stage = Stage::new()?;
    let stranger = key_pair(&stage.scene.path("stranger"))?;
    let client = Client::new(&stage.sshd, &stage.user, Auth::Key(stranger));
    std::thread::scope(|scope| {
        let attackers: Vec<_> = (0..AT_ONCE)
            .map(|_| scope.spawn(|| (0..ROUNDS).try_for_each(|_| refused(&client))))
            .collect();
        let mut ends = attackers
            .into_iter()
            .map(|attacker| attacker.join().unwrap());
        ends.try_for_each(|end| end)
    })?;
    assert!(stage.run("true")?.status.success());
    assert_own(&stage)?;
    // A few stand alone, the rest together: each is counted once.
    let logins = failed_logins(&stage, (AT_ONCE * ROUNDS) as u64)?;
    assert!((2..AT_ONCE * ROUNDS).contains(&logins.len()), "{logins:?}");
    for login in &logins {
        assert_eq!(login["clientAddress"], "127.0.0.1");
        assert_eq!(login["user"], stage.user.name);
        assert_eq!(login["methods"][0]["method"], "AUTH_METHOD_PUBLIC_KEY");
        assert_eq!(
            login["methods"][0]["failureCount"],
            login["connectionCount"]
        );
    }
    stage.end()
}

/// What the collector knows, when it stands for so many connections.
fn failed_logins(stage: &Stage, connections: u64) -> Result<Vec<Value>> {
    let cli = stage.agent.cli();
    let count = |login: &Value| login["connectionCount"].as_str()?.parse::<u64>().ok();
    wait_for("the failed logins", SOON, || {
        let answer = cli.json(&["failed-logins", "--limit", "1000"])?;
        let logins = answer["failedLogins"].as_array().cloned();
        let logins = logins.unwrap_or_default();
        let found: u64 = logins.iter().filter_map(count).sum();
        ensure!(found <= connections, "too many: {logins:?}");
        Ok((found == connections).then_some(logins))
    })
}

/// Each way to fail, on this machine's sshd and on OpenSSH 10: named as it was
/// tried, from where the kernel says.
#[test]
fn every_login_that_fails_is_told() -> Result<()> {
    for newest in [false, true] {
        let scene = Scene::new()?;
        let sshd = match newest {
            true => Sshd::start_openssh_10(&scene, "")?,
            false => Sshd::start(&scene, "")?,
        };
        let stage = Stage::on(scene, sshd, &Setting::default())?;
        let stranger = key_pair(&stage.scene.path("stranger"))?;
        let with = |auth| Client::new(&stage.sshd, &stage.user, auth);
        let once = "-oNumberOfPasswordPrompts=1";
        let wrong = "wrong".to_owned();
        let forged = "x from 9.9.9.9 port 22";
        refused(&with(Auth::Password(wrong.clone())).with(once))?;
        refused(&with(Auth::KeyboardInteractive(wrong)).with(once))?;
        refused(&with(Auth::Key(stranger.clone())))?;
        refused(&stage.client().with("-l").with("nobody-here"))?;
        refused(&stage.client().with("-l").with(forged))?;
        assert!(stage.run("true")?.status.success());

        let logins = failed_logins(&stage, 5)?;
        let own = stage.user.name.as_str();
        let stranger = public(&stranger);
        let expected = [
            (own, "AUTH_METHOD_PASSWORD", None),
            (own, "AUTH_METHOD_KEYBOARD_INTERACTIVE", None),
            (own, "AUTH_METHOD_PUBLIC_KEY", Some(stranger)),
            // Nobody's key is asked for.
            ("nobody-here", "", None),
            (forged, "", None),
        ];
        // The newest comes first.
        for (login, (user, method, key)) in logins.iter().rev().zip(expected) {
            assert_eq!(login["user"], user, "{login}");
            assert_eq!(login["outcome"], "LOGIN_OUTCOME_FAILED", "{login}");
            assert_eq!(login["clientAddress"], "127.0.0.1", "{login}");
            assert!(login["clientPort"].as_u64().is_some_and(|port| port > 1024));
            let methods = &login["methods"];
            if method.is_empty() {
                assert!(methods.is_null(), "{login}");
                continue;
            }
            assert_eq!(methods.as_array().map(Vec::len), Some(1), "{login}");
            assert_eq!(
                (&methods[0]["method"], &methods[0]["failureCount"]),
                (&method.into(), &"1".into())
            );
            let keys = key.as_ref().map(|key| fingerprint(key)).transpose()?;
            assert_eq!(
                login["keyFingerprints"][0].as_str(),
                keys.as_deref(),
                "{login}"
            );
        }
        let table = stage
            .agent
            .cli()
            .text(&["failed-logins", "--user", forged])?;
        assert!(
            table.contains("127.0.0.1:") && table.contains("failed"),
            "{table}"
        );
        let coverage = stage.agent.cli().json(&["coverage", "--since", "1h"])?;
        assert_eq!(coverage["hosts"][0]["failedLoginCount"], "5", "{coverage}");
        stage.end()?;
    }
    Ok(())
}

fn refused(client: &Client) -> Result<()> {
    ensure!(
        !client.run("true", b"")?.status.success(),
        "a stranger logged in"
    );
    Ok(())
}
