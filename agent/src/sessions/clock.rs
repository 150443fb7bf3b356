//! From time since boot to the wall clock.

use jiff::{SignedDuration, Timestamp};

/// A clock that is only slewed moves by less between two samples.
const STEP_NS: i128 = 500_000_000;

/// The offset between `CLOCK_BOOTTIME` and the wall clock, sampled now and then
/// because the wall clock can be stepped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    offset_ns: i128,
}

impl Clock {
    /// A clock that reads `wall` at `boot_ns` since boot.
    pub fn new(boot_ns: u64, wall: Timestamp) -> Self {
        Self {
            offset_ns: wall.as_nanosecond() - i128::from(boot_ns),
        }
    }

    /// What there is to say when this clock follows `before`; `None` when it was
    /// not stepped.
    pub(super) fn step_from(&self, before: Self) -> Option<String> {
        let step = self.offset_ns - before.offset_ns;
        (step.abs() >= STEP_NS).then(|| {
            let step = SignedDuration::from_nanos(i64::try_from(step).unwrap_or(i64::MAX));
            format!("The host's clock was set: {:+.3} s.", step.as_secs_f64())
        })
    }

    /// Wall time at `boot_ns` since boot.
    pub fn wall(&self, boot_ns: u64) -> Timestamp {
        Timestamp::from_nanosecond(self.offset_ns + i128::from(boot_ns)).unwrap_or_default()
    }
}
