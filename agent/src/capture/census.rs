//! Which connections have processes, told from the events themselves.
//!
//! The programs' own table would say it too. But each look into a hash map is
//! a system call during which the kernel runs no tracepoint program on that
//! CPU (`bpf_disable_instrumentation`), and an agent that is preempted inside
//! it makes the host miss events. While sessions run, no map is looked into.

use std::collections::{HashMap, HashSet};

use auditty_capture_ebpf::{PROCESS_SERVER, Process};

use super::{
    Attach,
    event::{Fact, KernelEvent},
};

/// The living processes of all connections.
#[derive(Debug, Default)]
pub struct Census {
    members: HashMap<u32, Member>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    connection: u64,
    /// It serves the client: while it lives, somebody is connected.
    server: bool,
}

impl Census {
    /// Takes an event into account.
    pub fn count(&mut self, event: &KernelEvent) {
        let server = match &event.fact {
            Fact::ConnectionStart(_) => true,
            Fact::Present { server, .. } => *server,
            Fact::Exec(exec) => exec.server,
            Fact::Fork { parent } => self.members.get(parent).is_some_and(|parent| parent.server),
            Fact::Exit { .. } => {
                self.members.remove(&event.pid);
                return;
            }
            _ => return,
        };
        let connection = event.connection;
        self.members
            .insert(event.pid, Member { connection, server });
    }

    /// Starts again from the kernel's table, after process events were lost.
    pub fn replace(&mut self, table: impl Iterator<Item = (u32, Process)>) {
        let member = |process: Process| Member {
            connection: process.connection,
            server: process.kind == PROCESS_SERVER,
        };
        self.members = table.map(|(pid, process)| (pid, member(process))).collect();
    }

    /// Whether the hooks on system calls are to be attached for what there is.
    pub fn demands(&self, attach: Attach) -> bool {
        match attach {
            Attach::Always => true,
            Attach::OnDemand => self.is_busy(),
            Attach::WhileConnected => self.members.values().any(|member| member.server),
        }
    }

    /// Whether a connection is open, or has left processes behind.
    pub fn is_busy(&self) -> bool {
        !self.members.is_empty()
    }

    /// Connections that have a process.
    pub fn connections(&self) -> HashSet<u64> {
        let members = self.members.values();
        members.map(|member| member.connection).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::event::{ConnectionStart, Exec};

    const EXIT: Fact = Fact::Exit { wait_status: 0 };

    fn event(pid: u32, fact: Fact) -> KernelEvent {
        KernelEvent {
            boot_ns: 1,
            connection: 7,
            root: 0,
            pid,
            fact,
        }
    }

    fn exec(server: bool) -> Fact {
        Fact::Exec(Box::new(Exec {
            server,
            ..Exec::default()
        }))
    }

    #[test]
    fn a_login_and_what_it_leaves_behind() {
        let mut census = Census::default();
        census.count(&event(1, Fact::ConnectionStart(ConnectionStart::default())));
        census.count(&event(1, exec(true)));
        census.count(&event(2, Fact::Fork { parent: 1 }));
        census.count(&event(2, exec(false)));
        census.count(&event(3, Fact::Fork { parent: 2 }));
        assert!(census.demands(Attach::WhileConnected));
        census.count(&event(1, EXIT));
        assert!(census.demands(Attach::OnDemand));
        assert!(!census.demands(Attach::WhileConnected));
        assert_eq!(census.connections(), HashSet::from([7]));
        census.count(&event(2, EXIT));
        census.count(&event(3, EXIT));
        assert!(!census.demands(Attach::OnDemand));
        assert!(census.demands(Attach::Always));
    }

    /// OpenSSH serves the client in a child of the process that it began with.
    #[test]
    fn a_child_of_the_server_is_one_until_it_executes() {
        let mut census = Census::default();
        census.count(&event(1, Fact::ConnectionStart(ConnectionStart::default())));
        census.count(&event(2, Fact::Fork { parent: 1 }));
        census.count(&event(1, EXIT));
        assert!(census.demands(Attach::WhileConnected));
        census.count(&event(2, exec(false)));
        assert!(!census.demands(Attach::WhileConnected));
    }

    #[test]
    fn it_can_start_again() {
        let mut census = Census::default();
        census.count(&event(1, Fact::Fork { parent: 9 }));
        let mut process = Process::new(PROCESS_SERVER);
        process.connection = 8;
        census.replace([(4, process)].into_iter());
        assert_eq!(census.connections(), HashSet::from([8]));
        assert!(census.demands(Attach::WhileConnected));
    }
}
