//! Streams of alerts. A resume token is `GENERATION-REVISION`, as of grants: one of
//! another database, or from its future, which a restored backup leads to, begins
//! with the oldest alert that is kept, so that none is missed.

use std::time::{Duration, Instant};

use auditty_proto::{filter::Filter, v1};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::Alerts;
use crate::{
    query::failed,
    store::{Scope, Store},
};

/// Most alerts in one piece.
const PIECE: usize = 1000;
/// A stream ends after as long, and its caller is looked at again.
const AGE: Duration = Duration::from_secs(900);

/// One stream.
pub(super) struct Watcher {
    store: Store,
    scope: Scope,
    filter: Filter<v1::Alert>,
    latest: watch::Receiver<u64>,
    shutdown: CancellationToken,
    generation: String,
    /// What was told.
    revision: u64,
    begun: bool,
    until: Instant,
}

impl Watcher {
    pub(super) async fn new(
        service: &Alerts,
        scope: Scope,
        filter: Filter<v1::Alert>,
        resume_token: &str,
    ) -> Result<Self, Status> {
        let latest = service.latest.subscribe();
        let known = service.store.alert_revision().await.map_err(failed)?;
        let revision = match resume_token {
            "" => known.revision,
            token => token
                .split_once('-')
                .filter(|(generation, _)| *generation == known.generation)
                .and_then(|(_, revision)| revision.parse().ok())
                .filter(|revision| *revision <= known.revision)
                .unwrap_or(0),
        };
        Ok(Self {
            store: service.store.clone(),
            scope,
            filter,
            latest,
            shutdown: service.shutdown.clone(),
            generation: known.generation,
            revision,
            begun: false,
            until: Instant::now() + AGE,
        })
    }

    /// The next piece, when there is one; `None` at the end of the stream.
    pub(super) async fn next(mut self) -> Result<Option<(v1::WatchAlertsResponse, Self)>, Status> {
        loop {
            self.latest.borrow_and_update();
            let known = self.store.alert_revision().await.map_err(failed)?;
            let page = self
                .store
                .alerts_after(&self.scope, &self.filter, self.revision, PIECE)
                .await
                .map_err(failed)?;
            match page.items.last() {
                Some(last) if page.more => self.revision = last.revision,
                // What does not match is behind it as well.
                last => {
                    let last = last.map_or(0, |last| last.revision);
                    self.revision = self.revision.max(known.revision).max(last);
                }
            }
            if !self.begun || !page.items.is_empty() {
                self.begun = true;
                let answer = v1::WatchAlertsResponse {
                    alerts: page.items,
                    resume_token: format!("{}-{}", self.generation, self.revision),
                };
                return Ok(Some((answer, self)));
            }
            let left = self.until.saturating_duration_since(Instant::now());
            tokio::select! {
                () = self.shutdown.cancelled() => return Ok(None),
                changed = self.latest.changed() => if changed.is_err() { return Ok(None) },
                () = tokio::time::sleep(left) => return Ok(None),
            }
        }
    }
}
