//! Streams of changes. A resume token that stands for nothing begins from the
//! beginning.

use auditty_proto::v1::{self, Role};
use jiff::{SignedDuration, Timestamp};
use tonic::Status;

use super::{Grants, nanoseconds};
use crate::{
    access::Principal,
    latest::{Follower, resume_token, resumed},
    query::failed,
    store::{Scope, Store},
};

/// Most grants in one piece.
const PIECE: usize = 1000;
/// Who begins is not told what was over so long ago.
const TOLD_AFTER: SignedDuration = SignedDuration::from_hours(48);

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

/// One stream.
pub(super) struct Watcher {
    store: Store,
    scope: Scope,
    follower: Follower,
    generation: String,
    /// What was told.
    revision: u64,
    /// How far the changes were at the beginning.
    known: u64,
    /// Told from the beginning, and how far that is.
    beginning: Beginning,
    caught_up: bool,
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
    pub(super) async fn new(service: &Grants, scope: Scope, token: &str) -> Result<Self, Status> {
        let follower = service.latest.follow(service.shutdown.clone());
        let known = service.store.grant_revision().await.map_err(failed)?;
        let resumed = resumed(token, &known.generation, known.revision);
        Ok(Self {
            store: service.store.clone(),
            scope,
            follower,
            generation: known.generation,
            revision: resumed.unwrap_or(0),
            known: known.revision,
            beginning: match resumed {
                Some(_) => Beginning::Over,
                None => Beginning::Due,
            },
            caught_up: false,
        })
    }

    /// The next piece, when there is one; `None` at the end of the stream.
    pub(super) async fn next(mut self) -> Result<Option<(v1::WatchGrantsResponse, Self)>, Status> {
        loop {
            self.follower.begin();
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
                    resume_token: resume_token(&self.generation, self.revision),
                    reset,
                    caught_up: self.caught_up,
                };
                return Ok(Some((answer, self)));
            }
            if !self.follower.news().await {
                return Ok(None);
            }
        }
    }
}
