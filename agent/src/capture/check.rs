//! What this kernel allows: which hooks would be used, and what would not be
//! captured.

use std::path::Path;

use super::{CaptureError, Options, hooks::Hooks};

/// The answer of [`check`].
#[derive(Debug)]
pub struct Check {
    /// Kernel release, as `uname -r` has it.
    pub kernel: String,
    /// Name of the way of capture that would be used.
    pub mode: &'static str,
    /// The hooks, one line each.
    pub hooks: Vec<String>,
    /// What would not be captured, one line each.
    pub limits: Vec<String>,
    /// Instructions the verifier went through, by program, where the kernel
    /// tells.
    pub verified_instructions: Vec<(String, Option<u32>)>,
}

const HOOKS: [&str; 6] = [
    "task:task_newtask — lineage of processes (always attached)",
    "sched:sched_process_exec — commands and connections (always attached)",
    "sched:sched_process_exit — exit codes and ends (always attached)",
    "raw_syscalls:sys_enter — terminals, pipes, login (attached while a connection exists)",
    "raw_syscalls:sys_exit — terminals, pipes, login (attached while a connection exists)",
    "sock:inet_sock_set_state — network connections and forwards (attached while a connection exists)",
];

const LIMITS: [&str; 7] = [
    "inner terminals (tmux, screen, script): their commands are captured, their screens only as the client sees them",
    "passwords at prompts that put the terminal into raw mode, or on the far side of a nested ssh, are not masked",
    "SSH servers other than OpenSSH and dropbear",
    "datagrams (UDP, ICMP), the ends of connections over Unix sockets, and those that io_uring accepts or makes over Unix sockets",
    "commands that other daemons run on a user's behalf (cron, at, systemd-run, containers)",
    "contents of forwarded connections (-L, -R, -D), and of X11 and agent forwarding",
    "whatever happens while no agent runs: it is declared as a gap in every session that was open",
];

/// Loads every program into the running kernel, attaches it for a moment, and
/// says what that means.
pub fn check() -> Result<Check, CaptureError> {
    let mut hooks = Hooks::load(&Options::default())?;
    hooks.attach_processes()?;
    hooks.attach_streams()?;
    hooks.detach_streams()?;
    let mut limits: Vec<String> = LIMITS.map(str::to_owned).to_vec();
    if !Path::new("/proc/self/loginuid").exists() {
        limits.push("login user ids: this kernel is built without auditing".to_owned());
    }
    Ok(Check {
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        mode: "tracepoints",
        hooks: HOOKS.map(str::to_owned).to_vec(),
        limits,
        verified_instructions: hooks.verified_instructions(),
    })
}
