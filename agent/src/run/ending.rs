//! Ends sessions that have outlived their grants: their sshd is told to.

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::process::Process;

use crate::capture::is_alive;
use crate::config::{Grants, WhenOver};
use crate::sessions::Overdue;

/// `CAP_KILL` (linux/capability.h): sshd serves a session as its user.
const CAP_KILL: u64 = 1 << 5;

/// Fails where sessions are to be ended and this process may not.
pub(super) fn may_end(grants: &Grants) -> Result<()> {
    if grants.when_over() == WhenOver::Flag {
        return Ok(());
    }
    let status = Process::myself().and_then(|own| own.status());
    let own = status.context("reading the own capabilities")?.capeff;
    if own & CAP_KILL == 0 {
        bail!("grants.when_over = \"end\" needs the capability CAP_KILL");
    }
    Ok(())
}

/// Tells these processes to end; those that were told before and did not, are
/// killed. A process id that belongs to another process by now is left alone.
pub(super) fn end_overdue(overdue: &[Overdue]) {
    for process in overdue {
        if !is_alive(process.pid, process.start_boot_ns) {
            continue;
        }
        let signal = match process.insist {
            true => Signal::SIGKILL,
            false => Signal::SIGTERM,
        };
        let Ok(pid) = i32::try_from(process.pid) else {
            continue;
        };
        match kill(Pid::from_raw(pid), signal) {
            Ok(()) => tracing::warn!(
                pid,
                %signal,
                "the sessions of this sshd process have outlived their grants: it is told to end"
            ),
            Err(error) => tracing::error!(
                pid,
                %signal,
                %error,
                "an sshd process whose sessions have outlived their grants cannot be told to end"
            ),
        }
    }
}
