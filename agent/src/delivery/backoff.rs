//! When to try again.

use std::time::Duration;

use uuid::Uuid;

/// The first pause.
const FIRST: Duration = Duration::from_millis(500);

/// The longest pause: how late, at most, the other side's return is noticed.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// Doubles with every failure, up to a cap, spread so that a fleet does not
/// come back all at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after another failure.
    pub(crate) fn pause(&mut self) -> Duration {
        let whole = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        jittered(whole)
    }

    /// Whether the last try failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// The longest pause, for what only an operator can change.
    pub(super) fn longest() -> Duration {
        jittered(LONGEST)
    }
}

/// Between half of `whole` and all of it.
fn jittered(whole: Duration) -> Duration {
    let random = Uuid::now_v7().as_u128() as u32;
    whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_no_further() {
        let mut backoff = Backoff::default();
        assert!(backoff.pause() <= FIRST);
        for _ in 0..40 {
            assert!(backoff.pause() <= LONGEST);
        }
        assert!(backoff.pause() >= LONGEST / 2);
    }
}
