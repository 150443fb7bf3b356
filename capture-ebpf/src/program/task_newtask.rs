//! `trace_task_newtask(struct task_struct *task, unsigned long clone_flags)`,
//! in the context of the forking task; 3.4 and later.

use auditty_capture_ebpf::{
    CAUSE_TABLE_FULL, CLASS_PROCESS, ForkBody, KIND_FORK, KIND_LISTENER_FORK,
    PROCESS_HOLDS_TERMINAL, PROCESS_IS_OF_PROBED, PROCESS_IS_PROBED, PROCESS_LISTENER,
    PROCESS_SERVER, Process,
};
use aya_ebpf::{EbpfContext, macros::tracepoint, programs::TracePointContext};

use crate::{
    connections, emit, files,
    kernel::{self, Origin, read},
    loss,
    maps::{PROCESSES, offset},
};

/// A new thread, not a process.
const CLONE_THREAD: u64 = 0x1_0000;

/// A child is to us what its parent is: nothing escapes by forking twice.
#[tracepoint]
pub fn task_newtask(context: TracePointContext) -> u32 {
    let parent_pid = kernel::current_pid();
    if kernel::is_active()
        && let Some(parent) = kernel::process(parent_pid)
    {
        try_task_newtask(&context, parent_pid, parent);
    }
    0
}

#[inline(always)]
fn try_task_newtask(context: &TracePointContext, parent_pid: u32, parent: &Process) {
    let record = context.as_ptr() as u64;
    let clone_flags: u64 = read(record, offset!(newtask_clone_flags));
    if clone_flags & CLONE_THREAD != 0 {
        return;
    }
    let pid: u32 = read(record, offset!(newtask_pid));
    // dropbear forks for each client it accepts, and need not execute anything.
    if parent.kind != PROCESS_SERVER && kernel::is_dropbear_name() {
        let socket = files::accepted_socket();
        if socket != 0 {
            connections::start(pid, socket, parent.connection, kernel::boot_ns());
            return;
        }
    }
    let child = Process {
        monitor_kind: 0,
        monitor_len: 0,
        flags: inherited(parent.flags),
        ..*parent
    };
    let origin = Origin::from(parent);
    if PROCESSES.insert(pid, child, 0).is_err() {
        loss::count(origin, CAUSE_TABLE_FULL, CLASS_PROCESS, 1, 0);
    }
    kernel::watch(pid, child.watch_bits());
    let kind = if parent.kind == PROCESS_LISTENER {
        KIND_LISTENER_FORK
    } else {
        KIND_FORK
    };
    let Some(scratch) = emit::begin(kind, origin, pid, kernel::boot_ns()) else {
        return;
    };
    emit::body::<ForkBody>(scratch).parent = parent_pid;
    if kind == KIND_LISTENER_FORK {
        emit::wake(scratch);
    } else {
        emit::submit(scratch);
    }
}

/// The child closes the parent's ptys, or becomes their holder itself; and that
/// the parent's calls are seen says nothing of its own.
#[inline(always)]
fn inherited(flags: u32) -> u32 {
    let own = PROCESS_HOLDS_TERMINAL | PROCESS_IS_PROBED | PROCESS_IS_OF_PROBED;
    let of_probed = if flags & PROCESS_IS_PROBED != 0 {
        PROCESS_IS_OF_PROBED
    } else {
        0
    };
    flags & !own | of_probed
}
