//! What a terminal showed is recorded, whatever was done to it and by whom.
//! `tests/README.md` says which threat each test answers.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use auditty_tests::{
    SOON, Stage,
    client::{Auth, Client, PROMPT, wait_for_hidden_input},
    program::compile,
    scene::output,
    skip,
    user::TestUser,
};

#[test]
fn a_terminal_used_by_io_uring() -> Result<()> {
    let stage = Stage::new()?;
    let program = compile(&stage.scene, "uring_tty", &[])?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    typist.line(&program.display().to_string())?;
    typist.expect("asked by io_uring> ")?;
    typist.line("typed for io_uring")?;
    typist.expect("got by io_uring: typed for io_uring")?;
    typist.expect(PROMPT)?;
    typist.line("exit")?;
    let typed = typist.typed();
    let (_, shown) = typist.finish(SOON)?;

    let recording = stage.recording()?;
    recording.assert_complete()?;
    assert_eq!(recording.bytes("output", "terminal")?, shown);
    assert_eq!(recording.typed()?, typed);
    let markers = recording.of("marker");
    let uses = markers
        .iter()
        .filter(|marker| marker["marker"] == "io_uring");
    assert_eq!(uses.count(), 1, "{markers:?}");
    stage.end()
}

/// Puts a command into the input of the own terminal.
const INJECT: &str = "python3 -c 'import fcntl
for byte in b\"/bin/echo injected\\n\": fcntl.ioctl(0, 0x5412, bytes([byte]))'";

#[test]
fn input_that_nobody_typed() -> Result<()> {
    const ALLOWED: &str = "/proc/sys/dev/tty/legacy_tiocsti";
    let stage = Stage::new()?;
    if Path::new(ALLOWED).exists() {
        let before = fs::read_to_string(ALLOWED)?;
        stage
            .scene
            .later(&format!("echo {} > {ALLOWED}", before.trim()))?;
        fs::write(ALLOWED, "1")?;
    }
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    typist.line(&INJECT.replace('\n', "\u{16}\n"))?;
    typist.expect("\ninjected\r\n")?;
    typist.expect(PROMPT)?;
    typist.line("exit")?;
    let (_, shown) = typist.finish(SOON)?;

    let recording = stage.recording()?;
    recording.assert_complete()?;
    assert_eq!(recording.bytes("output", "terminal")?, shown);
    recording.exec(&["/bin/echo", "injected"])?;
    let marked = recording.of("marker").into_iter();
    let injections = marked.filter(|marker| marker["marker"] == "terminal_injection");
    assert!(injections.count() >= 1, "the injection is marked");
    stage.end()
}

#[test]
fn games_with_the_modes_of_a_terminal() -> Result<()> {
    let stage = Stage::new()?;
    let mut typist = stage.client().shell_at_terminal(24, 80)?;
    typist.ready()?;
    typist.command("printf 'visible\\r\\e[8mconcealed\\e[0m\\n'; printf '\\e[?1049h'")?;
    typist.command("clear; printf 'on the other screen'; printf '\\e[?1049l'")?;
    typist.command("stty raw -echo; printf 'a raw\\nline\\n'; /bin/echo silent; stty sane")?;
    typist.command("stty rows 65535 cols 65535; /bin/echo immense; stty size")?;
    typist.resize(65535, 65535)?;
    typist.command("printf '\\e[65535;65535H'; seq 2000")?;
    typist.command("stty rows 1 cols 1; /bin/echo tiny; stty rows 24 cols 80")?;
    typist.line("exit")?;
    let (_, shown) = typist.finish(SOON)?;

    let recording = stage.recording()?;
    recording.assert_complete()?;
    assert_eq!(recording.bytes("output", "terminal")?, shown);
    for said in ["\u{1b}[8mconcealed", "on the other screen", "a raw\nline\n"] {
        assert!(recording.shown()?.contains(said), "{said:?}");
    }
    let sizes = recording.of("resize").into_iter();
    let mut sizes = sizes.map(|size| (size["rows"].as_u64(), size["columns"].as_u64()));
    assert!(sizes.any(|size| size == (Some(65535), Some(65535))));
    let peak = stage.agent.peak_memory()?;
    assert!(peak < 256 << 20, "the agent took {peak} bytes");
    stage.end()
}

#[test]
fn commands_typed_while_nothing_is_shown() -> Result<()> {
    const UNSEEN: &str = "/bin/echo ran unseen";
    let stage = Stage::new()?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    let terminal = typist.remote_terminal()?;
    typist.line("stty -echo; cat | sh; stty echo")?;
    wait_for_hidden_input(&terminal)?;
    typist.line(UNSEEN)?;
    typist.expect("ran unseen")?;
    typist.send("\u{4}")?;
    typist.expect(PROMPT)?;
    typist.line("exit")?;
    typist.finish(SOON)?;

    let recording = stage.recording()?;
    recording.assert_complete()?;
    recording.exec(&["/bin/echo", "ran", "unseen"])?;
    // The line with its end, and the end of input after it.
    let masked = recording.session()["counts"]["masked_bytes"].as_u64();
    assert_eq!(masked, Some(UNSEEN.len() as u64 + 2));
    stage.end()
}

#[test]
fn others_who_write_to_the_terminal() -> Result<()> {
    let stage = Stage::new()?;
    let other = TestUser::create(&stage.scene)?;
    let key = stage.sshd.authorize(&other)?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    let terminal = typist.remote_terminal()?;
    fs::write(&terminal, "written by root\n")?;
    typist.expect("written by root\r\n")?;
    output(Command::new("chmod").arg("622").arg(&terminal))?;
    let remote = format!("echo written by another session > {}", terminal.display());
    let client = Client::new(&stage.sshd, &other, Auth::Key(key));
    assert!(client.run(&remote, b"")?.status.success());
    typist.expect("written by another session\r\n")?;
    typist.line("exit")?;
    let (_, shown) = typist.finish(SOON)?;

    let recordings = stage.recordings(2)?;
    let of = |user: &TestUser| {
        let mut all = recordings.iter();
        let found = all.find(|one| one.session()["login"]["user"] == user.name);
        found.context("a recording of each")
    };
    of(&stage.user)?.assert_complete()?;
    of(&other)?.assert_complete()?;
    assert_eq!(of(&stage.user)?.bytes("output", "terminal")?, shown);
    stage.end()
}

#[test]
fn a_terminal_name_that_is_used_again() -> Result<()> {
    const LOGINS: usize = 12;
    let stage = Stage::new()?;
    let mut shown = Vec::new();
    for number in 0..LOGINS {
        let remote = format!("tty; seq {number}000 {number}100; kill -9 $$");
        shown.push(stage.client().run_tty(&remote)?.stdout);
    }
    let recordings = stage.recordings(LOGINS)?;
    let mut names = Vec::new();
    for (recording, shown) in recordings.iter().zip(&shown) {
        recording.assert_complete()?;
        assert_eq!(&recording.bytes("output", "terminal")?, shown);
        names.push(recording.session()["terminal"].to_string());
    }
    names.sort();
    names.dedup();
    if names.len() == LOGINS {
        skip!("this machine gave every login a terminal name of its own");
    }
    stage.end()
}
