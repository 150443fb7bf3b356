//! Bytes on their way through a pty master or a pipe, cut into records.

use crate::{
    emit::{self, emit_kernel, emit_user},
    file_transfers,
    kernel::{self, Origin},
    loss,
    maps::{POSITIONS, RECORD_INPUT, Scratch, TERMINALS},
    terminals,
};
use auditty_capture_ebpf::{
    CAUSE_TABLE_FULL, CAUSE_TOO_LARGE, CLASS_STREAM, DIRECTION_INPUT, KIND_PIPE, KIND_TERMINAL,
    OFFSET_UNKNOWN, PAYLOAD_MAX, Position, STREAM_PIECES, StreamBody, WITHHELD_MASKED,
    WITHHELD_TRANSFER,
};

/// How bytes went, in one word: the direction is the lowest bit.
pub mod way {
    /// From the client.
    pub const INPUT: u64 = auditty_capture_ebpf::DIRECTION_INPUT as u64;
    /// A terminal waited for a secret when the call began.
    pub const SECRET: u64 = 2;
    /// Through a pipe, not a terminal.
    pub const PIPE: u64 = 4;
    /// The vectors lie in the kernel's memory, what they point to in the process'.
    pub const IN_KERNEL: u64 = 8;
}

/// Vectors of one `readv` or `writev` that are followed.
const VECTORS: u64 = 16;

/// Nothing of the input is recorded.
const INPUT_OFF: u32 = 0;
/// Secrets are recorded too.
const INPUT_FULL: u32 = 2;

/// Reports what one `readv` or `writev` of the running process moved: `len`
/// bytes, which lie in the first of `vectors`. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn emit_vectors(object: u64, vectors: u64, count: u64, len: u64, way: u64) -> i32 {
    let mut rest = len;
    for index in 0..VECTORS {
        if index >= count || rest == 0 {
            break;
        }
        // struct iovec: address and length.
        let vector = vectors.wrapping_add(index * 16);
        let word = |at: u64| match way & way::IN_KERNEL {
            0 => kernel::read_user(vector.wrapping_add(at)),
            _ => kernel::read(vector, at),
        };
        let there = word(8);
        let size = if there < rest { there } else { rest };
        if size != 0 {
            emit_bytes(object, word(0), size, way);
        }
        rest -= size;
    }
    if rest != 0 {
        skip(object, rest, way, CAUSE_TOO_LARGE);
    }
    0
}

/// Reports `len` bytes that the running process read or wrote, in pieces. A
/// global function: verified once, with scalars only.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn emit_bytes(object: u64, buffer: u64, len: u64, way: u64) -> i32 {
    emit_pieces::<false>(object, buffer, len, way, kernel::boot_ns());
    0
}

/// Reports `len` bytes of a terminal that lie in the kernel's own memory.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn emit_received(master: u64, buffer: u64, len: u64, way: u64, boot_ns: u64) -> i32 {
    emit_pieces::<true>(master, buffer, len, way, boot_ns);
    0
}

#[inline(always)]
fn emit_pieces<const KERNEL: bool>(object: u64, buffer: u64, len: u64, way: u64, boot_ns: u64) {
    let Some(scratch) = describe(object, len, way, boot_ns) else {
        return;
    };
    let origin = emit::origin(&scratch.header);
    let body = emit::body::<StreamBody>(scratch);
    if body.withheld != 0 {
        emit::submit(scratch);
        return;
    }
    let start = body.offset;
    for piece in 0..STREAM_PIECES {
        let done = u64::from(piece) * PAYLOAD_MAX as u64;
        if done >= len {
            return;
        }
        let size = piece_len(len - done);
        body.offset = offset_at(start, done);
        body.bytes = size as u32;
        if KERNEL {
            emit_kernel(buffer.wrapping_add(done), size);
        } else {
            emit_user(buffer.wrapping_add(done), size);
        }
    }
    let captured = u64::from(STREAM_PIECES) * PAYLOAD_MAX as u64;
    if len > captured {
        loss::count(origin, CAUSE_TOO_LARGE, CLASS_STREAM, 1, len - captured);
    }
}

/// Begins the record of a stream's next `len` bytes, and moves its position on.
#[inline(always)]
fn describe(object: u64, len: u64, way: u64, boot_ns: u64) -> Option<&'static mut Scratch> {
    let input = way & way::INPUT;
    let mut secret = way & way::SECRET != 0;
    let mut quiet = false;
    let scratch = if way & way::PIPE != 0 {
        let pid = kernel::current_pid();
        let origin = Origin::from(&*kernel::process(pid)?);
        let scratch = emit::begin(KIND_PIPE, origin, pid, boot_ns)?;
        let body = emit::body::<StreamBody>(scratch);
        body.inode = object;
        body.offset = advance(origin, object << 1 | input, pid, len);
        quiet = file_transfers::is_quiet(object);
        scratch
    } else {
        // SAFETY: a map value; each of its positions has one writer.
        let terminal = unsafe { TERMINALS.get_ptr_mut(object)?.as_mut()? };
        let origin = Origin {
            connection: terminal.connection,
            root: terminal.root,
        };
        let scratch = emit::begin(KIND_TERMINAL, origin, terminal.holder, boot_ns)?;
        let body = emit::body::<StreamBody>(scratch);
        terminals::describe(body, object, terminal.id);
        body.offset = terminals::advance(terminal, input != 0, len);
        // The reader may have turned echo on again since the call began: a
        // secret at either end of the call is one.
        secret |= input != 0 && terminals::waits_for_secret(object) != 0;
        scratch
    };
    scratch.flow = object;
    let body = emit::body::<StreamBody>(scratch);
    body.direction = input as u32;
    body.bytes = len as u32;
    let record = RECORD_INPUT.load();
    if quiet {
        body.withheld = WITHHELD_TRANSFER;
    } else if body.direction == DIRECTION_INPUT
        && (record == INPUT_OFF || (secret && record != INPUT_FULL))
    {
        body.withheld = WITHHELD_MASKED;
    }
    Some(scratch)
}

/// Moves a stream on by `len` bytes that are lost for this cause.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn skip(object: u64, len: u64, way: u64, cause: u32) -> i32 {
    if let Some(scratch) = describe(object, len, way, kernel::boot_ns()) {
        let origin = emit::origin(&scratch.header);
        loss::count(origin, cause, CLASS_STREAM, 1, len);
    }
    0
}

/// Forgets where a pipe stood whose end its owner closes.
#[inline(always)]
pub fn forget_pipe(inode: u64, pid: u32) {
    forget(inode << 1, pid);
    forget(inode << 1 | way::INPUT, pid);
}

#[inline(always)]
fn forget(key: u64, pid: u32) {
    if let Some(position) = POSITIONS.get_ptr(key) {
        // SAFETY: a map value of integers.
        if unsafe { (*position).owner } == pid {
            let _ = POSITIONS.remove(key);
        }
    }
}

/// Moves a pipe's position on by `len` and returns where it stood.
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
