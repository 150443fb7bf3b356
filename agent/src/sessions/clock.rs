//! From time since boot to the wall clock.

use jiff::Timestamp;

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

    /// Wall time at `boot_ns` since boot.
    pub fn wall(&self, boot_ns: u64) -> Timestamp {
        Timestamp::from_nanosecond(self.offset_ns + i128::from(boot_ns)).unwrap_or_default()
    }
}
