//! Kernel events become sessions, each with one ordered timeline.
//!
//! A *session root* is a process that starts a program of the user's while
//! everything above it, up to the connection's first process, was sshd, and
//! that leads a POSIX session. What it forks stays in its session, however
//! deep. Terminals belong to a session by the pty's index, pipes by the inodes
//! the root was started with. The login comes from sshd's monitor protocol.
//!
//! | what a process of the session does | where |
//! |---|---|
//! | starts and ends programs | [`processes`], [`commands`] |
//! | holds ptys of its own | [`inner`] |
//! | changes files, moves them to or from the client | [`files`], [`transfers`] |
//! | talks to other hosts; sshd does, for the client | [`network`], [`forwards`] |
//! | reaches into other sessions, or is their client | [`links`] |
//! | hands work over | [`handoffs`] |
//!
//! Pure logic: the only way out is the [`Sink`](sink::Sink), the only clock is
//! the one passed in.

mod allowing;
mod bounds;
mod clock;
mod commands;
mod connection;
mod ending;
mod failed_logins;
mod files;
mod forwards;
mod gap_times;
mod handoffs;
mod identity;
mod inner;
mod limits;
mod lineage;
mod links;
mod losses;
mod marks;
mod network;
mod opening;
mod pipes;
mod processes;
mod programs;
mod resume;
mod session;
pub mod sink;
mod streams;
mod takeover;
mod terminals;
#[cfg(test)]
mod tests;
mod timeline;
mod transfers;

use std::collections::{BTreeMap, HashMap};

use auditty_recording::event::{Body, Marker};
use auditty_recording::session::{Host, Session};
use jiff::{SignedDuration, Timestamp};

use crate::capture::event::{Fact, KernelEvent};
use auditty_grants::GrantBook;
use connection::Connection;
use failed_logins::FailedLogins;
use lineage::{Owner, Processes, Roots, SessionKey};
use network::Socket;
pub use resume::Restart;
use session::OpenSession;
use sink::{ConnectionRecord, Sink};
pub use takeover::Connections;
use timeline::Out;

pub use allowing::Overdue;
pub use clock::Clock;
pub use failed_logins::{FailedLogin, Outcome};
pub use identity::{SystemUsers, UserNames};
pub use limits::{Counters, Limits};

/// A connection of which no server process was ever seen cannot be seen to end:
/// without sessions it is forgotten after this time of silence.
const FORGET_CONNECTION_NS: u64 = 60_000_000_000;

/// All connections, processes and open sessions of the host.
pub struct Sessions {
    host: Host,
    clock: Clock,
    users: Box<dyn UserNames + Send>,
    grants: GrantBook,
    limits: Limits,
    counters: Counters,
    connections: HashMap<u64, Connection>,
    processes: Processes,
    roots: Roots,
    sessions: BTreeMap<SessionKey, OpenSession>,
    /// Network connections whose end is waited for, by the kernel's name.
    sockets: HashMap<u64, Socket>,
    next_key: u64,
    /// Latest moment seen.
    now: u64,
    /// Up to when the sessions were matched with the grants.
    matched_at: Timestamp,
    /// When this agent went on with the sessions of one before.
    resumed_boot_ns: u64,
    /// Sessions were taken over, and what the rings hold is not applied yet.
    taking_over: bool,
    /// Connections as they were last kept for the next agent.
    kept: HashMap<u64, ConnectionRecord>,
    unrecorded: Vec<Unrecorded>,
    failed_logins: FailedLogins,
    /// Before this moment the hooks that cost something were not attached; they
    /// are not at its greatest value.
    attached_boot_ns: u64,
}

/// A login that was let in although nothing recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrecorded {
    /// The connection's first process.
    pub sshd_pid: u32,
    /// When it was let in.
    pub since: Timestamp,
    /// For the timeline of its sessions.
    pub message: String,
}

/// Process ids are used again: a session that begins this long after a login
/// with its connection's is not taken for that login's.
const LONGEST_CONNECTION: SignedDuration = SignedDuration::from_hours(24);

impl Sessions {
    /// No session yet.
    pub fn new(
        host: Host,
        clock: Clock,
        users: impl UserNames + Send + 'static,
        grants: GrantBook,
        limits: Limits,
    ) -> Self {
        Self {
            host,
            clock,
            users: Box::new(users),
            grants,
            limits,
            counters: Counters::default(),
            connections: HashMap::new(),
            processes: Processes::default(),
            roots: Roots::default(),
            sessions: BTreeMap::new(),
            sockets: HashMap::new(),
            next_key: 0,
            now: 0,
            matched_at: Timestamp::default(),
            resumed_boot_ns: 0,
            taking_over: false,
            kept: HashMap::new(),
            unrecorded: Vec::new(),
            failed_logins: FailedLogins::default(),
            attached_boot_ns: 0,
        }
    }

    /// Takes the next event. They come in the order of `boot_ns`, except those
    /// about adopted processes, which carry the start of the process.
    pub fn apply(&mut self, event: &KernelEvent, sink: &mut dyn Sink) {
        self.counters.events += 1;
        self.now = self.now.max(event.boot_ns);
        match &event.fact {
            Fact::ConnectionStart(start) => self.connection_start(event, start, sink),
            Fact::Fork { parent } => self.fork(event, *parent),
            Fact::Present { parent, server } => self.present(event, *parent, *server),
            Fact::Exec(exec) => self.exec(event, exec, sink),
            Fact::Exit { wait_status } => self.exit(event, *wait_status, sink),
            Fact::Terminal(data) => self.terminal(event, data, sink),
            Fact::WindowSize { pts, size } => self.window_size(event, *pts, *size, sink),
            Fact::Pipe(data) => self.pipe(event, data, sink),
            Fact::Monitor(message) => self.monitor(event, message),
            Fact::Loss(loss) => self.loss(event, loss, sink),
            Fact::TerminalClose { terminal } => self.terminal_close(event, *terminal, sink),
            Fact::TerminalWriter { terminal, pts } => {
                self.terminal_writer(event, (*terminal, *pts), sink);
            }
            Fact::TerminalInjection { terminal, pts } => {
                self.terminal_injection(event, (*terminal, *pts));
            }
            Fact::File(access) => self.file(event, access, sink),
            Fact::Socket(socket) => self.socket(event, socket, sink),
            Fact::Use(used) => self.used(event, *used, sink),
            Fact::Detached => self.detached(event.boot_ns, sink),
            Fact::Attached => self.attached(event.boot_ns, sink),
            Fact::HookStopped(stop) => self.hook_stopped(event.boot_ns, stop, sink),
            // What was blind until then says [`Fact::Attached`].
            Fact::HookMended(_) => {}
        }
    }

    /// No more events are at hand: what was joined is written, and changes are
    /// reported.
    pub fn end_of_batch(&mut self, sink: &mut dyn Sink) {
        self.end_of_takeover(sink);
        self.settle_forwards(sink);
        for key in self.keys() {
            self.settle(key, sink, false);
        }
    }

    /// Decides what only time decides. `now` is in nanoseconds since boot, and
    /// every event before it has been applied.
    pub fn tick(&mut self, now: u64, sink: &mut dyn Sink) {
        self.now = self.now.max(now);
        self.follow_grants(sink);
        self.settle_forwards(sink);
        for key in self.keys() {
            self.settle(key, sink, true);
        }
        let silent =
            |c: &Connection| self.now.saturating_sub(c.seen_boot_ns) >= FORGET_CONNECTION_NS;
        let connections = self.connections.iter().filter(|(_, c)| silent(c));
        let silent: Vec<u64> = connections.map(|(id, _)| *id).collect();
        for id in silent {
            self.drop_if_over(id);
        }
    }

    /// The wall clock may have been stepped: open sessions are told so.
    pub fn set_clock(&mut self, clock: Clock, sink: &mut dyn Sink) {
        let step = clock.step_from(self.clock);
        self.clock = clock;
        if let Some(message) = step {
            self.clock_stepped(&message, sink);
        }
    }

    /// Logins that were let in while nothing recorded: their sessions are told
    /// so when they are opened.
    pub fn set_unrecorded(&mut self, logins: Vec<Unrecorded>) {
        self.unrecorded = logins;
    }

    fn unrecorded(&self, session: &Session) -> Option<String> {
        let login = self.unrecorded.iter().find(|login| {
            // What the kernel counts from boot is no exact time of day.
            let after =
                session.start_time.duration_since(login.since) + SignedDuration::from_secs(5);
            session.connection.pid == login.sshd_pid
                && !after.is_negative()
                && after < LONGEST_CONNECTION
        });
        login.map(|login| login.message.clone())
    }

    /// The agent stops. Open sessions are told so and stay resumable. Where the
    /// kernel's rings go on, what has ended is still told by the next agent: its
    /// last output may be in them.
    pub fn shutdown(&mut self, goes_on: bool, sink: &mut dyn Sink) {
        for key in self.keys() {
            self.settle(key, sink, false);
            self.tell_notes(key, true, sink);
            let now = self.now;
            let Some(mut session) = self.sessions.remove(&key) else {
                continue;
            };
            let mut out = Out {
                sink,
                clock: self.clock,
                counters: &mut self.counters,
            };
            session.declare_detached(&mut out, now);
            if !goes_on {
                session.tell_end(&mut out, self.now, true);
                session.streams.flush_all(&mut session.timeline, &mut out);
                if session.is_over(u64::MAX) {
                    session.finish(&mut out, self.now);
                    continue;
                }
            }
            let marker = Marker {
                marker: "agent_stopped".into(),
                message: "The agent stopped while the session was open.".into(),
            };
            session.emit(&mut out, self.now, Body::Marker(marker));
            session.dirty = true;
            session.report(&mut out, self.now);
            self.sessions.insert(key, session);
        }
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Sessions whose recording is open.
    pub fn open_sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Whether nobody is connected, and no session goes on without a client.
    pub fn is_quiet(&self) -> bool {
        self.connections.is_empty() && self.sessions.is_empty()
    }

    fn keys(&self) -> Vec<SessionKey> {
        self.sessions.keys().copied().collect()
    }

    /// The session to which the process of an event belongs.
    fn session_of(&self, event: &KernelEvent) -> Option<SessionKey> {
        match self.processes.owner(event.pid) {
            Owner::Session(key) => Some(key),
            Owner::Server | Owner::Helper(_) | Owner::Unknown => None,
        }
    }

    /// An open session, and where its events go.
    fn open<'a>(
        &'a mut self,
        key: SessionKey,
        sink: &'a mut dyn Sink,
    ) -> Option<(&'a mut OpenSession, Out<'a>)> {
        let session = self.sessions.get_mut(&key)?;
        let out = Out {
            sink,
            clock: self.clock,
            counters: &mut self.counters,
        };
        Some((session, out))
    }

    /// Writes, tells and reports what is due, and finishes what is over.
    fn settle(&mut self, key: SessionKey, sink: &mut dyn Sink, tick: bool) {
        let now = self.now;
        self.tell_notes(key, false, sink);
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let mut out = Out {
            sink,
            clock: self.clock,
            counters: &mut self.counters,
        };
        if tick {
            session
                .streams
                .flush_old(now, &mut session.timeline, &mut out);
            session.give_up_unclaimed(now);
        } else {
            session.streams.flush(&mut session.timeline, &mut out);
        }
        session.declare_unfollowed(&mut out, now);
        session.tell_end(&mut out, now, false);
        if session.is_over(now) {
            self.finish(key, sink);
        } else {
            session.report(&mut out, now);
        }
    }

    fn finish(&mut self, key: SessionKey, sink: &mut dyn Sink) {
        self.tell_notes(key, true, sink);
        if let Some((session, mut out)) = self.open(key, sink) {
            session.tell_rest(&mut out);
        }
        self.declare_unseen_stream_loss(key, sink);
        let Some(session) = self.sessions.remove(&key) else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(&session.connection) {
            connection.sessions.retain(|open| *open != key);
            connection.pipes.retain(|_, pipe| pipe.session != key);
            connection.ptys.retain(|_, open| *open != key);
            connection.forwards = connection.forwards.filter(|open| *open != key);
        }
        self.sockets.retain(|_, socket| socket.session != key);
        self.roots.retain(|_, owner| owner != Owner::Session(key));
        self.drop_if_over(session.connection);
        let mut out = Out {
            sink,
            clock: self.clock,
            counters: &mut self.counters,
        };
        session.finish(&mut out, self.now);
    }
}
