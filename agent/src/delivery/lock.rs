//! One agent per spool, and one per host.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::files::SpoolError;

/// Held as long as the agent lives; the kernel gives it back when it dies.
#[must_use]
pub struct AgentLock {
    _file: Flock<File>,
}

impl AgentLock {
    /// Takes the lock in `path`. Fails at once when another agent holds it,
    /// naming that agent's pid.
    pub fn take(path: &Path) -> Result<Self, SpoolError> {
        let failed = |error: io::Error| SpoolError::new("lock", path, error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                // Without the pid the message still says what is wrong.
                let _ = (&mut file).take(32).read_to_string(&mut pid);
                let problem = format!("another agent is running, with pid {}", pid.trim());
                return Err(failed(io::Error::other(problem)));
            }
            Err((_, error)) => return Err(failed(error.into())),
        };
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::AgentLock;

    #[test]
    fn a_second_agent_is_told_who_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = AgentLock::take(&path).unwrap();
        let error = AgentLock::take(&path).err().unwrap().to_string();
        let pid = std::process::id();
        assert!(
            error.contains(&format!("another agent is running, with pid {pid}")),
            "{error}"
        );
        drop(held);
        drop(AgentLock::take(&path).unwrap());
    }
}
