//! `ssize_t read(int fd, void *buf, size_t count)` and
//! `ssize_t write(int fd, const void *buf, size_t count)`, at the instructions
//! inside sshd that call them, and at those behind, where the result is at hand.
//!
//! No probe of a function's return: that of a process under seccomp, as sshd's
//! before the login, can kill it (Linux 6.11 to 6.13).

use auditty_capture_ebpf::{CAUSE_TABLE_FULL, CLASS_STREAM, PROCESS_IS_PROBED, WATCH_SERVER};
use aya_ebpf::{
    EbpfContext as _,
    helpers::bpf_get_current_pid_tgid,
    macros::uprobe,
    programs::{ProbeContext, RetProbeContext},
};

use crate::{
    emit,
    files::CLASS_PTY_MASTER,
    kernel::{self, Origin},
    loss,
    maps::{CALLS, Call, NR_READ, NR_WRITE},
    raw_sys_enter::server_call,
    raw_sys_exit::call_ended,
    terminals,
};

/// sshd is about to call `read`.
#[uprobe]
pub fn sshd_read(context: ProbeContext) -> u32 {
    begins(NR_READ.load(), &context);
    0
}

/// sshd is about to call `write`.
#[uprobe]
pub fn sshd_write(context: ProbeContext) -> u32 {
    begins(NR_WRITE.load(), &context);
    0
}

/// One of the two has returned.
#[uprobe]
pub fn sshd_returned(context: ProbeContext) -> u32 {
    if kernel::is_active()
        && let Some(call) = CALLS.get_ptr(bpf_get_current_pid_tgid())
    {
        // SAFETY: a map value of integers that only this thread writes.
        let Call {
            nr, object, class, ..
        } = unsafe { *call };
        let result: u64 = RetProbeContext::new(context.as_ptr()).ret();
        call_ended(nr, result);
        // The library's functions return -1 for every error.
        if class == CLASS_PTY_MASTER && nr == NR_READ.load() && (result as i64) < 0 {
            terminals::read_failed(object);
        }
    }
    0
}

#[inline(always)]
fn begins(number: u64, context: &ProbeContext) {
    let pid = kernel::current_pid();
    if kernel::watched(pid) & WATCH_SERVER == 0 || !kernel::is_active() {
        return;
    }
    let Some(process) = kernel::process(pid) else {
        return;
    };
    process.flags |= PROCESS_IS_PROBED;
    let fd: u64 = context.arg(0).unwrap_or(0);
    let buffer: u64 = context.arg(1).unwrap_or(0);
    if emit::own_scratch() {
        server_call(number, fd, buffer, 0);
    } else {
        let origin = Origin::from(&*process);
        loss::count(origin, CAUSE_TABLE_FULL, CLASS_STREAM, 1, 0);
    }
}
