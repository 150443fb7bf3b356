//! Which hosts are heard of. An agent reports at least every ten seconds, if only
//! that its recorder is there. When a host is not heard of for the configured
//! time, the sessions that were going on there are closed, with the end reason
//! `host_silent` and the verdict `INTERRUPTED`: nobody knows what happens there.
//! When it comes back they are as they were, and what its agent then reports is
//! the truth.
//!
//! When a host was heard of is kept in the database, so that several collectors
//! can share it. A collector closes nothing before it has listened that long
//! itself.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use auditty_proto::v1;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::store::{Heard, HostName, Store, StoreError};

/// How often it is written which hosts were heard of, all in one transaction.
const WRITE_INTERVAL: Duration = Duration::from_secs(5);
/// How often it is looked for hosts that are silent.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);
/// Silence after which sessions are closed unless told otherwise.
pub const DEFAULT_SILENCE: Duration = Duration::from_secs(600);

/// Listens. Clones share what they heard.
#[derive(Clone, Debug, Default)]
pub struct Hearing {
    /// What is not written yet. Bounded by the rate of calls.
    heard: Arc<Mutex<BTreeMap<HostName, Heard>>>,
}

impl Hearing {
    /// A host has reported something, or that it is there.
    pub(crate) fn heard(&self, host: HostName, boot_id: &str, report: Option<v1::HostReport>) {
        let heard = Heard {
            boot_id: boot_id.to_owned(),
            time: Timestamp::now(),
            report: report.map(Box::new),
        };
        self.lock().entry(host).or_default().follow(heard);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<HostName, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what was heard until `stop`.
    pub(crate) async fn write(&self, store: &Store, stop: &CancellationToken) {
        while pause(WRITE_INTERVAL, stop).await {
            if let Err(error) = self.write_once(store).await {
                tracing::error!("it cannot be noted which hosts were heard of: {error}");
            }
        }
    }

    /// Writes what was heard; what cannot be written is not forgotten.
    pub(crate) async fn write_once(&self, store: &Store) -> Result<(), StoreError> {
        let heard = mem::take(&mut *self.lock());
        let written = store.note_heard(&heard).await;
        match &written {
            Ok(back) => {
                for (host, sessions) in back {
                    let host_id = host.host_id.escape_debug();
                    tracing::info!(%host_id, sessions, "a host is back: its sessions are as it left them");
                }
            }
            Err(_) => {
                let mut now = self.lock();
                for (host, mut heard) in heard {
                    if let Some(later) = now.remove(&host) {
                        heard.follow(later);
                    }
                    now.insert(host, heard);
                }
            }
        }
        written.map(|_| ())
    }
}

/// Closes the sessions of silent hosts until `stop`.
pub async fn watch(store: &Store, silence: Duration, stop: &CancellationToken) {
    if !pause(silence, stop).await {
        return;
    }
    loop {
        if let Err(error) = close_silent(store, silence, Timestamp::now()).await {
            tracing::error!("sessions of silent hosts cannot be closed: {error}");
        }
        if !pause(LOOK_INTERVAL, stop).await {
            return;
        }
    }
}

/// Waits; whether to go on.
async fn pause(duration: Duration, stop: &CancellationToken) -> bool {
    let pause = tokio::time::sleep(duration);
    stop.run_until_cancelled(pause).await.is_some()
}

/// Closes the sessions of hosts that at `now` were not heard of for `silence`;
/// how many.
pub async fn close_silent(
    store: &Store,
    silence: Duration,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let silence = SignedDuration::try_from(silence).unwrap_or(SignedDuration::MAX);
    let before = now.checked_sub(silence).unwrap_or(Timestamp::MIN);
    let mut closed = 0;
    for (host, since) in store.silent_hosts(before).await? {
        let sessions = store.close_silent(&host, since).await?;
        let host_id = host.host_id.escape_debug();
        tracing::warn!(%host_id, %since, sessions, "a host is silent: its sessions are closed");
        closed += sessions;
    }
    Ok(closed)
}
