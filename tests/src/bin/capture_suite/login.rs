//! Who logged in, from where.

use anyhow::{Result, ensure};
use auditty_tests::sshd::{fingerprint, public};

use crate::{account, outcome::Outcome, rig::Rig};

/// User, method, key and addresses are those that the client and the shell have.
pub fn login(rig: &mut Rig) -> Result<Outcome> {
    let run = rig.alone().run("echo $SSH_CONNECTION; id -u", b"")?;
    ensure!(run.status.success(), "ssh ended with {}", run.status);
    let recording = rig.recording()?;
    let outcome = account::declared(&recording)?;
    let session = recording.session();
    let login = &session["login"];
    let connection = &session["connection"];
    let word = |value: &serde_json::Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let addresses = [
        "client_address",
        "client_port",
        "server_address",
        "server_port",
    ]
    .map(|key| word(&connection[key]))
    .join(" ");
    let recorded = format!("{addresses}\n{}\n", word(&login["uid"]));
    let shell = String::from_utf8_lossy(&run.stdout).into_owned();
    ensure!(
        recorded == shell,
        "the recording says {recorded:?}, the shell {shell:?}"
    );
    if let Some(why) = rig.limited("the login, but") {
        return Ok(outcome.and(Outcome::Limit(why)));
    }
    let key = fingerprint(&public(rig.key()))?;
    for (name, expected) in [
        ("user", rig.user.name.as_str()),
        ("method", "public_key"),
        ("key_fingerprint", &key),
        ("evidence", "sshd_monitor"),
    ] {
        ensure!(login[name] == expected, "{name} is {}", login[name]);
    }
    Ok(outcome)
}
