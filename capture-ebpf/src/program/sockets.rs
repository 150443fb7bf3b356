//! Sockets of a connection's processes: what they connect to, listen at, accept.
//!
//! `trace_inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`
//! (`sock`), 4.16 and later, tells of TCP whatever system call made it. A
//! connect runs in the context of its process up to `SYN_SENT`, when the local
//! port is not chosen yet; the next state comes with the network's interrupt,
//! or the call returns first. Whichever it is announces the connection, with
//! both ends. The socket is remembered from `SYN_SENT` to `CLOSE`, so that its
//! end, which no process need be running for, has an owner.
//!
//! An accepted socket is known when `accept` returns it. Unix sockets have no
//! such states: a connect is told when it succeeded, with the name that the
//! other side was bound to, which is out of the caller's reach; datagram
//! sockets, which connect to nobody, are left out, and so are ends.

use auditty_capture_ebpf::{
    CAUSE_TABLE_FULL, CLASS_NETWORK, KIND_SOCKET, Process, SOCKET_ACCEPT, SOCKET_CLOSE,
    SOCKET_CONNECT, SOCKET_LISTEN, SocketBody,
};
use aya_ebpf::{EbpfContext, helpers::generated, macros::tracepoint, programs::TracePointContext};

use crate::{
    emit, files,
    kernel::{self, Address, Origin, read},
    loss,
    maps::{Call, NR_ACCEPT, NR_ACCEPT4, NR_CONNECT, NR_LISTEN, SOCKETS, Scratch, Socket, offset},
    uses,
};

/// `include/net/tcp_states.h`, which is user-visible ABI.
const TCP_SYN_SENT: u32 = 2;
const TCP_CLOSE: u32 = 7;
const TCP_LISTEN: u32 = 10;

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
const SOCK_DGRAM: u16 = 2;

/// The other side's end of data was received, and counts as a byte
/// (`SOCK_DONE`, include/net/sock.h).
const FINISHED: u64 = 1 << 1;

/// Longest name of a Unix socket, bytes.
const UNIX_PATH_MAX: u64 = 108;
/// The address family before it, bytes.
const UNIX_FAMILY: u64 = 2;

/// A TCP socket changed its state.
#[tracepoint]
pub fn inet_sock_set_state(context: TracePointContext) -> u32 {
    if !kernel::is_active() {
        return 0;
    }
    let record = context.as_ptr() as u64;
    let sock: Address = read(record, offset!(set_state_sock));
    let state: u32 = read(record, offset!(set_state_new));
    if state == TCP_SYN_SENT || state == TCP_LISTEN {
        begin(sock, state);
    } else {
        go_on(sock, state);
    }
    0
}

/// A process connects, or listens from now on.
#[inline(always)]
fn begin(sock: Address, state: u32) {
    let pid = kernel::current_pid();
    let Some(process) = kernel::process(pid) else {
        return;
    };
    if process.connection == 0 || read::<u16>(sock, offset!(sock_protocol)) != IPPROTO_TCP {
        return;
    }
    let operation = if state == TCP_LISTEN {
        SOCKET_LISTEN
    } else {
        0
    };
    remember(sock, pid, process, operation);
}

/// What was begun becomes known, or ends.
#[inline(always)]
fn go_on(sock: Address, state: u32) {
    if SOCKETS.get_ptr(sock).is_none() {
        return;
    }
    announce(sock, u64::from(SOCKET_CONNECT));
    if state == TCP_CLOSE {
        announce(sock, u64::from(SOCKET_CLOSE));
        let _ = SOCKETS.remove(sock);
    }
}

/// Whether this call begins something, of which its socket tells more when it
/// has returned.
#[inline(always)]
pub fn begins(number: u64) -> bool {
    number == NR_CONNECT.load() || number == NR_LISTEN.load()
}

/// Notes what such a call works on, while its descriptor still means the same.
#[inline(always)]
pub fn enter(number: u64, fd: u64) {
    let object = files::any_socket(kernel::file(fd as u32));
    if object == 0 {
        return;
    }
    let call = Call {
        nr: number,
        buffer: 0,
        vectors: 0,
        object,
        class: files::CLASS_SOCKET,
        secret: 0,
    };
    loss::note(call, CLASS_NETWORK);
}

/// Notes a call whose socket its return tells, where that is all that tells of it.
#[inline(always)]
pub fn enter_accept(number: u64) {
    let call = Call {
        nr: number,
        buffer: 0,
        vectors: 0,
        object: 0,
        class: files::CLASS_ACCEPT,
        secret: 0,
    };
    loss::note(call, CLASS_NETWORK);
}

/// Such a call has returned. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn begun(number: u64, sock: u64, result: u64) -> i32 {
    let family: u16 = read(sock, offset!(sk_family));
    if family == AF_INET || family == AF_INET6 {
        // A connect goes on, or has just succeeded on another processor.
        if number == NR_CONNECT.load() {
            announce(sock, u64::from(SOCKET_CONNECT));
            if result == 0 {
                uses::use_connected(sock);
            }
        }
        return 0;
    }
    if family != AF_UNIX || result != 0 || read::<u16>(sock, offset!(sock_type)) == SOCK_DGRAM {
        return 0;
    }
    if number == NR_LISTEN.load() {
        unix(SOCKET_LISTEN, sock, sock);
    } else {
        unix(SOCKET_CONNECT, sock, read(sock, offset!(unix_peer)));
    }
    0
}

/// Whether this call returns a socket that somebody else began.
#[inline(always)]
pub fn accepts(number: u64) -> bool {
    number == NR_ACCEPT.load() || number == NR_ACCEPT4.load()
}

/// Such a call has returned a descriptor, or an error. A global function:
/// verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn accepted(result: u64) -> i32 {
    /// Error numbers are negative.
    const MAX_FD: u64 = 0x7fff_ffff;
    let pid = kernel::current_pid();
    let Some(process) = kernel::process(pid) else {
        return 0;
    };
    if result > MAX_FD || process.connection == 0 {
        return 0;
    }
    let sock = files::any_socket(kernel::file(result as u32));
    let family: u16 = read(sock, offset!(sk_family));
    if family == AF_UNIX {
        // It shares the name of the socket that listens.
        unix(SOCKET_ACCEPT, sock, sock);
    } else if (family == AF_INET || family == AF_INET6)
        && read::<u16>(sock, offset!(sock_protocol)) == IPPROTO_TCP
    {
        remember(sock, pid, process, SOCKET_ACCEPT);
        // Its end may have come before it was remembered.
        if u32::from(read::<u8>(sock, offset!(sk_state))) == TCP_CLOSE {
            go_on(sock, TCP_CLOSE);
        }
    }
    0
}

/// Unique within one boot: of two sockets at one moment the addresses differ,
/// of two with one address the moments.
#[inline(always)]
fn identity(sock: Address, boot_ns: u64) -> u64 {
    boot_ns.rotate_left(20) ^ sock
}

/// Remembers a socket from its beginning to its end. `operation` is announced
/// at once; 0: later, as a connect.
#[inline(always)]
fn remember(sock: Address, pid: u32, process: &Process, operation: u16) {
    let boot_ns = kernel::boot_ns();
    let socket = Socket {
        id: identity(sock, boot_ns),
        connection: process.connection,
        root: process.root,
        pid,
        ports: 0,
        announced: 0,
        pad: 0,
    };
    if SOCKETS.insert(sock, socket, 0).is_err() {
        loss::count(Origin::from(process), CAUSE_TABLE_FULL, CLASS_NETWORK, 1, 0);
    } else if operation != 0 {
        announce(sock, u64::from(operation));
    }
}

/// Reports a remembered TCP socket: its beginning once, or its end. A global
/// function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn announce(sock: u64, operation: u64) -> i32 {
    let Some(socket) = SOCKETS.get_ptr_mut(sock) else {
        return 0;
    };
    // SAFETY: a map value of integers.
    let known = unsafe { *socket };
    let operation = operation as u16;
    let ports = ports(sock);
    if operation == SOCKET_CLOSE {
        // Not the one that was remembered: its end was missed.
        if known.ports != 0 && known.ports != ports {
            return 0;
        }
    } else {
        if known.announced != 0 {
            return 0;
        }
        // SAFETY: as above; two processors at once would announce it twice at
        // worst, under the same identity.
        unsafe {
            (*socket).announced = 1;
            (*socket).ports = ports;
        }
    }
    let origin = Origin {
        connection: known.connection,
        root: known.root,
    };
    let Some(scratch) = emit::begin(KIND_SOCKET, origin, known.pid, kernel::boot_ns()) else {
        return 0;
    };
    let body = emit::body::<SocketBody>(scratch);
    body.socket = known.id;
    body.operation = operation;
    describe(body, sock);
    if operation == SOCKET_CLOSE {
        count_bytes(body, sock);
    }
    emit::submit(scratch);
    0
}

/// Remote and local port, as the network has them: set when a connection is
/// announced, and still there when it has ended.
#[inline(always)]
fn ports(sock: Address) -> u32 {
    let local: u16 = read(sock, offset!(inet_sport));
    let remote: u16 = read(sock, offset!(sk_dport));
    u32::from(remote) << 16 | u32::from(local)
}

/// Both ends of a TCP socket.
#[inline(always)]
fn describe(body: &mut SocketBody, sock: Address) {
    body.family = read(sock, offset!(sk_family));
    body.local_port = u16::from_be(read(sock, offset!(inet_sport)));
    body.remote_port = u16::from_be(read(sock, offset!(sk_dport)));
    if body.family == AF_INET6 {
        body.local = read(sock, offset!(sk_v6_rcv_saddr));
        body.remote = read(sock, offset!(sk_v6_daddr));
    } else {
        kernel::put_ipv4(&mut body.local, read(sock, offset!(sk_rcv_saddr)));
        kernel::put_ipv4(&mut body.remote, read(sock, offset!(sk_daddr)));
    }
}

/// Bytes of payload that went each way. What was sent twice counts once, and
/// the end of data, which takes a sequence number, not at all.
#[inline(always)]
fn count_bytes(body: &mut SocketBody, sock: Address) {
    let sent: u64 = read(sock, offset!(tcp_bytes_sent));
    let again: u64 = read(sock, offset!(tcp_bytes_retrans));
    let received: u64 = read(sock, offset!(tcp_bytes_received));
    let flags: u64 = read(sock, offset!(sk_flags));
    body.sent = sent.saturating_sub(again);
    body.received = received.saturating_sub(u64::from(flags & FINISHED != 0));
}

/// Reports a Unix socket, with the name that `named` is bound to.
#[inline(always)]
fn unix(operation: u16, sock: Address, named: Address) {
    let pid = kernel::current_pid();
    let Some(process) = kernel::process(pid) else {
        return;
    };
    let boot_ns = kernel::boot_ns();
    if process.connection == 0 {
        return;
    }
    let Some(scratch) = emit::begin(KIND_SOCKET, Origin::from(&*process), pid, boot_ns) else {
        return;
    };
    let body = emit::body::<SocketBody>(scratch);
    body.socket = identity(sock, boot_ns);
    body.operation = operation;
    body.family = AF_UNIX;
    submit_name(scratch, read(named, offset!(unix_addr)));
}

/// The payload is the name behind the address family: a path with its NUL, or
/// an abstract name, which begins with one.
#[inline(always)]
fn submit_name(scratch: &mut Scratch, address: Address) {
    let len: u32 = read(address, offset!(unix_address_len));
    let len = u64::from(len).saturating_sub(UNIX_FAMILY);
    if address == 0 || len == 0 || len > UNIX_PATH_MAX {
        emit::submit(scratch);
        return;
    }
    let len = emit::bounded(len);
    let name = address
        .wrapping_add(offset!(unix_address_name))
        .wrapping_add(UNIX_FAMILY);
    // SAFETY: writes `len` bytes, at most PAYLOAD_MAX.
    let failed = unsafe {
        generated::bpf_probe_read_kernel(
            scratch.payload.as_mut_ptr().cast(),
            len as u32,
            name as *const _,
        ) != 0
    };
    if failed {
        emit::submit(scratch);
    } else {
        emit::submit_payload(scratch, len);
    }
}
