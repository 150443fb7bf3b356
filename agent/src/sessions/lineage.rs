//! The process table: who forked whom, and to whom each process belongs.

use std::collections::HashMap;

/// A session whose recording is open, by a number of the agent's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SessionKey(pub u64);

/// To whom a process belongs. Children inherit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// sshd's own side of the connection.
    Server,
    /// A program that this server process started for itself. It belongs to
    /// the session that the server process may become the root of.
    Helper(u32),
    /// A session.
    Session(SessionKey),
    /// Nobody knows.
    Unknown,
}

/// The program a process runs, as recorded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command {
    /// Sequence number of its exec event.
    pub seq: u64,
    /// When it was started.
    pub boot_ns: u64,
}

/// One process below a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub connection: u64,
    /// The process that forked it.
    pub parent: u32,
    /// When it was forked, or was first seen.
    pub start_boot_ns: u64,
    pub owner: Owner,
    pub adopted: bool,
    /// It was there when this agent took over; its fork may be told later.
    pub present: bool,
    pub command: Option<Command>,
}

/// To whom the roots belong: by connection and root. A process belongs to whom
/// its root belongs, also when its fork was lost or happened unseen.
#[derive(Debug, Default)]
pub(super) struct Roots(HashMap<(u64, u64), Owner>);

impl Roots {
    pub(super) fn owner(&self, connection: u64, root: u64) -> Owner {
        let owner = self.0.get(&(connection, root));
        owner.copied().unwrap_or(Owner::Unknown)
    }

    pub(super) fn set(&mut self, connection: u64, root: u64, owner: Owner) {
        if root != 0 {
            self.0.insert((connection, root), owner);
        }
    }

    /// The roots of one owner.
    pub(super) fn of(&self, connection: u64, owner: Owner) -> Vec<u64> {
        let own = self
            .0
            .iter()
            .filter(|((c, _), o)| *c == connection && **o == owner);
        let mut roots: Vec<u64> = own.map(|((_, root), _)| *root).collect();
        roots.sort_unstable();
        roots
    }

    pub(super) fn retain(&mut self, keep: impl Fn(u64, Owner) -> bool) {
        self.0
            .retain(|(connection, _), owner| keep(*connection, *owner));
    }
}

/// All processes below all connections.
#[derive(Debug, Default)]
pub(super) struct Processes(pub HashMap<u32, Process>);

impl Processes {
    pub(super) fn owner(&self, pid: u32) -> Owner {
        self.0.get(&pid).map_or(Owner::Unknown, |p| p.owner)
    }

    /// Processes that a server process started for itself, and their children.
    pub(super) fn helpers_of(&self, server: u32) -> Vec<u32> {
        let helpers = self
            .0
            .iter()
            .filter(|(_, p)| p.owner == Owner::Helper(server));
        helpers.map(|(pid, _)| *pid).collect()
    }
}
