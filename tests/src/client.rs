//! The stock `ssh` client: one-shot runs and a typist at a shell.

use std::{
    ffi::OsString,
    io::{Read, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};

use crate::{SOON, sshd::Sshd, user::TestUser, wait_for};

/// How a client logs in.
#[derive(Clone, Debug)]
pub enum Auth {
    /// With a private key (and its certificate, `<key>-cert.pub`, if there is one).
    Key(PathBuf),
    /// With the user's password, typed by sshpass.
    Password(String),
}

/// Where and as whom to log in.
#[derive(Clone, Debug)]
pub struct Client {
    port: u16,
    user: String,
    auth: Auth,
    options: Vec<OsString>,
}

impl Client {
    /// A client for this server and user.
    pub fn new(sshd: &Sshd, user: &TestUser, auth: Auth) -> Self {
        Self {
            port: sshd.port,
            user: user.name.clone(),
            auth,
            options: Vec::new(),
        }
    }

    /// Adds an option to every run.
    #[must_use]
    pub fn with(mut self, option: impl Into<OsString>) -> Self {
        self.options.push(option.into());
        self
    }

    /// The command line of `program` (ssh, sftp, scp) up to where the
    /// destination follows.
    pub fn program(&self, program: &str) -> Command {
        let mut command = match &self.auth {
            Auth::Key(key) => {
                let mut command = Command::new(program);
                command.arg("-i").arg(key);
                command.args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]);
                command
            }
            Auth::Password(password) => {
                let mut command = Command::new("sshpass");
                command.arg("-e").env("SSHPASS", password).arg(program);
                command.args(["-o", "PubkeyAuthentication=no"]);
                command
            }
        };
        command.args(["-F", "none", "-o", "LogLevel=ERROR", "-o", "StrictHostKeyChecking=no"]);
        command.args(["-o", "UserKnownHostsFile=/dev/null", "-o"]);
        command.arg(format!("Port={}", self.port));
        command.env("TERM", "xterm").env_remove("SSH_AUTH_SOCK");
        command
    }

    /// `user@host`.
    pub fn destination(&self) -> String {
        format!("{}@127.0.0.1", self.user)
    }

    /// The `ssh` command line up to where the remote command follows.
    pub fn ssh(&self) -> Command {
        let mut command = self.program("ssh");
        command.args(&self.options).arg(self.destination());
        command
    }

    /// Runs a command without a terminal, `stdin` as its input.
    pub fn run(&self, remote: &str, stdin: &[u8]) -> Result<Output> {
        let mut command = self.ssh();
        command.arg(remote);
        feed(&mut command, stdin)
    }

    /// Runs a command in a terminal; standard output is what the client got.
    pub fn run_tty(&self, remote: &str) -> Result<Output> {
        let tty = self.clone().with("-tt");
        let mut command = tty.ssh();
        command.arg(remote);
        feed(&mut command, b"")
    }

    /// Opens an interactive shell.
    pub fn shell(&self) -> Result<Typist> {
        let tty = self.clone().with("-tt");
        Typist::start(&mut tty.ssh())
    }
}

/// Runs a command to its end with this input. Input is kept open until the
/// command ends when it is empty: a terminal's end of input is a hang-up.
fn feed(command: &mut Command, stdin: &[u8]) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{command:?} did not start"))?;
    let mut pipe = child.stdin.take().context("stdin is a pipe")?;
    let bytes = stdin.to_vec();
    let writer = thread::spawn(move || {
        // A command may end without having read everything.
        drop(pipe.write_all(&bytes));
        bytes.is_empty().then_some(pipe)
    });
    let output = wait_with_output(child)?;
    drop(writer.join());
    Ok(output)
}

fn wait_with_output(child: Child) -> Result<Output> {
    child.wait_with_output().context("could not wait for ssh")
}

/// Somebody at a terminal over `ssh -tt`: types, and reads what comes.
#[derive(Debug)]
pub struct Typist {
    child: Child,
    keyboard: Option<ChildStdin>,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    /// Up to here the screen has been looked at.
    read: usize,
}

/// The prompt that [`Typist::ready`] sets.
pub const PROMPT: &str = "ready> ";

impl Typist {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{command:?} did not start"))?;
        let mut stdout = child.stdout.take().context("stdout is a pipe")?;
        let screen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&screen);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                let mut screen = sink.lock().unwrap_or_else(PoisonError::into_inner);
                screen.extend_from_slice(&buffer[..count]);
            }
        });
        let keyboard = child.stdin.take();
        Ok(Self {
            child,
            keyboard,
            screen,
            reader: Some(reader),
            read: 0,
        })
    }

    /// Process id of the client.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types bytes.
    pub fn send(&mut self, keys: &str) -> Result<()> {
        let keyboard = self.keyboard.as_mut().context("the keyboard is closed")?;
        keyboard.write_all(keys.as_bytes())?;
        Ok(keyboard.flush()?)
    }

    /// Types a line.
    pub fn line(&mut self, line: &str) -> Result<()> {
        self.send(&format!("{line}\r"))
    }

    /// Waits for text that has not been waited for before.
    pub fn expect(&mut self, text: &str) -> Result<()> {
        let from = self.read;
        let found = wait_for(&format!("{text:?} on the screen"), SOON, || {
            let screen = self.screen();
            let rest = screen.get(from..).unwrap_or_default();
            Ok(find(rest, text.as_bytes()).map(|at| from + at + text.len()))
        });
        match found {
            Ok(read) => self.read = read,
            Err(error) => {
                let screen = String::from_utf8_lossy(&self.screen()).into_owned();
                return Err(anyhow!("{error}; it shows:\n{screen}"));
            }
        }
        Ok(())
    }

    /// Waits for the shell and gives it a prompt that is easy to wait for.
    pub fn ready(&mut self) -> Result<()> {
        // Quoted apart, so that the echo of this line is not the prompt.
        self.line("PS1='rea''dy> '; unset PROMPT_COMMAND; bind 'set enable-bracketed-paste off'")?;
        self.expect(PROMPT)
    }

    /// Types a line and waits for the next prompt.
    pub fn command(&mut self, line: &str) -> Result<()> {
        self.line(line)?;
        self.expect(PROMPT)
    }

    /// Everything the client printed so far, byte for byte.
    pub fn screen(&self) -> Vec<u8> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the client to end by itself; gives its status and everything
    /// it printed.
    pub fn finish(mut self, within: Duration) -> Result<(ExitStatus, Vec<u8>)> {
        let status = wait_for("the end of ssh", within, || Ok(self.child.try_wait()?))?;
        if let Some(reader) = self.reader.take() {
            reader.join().map_err(|_| anyhow!("the reader of ssh's output failed"))?;
        }
        Ok((status, self.screen()))
    }

    /// Kills the client.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Where `needle` begins in `haystack`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
