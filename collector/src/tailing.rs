//! `TailSession`: one session as it is, and what comes of it until it has ended. A
//! host reports the events of a session in their order, so whoever has a number has
//! all before it; commands and activities have a place each, as one may be stored
//! between the questions for the two.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, Instant},
};

use auditty_proto::{
    filter::{Filter, FilterError},
    v1,
};
use tonic::Status;
use uuid::Uuid;

use crate::{
    following::{Following, behind},
    latest::{Follower, resume_token, resumed},
    query::{failed, find, invalid_filter},
    store::{Scope, Store},
};

/// Most commands or activities in one piece.
const PIECE: usize = 500;

/// An agent reports that a session has ended before the last of what happened in it,
/// which may take requests of their own: as long nothing more must come.
const LAST_REPORTS: Duration = Duration::from_secs(5);

/// Up to where everything was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    /// Changes of the session up to this one.
    change: i64,
    /// Number of the last command.
    command: i64,
    /// Number of the last activity.
    activity: i64,
}

impl Told {
    /// The furthest there can be in a database that is at this change.
    fn furthest(change: i64) -> Self {
        Self {
            change,
            command: i64::MAX,
            activity: i64::MAX,
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            change,
            command,
            activity,
        } = self;
        write!(formatter, "{change}.{command}.{activity}")
    }
}

impl FromStr for Told {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.splitn(3, '.').map(|number| number.parse::<i64>().ok());
        let mut next = || numbers.next().flatten().ok_or(());
        Ok(Self {
            change: next()?,
            command: next()?,
            activity: next()?,
        })
    }
}

/// One stream.
pub(crate) struct Tail {
    store: Store,
    scope: Scope,
    id: Uuid,
    /// This session alone.
    filter: Filter<v1::Session>,
    follower: Follower,
    generation: String,
    told: Told,
    /// The session as it is, when nothing of it was told yet.
    session: Option<v1::Session>,
    over: bool,
    /// How long nothing may come before a session that is over was told to the end.
    patience: Duration,
    /// When something came last.
    latest: Instant,
    caught_up: bool,
}

impl Tail {
    /// Of a session that the caller may see.
    pub(crate) async fn new(
        following: &Following,
        store: Store,
        scope: Scope,
        id: Uuid,
        request: &v1::TailSessionRequest,
    ) -> Result<Self, Status> {
        let follower = following.follower();
        let known = store.session_revision().await.map_err(failed)?;
        let session = find(&store, &scope, id).await?;
        let furthest = Told::furthest(known.change);
        let resumed = resumed(&request.resume_token, &known.generation, furthest);
        let anew = request.resume_token.is_empty() && request.new_only;
        let (command, activity) = match anew {
            true => store.last_numbers(id).await.map_err(failed)?,
            false => (0, 0),
        };
        Ok(Self {
            filter: only(id).map_err(invalid_filter)?,
            store,
            scope,
            id,
            follower,
            generation: known.generation,
            told: resumed.unwrap_or(Told {
                change: known.change,
                command,
                activity,
            }),
            over: is_over(&session),
            patience: match is_over(&session) {
                true => Duration::ZERO,
                false => LAST_REPORTS,
            },
            latest: Instant::now(),
            session: Some(session).filter(|_| resumed.is_none()),
            caught_up: false,
        })
    }

    /// The next piece, when there is one; `None` at the end of the stream.
    pub(crate) async fn next(mut self) -> Result<Option<(v1::TailSessionResponse, Self)>, Status> {
        loop {
            self.follower.begin();
            // First the session: what came with its end is there afterwards.
            let session = self.session().await?;
            let commands = self.commands().await?;
            // Together they could be more than a message may be.
            let (activities, more) = match commands.is_empty() {
                true => self.activities().await?,
                false => (Vec::new(), true),
            };
            let news = session.is_some() || !commands.is_empty() || !activities.is_empty();
            let first_time = !self.caught_up && !more;
            self.caught_up |= !more;
            if news || first_time {
                self.latest = Instant::now();
                let answer = v1::TailSessionResponse {
                    session,
                    commands,
                    activities,
                    resume_token: resume_token(&self.generation, self.told),
                    caught_up: self.caught_up,
                };
                return Ok(Some((answer, self)));
            }
            if !self.wait().await {
                return Ok(None);
            }
        }
    }

    /// Waits until the database is worth another look; `false` at the end of the
    /// stream.
    async fn wait(&mut self) -> bool {
        if !self.over {
            return self.follower.news().await;
        }
        let left = self.patience.saturating_sub(self.latest.elapsed());
        if left.is_zero() {
            return false;
        }
        // After the wait comes one more look.
        let news = tokio::time::timeout(left, self.follower.news()).await;
        news.unwrap_or(true)
    }

    /// The session, where it is news.
    async fn session(&mut self) -> Result<Option<v1::Session>, Status> {
        if let Some(session) = self.session.take() {
            return Ok(Some(session));
        }
        let known = self.store.session_revision().await.map_err(failed)?.change;
        let after = behind(self.told.change);
        let changed = self
            .store
            .changed_sessions(&self.scope, &self.filter, &after, known, 1)
            .await
            .map_err(failed)?;
        self.told.change = self.told.change.max(known);
        let session = changed.items.into_iter().next();
        let session = session.map(|(_, session)| session);
        if let Some(session) = &session {
            self.over = is_over(session);
        }
        Ok(session)
    }

    async fn commands(&mut self) -> Result<Vec<v1::Command>, Status> {
        let all = Filter::every();
        let page = self
            .store
            .commands(self.id, &all, self.told.command, PIECE)
            .await
            .map_err(failed)?;
        if let Some(last) = page.items.last() {
            self.told.command = number(last.seq);
        }
        Ok(page.items)
    }

    /// And whether there are more.
    async fn activities(&mut self) -> Result<(Vec<v1::Activity>, bool), Status> {
        let all = Filter::every();
        let page = self
            .store
            .activities(self.id, &all, self.told.activity, PIECE)
            .await
            .map_err(failed)?;
        if let Some(last) = page.items.last() {
            self.told.activity = number(last.seq);
        }
        Ok((page.items, page.more))
    }
}

fn only(id: Uuid) -> Result<Filter<v1::Session>, FilterError> {
    Filter::sessions(&format!("session_id = \"{id}\""))
}

fn is_over(session: &v1::Session) -> bool {
    session.state() == v1::SessionState::Closed
}

/// As the database has it.
fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::Told;
    use crate::latest::{resume_token, resumed};

    #[test]
    fn a_token_says_how_far_all_three_are() {
        let told = Told {
            change: 7,
            command: 12,
            activity: 3,
        };
        let token = resume_token("ab", told);
        assert_eq!(resumed(&token, "ab", Told::furthest(7)), Some(told));
        assert_eq!(resumed(&token, "ab", Told::furthest(6)), None);
        for wrong in ["ab-7", "ab-7.1", "ab-7.1.x", "ab-7.1.2.3", "ab-"] {
            assert_eq!(resumed(wrong, "ab", Told::furthest(9)), None, "{wrong}");
        }
    }
}
