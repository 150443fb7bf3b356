//! Grants of the collector: followed while it is reached, and kept on disk for
//! the time when it is not.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auditty_grants::GrantRule;
use auditty_proto::v1::grant_service_client::GrantServiceClient;
use auditty_proto::v1::{WatchGrantsRequest, WatchGrantsResponse};
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::kept::Kept;
use super::known::Known;
use crate::delivery::Backoff;

/// Shortest time between two writes: many changes at once are one.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// How soon a write that failed is tried again.
const WRITE_AGAIN: Duration = Duration::from_secs(10);

/// What is known of the collector's grants. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Followed(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    rules: Vec<GrantRule>,
    complete: bool,
    changed: bool,
}

impl Followed {
    /// Whether anything changed since the last time this was asked.
    pub fn take_changed(&self) -> bool {
        std::mem::take(&mut self.shared().changed)
    }

    /// The grants, and whether these are all there are.
    pub fn rules(&self) -> (Vec<GrantRule>, bool) {
        let shared = self.shared();
        (shared.rules.clone(), shared.complete)
    }

    pub(super) fn set(&self, known: &Known) {
        let mut shared = self.shared();
        shared.rules = known.rules();
        (shared.complete, shared.changed) = (known.is_complete(), true);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the grants until it is stopped.
#[derive(Debug)]
pub struct Follower {
    client: GrantServiceClient<Channel>,
    host_id: String,
    kept: Kept,
    known: Known,
    /// When what is known is to be written, where it is not yet.
    write_at: Option<Instant>,
    last_write: Option<Instant>,
    followed: Followed,
    /// The trouble last logged.
    trouble: Option<Code>,
}

/// The grants that an agent before kept in `file`, for who follows none.
pub fn kept_grants(file: &Path) -> Followed {
    let followed = Followed::default();
    remember(&Kept::new(file), &mut Known::default(), &followed);
    followed
}

fn remember(kept: &Kept, known: &mut Known, followed: &Followed) {
    match kept.read() {
        Ok(Some(grants)) => {
            known.take(grants, Timestamp::now());
            followed.set(known);
        }
        Ok(None) => {}
        Err(error) => {
            let path = kept.path().display();
            tracing::error!(%path, "the copy of the collector's grants {error}; until the collector tells them again, only files grant");
        }
    }
}

impl Follower {
    /// Begins with what an agent before kept in `file`, which is known to
    /// `followed` when this returns.
    pub fn new(channel: Channel, host_id: &str, file: &Path, followed: Followed) -> Self {
        let mut follower = Self {
            client: GrantServiceClient::new(channel),
            host_id: host_id.to_owned(),
            kept: Kept::new(file),
            known: Known::default(),
            write_at: None,
            last_write: None,
            followed,
            trouble: None,
        };
        remember(&follower.kept, &mut follower.known, &follower.followed);
        follower
    }

    /// Works until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.follow()).await;
        if self.write_at.is_some() {
            self.write().await;
        }
    }

    async fn follow(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            if let Err(status) = self.watch(&mut backoff).await {
                self.note(&status);
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// One stream's worth.
    async fn watch(&mut self, backoff: &mut Backoff) -> Result<(), Status> {
        let request = WatchGrantsRequest {
            resume_token: self.known.position(),
            host_id: self.host_id.clone(),
        };
        let mut pieces = self.client.watch_grants(request).await?.into_inner();
        loop {
            let piece = match self.write_at {
                None => pieces.message().await?,
                Some(at) => match tokio::time::timeout_at(at, pieces.message()).await {
                    Ok(piece) => piece?,
                    Err(_) => {
                        self.write().await;
                        continue;
                    }
                },
            };
            let Some(piece) = piece else {
                return Ok(());
            };
            *backoff = Backoff::default();
            if self.trouble.take().is_some() {
                tracing::info!("the collector tells its grants again");
            }
            self.take(piece);
        }
    }

    fn take(&mut self, piece: WatchGrantsResponse) {
        if !self.known.take(piece, Timestamp::now()) {
            return;
        }
        self.followed.set(&self.known);
        let now = Instant::now();
        let at = self.last_write.map_or(now, |last| last + WRITE_INTERVAL);
        self.write_at.get_or_insert(at.max(now));
    }

    async fn write(&mut self) {
        let (kept, known) = (self.kept.clone(), self.known.to_message());
        let written = tokio::task::spawn_blocking(move || kept.write(&known)).await;
        let now = Instant::now();
        self.last_write = Some(now);
        self.write_at = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                tracing::error!(%error, "the collector's grants cannot be kept for the time without it");
                Some(now + WRITE_AGAIN)
            }
            Err(error) => {
                tracing::error!(%error, "the collector's grants were not kept");
                Some(now + WRITE_AGAIN)
            }
        };
    }

    fn note(&mut self, status: &Status) {
        let (code, message) = (status.code(), status.message().escape_debug());
        if self.trouble.replace(code) == Some(code) {
            return;
        }
        match code {
            Code::Unimplemented => {
                // An older collector has none.
                self.known.set_complete();
                self.followed.set(&self.known);
                tracing::warn!("the collector does not know grants: only files grant");
            }
            Code::Unauthenticated | Code::PermissionDenied => {
                tracing::error!(?code, %message, "the collector does not tell this agent its grants; those that are known stay in use");
            }
            _ => {
                tracing::warn!(?code, %message, "the collector's grants cannot be followed; those that are known stay in use");
            }
        }
    }
}
