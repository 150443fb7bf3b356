//! Sessions begin: at the first sign of their pty, or when their root starts.

use auditty_recording::event::{Body, Marker, SessionStart};
use auditty_recording::session::{Evidence, Session, SessionKind};
use uuid::{NoContext, Uuid};

use super::Sessions;
use super::commands::session_kind;
use super::connection::Connection;
use super::lineage::SessionKey;
use super::session::{OpenSession, Root};
use super::sink::{SessionRecord, Sink};
use super::timeline::Out;
use crate::capture::event::Exec;

/// What is known when a session begins.
#[derive(Debug, Default)]
pub(super) struct Seed {
    pub kind: SessionKind,
    pub command: String,
    pub uid: Option<u32>,
    pub adopted: bool,
    /// Nothing sees what its server moves.
    pub unseen: bool,
    pub leader: Option<Leader>,
}

/// The session's own process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leader {
    pub pid: u32,
    pub start_boot_ns: u64,
    pub server: u32,
}

impl Seed {
    pub(super) fn of_root(exec: &Exec, leader: Leader) -> Self {
        let (kind, command) = session_kind(exec);
        Self {
            kind,
            command,
            uid: Some(exec.uid),
            adopted: exec.adopted,
            unseen: exec.unprobed,
            leader: Some(leader),
        }
    }
}

impl Sessions {
    /// The connection with this number. One whose start was not seen is
    /// described as far as it is known. `None` at the bound.
    pub(super) fn connection(&mut self, id: u64, boot_ns: u64) -> Option<&mut Connection> {
        if !self.connections.contains_key(&id) {
            if self.connections.len() >= self.limits.connections {
                self.counters.refused_connections += 1;
                return None;
            }
            self.counters.connections += 1;
            self.connections
                .insert(id, Connection::new(&self.host, id, 0, None));
        }
        let connection = self.connections.get_mut(&id)?;
        connection.seen_boot_ns = connection.seen_boot_ns.max(boot_ns);
        Some(connection)
    }

    /// Begins a session on connection `id`; the login is what it is by now.
    pub(super) fn open_session(
        &mut self,
        id: u64,
        boot_ns: u64,
        seed: Seed,
        sink: &mut dyn Sink,
    ) -> Option<SessionKey> {
        if self.sessions.len() >= self.limits.sessions {
            self.counters.refused_sessions += 1;
            return None;
        }
        let host = self.host.clone();
        let key = SessionKey(self.next_key);
        let start_time = self.clock.wall(boot_ns);
        let connection = self.connection(id, boot_ns)?;
        connection.identity.freeze();
        let described = connection.described.clone();
        let start = SessionStart {
            host: host.clone(),
            connection: described.clone(),
            session_kind: seed.kind,
            adopted: seed.adopted,
        };
        let record = SessionRecord {
            session: Session {
                session_id: uuid_at(start_time),
                host,
                connection: described,
                start_time,
                adopted: seed.adopted,
                ..Session::default()
            },
            next_seq: 1,
            start_boot_ns: boot_ns,
            ..SessionRecord::default()
        };
        connection.sessions.push(key);
        connection.sessions_ever += 1;
        self.next_key += 1;
        self.counters.sessions_started += 1;
        let mut session = OpenSession {
            connection: id,
            active_boot_ns: boot_ns,
            dirty: true,
            ..OpenSession::default()
        };
        session.timeline.record = record;
        let mut out = Out {
            sink,
            clock: self.clock,
            counters: &mut self.counters,
        };
        session.emit(&mut out, boot_ns, Body::SessionStart(start));
        if seed.adopted {
            let marker = Marker {
                marker: "adopted".into(),
                message: "The session was open before the agent started.".into(),
            };
            session.emit(&mut out, boot_ns, Body::Marker(marker));
        }
        if let Some(message) = self.unrecorded(&session.timeline.record.session) {
            let marker = Marker {
                marker: "break_glass".into(),
                message,
            };
            let mut out = Out {
                sink,
                clock: self.clock,
                counters: &mut self.counters,
            };
            session.emit(&mut out, boot_ns, Body::Marker(marker));
        }
        self.sessions.insert(key, session);
        self.link_parent(key, boot_ns, sink);
        self.describe(key, boot_ns, seed, sink);
        Some(key)
    }

    /// Puts what the seed says into the session, with the login as it is now.
    pub(super) fn describe(
        &mut self,
        key: SessionKey,
        boot_ns: u64,
        seed: Seed,
        sink: &mut dyn Sink,
    ) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let Some(connection) = self.connections.get(&session.connection) else {
            return;
        };
        let began = match seed.leader {
            Some(leader) => Some(leader.start_boot_ns),
            None if seed.kind == SessionKind::Forward => connection.login_boot_ns,
            None => None,
        };
        let began = began.filter(|_| !seed.adopted);
        let record = &mut session.timeline.record;
        let record_kind = seed.kind;
        record.session.session_kind = seed.kind;
        record.session.command = seed.command;
        if let Some(leader) = seed.leader {
            record.leader_pid = leader.pid;
            record.leader_start_boot_ns = leader.start_boot_ns;
            session.root = Some(Root {
                pid: leader.pid,
                server: leader.server,
                exited: None,
            });
        }
        let login = connection
            .identity
            .login(connection.trusted, seed.uid, &*self.users);
        let Some(session) = self.sessions.get(&key) else {
            return;
        };
        let grant = self.matched(session, &login);
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let mut out = Out {
            sink,
            clock: self.clock,
            counters: &mut self.counters,
        };
        // Nothing is known yet: the root will tell, if one comes.
        let rootless = record_kind == SessionKind::Forward;
        if rootless || session.root.is_some() || login.evidence != Evidence::None {
            session.identify(&mut out, boot_ns, login, grant);
        }
        session.dirty = true;
        session.report(&mut out, self.now);
        if let Some(began) = began {
            self.declare_late_hooks(key, (began, boot_ns), sink);
            if seed.unseen {
                self.declare_unseen(key, (began, boot_ns), sink);
            }
        }
    }
}

fn uuid_at(time: jiff::Timestamp) -> Uuid {
    let seconds = u64::try_from(time.as_second()).unwrap_or_default();
    let nanoseconds = u32::try_from(time.subsec_nanosecond()).unwrap_or_default();
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanoseconds))
}
