//! How much one caller may ask for: a bucket of tokens each, filled at a steady
//! rate.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Callers that are remembered; at more, those who have waited longest are
/// forgotten, which gives them a full bucket.
const MAX_CALLERS: usize = 10_000;

/// Requests that one caller may make.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// As many a second in the long run.
    pub requests_per_second: f64,
    /// As many at once.
    pub burst: f64,
}

impl Default for Limits {
    /// An agent reports a few times a second, a person's program pages through
    /// lists; both are far below.
    fn default() -> Self {
        Self {
            requests_per_second: 100.0,
            burst: 500.0,
        }
    }
}

/// The buckets.
#[derive(Debug)]
pub(super) struct Buckets {
    limits: Limits,
    callers: Mutex<HashMap<String, (f64, Instant)>>,
}

impl Buckets {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            callers: Mutex::default(),
        }
    }

    /// Takes a token out of a caller's bucket; `false` when it is empty.
    pub(super) fn take(&self, caller: &str, now: Instant) -> bool {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if !callers.contains_key(caller) && callers.len() >= MAX_CALLERS {
            let mut times: Vec<_> = callers.values().map(|(_, last)| *last).collect();
            let (_, middle, _) = times.select_nth_unstable(MAX_CALLERS / 2);
            let middle = *middle;
            callers.retain(|_, (_, last)| *last > middle);
        }
        let (tokens, last) = callers
            .entry(caller.to_owned())
            .or_insert((self.limits.burst, now));
        let waited = now.saturating_duration_since(*last).as_secs_f64();
        *tokens = (*tokens + waited * self.limits.requests_per_second).min(self.limits.burst);
        *last = now;
        let enough = *tokens >= 1.0;
        if enough {
            *tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let limits = Limits {
            requests_per_second: 2.0,
            burst: 3.0,
        };
        let (buckets, now) = (Buckets::new(limits), Instant::now());
        let taken = |at: Duration| (0..9).filter(|_| buckets.take("a", now + at)).count();
        assert_eq!(taken(Duration::ZERO), 3);
        assert_eq!(taken(Duration::from_secs(1)), 2);
        assert!(
            buckets.take("b", now),
            "one caller's flood is not another's"
        );
        assert_eq!(taken(Duration::from_secs(60)), 3);
    }

    #[test]
    fn callers_are_bounded() {
        let (buckets, now) = (Buckets::new(Limits::default()), Instant::now());
        for caller in 0..2 * MAX_CALLERS as u64 {
            buckets.take(&caller.to_string(), now + Duration::from_micros(caller));
        }
        assert!(buckets.callers.lock().unwrap().len() <= MAX_CALLERS);
    }
}
