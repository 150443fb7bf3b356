//! What a session's process uses, where of what comes of it nothing is captured:
//! io_uring, whose operations are no system calls; `ptrace` into another process;
//! datagrams, which have no connection. Each is a fact of its own, told once in a
//! while for each process and object.

use auditty_capture_ebpf::{
    CLASS_PROCESS, KIND_USE, PROCESS_USER, USE_DATAGRAMS, USE_IO_URING, USE_PTRACE, UseBody,
};
use aya_ebpf::{helpers::generated, macros::map, maps::LruHashMap};

use crate::{
    emit, files,
    kernel::{self, Address, Origin, read},
    loss,
    maps::{Call, NR_IO_URING_SETUP, NR_PTRACE, NR_SENDMMSG, NR_SENDMSG, NR_SENDTO, offset},
};

/// What was told already, and when (nanoseconds since boot).
#[map]
static USES: LruHashMap<Use, u64> = LruHashMap::with_max_entries(8_192, 0);

/// It is told again after this long. A process' number is used again later.
const AGAIN_NS: u64 = 60_000_000_000;

/// Requests that make the caller the tracer of a process
/// (include/uapi/linux/ptrace.h).
const PTRACE_ATTACH: u64 = 16;
const PTRACE_SEIZE: u64 = 0x4206;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOCK_STREAM: u16 = 1;

/// `struct sockaddr_in6`, the longer one, is 28 bytes long.
const ADDRESS: usize = 28;

/// One use: who, of what.
#[repr(C)]
#[derive(Clone, Copy)]
struct Use {
    remote: [u8; 16],
    pid: u32,
    what: u32,
    target: u32,
    port: u16,
    family: u16,
}

/// Whether this call may be such a use, which shows when it has returned.
#[inline(always)]
pub fn may_be(number: u64) -> bool {
    number == NR_SENDTO.load()
        || number == NR_SENDMSG.load()
        || number == NR_SENDMMSG.load()
        || number == NR_PTRACE.load()
        || number == NR_IO_URING_SETUP.load()
}

/// Notes such a call, while its descriptor still means the same. `fifth` is its
/// fifth argument. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn use_begins(number: u64, first: u64, second: u64, fifth: u64) -> i32 {
    let mut call = Call {
        nr: number,
        buffer: 0,
        vectors: 0,
        object: 0,
        class: files::CLASS_USE,
        secret: 0,
    };
    if number == NR_PTRACE.load() {
        if first != PTRACE_ATTACH && first != PTRACE_SEIZE {
            return 0;
        }
        call.object = second;
    } else if number != NR_IO_URING_SETUP.load() {
        call.buffer = if number == NR_SENDTO.load() {
            fifth
        } else {
            second
        };
        // Without an address it goes where the socket is connected to.
        if call.buffer == 0 {
            return 0;
        }
        call.object = files::any_socket(kernel::file(first as u32));
        if !has_datagrams(call.object) {
            return 0;
        }
    }
    loss::note(call, CLASS_PROCESS);
    0
}

#[inline(always)]
fn has_datagrams(sock: Address) -> bool {
    let family: u16 = read(sock, offset!(sk_family));
    (family == AF_INET || family == AF_INET6)
        && read::<u16>(sock, offset!(sock_type)) != SOCK_STREAM
}

/// Such a call has returned. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn use_ended(number: u64, object: u64, buffer: u64, result: u64) -> i32 {
    if (result as i64) < 0 {
        return 0;
    }
    let mut it = Use {
        remote: [0; 16],
        pid: kernel::current_pid(),
        what: USE_IO_URING,
        target: 0,
        port: 0,
        family: 0,
    };
    if number == NR_PTRACE.load() {
        it.what = USE_PTRACE;
        it.target = object as u32;
    } else if number != NR_IO_URING_SETUP.load() {
        // struct msghdr begins with the address' place; struct mmsghdr with the
        // first msghdr.
        let name = if number == NR_SENDTO.load() {
            buffer
        } else {
            kernel::read_user(buffer)
        };
        if name == 0 {
            return 0;
        }
        let mut address = [0u8; ADDRESS];
        // SAFETY: writes the bytes of `address`, zeros when it cannot read.
        unsafe {
            generated::bpf_probe_read_user(
                address.as_mut_ptr().cast(),
                ADDRESS as u32,
                name as *const _,
            );
        }
        it.what = USE_DATAGRAMS;
        it.family = u16::from_ne_bytes([address[0], address[1]]);
        it.port = u16::from_be_bytes([address[2], address[3]]);
        if it.family == AF_INET6 {
            it.remote.copy_from_slice(&address[8..24]);
        } else if it.family == AF_INET {
            it.remote[..4].copy_from_slice(&address[4..8]);
        } else {
            return 0;
        }
    }
    tell(&it);
    0
}

/// A socket has been connected. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn use_connected(sock: u64) -> i32 {
    if !has_datagrams(sock) {
        return 0;
    }
    let mut it = Use {
        remote: [0; 16],
        pid: kernel::current_pid(),
        what: USE_DATAGRAMS,
        target: 0,
        port: u16::from_be(read(sock, offset!(sk_dport))),
        family: read(sock, offset!(sk_family)),
    };
    if it.family == AF_INET6 {
        it.remote = read(sock, offset!(sk_v6_daddr));
    } else {
        kernel::put_ipv4(&mut it.remote, read(sock, offset!(sk_daddr)));
    }
    tell(&it);
    0
}

/// Reports a use that was not told lately.
#[inline(always)]
fn tell(it: &Use) {
    let Some(process) = kernel::process(it.pid) else {
        return;
    };
    let boot_ns = kernel::boot_ns();
    if process.kind != PROCESS_USER {
        return;
    }
    if let Some(told) = USES.get_ptr(it) {
        // SAFETY: a map value, an integer.
        if boot_ns.wrapping_sub(unsafe { *told }) < AGAIN_NS {
            return;
        }
    }
    // Where there is no room it is told each time.
    let _ = USES.insert(it, boot_ns, 0);
    let Some(scratch) = emit::begin(KIND_USE, Origin::from(&*process), it.pid, boot_ns) else {
        return;
    };
    let body = emit::body::<UseBody>(scratch);
    body.remote = it.remote;
    body.what = it.what;
    body.target = it.target;
    body.port = it.port;
    body.family = it.family;
    emit::submit(scratch);
}
