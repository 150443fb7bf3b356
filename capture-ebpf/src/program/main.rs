//! The kernel programs: classic tracepoints, and probes of functions where the
//! kernel has them, which lose nothing on preemptible kernels; and nothing newer
//! than Linux 5.10.
//!
//! One hook, one file. A hook asks whether it works at all
//! ([`kernel::is_active`]), filters and delegates; what cannot be captured is
//! counted by cause ([`loss`]), never skipped in silence.
#![no_std]
#![no_main]
// Only for the empty assembly that keeps bounds visible to the verifier.
#![feature(asm_experimental_arch)]

mod connections;
mod emit;
mod file_calls;
mod file_reports;
mod file_transfers;
mod files;
mod flows;
mod kernel;
mod loss;
mod maps;
mod monitor;
mod n_tty_receive_buf2;
mod paths;
mod pipes;
mod pty;
mod raw_sys_enter;
mod raw_sys_exit;
mod sched_process_exec;
mod sched_process_exit;
mod sockets;
mod sshd_calls;
mod streams;
mod system_calls;
mod task_newtask;
mod terminals;
mod ttys;
mod unix_stream_sendmsg;
mod uses;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Unreachable: nothing here indexes, unwraps or checks arithmetic. The
    // verifier would refuse the loop.
    loop {}
}

/// Helpers that read other processes' memory are for GPL programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
