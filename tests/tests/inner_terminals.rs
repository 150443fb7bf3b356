//! Terminals inside the client's own: each is recorded for itself, byte for
//! byte. `tests/README.md` says which threat each test answers.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use auditty_tests::{
    SOON, Stage,
    client::{PROMPT, Typist, find, wait_for_hidden_input},
    store::Recording,
    traces::Traces,
    wait_for,
};

/// Number of the one inner terminal that a program of this name holds.
fn held_by(recording: &Recording, name: &str) -> Result<u64> {
    let all = recording.of("terminal_open");
    let mut held = all.iter().filter(|open| {
        let exe = open["exe"].as_str().unwrap_or_default();
        exe.rsplit('/')
            .next()
            .is_some_and(|program| program.starts_with(name))
    });
    let open = held
        .next()
        .with_context(|| format!("none of {name} among {all:?}"))?;
    ensure!(held.next().is_none(), "two of them: {all:?}");
    open["terminal"].as_u64().context("a number")
}

/// Logs in at a terminal of 24 × 80.
fn login(stage: &Stage) -> Result<Typist> {
    let mut typist = stage.client().shell_at_terminal(24, 80)?;
    typist.ready()?;
    Ok(typist)
}

/// Logs out; the recording, whose outer terminal is what the client saw.
fn logout(stage: &Stage, mut typist: Typist) -> Result<Recording> {
    typist.line("exit")?;
    let (_, shown) = typist.finish(SOON)?;
    let recording = stage.recording()?;
    recording.assert_complete()?;
    ensure!(
        recording.bytes("output", "terminal")? == shown,
        "the outer terminal differs"
    );
    Ok(recording)
}

#[test]
fn script_and_its_typescript() -> Result<()> {
    let stage = Stage::new()?;
    let mut typist = login(&stage)?;
    typist
        .command("script -qec 'seq 3000; printf \"\\\\377\\\\376\\\\033[31m\\\\n\"' typescript")?;
    typist.command("script -qec 'read -r line; echo got $line' second <<< typed")?;
    let recording = logout(&stage, typist)?;

    // The first line and the last are script's own.
    let typescript = fs::read(stage.user.home.join("typescript"))?;
    let begin = find(&typescript, b"\n").context("a first line")? + 1;
    let end = find(&typescript, b"\nScript done on").context("a last line")?;
    let opens = recording.of("terminal_open");
    let numbers: Vec<_> = opens.iter().map(|open| open["terminal"].as_u64()).collect();
    assert_eq!(numbers, [Some(0), Some(1), Some(2)]);
    assert!(
        opens[1]["exe"]
            .as_str()
            .is_some_and(|exe| exe.ends_with("/script"))
    );
    assert!(opens[1]["pid"].is_u64());
    assert!(recording.bytes_of_terminal("output", 1)? == typescript[begin..end]);
    let second = recording.bytes_of_terminal("output", 2)?;
    assert!(find(&second, b"got typed\r\n").is_some());
    // After it script types the end of its own input.
    let typed = recording.bytes_of_terminal("input", 2)?;
    assert!(typed.starts_with(b"typed\n"), "{typed:?}");
    assert_eq!(recording.session()["counts"]["inner_terminals"], 2);
    stage.end()
}

#[test]
fn panes_of_tmux() -> Result<()> {
    let stage = Stage::new()?;
    let mut typist = login(&stage)?;
    let tmux = "tmux -L auditty-test";
    typist.line(&format!("{tmux} -f /dev/null new-session 'PS1=one\\> sh'"))?;
    typist.expect("one>")?;
    typist.line(&format!(
        "{tmux} pipe-pane 'cat > pane'; {tmux} split-window 'PS1=two\\> sh'"
    ))?;
    typist.expect("two>")?;
    typist.line("seq 500 600; exit")?;
    typist.expect("600")?;
    typist.line("seq 100 200")?;
    typist.expect("200")?;
    typist.line("exit")?;
    typist.expect(PROMPT)?;
    let recording = logout(&stage, typist)?;

    let panes = recording.of("terminal_open");
    assert_eq!(panes.len(), 3, "{panes:?}");
    assert_eq!(panes[1]["exe"], panes[2]["exe"]);
    let pane = fs::read(stage.user.home.join("pane"))?;
    let one = recording.bytes_of_terminal("output", 1)?;
    assert!(
        find(&one, &pane).is_some_and(|_| !pane.is_empty()),
        "what tmux saw of it"
    );
    assert!(find(&one, b"199\r\n200\r\n").is_some());
    let two = recording.bytes_of_terminal("output", 2)?;
    assert!(find(&two, b"599\r\n600\r\n").is_some());
    // Keys are typed once at the client, and once more at the pane.
    let typed = recording.bytes_of_terminal("input", 1)?;
    assert!(find(&typed, b"seq 100 200\r").is_some());
    stage.end()
}

#[test]
fn a_window_of_screen() -> Result<()> {
    let stage = Stage::new()?;
    let mut typist = login(&stage)?;
    typist.line("screen -c /dev/null sh -c 'PS1=inside\\> exec sh'")?;
    typist.expect("inside>")?;
    typist.line("seq 100 300")?;
    typist.expect("300")?;
    typist.line("exit")?;
    typist.expect(PROMPT)?;
    let recording = logout(&stage, typist)?;
    let number = held_by(&recording, "screen")?;
    let window = recording.bytes_of_terminal("output", number)?;
    assert!(find(&window, b"299\r\n300\r\n").is_some());
    stage.end()
}

#[test]
fn sudo_with_a_terminal_of_its_own() -> Result<()> {
    let stage = Stage::new()?;
    stage.user.may_sudo(&stage.scene)?;
    let defaults = format!("/etc/sudoers.d/{}-pty", stage.user.name);
    stage.scene.later(&format!("rm -f {defaults}"))?;
    fs::write(&defaults, format!("Defaults:{} use_pty\n", stage.user.name))?;
    let mut typist = login(&stage)?;
    let terminal = typist.remote_terminal()?;
    typist.line("sudo bash -c 'tty; seq 400 450; read -s -r secret; echo has read'")?;
    wait_for_hidden_input(&terminal)?;
    typist.line(&stage.user.password)?;
    // Not the echo of the command.
    typist.expect("449\r\n450\r\n")?;
    let screen = String::from_utf8_lossy(&typist.screen()).into_owned();
    let inner = screen
        .split_whitespace()
        .filter_map(|word| word.find("/dev/pts/").and_then(|at| word.get(at..)))
        .map(PathBuf::from)
        .rfind(|name| *name != terminal);
    wait_for_hidden_input(&inner.with_context(|| format!("no inner terminal: {screen:?}"))?)?;
    typist.line("CANARY-inside-sudo")?;
    typist.expect("has read")?;
    typist.expect(PROMPT)?;
    let recording = logout(&stage, typist)?;
    let inside = recording.bytes_of_terminal("output", held_by(&recording, "sudo")?)?;
    assert!(find(&inside, b"449\r\n450\r\n").is_some());
    for secret in ["CANARY-inside-sudo", &stage.user.password] {
        assert_eq!(Traces::of(&stage.agent).find(secret)?, [""; 0]);
    }
    stage.end()
}

#[test]
fn a_secret_typed_inside_tmux() -> Result<()> {
    const SECRET: &str = "CANARY-inside-tmux";
    let stage = Stage::new()?;
    let mut typist = login(&stage)?;
    typist.line("tmux -L auditty-test -f /dev/null new-session \"bash --norc\"")?;
    typist.expect("bash")?;
    typist.line("clear; tty; read -s -r secret; echo has''-read")?;
    typist.expect("/dev/pts/")?;
    let pane = wait_for("the pane's terminal", SOON, || {
        let screen = String::from_utf8_lossy(&typist.screen()).into_owned();
        let at = screen.rfind("/dev/pts/").context("it was shown")?;
        let name: String = screen[at..]
            .chars()
            .take_while(|c| !c.is_control())
            .collect();
        Ok(Some(PathBuf::from(name.trim())))
    })?;
    wait_for_hidden_input(&pane)?;
    typist.line(SECRET)?;
    typist.expect("has-read")?;
    typist.line("exit")?;
    typist.expect(PROMPT)?;
    let recording = logout(&stage, typist)?;
    assert_eq!(Traces::of(&stage.agent).find(SECRET)?, [""; 0]);
    // At the client's terminal and at the pane's.
    let masked = recording.session()["counts"]["masked_bytes"].as_u64();
    assert!(masked >= Some(2 * SECRET.len() as u64), "{masked:?} masked");
    stage.end()
}

#[test]
fn commands_of_an_editor() -> Result<()> {
    let stage = Stage::new()?;
    let mut typist = login(&stage)?;
    typist.line("vim -u NONE -N")?;
    typist.send(":!/bin/echo from the edi''tor\r")?;
    typist.expect("from the editor")?;
    typist.expect("ENTER")?;
    typist.send("\r:terminal /bin/echo in its terminal\r")?;
    wait_for("the command in the editor's terminal", SOON, || {
        let recordings = stage.agent.store().recordings()?;
        let ran = recordings
            .iter()
            .any(|one| one.exec(&["/bin/echo", "in", "its", "terminal"]).is_ok());
        Ok(ran.then_some(()))
    })?;
    typist.send("\u{17}:qa!\r:qa!\r")?;
    typist.expect(PROMPT)?;
    let recording = logout(&stage, typist)?;
    recording.exec(&["/bin/echo", "from", "the", "editor"])?;
    let number = held_by(&recording, "vim")?;
    assert_eq!(
        recording.bytes_of_terminal("output", number)?,
        b"in its terminal\r\n"
    );
    stage.end()
}
