//! The prompts of eleven programs: what is typed there is nowhere, not even in
//! the agent's memory, and only its length is known.
//! `tests/README.md` says which threat each test answers.

use std::path::Path;

use anyhow::{Context as _, Result};
use auditty_tests::{
    SOON, Stage,
    agent::Setting,
    client::{PROMPT, Typist, wait_for_hidden_input},
    scene::{Scene, output},
    traces::Traces,
};

/// A program that asks for a secret.
struct Prompt {
    name: &'static str,
    /// The command line.
    line: &'static str,
    /// What it shows when it asks: as often as there are words here.
    asks: &'static [&'static str],
}

const PROMPTS: [Prompt; 11] = [
    Prompt {
        name: "passwd",
        line: "passwd",
        asks: &["Current password: "],
    },
    Prompt {
        name: "su",
        line: "su -c true",
        asks: &["Password: "],
    },
    Prompt {
        name: "sudo",
        line: "sudo true",
        asks: &["password for "],
    },
    Prompt {
        name: "ssh-keygen",
        line: "ssh-keygen -q -t ed25519 -f new-key",
        asks: &["empty for no passphrase): ", "same passphrase again: "],
    },
    Prompt {
        name: "openssl",
        line: "openssl enc -aes-128-cbc -pbkdf2 -in /etc/hostname -out sealed",
        asks: &["encryption password:", "encryption password:"],
    },
    Prompt {
        name: "gpg",
        line: "gpg --quiet --pinentry-mode loopback --symmetric --output sealed.gpg /etc/hostname",
        asks: &["Enter passphrase: "],
    },
    Prompt {
        name: "psql",
        line: "psql -W -h 127.0.0.1 -p 1 nothing",
        asks: &["Password: "],
    },
    Prompt {
        name: "curl",
        line: "curl -u somebody http://127.0.0.1:1/",
        asks: &["for user 'somebody':"],
    },
    Prompt {
        name: "git",
        line: "printf 'protocol=https\\nhost=nowhere.example\\nusername=somebody\\n' \
               | git credential fill > /dev/null",
        asks: &["Password for 'https://somebody@nowhere.example': "],
    },
    Prompt {
        name: "python",
        line: "python3 -c 'import getpass; getpass.getpass()'",
        asks: &["Password: "],
    },
    Prompt {
        name: "read",
        line: "read -s -p 'Sec''ret: ' secret; unset secret",
        asks: &["Secret: "],
    },
];

/// Part of every secret that is typed, and of nothing else.
fn canary() -> Result<String> {
    let random = output(std::process::Command::new("openssl").args(["rand", "-hex", "8"]))?;
    Ok(format!("CANARY-{}", random.trim()))
}

/// Answers a program's prompts; how many bytes were typed, and how often.
fn answer(typist: &mut Typist, terminal: &Path, prompt: &Prompt, secret: &str) -> Result<u64> {
    let mut typed = 0;
    typist.line(prompt.line)?;
    for asks in prompt.asks {
        typist.expect(asks).context(prompt.name)?;
        wait_for_hidden_input(terminal).context(prompt.name)?;
        let line = format!("{secret}-for-{}", prompt.name);
        typist.line(&line)?;
        typed += line.len() as u64;
    }
    typist.expect(PROMPT).context(prompt.name)?;
    Ok(typed)
}

#[test]
fn eleven_prompts() -> Result<()> {
    let stage = Stage::new()?;
    stage.user.may_sudo(&stage.scene)?;
    let canary = canary()?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    let terminal = typist.remote_terminal()?;
    typist.command("echo typed-at-the-shell")?;
    let (mut hidden, mut lines) = (0, 0);
    for prompt in &PROMPTS {
        hidden += answer(&mut typist, &terminal, prompt, &canary)?;
        lines += prompt.asks.len() as u64;
    }
    let traces = Traces::of(&stage.agent);
    assert_eq!(traces.find(&canary)?, [""; 0], "while the session is open");
    assert!(traces.in_memory(&stage.user.name)?, "memory is searched");
    // gpg leaves a process behind; the recording would wait for its end.
    typist.command("gpgconf --kill all")?;
    typist.line("exit")?;
    let shown = typist.finish(SOON)?.1;
    assert!(
        !String::from_utf8_lossy(&shown).contains(&canary),
        "the client saw it"
    );

    let recording = stage.recording()?;
    recording.assert_complete()?;
    assert_eq!(traces.find(&canary)?, [""; 0], "after the session");
    assert!(
        !traces.find("typed-at-the-shell")?.is_empty(),
        "files are searched"
    );
    // What stands around the prompts is recorded; whether the end of a hidden
    // line still belongs to it depends on the program.
    let typed = recording.typed()?;
    for prompt in &PROMPTS {
        assert!(typed.contains(prompt.line), "{} in {typed}", prompt.line);
    }
    let masked = recording.session()["counts"]["masked_bytes"].as_u64();
    let masked = masked.context("a count")?;
    assert!(
        (hidden..=hidden + lines).contains(&masked),
        "{masked} masked, {hidden} typed"
    );
    stage.end()
}

/// One word typed where echo is off and lines are read, one where single keys
/// are read (raw mode), and one at the shell; what was recorded as typed, how
/// many bytes of it were masked, and where the hidden words left a trace.
struct Typed {
    words: [String; 3],
    recorded: String,
    masked: u64,
    sent: u64,
    traces: [Vec<String>; 2],
}

fn under(input: &str) -> Result<Typed> {
    let setting = Setting {
        extra: format!("[capture]\ninput = \"{input}\"\n"),
        ..Setting::default()
    };
    let stage = Stage::with(Scene::new()?, &setting)?;
    let canary = canary()?;
    let words = ["hidden", "raw", "plain"].map(|kind| format!("{kind}-{canary}"));
    let [hidden, raw, plain] = &words;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    let terminal = typist.remote_terminal()?;
    typist.line("read -r -s line")?;
    wait_for_hidden_input(&terminal)?;
    typist.line(hidden)?;
    typist.expect(PROMPT)?;
    typist.line(&format!("read -r -s -n {} -p 'Ra''w: ' line", raw.len()))?;
    typist.expect("Raw: ")?;
    typist.send(raw)?;
    typist.expect(PROMPT)?;
    typist.command(&format!(": {plain}"))?;
    let traces = Traces::of(&stage.agent);
    typist.line("exit")?;
    let sent = typist.typed().len() as u64;
    typist.finish(SOON)?;
    let recording = stage.recording()?;
    recording.assert_complete()?;
    let masked = recording.session()["counts"]["masked_bytes"].as_u64();
    let typed = Typed {
        recorded: recording.typed()?,
        masked: masked.unwrap_or_default(),
        sent,
        traces: [traces.find(hidden)?, traces.find(raw)?],
        words,
    };
    stage.end()?;
    Ok(typed)
}

#[test]
fn input_is_masked_where_lines_are_read_unseen() -> Result<()> {
    let typed = under("masked")?;
    let [hidden, raw, plain] = &typed.words;
    assert!(typed.recorded.contains(plain));
    assert_eq!(typed.traces[0], [""; 0]);
    let length = hidden.len() as u64;
    assert!(
        (length..=length + 1).contains(&typed.masked),
        "{} masked",
        typed.masked
    );
    // The declared limit: in raw mode a secret looks like any key.
    assert!(typed.recorded.contains(raw));
    Ok(())
}

#[test]
fn input_that_is_off_is_only_counted() -> Result<()> {
    let typed = under("off")?;
    assert_eq!(typed.recorded, "");
    assert_eq!(typed.masked, typed.sent);
    for traces in &typed.traces {
        assert_eq!(*traces, [""; 0]);
    }
    Ok(())
}

#[test]
fn input_in_full_is_all_of_it() -> Result<()> {
    let typed = under("full")?;
    for word in &typed.words {
        assert!(typed.recorded.contains(word), "{word}");
    }
    assert_eq!(typed.masked, 0);
    assert_eq!(typed.recorded.len() as u64, typed.sent);
    Ok(())
}
