//! `trace_sys_enter(struct pt_regs *regs, long id)` (`raw_syscalls`), on every
//! system call of the host while a connection exists; 2.6.33 and later.
//!
//! What the call works on is noted here, while the descriptor still means the
//! same, and the terminal's mode is read before the bytes can change it.

use auditty_capture_ebpf::{CAUSE_TABLE_FULL, CLASS_STREAM, PROCESS_SERVER};
use aya_ebpf::{
    EbpfContext, helpers::bpf_get_current_pid_tgid, macros::tracepoint, programs::TracePointContext,
};

use crate::{
    files::{self, CLASS_OTHER, CLASS_PIPE, CLASS_PTY_MASTER},
    kernel::{self, Origin},
    loss,
    maps::{CALLS, Call, NR_CLOSE, NR_IOCTL, NR_READ, NR_WRITE},
    streams,
};

/// Set the window size.
const TIOCSWINSZ: u64 = 0x5414;

/// Where the tracepoint's record holds them: the agent checks it against BTF,
/// because the verifier takes only constants here.
pub const ID_AT: usize = 8;
const ARGS_AT: usize = 16;

/// One load decides for a process that is not ours.
#[tracepoint]
pub fn raw_sys_enter(context: TracePointContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    let pid = (thread >> 32) as u32;
    if kernel::is_watched(pid) {
        try_raw_sys_enter(&context, thread, pid);
    }
    0
}

/// An eight-byte field of a tracepoint's record.
#[inline(always)]
pub fn field(context: &TracePointContext, at: usize) -> u64 {
    // SAFETY: the record of a tracepoint is readable at constant offsets; the
    // verifier checks the bound.
    unsafe {
        context
            .as_ptr()
            .cast::<u8>()
            .add(at)
            .cast::<u64>()
            .read_volatile()
    }
}

#[inline(always)]
fn try_raw_sys_enter(context: &TracePointContext, thread: u64, pid: u32) {
    let number = field(context, ID_AT);
    let argument = field(context, ARGS_AT + 8);
    let wanted = number == NR_READ.load()
        || number == NR_WRITE.load()
        || number == NR_CLOSE.load()
        || (number == NR_IOCTL.load() && argument == TIOCSWINSZ);
    if !wanted {
        return;
    }
    let Some(process) = kernel::process(pid) else {
        return;
    };
    if process.kind != PROCESS_SERVER {
        return;
    }
    let fd = field(context, ARGS_AT) as u32;
    let file = kernel::file(fd);
    let object = files::classify(file);
    if object.class == CLASS_OTHER {
        return;
    }
    let secret = object.class == CLASS_PTY_MASTER
        && number == NR_WRITE.load()
        && streams::waits_for_secret(object.id);
    let call = Call {
        nr: number,
        buffer: argument,
        object: object.id,
        class: object.class,
        secret: u32::from(secret),
    };
    if number == NR_CLOSE.load() {
        let last = object.class == CLASS_PIPE
            || (object.class == CLASS_PTY_MASTER && files::has_duplicate(file) == 0);
        if last {
            streams::forget(&call, pid);
        }
        return;
    }
    if CALLS.insert(thread, call, 0).is_err() {
        loss::count(
            Origin::from(&*process),
            CAUSE_TABLE_FULL,
            CLASS_STREAM,
            1,
            0,
        );
    }
}
