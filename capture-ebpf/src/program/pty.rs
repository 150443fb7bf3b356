//! `int pty_open(struct tty_struct *tty, struct file *filp)` and
//! `void pty_close(struct tty_struct *tty, struct file *filp)`
//! (drivers/tty/pty.c), in the context of whoever opens or closes, for both sides
//! of a pty: a master is opened once, and closed with its last descriptor.

use aya_ebpf::{macros::kprobe, programs::ProbeContext};

use crate::{
    kernel::{self, Address, read},
    maps::offset,
    terminals,
};

/// Masters of Unix98 ptys (`UNIX98_PTY_MASTER_MAJOR`, include/uapi/linux/major.h).
const MASTER_MAJOR: u32 = 128;

/// A pty begins.
#[kprobe]
pub fn pty_open(context: ProbeContext) -> u32 {
    let tty: Address = context.arg(0).unwrap_or(0);
    if kernel::is_active() && is_master(tty) {
        terminals::opened(tty);
    }
    0
}

/// A pty ends.
#[kprobe]
pub fn pty_close(context: ProbeContext) -> u32 {
    let tty: Address = context.arg(0).unwrap_or(0);
    if kernel::is_active() && is_master(tty) {
        terminals::closed(tty);
    }
    0
}

#[inline(always)]
fn is_master(tty: Address) -> bool {
    let driver: Address = read(tty, offset!(tty_driver));
    read::<u32>(driver, offset!(tty_driver_major)) == MASTER_MAJOR
}
