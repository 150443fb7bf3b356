//! Streams of changes, and what makes them go on.
//!
//! A resume token is `GENERATION-REVISION`: the database, and the last change
//! that was told. One of another database, or from its future, which a restored
//! backup leads to, begins from the beginning.

use std::time::{Duration, Instant};

use auditty_proto::v1::{self, Role};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{Grants, nanoseconds};
use crate::{
    access::Principal,
    query::failed,
    store::{Scope, Store},
};

/// Most grants in one piece.
const PIECE: usize = 1000;
/// Who begins is not told what was over so long ago.
const TOLD_AFTER: SignedDuration = SignedDuration::from_hours(48);
/// Changes by another collector over the same database are noticed this late.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A stream ends after as long, and its caller is looked at again.
const AGE: Duration = Duration::from_secs(900);

/// Who may be told what: an agent, and whoever names a host, what is for the
/// tenant of that host's sessions.
pub(super) fn scope(caller: &Principal, host_id: &str) -> Result<Scope, Status> {
    let people = [Role::Viewer, Role::Auditor, Role::GrantWriter, Role::Admin];
    if !host_id.is_empty() || !caller.is_any_of(&people) {
        match caller.host() {
            Some(own) if !caller.is_any_of(&people) && own != host_id => {
                return Err(Status::permission_denied(format!(
                    "host_id: must be {own:?}, whose certificate or token this is"
                )));
            }
            _ => return Ok(Scope::Tenant(caller.tenant().to_owned())),
        }
    }
    Ok(caller.scope())
}

/// Looks for changes by others, for all streams of this collector at once.
pub(super) async fn notice(service: Grants) {
    let looking = async {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            if service.latest.receiver_count() == 0 {
                continue;
            }
            match service.store.grant_revision().await {
                Ok(now) => service.tell(now.revision),
                Err(error) => tracing::debug!("changes of grants are not noticed: {error}"),
            }
        }
    };
    let _ = service.shutdown.run_until_cancelled(looking).await;
}

/// One stream.
pub(super) struct Watcher {
    store: Store,
    scope: Scope,
    latest: watch::Receiver<u64>,
    shutdown: CancellationToken,
    generation: String,
    /// What was told.
    revision: u64,
    /// How far the changes were at the beginning.
    known: u64,
    /// Told from the beginning, and how far that is.
    beginning: Beginning,
    caught_up: bool,
    until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// Nothing is told yet.
    Due,
    /// Under way.
    Begun,
    /// Over, or there was none.
    Over,
}

impl Watcher {
    pub(super) async fn new(
        service: &Grants,
        scope: Scope,
        resume_token: &str,
    ) -> Result<Self, Status> {
        let latest = service.latest.subscribe();
        let known = service.store.grant_revision().await.map_err(failed)?;
        let resumed = resume_token
            .split_once('-')
            .filter(|(generation, _)| *generation == known.generation)
            .and_then(|(_, revision)| revision.parse().ok())
            .filter(|revision| *revision <= known.revision);
        Ok(Self {
            store: service.store.clone(),
            scope,
            latest,
            shutdown: service.shutdown.clone(),
            generation: known.generation,
            revision: resumed.unwrap_or(0),
            known: known.revision,
            beginning: match resumed {
                Some(_) => Beginning::Over,
                None => Beginning::Due,
            },
            caught_up: false,
            until: Instant::now() + AGE,
        })
    }

    /// The next piece, when there is one; `None` at the end of the stream.
    pub(super) async fn next(mut self) -> Result<Option<(v1::WatchGrantsResponse, Self)>, Status> {
        loop {
            self.latest.borrow_and_update();
            // Whoever comes again may hold a grant that was revoked long ago.
            let over_after = (self.beginning != Beginning::Over).then(|| {
                let moment = Timestamp::now().saturating_sub(TOLD_AFTER);
                nanoseconds(moment.unwrap_or(Timestamp::UNIX_EPOCH))
            });
            let page = self
                .store
                .changed_grants(&self.scope, self.revision, over_after, PIECE)
                .await
                .map_err(failed)?;
            if let Some(last) = page.items.last() {
                self.revision = last.revision;
            }
            if self.beginning != Beginning::Over && !page.more {
                // What was left out is told no more.
                self.revision = self.revision.max(self.known);
            }
            let first_time = !self.caught_up && !page.more;
            self.caught_up |= !page.more;
            if first_time || !page.items.is_empty() {
                let reset = self.beginning == Beginning::Due;
                self.beginning = match (self.beginning, page.more) {
                    (Beginning::Over, _) | (_, false) => Beginning::Over,
                    (_, true) => Beginning::Begun,
                };
                let answer = v1::WatchGrantsResponse {
                    grants: page.items,
                    resume_token: format!("{}-{}", self.generation, self.revision),
                    reset,
                    caught_up: self.caught_up,
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
