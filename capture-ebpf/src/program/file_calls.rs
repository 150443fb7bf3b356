//! System calls that do something to a file, between their entry and their
//! exit.
//!
//! Only the exit knows how a call ended, and by then the names that the process
//! gave have been read, so that they are in memory; only the entry knows the
//! arguments. Programs of 32 bits number their calls differently and are left
//! out: the agent declares that.

use core::hint::black_box;

use auditty_capture_ebpf::{
    CAUSE_MISSED, CAUSE_TABLE_FULL, CLASS_FILE, FILE_CALLS, FileCall, PROCESS_IS_SUBSYSTEM,
    PROCESS_IS_TRANSFER, PROCESS_USER, Process, SHAPE_CLOSE, SHAPE_DESCRIPTOR, SHAPE_NAME,
    SHAPE_OPEN_HOW, SHAPE_READ, SHAPE_SEEK, WATCH_SERVER, WATCH_TRANSFER,
};
use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::map, maps::HashMap};

use crate::{
    file_reports, file_transfers,
    kernel::{self, Address, Origin, read},
    loss,
    maps::{BY_FUNCTIONS, CALLS_ON_FILES, RECORD_FILES, offset},
};

/// The running system call is one of 32 bits (`TS_COMPAT`,
/// arch/x86/include/asm/thread_info.h).
const TS_COMPAT: u32 = 2;

/// Calls under way, by thread.
#[map]
static FILE_CALLS_UNDER_WAY: HashMap<u64, UnderWay> = HashMap::with_max_entries(16_384, 0);

/// A call between its entry and its exit.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct UnderWay {
    /// The call, packed.
    pub call: u64,
    /// Its first arguments.
    pub arguments: [u64; 4],
    /// The open file that it reads, 0 for none that is counted.
    pub source: Address,
    /// The open file that it writes, 0 for none that is counted.
    pub sink: Address,
}

impl UnderWay {
    /// The argument at a position that a [`FileCall`] names.
    #[inline(always)]
    pub fn argument(&self, position: u8) -> u64 {
        let position = black_box(u64::from(position)) & 3;
        // SAFETY: below the length of the array.
        unsafe { *self.arguments.as_ptr().add(position as usize) }
    }
}

/// The call of this thread that is under way.
#[inline(always)]
pub fn under_way() -> Option<&'static UnderWay> {
    let call = FILE_CALLS_UNDER_WAY.get_ptr(bpf_get_current_pid_tgid())?;
    // SAFETY: a map value of integers that only this thread writes and removes.
    unsafe { call.as_ref() }
}

/// Forgets the call of a thread that ends.
#[inline(always)]
pub fn forget(thread: u64) {
    let _ = FILE_CALLS_UNDER_WAY.remove(thread);
}

/// Counts a call of the running thread whose return was not seen, as
/// [`loss::left_over`] does. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn file_left_over() -> i32 {
    if BY_FUNCTIONS.load() != 0 && under_way().is_some() {
        loss::of_running(CAUSE_MISSED, CLASS_FILE);
    }
    0
}

/// What the table says of a system call, 0 for nothing.
#[inline(always)]
fn look_up(number: u64) -> u64 {
    if number >= FILE_CALLS as u64 {
        return 0;
    }
    let number = black_box(number) & (FILE_CALLS as u64 - 1);
    // SAFETY: below the length of the table; volatile because the loader puts
    // another table in its place.
    unsafe {
        (&raw const CALLS_ON_FILES)
            .cast::<u64>()
            .add(number as usize)
            .read_volatile()
    }
}

/// Whether a call of this shape, 0 for none, matters in a process that is watched
/// so: most calls move bytes, and those of a file matter only in a transfer.
#[inline(always)]
fn concerns(shape: u8, watched: u8) -> bool {
    shape != 0 && (shape < SHAPE_READ || watched & WATCH_TRANSFER != 0)
}

/// A watched process entered a system call.
#[inline(always)]
pub fn enter(number: u64, watched: u8, argument: &impl Fn(usize) -> u64) {
    let call = look_up(number);
    let shape = FileCall::unpack(call).shape;
    let may_begin =
        watched & WATCH_SERVER != 0 && file_transfers::may_find_subsystem(shape, argument(0));
    if concerns(shape, watched) || may_begin {
        begin_file_call(call, argument(0), argument(1), argument(2), argument(3));
    }
}

/// It left the system call.
#[inline(always)]
pub fn exit(number: u64, result: u64, watched: u8) {
    let call = look_up(number);
    if concerns(FileCall::unpack(call).shape, watched) {
        end_file_call(call, result);
    }
}

/// A global function: verified once, with scalars only.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn begin_file_call(
    call: u64,
    first: u64,
    second: u64,
    third: u64,
    fourth: u64,
) -> i32 {
    let thread = bpf_get_current_pid_tgid();
    let Some(process) = kernel::process((thread >> 32) as u32) else {
        return 0;
    };
    let shape = FileCall::unpack(call).shape;
    let mut under_way = UnderWay {
        call,
        arguments: [first, second, third, fourth],
        source: 0,
        sink: 0,
    };
    if shape >= SHAPE_READ {
        if process.flags & PROCESS_IS_TRANSFER == 0 {
            file_transfers::find_subsystem(process, shape, first);
        }
        if process.flags & PROCESS_IS_TRANSFER == 0 || is_foreign() {
            return 0;
        }
        if shape == SHAPE_CLOSE {
            file_transfers::close_descriptor(first);
            return 0;
        }
        if shape == SHAPE_SEEK {
            file_transfers::seek(first, second, third);
            return 0;
        }
        let (source, sink) = file_transfers::ends(process, shape, first, second, third);
        under_way.source = source;
        under_way.sink = sink;
        if source == 0 && sink == 0 {
            return 0;
        }
    } else if !is_recorded(process, shape) || is_foreign() {
        return 0;
    }
    file_left_over();
    if FILE_CALLS_UNDER_WAY.insert(thread, under_way, 0).is_err() {
        loss::count(Origin::from(&*process), CAUSE_TABLE_FULL, CLASS_FILE, 1, 0);
    }
    0
}

/// Whether what the process does to files is a fact of its session. Of sshd's
/// own it is not, but of one that serves files.
#[inline(always)]
fn is_recorded(process: &Process, shape: u8) -> bool {
    if process.kind != PROCESS_USER && process.flags & PROCESS_IS_SUBSYSTEM == 0 {
        return false;
    }
    RECORD_FILES.load() != 0
        || (shape <= SHAPE_OPEN_HOW && process.flags & PROCESS_IS_TRANSFER != 0)
}

/// Whether the running call is numbered as on another architecture.
#[inline(always)]
fn is_foreign() -> bool {
    let status: u32 = read(
        kernel::current_task(),
        offset!(task_thread_info) + offset!(thread_info_status),
    );
    status & TS_COMPAT != 0
}

/// A global function: verified once, with scalars only.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn end_file_call(call: u64, result: u64) -> i32 {
    let thread = bpf_get_current_pid_tgid();
    let Some(under_way) = under_way() else {
        return 0;
    };
    if under_way.call == call {
        let shape = FileCall::unpack(call).shape;
        if shape <= SHAPE_OPEN_HOW {
            file_reports::report_open(result);
        } else if shape == SHAPE_NAME {
            file_reports::report_names(result);
        } else if shape == SHAPE_DESCRIPTOR {
            file_reports::report_descriptor(result);
        } else {
            file_transfers::count(under_way.source, under_way.sink, result);
        }
    }
    forget(thread);
    0
}
