//! The demo: a real SSH login becomes a recording, and is looked at.
//! `cargo xtask demo` runs it.
#![forbid(unsafe_code)]

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use auditty_tests::{
    SOON, Scene,
    agent::{Agent, Setting, configure},
    client::{Auth, Client, PROMPT, wait_for_hidden_input},
    sshd::Sshd,
    store::{Recording, Store},
    user::TestUser,
};

const USER: &str = "auditty-demo";
const HIDDEN: &str = "correct horse battery staple";

fn main() -> Result<()> {
    let kept = tempfile::Builder::new()
        .prefix("auditty-demo-")
        .tempdir()?
        .keep();
    let scene = Scene::new()?;
    chapter("A server, a user and an agent of our own; nothing else here is touched");
    let sshd = Sshd::start(&scene, "")?;
    say(&format!(
        "sshd listens on 127.0.0.1:{}, with a throw-away host key",
        sshd.port
    ));
    let user = TestUser::create_named(&scene, USER)?;
    let key = sshd.authorize(&user)?;
    say(&format!(
        "the unix user {USER} exists until this demo ends, whatever happens"
    ));
    let agent = start_agent(&scene, &kept)?;
    say(&format!(
        "auditty-agent (process {}) watches from the kernel",
        agent.process.pid()
    ));

    chapter(&format!("{USER} logs in and types"));
    let screen = log_in(&Client::new(&sshd, &user, Auth::Key(key)))?;
    print!("{}", indented(&screen));

    let recording = Store::new(&kept).only(sshd.port)?;
    look(&agent, &recording)?;
    chapter("No CLI, no agent: the files alone");
    let folder = recording.folder.display();
    show(&format!("ls {folder}"))?;
    show(&format!("cd {folder} && sha256sum -c SHA256SUMS"))?;
    show(&format!(
        "cd {folder} && zstd -dcq *.jsonl.zst | jq -r 'select(.kind==\"exec\") | [.time, .argv[]] | join(\" \")'"
    ))?;

    chapter("Yours to keep");
    let session = recording.session_id();
    let auditty = auditty_tests::binary("auditty").canonicalize()?;
    say(&format!("recordings: {}", kept.display()));
    say("play it in asciinema:");
    say(&format!(
        "  {} export {session} --store {} --format asciicast-v2 --out demo.cast && asciinema play demo.cast",
        auditty.display(),
        kept.display()
    ));
    say("or here:");
    say(&format!(
        "  {} replay {session} --store {}",
        auditty.display(),
        kept.display()
    ));
    drop((agent, sshd));
    drop(scene);
    say(&format!("sshd, the agent and the user {USER} are gone"));
    Ok(())
}

/// An agent that keeps its recordings in `kept`, and a grant for the user.
fn start_agent(scene: &Scene, kept: &Path) -> Result<Agent> {
    let setting = Setting {
        store: format!("url = \"file://{}\"", kept.display()),
        ..Setting::default()
    };
    let folder = scene.path("agent");
    configure(&folder, &setting)?;
    let grant = format!(
        "request_id = \"REQ-4711\"\nrequester = \"alice@example.com\"\n\
         approvers = [\"bob@example.com\"]\naccess_flow = \"production-access\"\n\
         unix_users = [\"{USER}\"]\nreason = \"look into a full disk\"\nticket = \"OPS-42\"\n"
    );
    fs::write(folder.join("grants/demo.toml"), grant)?;
    Agent::start_again(scene, &setting)
}

/// What the user does; what the terminal showed.
fn log_in(client: &Client) -> Result<String> {
    let mut typist = client.shell_at_terminal(24, 80)?;
    typist.ready()?;
    let terminal = typist.remote_terminal()?;
    typist.command("df -h / | tail -1")?;
    typist.command("ecko\u{7f}\u{7f}ho 'typed with a correction'")?;
    typist.line("read -s -p 'Password: ' password")?;
    wait_for_hidden_input(&terminal)?;
    typist.line(HIDDEN)?;
    typist.expect(PROMPT)?;
    typist.command("sh -c 'nohup setsid /bin/sleep 0.2' 2>/dev/null")?;
    typist.line("exit 3")?;
    let (_, screen) = typist.finish(SOON)?;
    Ok(String::from_utf8_lossy(&screen).into_owned())
}

/// What a security team sees.
fn look(agent: &Agent, recording: &Recording) -> Result<()> {
    let session = recording.session_id();
    chapter("Which sessions were there?");
    let socket = agent.collector();
    agent.cli_after(&session)?;
    let auditty = auditty_tests::binary("auditty").canonicalize()?;
    let cli = |arguments: &str| {
        println!("\n  $ auditty {arguments}");
        let line = format!("'{}' {arguments} --collector '{socket}'", auditty.display());
        run(&line)
    };
    cli("sessions")?;
    chapter("Who was that, who allowed it, is it complete?");
    cli(&format!("show {session}"))?;
    chapter("What was run?");
    cli(&format!("commands {session}"))?;
    chapter("What did it look like?");
    cli(&format!("replay {session}"))?;
    let masked: u64 = recording
        .of("input")
        .iter()
        .filter_map(|e| e["masked_bytes"].as_u64())
        .sum();
    let everything = recording
        .events
        .iter()
        .map(ToString::to_string)
        .collect::<String>();
    anyhow::ensure!(!everything.contains(HIDDEN), "the password was recorded");
    say(&format!(
        "the password is in none of it: {masked} hidden bytes were only counted"
    ));
    Ok(())
}

fn chapter(title: &str) {
    println!("\n== {title}");
}

fn say(line: &str) {
    println!("  {line}");
}

fn show(line: &str) -> Result<()> {
    println!("\n  $ {line}");
    run(line)
}

fn run(line: &str) -> Result<()> {
    let output = Command::new("sh")
        .args(["-c", line])
        .output()
        .context("sh did not start")?;
    print!("{}", indented(&String::from_utf8_lossy(&output.stdout)));
    anyhow::ensure!(
        output.status.success(),
        "{line} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Without what a terminal would obey.
fn indented(text: &str) -> String {
    let printable = |letter: &char| !letter.is_control() || *letter == '\n';
    let text: String = text.chars().filter(printable).collect();
    text.lines().map(|line| format!("  | {line}\n")).collect()
}
