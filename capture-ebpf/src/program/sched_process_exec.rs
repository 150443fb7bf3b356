//! `trace_sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`,
//! in the context of the task, after the new image is in place; 3.4 and later.
//!
//! Only here can the arguments be trusted: before, they lie in memory that
//! other threads and processes can change.

use auditty_capture_ebpf::{
    ARGS_PIECES, EXEC_BY_PROBES, EXEC_DELETED, EXEC_SERVER, EXEC_SESSION_LEADER, EXEC_UNPROBED,
    ExecBody, KIND_ARGS, KIND_EXEC, PATH_CWD, PATH_EXE, PATH_MAX, PAYLOAD_MAX,
    PROCESS_IS_OF_PROBED, PROCESS_IS_PROBED, PROCESS_LISTENER, PROCESS_SERVER, PROCESS_USER,
    PieceBody, Process, mint,
};
use aya_ebpf::{EbpfContext, helpers::generated, macros::tracepoint, programs::TracePointContext};

use crate::{
    connections, emit, file_calls, file_transfers, files,
    kernel::{self, Address, Origin, read},
    maps::{INSIDE_SSHD, PROCESSES, offset},
};

/// Sorts the process out, and reports the program if it belongs to a
/// connection.
#[tracepoint]
pub fn sched_process_exec(context: TracePointContext) -> u32 {
    let pid = kernel::current_pid();
    let known = kernel::process(pid);
    let is_server = kernel::is_server_name() || (known.is_some() && files::is_dropbear());
    if (known.is_none() && !is_server) || !kernel::is_active() {
        return 0;
    }
    let boot_ns = kernel::boot_ns();
    if let Some(process) = sort_out(pid, known, is_server, boot_ns) {
        forget_call(&context, pid);
        file_transfers::sort_out_transfer();
        report(&context, pid, process, boot_ns);
    }
    0
}

/// The call of a thread that was not the first does not end: it goes on as the
/// first.
#[inline(always)]
fn forget_call(context: &TracePointContext, pid: u32) {
    let thread: u32 = read(context.as_ptr() as u64, offset!(exec_old_pid));
    file_calls::forget(u64::from(pid) << 32 | u64::from(thread));
}

/// What the process is from now on; `None` when it has no connection.
#[inline(always)]
fn sort_out(
    pid: u32,
    known: Option<&'static mut Process>,
    is_server: bool,
    boot_ns: u64,
) -> Option<Process> {
    let (kind, connection) = match &known {
        Some(process) => (process.kind, process.connection),
        None => (PROCESS_LISTENER, 0),
    };
    if kind == PROCESS_SERVER {
        // sshd-session runs sshd-auth: still the server. Anything else is what
        // the user asked for.
        let process = known?;
        process.flags &= !PROCESS_IS_PROBED;
        process.monitor_kind = 0;
        if !is_server {
            process.kind = PROCESS_USER;
            process.root = mint(boot_ns, pid);
            kernel::watch(pid, process.watch_bits());
        }
        return Some(*process);
    }
    // What a listener's child runs with the client on its standard input is the
    // server, whatever its name: dropbear executes itself by a descriptor.
    let mut socket = if is_server || kind == PROCESS_LISTENER {
        files::client_socket()
    } else {
        0
    };
    if socket == 0 && is_server {
        socket = local_client();
    }
    if socket != 0 {
        return Some(connections::start(pid, socket, connection, boot_ns));
    }
    if kind == PROCESS_USER {
        return known.map(|process| *process);
    }
    if is_server {
        connections::remember(pid, &Process::new(PROCESS_LISTENER));
    } else {
        let _ = PROCESSES.remove(pid);
    }
    None
}

/// The Unix socket on the standard input of a server that takes it for its
/// client; 0 when there is none.
#[inline(always)]
fn local_client() -> Address {
    let socket = files::local_socket();
    if socket == 0 {
        return 0;
    }
    let mm: Address = read(kernel::current_task(), offset!(task_mm));
    if connections::serves_stdin(read(mm, offset!(mm_arg_start))) != 0 {
        socket
    } else {
        0
    }
}

/// Paths, arguments, and last the exec itself.
#[inline(always)]
fn report(context: &TracePointContext, pid: u32, process: Process, boot_ns: u64) {
    let task = kernel::current_task();
    let mm: Address = read(task, offset!(task_mm));
    let exe: Address = read(mm, offset!(mm_exe_file));
    let fs: Address = read(task, offset!(task_fs));
    let origin = Origin::from(&process);
    crate::paths::emit_path(
        exe.wrapping_add(offset!(file_path)),
        u64::from(PATH_EXE),
        origin.connection,
        origin.root,
        boot_ns,
    );
    crate::paths::emit_path(
        fs.wrapping_add(offset!(fs_pwd)),
        u64::from(PATH_CWD),
        origin.connection,
        origin.root,
        boot_ns,
    );
    let start: u64 = read(mm, offset!(mm_arg_start));
    let end: u64 = read(mm, offset!(mm_arg_end));
    let args_len = end.wrapping_sub(start);
    emit_args(start, args_len, origin.connection, origin.root, boot_ns);

    let Some(scratch) = emit::begin(KIND_EXEC, origin, pid, boot_ns) else {
        return;
    };
    let cred: Address = read(task, offset!(task_cred));
    let parent: Address = read(task, offset!(task_real_parent));
    let signal: Address = read(task, offset!(task_signal));
    let inode: Address = read(exe, offset!(file_inode));
    let body = emit::body::<ExecBody>(scratch);
    body.args_len = args_len;
    body.parent = read(parent, offset!(task_tgid));
    body.uid = read(cred, offset!(cred_uid));
    body.euid = read(cred, offset!(cred_euid));
    body.login_uid = read(task, offset!(task_loginuid));
    body.fds[0] = files::describe(kernel::file(0));
    body.fds[1] = files::describe(kernel::file(1));
    body.fds[2] = files::describe(kernel::file(2));
    let mut flags = 0;
    if read::<u32>(signal, offset!(signal_leader)) != 0 {
        flags |= EXEC_SESSION_LEADER;
    }
    if process.kind == PROCESS_SERVER {
        flags |= EXEC_SERVER;
    }
    if read::<u32>(inode, offset!(inode_nlink)) == 0 {
        flags |= EXEC_DELETED;
    }
    if INSIDE_SSHD.load() != 0 {
        flags |= EXEC_BY_PROBES;
        if process.flags & PROCESS_IS_OF_PROBED == 0 {
            flags |= EXEC_UNPROBED;
        }
    }
    body.flags = flags;
    // __data_loc: offset in the record in the lower half, length in the upper.
    let record = context.as_ptr() as u64;
    let location: u32 = read(record, offset!(exec_filename));
    let filename = record.wrapping_add(u64::from(location & 0xffff));
    // SAFETY: writes at most PATH_MAX bytes of the larger payload.
    let copied = unsafe {
        generated::bpf_probe_read_kernel_str(
            scratch.payload.as_mut_ptr().cast(),
            PATH_MAX as u32,
            filename as *const _,
        )
    };
    if copied > 0 {
        emit::submit_payload(scratch, copied as u64);
    } else {
        emit::submit(scratch);
    }
}

/// The arguments, in pieces. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn emit_args(start: u64, len: u64, connection: u64, root: u64, boot_ns: u64) -> i32 {
    let origin = Origin { connection, root };
    let Some(scratch) = emit::begin(KIND_ARGS, origin, kernel::current_pid(), boot_ns) else {
        return 0;
    };
    for piece in 0..ARGS_PIECES {
        let done = u64::from(piece) * PAYLOAD_MAX as u64;
        if done >= len {
            break;
        }
        let rest = len - done;
        emit::body::<PieceBody>(scratch).offset = done;
        emit::emit_user(
            start.wrapping_add(done),
            if rest > PAYLOAD_MAX as u64 {
                PAYLOAD_MAX as u64
            } else {
                rest
            },
        );
    }
    0
}
