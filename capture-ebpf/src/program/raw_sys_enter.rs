//! `trace_sys_enter(struct pt_regs *regs, long id)` (`raw_syscalls`), on every
//! system call of the host while it is attached; 2.6.33 and later.
//!
//! What the call works on is noted here, while the descriptor still means the
//! same, and the terminal's mode is read before the bytes can change it.

use auditty_capture_ebpf::{CLASS_STREAM, WATCH_SERVER, WATCH_USER};
use aya_ebpf::{EbpfContext, macros::tracepoint, programs::TracePointContext};

use crate::{
    file_calls,
    files::{self, CLASS_OTHER, CLASS_PIPE, CLASS_PTY_MASTER, CLASS_PTY_SLAVE, Object},
    kernel::{self, Address},
    loss,
    maps::{
        BY_FUNCTIONS, Call, LINE_DISCIPLINE, NR_CLOSE, NR_IOCTL, NR_READ, NR_READV, NR_WRITE,
        NR_WRITEV,
    },
    sockets, streams, terminals, uses,
};

/// Put a byte into the terminal's input.
pub const TIOCSTI: u64 = 0x5412;
/// Set the window size.
pub const TIOCSWINSZ: u64 = 0x5414;

/// Where the tracepoint's record holds them: the agent checks it against BTF,
/// because the verifier takes only constants here.
pub const ID_AT: usize = 8;
pub const ARGS_AT: usize = 16;

/// One load decides for a process that is not ours.
#[tracepoint]
pub fn raw_sys_enter(context: TracePointContext) -> u32 {
    let pid = kernel::current_pid();
    let watched = kernel::watched(pid);
    if watched != 0 && kernel::is_active() {
        let number = field(&context, ID_AT);
        begins(number, watched, |at| field(&context, ARGS_AT + 8 * at));
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

/// A watched process begins a system call, with these arguments.
#[inline(always)]
pub fn begins(number: u64, watched: u8, argument: impl Fn(usize) -> u64) {
    file_calls::enter(number, watched, &argument);
    let (first, second, third) = (argument(0), argument(1), argument(2));
    if sockets::begins(number) {
        sockets::enter(number, first);
        return;
    }
    if BY_FUNCTIONS.load() != 0 && sockets::accepts(number) {
        sockets::enter_accept(number);
        return;
    }
    if watched & WATCH_SERVER != 0 {
        server_call(number, first, second, third);
    } else if watched & WATCH_USER != 0 && uses::may_be(number) {
        uses::use_begins(number, first, second, argument(4));
    } else if watched & WATCH_USER != 0 {
        user_call(number, first, second, third);
    }
}

/// A call of sshd: its terminals, pipes and monitor. A global function: verified
/// once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn server_call(number: u64, fd: u64, second: u64, third: u64) -> i32 {
    let is_close = number == NR_CLOSE.load();
    let is_resize = number == NR_IOCTL.load() && second == TIOCSWINSZ;
    if !is_close && !is_resize && !moves_bytes(number) {
        return 0;
    }
    of_server(number, kernel::file(fd as u32), second, third);
    0
}

/// The same, of an open file that is known.
#[inline(always)]
pub fn of_server(number: u64, file: Address, second: u64, third: u64) {
    let object = files::classify(file);
    if object.class == CLASS_OTHER || object.class == CLASS_PTY_SLAVE {
        return;
    }
    if number == NR_CLOSE.load() {
        let pid = kernel::current_pid();
        if object.class == CLASS_PIPE {
            streams::forget_pipe(object.id, pid);
        } else if object.class == CLASS_PTY_MASTER {
            close_master(file, object.id, pid);
        }
        return;
    }
    expect(number, second, third, &object);
}

/// A call of a session's process: the ptys it holds or writes to. A global
/// function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn user_call(number: u64, fd: u64, second: u64, third: u64) -> i32 {
    let is_close = number == NR_CLOSE.load();
    let is_injection = number == NR_IOCTL.load() && second == TIOCSTI;
    if !is_close && !is_injection && !moves_bytes(number) {
        return 0;
    }
    of_user(number, kernel::file(fd as u32), second, third);
    0
}

/// The same, of an open file that is known.
#[inline(always)]
pub fn of_user(number: u64, file: Address, second: u64, third: u64) {
    let object = files::classify(file);
    if number == NR_IOCTL.load() {
        if object.class == CLASS_PTY_SLAVE || object.class == CLASS_PTY_MASTER {
            expect(number, second, third, &object);
        }
    } else if object.class == CLASS_PTY_MASTER {
        if number == NR_CLOSE.load() {
            close_master(file, object.id, kernel::current_pid());
        } else {
            expect(number, second, third, &object);
        }
    } else if object.class == CLASS_PTY_SLAVE && is_input(number) {
        terminals::wrote_to_slave(object.id);
    }
}

/// Whether the call reads or writes.
#[inline(always)]
fn moves_bytes(number: u64) -> bool {
    number == NR_READ.load() || number == NR_READV.load() || is_input(number)
}

/// Whether the call writes: bytes go in.
#[inline(always)]
pub fn is_input(number: u64) -> bool {
    number == NR_WRITE.load() || number == NR_WRITEV.load()
}

/// The running process closes a descriptor of a pty master. Where the line
/// discipline is watched, the kernel says when it is the last.
#[inline(always)]
fn close_master(file: u64, master: u64, pid: u32) {
    if LINE_DISCIPLINE.load() == 0 && files::has_duplicate(file) == 0 {
        terminals::close(master, u64::from(pid));
    }
}

/// Notes the call until its exit, which tells how many bytes went through.
#[inline(always)]
fn expect(number: u64, buffer: u64, vectors: u64, object: &Object) {
    let mut secret = 0;
    if object.class == CLASS_PTY_MASTER {
        if terminals::sight(object.id) == 0 {
            return;
        }
        if LINE_DISCIPLINE.load() != 0 && moves_bytes(number) {
            return;
        }
        if is_input(number) {
            secret = terminals::waits_for_secret(object.id) as u32;
        }
    }
    let vectored = number == NR_READV.load() || number == NR_WRITEV.load();
    let call = Call {
        nr: number,
        buffer,
        vectors: if vectored { vectors } else { 0 },
        object: object.id,
        class: object.class,
        secret,
    };
    loss::note(call, CLASS_STREAM);
}
