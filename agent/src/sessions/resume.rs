//! Sessions go on after a restart of the agent.

use auditty_recording::event::{Body, EndReason, GapCause, GapClass, Marker, SessionEnd};

use super::Sessions;
use super::ending::Ending;
use super::lineage::{Owner, SessionKey};
use super::session::{OpenSession, Root};
use super::sink::{ConnectionRecord, KernelSide, SessionRecord, Sink};
use super::streams::Streams;
use super::timeline::Out;
use crate::capture::event::{Exec, Fd, KernelEvent};

/// Two readings of one process's start differ by rounding to clock ticks only;
/// no process id is used again this fast.
pub(super) const SAME_START_NS: u64 = 50_000_000;

/// The capture announces every process it finds when it starts; a session whose
/// process has not been among them after this time has ended unseen.
const CLAIM_NS: u64 = 60_000_000_000;

/// What became of a session while no agent was running.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its own process lives.
    GoesOn,
    /// Nobody saw how it ended.
    Ended,
    /// Nothing of it is left: the host went down.
    HostReboot,
}

/// What an agent before has left.
#[derive(Debug)]
pub enum Restart {
    /// Open sessions. What happened since is not known.
    Unpinned(Vec<SessionRecord>),
    /// Open sessions and connections, with all that happened since in the rings.
    Pinned(Vec<SessionRecord>, Vec<ConnectionRecord>),
}

impl Sessions {
    /// Takes up the sessions that were open when the agent stopped. Those whose
    /// process is gone end here; `live` tells it by process id and start
    /// (nanoseconds since boot). The others wait for the capture to announce
    /// their process again. `now` is in nanoseconds since boot.
    pub fn resume(
        &mut self,
        restart: Restart,
        live: &dyn Fn(u32, u64) -> bool,
        now: u64,
        sink: &mut dyn Sink,
    ) {
        self.now = self.now.max(now);
        self.resumed_boot_ns = now;
        let records = match restart {
            Restart::Unpinned(records) => records,
            Restart::Pinned(records, connections) => self.take_over(records, connections),
        };
        for record in records {
            let (leader, start) = (record.leader_pid, record.leader_start_boot_ns);
            let fate = match record.session.host.boot_id == self.host.boot_id {
                false => Fate::HostReboot,
                true if leader != 0 && live(leader, start) => Fate::GoesOn,
                true => Fate::Ended,
            };
            self.resume_one(record, fate, sink);
        }
    }

    fn resume_one(&mut self, mut record: SessionRecord, fate: Fate, sink: &mut dyn Sink) {
        let now = self.now;
        let last_time = record.last_time;
        if fate == Fate::HostReboot {
            // Moments of another boot.
            (record.last_boot_ns, record.start_boot_ns) = (0, 0);
            record.kernel.detached_boot_ns = None;
        }
        let from = record.last_boot_ns;
        let detached_boot_ns = record.kernel.detached_boot_ns;
        record.kernel = KernelSide {
            interrupted: true,
            ..KernelSide::default()
        };
        let mut session = OpenSession {
            streams: Streams::resume(&record.streams, false),
            interrupted: true,
            detached_boot_ns,
            identified: true,
            matched: true,
            resumed_from: Some(from),
            active_boot_ns: now,
            dirty: true,
            root: (record.leader_pid != 0).then_some(Root {
                pid: record.leader_pid,
                server: 0,
                exited: None,
            }),
            ..OpenSession::default()
        };
        if record.session.end_reason.is_some() {
            session.ending = Ending::Told;
        }
        session.timeline.record = record;
        let (marker, message) = match fate {
            Fate::GoesOn => ("agent_resumed", "The agent runs again."),
            Fate::Ended => (
                "recovered",
                "The session's own process ended while no agent was running.",
            ),
            Fate::HostReboot => (
                "recovered",
                "The host went down while the session was open.",
            ),
        };
        let marker = Marker {
            marker: marker.into(),
            message: message.into(),
        };
        let mut out = Out {
            sink,
            clock: self.clock,
            counters: &mut self.counters,
        };
        let what = (GapCause::AgentDown, GapClass::Any);
        session.emit(&mut out, now, Body::Marker(marker));
        session.lose(&mut out, what, (None, None), (from, now));
        if fate == Fate::GoesOn {
            session.report(&mut out, now);
            let key = SessionKey(self.next_key);
            self.next_key += 1;
            self.sessions.insert(key, session);
            return;
        }
        if !matches!(session.ending, Ending::Told) {
            let record = &mut session.timeline.record;
            let (reason, end_time) = match fate {
                Fate::HostReboot => (
                    EndReason::HostReboot,
                    last_time.unwrap_or(record.session.start_time),
                ),
                _ => (EndReason::Unknown, record.end_at(now, out.clock)),
            };
            record.session.end_time = Some(end_time);
            record.session.end_reason = Some(reason);
            let end = SessionEnd {
                reason,
                status: Default::default(),
                running_processes: 0,
            };
            session.emit(&mut out, now, Body::SessionEnd(end));
        }
        session.finish(&mut out, now);
    }

    /// A process found running is the root of a session that goes on. `true`
    /// when it is.
    pub(super) fn rejoin(&mut self, event: &KernelEvent, exec: &Exec, sink: &mut dyn Sink) -> bool {
        let KernelEvent {
            boot_ns,
            connection: id,
            pid,
            ..
        } = *event;
        let found = self.sessions.iter().find(|(_, session)| {
            let record = &session.timeline.record;
            session.is_unclaimed()
                && record.leader_pid == pid
                && record.leader_start_boot_ns.abs_diff(boot_ns) <= SAME_START_NS
        });
        let Some(key) = found.map(|(key, _)| *key) else {
            return false;
        };
        let server = self.processes.0.get(&pid).map_or(exec.parent, |p| p.parent);
        let Some(connection) = self.connection(id, self.now) else {
            return false;
        };
        connection.sessions.push(key);
        connection.sessions_ever += 1;
        let mut pts = None;
        if let Some(session) = self.sessions.get_mut(&key) {
            session.connection = id;
            session.root = Some(Root {
                pid,
                server,
                exited: None,
            });
            let terminal = session
                .timeline
                .record
                .session
                .terminal
                .strip_prefix("pts/");
            pts = terminal.and_then(|number| number.parse().ok());
        }
        if let [Fd::Pts(own), ..] = exec.fds {
            pts = Some(own);
        }
        if let Some(pts) = pts {
            self.bind_pty(id, pts, key);
        }
        self.set_owner(pid, Owner::Session(key));
        self.roots.set(id, event.root, Owner::Session(key));
        self.claim_pipes(id, key, &exec.fds, sink);
        true
    }
}

impl OpenSession {
    fn is_unclaimed(&self) -> bool {
        self.resumed_from.is_some() && self.connection == 0
    }

    /// A resumed session whose process nobody announced has ended.
    pub(super) fn give_up_unclaimed(&mut self, now: u64) {
        if self.is_unclaimed() && now >= self.active_boot_ns.saturating_add(CLAIM_NS) {
            self.root_exited(now, None);
            self.closed = true;
        }
    }
}
