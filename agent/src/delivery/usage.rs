//! How much the spool holds, and when it takes no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::config::units::show_size;

/// Below this share of the bound a full spool takes events again, in percent:
/// enough room that a gap is not followed by the next one at once.
const RESUME_PERCENT: u64 = 95;

/// From here on the operator is warned, in percent.
const WARN_PERCENT: u64 = 75;

/// Bytes in the spool, shared by who writes and who deletes.
#[derive(Clone, Debug)]
pub(super) struct Usage(Arc<State>);

#[derive(Debug)]
struct State {
    bytes: AtomicU64,
    max_bytes: u64,
    full: AtomicBool,
    warned: AtomicBool,
}

impl Usage {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self(Arc::new(State {
            bytes: AtomicU64::new(0),
            max_bytes,
            full: AtomicBool::new(false),
            warned: AtomicBool::new(false),
        }))
    }

    pub(super) fn add(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, bytes: u64) {
        let less = |held: u64| Some(held.saturating_sub(bytes));
        // Never fails: the closure always gives a value.
        let _ = self
            .0
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Whether the spool takes no event now. Logs each change.
    pub(super) fn is_full(&self) -> bool {
        let State {
            max_bytes,
            full,
            warned,
            ..
        } = &*self.0;
        let (held, was_full) = (self.bytes(), full.load(Ordering::Relaxed));
        let percent = |share: u64| max_bytes / 100 * share;
        let bound = if was_full {
            percent(RESUME_PERCENT)
        } else {
            *max_bytes
        };
        let is_full = held >= bound;
        let (held, max) = (show_mib(held), show_size(*max_bytes));
        if is_full && !full.swap(is_full, Ordering::Relaxed) {
            tracing::error!(
                held,
                max,
                "the spool is full: new events are lost, and declared as gaps, until the store or the collector takes what waits"
            );
        } else if !is_full && full.swap(is_full, Ordering::Relaxed) {
            tracing::warn!(held, max, "the spool has room again: recording goes on");
        }
        let above = self.bytes() >= percent(WARN_PERCENT);
        if above && !warned.swap(above, Ordering::Relaxed) {
            tracing::warn!(held, max, "the spool is three quarters full");
        } else if !above {
            warned.store(false, Ordering::Relaxed);
        }
        is_full
    }
}

fn show_mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::Usage;

    #[test]
    fn a_full_spool_takes_events_again_when_there_is_room() {
        let usage = Usage::new(1000);
        usage.add(999);
        assert!(!usage.is_full());
        usage.add(1);
        assert!(usage.is_full());
        usage.remove(20);
        assert!(usage.is_full());
        usage.remove(40);
        assert!(!usage.is_full());
    }
}
