//! Counting what could not be captured.

use auditty_capture_ebpf::{LossCount, LossKey};

use crate::maps::{LOSSES, UNATTRIBUTED};

/// Counts a loss of a connection. Where even that does not fit, it is counted
/// for the host.
#[inline(always)]
pub fn count(connection: u64, cause: u32, class: u32, events: u64, bytes: u64) {
    lose(
        connection,
        u64::from(cause),
        u64::from(class),
        events,
        bytes,
    );
}

/// A global function: verified once, not once for each of its many callers.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lose(connection: u64, cause: u64, class: u64, events: u64, bytes: u64) -> i32 {
    let key = LossKey {
        connection,
        cause: cause as u32,
        class: class as u32,
    };
    if let Some(count) = LOSSES.get_ptr_mut(key) {
        // SAFETY: a value of this CPU alone.
        unsafe {
            (*count).events += events;
            (*count).bytes += bytes;
        }
        return 0;
    }
    let first = LossCount { events, bytes };
    if LOSSES.insert(key, first, 0).is_err()
        && let Some(count) = UNATTRIBUTED.get_ptr_mut(key.class & 3)
    {
        // SAFETY: a value of this CPU alone.
        unsafe {
            (*count).events += events;
            (*count).bytes += bytes;
        }
    }
    0
}
