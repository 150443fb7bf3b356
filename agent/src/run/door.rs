//! Where the recorder says that it works: a Unix socket. Whoever connects gets a
//! line from the recorder itself, so that one which is stuck, stopped or gone
//! says nothing.

use std::fs::{self, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Where it is. Fixed: whoever asks may have no configuration.
pub(super) const SOCKET: &str = "/run/auditty/recorder.sock";

/// What a working recorder says; anything else is why it does not work.
const RECORDING: &str = "recording";

/// Answers at one go: a flood of questions must not stop the recorder.
const MOST_ANSWERS: usize = 256;

/// The recorder's side.
#[derive(Debug)]
pub(super) struct Door(UnixListener);

impl Door {
    /// Opens it, for root only. The agent holds the host's lock: a socket that
    /// is there is a dead one.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// Answers all who wait.
    pub(super) fn answer(&self, problem: Option<&str>) {
        for _ in 0..MOST_ANSWERS {
            let Ok((mut stream, _)) = self.0.accept() else {
                return;
            };
            // A line fits into the socket's buffer; one who has gone misses it.
            let _ = stream
                .set_nonblocking(true)
                .and_then(|()| stream.write_all(problem.unwrap_or(RECORDING).as_bytes()));
        }
    }
}

/// Asks the recorder of this host; why nothing is recorded when nothing is.
pub(super) fn ask(path: &Path, patience: Duration) -> Result<(), String> {
    let (sender, answer) = mpsc::channel();
    let path = path.to_owned();
    // Connecting has no time limit of its own: the queue of a stopped agent may
    // be full.
    thread::spawn(move || sender.send(read_answer(&path)));
    match answer.recv_timeout(patience) {
        Err(_) => Err("the recorder does not answer".to_owned()),
        Ok(Err(_)) => Err("no recorder runs".to_owned()),
        Ok(Ok(answer)) if answer == RECORDING => Ok(()),
        Ok(Ok(answer)) if answer.is_empty() => Err("the recorder has just ended".to_owned()),
        Ok(Ok(problem)) => Err(problem),
    }
}

fn read_answer(path: &Path) -> io::Result<String> {
    /// Longest problem that is shown.
    const MOST: u64 = 512;
    let mut answer = String::new();
    UnixStream::connect(path)?
        .take(MOST)
        .read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(300);

    #[test]
    fn only_a_recorder_that_answers_works() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recorder.sock");
        assert_eq!(ask(&path, PATIENCE), Err("no recorder runs".to_owned()));
        let door = Door::open(&path).unwrap();
        let silent = ask(&path, PATIENCE);
        assert_eq!(silent, Err("the recorder does not answer".to_owned()));
        let answers = |problem: Option<&'static str>| {
            thread::scope(|scope| {
                let asked = scope.spawn(|| ask(&path, Duration::from_secs(10)));
                while !asked.is_finished() {
                    door.answer(problem);
                    thread::sleep(Duration::from_millis(5));
                }
                asked.join().unwrap()
            })
        };
        assert_eq!(answers(None), Ok(()));
        let full = answers(Some("the spool is full"));
        assert_eq!(full, Err("the spool is full".to_owned()));
        drop(door);
        assert_eq!(ask(&path, PATIENCE), Err("no recorder runs".to_owned()));
        // An agent that died has left its socket.
        Door::open(&path).unwrap();
    }
}
