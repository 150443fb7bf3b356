//! One fact on a session's timeline, as it stands on one line of a chunk.
//!
//! Every line is a JSON object with `seq`, `time`, `boot_ns` and `kind`; the
//! other fields depend on `kind` and are documented on the types below. Field
//! names and kinds are stable: a reader ignores fields and kinds it does not
//! know.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::bytes::Bytes;
use crate::session::{Connection, GrantMatch, Host, Login, SessionKind};

/// One line of a chunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the session, from 1, without a hole: a missing number is a
    /// missing line, never a skipped one.
    pub seq: u64,
    /// Wall clock of the host, RFC 3339 in UTC.
    pub time: Timestamp,
    /// Nanoseconds since boot (`CLOCK_BOOTTIME`): the order of events, immune
    /// to clock steps.
    pub boot_ns: u64,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
}

/// What happened; `kind` on the line names the variant in snake case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    /// The session began. Always `seq` 1.
    SessionStart(SessionStart),
    /// Who logged in. Repeated when better evidence arrives.
    Login(Login),
    /// How the login matched the grants. Repeated when the match changes.
    Grant(Box<GrantMatch>),
    /// A pty was first seen in this session.
    TerminalOpen(TerminalOpen),
    /// The terminal's window size, first or changed.
    Resize(Resize),
    /// Bytes shown to the client.
    Output(Output),
    /// Bytes the client sent.
    Input(Input),
    /// A process of the session started a program.
    Exec(Exec),
    /// A process of the session ended.
    Exit(Exit),
    /// A process of the session changed a file, or read a sensitive one.
    File(File),
    /// A file was transferred by sftp, scp, rsync or git.
    Transfer(Transfer),
    /// A network connection was begun, accepted or waited for: by a process of
    /// the session, or by sshd on the client's behalf (a forward).
    Connect(Connect),
    /// It ended.
    Disconnect(Disconnect),
    /// A tie to another session.
    Link(Link),
    /// Work was handed to something outside the session's process tree.
    Handoff(Handoff),
    /// A declared loss.
    Gap(Gap),
    /// A note about the recording itself, such as a late start.
    Marker(Marker),
    /// The session's own process or its connection ended. Background processes
    /// may still follow on the timeline.
    SessionEnd(SessionEnd),
}

/// Every `kind` this version knows.
pub const KINDS: [&str; 18] = [
    "session_start",
    "login",
    "grant",
    "terminal_open",
    "resize",
    "output",
    "input",
    "exec",
    "exit",
    "file",
    "transfer",
    "connect",
    "disconnect",
    "link",
    "handoff",
    "gap",
    "marker",
    "session_end",
];

impl Body {
    /// The `kind` under which the event is written.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SessionStart(_) => "session_start",
            Self::Login(_) => "login",
            Self::Grant(_) => "grant",
            Self::TerminalOpen(_) => "terminal_open",
            Self::Resize(_) => "resize",
            Self::Output(_) => "output",
            Self::Input(_) => "input",
            Self::Exec(_) => "exec",
            Self::Exit(_) => "exit",
            Self::File(_) => "file",
            Self::Transfer(_) => "transfer",
            Self::Connect(_) => "connect",
            Self::Disconnect(_) => "disconnect",
            Self::Link(_) => "link",
            Self::Handoff(_) => "handoff",
            Self::Gap(_) => "gap",
            Self::Marker(_) => "marker",
            Self::SessionEnd(_) => "session_end",
        }
    }
}

/// The first event of every session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionStart {
    /// Where it happened.
    pub host: Host,
    /// Over which SSH connection.
    pub connection: Connection,
    /// Shell, exec or subsystem.
    pub session_kind: SessionKind,
    /// The session was already open when the agent started: what came before
    /// was not captured.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
}

/// Where a byte stream belongs: a terminal, or one of the three pipes of a
/// session without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// The terminal; `terminal` on the line says which.
    Terminal,
    /// What the client sends to a command without a terminal.
    Stdin,
    /// What such a command prints.
    Stdout,
    /// What such a command prints as errors.
    Stderr,
}

/// Bytes shown to the client, exactly as sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Which stream.
    pub stream: Stream,
    /// Number of the terminal within the session; absent for pipes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<u32>,
    /// Position of the first byte in this stream and direction. A hole between
    /// one event's end and the next one's offset is a loss, and a `gap` says so.
    pub offset: u64,
    /// The bytes; empty when omitted.
    #[serde(flatten)]
    pub data: Bytes,
    /// How many bytes went by that are not stored: the content of a file
    /// transfer, of which `transfer` events give an account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted_bytes: Option<u64>,
}

/// Bytes the client sent. Where the terminal had echo off in canonical mode (a
/// password prompt) `masked_bytes` says how many bytes stood here and no byte
/// of them is stored anywhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Which stream.
    pub stream: Stream,
    /// Number of the terminal within the session; absent for pipes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<u32>,
    /// Position of the first byte in this stream and direction; masked bytes
    /// count.
    pub offset: u64,
    /// The bytes; empty when masked.
    #[serde(flatten)]
    pub data: Bytes,
    /// How many bytes were masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked_bytes: Option<u64>,
    /// How many bytes went by that are not stored: the content of a file
    /// transfer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted_bytes: Option<u64>,
    /// How many bytes stand in the chunk of input behind this one, which has its
    /// own recipients: the event with the same `seq` there has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted_bytes: Option<u64>,
}

impl Output {
    /// Bytes that went by, stored or not.
    pub fn len(&self) -> u64 {
        self.data.0.len() as u64 + self.omitted_bytes.unwrap_or_default()
    }

    /// Whether none did.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Input {
    /// Bytes that went by, stored, masked or omitted.
    pub fn len(&self) -> u64 {
        let elsewhere = [self.masked_bytes, self.omitted_bytes, self.encrypted_bytes];
        let elsewhere: u64 = elsewhere.into_iter().flatten().sum();
        self.data.0.len() as u64 + elsewhere
    }

    /// Takes out the bytes, leaving their number, for those who may not read
    /// what was typed.
    #[must_use]
    pub fn withheld(&self) -> Self {
        let bytes = self.data.0.len() as u64;
        Self {
            data: Bytes::default(),
            encrypted_bytes: (bytes > 0).then_some(bytes),
            ..self.clone()
        }
    }

    /// Whether none did.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A pty was first seen in this session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TerminalOpen {
    /// Number of the terminal within the session, from 0 (the client's own).
    /// Others are inner terminals, as tmux, screen, script and sudo make them.
    pub terminal: u32,
    /// Its name on the host, such as `pts/3`. Names are reused.
    pub name: String,
    /// Process that holds its master side; absent for the client's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Path of that process' image; absent for the client's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
}

/// The window size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resize {
    /// Number of the terminal within the session.
    pub terminal: u32,
    /// Width in character cells.
    pub columns: u16,
    /// Height in character cells.
    pub rows: u16,
}

/// A process of the session started a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    /// Process id on the host.
    pub pid: u32,
    /// Parent process id at that moment.
    pub parent_pid: u32,
    /// Path of the image that runs, from the kernel.
    pub exe: String,
    /// Path given to `execve`: the script where `exe` is its interpreter.
    pub filename: String,
    /// Working directory.
    pub cwd: String,
    /// Arguments as the new image has them. Not valid UTF-8: lossy here, exact
    /// in `argv_base64`.
    pub argv: Vec<String>,
    /// Exact arguments, base64, when any of them is not valid UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv_base64: Option<Vec<String>>,
    /// True length of the argument block in bytes, terminators included.
    pub argv_bytes: u64,
    /// `argv` holds less than `argv_bytes`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub argv_truncated: bool,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Login user id of the audit system; absent when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
    /// The image's file has no name any more, or never had one (memfd).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exe_deleted: bool,
}

/// A process of the session ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// Process id on the host.
    pub pid: u32,
    /// `seq` of the exec this ends; absent for a process that only forked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_seq: Option<u64>,
    /// How it ended.
    #[serde(flatten)]
    pub status: ExitStatus,
    /// Nanoseconds since its last exec, or its fork when it never did one.
    pub duration_ns: u64,
}

/// How a process ended: exactly one of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// Exit code, 0–255.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// Number of the signal that killed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u8>,
}

/// What was done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileOperation {
    /// It was opened, and exists since then.
    Create,
    /// It existed and was opened for writing.
    OpenWrite,
    /// It was opened for reading, and is on the host's list of sensitive paths.
    OpenRead,
    /// The name was removed.
    Delete,
    /// It has the name `target` now.
    Rename,
    /// It has the mode `mode` now.
    Chmod,
    /// It belongs to `uid` and `gid` now.
    Chown,
    /// The directory was made.
    Mkdir,
    /// The directory was removed.
    Rmdir,
    /// It has the second name `target`.
    Link,
    /// It is a symbolic link that says `target`.
    Symlink,
    /// Its length was changed.
    Truncate,
    /// It could not be executed. Names that do not exist are left out: looking
    /// for a program along `PATH` is no attempt. Of a program that ran, there is
    /// an `exec`.
    Execute,
}

/// A process of the session changed a file, or read a sensitive one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Process id on the host.
    pub pid: u32,
    /// What it did.
    pub operation: FileOperation,
    /// Absolute path.
    pub path: String,
    /// Second path: the new name, or what a link says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The path is what the process gave and not what the kernel resolved: a
    /// symbolic link or a race may have led elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub path_as_given: bool,
    /// Permission bits, where they are known: of a chmod the new ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// New owner, of a chown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// New group, of a chown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// The error number; absent when it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<u32>,
}

/// How files went over the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferProtocol {
    /// The sftp subsystem; also what scp uses since OpenSSH 9.0.
    Sftp,
    /// The old scp protocol.
    Scp,
    /// rsync.
    Rsync,
    /// git's pack protocol.
    Git,
}

/// Which way a file went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferDirection {
    /// From the client to the host.
    Upload,
    /// From the host to the client.
    Download,
}

/// A file was transferred: one event when the host's end (sftp-server, scp,
/// rsync, sshd itself) closed it. What these programs open for themselves is no
/// transfer: libraries, locales, the user database. The C library opens those
/// with `O_CLOEXEC` and they open what they transfer without it, so that decides
/// and not the path. Of git there is one event for each repository, when its end
/// exits; `bytes` is what went over the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Process id of the host's end.
    pub pid: u32,
    /// How.
    pub protocol: TransferProtocol,
    /// Which way.
    pub direction: TransferDirection,
    /// Absolute path on the host.
    pub path: String,
    /// Bytes of the file that were read or written.
    pub bytes: u64,
    /// Permission bits of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Nanoseconds from its opening to its closing.
    pub duration_ns: u64,
    /// The error number, where it could not even be opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<u32>,
}

/// How a network connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectRole {
    /// This side began it.
    Connect,
    /// This side waits for connections at `local`.
    Listen,
    /// The other side began it.
    Accept,
}

/// A network connection was begun, accepted or waited for.
///
/// sshd's own calls on the host's services (`/dev/log`, D-Bus, systemd, nscd,
/// sssd) are no forwards and are left out, so a client's forward to one of these
/// Unix sockets is too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    /// Process id on the host.
    pub pid: u32,
    /// sshd did it on the client's behalf: a forward (`-L`, `-R`, `-D`, `-W`,
    /// X11, agent). Absent: a process of the session did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forwarded: bool,
    /// Who began it.
    pub role: ConnectRole,
    /// This end: `address:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<std::net::SocketAddr>,
    /// The other end: `address:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<std::net::SocketAddr>,
    /// Path of a Unix socket; abstract names begin with `@`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unix_path: Option<String>,
}

/// A network connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disconnect {
    /// `seq` of the `connect` this ends.
    pub connect_seq: u64,
    /// Bytes this side sent; absent when the kernel does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    /// Bytes this side received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// Nanoseconds since it was begun.
    pub duration_ns: u64,
}

/// How two sessions are tied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkRelation {
    /// This session's client is a process of the other one (`ssh localhost`,
    /// a server of the user's own).
    Parent,
    /// The other session's client is a process of this one.
    Child,
    /// This session's terminal shows and drives a terminal of the other one,
    /// as an attached tmux client does.
    Drives,
    /// A terminal of this session is shown and driven by the other one.
    DrivenBy,
}

/// A tie to another session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// How.
    pub relation: LinkRelation,
    /// The other session.
    pub session_id: Uuid,
    /// The process that ties them.
    pub pid: u32,
}

/// Who took the work over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandoffTo {
    /// The service manager (`systemd-run`, `systemctl`, `machinectl`).
    Systemd,
    /// at or batch.
    At,
    /// cron (`crontab`).
    Cron,
    /// A container engine (`docker`, `podman`, `nerdctl`, `ctr`, `lxc`,
    /// `kubectl`).
    Container,
    /// D-Bus activation (`busctl`, `dbus-send`, `gdbus`).
    Dbus,
}

/// Work was handed to something outside the session's process tree: what comes
/// of it is not this session's, and is not recorded with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handoff {
    /// `seq` of the exec that asked for it.
    pub exec_seq: u64,
    /// The process that asked.
    pub pid: u32,
    /// Who took it over.
    pub to: HandoffTo,
}

/// Why something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// The kernel's ring buffer was full.
    RingFull,
    /// The kernel program could not read the memory.
    ReadFailed,
    /// The kernel program was skipped (`recursion_misses`).
    ProgramMissed,
    /// A table in the kernel was full.
    TableFull,
    /// More than the largest record that is captured at once.
    TooLarge,
    /// No agent was running.
    AgentDown,
    /// A record did not decode.
    Malformed,
    /// The spool was damaged or could not be written.
    Spool,
    /// A bound of the agent was reached.
    Bound,
    /// It is not known of which session of the connection it is: each that was
    /// open has this gap.
    Unattributed,
    /// Hooks were not attached: those that see more than processes after the last
    /// client had gone, so that inner terminals, files and network of what the
    /// session left running were not captured; before they were, for a login that
    /// was quicker; any of them while it did not work, of which a marker tells; or
    /// at all, where only probes inside sshd see what is shown and
    /// the server is not the sshd that has them.
    Detached,
}

/// What class of events is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapClass {
    /// Terminal or pipe output.
    Output,
    /// Input.
    Input,
    /// Exits and forks.
    Process,
    /// Execs: programs that were started.
    Exec,
    /// Login and connection facts.
    Login,
    /// File activity and transfers.
    File,
    /// Network activity.
    Network,
    /// Anything: the cause does not say.
    Any,
}

/// A declared loss: exactly this much is missing here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// Why.
    pub cause: GapCause,
    /// What.
    pub class: GapClass,
    /// How many events; absent when it cannot be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// How many bytes; absent when it cannot be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The stream that has the hole, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
    /// The terminal that has the hole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<u32>,
    /// Position of the first missing byte in the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Earliest moment of the loss, nanoseconds since boot.
    pub from_boot_ns: u64,
    /// Latest moment of the loss, nanoseconds since boot.
    pub to_boot_ns: u64,
}

/// [`Marker::marker`]: the last process that ran on after the end has ended.
pub const PROCESSES_ENDED: &str = "processes_ended";

/// A note about the recording itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// What it marks: `adopted`, `agent_stopped`, `agent_resumed`, `recovered`,
    /// `terminal_injection` (a process put bytes into a terminal's input),
    /// `processes_ended` (the last process that ran on after the end),
    /// `clock_stepped` (the time of day was set), `hook_stopped` (something in the
    /// kernel that captures did not work).
    pub marker: String,
    /// In words.
    pub message: String,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The session's own process exited by itself (logout, command done).
    Exited,
    /// The session's own process was killed by a signal.
    Killed,
    /// The SSH connection went away first.
    Disconnected,
    /// The server process that held it was killed by a signal, as its user can.
    ServerKilled,
    /// The agent ended it: it had outlived its grant.
    GrantOver,
    /// The host went down while it was open.
    HostReboot,
    /// It ended while no agent was running.
    Unknown,
}

/// The session's own process or its connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnd {
    /// Why.
    pub reason: EndReason,
    /// How the session's own process ended, where it did.
    #[serde(flatten)]
    pub status: ExitStatus,
    /// Processes of the session that were still running.
    pub running_processes: u32,
}
