//! Logins of users that `[strict]` holds: which server processes serve them.
//!
//! `permit` notes each in a file, `/run/auditty-held/<pid>-<start>`, that holds the
//! user's name. The process is the connection's first one; sshd makes it the leader
//! of a POSIX session, to which all processes of sshd for this connection belong
//! and none of the user's. `start` is when it began, in clock ticks since boot, so
//! that a process id that is used again is not taken for it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid, getsid};
use procfs::ProcError;
use procfs::process::{Process, all_processes};

/// Not below the agent's runtime folder: that goes when the agent ends.
pub(super) const FOLDER: &str = "/run/auditty-held";

/// A connection of somebody who is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) user: String,
    pub(super) sshd_pid: u32,
    start: u64,
}

/// The first process of the connection for which PAM has started this one. What
/// asks may be a helper of its own, which is gone after the login.
pub(super) fn server() -> u32 {
    let asks = getppid();
    let leader = getsid(Some(asks)).unwrap_or(asks);
    let exe = |pid: Pid| Process::new(pid.as_raw()).and_then(|process| process.exe());
    let same = matches!((exe(leader), exe(asks)), (Ok(a), Ok(b)) if a == b);
    let server = if same { leader } else { asks };
    server.as_raw().unsigned_abs()
}

/// Notes a login, and forgets those that are over.
pub(super) fn note(folder: &Path, user: &str, sshd_pid: u32) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    held(folder);
    let start = start_of(sshd_pid).ok_or(io::ErrorKind::NotFound)?;
    fs::write(folder.join(format!("{sshd_pid}-{start}")), user)
}

/// The logins that are noted and not over. The notes of the others are deleted.
pub(super) fn held(folder: &Path) -> Vec<Held> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut held = Vec::new();
    for note in entries.map(|entry| entry.path()) {
        match read(&note) {
            Some(login) if start_of(login.sshd_pid) == Some(login.start) => held.push(login),
            _ => {
                let _ = fs::remove_file(&note);
            }
        }
    }
    held
}

fn read(note: &Path) -> Option<Held> {
    let (pid, start) = note.file_name()?.to_str()?.split_once('-')?;
    Some(Held {
        user: fs::read_to_string(note).ok()?,
        sshd_pid: pid.parse().ok()?,
        start: start.parse().ok()?,
    })
}

impl Held {
    /// Sends a signal to what serves the connection; how many processes got it.
    pub(super) fn signal(&self, signal: Signal) -> Result<usize, ProcError> {
        let Ok(leader) = i32::try_from(self.sshd_pid) else {
            return Ok(0);
        };
        let mut signalled = 0;
        for process in all_processes()? {
            // One that has ended meanwhile needs no signal.
            let stat = process.and_then(|process| process.stat());
            if let Ok(stat) = stat.as_ref()
                && stat.session == leader
                && kill(Pid::from_raw(stat.pid), signal).is_ok()
            {
                signalled += 1;
            }
        }
        Ok(signalled)
    }
}

fn start_of(pid: u32) -> Option<u64> {
    let process = Process::new(i32::try_from(pid).ok()?).ok()?;
    let stat = process.stat().ok()?;
    // A zombie serves nobody.
    (stat.state != 'Z').then_some(stat.starttime)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);
    const LOOK: Duration = Duration::from_millis(5);

    #[test]
    fn a_login_is_known_until_its_process_ends_and_nobody_else_gets_the_signal() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("held");
        // Each leads a session of its own, as the server of a connection does.
        let serve = || {
            Command::new("setsid")
                .args(["sleep", "600"])
                .spawn()
                .unwrap()
        };
        let (mut one, mut other) = (serve(), serve());
        let (first, second) = (one.id(), other.id());
        let leads = |pid: u32| {
            let pid = Pid::from_raw(i32::try_from(pid).unwrap());
            getsid(Some(pid)) == Ok(pid)
        };
        let begin = Instant::now();
        while !(leads(first) && leads(second)) {
            assert!(begin.elapsed() < DEADLINE);
            std::thread::sleep(LOOK);
        }
        note(&folder, "ana", first).unwrap();
        note(&folder, "bob", second).unwrap();
        let mut users: Vec<_> = held(&folder).into_iter().map(|held| held.user).collect();
        users.sort();
        assert_eq!(users, ["ana", "bob"]);
        let ana = held(&folder).into_iter().find(|held| held.user == "ana");
        assert_eq!(ana.unwrap().signal(Signal::SIGTERM).unwrap(), 1);
        one.wait().unwrap();
        assert_eq!(held(&folder)[0].sshd_pid, second);
        assert_eq!(
            fs::read_dir(&folder).unwrap().count(),
            1,
            "its note is gone"
        );
        // The id of a process that began at another time.
        fs::write(folder.join(format!("{second}-1")), "eve").unwrap();
        assert_eq!(held(&folder).len(), 1);
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(held(&folder).is_empty());
    }
}
