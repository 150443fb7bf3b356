//! What is typed while it is hidden is nowhere; what is typed at a shell is.

use std::{fs, path::Path, process::Command};

use anyhow::Result;
use auditty_tests::{
    SOON, Stage,
    client::{Auth, Client, PROMPT, find, wait_for_hidden_input},
    scene::files_below,
};

const READ: &str = "Tq7-read-secret-Zx";

/// Every file below `folder`, compressed ones unpacked, that holds `secret`.
fn holders(folder: &Path, secret: &str) -> Result<Vec<String>> {
    let mut holders = Vec::new();
    for file in files_below(folder)? {
        let raw = fs::read(&file).unwrap_or_default();
        // An open chunk of the spool is cut: what comes out until there counts.
        let unpacked = Command::new("zstd")
            .arg("-dcqf")
            .arg(&file)
            .output()?
            .stdout;
        let both = [raw, unpacked].concat();
        if find(&both, secret.as_bytes()).is_some() {
            holders.push(file.display().to_string());
        }
    }
    Ok(holders)
}

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

    // The agent's folder: store, spool, database, state. Its log is beside it.
    let agent = stage.agent.folder().to_owned();
    let everywhere = |secret: &str| -> Result<Vec<String>> {
        let mut found = holders(&agent, secret)?;
        if stage.agent.process.log().contains(secret) {
            found.push("the agent's log".to_owned());
        }
        Ok(found)
    };
    for secret in [READ, &password] {
        assert_eq!(everywhere(secret)?, [""; 0], "while the session is open");
    }
    typist.line("exit")?;
    typist.finish(SOON)?;
    let recording = stage.recording()?;
    recording.assert_complete()?;
    for secret in [READ, &password] {
        assert_eq!(everywhere(secret)?, [""; 0], "after the session");
    }

    // The search finds what is there, and the shell's lines are.
    assert!(!everywhere("typed-at-the-shell")?.is_empty());
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
