//! `long __x64_sys_NAME(const struct pt_regs *regs)` (x86-64, 4.17 and later), of
//! each system call that matters and that most programs make seldom: what
//! [`crate::raw_sys_enter`] and [`crate::raw_sys_exit`] see of all of them, and
//! every program of the host pays for.
//!
//! What all programs do all the time, reading and writing, is seen by what is read
//! and written: pipes ([`crate::pipes`]), terminals ([`crate::ttys`]), Unix sockets
//! ([`crate::unix_stream_sendmsg`]); how much of a transferred file, by its position
//! ([`crate::file_transfers::settle`]).
//!
//! Calls of 32 bits have functions of other names.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use crate::{
    file_calls,
    files::CLASS_ACCEPT,
    kernel::{self, Address, read},
    maps::CALLS,
    raw_sys_enter::begins,
    raw_sys_exit::call_ended,
    sockets,
};

/// `struct pt_regs` of x86-64: the number of the call, and where its arguments are
/// (arch/x86/include/uapi/asm/ptrace.h, which is user-visible ABI).
const ORIG_AX: u64 = 120;
const ARGUMENTS: [u64; 5] = [112, 104, 96, 56, 72];

/// One load decides for a process that is not ours.
#[kprobe]
pub fn call_begins(context: ProbeContext) -> u32 {
    let watched = kernel::watched(kernel::current_pid());
    if watched != 0 && kernel::is_active() {
        let registers: Address = context.arg(0).unwrap_or(0);
        let number = read(registers, ORIG_AX);
        begins(number, watched, |at| {
            read(registers, ARGUMENTS.get(at).copied().unwrap_or(0))
        });
    }
    0
}

/// As above.
#[kretprobe]
pub fn call_returned(context: RetProbeContext) -> u32 {
    if kernel::watched(kernel::current_pid()) != 0 && kernel::is_active() {
        returned_from_call(context.ret());
    }
    0
}

/// What a part of the kernel was asked for by a system call that is not itself
/// probed is done.
#[kretprobe]
pub fn part_returned(context: RetProbeContext) -> u32 {
    if kernel::watched(kernel::current_pid()) != 0
        && kernel::is_active()
        && let Some(call) = CALLS.get_ptr(bpf_get_current_pid_tgid())
    {
        // SAFETY: a map value of integers that only this thread writes.
        call_ended(unsafe { (*call).nr }, context.ret());
    }
    0
}

#[inline(always)]
fn returned_from_call(result: u64) {
    if let Some(under_way) = file_calls::under_way() {
        file_calls::end_file_call(under_way.call, result);
        return;
    }
    let thread = bpf_get_current_pid_tgid();
    let Some(call) = CALLS.get_ptr(thread) else {
        return;
    };
    // SAFETY: a map value of integers that only this thread writes.
    let (number, class) = unsafe { ((*call).nr, (*call).class) };
    if class == CLASS_ACCEPT {
        let _ = CALLS.remove(thread);
        sockets::accepted(result);
    } else {
        call_ended(number, result);
    }
}
