//! What is news, for all streams of this collector at once: one question a second
//! to the database, which also sees what other collectors over it have stored, and
//! none while nobody follows.
//!
//! A resume token is `GENERATION-NUMBER`: the database, and the last that was told.
//! One of another database, or from its future, which a restored backup leads to,
//! stands for nothing.

use std::{
    fmt::Display,
    str::FromStr,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::store::StoreError;

/// News are told this late at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A stream ends after as long, and its caller is looked at again.
const AGE: Duration = Duration::from_secs(900);

/// The number of what came last. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Latest(watch::Sender<u64>);

impl Default for Latest {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Latest {
    /// To be told when it changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    /// A stream that follows from now on, until `shutdown` at the latest.
    pub(crate) fn follow(&self, shutdown: CancellationToken) -> Follower {
        Follower {
            latest: self.subscribe(),
            shutdown,
            until: Instant::now() + AGE,
        }
    }

    /// Tells what was stored here, without waiting for the next look.
    pub(crate) fn tell(&self, number: u64) {
        self.0.send_if_modified(|latest| {
            let news = *latest < number;
            *latest = number.max(*latest);
            news
        });
    }

    /// Asks until `stop`.
    pub(crate) async fn look<F>(self, stop: CancellationToken, ask: impl Fn() -> F)
    where
        F: Future<Output = Result<u64, StoreError>>,
    {
        let looking = async {
            loop {
                tokio::time::sleep(LOOK_INTERVAL).await;
                if self.0.receiver_count() == 0 {
                    continue;
                }
                match ask().await {
                    Ok(now) => {
                        self.0.send_if_modified(|latest| {
                            let news = *latest != now;
                            *latest = now;
                            news
                        });
                    }
                    Err(error) => tracing::debug!("news are not noticed: {error}"),
                }
            }
        };
        let _ = stop.run_until_cancelled(looking).await;
    }
}

/// One stream: what wakes it, and when it ends.
#[derive(Debug)]
pub(crate) struct Follower {
    latest: watch::Receiver<u64>,
    shutdown: CancellationToken,
    until: Instant,
}

impl Follower {
    /// The database is about to be asked: what is stored from now on is news.
    pub(crate) fn begin(&mut self) {
        self.latest.borrow_and_update();
    }

    /// Waits for news; `false` at the end of the stream.
    pub(crate) async fn news(&mut self) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        tokio::select! {
            () = self.shutdown.cancelled() => false,
            changed = self.latest.changed() => changed.is_ok(),
            () = tokio::time::sleep(left) => false,
        }
    }
}

/// Where a stream of this database goes on after `number`.
pub(crate) fn resume_token(generation: &str, number: impl Display) -> String {
    format!("{generation}-{number}")
}

/// The number in a resume token of a database that is at `known`.
pub(crate) fn resumed<N: FromStr + PartialOrd>(
    token: &str,
    generation: &str,
    known: N,
) -> Option<N> {
    let (of, number) = token.split_once('-')?;
    let number = number.parse().ok().filter(|_| of == generation)?;
    (number <= known).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_another_database_or_of_its_future_stands_for_nothing() {
        let token = resume_token("ab", 7);
        assert_eq!(resumed(&token, "ab", 7), Some(7));
        assert_eq!(resumed(&token, "ab", 6), None);
        assert_eq!(resumed(&token, "cd", 9), None);
        for wrong in ["", "ab", "ab-", "ab-x", "-7", "7"] {
            assert_eq!(resumed(wrong, "ab", 9), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn what_was_told_before_is_no_news() {
        let (latest, shutdown) = (Latest::default(), CancellationToken::new());
        let mut follower = latest.follow(shutdown.clone());
        latest.tell(3);
        assert!(follower.news().await);
        follower.begin();
        latest.tell(2);
        latest.tell(4);
        assert!(follower.news().await);
        shutdown.cancel();
        assert!(!follower.news().await);
    }
}
