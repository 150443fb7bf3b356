//! Names, log lines and failed logins that try to be taken for a login.
//! `tests/README.md` says which threat each test answers.

use anyhow::{Result, ensure};
use auditty_tests::{
    Stage,
    client::{Auth, Client},
    sshd::{fingerprint, key_pair, public},
};

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
    stage.end()
}

fn refused(client: &Client) -> Result<()> {
    ensure!(
        !client.run("true", b"")?.status.success(),
        "a stranger logged in"
    );
    Ok(())
}
