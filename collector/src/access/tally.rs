//! What a flood makes happen too often for a log line each.

use std::time::{Duration, Instant};

/// Time between two log lines about the same.
const PAUSE: Duration = Duration::from_secs(10);

/// Counts, and says the number once in a while.
#[derive(Debug, Default)]
pub(super) struct Tally {
    unsaid: u64,
    said: Option<Instant>,
}

impl Tally {
    /// Counts one more. A number is to be logged now: how many there were since
    /// the last time.
    pub(super) fn add(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        let waited = |said| now.saturating_duration_since(said) >= PAUSE;
        self.said.is_none_or(waited).then(|| {
            self.said = Some(now);
            std::mem::take(&mut self.unsaid)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_others_together() {
        let (mut tally, now) = (Tally::default(), Instant::now());
        assert_eq!(tally.add(now), Some(1));
        assert_eq!(tally.add(now + PAUSE / 2), None);
        assert_eq!(tally.add(now + PAUSE / 2), None);
        assert_eq!(tally.add(now + PAUSE), Some(3));
        assert_eq!(tally.add(now + PAUSE), None);
    }
}
