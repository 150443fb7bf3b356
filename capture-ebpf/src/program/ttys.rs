//! `ssize_t tty_read(struct kiocb *iocb, struct iov_iter *to)`,
//! `ssize_t tty_write(struct kiocb *iocb, struct iov_iter *from)` and
//! `long tty_ioctl(struct file *file, unsigned int cmd, unsigned long arg)`
//! (drivers/tty/tty_io.c): who holds a pty, writes to one, or changes its size. The
//! bytes themselves are taken in [`crate::n_tty_receive_buf2`].

use auditty_capture_ebpf::{WATCH_SERVER, WATCH_USER};
use aya_ebpf::{macros::kprobe, programs::ProbeContext};

use crate::{
    kernel::{self, Address, read},
    maps::{NR_IOCTL, NR_READ, NR_WRITE, offset},
    raw_sys_enter::{TIOCSTI, TIOCSWINSZ, of_server, of_user},
};

/// A process reads a terminal.
#[kprobe]
pub fn tty_read(context: ProbeContext) -> u32 {
    moves(&context, NR_READ.load());
    0
}

/// A process writes to a terminal.
#[kprobe]
pub fn tty_write(context: ProbeContext) -> u32 {
    moves(&context, NR_WRITE.load());
    0
}

/// A process asks something of a terminal.
#[kprobe]
pub fn tty_ioctl(context: ProbeContext) -> u32 {
    let watched = kernel::watched(kernel::current_pid());
    let asked = u64::from(context.arg::<u64>(1).unwrap_or(0) as u32);
    if watched != 0 && (asked == TIOCSWINSZ || asked == TIOCSTI) && kernel::is_active() {
        let file = context.arg(0).unwrap_or(0);
        terminal_call(NR_IOCTL.load(), file, asked, u64::from(watched));
    }
    0
}

#[inline(always)]
fn moves(context: &ProbeContext, number: u64) {
    let watched = kernel::watched(kernel::current_pid());
    if watched != 0 && kernel::is_active() {
        let request: Address = context.arg(0).unwrap_or(0);
        let file = read(request, offset!(kiocb_filp));
        terminal_call(number, file, 0, u64::from(watched));
    }
}

/// A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn terminal_call(number: u64, file: u64, asked: u64, watched: u64) -> i32 {
    let resizes = asked == TIOCSWINSZ;
    if watched & u64::from(WATCH_SERVER) != 0 {
        if asked != TIOCSTI {
            of_server(number, file, asked, 0);
        }
    } else if watched & u64::from(WATCH_USER) != 0 && !resizes {
        of_user(number, file, asked, 0);
    }
    0
}
