//! `ssize_t pipe_read(struct kiocb *iocb, struct iov_iter *to)` and
//! `ssize_t pipe_write(struct kiocb *iocb, struct iov_iter *from)` (fs/pipe.c; with
//! `anon_` before it since 6.15): what sshd and the programs of a session without
//! terminal say to each other.
//!
//! `ssize_t sock_read_iter(struct kiocb *iocb, struct iov_iter *to)` (net/socket.c):
//! with the first read of a pipe or socket a transfer begins to talk to its peer.

use auditty_capture_ebpf::{WATCH_SERVER, WATCH_TRANSFER};
use aya_ebpf::{macros::kprobe, programs::ProbeContext};

use crate::{
    file_transfers,
    kernel::{self, Address, read},
    maps::{
        IN_KERNEL, ITER_BUFFER, ITER_MASK, ITER_VECTORS, NR_READ, NR_READV, NR_WRITE, NR_WRITEV,
        offset,
    },
    raw_sys_enter::of_server,
};

/// A process reads a pipe.
#[kprobe]
pub fn pipe_read(context: ProbeContext) -> u32 {
    let watched = kernel::watched(kernel::current_pid());
    if watched & (WATCH_SERVER | WATCH_TRANSFER) != 0 && kernel::is_active() {
        let request: Address = context.arg(0).unwrap_or(0);
        let file = read(request, offset!(kiocb_filp));
        file_transfers::hears(file);
        if watched & WATCH_SERVER != 0 {
            let iter = context.arg(1).unwrap_or(0);
            server_pipe(file, iter, NR_READ.load(), NR_READV.load());
        }
    }
    0
}

/// A process writes to a pipe.
#[kprobe]
pub fn pipe_write(context: ProbeContext) -> u32 {
    let watched = kernel::watched(kernel::current_pid());
    if watched & WATCH_SERVER != 0 && kernel::is_active() {
        let request: Address = context.arg(0).unwrap_or(0);
        let file = read(request, offset!(kiocb_filp));
        let iter = context.arg(1).unwrap_or(0);
        server_pipe(file, iter, NR_WRITE.load(), NR_WRITEV.load());
    }
    0
}

/// A process reads a socket.
#[kprobe]
pub fn sock_read_iter(context: ProbeContext) -> u32 {
    let watched = kernel::watched(kernel::current_pid());
    if watched & WATCH_TRANSFER != 0 && kernel::is_active() {
        let request: Address = context.arg(0).unwrap_or(0);
        file_transfers::hears(read(request, offset!(kiocb_filp)));
    }
    0
}

/// sshd reads or writes a pipe: as one of these calls, which it is depends on the
/// number of buffers. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn server_pipe(file: u64, iter: u64, one: u64, several: u64) -> i32 {
    let place = Place::of(iter);
    let number = if place.vectors == 0 { one } else { several };
    if place.buffer != 0 {
        of_server(number, file, place.buffer, place.vectors);
    }
    0
}

/// Where in a process' memory bytes come from or go to.
pub struct Place {
    /// The buffer, or the vectors; 0 for neither.
    pub buffer: Address,
    /// How many vectors, marked with [`IN_KERNEL`]; 0 for none.
    pub vectors: u64,
}

impl Place {
    /// As an `iov_iter` says it that nothing was taken of yet.
    #[inline(always)]
    pub fn of(iter: Address) -> Self {
        let kind = u32::from(read::<u8>(iter, offset!(iter_type))) & ITER_MASK.load();
        if kind == ITER_BUFFER.load() {
            let buffer: Address = read(iter, offset!(iter_buffer));
            let passed: u64 = read(iter, offset!(iter_offset));
            return Self {
                buffer: buffer.wrapping_add(passed),
                vectors: 0,
            };
        }
        if kind != ITER_VECTORS.load() {
            return Self {
                buffer: 0,
                vectors: 0,
            };
        }
        let vectors: Address = read(iter, offset!(iter_vectors));
        let count: u64 = read(iter, offset!(iter_segments));
        if count == 1 {
            let passed: u64 = read(iter, offset!(iter_offset));
            return Self {
                buffer: read::<u64>(vectors, 0).wrapping_add(passed),
                vectors: 0,
            };
        }
        Self {
            buffer: vectors,
            vectors: count | IN_KERNEL,
        }
    }
}
