//! Hosts that nothing is heard of. Their sessions are closed later
//! ([`crate::hearing`]); that nobody knows what happens there is an alert at once.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::{
    hearing::Hearing,
    store::{Store, StoreError},
};

/// How often it is looked for hosts that are silent.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// A collector that was away says nothing of hosts before their agents have had as
/// long to come back to it: each tries every ten seconds.
const GRACE: Duration = Duration::from_secs(20);

/// Notes hosts that fall silent, until `stop`.
pub(crate) async fn watch(
    store: &Store,
    hearing: &Hearing,
    silence: Duration,
    stop: &CancellationToken,
) {
    let looking = async {
        tokio::time::sleep(silence.max(GRACE)).await;
        loop {
            // What was heard here counts, though it is not written yet.
            let now = Timestamp::now();
            let noted = async {
                hearing.write_once(store).await?;
                note_silent(store, silence, now).await
            };
            if let Err(error) = noted.await {
                tracing::error!("the silence of hosts cannot be noted: {error}");
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    let _ = stop.run_until_cancelled(looking).await;
}

/// Notes, each with an alert, the hosts that at `now` were not heard of for
/// `silence`; how many.
pub async fn note_silent(
    store: &Store,
    silence: Duration,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let silence = SignedDuration::try_from(silence).unwrap_or(SignedDuration::MAX);
    store
        .note_silent(now.checked_sub(silence).unwrap_or(Timestamp::MIN))
        .await
}
