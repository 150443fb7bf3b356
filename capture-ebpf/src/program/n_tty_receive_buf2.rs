//! `size_t n_tty_receive_buf2(struct tty_struct *tty, const u8 *cp, const u8 *fp, size_t count)`
//! (drivers/tty/n_tty.c; the same with `int` before 6.6): the terminal line
//! discipline takes bytes in. On a pty's master these are what programs show, on
//! its slave what is typed; whatever system call brought them here.
//!
//! It runs in a kernel thread: whose bytes they are is told by the terminal
//! alone. What it returns is how many it really took.

use auditty_capture_ebpf::{CAUSE_MISSED, CLASS_STREAM};
use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use crate::{
    kernel::{self, Address, Origin, read},
    loss,
    maps::{FIRST_RECEIVE, RECEIVES, Receive, TERMINALS, offset},
    streams::{self, way},
    terminals,
};

/// No call takes as long: one that was under way when its entry began to be
/// watched has returned by then.
const LONGEST_NS: u64 = 1_000_000_000;

/// An input that was under way for longer is dated by its end: the agent does
/// not wait for older ones.
const DATED_BY_ENTRY_NS: u64 = 1_000_000;

/// The bytes are offered, and the terminal's mode is as before them.
#[kprobe]
pub fn n_tty_receive_buf2(context: ProbeContext) -> u32 {
    let tty: Address = context.arg(0).unwrap_or(0);
    let buffer = context.arg(1).unwrap_or(0);
    let count: u64 = context.arg(3).unwrap_or(0);
    if kernel::is_active() {
        entered(tty, buffer, count);
    }
    0
}

/// They are taken.
#[kretprobe]
pub fn n_tty_receive_buf2_return(context: RetProbeContext) -> u32 {
    if kernel::is_active() {
        // `int` before 6.6, in the lower half; never more than that on any kernel.
        returned(u64::from(context.ret::<u64>() as u32));
    }
    0
}

/// A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn entered(tty: u64, buffer: u64, count: u64) -> i32 {
    let thread = bpf_get_current_pid_tgid();
    let boot_ns = kernel::boot_ns();
    if let Some(first) = FIRST_RECEIVE.get_ptr_mut(0) {
        // SAFETY: a map value, one integer; all who write it write nearly the
        // same.
        unsafe {
            if *first == 0 {
                *first = boot_ns;
            }
        }
    }
    // A thread is in here once: an entry that is left over has no return.
    if let Some(left) = RECEIVES.get_ptr(thread) {
        // SAFETY: a map value of integers that only this thread writes.
        let Receive {
            master,
            offered,
            way,
            ..
        } = unsafe { *left };
        if master != 0 {
            streams::skip(master, offered, way, CAUSE_MISSED);
        }
    }
    let mut receive = Receive {
        master: 0,
        buffer,
        offered: u64::from(count as u32),
        way: 0,
        boot_ns,
    };
    if TERMINALS.get_ptr(tty).is_some() {
        receive.master = tty;
    } else {
        let master = read(tty, offset!(tty_link));
        if master != 0 && TERMINALS.get_ptr(master).is_some() {
            receive.master = master;
            receive.way = way::INPUT;
            if terminals::waits_for_secret(master) != 0 {
                receive.way |= way::SECRET;
            }
        }
    }
    if RECEIVES.insert(thread, receive, 0).is_err() && receive.master != 0 {
        let (way, cause) = (receive.way, auditty_capture_ebpf::CAUSE_TABLE_FULL);
        streams::skip(receive.master, receive.offered, way, cause);
    }
    0
}

/// A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn returned(taken: u64) -> i32 {
    let thread = bpf_get_current_pid_tgid();
    let now = kernel::boot_ns();
    let Some(receive) = RECEIVES.get_ptr(thread) else {
        let first = match FIRST_RECEIVE.get_ptr(0) {
            // SAFETY: a map value, one integer.
            Some(first) => unsafe { *first },
            None => 0,
        };
        if first != 0 && now > first + LONGEST_NS {
            // Its entry was not seen, and so not which terminal it was.
            let nobody = Origin {
                connection: 0,
                root: 0,
            };
            loss::count(nobody, CAUSE_MISSED, CLASS_STREAM, 1, 0);
        }
        return 0;
    };
    // SAFETY: a map value of integers that only this thread writes.
    let Receive {
        master,
        buffer,
        way,
        boot_ns: began,
        ..
    } = unsafe { *receive };
    let _ = RECEIVES.remove(thread);
    if master == 0 || taken == 0 || taken > i32::MAX as u64 {
        return 0;
    }
    // What is typed comes before what it causes.
    let early = way & way::INPUT != 0 && now < began + DATED_BY_ENTRY_NS;
    let boot_ns = if early { began } else { now };
    streams::emit_received(master, buffer, taken, way, boot_ns);
    0
}
