//! Which connections have processes, told from the events themselves.
//!
//! The programs' own table would say it too. But each look into a hash map is
//! a system call during which the kernel runs no tracepoint program on that
//! CPU (`bpf_disable_instrumentation`), and an agent that is preempted inside
//! it makes the host miss events. While sessions run, no map is looked into.

use std::collections::{HashMap, HashSet};

use super::event::{Fact, KernelEvent};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    connection: u64,
    /// An sshd, not the user's program.
    server: bool,
}

/// The living processes of all connections.
#[derive(Debug, Default)]
pub struct Census {
    members: HashMap<u32, Member>,
    servers: usize,
}

impl Census {
    /// Takes an event into account. Events come nearly in order: a fork can
    /// stand behind its child's exec, which then says more.
    pub fn count(&mut self, event: &KernelEvent) {
        let connection = event.connection;
        match &event.fact {
            Fact::ConnectionStart(_) => self.put(event.pid, connection, true),
            Fact::Fork { parent } => {
                let parent = self.members.get(parent);
                let server = parent.is_none_or(|parent| parent.server);
                if !self.members.contains_key(&event.pid) {
                    self.put(event.pid, connection, server);
                }
            }
            Fact::Exec(exec) => self.put(event.pid, connection, exec.server),
            Fact::Exit { .. } => self.remove(event.pid),
            _ => {}
        }
    }

    /// Starts again from the kernel's table, after process events were lost:
    /// process id, connection, and whether it is an sshd.
    pub fn replace(&mut self, table: impl Iterator<Item = (u32, u64, bool)>) {
        *self = Self::default();
        for (pid, connection, server) in table {
            self.put(pid, connection, server);
        }
    }

    /// Whether an sshd serves a connection.
    pub fn is_serving(&self) -> bool {
        self.servers > 0
    }

    /// Connections that have a process.
    pub fn connections(&self) -> HashSet<u64> {
        self.members
            .values()
            .map(|member| member.connection)
            .collect()
    }

    fn put(&mut self, pid: u32, connection: u64, server: bool) {
        self.remove(pid);
        self.servers += usize::from(server);
        self.members.insert(pid, Member { connection, server });
    }

    fn remove(&mut self, pid: u32) {
        if let Some(member) = self.members.remove(&pid) {
            self.servers -= usize::from(member.server);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::event::ConnectionStart;

    fn event(pid: u32, fact: Fact) -> KernelEvent {
        KernelEvent {
            boot_ns: 1,
            connection: 7,
            root: 0,
            pid,
            fact,
        }
    }

    #[test]
    fn a_login_and_what_it_leaves_behind() {
        let mut census = Census::default();
        census.count(&event(1, Fact::ConnectionStart(ConnectionStart::default())));
        census.count(&event(2, Fact::Fork { parent: 1 }));
        assert!(census.is_serving());
        census.count(&event(2, Fact::Exec(Box::default())));
        census.count(&event(3, Fact::Fork { parent: 2 }));
        census.count(&event(1, Fact::Exit { wait_status: 0 }));
        assert!(!census.is_serving());
        assert_eq!(census.connections(), HashSet::from([7]));
        census.count(&event(2, Fact::Exit { wait_status: 0 }));
        census.count(&event(3, Fact::Exit { wait_status: 0 }));
        assert!(census.connections().is_empty());
    }

    #[test]
    fn it_can_start_again() {
        let mut census = Census::default();
        census.count(&event(1, Fact::Fork { parent: 9 }));
        census.replace([(4, 8, false)].into_iter());
        assert_eq!(
            (census.is_serving(), census.connections()),
            (false, HashSet::from([8]))
        );
    }
}
