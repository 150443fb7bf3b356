//! Connections start, processes fork, start programs and end.

use std::collections::HashMap;

use auditty_recording::event::{Body, Exit, ExitStatus, GapClass};

use super::Sessions;
use super::commands::exec_event;
use super::connection::{Connection, Held, HeldFact, HeldFacts, Within};
use super::ending::exit_status;
use super::lineage::{Command, Owner, Process, SessionKey};
use super::opening::{Leader, Seed};
use super::resume::SAME_START_NS;
use super::sink::Sink;
use super::timeline::Out;
use crate::capture::event::{ConnectionStart, Exec, Fd, KernelEvent, MonitorMessage};

impl Sessions {
    pub(super) fn connection_start(
        &mut self,
        event: &KernelEvent,
        start: &ConnectionStart,
        sink: &mut dyn Sink,
    ) {
        self.release_forward_to(start, sink);
        let parent = self.parent_of(event, start);
        let started_in = match self.processes.owner(event.pid) {
            Owner::Session(key) => Some(key),
            _ => None,
        };
        self.forget(event.pid, event.boot_ns);
        if self.connections.len() >= self.limits.connections {
            self.counters.refused_connections += 1;
            return;
        }
        self.counters.connections += 1;
        let mut connection = Connection::new(&self.host, event.connection, event.pid, Some(start));
        connection.seen_boot_ns = event.boot_ns;
        connection.began_boot_ns = event.boot_ns;
        connection.parent = parent;
        connection.started_in = started_in;
        self.connections.insert(event.connection, connection);
        self.follow(event, 0, Owner::Server, start.adopted);
    }

    pub(super) fn fork(&mut self, event: &KernelEvent, parent: u32) {
        if let Some(process) = self.processes.0.get_mut(&event.pid)
            && process.present
            && process.start_boot_ns.abs_diff(event.boot_ns) <= SAME_START_NS
        {
            // Known since the takeover, though perhaps not whose it is.
            (process.present, process.start_boot_ns) = (false, event.boot_ns);
            if process.owner == Owner::Unknown {
                let owner = self.inherited(event, parent);
                self.set_owner(event.pid, owner);
            }
            return;
        }
        self.forget(event.pid, event.boot_ns);
        let owner = self.inherited(event, parent);
        self.follow(event, parent, owner, false);
        self.program_forked(parent, event.pid);
    }

    /// A process lives that an agent before has followed. Of a connection that
    /// nobody knows yet, the start is still to come, and with it the process.
    pub(super) fn present(&mut self, event: &KernelEvent, parent: u32, server: bool) {
        if !self.connections.contains_key(&event.connection) {
            return;
        }
        if let Some(process) = self.processes.0.get_mut(&event.pid) {
            process.parent = parent;
            return;
        }
        // Its exec, which makes it a session's, may still be in the ring.
        let owner = match self.inherited(event, parent) {
            Owner::Unknown if server => Owner::Server,
            owner => owner,
        };
        self.follow(event, parent, owner, false);
        if let Some(process) = self.processes.0.get_mut(&event.pid) {
            process.present = true;
        }
    }

    /// To whom a process belongs that was forked: by its root, or by its parent
    /// while the root's own beginning is not known.
    fn inherited(&self, event: &KernelEvent, parent: u32) -> Owner {
        match self.roots.owner(event.connection, event.root) {
            Owner::Unknown => self.processes.owner(parent),
            owner => owner,
        }
    }

    pub(super) fn exec(&mut self, event: &KernelEvent, exec: &Exec, sink: &mut dyn Sink) {
        let KernelEvent {
            boot_ns,
            connection: id,
            pid,
            ..
        } = *event;
        let by_root = self.roots.owner(id, event.root);
        if !self.processes.0.contains_key(&pid) {
            let owner = match by_root {
                Owner::Unknown => self.origin(id, exec),
                owner => owner,
            };
            if matches!(owner, Owner::Unknown) && !exec.server {
                self.of_any_session(event, GapClass::Exec, (Some(1), None), sink);
            }
            self.follow(event, exec.parent, owner, exec.adopted);
        } else if by_root != Owner::Unknown && !exec.server {
            self.set_owner(pid, by_root);
        }
        if let Some(process) = self.processes.0.get_mut(&pid) {
            process.adopted |= exec.adopted;
        }
        let within = self.connection(id, boot_ns).and_then(|c| c.within());
        if exec.server {
            self.set_owner(pid, Owner::Server);
            if let Some(connection) = self.connection(id, boot_ns)
                && connection.described.pid == pid
            {
                connection.described.server_exe.clone_from(&exec.exe);
            }
            if let Some(Within(Some(key))) = within {
                self.record_exec(key, boot_ns, pid, exec, sink);
            }
            return;
        }
        if exec.adopted && self.rejoin(event, exec, sink) {
            return;
        }
        let parent = self.processes.0.get(&pid).map_or(exec.parent, |p| p.parent);
        match self.processes.owner(pid) {
            Owner::Session(key) => self.record_exec(key, boot_ns, pid, exec, sink),
            Owner::Server
                if self.is_root(id, parent, exec) || self.is_dropbear_root(id, parent, exec) =>
            {
                self.root(event, exec, parent, sink);
            }
            // What only looks like a server must not hide what it runs.
            Owner::Server if let Some(Within(around)) = within => match around {
                Some(key) if self.sessions.contains_key(&key) => {
                    self.set_owner(pid, Owner::Session(key));
                    self.record_exec(key, boot_ns, pid, exec, sink);
                }
                _ => self.root(event, exec, parent, sink),
            },
            Owner::Server if self.processes.owner(parent) == Owner::Server => {
                self.set_owner(pid, Owner::Helper(parent));
                self.roots.set(id, event.root, Owner::Helper(parent));
                self.hold(
                    id,
                    parent,
                    boot_ns,
                    pid,
                    HeldFact::Exec(Box::new(exec.clone())),
                );
            }
            Owner::Helper(server) => {
                self.hold(
                    id,
                    server,
                    boot_ns,
                    pid,
                    HeldFact::Exec(Box::new(exec.clone())),
                );
            }
            Owner::Server | Owner::Unknown => {
                self.set_owner(pid, Owner::Unknown);
                self.counters.unattributed_execs += 1;
            }
        }
    }

    pub(super) fn exit(&mut self, event: &KernelEvent, wait_status: u32, sink: &mut dyn Sink) {
        let KernelEvent { boot_ns, pid, .. } = *event;
        if !self.processes.0.contains_key(&pid) {
            // The end of a process whose beginning nobody saw still counts: of
            // an sshd, and where programs were started in its place.
            let owner = match self.roots.owner(event.connection, event.root) {
                Owner::Unknown if event.root == 0 => Owner::Server,
                owner => owner,
            };
            if !self.connections.contains_key(&event.connection) {
                return;
            }
            self.follow(event, 0, owner, false);
        }
        let Some(process) = self.processes.0.get(&pid).copied() else {
            return;
        };
        let status = exit_status(wait_status);
        match process.owner {
            Owner::Session(key) => {
                self.record_exit(key, boot_ns, pid, process.command, status, sink)
            }
            Owner::Helper(server) => {
                self.hold(
                    process.connection,
                    server,
                    boot_ns,
                    pid,
                    HeldFact::Exit(wait_status),
                );
            }
            Owner::Server => {
                let connection = self.connections.get(&process.connection);
                if let Some(Within(Some(key))) = connection.and_then(|c| c.within()) {
                    self.record_exit(key, boot_ns, pid, process.command, status, sink);
                }
            }
            Owner::Unknown => {}
        }
        self.ended(pid, boot_ns, Some(status));
    }

    pub(super) fn monitor(&mut self, event: &KernelEvent, message: &MonitorMessage) {
        let Some(connection) = self.connection(event.connection, event.boot_ns) else {
            return;
        };
        let monitor = connection.described.pid;
        if !connection.identity.observe(monitor, event.pid, message) {
            self.counters.late_monitor_messages += 1;
        }
    }

    /// Forgets processes that are gone although nobody saw them end, after a
    /// loss of process events. `live` tells whether the process with this id
    /// and start (nanoseconds since boot) still runs.
    pub fn reap(&mut self, live: &dyn Fn(u32, u64) -> bool) {
        let all = self.processes.0.iter();
        let gone: Vec<u32> = all
            .filter(|(pid, process)| !live(**pid, process.start_boot_ns))
            .map(|(pid, _)| *pid)
            .collect();
        for pid in gone {
            self.forget(pid, self.now);
        }
    }

    /// sshd gives a session's own process a pty, or pipes, and a POSIX session of
    /// its own. PAM's modules do the same with what they run in a login, as root:
    /// that is no user's before it is complete, nor what the monitor of another
    /// process runs, nor what has not the pipes that sshd makes. Of an adopted
    /// process the descriptors may have changed since.
    fn is_root(&self, id: u64, parent: u32, exec: &Exec) -> bool {
        let is_sshds_own = |connection: &Connection| {
            // The process itself, the monitor, and the one that serves.
            let serves_others = connection.servers > 2;
            let is_adopted = exec.adopted && serves_others && connection.described.pid == parent;
            let is_pams = exec.uid == 0
                && (connection.identity.is_asked()
                    || (connection.described.pid == parent && shares_a_pipe(exec)));
            connection.trusted
                && (is_pams || is_adopted || connection.is_monitor(parent, &*self.users))
        };
        let own = self.connections.get(&id).is_some_and(is_sshds_own);
        exec.session_leader && !own && (exec.adopted || is_connected(exec))
    }

    /// dropbear gives a command without a terminal pipes, and no POSIX session of
    /// its own. What its children start for themselves (`xauth`) is not forked by
    /// the process that serves the connection. One that never executed anything
    /// is an older dropbear, too.
    fn is_dropbear_root(&self, id: u64, parent: u32, exec: &Exec) -> bool {
        let Some(connection) = self.connections.get(&id) else {
            return false;
        };
        let server = &connection.described;
        let name = server.server_exe.rsplit('/').next().unwrap_or_default();
        let is_dropbear = name.is_empty() || name.starts_with("dropbear");
        is_dropbear && server.pid == parent && is_connected(exec)
    }

    /// To whom a process belongs whose fork was not seen.
    fn origin(&self, connection: u64, exec: &Exec) -> Owner {
        match self.processes.owner(exec.parent) {
            Owner::Unknown => {}
            known => return known,
        }
        // Forked before another agent looked, and gone with its server since: a root.
        if self.taking_over && exec.session_leader && is_connected(exec) {
            return Owner::Server;
        }
        let sessions = self.connections.get(&connection);
        match sessions.map(|c| (c.sessions_ever, c.sessions.as_slice())) {
            // What is not sshd's own can only be this session's.
            Some((1, [only])) if !exec.server => Owner::Session(*only),
            _ => Owner::Unknown,
        }
    }

    /// A user's program starts below the server: the session's root.
    fn root(&mut self, event: &KernelEvent, exec: &Exec, server: u32, sink: &mut dyn Sink) {
        let KernelEvent {
            boot_ns,
            connection: id,
            pid,
            ..
        } = *event;
        let start_boot_ns = self
            .processes
            .0
            .get(&pid)
            .map_or(boot_ns, |p| p.start_boot_ns);
        let leader = Leader {
            pid,
            start_boot_ns,
            server,
        };
        let mut seed = Seed::of_root(exec, leader);
        let blind = self.connections.get(&id).is_some_and(|c| c.adopted);
        seed.adopted |= blind && boot_ns <= self.resumed_boot_ns;
        let key = match exec.fds {
            [Fd::Pts(pts), ..] => self.root_on_pty(id, boot_ns, pts, seed, sink),
            _ => self.open_session(id, boot_ns, seed, sink),
        };
        let Some(key) = key else {
            self.set_owner(pid, Owner::Unknown);
            return;
        };
        self.set_owner(pid, Owner::Session(key));
        self.roots.set(id, event.root, Owner::Session(key));
        if exec.by_probes && matches!(exec.fds, [Fd::Pts(_), ..]) {
            self.expect_sight(key, start_boot_ns);
        }
        self.claim_pipes(id, key, &exec.fds, sink);
        self.release_helpers(id, pid, key, sink);
        self.record_exec(key, boot_ns, pid, exec, sink);
    }

    /// What the server process ran before it became the session's root belongs
    /// to the session.
    fn release_helpers(&mut self, id: u64, server: u32, key: SessionKey, sink: &mut dyn Sink) {
        let held = self.connections.get_mut(&id).map(|c| c.take_held(server));
        let helpers = self.processes.helpers_of(server);
        let mut commands: HashMap<u32, Command> = HashMap::new();
        let HeldFacts { facts, lost } = held.unwrap_or_default();
        if let Some(session) = self.sessions.get_mut(&key) {
            session.unfollowed += lost;
        }
        for Held { boot_ns, pid, what } in facts {
            match what {
                HeldFact::Exec(exec) => {
                    if let Some(command) = self.emit_exec(key, boot_ns, pid, &exec, sink) {
                        commands.insert(pid, command);
                    }
                }
                HeldFact::Exit(wait_status) => {
                    let command = commands.remove(&pid);
                    self.record_exit(key, boot_ns, pid, command, exit_status(wait_status), sink);
                }
            }
        }
        for root in self.roots.of(id, Owner::Helper(server)) {
            self.roots.set(id, root, Owner::Session(key));
        }
        for pid in helpers {
            self.set_owner(pid, Owner::Session(key));
            if let Some(process) = self.processes.0.get_mut(&pid) {
                process.command = commands.remove(&pid);
            }
        }
    }

    fn record_exec(
        &mut self,
        key: SessionKey,
        boot_ns: u64,
        pid: u32,
        exec: &Exec,
        sink: &mut dyn Sink,
    ) {
        self.program_started(key, (boot_ns, pid), exec, sink);
        let known = |from| exec.adopted && boot_ns <= from;
        let resumed_from = self.sessions.get(&key).and_then(|s| s.resumed_from);
        if resumed_from.is_some_and(known) {
            return;
        }
        let command = self.emit_exec(key, boot_ns, pid, exec, sink);
        if let Some(process) = self.processes.0.get_mut(&pid) {
            process.command = command;
        }
    }

    fn emit_exec(
        &mut self,
        key: SessionKey,
        boot_ns: u64,
        pid: u32,
        exec: &Exec,
        sink: &mut dyn Sink,
    ) -> Option<Command> {
        let session = self.sessions.get_mut(&key)?;
        let mut out = Out {
            sink,
            clock: self.clock,
            counters: &mut self.counters,
        };
        let seq = session.emit(&mut out, boot_ns, Body::Exec(exec_event(pid, exec)))?;
        self.handoff(key, (boot_ns, pid, seq), exec, sink);
        Some(Command { seq, boot_ns })
    }

    /// A process that only forked is no command and leaves no exit.
    fn record_exit(
        &mut self,
        key: SessionKey,
        boot_ns: u64,
        pid: u32,
        command: Option<Command>,
        status: ExitStatus,
        sink: &mut dyn Sink,
    ) {
        let Some((session, mut out)) = self.open(key, sink) else {
            return;
        };
        session.last_exit_boot_ns = boot_ns;
        session.program_ended(&mut out, boot_ns, pid);
        let Some(command) = command else {
            return;
        };
        let exit = Exit {
            pid,
            exec_seq: Some(command.seq),
            status,
            duration_ns: boot_ns.saturating_sub(command.boot_ns),
        };
        session.emit(&mut out, boot_ns, Body::Exit(exit));
    }

    fn hold(&mut self, id: u64, server: u32, boot_ns: u64, pid: u32, what: HeldFact) {
        let is_exec = matches!(what, HeldFact::Exec(_));
        let bound = self.limits.held_events;
        let held = self
            .connection(id, boot_ns)
            .is_some_and(|c| c.hold(server, Held { boot_ns, pid, what }, bound));
        if !held && is_exec {
            self.counters.unattributed_execs += 1;
        }
    }

    /// Starts to follow a process; at the bound its session is told.
    fn follow(&mut self, event: &KernelEvent, parent: u32, owner: Owner, adopted: bool) {
        if self.processes.0.len() >= self.limits.processes {
            self.counters.refused_processes += 1;
            if let Owner::Session(key) = owner
                && let Some(session) = self.sessions.get_mut(&key)
            {
                session.unfollowed += 1;
            }
            return;
        }
        let process = Process {
            connection: event.connection,
            parent,
            start_boot_ns: event.boot_ns,
            owner: Owner::Unknown,
            adopted,
            present: false,
            command: None,
        };
        self.processes.0.insert(event.pid, process);
        self.set_owner(event.pid, owner);
    }

    /// The only place where a process changes hands: it keeps the counts of live
    /// processes right.
    pub(super) fn set_owner(&mut self, pid: u32, owner: Owner) {
        let Some(process) = self.processes.0.get_mut(&pid) else {
            return;
        };
        let id = process.connection;
        let before = std::mem::replace(&mut process.owner, owner);
        for (owner, joins) in [(before, false), (owner, true)] {
            let live = match owner {
                Owner::Server => self.connections.get_mut(&id).map(|c| &mut c.servers),
                Owner::Session(key) => self.sessions.get_mut(&key).map(|s| &mut s.live),
                Owner::Helper(_) | Owner::Unknown => None,
            };
            if let Some(live) = live {
                *live = if joins {
                    *live + 1
                } else {
                    live.saturating_sub(1)
                };
            }
        }
    }

    /// Its id is used again, so it ended and nobody saw it.
    pub(super) fn forget(&mut self, pid: u32, boot_ns: u64) {
        if self.processes.0.contains_key(&pid) {
            self.ended(pid, boot_ns, None);
        }
    }

    /// A process is gone: what depends on it hears of it.
    fn ended(&mut self, pid: u32, boot_ns: u64, status: Option<ExitStatus>) {
        let was_server = self.processes.owner(pid) == Owner::Server;
        self.set_owner_of_ended(pid, boot_ns);
        let Some(Process { connection: id, .. }) = self.processes.0.remove(&pid) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let logged_in = connection.login_boot_ns.is_some();
        connection.process_ended(pid, boot_ns, status);
        let logs_in = !logged_in && connection.login_boot_ns.is_some();
        connection.seen_boot_ns = connection.seen_boot_ns.max(boot_ns);
        let over = was_server && connection.servers == 0;
        for key in connection.sessions.clone() {
            let Some(session) = self.sessions.get_mut(&key) else {
                continue;
            };
            let root = session.root;
            if root.is_some_and(|root| root.pid == pid && root.exited.is_none()) {
                session.root_exited(boot_ns, status);
            }
            if over || root.is_some_and(|root| root.server == pid) {
                session.disconnected(boot_ns, status);
            }
        }
        if logs_in {
            self.note_failures(id);
        }
        self.drop_if_over(id);
    }

    /// Nothing more comes from a connection without server processes: without
    /// sessions it is done with.
    pub(super) fn drop_if_over(&mut self, id: u64) {
        let over = |c: &Connection| c.servers == 0 && c.sessions.is_empty() && !c.owes_session();
        if self.connections.get(&id).is_some_and(over) {
            self.note_refusal(id);
        }
        if self.connections.get(&id).is_some_and(over)
            && let Some(connection) = self.connections.remove(&id)
        {
            self.roots.retain(|of, _| of != id);
            self.counters.unattributed_bytes += connection.pending.unclaimed_bytes();
        }
    }

    /// Only sshd moves the bytes of ptys and pipes: a process that does, and of
    /// which nothing else is known, is a server process whose start was missed.
    pub(super) fn learn_server(&mut self, event: &KernelEvent) {
        if !self.processes.0.contains_key(&event.pid) {
            self.follow(event, 0, Owner::Server, false);
        } else if self.processes.owner(event.pid) == Owner::Unknown {
            self.set_owner(event.pid, Owner::Server);
        }
    }

    /// Takes an ended process out of the counts, and with a server process the
    /// claim of its helpers: they were sshd's own.
    fn set_owner_of_ended(&mut self, pid: u32, boot_ns: u64) {
        let owner = self.processes.owner(pid);
        self.set_owner(pid, Owner::Unknown);
        if owner != Owner::Server {
            return;
        }
        for helper in self.processes.helpers_of(pid) {
            self.set_owner(helper, Owner::Unknown);
        }
        let id = self.processes.0.get(&pid).map_or(0, |p| p.connection);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.seen_boot_ns = connection.seen_boot_ns.max(boot_ns);
            let held = connection.take_held(pid);
            let execs = held
                .facts
                .iter()
                .filter(|h| matches!(h.what, HeldFact::Exec(_)));
            self.counters.unattributed_execs += execs.count() as u64;
        }
    }
}

/// Output and errors go into one pipe: pam_exec does that (`stdout`). sshd has one
/// for each (OpenSSH 9.2 to 10.0, `do_exec_no_pty` in session.c).
fn shares_a_pipe(exec: &Exec) -> bool {
    matches!(exec.fds, [_, Fd::Pipe(output), Fd::Pipe(errors)] if output == errors)
}

fn is_connected(exec: &Exec) -> bool {
    let [stdin, stdout, _] = exec.fds;
    stdin != Fd::Other && stdout != Fd::Other
}
