//! Which connections have processes, told from the events themselves.
//!
//! The programs' own table would say it too. But each look into a hash map is
//! a system call during which the kernel runs no tracepoint program on that
//! CPU (`bpf_disable_instrumentation`), and an agent that is preempted inside
//! it makes the host miss events. While sessions run, no map is looked into.

use std::collections::{HashMap, HashSet};

use super::event::{Fact, KernelEvent};

/// The living processes of all connections.
#[derive(Debug, Default)]
pub struct Census {
    /// The connection of each.
    members: HashMap<u32, u64>,
}

impl Census {
    /// Takes an event into account.
    pub fn count(&mut self, event: &KernelEvent) {
        match &event.fact {
            Fact::ConnectionStart(_) | Fact::Present { .. } | Fact::Fork { .. } | Fact::Exec(_) => {
                self.members.insert(event.pid, event.connection);
            }
            Fact::Exit { .. } => {
                self.members.remove(&event.pid);
            }
            _ => {}
        }
    }

    /// Starts again from the kernel's table, after process events were lost:
    /// process ids with their connections.
    pub fn replace(&mut self, table: impl Iterator<Item = (u32, u64)>) {
        self.members = table.collect();
    }

    /// Whether a connection is open, or has left processes behind: what they do
    /// is recorded too.
    pub fn is_busy(&self) -> bool {
        !self.members.is_empty()
    }

    /// Connections that have a process.
    pub fn connections(&self) -> HashSet<u64> {
        self.members.values().copied().collect()
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
        assert!(census.is_busy());
        census.count(&event(2, Fact::Exec(Box::default())));
        census.count(&event(3, Fact::Fork { parent: 2 }));
        census.count(&event(1, Fact::Exit { wait_status: 0 }));
        assert!(census.is_busy());
        assert_eq!(census.connections(), HashSet::from([7]));
        census.count(&event(2, Fact::Exit { wait_status: 0 }));
        census.count(&event(3, Fact::Exit { wait_status: 0 }));
        assert!(!census.is_busy());
    }

    #[test]
    fn it_can_start_again() {
        let mut census = Census::default();
        census.count(&event(1, Fact::Fork { parent: 9 }));
        census.replace([(4, 8)].into_iter());
        assert_eq!(
            (census.is_busy(), census.connections()),
            (true, HashSet::from([8]))
        );
    }
}
