//! The process table: who forked whom, and to whom each process belongs.

use std::collections::HashMap;

/// A session whose recording is open, by a number of the agent's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    pub command: Option<Command>,
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
