//! `trace_sys_exit(struct pt_regs *regs, long ret)` (`raw_syscalls`), on every
//! system call of the host while a connection exists; 2.6.33 and later.
//!
//! The return value is the number of bytes that really went through.

use auditty_capture_ebpf::{KIND_PIPE, KIND_TERMINAL};
use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::tracepoint, programs::TracePointContext,
};

use crate::{
    files::{CLASS_PIPE, CLASS_PTY_MASTER, CLASS_UNIX_SOCKET},
    kernel,
    maps::{CALLS, NR_IOCTL, NR_WRITE},
    raw_sys_enter::{ID_AT, field},
    streams::{self, WAITED_FOR_SECRET},
};

const RETURN_AT: usize = 16;

/// Largest transfer of one call (`MAX_RW_COUNT`).
const MAX_TRANSFER: u64 = 0x7fff_f000;

/// One load decides for a process that is not ours.
#[tracepoint]
pub fn raw_sys_exit(context: TracePointContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    let pid = (thread >> 32) as u32;
    if kernel::is_watched(pid) {
        try_raw_sys_exit(&context, thread, pid);
    }
    0
}

#[inline(always)]
fn try_raw_sys_exit(context: &TracePointContext, thread: u64, pid: u32) {
    let Some(call) = CALLS.get_ptr(thread) else {
        return;
    };
    // SAFETY: a map value of integers that only this thread writes.
    let call = unsafe { *call };
    let _ = CALLS.remove(thread);
    if call.nr != field(context, ID_AT) {
        return;
    }
    let result = field(context, RETURN_AT);
    if call.nr == NR_IOCTL.load() {
        if result == 0
            && call.class == CLASS_PTY_MASTER
            && let Some(process) = kernel::process(pid)
        {
            streams::emit_window_size(process, pid, call.object);
        }
        return;
    }
    if result == 0 || result > MAX_TRANSFER {
        return;
    }
    let is_write = call.nr == NR_WRITE.load();
    let direction = streams::direction(is_write);
    if call.class == CLASS_PTY_MASTER {
        let kind = KIND_TERMINAL | (call.secret * WAITED_FOR_SECRET);
        streams::emit_stream(u64::from(kind), call.object, call.buffer, result, direction);
    } else if call.class == CLASS_PIPE {
        streams::emit_stream(
            u64::from(KIND_PIPE),
            call.object,
            call.buffer,
            result,
            direction,
        );
    } else if call.class == CLASS_UNIX_SOCKET && is_write {
        streams::emit_monitor(call.buffer, result);
    }
}
