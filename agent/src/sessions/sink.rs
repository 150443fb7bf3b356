//! What the sessions hand downwards: events for the recording, and the state of
//! the session as a whole.

use std::collections::BTreeMap;

use auditty_recording::{
    event::{Body, Event, ExitStatus, GapClass},
    session::{Connection, Session},
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Clock;
pub use super::connection::StreamLoss;
use super::failed_logins::FailedLogin;
pub use super::gap_times::GapTimes;
pub use super::identity::Identity;
use super::network::Socket;
use super::programs::Program;
use super::transfers::Moved;

/// Where one byte stream of a session stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPosition {
    /// Which stream.
    pub stream: auditty_recording::event::Stream,
    /// Number of the terminal, for terminal streams.
    pub terminal: Option<u32>,
    /// Towards the client, or from it.
    pub output: bool,
    /// Position of the next byte.
    pub next_offset: u64,
    /// The same by the kernel's count, which goes on while the kernel programs
    /// do.
    #[serde(default)]
    pub kernel_next: Option<u64>,
}

/// A session's side in the kernel: what an agent needs that takes over its
/// rings, and goes on where they do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelSide {
    /// The connection, 0 while unknown.
    pub connection: u64,
    /// Its roots: the session's own, and those of sshd's helpers.
    pub roots: Vec<u64>,
    /// Process id of the sshd that holds its channel.
    pub server: u32,
    /// How its own process ended, and when; the status where it is known.
    pub exited: Option<(u64, Option<ExitStatus>)>,
    /// When its sshd ended, and how; the status where it is known.
    pub disconnected: Option<(u64, Option<ExitStatus>)>,
    /// Part of it was not captured because no agent was running.
    pub interrupted: bool,
    /// Since when the hooks on system calls are detached, which is not yet
    /// declared.
    pub detached_boot_ns: Option<u64>,
    /// Terminals with their columns and rows.
    pub sizes: Vec<(u32, u16, u16)>,
    /// Indices of its ptys.
    pub ptys: Vec<u32>,
    /// The kernel's name for the client's terminal.
    pub client_terminal: Option<u64>,
    /// The kernel's names for lives of its ptys.
    pub terminals: Vec<u64>,
    /// Open inner terminals: the kernel's name, the index, our number.
    pub inner: Vec<(u64, u32, u32)>,
    /// Sockets whose end is waited for.
    pub(super) sockets: Vec<(u64, Socket)>,
    /// What its processes run.
    pub(super) programs: Vec<(u32, Program)>,
    /// Repositories of which the last bytes are on their way.
    pub(super) moved: Vec<Moved>,
    /// When the latest of its processes ended, and whether any ran on.
    pub last_exit_boot_ns: u64,
    /// Processes ran on after its end.
    pub ran_on: bool,
    /// Its pipes.
    pub pipes: Vec<KnownPipe>,
    /// Programs that run.
    pub commands: Vec<RunningCommand>,
}

/// A pipe of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KnownPipe {
    /// Its inode.
    pub inode: u64,
    /// 0, 1, 2: standard input, output, error.
    pub descriptor: u8,
    /// The bytes that count are those that sshd reads from it.
    pub output: bool,
}

/// A program that runs in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunningCommand {
    /// Its process.
    pub pid: u32,
    /// Sequence number of its exec event.
    pub seq: u64,
    /// When it was started.
    pub boot_ns: u64,
    /// When the process was.
    pub process_boot_ns: u64,
}

/// A connection, for an agent that takes over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionRecord {
    /// The kernel's number of it.
    pub id: u64,
    /// Its ends.
    pub described: Connection,
    /// Who logged in.
    pub identity: Identity,
    /// The server's word counts.
    pub trusted: bool,
    /// How many sessions it had so far.
    pub sessions_ever: u32,
    /// When its start was seen; 0 where it was not.
    #[serde(default)]
    pub began_boot_ns: u64,
    /// When the login was complete, where that was seen.
    pub login_boot_ns: Option<u64>,
    /// It was not let in.
    #[serde(default)]
    pub turned_away: bool,
    /// What of its streams was lost.
    pub stream_loss: StreamLoss,
    /// What waited for a session that had not begun.
    #[serde(default)]
    pub waiting: Waiting,
}

/// What of a connection waited for a session that had not begun. The next agent has
/// only these counts of it, and declares that much lost once there is the session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// Programs begun and ended below a server process, by its process id.
    pub programs: BTreeMap<u32, u64>,
    /// Pipes that no session had claimed, by inode.
    pub pipes: BTreeMap<u64, WaitingPipe>,
    /// Sockets that sshd used.
    pub forwards: u64,
}

/// A pipe that no session had claimed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingPipe {
    /// Process that wrote to it.
    pub writer: Option<u32>,
    /// Process that read from it.
    pub reader: Option<u32>,
    /// Bytes that were written.
    pub input_bytes: u64,
    /// Bytes that were read.
    pub output_bytes: u64,
}

/// A session together with what is needed to go on with it after a restart of
/// the agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The session as it is known now.
    pub session: Session,
    /// Grows with every change of `session`.
    pub revision: u64,
    /// Sequence number of the next event.
    pub next_seq: u64,
    /// Process id of the session's own process, 0 while unknown.
    pub leader_pid: u32,
    /// When that process started, nanoseconds since boot.
    pub leader_start_boot_ns: u64,
    /// Where its streams stand.
    pub streams: Vec<StreamPosition>,
    /// When it began, nanoseconds since boot, 0 while unknown.
    #[serde(default)]
    pub start_boot_ns: u64,
    /// Moment of the latest event, nanoseconds since boot: what comes after it
    /// was missed when the agent was down.
    #[serde(default)]
    pub last_boot_ns: u64,
    /// Time of day of the last thing that happened in it: when it ended, where
    /// the host went down with it.
    #[serde(default)]
    pub last_time: Option<Timestamp>,
    /// From when to when something was not captured.
    #[serde(default)]
    pub gap_times: GapTimes,
    /// Its side in the kernel.
    #[serde(default)]
    pub kernel: KernelSide,
}

impl SessionRecord {
    /// An event is put on its timeline. Markers, gaps and the end are what the
    /// agent says of it.
    pub(crate) fn note_time(&mut self, event: &Event) {
        self.last_boot_ns = self.last_boot_ns.max(event.boot_ns);
        if !matches!(
            event.body,
            Body::Marker(_) | Body::Gap(_) | Body::SessionEnd(_)
        ) {
            self.last_time = Some(event.time);
        }
    }

    /// The time of day of a moment at which it ended: never before it began, and
    /// never sooner than it lasted, wherever the clock was set to meanwhile.
    pub(crate) fn end_at(&self, boot_ns: u64, clock: Clock) -> Timestamp {
        let begin = self.session.start_time;
        let lasted = match self.start_boot_ns {
            0 => 0,
            start => i64::try_from(boot_ns.saturating_sub(start)).unwrap_or(i64::MAX),
        };
        let least = begin.checked_add(SignedDuration::from_nanos(lasted));
        clock.wall(boot_ns).max(least.unwrap_or(begin))
    }

    /// Without what was done: the command that was asked for, and which programs
    /// run. The next agent looks those up again.
    pub fn without_content(&self) -> Self {
        let mut record = self.clone();
        record.session.command.clear();
        for (_, program) in &mut record.kernel.programs {
            program.exe.clear();
            if let Some(transport) = &mut program.transport {
                transport.clear_path();
            }
        }
        for moved in &mut record.kernel.moved {
            moved.clear_path();
        }
        record
    }
}

/// Why an event could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("the spool did not take the event: {0}")]
pub struct SinkError(pub String);

/// Takes what the sessions produce. Calls for one session come in order.
pub trait Sink {
    /// Appends an event to the session's recording; `record` already counts it.
    /// After an error the event
    /// is lost: its sequence number is free, and the caller declares the loss
    /// with a gap as soon as an append succeeds again.
    fn append(&mut self, record: &SessionRecord, event: &Event) -> Result<(), SinkError>;

    /// Whether events of an optional class are not taken now, although others
    /// are. The caller declares them, all in all, instead of appending them.
    fn sheds(&self, _class: GapClass) -> bool {
        false
    }

    /// The session's metadata changed (also at its start and end).
    fn changed(&mut self, record: &SessionRecord);

    /// What the next agent needs to go on exactly here, before everything is
    /// written out. No news for anybody else.
    fn keep(&mut self, record: &SessionRecord);

    /// Logins failed. What is taken is durable, or held until the disk is well;
    /// after an error it comes again. The same id again says more of the same.
    fn failed_logins(&mut self, logins: &[FailedLogin]) -> Result<(), SinkError>;

    /// Nothing more will be appended: seal, and write the manifest. The
    /// session's verdict is set.
    fn finished(&mut self, record: &SessionRecord);
}
