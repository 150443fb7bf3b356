//! Bounds of what the sessions hold in memory, and what was counted.

/// Bounds. What happens at each is counted in [`Counters`], and declared on the
/// timeline of the session it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. More than sshd accepts anywhere; at the bound a new
    /// connection is not followed.
    pub connections: usize,
    /// Processes below all connections. The kernel's default `pid_max` on small
    /// machines; at the bound a new process is not followed.
    pub processes: usize,
    /// Sessions whose recording is open. At the bound a new one is not recorded.
    pub sessions: usize,
    /// Bytes kept per connection for pipes that no session has claimed yet: a
    /// client may send this much before its command runs.
    pub pending_pipe_bytes: usize,
    /// Events kept per connection of programs that sshd started before the
    /// session's own.
    pub held_events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            processes: 32_768,
            sessions: 4096,
            pending_pipe_bytes: 1 << 20,
            held_events: 64,
        }
    }
}

/// What was counted since the start, for status reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Kernel events taken.
    pub events: u64,
    /// Connections seen.
    pub connections: u64,
    /// Sessions begun.
    pub sessions_started: u64,
    /// Sessions finished.
    pub sessions_finished: u64,
    /// Execs that belong to no session: programs sshd runs for itself, and
    /// processes whose origin is not known.
    pub unattributed_execs: u64,
    /// Bytes of terminals and pipes that belong to no session.
    pub unattributed_bytes: u64,
    /// Losses that concern no open session.
    pub unattributed_losses: u64,
    /// Connections that ended without a login somebody wanted.
    pub failed_logins: u64,
    /// Monitor messages after the login was complete.
    pub late_monitor_messages: u64,
    /// Connections not followed at the bound.
    pub refused_connections: u64,
    /// Processes not followed at the bound.
    pub refused_processes: u64,
    /// Sessions not recorded at the bound.
    pub refused_sessions: u64,
    /// Events the spool did not take.
    pub spool_errors: u64,
}
