//! `WatchSessions`: sessions as they are, and then every change of one. The number
//! in a resume token is the last transaction whose changes were told; a token that
//! stands for nothing begins from the beginning.

use auditty_proto::{filter::Filter, names, v1};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    latest::{Follower, Latest, resume_token, resumed},
    query::failed,
    store::{ChangePosition, GoingOn, Scope, SessionPosition, Store, nanoseconds},
};

/// Most sessions in one piece.
const PIECE: usize = 500;

/// What all streams share.
#[derive(Clone, Debug)]
pub(crate) struct Following {
    latest: Latest,
    shutdown: CancellationToken,
}

impl Following {
    /// For streams over this store, and the work of noticing changes. Both end
    /// with `shutdown`.
    pub(crate) fn new(
        store: Store,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let latest = Latest::default();
        let noticing = latest.clone().look(shutdown.clone(), move || {
            let store = store.clone();
            async move { Ok(store.session_revision().await?.change.unsigned_abs()) }
        });
        (Self { latest, shutdown }, noticing)
    }

    /// A stream that begins now.
    pub(crate) fn follower(&self) -> Follower {
        self.latest.follow(self.shutdown.clone())
    }
}

/// One stream.
pub(crate) struct Watcher {
    store: Store,
    scope: Scope,
    filter: Filter<v1::Session>,
    follower: Follower,
    generation: String,
    stage: Stage,
    /// Changes up to this one are told, when the stage is.
    change: i64,
    caught_up: bool,
}

/// What is told now.
enum Stage {
    /// Sessions as they were at the beginning, newest first, after this one.
    Snapshot(Option<SessionPosition>),
    /// What changed, after this position.
    Changes(ChangePosition),
}

impl Watcher {
    pub(crate) async fn new(
        following: &Following,
        store: Store,
        scope: Scope,
        filter: Filter<v1::Session>,
        request: &v1::WatchSessionsRequest,
    ) -> Result<Self, Status> {
        let follower = following.follower();
        let known = store.session_revision().await.map_err(failed)?;
        let resumed = resumed(&request.resume_token, &known.generation, known.change);
        let anew = request.resume_token.is_empty() && request.only_changes;
        let change = resumed.unwrap_or(known.change);
        Ok(Self {
            store,
            scope,
            filter,
            follower,
            generation: known.generation,
            stage: match resumed.is_some() || anew {
                true => Stage::Changes(behind(change)),
                false => Stage::Snapshot(None),
            },
            change,
            caught_up: false,
        })
    }

    /// The next piece, when there is one; `None` at the end of the stream.
    pub(crate) async fn next(
        mut self,
    ) -> Result<Option<(v1::WatchSessionsResponse, Self)>, Status> {
        loop {
            self.follower.begin();
            let (sessions, more) = match &self.stage {
                Stage::Snapshot(after) => self.snapshot(*after).await?,
                Stage::Changes(after) => self.changes(after.clone()).await?,
            };
            let first_time = !self.caught_up && !more;
            self.caught_up |= !more;
            if first_time || !sessions.is_empty() {
                let resume_token = match self.stage {
                    Stage::Snapshot(_) => String::new(),
                    Stage::Changes(_) => resume_token(&self.generation, self.change),
                };
                let answer = v1::WatchSessionsResponse {
                    sessions,
                    resume_token,
                    caught_up: self.caught_up,
                };
                return Ok(Some((answer, self)));
            }
            if more {
                continue;
            }
            if !self.follower.news().await {
                return Ok(None);
            }
        }
    }

    /// A page of what there is. What changes meanwhile is told afterwards.
    async fn snapshot(
        &mut self,
        after: Option<SessionPosition>,
    ) -> Result<(Vec<v1::Session>, bool), Status> {
        let always = GoingOn::default();
        let page = self
            .store
            .sessions(&self.scope, &self.filter, always, after, PIECE);
        let page = page.await.map_err(failed)?;
        let last = page.items.last().filter(|_| page.more);
        self.stage = match last.and_then(place) {
            Some(last) => Stage::Snapshot(Some(last)),
            None => Stage::Changes(behind(self.change)),
        };
        let more = matches!(self.stage, Stage::Snapshot(_));
        Ok((page.items, more))
    }

    /// A page of what changed. The token goes on when all of it is told.
    async fn changes(&mut self, after: ChangePosition) -> Result<(Vec<v1::Session>, bool), Status> {
        let known = self.store.session_revision().await.map_err(failed)?.change;
        let page = self
            .store
            .changed_sessions(&self.scope, &self.filter, &after, known, PIECE)
            .await
            .map_err(failed)?;
        let last = page.items.last().filter(|_| page.more);
        match last {
            Some((last, _)) => {
                self.change = self.change.max(last.change - 1);
                self.stage = Stage::Changes(last.clone());
            }
            None => {
                self.change = self.change.max(known);
                self.stage = Stage::Changes(behind(self.change));
            }
        }
        let sessions = page.items.into_iter().map(|(_, session)| session);
        Ok((sessions.collect(), page.more))
    }
}

/// The position after all sessions of a change: ids sort before it.
pub(crate) fn behind(change: i64) -> ChangePosition {
    ChangePosition {
        change,
        session_id: "g".to_owned(),
    }
}

fn place(session: &v1::Session) -> Option<SessionPosition> {
    Some(SessionPosition {
        start_ns: nanoseconds(session.start_time.as_ref()?)?,
        id: names::parse_session_id(&session.session_id)?,
    })
}
