//! Bytes that an sshd moved: to and from pty masters, pipes, and its monitor.

use auditty_capture_ebpf::{
    CAUSE_READ_FAILED, CAUSE_TABLE_FULL, CAUSE_TOO_LARGE, CLASS_LOGIN, CLASS_STREAM,
    DIRECTION_INPUT, DIRECTION_OUTPUT, KIND_MONITOR, KIND_TERMINAL, KIND_WINDOW_SIZE, MonitorBody,
    OFFSET_UNKNOWN, PAYLOAD_MAX, Position, Process, STREAM_PIECES, StreamBody, WITHHELD_MASKED,
    monitor,
};
use aya_ebpf::helpers::generated;

use crate::{
    emit::{self, emit_user},
    kernel::{self, Address, Origin, read},
    loss,
    maps::{Call, POSITIONS, RECORD_INPUT, offset},
};

/// See [`emit_stream`].
pub const WAITED_FOR_SECRET: u32 = 1 << 16;

const ICANON: u32 = 0o2;
const ECHO: u32 = 0o10;

/// Whether the terminal behind a pty master waits for a secret: echo off in
/// canonical mode, as every password prompt has it. Line editors turn echo off
/// too, but not in canonical mode.
#[inline(always)]
pub fn waits_for_secret(master: Address) -> bool {
    let slave: Address = read(master, offset!(tty_link));
    let flags: u32 = read(slave, offset!(tty_termios) + offset!(termios_lflag));
    flags & ECHO == 0 && flags & ICANON != 0
}

/// Reports `len` bytes that went to (`DIRECTION_INPUT`) or came from
/// (`DIRECTION_OUTPUT`) a pty master or pipe, in pieces. `kind_secret` is the
/// record's kind, with [`WAITED_FOR_SECRET`] where the terminal waited for a
/// secret when the call began. A global function: verified once, with scalars
/// only.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn emit_stream(
    kind_secret: u64,
    object: u64,
    buffer: u64,
    len: u64,
    direction: u64,
) -> i32 {
    let pid = kernel::current_pid();
    let Some(process) = kernel::process(pid) else {
        return 0;
    };
    let kind = kind_secret as u32 & !WAITED_FOR_SECRET;
    let Some(scratch) = emit::begin(kind, Origin::from(&*process), pid, kernel::boot_ns()) else {
        return 0;
    };
    let body = emit::body::<StreamBody>(scratch);
    // The reader may have turned echo on again since the call began: a secret
    // at either end of the call is one.
    let mut secret = kind_secret as u32 & WAITED_FOR_SECRET != 0;
    let key = if kind == KIND_TERMINAL {
        describe_terminal(body, object);
        secret |= waits_for_secret(object);
        object
    } else {
        body.inode = object;
        object << 1
    };
    let start = advance(Origin::from(&*process), key | direction & 1, pid, len);
    body.direction = direction as u32 & 1;
    if body.direction == DIRECTION_INPUT && (secret || RECORD_INPUT.load() == 0) {
        body.withheld = WITHHELD_MASKED;
        body.offset = start;
        body.bytes = len as u32;
        emit::submit(scratch);
        return 0;
    }
    for piece in 0..STREAM_PIECES {
        let done = u64::from(piece) * PAYLOAD_MAX as u64;
        if done >= len {
            return 0;
        }
        let size = piece_len(len - done);
        body.offset = offset_at(start, done);
        body.bytes = size as u32;
        emit_user(buffer.wrapping_add(done), size);
    }
    too_large(Origin::from(&*process), len);
    0
}

/// sshd set the window size of a pty.
#[inline(always)]
pub fn emit_window_size(process: &Process, pid: u32, master: Address) {
    let Some(scratch) = emit::begin(
        KIND_WINDOW_SIZE,
        Origin::from(process),
        pid,
        kernel::boot_ns(),
    ) else {
        return;
    };
    describe_terminal(emit::body::<StreamBody>(scratch), master);
    emit::submit(scratch);
}

/// A write to a Unix socket: perhaps the header of a monitor message (length
/// and type, five bytes), or the body of the one whose header was just written.
/// <https://github.com/openssh/openssh-portable/blob/V_9_2_P1/monitor_wrap.c#L118>
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn emit_monitor(buffer: u64, len: u64) -> i32 {
    const HEADER_LEN: u64 = 5;
    let pid = kernel::current_pid();
    let Some(process) = kernel::process(pid) else {
        return 0;
    };
    let kind = process.monitor_kind;
    process.monitor_kind = 0;
    if kind != 0 && u64::from(process.monitor_len) == len + 1 {
        let Some(scratch) = emit::begin(
            KIND_MONITOR,
            Origin::from(&*process),
            pid,
            kernel::boot_ns(),
        ) else {
            return 0;
        };
        let body = emit::body::<MonitorBody>(scratch);
        body.kind = kind;
        body.bytes = len as u32;
        emit_user(buffer, piece_len(len));
        return 0;
    }
    if len != HEADER_LEN {
        return 0;
    }
    let mut header = [0u8; 8];
    // SAFETY: writes five of the eight bytes.
    let failed = unsafe {
        generated::bpf_probe_read_user(
            header.as_mut_ptr().cast(),
            HEADER_LEN as u32,
            buffer as *const _,
        ) != 0
    };
    if failed {
        loss::count(
            Origin::from(&*process),
            CAUSE_READ_FAILED,
            CLASS_LOGIN,
            1,
            0,
        );
        return 0;
    }
    let [a, b, c, d, kind, ..] = header;
    if is_harmless(u32::from(kind)) {
        process.monitor_kind = u32::from(kind);
        process.monitor_len = u32::from_be_bytes([a, b, c, d]);
    }
    0
}

/// Forgets where the streams of a file stood that its owner closes.
#[inline(always)]
pub fn forget(call: &Call, pid: u32) {
    let key = stream_key(call);
    forget_one(key, pid);
    forget_one(key | 1, pid);
}

#[inline(always)]
fn stream_key(call: &Call) -> u64 {
    if call.class == crate::files::CLASS_PIPE {
        call.object << 1
    } else {
        call.object
    }
}

#[inline(always)]
fn forget_one(key: u64, pid: u32) {
    if let Some(position) = POSITIONS.get_ptr(key) {
        // SAFETY: a map value of integers.
        if unsafe { (*position).owner } == pid {
            let _ = POSITIONS.remove(key);
        }
    }
}

/// Moves a stream's position on by `len` and returns where it stood. Kernel
/// addresses are even, so that the direction fits into the lowest bit.
#[inline(always)]
fn advance(origin: Origin, key: u64, pid: u32, len: u64) -> u64 {
    if let Some(position) = POSITIONS.get_ptr_mut(key) {
        // SAFETY: a map value; only the stream's owner, one thread, writes it.
        unsafe {
            if (*position).owner == pid {
                let start = (*position).next;
                (*position).next = start.wrapping_add(len);
                return start;
            }
        }
    }
    let position = Position {
        next: len,
        owner: pid,
        pad: 0,
    };
    if POSITIONS.insert(key, position, 0).is_err() {
        loss::count(origin, CAUSE_TABLE_FULL, CLASS_STREAM, 1, 0);
        return OFFSET_UNKNOWN;
    }
    0
}

#[inline(always)]
fn offset_at(start: u64, done: u64) -> u64 {
    if start == OFFSET_UNKNOWN {
        OFFSET_UNKNOWN
    } else {
        start.wrapping_add(done)
    }
}

#[inline(always)]
fn piece_len(rest: u64) -> u64 {
    if rest > PAYLOAD_MAX as u64 {
        PAYLOAD_MAX as u64
    } else {
        rest
    }
}

#[inline(always)]
fn too_large(origin: Origin, len: u64) {
    let captured = u64::from(STREAM_PIECES) * PAYLOAD_MAX as u64;
    if len > captured {
        loss::count(origin, CAUSE_TOO_LARGE, CLASS_STREAM, 1, len - captured);
    }
}

#[inline(always)]
fn describe_terminal(body: &mut StreamBody, master: Address) {
    let slave: Address = read(master, offset!(tty_link));
    // struct winsize: rows, columns, and two of pixels.
    let size: u32 = read(slave, offset!(tty_winsize));
    body.rows = size as u16;
    body.columns = (size >> 16) as u16;
    body.pts = read(master, offset!(tty_index));
}

#[inline(always)]
fn is_harmless(kind: u32) -> bool {
    kind == monitor::PWNAM
        || kind == monitor::ANS_AUTHPASSWORD
        || kind == monitor::KEYVERIFY
        || kind == monitor::ANS_KEYVERIFY
        || kind == monitor::ANS_PAM_RESPOND
}

/// The direction of a read or a write, as the user sees it.
#[inline(always)]
pub fn direction(is_write: bool) -> u64 {
    u64::from(if is_write {
        DIRECTION_INPUT
    } else {
        DIRECTION_OUTPUT
    })
}
