//! Counting what could not be captured.

use auditty_capture_ebpf::{LossCount, LossKey};

use crate::{
    kernel::Origin,
    maps::{LOSSES, UNATTRIBUTED},
};

/// Counts a loss of a connection. Where even that does not fit, it is counted
/// for the host.
#[inline(always)]
pub fn count(origin: Origin, cause: u32, class: u32, events: u64, bytes: u64) {
    let cause_class = u64::from(cause) << 32 | u64::from(class);
    lose(origin.connection, origin.root, cause_class, events, bytes);
}

/// A global function: verified once, not once for each of its many callers.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lose(
    connection: u64,
    root: u64,
    cause_class: u64,
    events: u64,
    bytes: u64,
) -> i32 {
    let key = LossKey {
        connection,
        root,
        cause: (cause_class >> 32) as u32,
        class: cause_class as u32,
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
        && let Some(count) = UNATTRIBUTED.get_ptr_mut(key.class & 7)
    {
        // SAFETY: a value of this CPU alone.
        unsafe {
            (*count).events += events;
            (*count).bytes += bytes;
        }
    }
    0
}
