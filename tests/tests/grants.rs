//! Who allowed it.

use std::fs;

use anyhow::Result;
use auditty_tests::{
    SOON, Stage,
    client::{Auth, Client},
    user::TestUser,
    wait_for,
};

fn grant(request_id: &str, user: &str) -> String {
    format!(
        "request_id = \"{request_id}\"\nrequester = \"alice@example.com\"\n\
         approvers = [\"bob@example.com\", \"carol@example.com\"]\naccess_flow = \"break-glass\"\n\
         unix_users = [\"{user}\"]\nvalid_from = \"2020-01-01T00:00:00Z\"\n\
         valid_until = \"2099-01-01T00:00:00Z\"\nreason = \"disk full\"\nticket = \"OPS-7\"\n"
    )
}

#[test]
fn granted_ungranted_and_a_malformed_file() -> Result<()> {
    let stage = Stage::new()?;
    let grants = stage.agent.folder().join("grants");
    fs::write(
        grants.join("broken.toml"),
        "request_id = \"r-0\"\napprovers = \"bob\"\n",
    )?;
    fs::write(grants.join("granted.toml"), grant("r-1", &stage.user.name))?;
    // Line 2 of it is wrong; the report says so.
    wait_for("the report of the malformed file", SOON, || {
        Ok(stage
            .agent
            .process
            .log()
            .contains("broken.toml:2")
            .then_some(()))
    })?;
    let stranger = TestUser::create(&stage.scene)?;
    let key = stage.sshd.authorize(&stranger)?;
    assert!(stage.run("true")?.status.success());
    assert!(
        Client::new(&stage.sshd, &stranger, Auth::Key(key))
            .run("true", b"")?
            .status
            .success()
    );

    let recordings = stage.recordings(2)?;
    let (granted, ungranted) = (recordings[0].session(), recordings[1].session());
    assert_eq!(granted["grant"]["status"], "granted");
    assert_eq!(granted["grant"]["grant"]["request_id"], "r-1");
    assert_eq!(
        granted["grant"]["grant"]["approvers"][1],
        "carol@example.com"
    );
    assert_eq!(ungranted["grant"]["status"], "ungranted");

    let cli = stage.agent.cli();
    let show = cli.text(&["show", &recordings[0].session_id()])?;
    for word in [
        "bob@example.com",
        "carol@example.com",
        "break-glass",
        "r-1",
        "OPS-7",
    ] {
        assert!(show.contains(word), "{word} in {show}");
    }
    let listed = |arguments: &[&str]| -> Result<String> {
        let arguments = [&["sessions"], arguments].concat();
        Ok(cli.json(&arguments)?.to_string())
    };
    let (first, second) = (recordings[0].session_id(), recordings[1].session_id());
    for arguments in [
        &["--grant-status", "granted"][..],
        &["--approver", "carol@example.com"],
        &["--access-flow", "break-glass"],
        &["--request-id", "r-1"],
    ] {
        let found = listed(arguments)?;
        assert!(
            found.contains(&first) && !found.contains(&second),
            "{arguments:?}: {found}"
        );
    }
    let found = listed(&["--grant-status", "ungranted"])?;
    assert!(
        found.contains(&second) && !found.contains(&first),
        "{found}"
    );
    stage.end()
}

#[test]
fn two_grants_that_match_are_ambiguous_and_an_old_one_is_expired() -> Result<()> {
    let mut stage = Stage::new()?;
    let grants = stage.agent.folder().join("grants");
    let old = TestUser::create(&stage.scene)?;
    let key = stage.sshd.authorize(&old)?;
    fs::write(grants.join("one.toml"), grant("r-1", &stage.user.name))?;
    fs::write(grants.join("two.toml"), grant("r-2", &stage.user.name))?;
    fs::write(
        grants.join("old.toml"),
        grant("r-3", &old.name).replace("2099", "2021"),
    )?;
    stage.agent.process.wait_for_log("grants=3", SOON)?;
    assert!(stage.run("true")?.status.success());
    assert!(
        Client::new(&stage.sshd, &old, Auth::Key(key))
            .run("true", b"")?
            .status
            .success()
    );

    let recordings = stage.recordings(2)?;
    let ambiguous = &recordings[0].session()["grant"];
    assert_eq!(ambiguous["status"], "ambiguous");
    assert_eq!(ambiguous["candidates"], serde_json::json!(["r-1", "r-2"]));
    assert_eq!(recordings[1].session()["grant"]["status"], "expired");
    stage.end()
}
