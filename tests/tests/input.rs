//! What is typed at a shell, and the size of the window.

use anyhow::Result;
use auditty_tests::{SOON, Stage};

#[test]
fn every_key_of_a_shell_with_edits() -> Result<()> {
    let stage = Stage::new()?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    // Backspaces, arrows, to the begin and the end of the line, a word and a
    // line thrown away, a tab, history, and letters of two and three bytes.
    typist.command("ecko\u{7f}\u{7f}ho one")?;
    typist.command("cho two\u{1}e\u{5}!\u{7f}")?;
    typist.command("echo thre\u{1b}[D\u{1b}[D\u{1b}[C\u{1b}[Ce wrong\u{17}right")?;
    typist.command("rm -rf everything\u{15}echo gone")?;
    typist.command("\u{1b}[A")?;
    typist.command("ls /etc/hostn\t")?;
    typist.command("echo größe 終")?;
    typist.line("exit")?;
    let typed = typist.typed();
    let (status, shown) = typist.finish(SOON)?;
    assert!(status.success());

    let recording = stage.recording()?;
    recording.assert_complete()?;
    assert_eq!(recording.typed()?, typed);
    assert_eq!(recording.bytes("output", "terminal")?, shown);
    assert_eq!(recording.session()["session_kind"], "shell");
    stage.end()
}

#[test]
fn the_size_of_the_window_and_its_changes() -> Result<()> {
    let stage = Stage::new()?;
    let mut typist = stage.client().shell_at_terminal(33, 101)?;
    typist.ready()?;
    typist.resize(50, 132)?;
    // The shell sees the new size only once sshd has set it.
    typist.line("until [ \"$(stty size)\" = '50 132' ]; do sleep 0.1; done; echo res''ized")?;
    typist.expect("resized")?;
    typist.command("")?;
    typist.line("exit")?;
    typist.finish(SOON)?;

    let recording = stage.recording()?;
    let sizes: Vec<_> = recording
        .of("resize")
        .iter()
        .filter(|event| event["terminal"] == 0)
        .map(|event| (event["rows"].as_u64(), event["columns"].as_u64()))
        .collect();
    assert_eq!(sizes, [(Some(33), Some(101)), (Some(50), Some(132))]);
    stage.end()
}
