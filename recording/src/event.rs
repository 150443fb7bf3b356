//! One fact on a session's timeline, as it stands on one line of a chunk.
//!
//! Every line is a JSON object with `seq`, `time`, `boot_ns` and `kind`; the
//! other fields depend on `kind` and are documented on the types below. Field
//! names and kinds are stable: a reader ignores fields and kinds it does not
//! know.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

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
    Grant(GrantMatch),
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
    /// A declared loss.
    Gap(Gap),
    /// A note about the recording itself, such as a late start.
    Marker(Marker),
    /// The session's own process or its connection ended. Background processes
    /// may still follow on the timeline.
    SessionEnd(SessionEnd),
}

/// Every `kind` this version knows.
pub const KINDS: [&str; 12] = [
    "session_start",
    "login",
    "grant",
    "terminal_open",
    "resize",
    "output",
    "input",
    "exec",
    "exit",
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
    /// The bytes.
    #[serde(flatten)]
    pub data: Bytes,
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
}

/// A pty was first seen in this session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TerminalOpen {
    /// Number of the terminal within the session, from 0 (the client's own).
    pub terminal: u32,
    /// Its name on the host, such as `pts/3`. Names are reused.
    pub name: String,
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
}

/// What class of events is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapClass {
    /// Terminal or pipe output.
    Output,
    /// Input.
    Input,
    /// Execs, exits, forks.
    Process,
    /// Login and connection facts.
    Login,
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

/// A note about the recording itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// What it marks: `adopted`, `agent_stopped`, `agent_resumed`, `recovered`.
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
