//! One SSH connection: its login, its ptys and pipes, and what waits for the
//! session it belongs to.

use std::collections::{BTreeMap, HashMap};

use auditty_recording::event::{ExitStatus, GapCause, Stream};
use auditty_recording::session::{self, Host};
use serde::{Deserialize, Serialize};

use super::forwards::HeldForwards;
use super::identity::{Identity, UserNames};
use super::lineage::SessionKey;
use super::links::Parent;
use super::sink::{ConnectionRecord, Waiting, WaitingPipe};
use crate::capture::event::{ConnectionStart, Direction, Exec, PipeData};

/// A connection with a live server process or an open session.
#[derive(Debug, Default)]
pub(super) struct Connection {
    pub described: session::Connection,
    pub identity: Identity,
    /// The server's word counts: the system's sshd, whose start was seen.
    pub trusted: bool,
    /// Its start was not seen, or not all of it.
    pub adopted: bool,
    /// Live processes of the server side.
    pub servers: u32,
    /// Sessions whose recording is open.
    pub sessions: Vec<SessionKey>,
    pub sessions_ever: u32,
    /// Last session on each pty.
    pub ptys: HashMap<u32, SessionKey>,
    /// Session of each life of a pty, by the kernel's name for it.
    pub terminals: HashMap<u64, SessionKey>,
    /// Pipes of sessions, by inode.
    pub pipes: HashMap<u64, ClaimedPipe>,
    pub pending: PendingPipes,
    /// Programs that server processes started for themselves, by server.
    pub held: HashMap<u32, HeldFacts>,
    held_events: usize,
    /// When the last of them did something.
    held_boot_ns: u64,
    pub seen_boot_ns: u64,
    pub stream_loss: StreamLoss,
    /// When its start was seen; 0 where it was not.
    pub began_boot_ns: u64,
    /// When the login was complete, where that was seen.
    pub login_boot_ns: Option<u64>,
    /// The pre-auth child ended without a login.
    pub turned_away: bool,
    /// It was let in, and at the bound of sessions nothing of it is recorded.
    pub unrecorded: bool,
    /// Something of what its processes said before the login was lost.
    pub login_lost: bool,
    /// How often it was told to end, as what it serves has outlived its grant.
    pub asked_to_end: u32,
    /// Its session of kind `forward`.
    pub forwards: Option<SessionKey>,
    pub held_forwards: HeldForwards,
    /// The session whose process is its client.
    pub parent: Option<Parent>,
    /// The session whose process became its server.
    pub started_in: Option<SessionKey>,
}

/// The session inside which a user's own server runs, where that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Within(pub Option<SessionKey>);

/// A pipe that belongs to a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClaimedPipe {
    pub session: SessionKey,
    pub stream: Stream,
    /// The end that counts: the other end shows the same bytes again.
    pub direction: Direction,
}

/// What the helpers of one server process did.
#[derive(Debug, Default)]
pub(super) struct HeldFacts {
    pub facts: Vec<Held>,
    /// Facts that found no room. They are the latest ones.
    pub lost: u64,
}

impl HeldFacts {
    fn len(&self) -> u64 {
        self.facts.len() as u64 + self.lost
    }
}

/// Something a helper did, until it is known whose helper it was.
#[derive(Debug)]
pub(super) struct Held {
    pub boot_ns: u64,
    pub pid: u32,
    pub what: HeldFact,
}

/// An exec, or an exit with its wait status.
#[derive(Debug)]
pub(super) enum HeldFact {
    Exec(Box<Exec>),
    Exit(u32),
}

/// Stream bytes the kernel lost on this connection, and those of them that
/// showed as holes between offsets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamLoss {
    /// Why.
    pub cause: Option<GapCause>,
    /// All of them.
    pub bytes: u64,
    /// Those that showed.
    pub shown_bytes: u64,
    /// After this moment.
    pub since_boot_ns: u64,
    /// Before this one.
    pub until_boot_ns: u64,
}

impl Connection {
    /// Whether this process only watches another, which serves the user: what it
    /// does then is sshd's own.
    pub(super) fn is_monitor(&self, pid: u32, users: &dyn UserNames) -> bool {
        pid == self.described.pid && self.identity.is_monitored(users)
    }

    pub(super) fn new(host: &Host, id: u64, pid: u32, start: Option<&ConnectionStart>) -> Self {
        let client = start.and_then(|start| start.client);
        let server = start.and_then(|start| start.server);
        let mut identity = Identity::default();
        if start.is_none_or(|start| start.adopted) {
            identity.freeze();
        }
        Self {
            described: session::Connection {
                connection_id: format!("{}-{id}", host.boot_id),
                client_address: client.map(|address| address.ip().to_canonical()),
                client_port: client.map(|address| address.port()),
                server_address: server.map(|address| address.ip().to_canonical()),
                server_port: server.map(|address| address.port()),
                server_exe: String::new(),
                pid,
            },
            identity,
            adopted: start.is_none_or(|start| start.adopted),
            trusted: start.is_none_or(|s| s.server_uid == 0 && s.parent_connection == 0),
            ..Self::default()
        }
    }

    /// Where the server runs; `None`: it is the system's, and what it runs for
    /// itself is nobody's.
    pub(super) fn within(&self) -> Option<Within> {
        (!self.trusted).then_some(Within(self.started_in))
    }

    /// A connection that an agent before has followed.
    pub(super) fn resume(record: ConnectionRecord) -> Self {
        let waiting = record.waiting;
        let lost = |(server, events): (u32, u64)| {
            let facts = Vec::new();
            (
                server,
                HeldFacts {
                    facts,
                    lost: events,
                },
            )
        };
        Self {
            held: waiting.programs.into_iter().map(lost).collect(),
            pending: PendingPipes::lost(waiting.pipes),
            held_forwards: HeldForwards::lost(waiting.forwards),
            described: record.described,
            identity: record.identity,
            trusted: record.trusted,
            sessions_ever: record.sessions_ever,
            began_boot_ns: record.began_boot_ns,
            login_boot_ns: record.login_boot_ns,
            turned_away: record.turned_away,
            stream_loss: record.stream_loss,
            ..Self::default()
        }
    }

    /// What the next agent needs of it.
    pub(super) fn record(&self, id: u64, users: &dyn UserNames) -> ConnectionRecord {
        ConnectionRecord {
            id,
            described: self.described.clone(),
            identity: self.identity.clone(),
            trusted: self.trusted,
            sessions_ever: self.sessions_ever,
            began_boot_ns: self.began_boot_ns,
            login_boot_ns: self.login_boot_ns,
            turned_away: self.turned_away,
            stream_loss: self.stream_loss.clone(),
            waiting: self.waiting(users),
        }
    }

    /// How much waits for a session that has not begun.
    fn waiting(&self, users: &dyn UserNames) -> Waiting {
        let programs = |(server, held): (&u32, &HeldFacts)| (*server, held.len());
        Waiting {
            programs: self.held.iter().map(programs).collect(),
            pipes: self.pending.waiting(),
            forwards: self.forwards_waiting(users),
        }
    }

    /// Whether it holds what came since `boot_ns` and may belong to a session that
    /// is about to begin: only the kernel's rings can bring that back, the next agent
    /// would know no more than how much it was ([`Waiting`]). sshd has
    /// pipes of its own, whose bytes wait for as long as the connection lives.
    pub(super) fn holds_since(&self, boot_ns: u64) -> bool {
        let helpers = !self.held.is_empty() && self.held_boot_ns >= boot_ns;
        let pipes = self.pending.bytes > 0 && self.pending.newest_boot_ns >= boot_ns;
        helpers || pipes || self.held_forwards.holds_since(boot_ns)
    }

    /// Keeps what a helper of `server` did. `false` at the bound.
    pub(super) fn hold(&mut self, server: u32, held: Held, bound: usize) -> bool {
        let waiting = self.held.entry(server).or_default();
        let room = self.held_events < bound && waiting.lost == 0;
        if room {
            self.held_events += 1;
            self.held_boot_ns = held.boot_ns;
            waiting.facts.push(held);
        } else {
            waiting.lost += 1;
        }
        room
    }

    /// One of its processes ended; `status` where that was seen. The pre-auth
    /// child exits with 0 when the login is complete and with 255 when it fails
    /// (OpenSSH `sshd.c`, `main`; `sshd-auth.c` since 10.0).
    pub(super) fn process_ended(&mut self, pid: u32, boot_ns: u64, status: Option<ExitStatus>) {
        if !self.identity.process_ended(pid) {
            return;
        }
        match status.map(|status| status.exit_code == Some(0)) {
            Some(true) => {
                self.login_boot_ns.get_or_insert(boot_ns);
            }
            Some(false) => self.turned_away = true,
            None => {}
        }
    }

    /// What the helpers of `server` did, in order.
    pub(super) fn take_held(&mut self, server: u32) -> HeldFacts {
        let held = self.held.remove(&server).unwrap_or_default();
        self.held_events -= held.facts.len();
        held
    }
}

/// Bytes of pipes that no session has claimed.
#[derive(Debug, Default)]
pub(super) struct PendingPipes {
    pipes: HashMap<u64, PendingPipe>,
    bytes: usize,
    /// When the last of these bytes were seen.
    newest_boot_ns: u64,
}

/// One such pipe. Both ends of it may be server processes.
#[derive(Debug, Default)]
pub(super) struct PendingPipe {
    pub pieces: Vec<PendingPiece>,
    /// Process that wrote to it, and the one that read from it.
    pub writer: Option<u32>,
    pub reader: Option<u32>,
    /// Bytes that found no room, input and output. They are the latest ones.
    pub lost: [u64; 2],
}

/// A piece of it.
#[derive(Debug)]
pub(super) struct PendingPiece {
    pub boot_ns: u64,
    pub direction: Direction,
    pub offset: Option<u64>,
    pub len: u32,
    /// `None`: withheld.
    pub data: Option<Vec<u8>>,
    /// Withheld as the content of a file transfer.
    pub transfer: bool,
}

impl PendingPipe {
    fn waiting(&self) -> WaitingPipe {
        let bytes = |direction, lost| {
            let own = self.pieces.iter().filter(|p| p.direction == direction);
            own.map(|piece| u64::from(piece.len)).sum::<u64>() + lost
        };
        let [input, output] = self.lost;
        WaitingPipe {
            writer: self.writer,
            reader: self.reader,
            input_bytes: bytes(Direction::Input, input),
            output_bytes: bytes(Direction::Output, output),
        }
    }
}

impl From<WaitingPipe> for PendingPipe {
    fn from(pipe: WaitingPipe) -> Self {
        Self {
            pieces: Vec::new(),
            writer: pipe.writer,
            reader: pipe.reader,
            lost: [pipe.input_bytes, pipe.output_bytes],
        }
    }
}

impl PendingPiece {
    fn held(&self) -> usize {
        self.data.as_ref().map_or(0, Vec::len)
    }
}

/// Pipes of one connection that may wait at once: sshd has a handful of its own,
/// and three per session that is about to begin.
const MAX_PENDING_PIPES: usize = 64;

/// Pieces per pipe, against a flood of tiny ones.
const MAX_PENDING_PIECES: usize = 4096;

impl PendingPipes {
    /// What waited in an agent before, and is lost.
    fn lost(pipes: BTreeMap<u64, WaitingPipe>) -> Self {
        let pipes = pipes.into_iter().map(|(inode, pipe)| (inode, pipe.into()));
        Self {
            pipes: pipes.collect(),
            ..Self::default()
        }
    }

    fn waiting(&self) -> BTreeMap<u64, WaitingPipe> {
        let pipes = self.pipes.iter();
        pipes
            .map(|(inode, pipe)| (*inode, pipe.waiting()))
            .collect()
    }

    /// Keeps a piece while there is room. `false` when it found none at all.
    pub(super) fn push(&mut self, boot_ns: u64, pid: u32, piece: &PipeData, bound: usize) -> bool {
        let full = self.pipes.len() >= MAX_PENDING_PIPES;
        if full && !self.pipes.contains_key(&piece.inode) {
            return false;
        }
        let pipe = self.pipes.entry(piece.inode).or_default();
        let (end, lost) = match piece.direction {
            Direction::Input => (&mut pipe.writer, 0),
            Direction::Output => (&mut pipe.reader, 1),
        };
        end.get_or_insert(pid);
        let Some(lost) = pipe.lost.get_mut(lost) else {
            return false;
        };
        let held = piece.data.as_ref().map_or(0, Vec::len);
        let crowded = pipe.pieces.len() >= MAX_PENDING_PIECES;
        if *lost > 0 || crowded || self.bytes + held > bound {
            *lost += u64::from(piece.len);
            return true;
        }
        self.bytes += held;
        self.newest_boot_ns = boot_ns;
        pipe.pieces.push(PendingPiece {
            boot_ns,
            direction: piece.direction,
            offset: piece.offset,
            len: piece.len,
            data: piece.data.clone(),
            transfer: piece.transfer,
        });
        true
    }

    pub(super) fn get(&self, inode: u64) -> Option<&PendingPipe> {
        self.pipes.get(&inode)
    }

    pub(super) fn take(&mut self, inode: u64) -> PendingPipe {
        let pipe = self.pipes.remove(&inode).unwrap_or_default();
        self.bytes -= pipe.pieces.iter().map(PendingPiece::held).sum::<usize>();
        pipe
    }

    /// Pipes into which this process writes.
    pub(super) fn written_by(&self, pid: u32) -> Vec<u64> {
        let own = self
            .pipes
            .iter()
            .filter(|(_, pipe)| pipe.writer == Some(pid));
        own.map(|(inode, _)| *inode).collect()
    }

    /// Bytes that were never claimed.
    pub(super) fn unclaimed_bytes(&self) -> u64 {
        let lost: u64 = self.pipes.values().flat_map(|pipe| pipe.lost).sum();
        self.bytes as u64 + lost
    }
}
