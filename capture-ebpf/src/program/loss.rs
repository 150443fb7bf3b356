//! Counting what could not be captured.

use auditty_capture_ebpf::{
    CAUSE_MISSED, CAUSE_TABLE_FULL, CLASS_NETWORK, CLASS_PROCESS, CLASS_STREAM, LossCount, LossKey,
};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;

use crate::{
    files::{CLASS_ACCEPT, CLASS_SOCKET, CLASS_USE},
    kernel::{self, Origin},
    maps::{BY_FUNCTIONS, CALLS, Call, LOSSES, UNATTRIBUTED},
};

/// Counts a loss of a connection. Where even that does not fit, it is counted
/// for the host.
#[inline(always)]
pub fn count(origin: Origin, cause: u32, class: u32, events: u64, bytes: u64) {
    let cause_class = u64::from(cause) << 32 | u64::from(class);
    lose(origin.connection, origin.root, cause_class, events, bytes);
}

/// Notes the call of the running thread until its exit; counted in this class
/// where there is no room.
#[inline(always)]
pub fn note(call: Call, class: u32) {
    left_over();
    if CALLS.insert(bpf_get_current_pid_tgid(), call, 0).is_err() {
        of_running(CAUSE_TABLE_FULL, class);
    }
}

/// Counts a call of the running thread whose return was not seen, if there is one.
/// Where the functions of calls are probed, each return is: it finds room, or is
/// missed. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn left_over() -> i32 {
    if BY_FUNCTIONS.load() == 0 {
        return 0;
    }
    let Some(call) = CALLS.get_ptr(bpf_get_current_pid_tgid()) else {
        return 0;
    };
    // SAFETY: a map value of integers that only this thread writes.
    let class = match unsafe { (*call).class } {
        CLASS_SOCKET | CLASS_ACCEPT => CLASS_NETWORK,
        CLASS_USE => CLASS_PROCESS,
        _ => CLASS_STREAM,
    };
    of_running(CAUSE_MISSED, class);
    0
}

/// Counts a loss of the running process.
#[inline(always)]
pub fn of_running(cause: u32, class: u32) {
    if let Some(process) = kernel::process(kernel::current_pid()) {
        count(Origin::from(&*process), cause, class, 1, 0);
    }
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
