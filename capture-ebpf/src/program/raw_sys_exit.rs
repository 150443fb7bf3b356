//! `trace_sys_exit(struct pt_regs *regs, long ret)` (`raw_syscalls`), on every
//! system call of the host while it is attached; 2.6.33 and later.
//!
//! The return value is the number of bytes that really went through.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::tracepoint, programs::TracePointContext,
};

use crate::{
    file_calls,
    files::{CLASS_PIPE, CLASS_PTY_MASTER, CLASS_SOCKET, CLASS_UNIX_SOCKET, CLASS_USE},
    kernel,
    maps::{CALLS, IN_KERNEL, NR_IOCTL, NR_WRITE},
    monitor::emit_monitor,
    raw_sys_enter::{ID_AT, TIOCSTI, field, is_input},
    sockets,
    streams::{self, way},
    terminals, uses,
};

const RETURN_AT: usize = 16;

/// Largest transfer of one call (`MAX_RW_COUNT`).
const MAX_TRANSFER: u64 = 0x7fff_f000;

/// One load decides for a process that is not ours.
#[tracepoint]
pub fn raw_sys_exit(context: TracePointContext) -> u32 {
    let watched = kernel::watched(kernel::current_pid());
    if watched != 0 && kernel::is_active() {
        let (number, result) = (field(&context, ID_AT), field(&context, RETURN_AT));
        file_calls::exit(number, result, watched);
        call_ended(number, result);
    }
    0
}

/// A call of a watched process ended. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn call_ended(number: u64, result: u64) -> i32 {
    if sockets::accepts(number) {
        return sockets::accepted(result);
    }
    let thread = bpf_get_current_pid_tgid();
    let Some(call) = CALLS.get_ptr(thread) else {
        return 0;
    };
    // SAFETY: a map value of integers that only this thread writes.
    let call = unsafe { *call };
    let _ = CALLS.remove(thread);
    if call.nr != number {
        return 0;
    }
    if call.class == CLASS_SOCKET {
        return sockets::begun(number, call.object, result);
    }
    if call.class == CLASS_USE {
        return uses::use_ended(number, call.object, call.buffer, result);
    }
    if number == NR_IOCTL.load() {
        if result == 0 && call.buffer == TIOCSTI {
            terminals::injected(call.object);
        } else if result == 0 && call.class == CLASS_PTY_MASTER {
            terminals::emit_window_size(call.object);
        }
        return 0;
    }
    if result == 0 || result > MAX_TRANSFER {
        return 0;
    }
    if call.class == CLASS_UNIX_SOCKET {
        if number == NR_WRITE.load() {
            emit_monitor(call.buffer, result);
        }
        return 0;
    }
    let mut way = u64::from(is_input(number));
    if call.secret != 0 {
        way |= way::SECRET;
    }
    if call.class == CLASS_PIPE {
        way |= way::PIPE;
    }
    if call.vectors & IN_KERNEL != 0 {
        way |= way::IN_KERNEL;
    }
    if call.vectors == 0 {
        streams::emit_bytes(call.object, call.buffer, result, way);
    } else {
        let vectors = call.vectors & !IN_KERNEL;
        streams::emit_vectors(call.object, call.buffer, vectors, result, way);
    }
    0
}
