//! Who allowed it: at the login, and as time goes on and grants change.

use auditty_recording::event::{Body, Marker};
use auditty_recording::session::{GrantMatch, GrantStatus, Login};

use super::Sessions;
use super::lineage::{Owner, SessionKey};
use super::session::OpenSession;
use super::sink::Sink;
use auditty_grants::{GrantBook, Subject};

/// Times a server is asked to end before it is made to.
const ASKED: u32 = 2;

/// A process of sshd whose sessions have all outlived their grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// Its id.
    pub pid: u32,
    /// When it started, nanoseconds since boot.
    pub start_boot_ns: u64,
    /// It has been asked to end, and did not.
    pub insist: bool,
}

impl Sessions {
    /// The grants changed: every open session is matched again. One that has
    /// ended while it was granted stays so.
    pub fn set_grants(&mut self, grants: GrantBook, sink: &mut dyn Sink) {
        self.grants = grants;
        self.match_again(sink, |session| {
            let status = session.timeline.record.session.grant.status;
            !session.has_ended() || status != GrantStatus::Granted
        });
    }

    /// Matches again what a grant that begins or is over by now may change.
    pub(super) fn follow_grants(&mut self, sink: &mut dyn Sink) {
        let now = self.clock.wall(self.now);
        if self.grants.turns_between(self.matched_at.min(now), now) {
            self.match_again(sink, |session| !session.has_ended());
        }
        self.matched_at = now;
    }

    fn match_again(&mut self, sink: &mut dyn Sink, which: impl Fn(&OpenSession) -> bool) {
        for key in self.keys() {
            let Some(session) = self.sessions.get(&key).filter(|s| s.matched && which(s)) else {
                continue;
            };
            let login = session.timeline.record.session.login.clone();
            let grant = self.matched(session, &login);
            let now = self.now;
            if let Some((session, mut out)) = self.open(key, sink) {
                session.allow(&mut out, now, grant);
                session.report(&mut out, now);
            }
        }
    }

    /// How the grants stand to a session with this login, up to now or to its
    /// end.
    pub(super) fn matched(&self, session: &OpenSession, login: &Login) -> GrantMatch {
        let known = &session.timeline.record.session;
        let now = known.end_time.unwrap_or(self.clock.wall(self.now));
        self.grants.match_login(&Subject {
            login,
            host: &self.host,
            start: known.start_time,
            now: now.max(known.start_time),
            before: session.matched.then_some(&known.grant),
        })
    }

    /// The processes of the system's sshd that serve nothing but sessions that
    /// have outlived their grants. That they are told to end stands on the
    /// timeline of each, once.
    pub fn overdue(&mut self, sink: &mut dyn Sink) -> Vec<Overdue> {
        let connections = self.connections.iter();
        let due = connections.filter(|(_, c)| c.trusted && self.is_overdue(&c.sessions));
        let due: Vec<u64> = due.map(|(id, _)| *id).collect();
        let mut overdue = Vec::new();
        for id in due {
            let processes = self.processes.0.iter();
            let servers = processes
                .filter(|(_, process)| process.connection == id && process.owner == Owner::Server);
            let before = overdue.len();
            overdue.extend(servers.map(|(pid, process)| Overdue {
                pid: *pid,
                start_boot_ns: process.start_boot_ns,
                insist: false,
            }));
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            let insist = connection.asked_to_end >= ASKED;
            connection.asked_to_end += 1;
            let own = overdue.iter_mut().skip(before);
            own.for_each(|process| process.insist = insist);
            for key in connection.sessions.clone() {
                self.tell_overdue(key, sink);
            }
        }
        overdue
    }

    fn is_overdue(&self, sessions: &[SessionKey]) -> bool {
        let open = sessions.iter().filter_map(|key| self.sessions.get(key));
        let mut open = open.filter(|session| !session.has_ended()).peekable();
        open.peek().is_some()
            && open.all(|s| s.matched && s.timeline.record.session.grant.outlived_at.is_some())
    }

    fn tell_overdue(&mut self, key: SessionKey, sink: &mut dyn Sink) {
        let now = self.now;
        let Some((session, mut out)) = self.open(key, sink) else {
            return;
        };
        if session.has_ended() || std::mem::replace(&mut session.over_by_grant, true) {
            return;
        }
        let marker = Marker {
            marker: "grant_over".into(),
            message: "The session has outlived its grant: its sshd is told to end.".into(),
        };
        session.emit(&mut out, now, Body::Marker(marker));
    }
}
