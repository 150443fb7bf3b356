//! How delivery to the store goes, for people and for monitoring.

use std::collections::VecDeque;
use std::time::Duration;

use auditty_recording::store::Inspection;
use jiff::Timestamp;

/// Delays that are remembered: a day of one busy session, about.
const REMEMBERED: usize = 8192;

/// What is known of the store.
#[derive(Clone, Debug, Default)]
pub struct StoreState {
    /// Why objects wait; nothing when they do not.
    pub trouble: Option<String>,
    /// What the latest look at the store found, and when that was.
    pub inspected: Option<(Timestamp, Result<Inspection, String>)>,
    /// From the first event of a chunk to its acknowledgement, the latest last.
    delays: VecDeque<Duration>,
}

impl StoreState {
    /// A chunk whose first event was at `first` was acknowledged now.
    pub(super) fn delivered(&mut self, first: Timestamp) {
        let delay = Timestamp::now().duration_since(first);
        if self.delays.len() >= REMEMBERED {
            self.delays.pop_front();
        }
        self.delays
            .push_back(delay.try_into().unwrap_or(Duration::ZERO));
    }

    /// Of how many chunks the delay is known.
    pub fn delivered_count(&self) -> usize {
        self.delays.len()
    }

    /// The delay that this share of chunks did not exceed, in percent.
    pub fn delay(&self, percent: usize) -> Option<Duration> {
        let mut delays: Vec<_> = self.delays.iter().copied().collect();
        delays.sort_unstable();
        let last = delays.len().checked_sub(1)?;
        delays
            .get((delays.len() * percent / 100).min(last))
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_bounded_and_ordered() {
        let mut state = StoreState::default();
        assert_eq!(state.delay(99), None);
        for seconds in 0..(REMEMBERED as i64 + 100) {
            state.delivered(Timestamp::now() - jiff::SignedDuration::from_secs(seconds % 10));
        }
        assert_eq!(state.delivered_count(), REMEMBERED);
        assert!(state.delay(50) < state.delay(99));
        assert_eq!(state.delay(99).map(|delay| delay.as_secs()), Some(9));
    }
}
