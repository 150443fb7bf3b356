//! What is typed while it is hidden is nowhere; what is typed at a shell is.

use anyhow::Result;
use auditty_tests::{
    SOON, Stage,
    client::{Auth, Client, PROMPT, wait_for_hidden_input},
    traces::Traces,
};

const READ: &str = "Tq7-read-secret-Zx";

#[test]
fn a_hidden_password_is_in_no_file() -> Result<()> {
    let stage = Stage::new()?;
    stage.user.may_sudo(&stage.scene)?;
    let password = stage.user.password.clone();
    let login = Client::new(&stage.sshd, &stage.user, Auth::Password(password.clone()));
    let mut typist = login.shell()?;
    typist.ready()?;
    let terminal = typist.remote_terminal()?;
    typist.command("echo typed-at-the-shell")?;
    typist.line("read -s -p 'Secret: ' secret")?;
    wait_for_hidden_input(&terminal)?;
    typist.line(READ)?;
    typist.expect(PROMPT)?;
    typist.line("sudo /bin/true")?;
    wait_for_hidden_input(&terminal)?;
    typist.line(&password)?;
    typist.expect(PROMPT)?;

    let traces = Traces::of(&stage.agent);
    for secret in [READ, &password] {
        assert_eq!(traces.find(secret)?, [""; 0], "while the session is open");
    }
    typist.line("exit")?;
    typist.finish(SOON)?;
    let recording = stage.recording()?;
    recording.assert_complete()?;
    for secret in [READ, &password] {
        assert_eq!(traces.find(secret)?, [""; 0], "after the session");
    }

    // The search finds what is there, and the shell's lines are.
    assert!(!traces.find("typed-at-the-shell")?.is_empty());
    let typed = recording.typed()?;
    assert!(typed.contains("echo typed-at-the-shell\r"), "{typed}");
    let hidden: u64 = recording
        .of("input")
        .iter()
        .filter_map(|e| e["masked_bytes"].as_u64())
        .sum();
    let least = READ.len() + password.len();
    assert!(
        (least as u64..=least as u64 + 2).contains(&hidden),
        "{hidden} bytes masked"
    );
    assert_eq!(recording.session()["counts"]["masked_bytes"], hidden);
    stage.end()
}
