//! Sessions until the power fails. The agent's folders are on a disk that outlives
//! this machine, which never ends by itself: whoever boots it ends it.
//!
//! ```text
//! VM power ready            every session below has begun
//! VM saw <session> <n>      its client has got the line `<session> <n>`, and all before
//! ```
//!
//! Long sessions write a line now and then, short ones come and go beside them, so
//! that there is something in every state of a recording's life at any time.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{Sender, channel},
    thread,
};

use anyhow::{Context as _, Result};
use auditty_tests::{
    SOON, Scene, agent,
    client::{Auth, Client},
    sshd::Sshd,
    user::TestUser,
};

const LONG: usize = 3;

/// How often a long session writes, and how many lines a short one has.
const PAUSE: &str = "0.2";
const SHORT_LINES: u32 = 20;

/// Runs until the machine is gone; `boot` makes the names of its sessions unique
/// on the disk.
pub fn run(boot: &str, disk: &Path) -> Result<()> {
    let scene = Scene::new()?;
    let folder = disk.join("agent");
    configure(&folder)?;
    let sshd = Sshd::start(&scene, "")?;
    let user = TestUser::create(&scene)?;
    let key = sshd.authorize(&user)?;
    let mut process = scene.spawn("auditty-agent", &mut agent::command(&folder, &[]))?;
    process.wait_for_log("records the SSH sessions of", SOON)?;
    // What is cheapest to emulate.
    let client = Client::new(&sshd, &user, Auth::Key(key))
        .with("-oKexAlgorithms=curve25519-sha256")
        .with("-oCiphers=aes128-ctr")
        .with("-oMACs=umac-64@openssh.com");
    let (sender, lines) = channel();
    for number in 0..LONG {
        let (client, sender) = (client.clone(), sender.clone());
        let name = format!("boot{boot}-long{number}");
        thread::spawn(move || {
            let remote =
                format!("i=0; while :; do i=$((i+1)); echo {name} $i; sleep {PAUSE}; done");
            session(&client, &remote, &sender)
        });
    }
    let boot = boot.to_owned();
    thread::spawn(move || -> Result<()> {
        let socket = scene.path("control");
        let client = client
            .with("-oControlMaster=auto")
            .with("-oControlPersist=600")
            .with(format!("-oControlPath={}", socket.display()));
        for number in 0_u32.. {
            let name = format!("boot{boot}-short{number}");
            let remote = format!("for i in $(seq {SHORT_LINES}); do echo {name} $i; done");
            session(&client, &remote, &sender)?;
        }
        Ok(())
    });
    let (mut begun, mut ready) = (0, false);
    for line in lines {
        begun += usize::from(line.contains("-long") && line.ends_with(" 1"));
        println!("VM saw {line}");
        if begun == LONG && !ready {
            ready = true;
            println!("VM power ready");
        }
        std::io::stdout().flush()?;
    }
    anyhow::bail!("every session has ended: {}", process.log())
}

/// Runs a session, and passes on what its client gets.
fn session(client: &Client, remote: &str, sender: &Sender<String>) -> Result<()> {
    let mut ssh = client.clone().with("-tt").ssh();
    ssh.arg(remote).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut ssh = spawn(&mut ssh)?;
    let output = ssh.stdout.take().context("ssh has an output")?;
    for line in BufReader::new(output).lines() {
        sender.send(line?.trim_end().to_owned())?;
    }
    ssh.wait()?;
    Ok(())
}

fn spawn(command: &mut Command) -> Result<std::process::Child> {
    command
        .stderr(Stdio::null())
        .spawn()
        .context("ssh did not start")
}

/// The promise is one of the defaults: nothing of `[recording]` is set but more
/// chunks.
fn configure(folder: &Path) -> Result<()> {
    let path = folder.display();
    fs::create_dir_all(folder.join("grants"))?;
    let config = format!(
        "[host]\nid = \"power\"\nstate_directory = \"{path}/state\"\n\
         [recording]\nchunk_interval = \"2s\"\n\
         [store]\nurl = \"file://{path}/store\"\n\
         [collector]\nlisten = [\"unix:/run/collector.sock\"]\ndatabase = \"/run/collector.db\"\n\
         [grants]\ndirectory = \"{path}/grants\"\n\
         [spool]\ndirectory = \"{path}/spool\"\nreserve = \"1 MiB\"\n"
    );
    fs::write(folder.join("agent.toml"), config)?;
    Ok(())
}
