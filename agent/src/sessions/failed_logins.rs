//! Logins that failed: one for each connection that sshd did not let in, or let
//! in only after a wrong password, answer or signature.
//!
//! A connection that ends before it names a user (a port scan, a health check) is
//! none, unless some of what its processes said was lost. One that was let in, and
//! of which nothing could be recorded, stands among them. A flood is merged, each
//! client address of a minute by itself, so that it costs little and is counted
//! to the last connection.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use jiff::Timestamp;

use super::Sessions;
use super::connection::Connection;
use super::identity::Tries;
use super::sink::Sink;
use crate::capture::event::LossClass;

/// Told one by one of an address in a minute: somebody who has forgotten a
/// password.
const PER_ADDRESS: u32 = 10;

/// Told one by one of all addresses in a minute.
const PER_MINUTE: u32 = 100;

/// Addresses that are told apart in a minute.
const MAX_ADDRESSES: usize = 200;

/// Records that wait for a sink that does not take them: some minutes of a flood.
/// What comes then is merged into one for each outcome.
const MAX_WAITING: usize = 1000;

/// Longest name that is told, bytes; Linux allows 256 for a user's.
const MAX_USER_LEN: usize = 256;

/// One connection that was not let in, or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedLogin {
    /// Unique on the host. The same again says more of the same.
    pub id: String,
    /// What the host calls itself.
    pub hostname: String,
    /// Of a single connection: its id.
    pub connection_id: Option<String>,
    /// From the kernel's socket; `None` where it is not known, or where several
    /// are merged.
    pub client_address: Option<IpAddr>,
    /// Likewise, of a single connection.
    pub client_port: Option<u16>,
    /// What the client called itself: its own words. Empty where it is not known,
    /// or not the same in all.
    pub user: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What was refused.
    pub tries: Tries,
    /// When the first began.
    pub start: Timestamp,
    /// When the last ended, or was let in.
    pub end: Timestamp,
    /// How many connections it stands for.
    pub connections: u64,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Let in, after something had been wrong.
    LoggedIn,
    /// It ended before anything was judged.
    NotTried,
    /// Something was refused, and it ended.
    Failed,
    /// Let in, and no session of it was recorded: the bound of sessions was reached.
    NotRecorded,
}

impl FailedLogin {
    fn add(&mut self, other: Self) {
        if self.user != other.user {
            self.user.clear();
        }
        self.tries.merge(other.tries);
        self.start = self.start.min(other.start);
        self.end = self.end.max(other.end);
        self.connections = self.connections.saturating_add(other.connections);
    }

    /// The first of several.
    fn merged(mut self, id: String, client_address: Option<IpAddr>) -> Self {
        (self.id, self.client_address) = (id, client_address);
        (self.connection_id, self.client_port) = (None, None);
        self
    }
}

/// Those that were not told yet, and what bounds them.
#[derive(Debug, Default)]
pub(super) struct FailedLogins {
    /// Begin of the minute that is counted, seconds since 1970.
    minute: i64,
    singles: u32,
    addresses: HashMap<Option<IpAddr>, u32>,
    /// Merged in this minute, by address and outcome; `None` stands for all further
    /// addresses.
    merged: HashMap<(Option<IpAddr>, Outcome), FailedLogin>,
    /// Merged records so far.
    merged_ever: u64,
    waiting: BTreeMap<String, FailedLogin>,
    /// What found no room among those.
    late: BTreeMap<Outcome, FailedLogin>,
    refused: bool,
}

impl FailedLogins {
    /// `agent` tells what is merged here from what another agent has merged.
    fn add(&mut self, login: FailedLogin, agent: &str) {
        let minute = login.end.as_second().div_euclid(60);
        if minute != self.minute {
            (self.minute, self.singles) = (minute, 0);
            self.addresses.clear();
            self.merged.clear();
        }
        let (address, rarely) = self.count(login.client_address);
        if self.waiting.len() >= MAX_WAITING {
            let late = self.late.remove(&login.outcome);
            let late = self.merge(late, login, None, agent);
            self.late.insert(late.outcome, late);
        } else if rarely && self.singles < PER_MINUTE {
            self.singles += 1;
            self.waiting.insert(login.id.clone(), login);
        } else {
            let of = (address, login.outcome);
            let before = self.merged.remove(&of);
            let merged = self.merge(before, login, address, agent);
            self.waiting.insert(merged.id.clone(), merged.clone());
            self.merged.insert(of, merged);
        }
    }

    /// Counts one of an address: as which address, and whether there were few.
    fn count(&mut self, address: Option<IpAddr>) -> (Option<IpAddr>, bool) {
        if self.addresses.len() >= MAX_ADDRESSES && !self.addresses.contains_key(&address) {
            return (None, false);
        }
        let count = self.addresses.entry(address).or_default();
        *count = count.saturating_add(1);
        (address, *count <= PER_ADDRESS)
    }

    fn merge(
        &mut self,
        before: Option<FailedLogin>,
        login: FailedLogin,
        address: Option<IpAddr>,
        agent: &str,
    ) -> FailedLogin {
        if let Some(mut merged) = before {
            merged.add(login);
            return merged;
        }
        self.merged_ever += 1;
        login.merged(format!("{agent}-{}", self.merged_ever), address)
    }

    /// Hands over what is new.
    pub(super) fn tell(&mut self, sink: &mut dyn Sink) {
        if self.waiting.is_empty() {
            return;
        }
        let news = self.waiting.values().chain(self.late.values());
        let news: Vec<_> = news.cloned().collect();
        match sink.failed_logins(&news) {
            Ok(()) => {
                self.waiting.clear();
                self.late.clear();
                self.refused = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.refused, true) {
                    tracing::error!(%error, "failed logins wait");
                }
            }
        }
    }
}

impl Sessions {
    /// A connection is let in: whatever was wrong before is told.
    pub(super) fn note_failures(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        if connection.counts() && connection.identity.tries().proof_failed {
            self.note_failed(id, Outcome::LoggedIn);
        }
    }

    /// A connection is over: if it was never let in, that is told.
    pub(super) fn note_refusal(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let proven = connection.identity.is_proven();
        let let_in = connection.login_boot_ns.is_some()
            || connection.sessions_ever > 0
            || (proven && !connection.turned_away);
        let asked = connection.identity.wanted().is_some() || connection.login_lost;
        if connection.unrecorded {
            self.note_failed(id, Outcome::NotRecorded);
            return;
        }
        if !connection.counts() || let_in || !asked {
            return;
        }
        // A good key is not enough where two are asked for, or the account is locked.
        let judged = proven || !connection.identity.tries().is_empty();
        let outcome = match judged {
            true => Outcome::Failed,
            false => Outcome::NotTried,
        };
        self.counters.failed_logins += 1;
        self.note_failed(id, outcome);
    }

    fn note_failed(&mut self, id: u64, outcome: Outcome) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let described = &connection.described;
        let user = connection.identity.wanted().unwrap_or_default();
        let user = user.get(..user.floor_char_boundary(MAX_USER_LEN));
        let end = self.clock.wall(connection.seen_boot_ns);
        let start = match connection.began_boot_ns {
            0 => end,
            began => self.clock.wall(began).min(end),
        };
        let login = FailedLogin {
            id: described.connection_id.clone(),
            hostname: self.host.hostname.clone(),
            connection_id: Some(described.connection_id.clone()),
            client_address: described.client_address,
            client_port: described.client_port,
            user: user.unwrap_or_default().to_owned(),
            outcome,
            tries: connection.identity.tries().clone(),
            start,
            end,
            connections: 1,
        };
        let agent = format!("{}-{}", self.host.boot_id, self.resumed_boot_ns);
        self.failed_logins.add(login, &agent);
    }

    /// Messages before a login were lost: who wanted to log in may not be known.
    pub(super) fn login_loss(&mut self, class: LossClass, connection: Option<u64>) {
        if !matches!(class, LossClass::Login | LossClass::Any) {
            return;
        }
        for (id, known) in &mut self.connections {
            if connection.is_none_or(|of| of == *id) && known.login_boot_ns.is_none() {
                known.login_lost = true;
            }
        }
    }
}

impl Connection {
    /// The system's sshd, followed from its beginning.
    fn counts(&self) -> bool {
        self.trusted && !self.adopted
    }
}
