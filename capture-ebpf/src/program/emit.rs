//! Building records and handing them to the rings.

use core::{ffi::c_void, hint::black_box};

use auditty_capture_ebpf::{
    BODY_LEN, CAUSE_READ_FAILED, CAUSE_RING_FULL, CLASS_EXEC, CLASS_FILE, CLASS_LOGIN,
    CLASS_NETWORK, CLASS_PROCESS, CLASS_STREAM, Header, KIND_ARGS, KIND_CONNECTION, KIND_EXEC,
    KIND_EXIT, KIND_FILE, KIND_FILE_PATH, KIND_FORK, KIND_LISTENER_FORK, KIND_MONITOR, KIND_PATH,
    KIND_SOCKET, KIND_USE, PAYLOAD_MAX,
};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated};

use crate::{
    flows,
    kernel::Origin,
    loss,
    maps::{CONTROL, DATA, INSIDE_SSHD, SCRATCH, SCRATCHES, Scratch},
};

/// No record wakes the agent: wake-ups would cost more than the capture. It
/// polls with a short, bounded delay.
const NO_WAKEUP: u64 = 1;
/// The one exception: see [`wake`].
const FORCE_WAKEUP: u64 = 2;

const HEAD: usize = size_of::<Header>() + BODY_LEN;

/// The buffer for a record under construction: this CPU's, which only programs
/// use that cannot be preempted; or this thread's, where it runs programs inside
/// sshd, which can.
#[inline(always)]
pub fn scratch() -> Option<*mut Scratch> {
    if INSIDE_SSHD.load() != 0
        && let Some(own) = SCRATCHES.get_ptr_mut(bpf_get_current_pid_tgid())
    {
        return Some(own);
    }
    SCRATCH.get_ptr_mut(0)
}

/// Gives the running thread a buffer of its own; whether it has one.
#[inline(always)]
pub fn own_scratch() -> bool {
    let thread = bpf_get_current_pid_tgid();
    if SCRATCHES.get_ptr(thread).is_some() {
        return true;
    }
    let Some(any) = SCRATCH.get_ptr(0) else {
        return false;
    };
    // SAFETY: a map value of integers; what it holds makes no difference.
    SCRATCHES.insert(thread, unsafe { &*any }, 0).is_ok()
}

/// A record under construction, with its header filled in and its body
/// zeroed.
#[inline(always)]
pub fn begin(kind: u32, origin: Origin, pid: u32, boot_ns: u64) -> Option<&'static mut Scratch> {
    // SAFETY: nobody else uses it meanwhile, see `scratch`.
    let scratch = unsafe { scratch()?.as_mut()? };
    scratch.header.kind = kind;
    scratch.header.len = 0;
    scratch.header.boot_ns = boot_ns;
    scratch.header.connection = origin.connection;
    scratch.header.root = origin.root;
    scratch.header.pid = pid;
    scratch.header.pad = 0;
    scratch.flow = if origin.root != 0 {
        origin.root
    } else {
        origin.connection
    };
    let words = scratch.body.as_mut_ptr().cast::<u64>();
    // Word by word: a memset of the whole body would become a byte loop.
    // SAFETY: eight words are the 64 bytes of the body, aligned by the header.
    unsafe {
        words.write_volatile(0);
        words.add(1).write_volatile(0);
        words.add(2).write_volatile(0);
        words.add(3).write_volatile(0);
        words.add(4).write_volatile(0);
        words.add(5).write_volatile(0);
        words.add(6).write_volatile(0);
        words.add(7).write_volatile(0);
    }
    Some(scratch)
}

/// The body of a record under construction, as the type its kind has.
#[inline(always)]
pub fn body<T: Copy>(scratch: &mut Scratch) -> &mut T {
    const { assert!(size_of::<T>() == BODY_LEN && align_of::<T>() <= 8) };
    // SAFETY: the sizes are equal, the body is aligned to eight bytes behind a
    // header of 32, and all body types are made of integers.
    unsafe { &mut *scratch.body.as_mut_ptr().cast::<T>() }
}

/// Hands the record under construction to its ring, without payload.
#[inline(always)]
pub fn submit(scratch: &Scratch) -> bool {
    output(scratch, 0, NO_WAKEUP)
}

/// Hands the record over with the first `len` bytes of payload that are there.
#[inline(always)]
pub fn submit_payload(scratch: &mut Scratch, len: u64) -> bool {
    let len = bounded(len);
    scratch.header.len = len as u32;
    output(scratch, len, NO_WAKEUP)
}

/// Hands the record over at once: a connection is about to begin, and the agent
/// has to attach the hooks that cost something.
#[inline(always)]
pub fn wake(scratch: &Scratch) {
    output(scratch, 0, FORCE_WAKEUP);
}

/// Copies `len` (1 to [`PAYLOAD_MAX`]) bytes of the running process behind the
/// record under construction and hands it over. A global function: verified
/// once, whatever the number of callers and iterations. Returns 1 when the
/// record got through.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn emit_user(source: u64, len: u64) -> i32 {
    emit_copy::<false>(source, len)
}

/// As [`emit_user`], from the kernel's own memory.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn emit_kernel(source: u64, len: u64) -> i32 {
    emit_copy::<true>(source, len)
}

#[inline(always)]
fn emit_copy<const KERNEL: bool>(source: u64, len: u64) -> i32 {
    let Some(scratch) = scratch() else {
        return 0;
    };
    let len = bounded(len);
    // SAFETY: a value of this CPU alone; `len` is at most PAYLOAD_MAX. The
    // helpers write `len` bytes: what they read, or zeros when they could not.
    unsafe {
        (*scratch).header.len = len as u32;
        let target = (&raw mut (*scratch).payload).cast::<c_void>();
        let source = source as *const c_void;
        let result = if KERNEL {
            generated::bpf_probe_read_kernel(target, len as u32, source)
        } else {
            generated::bpf_probe_read_user(target, len as u32, source)
        };
        if result != 0 {
            let header = &(*scratch).header;
            loss::count(
                origin(header),
                CAUSE_READ_FAILED,
                class(header.kind),
                events(header.kind),
                len,
            );
            return 0;
        }
        i32::from(output(&*scratch, len, NO_WAKEUP))
    }
}

/// `len`, as a number from 1 to [`PAYLOAD_MAX`] also for the verifier; 0 stays
/// what it means: [`submit`] has no payload.
#[inline(always)]
pub fn bounded(len: u64) -> u64 {
    (black_box(len).wrapping_sub(1) & (PAYLOAD_MAX as u64 - 1)) + 1
}

#[inline(always)]
fn output(scratch: &Scratch, payload: u64, flags: u64) -> bool {
    let header = &scratch.header;
    let class = class(header.kind);
    let bytes = HEAD as u64 + payload;
    let is_data = class == CLASS_STREAM || class == CLASS_FILE;
    let ring = if is_data {
        (&raw const DATA).cast_mut().cast::<c_void>()
    } else {
        (&raw const CONTROL).cast_mut().cast::<c_void>()
    };
    let admitted = flows::admit(u64::from(is_data), scratch.flow, bytes) != 0;
    // SAFETY: head and payload lie one behind the other in the scratch buffer,
    // and `payload` is at most PAYLOAD_MAX.
    let put = admitted
        && unsafe {
            generated::bpf_ringbuf_output(
                ring,
                core::ptr::from_ref(scratch).cast_mut().cast::<c_void>(),
                bytes,
                flags,
            ) == 0
        };
    if !put {
        loss::count(
            origin(header),
            CAUSE_RING_FULL,
            class,
            events(header.kind),
            payload,
        );
    }
    put
}

/// Whose record it is.
#[inline(always)]
pub fn origin(header: &Header) -> Origin {
    Origin {
        connection: header.connection,
        root: header.root,
    }
}

/// A piece of an exec is no event of its own. One of a file's is: without it,
/// the rest is not sent.
#[inline(always)]
fn events(kind: u32) -> u64 {
    u64::from(kind != KIND_PATH && kind != KIND_ARGS)
}

#[inline(always)]
fn class(kind: u32) -> u32 {
    match kind {
        KIND_FORK | KIND_EXIT | KIND_USE => CLASS_PROCESS,
        KIND_EXEC | KIND_PATH | KIND_ARGS => CLASS_EXEC,
        KIND_LISTENER_FORK | KIND_CONNECTION | KIND_MONITOR => CLASS_LOGIN,
        KIND_FILE | KIND_FILE_PATH => CLASS_FILE,
        KIND_SOCKET => CLASS_NETWORK,
        _ => CLASS_STREAM,
    }
}
