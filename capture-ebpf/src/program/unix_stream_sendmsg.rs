//! `int unix_stream_sendmsg(struct socket *sock, struct msghdr *msg, size_t len)`
//! (net/unix/af_unix.c): sshd's processes tell each other of the login. Nobody else
//! writes so much as a byte between a message and its header, and its sockets wait
//! until all of it is through.

use auditty_capture_ebpf::WATCH_SERVER;
use aya_ebpf::{macros::kprobe, programs::ProbeContext};

use crate::{
    kernel::{self, Address},
    maps::offset,
    monitor::emit_monitor,
    pipes::Place,
};

/// A process writes to a Unix socket.
#[kprobe]
pub fn unix_stream_sendmsg(context: ProbeContext) -> u32 {
    let watched = kernel::watched(kernel::current_pid());
    if watched & WATCH_SERVER != 0 && kernel::is_active() {
        let message: Address = context.arg(1).unwrap_or(0);
        let len: u64 = context.arg(2).unwrap_or(0);
        let place = Place::of(message.wrapping_add(offset!(msghdr_iter)));
        if place.buffer != 0 && place.vectors == 0 && len != 0 {
            emit_monitor(place.buffer, len);
        }
    }
    0
}
