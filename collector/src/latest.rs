//! What is news, for all streams of this collector at once: one question a second
//! to the database, which also sees what other collectors over it have stored, and
//! none while nobody follows.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::store::StoreError;

/// News are told this late at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

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
