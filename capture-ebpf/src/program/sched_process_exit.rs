//! `trace_sched_process_exit(struct task_struct *p)`, in the context of the
//! ending task, for each of its threads; 3.4 and later.

use auditty_capture_ebpf::{ExitBody, KIND_EXIT, PROCESS_HOLDS_TERMINAL};
use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::tracepoint, programs::TracePointContext,
};

use crate::{
    emit, file_calls, file_transfers,
    kernel::{self, Address, Origin, read},
    loss,
    maps::{CALLS, INSIDE_SSHD, LINE_DISCIPLINE, PROCESSES, SCRATCHES, offset},
    terminals,
};

/// The whole group got `group_exit_code`
/// (`SIGNAL_GROUP_EXIT`, include/linux/sched/signal.h).
const SIGNAL_GROUP_EXIT: u32 = 4;

/// Reports the end of a process with its last thread.
#[tracepoint]
pub fn sched_process_exit(_context: TracePointContext) -> u32 {
    let pid = kernel::current_pid();
    if kernel::is_active()
        && let Some(process) = kernel::process(pid)
    {
        let origin = Origin::from(&*process);
        let holds_terminal = process.flags & PROCESS_HOLDS_TERMINAL != 0;
        try_sched_process_exit(pid, origin, holds_terminal);
    }
    0
}

#[inline(always)]
fn try_sched_process_exit(pid: u32, origin: Origin, holds_terminal: bool) {
    let task = kernel::current_task();
    let thread = bpf_get_current_pid_tgid();
    loss::left_over();
    let _ = CALLS.remove(thread);
    file_calls::file_left_over();
    file_calls::forget(thread);
    if INSIDE_SSHD.load() != 0 {
        let _ = SCRATCHES.remove(thread);
    }
    let signal: Address = read(task, offset!(task_signal));
    if read::<u32>(signal, offset!(signal_live)) != 0 {
        return;
    }
    file_transfers::end_transfers();
    // Two threads can both see that none lives: the first to remove reports.
    if PROCESSES.remove(pid).is_err() {
        return;
    }
    kernel::watch(pid, 0);
    if holds_terminal && LINE_DISCIPLINE.load() == 0 {
        terminals::close_all(u64::from(pid));
    }
    if origin.connection == 0 {
        return;
    }
    let Some(scratch) = emit::begin(KIND_EXIT, origin, pid, kernel::boot_ns()) else {
        return;
    };
    let flags: u32 = read(signal, offset!(signal_flags));
    emit::body::<ExitBody>(scratch).wait_status = if flags & SIGNAL_GROUP_EXIT != 0 {
        read(signal, offset!(signal_group_exit_code))
    } else {
        let leader: Address = read(task, offset!(task_group_leader));
        read(leader, offset!(task_exit_code))
    };
    emit::submit(scratch);
}
