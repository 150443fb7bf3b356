//! Uses of the break-glass group: sessions that began although nothing recorded. And
//! sessions that were ended because nothing recorded.
//!
//! Each is a file in `<state_directory>/break-glass`, written by
//! `permit` or `guard`. An
//! agent that comes back puts a `break_glass` marker into the recording of the
//! session, if that is still open or was caught by pinned programs, and brings
//! the file to the store, as `v1/host=<host id>/break-glass/<name>`.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use auditty_recording::key::host_folder;
use auditty_recording::store::{AnyStore, Body};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::held;
use crate::sessions::Unrecorded;

/// How often files are looked for that the store does not have.
const LOOK: Duration = Duration::from_secs(5);

/// Files that are read at once: the latest ones.
const MOST: usize = 1024;

/// Behind the name of a file that the store has.
const STORED: &str = ".stored";

const BREAK_GLASS: &str = "break_glass";
const ENDED: &str = "ended_unrecorded";

/// One use, or one end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Use {
    kind: String,
    time: Timestamp,
    user: String,
    /// As PAM says.
    client: String,
    /// The server process that asked: the first one of the connection.
    sshd_pid: u32,
    /// Why nothing recorded.
    problem: String,
}

impl Use {
    pub(super) fn now(user: &str, problem: &str) -> Self {
        Self {
            kind: BREAK_GLASS.to_owned(),
            time: Timestamp::now(),
            user: user.to_owned(),
            client: std::env::var("PAM_RHOST").unwrap_or_default(),
            sshd_pid: held::server(),
            problem: problem.to_owned(),
        }
    }

    /// A login was ended.
    pub(super) fn ended(user: &str, sshd_pid: u32, problem: &str) -> Self {
        Self {
            kind: ENDED.to_owned(),
            time: Timestamp::now(),
            user: user.to_owned(),
            client: String::new(),
            sshd_pid,
            problem: problem.to_owned(),
        }
    }

    /// Writes it down durably, below the agent's state directory.
    pub(super) fn keep(&self, state_directory: &Path) -> io::Result<()> {
        let folder = folder(state_directory);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let time = self.time.strftime("%Y-%m-%dT%H-%M-%S-%6f");
        let path = folder.join(format!("{time}-{}.json", self.sshd_pid));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        File::open(folder)?.sync_all()
    }
}

/// For logs and for the timeline.
impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            time,
            user,
            client,
            sshd_pid,
            problem,
            kind,
        } = self;
        if kind == ENDED {
            return write!(
                f,
                "strict: the login of {user} at sshd {sshd_pid} was ended at {time}, because \
                 nothing recorded it: {problem}"
            );
        }
        write!(
            f,
            "break-glass: {user} from {client} was let in at {time} by sshd {sshd_pid} although \
             nothing recorded: {problem}"
        )
    }
}

fn folder(state_directory: &Path) -> PathBuf {
    state_directory.join("break-glass")
}

/// What is known of uses, for the recorder.
pub(super) struct Uses {
    folder: PathBuf,
    seen: Option<SystemTime>,
}

impl Uses {
    pub(super) fn new(state_directory: &Path) -> Self {
        Self {
            folder: folder(state_directory),
            seen: None,
        }
    }

    /// All uses, when there are new ones since the last call.
    pub(super) fn news(&mut self) -> Option<Vec<Unrecorded>> {
        let changed = fs::metadata(&self.folder).and_then(|folder| folder.modified());
        let changed = changed.ok()?;
        if self.seen.replace(changed) == Some(changed) {
            return None;
        }
        let all = read(&self.folder).into_iter().map(|(_, used)| used);
        let uses = all.filter(|used| used.kind == BREAK_GLASS);
        let unrecorded = uses.map(|used| Unrecorded {
            sshd_pid: used.sshd_pid,
            since: used.time,
            message: used.to_string(),
        });
        Some(unrecorded.collect())
    }
}

/// The latest uses.
fn read(folder: &Path) -> Vec<(PathBuf, Use)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let latest = paths.into_iter().rev().take(MOST);
    latest
        .filter_map(|path| {
            let used = serde_json::from_slice(&fs::read(&path).ok()?);
            match used {
                Ok(used) => Some((path, used)),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a note of a break-glass login cannot be read");
                    None
                }
            }
        })
        .collect()
}

/// Brings notes to the store until it is stopped.
pub(super) async fn deliver(
    state_directory: PathBuf,
    store: AnyStore,
    host_id: String,
    stop: CancellationToken,
) {
    let work = async {
        loop {
            deliver_all(&folder(&state_directory), &store, &host_id).await;
            tokio::time::sleep(LOOK).await;
        }
    };
    stop.run_until_cancelled(work).await;
}

async fn deliver_all(folder: &Path, store: &AnyStore, host_id: &str) {
    for (path, used) in read(folder) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if name.ends_with(STORED) {
            continue;
        }
        let key = format!("{}break-glass/{name}", host_folder(host_id));
        let Ok(body) = fs::read(&path) else { continue };
        let stored = match store.put_new(&key, Body::from(body)).await {
            // Its name is its content's: nobody else writes it.
            Ok(_) => {
                tracing::error!("{used}");
                fs::rename(&path, folder.join(format!("{name}{STORED}")))
            }
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = stored {
            tracing::warn!(%error, "a note of a break-glass login is not stored yet");
            return;
        }
    }
}
