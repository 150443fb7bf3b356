//! Sessions go on where the kernel's rings do.
//!
//! While no agent runs, pinned programs fill the rings. An agent writes down
//! now and then ([`Sessions::checkpoint`]) where every session and connection
//! stands, together with how far it has come in the rings; the next one begins
//! with both, and what it finds in the rings is the rest. Nothing is lost,
//! nothing comes twice, and no gap is declared.

use std::collections::HashMap;
use std::sync::Arc;

use auditty_recording::event::{Body, Marker, Stream};
use auditty_recording::session::SessionKind;

use super::Sessions;
use super::connection::{ClaimedPipe, Connection};
use super::ending::Ending;
use super::inner::InnerTerminals;
use super::lineage::{Command, Owner, Process, SessionKey};
use super::programs::Program;
use super::session::{OpenSession, Root};
use super::sink::{ConnectionRecord, KernelSide, KnownPipe, RunningCommand, SessionRecord, Sink};
use super::streams::Streams;
use super::timeline::Out;
use crate::capture::event::{Direction, WindowSize};

/// Commands that are remembered for each session: enough for every shell. Of
/// one beyond, the exit is not recorded after a restart.
const MAX_COMMANDS: usize = 4096;

/// What changed since the last checkpoint, besides the sessions themselves.
#[derive(Debug, Default)]
pub struct Connections {
    /// New ones, and those of which more is known.
    pub changed: Vec<ConnectionRecord>,
    /// Those that are over.
    pub gone: Vec<u64>,
}

impl Sessions {
    /// Whether something that came since `boot_ns` waits for a session that has
    /// not begun yet. Of that a checkpoint now would leave the next agent no more than
    /// how much it was.
    pub fn holds_since(&self, boot_ns: u64) -> bool {
        let mut connections = self.connections.values();
        connections.any(|connection| connection.holds_since(boot_ns))
    }

    /// Puts all that was joined on the timelines, and hands the sink what the
    /// next agent would need.
    pub fn checkpoint(&mut self, sink: &mut dyn Sink) -> Connections {
        for key in self.keys() {
            self.tell_notes(key, true, sink);
        }
        let mut commands = self.commands();
        for (key, session) in &mut self.sessions {
            let mut out = Out {
                sink,
                clock: self.clock,
                counters: &mut self.counters,
            };
            session.streams.flush_all(&mut session.timeline, &mut out);
            let connection = self.connections.get(&session.connection);
            let commands = commands.remove(key).unwrap_or_default();
            let roots = self.roots.of(session.connection, Owner::Session(*key));
            let mut side = session.kernel_side(*key, connection, roots, commands);
            let own = self.sockets.iter().filter(|(_, s)| s.session == *key);
            side.sockets = own.map(|(id, socket)| (*id, *socket)).collect();
            side.sockets.sort_unstable_by_key(|(id, _)| *id);
            let record = &mut session.timeline.record;
            record.kernel = side;
            if session.kept.as_ref() != Some(record) {
                sink.keep(record);
                session.kept = Some(record.clone());
            }
        }
        // Before the rings let go of what they are made from.
        self.failed_logins.tell(sink);
        self.changed_connections()
    }

    fn changed_connections(&mut self) -> Connections {
        let mut connections = Connections::default();
        for (id, connection) in &self.connections {
            let record = connection.record(*id, &*self.users);
            if self.kept.get(id) != Some(&record) {
                self.kept.insert(*id, record.clone());
                connections.changed.push(record);
            }
        }
        let gone = self
            .kept
            .keys()
            .filter(|id| !self.connections.contains_key(id));
        connections.gone = gone.copied().collect();
        for id in &connections.gone {
            self.kept.remove(id);
        }
        connections
    }

    /// What runs, by session.
    fn commands(&self) -> HashMap<SessionKey, Vec<RunningCommand>> {
        let mut commands: HashMap<SessionKey, Vec<RunningCommand>> = HashMap::new();
        for (pid, process) in &self.processes.0 {
            if let (Owner::Session(key), Some(command)) = (process.owner, process.command) {
                commands.entry(key).or_default().push(RunningCommand {
                    pid: *pid,
                    seq: command.seq,
                    boot_ns: command.boot_ns,
                    process_boot_ns: process.start_boot_ns,
                });
            }
        }
        for running in commands.values_mut() {
            running.sort_unstable();
            running.truncate(MAX_COMMANDS);
        }
        commands
    }

    /// Goes on with what an agent before has left in the rings. Returns the
    /// sessions of another boot, or of an agent without rings.
    pub(super) fn take_over(
        &mut self,
        records: Vec<SessionRecord>,
        connections: Vec<ConnectionRecord>,
    ) -> Vec<SessionRecord> {
        self.taking_over = true;
        for record in connections {
            self.kept.insert(record.id, record.clone());
            let id = record.id;
            let mut connection = Connection::resume(record);
            connection.seen_boot_ns = self.now;
            self.connections.insert(id, connection);
        }
        let boot_id = self.host.boot_id.clone();
        let (ours, others): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| {
            record.session.host.boot_id == boot_id && record.kernel.connection != 0
        });
        for record in ours {
            self.take_over_session(record);
        }
        others
    }

    fn take_over_session(&mut self, record: SessionRecord) {
        let side = record.kernel.clone();
        let (id, leader) = (side.connection, record.leader_pid);
        let leader_start = record.leader_start_boot_ns;
        let forwards = record.session.session_kind == SessionKind::Forward;
        let key = SessionKey(self.next_key);
        self.next_key += 1;
        self.sessions
            .insert(key, OpenSession::taken_over(record, self.now));
        let now = self.now;
        if let Some(connection) = self.connection(id, now) {
            connection.sessions.push(key);
            connection
                .ptys
                .extend(side.ptys.iter().map(|pts| (*pts, key)));
            let terminals = side.terminals.iter().map(|name| (*name, key));
            connection.terminals.extend(terminals);
            if forwards {
                connection.forwards = Some(key);
            }
            for pipe in &side.pipes {
                connection.pipes.insert(pipe.inode, claimed(pipe, key));
            }
        }
        for (id, mut socket) in side.sockets {
            socket.session = key;
            self.sockets.insert(id, socket);
        }
        for root in &side.roots {
            self.roots.set(id, *root, Owner::Session(key));
        }
        let mut process = |pid, start_boot_ns, command| {
            let process = Process {
                connection: id,
                parent: 0,
                start_boot_ns,
                owner: Owner::Unknown,
                adopted: false,
                present: false,
                command,
            };
            self.processes.0.entry(pid).or_insert(process);
            self.set_owner(pid, Owner::Session(key));
        };
        for RunningCommand {
            pid,
            seq,
            boot_ns,
            process_boot_ns,
        } in side.commands
        {
            process(pid, process_boot_ns, Some(Command { seq, boot_ns }));
        }
        // A subsystem inside sshd is no command.
        if leader != 0 && side.exited.is_none() {
            process(leader, leader_start, None);
        }
    }

    /// All that was in the rings is applied: the sessions go on, and of those
    /// whose processes are gone the end was missed.
    pub(super) fn end_of_takeover(&mut self, sink: &mut dyn Sink) {
        if !std::mem::take(&mut self.taking_over) {
            return;
        }
        let now = self.now;
        for session in self.sessions.values_mut() {
            if !std::mem::take(&mut session.taken_over) {
                continue;
            }
            let mut out = Out {
                sink,
                clock: self.clock,
                counters: &mut self.counters,
            };
            let marker = Marker {
                marker: "agent_resumed".into(),
                message: "Another agent has taken over; nothing was missed between.".into(),
            };
            session.emit(&mut out, now, Body::Marker(marker));
            let running = |pid| self.processes.0.contains_key(&pid);
            if session
                .root
                .is_some_and(|root| root.exited.is_none() && !running(root.pid))
            {
                session.root_exited(now, None);
            }
            let servers = self.connections.get(&session.connection).map(|c| c.servers);
            if servers.unwrap_or(0) == 0 && !session.closed {
                session.disconnected(now, None);
            }
        }
        let over: Vec<u64> = self.connections.keys().copied().collect();
        for id in over {
            self.drop_if_over(id);
        }
    }
}

impl OpenSession {
    fn taken_over(record: SessionRecord, now: u64) -> Self {
        let side = record.kernel.clone();
        let known = &record.session;
        let mut session = Self {
            streams: Streams::resume(&record.streams, true),
            connection: side.connection,
            interrupted: side.interrupted,
            detached_boot_ns: side.detached_boot_ns,
            identified: record.leader_pid != 0 || known.login != Default::default(),
            matched: record.leader_pid != 0 || known.grant != Default::default(),
            active_boot_ns: now,
            dirty: true,
            taken_over: true,
            sizes: side
                .sizes
                .iter()
                .map(|(terminal, columns, rows)| {
                    let (columns, rows) = (*columns, *rows);
                    (*terminal, WindowSize { columns, rows })
                })
                .collect(),
            client_terminal: side.client_terminal,
            inner: InnerTerminals::resume(&side.inner),
            programs: side
                .programs
                .iter()
                .map(|(pid, program)| (*pid, Arc::new(program.looked_up())))
                .collect(),
            moved: side.moved,
            last_exit_boot_ns: side.last_exit_boot_ns,
            ran_on: side.ran_on,
            root: (record.leader_pid != 0).then_some(Root {
                pid: record.leader_pid,
                server: side.server,
                exited: None,
            }),
            ..Self::default()
        };
        if known.end_reason.is_some() {
            session.ending = Ending::Told;
        }
        session.timeline.record = record;
        if let Some((boot_ns, status)) = side.exited {
            session.root_exited(boot_ns, status);
        }
        if let Some((boot_ns, status)) = side.disconnected {
            session.disconnected(boot_ns, status);
        }
        session
    }

    fn kernel_side(
        &self,
        key: SessionKey,
        connection: Option<&Connection>,
        roots: Vec<u64>,
        commands: Vec<RunningCommand>,
    ) -> KernelSide {
        let before = &self.timeline.record.kernel;
        let (mut ptys, mut pipes, mut terminals) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(connection) = connection {
            let own = connection.ptys.iter().filter(|(_, of)| **of == key);
            ptys.extend(own.map(|(pts, _)| *pts));
            let own = connection.terminals.iter().filter(|(_, of)| **of == key);
            terminals.extend(own.map(|(name, _)| *name));
            let own = connection
                .pipes
                .iter()
                .filter(|(_, pipe)| pipe.session == key);
            pipes.extend(own.map(|(inode, pipe)| known(*inode, pipe)));
        }
        ptys.sort_unstable();
        pipes.sort_unstable();
        terminals.sort_unstable();
        let size = |(terminal, size): (&u32, &WindowSize)| (*terminal, size.columns, size.rows);
        let mut sizes: Vec<_> = self.sizes.iter().map(size).collect();
        sizes.sort_unstable();
        let program = |(pid, program): (&u32, &Arc<Program>)| (*pid, (**program).clone());
        let mut programs: Vec<_> = self.programs.iter().map(program).collect();
        programs.sort_unstable_by_key(|(pid, _)| *pid);
        KernelSide {
            connection: self.connection,
            roots,
            server: self.root.map_or(0, |root| root.server),
            exited: before.exited,
            disconnected: before.disconnected,
            interrupted: self.interrupted,
            detached_boot_ns: self.detached_boot_ns,
            sizes,
            client_terminal: self.client_terminal,
            terminals,
            inner: self.inner.list(),
            sockets: Vec::new(),
            programs,
            moved: self.moved.clone(),
            last_exit_boot_ns: self.last_exit_boot_ns,
            ran_on: self.ran_on,
            ptys,
            pipes,
            commands,
        }
    }
}

fn known(inode: u64, pipe: &ClaimedPipe) -> KnownPipe {
    KnownPipe {
        inode,
        descriptor: match pipe.stream {
            Stream::Stdin => 0,
            Stream::Stderr => 2,
            _ => 1,
        },
        output: pipe.direction == Direction::Output,
    }
}

fn claimed(pipe: &KnownPipe, session: SessionKey) -> ClaimedPipe {
    ClaimedPipe {
        session,
        stream: match pipe.descriptor {
            0 => Stream::Stdin,
            2 => Stream::Stderr,
            _ => Stream::Stdout,
        },
        direction: match pipe.output {
            true => Direction::Output,
            false => Direction::Input,
        },
    }
}
