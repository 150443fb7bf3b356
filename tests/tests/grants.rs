//! Who allowed it.

use std::{fs, process::Command};

use anyhow::Result;
use auditty_tests::{
    SOON, Stage,
    agent::Setting,
    cli::Cli,
    client::{Auth, Client},
    scene::{Scene, output},
    sshd::{Sshd, certify, fingerprint, key_pair, public},
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
    let following = |name, verb| {
        let mut command = stage.agent.cli().command(&[verb, "--follow"]);
        stage.scene.spawn(name, &mut command)
    };
    let mut sessions = following("follow-sessions", "sessions")?;
    let mut alerts = following("follow-alerts", "alerts")?;
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

    let (first, second) = (recordings[0].session_id(), recordings[1].session_id());
    stage.agent.cli_after(&second)?;
    let cli = stage.agent.cli_after(&first)?;
    for user in [&stage.user.name, &stranger.name] {
        sessions.wait_for_log(user, SOON)?;
    }
    alerts.wait_for_log(&stranger.name, SOON)?;
    is_watched(&cli, &stranger.name, &second)?;
    let show = cli.text(&["show", &first])?;
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

/// What hosts, alerts and coverage say after one login with a grant and one, of
/// `stranger`, without.
fn is_watched(cli: &Cli, stranger: &str, session_id: &str) -> Result<()> {
    let host = wait_for("the host", SOON, || {
        let known = cli.json(&["hosts"])?["hosts"][0].clone();
        Ok((!known["agentVersion"].is_null()).then_some(known))
    })?;
    assert_eq!(host["name"], "hosts/test-host");
    assert_eq!(host["state"], "HOST_STATE_LIVE");
    assert_eq!(host["host"]["labels"]["env"], "test");
    assert!(host["host"]["captureMode"].is_string(), "{host}");
    let table = cli.text(&["hosts", "--live"])?;
    assert!(table.contains("env=test"), "{table}");
    assert_eq!(cli.text(&["hosts", "--silent"])?, "no hosts\n");

    let alerts = cli.json(&["alerts", "--kind", "ungranted_login"])?;
    let alerts = alerts["alerts"].as_array();
    assert_eq!(alerts.map(Vec::len), Some(1), "{alerts:?}");
    let table = cli.text(&["alerts"])?;
    let line = format!("{stranger} logged in to ");
    assert!(table.contains(&line), "{table}");

    let coverage = cli.json(&["coverage", "--since", "1h"])?["hosts"][0].clone();
    assert_eq!(coverage["loginCount"], "2");
    assert_eq!(coverage["ungrantedSessionCount"], "1");
    let csv = cli.text(&["coverage", "--output", "csv"])?;
    let row = csv.lines().nth(1).unwrap_or_default();
    assert!(row.starts_with("test-host,"), "{csv}");
    let csv = cli.text(&["sessions", "--output", "csv"])?;
    assert!(csv.starts_with("session_id,user,"), "{csv}");
    assert!(
        csv.contains(&format!("\n{session_id},{stranger},")),
        "{csv}"
    );
    Ok(())
}

/// For the user on hosts with the label that the tests' agents have.
fn grant_in_yaml(request_id: &str, user: &str, valid_until: &str) -> String {
    format!(
        "grants:\n- request_id: {request_id}\n  approvers: [bob@example.com]\n  \
         access_flow: on-call\n  unix_users: [{user}]\n  host_labels: {{env: te*}}\n  \
         valid_until: {valid_until}\n"
    )
}

/// One grant runs out while its session is open, another is withdrawn.
#[test]
fn sessions_end_with_their_grants() -> Result<()> {
    const FOR_EVER: &str = "2099-01-01T00:00:00Z";
    let setting = Setting {
        grants: "when_over = \"end\"".to_owned(),
        ..Setting::default()
    };
    let mut stage = Stage::with(Scene::new()?, &setting)?;
    let grants = stage.agent.folder().join("grants");
    let other = TestUser::create(&stage.scene)?;
    let key = stage.sshd.authorize(&other)?;
    let short = |until: &str| grant_in_yaml("r-short", &stage.user.name, until);
    fs::write(grants.join("short.yaml"), short(FOR_EVER))?;
    let withdrawn = grants.join("withdrawn.yml");
    fs::write(&withdrawn, grant_in_yaml("r-gone", &other.name, FOR_EVER))?;
    stage.agent.process.wait_for_log("grants=2", SOON)?;

    let mut first = stage.client().shell()?;
    first.ready()?;
    let mut second = Client::new(&stage.sshd, &other, Auth::Key(key)).shell()?;
    second.ready()?;
    let soon = output(Command::new("date").args(["-u", "-d", "+2 seconds", "+%FT%TZ"]))?;
    fs::write(grants.join("short.yaml"), short(soon.trim()))?;
    fs::remove_file(&withdrawn)?;
    // Nobody types: their sshd hangs up.
    first.finish(SOON)?;
    second.finish(SOON)?;

    for recording in stage.recordings(2)? {
        let session = recording.session();
        let (request, status) = match session["login"]["user"] == stage.user.name {
            true => ("r-short", "granted"),
            false => ("r-gone", "revoked"),
        };
        let granted = &session["grant"];
        assert_eq!(granted["grant"]["request_id"], request);
        assert_eq!(granted["status"], status);
        assert!(granted["outlived_at"].is_string());
        assert_eq!(session["end_reason"], "grant_over");
        let story = recording.of("marker");
        assert!(story.iter().any(|marker| marker["marker"] == "grant_over"));
        // How it stood before is on the timeline, too.
        assert_eq!(recording.of("grant")[0]["status"], "granted");
        let id = recording.session_id();
        let cli = stage.agent.cli_after(&id)?;
        wait_for("the end in the collector", SOON, || {
            let shown = cli.text(&["show", &id])?;
            let whole = shown.contains("outlived") && shown.contains("env=test");
            Ok(whole.then_some(()))
        })?;
    }
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

#[test]
fn each_certificate_has_a_grant_of_its_own() -> Result<()> {
    let scene = Scene::new()?;
    let authority = key_pair(&scene.path("authority"))?;
    let trusted = format!("TrustedUserCAKeys {}", public(&authority).display());
    let sshd = Sshd::start(&scene, &trusted)?;
    let mut stage = Stage::on(scene, sshd, &Setting::default())?;
    let grants = stage.agent.folder().join("grants");
    let ca = fingerprint(&public(&authority))?;
    let name = &stage.user.name;
    fs::write(grants.join("user.toml"), grant("r-user", name))?;
    for serial in [7, 8] {
        let one = grant(&format!("r-{serial}"), name);
        let only = format!("{{ key_id = \"alice\", serial = {serial}, ca = \"{ca}\" }}");
        let file = grants.join(format!("{serial}.toml"));
        fs::write(file, format!("{one}certificates = [{only}]\n"))?;
    }
    stage.agent.process.wait_for_log("grants=3", SOON)?;
    for serial in [8, 9] {
        let key = key_pair(&stage.scene.path(&format!("certified{serial}")))?;
        certify(&authority, &key, "alice", serial, &stage.user.name)?;
        let client = Client::new(&stage.sshd, &stage.user, Auth::Key(key));
        assert!(client.run("true", b"")?.status.success());
    }

    let recordings = stage.recordings(2)?;
    for (recording, request_id) in recordings.iter().zip(["r-8", "r-user"]) {
        let allowed = &recording.session()["grant"];
        assert_eq!(allowed["status"], "granted", "{allowed}");
        assert_eq!(allowed["grant"]["request_id"], request_id, "{allowed}");
    }
    stage.end()
}

/// As an access platform does it: through the collector, while the session runs.
#[test]
fn the_collector_grants_and_revokes() -> Result<()> {
    let setting = Setting {
        grants: "when_over = \"end\"".to_owned(),
        ..Setting::default()
    };
    let stage = Stage::with(Scene::new()?, &setting)?;
    let cli = stage.agent.cli();
    let mut shell = stage.client().shell()?;
    shell.ready()?;
    let becomes = |wanted: &str| {
        wait_for(wanted, SOON, || {
            let listed = cli.json(&["sessions", "--grant-status", wanted])?;
            let session = listed["sessions"].get(0).cloned();
            Ok(session)
        })
    };
    becomes("ungranted")?;
    let create = |approver: &str| {
        let ask = ["grants", "create", "r-9", "--approver", approver];
        let user = ["--user", &stage.user.name, "--host-label", "env=test"];
        cli.text(&[&ask[..], &user].concat())
    };
    create("bob@example.com")?;
    create("bob@example.com")?;
    // Another grant with its request id is none.
    let refused = format!("{:#}", create("eve@example.com").unwrap_err());
    assert!(refused.contains("another grant"), "{refused}");
    let grant = &becomes("granted")?["grant"]["grant"];
    assert_eq!(grant["requestId"], "r-9");
    assert_eq!(grant["approvers"][0], "bob@example.com");
    cli.text(&["grants", "revoke", "r-9", "--reason", "done"])?;
    // Nobody types: its sshd hangs up.
    shell.finish(SOON)?;
    becomes("revoked")?;
    let recording = stage.recording()?;
    let session = recording.session();
    assert_eq!(session["end_reason"], "grant_over");
    assert!(session["grant"]["outlived_at"].is_string());
    let story = recording.of("grant");
    let story: Vec<_> = story.iter().map(|grant| &grant["status"]).collect();
    assert_eq!(story, ["ungranted", "granted", "revoked"]);
    let shown = cli.text(&["grants", "show", "r-9"])?;
    for word in ["REVOKED", "done", "env=test"] {
        assert!(shown.contains(word), "{shown}");
    }
    assert!(cli.text(&["grants", "list"])?.contains("r-9"));
    assert_eq!(cli.text(&["grants", "list", "--in-force"])?, "no grants\n");
    stage.end()
}
