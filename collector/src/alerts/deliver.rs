//! Alerts on their way to a destination: in order, at least once. What a
//! destination does not take is tried again, ever more slowly; a restart goes on
//! where the cursor in the database is.

use std::{fmt, time::Duration};

use auditty_proto::{filter::Filter, v1};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{post::Post, sns::Sns, syslog::Syslog};
use crate::{
    latest::Latest,
    store::{Scope, Store, StoreError},
};

/// Most alerts of one delivery.
const BATCH: usize = 100;
/// Longest time of one delivery.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a collector has a destination without saying so again: longer than a
/// delivery takes.
const HOLD: SignedDuration = SignedDuration::from_secs(20);
/// Pauses between tries.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Where alerts go.
pub struct Destination {
    /// Its name; the cursor is kept under it.
    pub(super) name: String,
    /// Which alerts go there.
    pub(super) filter: Filter<v1::Alert>,
    pub(super) way: Way,
}

/// How they go there.
pub(super) enum Way {
    Post(Box<Post>),
    Syslog(Syslog),
    Sns(Box<Sns>),
}

/// Says which it is, not what its secret is.
impl fmt::Debug for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

/// Why a destination did not take alerts.
#[derive(Debug, thiserror::Error)]
pub(super) enum Undelivered {
    /// It may take them later.
    #[error("{0}")]
    Passing(String),
    /// It will never take these.
    #[error("{0}")]
    Refused(String),
}

/// What became of a round.
enum Round {
    /// There is nothing more.
    Done,
    /// There may be more.
    More,
    /// Another collector delivers there.
    Held,
}

/// Delivers to one destination until `stop`.
pub(crate) async fn deliver(
    store: &Store,
    destination: &Destination,
    latest: &Latest,
    stop: &CancellationToken,
) {
    let holder = Uuid::now_v7().to_string();
    let mut news = latest.subscribe();
    let work = async {
        let mut pause = FIRST_PAUSE;
        loop {
            news.borrow_and_update();
            match destination.round(store, &holder).await {
                Ok(Round::More) => pause = FIRST_PAUSE,
                Ok(Round::Done) => {
                    pause = FIRST_PAUSE;
                    if news.changed().await.is_err() {
                        return;
                    }
                }
                Ok(Round::Held) => tokio::time::sleep(TIMEOUT).await,
                Err(error) => {
                    tracing::error!(
                        destination = destination.name,
                        "alerts wait, the next try is in {pause:?}: {error}"
                    );
                    tokio::time::sleep(pause).await;
                    pause = LAST_PAUSE.min(pause * 2);
                }
            }
        }
    };
    let _ = stop.run_until_cancelled(work).await;
}

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Undelivered(#[from] Undelivered),
}

impl Destination {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Delivers what is next.
    async fn round(&self, store: &Store, holder: &str) -> Result<Round, RoundError> {
        let until = Timestamp::now().saturating_add(HOLD);
        let until = until.unwrap_or(Timestamp::MAX);
        let held = store.take_destination(&self.name, holder, until).await?;
        let Some(cursor) = held else {
            return Ok(Round::Held);
        };
        let known = store.alert_revision().await?.revision;
        // A backup was restored: its next alerts have numbers that were told.
        let cursor = cursor.min(known);
        let page = store.alerts_after(&Scope::All, &self.filter, cursor, BATCH);
        let page = page.await?;
        let revision = match page.items.last() {
            Some(last) if page.more => last.revision,
            Some(last) => last.revision.max(known),
            None => known,
        };
        if !page.items.is_empty() {
            match self.send(&page.items).await {
                Err(Undelivered::Refused(reason)) => tracing::error!(
                    destination = self.name,
                    alerts = page.items.len(),
                    "alerts are refused, and stand in the collector alone: {reason}"
                ),
                sent => sent?,
            }
        }
        if revision != cursor || !page.items.is_empty() {
            store.delivered(&self.name, holder, revision).await?;
        }
        Ok(match page.more {
            true => Round::More,
            false => Round::Done,
        })
    }

    async fn send(&self, alerts: &[v1::Alert]) -> Result<(), Undelivered> {
        let sending = async {
            match &self.way {
                Way::Post(post) => post.send(alerts).await,
                Way::Syslog(syslog) => syslog.send(alerts).await,
                Way::Sns(sns) => sns.send(alerts).await,
            }
        };
        let late = || Undelivered::Passing(format!("no answer in {TIMEOUT:?}"));
        tokio::time::timeout(TIMEOUT, sending)
            .await
            .unwrap_or_else(|_| Err(late()))
    }
}
