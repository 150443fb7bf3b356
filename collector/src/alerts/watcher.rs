//! Streams of alerts. A resume token that stands for nothing begins with the oldest
//! alert that is kept, so that none is missed.

use auditty_proto::{filter::Filter, v1};
use tonic::Status;

use super::Alerts;
use crate::{
    latest::{Follower, resume_token, resumed},
    query::failed,
    store::{Scope, Store},
};

/// Most alerts in one piece.
const PIECE: usize = 1000;

/// One stream.
pub(super) struct Watcher {
    store: Store,
    scope: Scope,
    filter: Filter<v1::Alert>,
    follower: Follower,
    generation: String,
    /// What was told.
    revision: u64,
    begun: bool,
}

impl Watcher {
    pub(super) async fn new(
        service: &Alerts,
        scope: Scope,
        filter: Filter<v1::Alert>,
        token: &str,
    ) -> Result<Self, Status> {
        let follower = service.latest.follow(service.shutdown.clone());
        let known = service.store.alert_revision().await.map_err(failed)?;
        let revision = match token {
            "" => known.revision,
            token => resumed(token, &known.generation, known.revision).unwrap_or(0),
        };
        Ok(Self {
            store: service.store.clone(),
            scope,
            filter,
            follower,
            generation: known.generation,
            revision,
            begun: false,
        })
    }

    /// The next piece, when there is one; `None` at the end of the stream.
    pub(super) async fn next(mut self) -> Result<Option<(v1::WatchAlertsResponse, Self)>, Status> {
        loop {
            self.follower.begin();
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
                    resume_token: resume_token(&self.generation, self.revision),
                };
                return Ok(Some((answer, self)));
            }
            if !self.follower.news().await {
                return Ok(None);
            }
        }
    }
}
