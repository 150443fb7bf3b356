//! The maps, and the constants that the agent sets before it loads.

use auditty_capture_ebpf::{
    BODY_LEN, Header, LossCount, LossKey, Offsets, PAYLOAD_MAX, Position, Process, WATCH_WORD,
    WATCH_WORDS,
};
use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};

use crate::paths::Walk;

/// Processes, connections, exits: what a flood of output must not displace.
#[map]
pub static CONTROL: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Terminal and pipe bytes.
#[map]
pub static DATA: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// Every process that matters, by thread group id.
#[map]
pub static PROCESSES: HashMap<u32, Process> = HashMap::with_max_entries(65_536, 0);

/// A byte for every pid: whether its system calls are of interest. One load
/// decides, for every system call on the host.
#[map]
pub static WATCHED: Array<[u8; WATCH_WORD]> = Array::with_max_entries(WATCH_WORDS, 0);

/// System calls between their entry and their exit, by thread.
#[map]
pub static CALLS: HashMap<u64, Call> = HashMap::with_max_entries(16_384, 0);

/// Where each byte stream stands.
#[map]
pub static POSITIONS: HashMap<u64, Position> = HashMap::with_max_entries(65_536, 0);

/// What was lost, by connection.
#[map]
pub static LOSSES: PerCpuHashMap<LossKey, LossCount> = PerCpuHashMap::with_max_entries(4_096, 0);

/// What was lost when [`LOSSES`] was full: events, by class.
#[map]
pub static UNATTRIBUTED: PerCpuArray<LossCount> = PerCpuArray::with_max_entries(8, 0);

/// A record under construction. Classic tracepoint programs run with
/// preemption disabled and never nest on one CPU, so one buffer each is enough.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Room behind the payload, so that an appended path component, whose end the
/// verifier cannot know exactly, still ends inside.
pub const SLACK: usize = 4096;

/// A record under construction.
#[repr(C)]
pub struct Scratch {
    /// The header.
    pub header: Header,
    /// The body.
    pub body: [u8; BODY_LEN],
    /// The payload.
    pub payload: [u8; PAYLOAD_MAX + SLACK],
    /// A path that is being walked.
    pub walk: Walk,
}

/// A system call of an sshd between its entry and its exit.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    /// Its number.
    pub nr: u64,
    /// The user's buffer.
    pub buffer: u64,
    /// `tty_struct` of a pty master, inode number of a pipe.
    pub object: u64,
    /// One of [`crate::files`]' classes.
    pub class: u32,
    /// The terminal waited for a secret at entry.
    pub secret: u32,
}

/// Offsets of the members that are read.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::ZERO;

/// 0: input is never copied; 1: copied, but not what is typed while echo is off
/// in canonical mode.
#[unsafe(no_mangle)]
pub static RECORD_INPUT: Global<u32> = Global::new(1);

/// System call numbers of this architecture.
#[unsafe(no_mangle)]
pub static NR_READ: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static NR_WRITE: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static NR_CLOSE: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static NR_IOCTL: Global<u64> = Global::new(0);

/// The constant offset of one member.
macro_rules! offset {
    ($field:ident) => {{
        // SAFETY: a plain read of a static; volatile because the loader puts
        // another value in its place.
        u64::from(unsafe { core::ptr::read_volatile(&raw const $crate::maps::OFFSETS.$field) })
    }};
}
pub(crate) use offset;
