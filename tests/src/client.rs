//! The stock `ssh` client: one-shot runs and a typist at a shell.

use std::{
    ffi::OsString,
    fs::File,
    io::{Read, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};

use nix::{
    pty::{OpenptyResult, openpty},
    sys::signal::{Signal, kill},
    unistd::{Pid, ttyname},
};

use crate::{SOON, scene::output, sshd::Sshd, user::TestUser, wait_for};

/// How a client logs in.
#[derive(Clone, Debug)]
pub enum Auth {
    /// With a private key (and its certificate, `<key>-cert.pub`, if there is one).
    Key(PathBuf),
    /// With the user's password, typed by sshpass.
    Password(String),
    /// With the user's password, as an answer to what PAM asks.
    KeyboardInteractive(String),
}

/// Where and as whom to log in.
#[derive(Clone, Debug)]
pub struct Client {
    port: u16,
    user: String,
    auth: Auth,
    log_level: &'static str,
    options: Vec<OsString>,
}

impl Client {
    /// A client for this server and user.
    pub fn new(sshd: &Sshd, user: &TestUser, auth: Auth) -> Self {
        Self {
            port: sshd.port,
            user: user.name.clone(),
            auth,
            log_level: "ERROR",
            options: Vec::new(),
        }
    }

    /// The same client of another server.
    #[must_use]
    pub fn at(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The same client, showing what the server says before the login.
    #[must_use]
    pub fn with_banners(mut self) -> Self {
        self.log_level = "INFO";
        self
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
            Auth::Password(password) => with_password(password, "password", program),
            Auth::KeyboardInteractive(password) => {
                with_password(password, "keyboard-interactive", program)
            }
        };
        command.args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o"]);
        command.arg(format!("LogLevel={}", self.log_level));
        command.args(["-o", "UserKnownHostsFile=/dev/null", "-o"]);
        command.arg(format!("Port={}", self.port));
        command.env("TERM", "xterm").env_remove("SSH_AUTH_SOCK");
        command
    }

    /// The same as one line, for programs that run ssh themselves: none of its
    /// words needs quoting.
    pub fn ssh_line(&self) -> String {
        let ssh = self.program("ssh");
        let words = std::iter::once(ssh.get_program()).chain(ssh.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        words.join(" ")
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

    /// Runs `ssh` with its options and no command, `stdin` as its input.
    pub fn run_bare(&self, stdin: &[u8]) -> Result<Output> {
        feed(&mut self.ssh(), stdin)
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
        Typist::start(&mut tty.ssh(), None)
    }

    /// Runs a command in a terminal, with somebody there to type.
    pub fn typist(&self, remote: &str) -> Result<Typist> {
        let tty = self.clone().with("-tt");
        Typist::start(tty.ssh().arg(remote), None)
    }

    /// Opens an interactive shell from a terminal of this size.
    pub fn shell_at_terminal(&self, rows: u16, columns: u16) -> Result<Typist> {
        let tty = self.clone().with("-tt");
        let pty = openpty(None, None)?;
        set_size(&ttyname(&pty.slave)?, rows, columns)?;
        Typist::start(&mut tty.ssh(), Some(pty))
    }
}

fn with_password(password: &str, method: &str, program: &str) -> Command {
    let mut command = Command::new("sshpass");
    command.arg("-e").env("SSHPASS", password).arg(program);
    command
        .arg("-o")
        .arg(format!("PreferredAuthentications={method}"));
    command
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

enum Keyboard {
    Pipe(ChildStdin),
    Terminal(File),
}

/// Somebody at a terminal over `ssh -tt`: types, and reads what comes.
pub struct Typist {
    child: Child,
    keyboard: Keyboard,
    /// The client's own terminal, where it has one.
    terminal: Option<PathBuf>,
    typed: Vec<u8>,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    /// Up to here the screen has been looked at.
    read: usize,
}

/// The prompt that [`Typist::ready`] sets.
pub const PROMPT: &str = "ready> ";

impl Typist {
    fn start(command: &mut Command, terminal: Option<OpenptyResult>) -> Result<Self> {
        let name = terminal
            .as_ref()
            .map(|pty| ttyname(&pty.slave))
            .transpose()?;
        let (input, master) = match terminal {
            None => (Stdio::piped(), None),
            Some(pty) => (Stdio::from(pty.slave), Some(File::from(pty.master))),
        };
        let mut child = command
            .stdin(input)
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
        let keyboard = match master {
            Some(master) => Keyboard::Terminal(master),
            None => Keyboard::Pipe(child.stdin.take().context("stdin is a pipe")?),
        };
        Ok(Self {
            child,
            keyboard,
            terminal: name,
            typed: Vec::new(),
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
        match &mut self.keyboard {
            Keyboard::Pipe(pipe) => pipe.write_all(keys.as_bytes())?,
            Keyboard::Terminal(master) => master.write_all(keys.as_bytes())?,
        }
        self.typed.extend_from_slice(keys.as_bytes());
        Ok(())
    }

    /// Everything that was typed.
    pub fn typed(&self) -> String {
        String::from_utf8_lossy(&self.typed).into_owned()
    }

    /// Changes the size of the client's own terminal.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let terminal = self
            .terminal
            .as_ref()
            .context("the client has no terminal")?;
        set_size(terminal, rows, columns)?;
        let pid = i32::try_from(self.pid()).context("a process id is an i32")?;
        Ok(kill(Pid::from_raw(pid), Signal::SIGWINCH)?)
    }

    /// The name of the terminal on the server, asked from the shell.
    pub fn remote_terminal(&mut self) -> Result<PathBuf> {
        let before = self.read;
        self.command("tty")?;
        let screen = self.screen();
        let answer = String::from_utf8_lossy(screen.get(before..).unwrap_or_default());
        let name = answer.lines().find(|line| line.starts_with("/dev/pts/"));
        Ok(PathBuf::from(
            name.context("`tty` printed no terminal")?.trim(),
        ))
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
        self.screen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for the client to end by itself; gives its status and everything
    /// it printed.
    pub fn finish(mut self, within: Duration) -> Result<(ExitStatus, Vec<u8>)> {
        let status = wait_for("the end of ssh", within, || Ok(self.child.try_wait()?))?;
        if let Some(reader) = self.reader.take() {
            reader
                .join()
                .map_err(|_| anyhow!("the reader of ssh's output failed"))?;
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

/// Waits until a terminal hides what is typed: echo off, line by line.
pub fn wait_for_hidden_input(terminal: &Path) -> Result<()> {
    wait_for("a password prompt", SOON, || {
        let state = output(Command::new("stty").arg("-a").arg("-F").arg(terminal))?;
        let words: Vec<_> = state.split([' ', '\n', ';']).collect();
        Ok((words.contains(&"-echo") && words.contains(&"icanon")).then_some(()))
    })
}

fn set_size(terminal: &Path, rows: u16, columns: u16) -> Result<()> {
    let (rows, columns) = (rows.to_string(), columns.to_string());
    output(
        Command::new("stty")
            .arg("-F")
            .arg(terminal)
            .args(["rows", &rows, "cols", &columns]),
    )?;
    Ok(())
}

/// Where `needle` begins in `haystack`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
