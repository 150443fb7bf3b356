//! Work that is given to others, and work in other namespaces.
//! `tests/README.md` says which threat each test answers.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, Result};
use auditty_tests::{
    SOON, Stage,
    client::{PROMPT, wait_for_hidden_input},
};

/// Command lines, and to whom each hands its work over; nobody where it only
/// asks.
const REQUESTS: [(&str, Option<&str>); 9] = [
    ("echo /bin/true | at now + 1 hour", Some("at")),
    ("atq", None),
    ("echo '0 0 1 1 * /bin/true' | crontab -", Some("cron")),
    ("crontab -l", None),
    ("crontab -r", None),
    ("systemd-run --user /bin/true", Some("systemd")),
    ("docker run --rm -it alpine id", Some("container")),
    ("docker ps", None),
    ("dbus-send --system --dest=x / x.y", Some("dbus")),
];

#[test]
fn work_that_is_handed_over() -> Result<()> {
    let stage = Stage::new()?;
    stage.scene.later(&format!(
        "rm -f /var/spool/cron/crontabs/{}",
        stage.user.name
    ))?;
    stage.scene.later(&format!(
        "for job in $(atq | awk '$NF == \"{}\" {{ print $1 }}'); do atrm $job; done",
        stage.user.name
    ))?;
    // What counts is the request: these need neither an engine nor a bus.
    for name in ["docker", "dbus-send"] {
        let client = stage.user.home.join(name);
        fs::copy("/bin/true", &client)?;
        fs::set_permissions(&client, fs::Permissions::from_mode(0o755))?;
    }
    let lines: Vec<_> = REQUESTS.iter().map(|(line, _)| *line).collect();
    let remote = format!("export PATH=$HOME:$PATH; {}; true", lines.join("; "));
    assert!(stage.run(&remote)?.status.success());

    let recording = stage.recording()?;
    recording.assert_complete()?;
    let handed: Vec<_> = recording
        .of("handoff")
        .iter()
        .map(|event| event["to"].clone())
        .collect();
    let expected: Vec<_> = REQUESTS.iter().filter_map(|(_, to)| *to).collect();
    assert_eq!(handed, expected);
    for handoff in recording.of("handoff") {
        let execs = recording.of("exec");
        let exec = execs.iter().find(|exec| exec["seq"] == handoff["exec_seq"]);
        assert_eq!(exec.context("its exec")?["pid"], handoff["pid"]);
    }
    stage.end()
}

#[test]
fn programs_in_other_namespaces() -> Result<()> {
    let stage = Stage::new()?;
    stage.user.may_sudo(&stage.scene)?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    let terminal = typist.remote_terminal()?;
    typist.command("unshare -Urmpf --mount-proc sh -c '/bin/echo apart $$; true'")?;
    typist.line("sudo nsenter -t $$ -m -u -i -n -p /bin/echo elsewhere")?;
    wait_for_hidden_input(&terminal)?;
    typist.line(&stage.user.password)?;
    typist.expect(PROMPT)?;
    typist.line("exit")?;
    typist.finish(SOON)?;

    let recording = stage.recording()?;
    recording.assert_complete()?;
    // In its namespace the shell is process 1; here it is not.
    let apart = recording.exec(&["/bin/echo", "apart", "1"])?;
    assert!(
        apart["pid"].as_u64() > Some(2) && apart["parent_pid"].as_u64() > Some(2),
        "{apart}"
    );
    let elsewhere = recording.exec(&["/bin/echo", "elsewhere"])?;
    assert_eq!(elsewhere["euid"], 0);
    assert!(recording.exit_of(elsewhere)?["exit_code"] == 0);
    assert!(recording.of("handoff").is_empty());
    stage.end()
}
