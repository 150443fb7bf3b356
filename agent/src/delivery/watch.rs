//! Looks at the store when the agent starts and every hour: can it be written,
//! and is it protected as it should be?
//!
//! The look is a put of a small object, one an hour, with the same rights and
//! settings as every other: `v1/host=<host id>/checks/<hour>.json`.

use std::sync::Arc;
use std::time::Duration;

use auditty_recording::key::host_folder;
use auditty_recording::store::{AnyStore, Body, Inspection, StoreError};
use jiff::{Timestamp, tz::TimeZone};
use tokio_util::sync::CancellationToken;

use super::upload::Uploads;

const INTERVAL: Duration = Duration::from_secs(3600);

/// A store that could not be looked at is looked at again after this.
const AGAIN: Duration = Duration::from_secs(60);

/// Looks at the store once.
pub async fn inspect(store: &AnyStore, host_id: &str) -> Result<Inspection, StoreError> {
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    let hour = now.strftime("%Y-%m-%dT%H");
    let key = format!("{}checks/{hour}.json", host_folder(host_id));
    // The same for the whole hour: what is there already is no conflict.
    let body = serde_json::json!({ "kind": "check", "host_id": host_id, "hour": hour.to_string() });
    store.inspect(&key, Body::from(body.to_string())).await
}

/// Looks again and again.
pub struct Watch {
    uploads: Arc<Uploads>,
    store: AnyStore,
    host_id: String,
}

impl Watch {
    /// Will look at `store` and keep what it finds with `uploads`.
    pub fn new(uploads: Arc<Uploads>, store: AnyStore, host_id: String) -> Self {
        Self {
            uploads,
            store,
            host_id,
        }
    }

    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.watch()).await;
        self.log_delays();
    }

    async fn watch(&self) {
        loop {
            let found = inspect(&self.store, &self.host_id).await;
            let pause = match &found {
                Ok(_) => INTERVAL,
                Err(_) => AGAIN,
            };
            log(&self.store.uri(""), &found);
            self.log_delays();
            self.uploads
                .inspected(found.map_err(|error| error.to_string()));
            tokio::time::sleep(pause).await;
        }
    }

    /// How long content takes from the session to the store.
    fn log_delays(&self) {
        let state = self.uploads.state();
        if let (Some(half), Some(most)) = (state.delay(50), state.delay(99)) {
            tracing::info!(
                chunks = state.delivered_count(),
                p50_ms = half.as_millis(),
                p99_ms = most.as_millis(),
                "from the first event of a chunk to its acknowledgement by the store"
            );
        }
    }
}

fn log(store: &str, found: &Result<Inspection, StoreError>) {
    match found {
        Ok(found) if found.problems.is_empty() => {
            tracing::info!(store, "the store can be written: {found}");
        }
        Ok(found) => {
            for problem in &found.problems {
                tracing::error!(
                    store,
                    "the store is not protected as it should be: {problem}"
                );
            }
        }
        Err(error) if error.is_transient() => {
            tracing::warn!(store, %error, "the store cannot be checked now");
        }
        Err(error) => tracing::error!(store, %error, "the store cannot be written"),
    }
}
