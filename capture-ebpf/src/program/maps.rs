//! The maps, and the constants that the agent sets before it loads.

use auditty_capture_ebpf::{
    ACTIVE_CPUS, BODY_LEN, FILE_CALLS, Header, Inner, LossCount, LossKey, Offsets, PAYLOAD_MAX,
    Position, Process, Terminal, WATCH_WORD, WATCH_WORDS,
};
use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};

use crate::paths::Walk;

/// Processes, connections, exits: what a flood of output must not displace.
#[map]
pub static CONTROL: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Terminal and pipe bytes, and what processes do to files.
#[map]
pub static DATA: RingBuf = RingBuf::with_byte_size(32 << 20, 0);

/// Which generation of the programs works, by CPU. An agent that takes over
/// attaches its own programs beside those of the one before, and then turns
/// this over, on each CPU from that CPU: every event is then seen by exactly
/// one of the two.
#[map]
pub static ACTIVE: Array<u64> = Array::with_max_entries(ACTIVE_CPUS, MMAPABLE);

/// What each flow has in the rings, see [`crate::flows`].
#[map]
pub static FLOWS: Array<Flow> = Array::with_max_entries(FLOWS_LEN, 0);

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

/// Every pty whose master a watched process holds, by the address of the
/// master's `tty_struct`.
#[map]
pub static TERMINALS: HashMap<u64, Terminal> = HashMap::with_max_entries(16_384, 0);

/// Calls of the line discipline between their entry and their return, by
/// thread.
#[map]
pub static RECEIVES: HashMap<u64, Receive> = HashMap::with_max_entries(8_192, 0);

/// When the first entry of such a call was seen; nanoseconds since boot.
#[map]
pub static FIRST_RECEIVE: Array<u64> = Array::with_max_entries(1, 0);

/// The ptys that a root's own processes opened, by root.
#[map]
pub static INNER: HashMap<u64, Inner> = HashMap::with_max_entries(8_192, 0);

/// Terminals that are written to by processes they do not control, as already
/// reported.
#[map]
pub static WRITERS: LruHashMap<Writer, u64> = LruHashMap::with_max_entries(8_192, 0);

/// Where the byte stream of each pipe stands.
#[map]
pub static POSITIONS: HashMap<u64, Position> = HashMap::with_max_entries(65_536, 0);

/// TCP sockets of connections' processes between their beginning and their
/// end, by kernel address.
#[map]
pub static SOCKETS: HashMap<u64, Socket> = HashMap::with_max_entries(16_384, 0);

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

/// `BPF_F_MMAPABLE`: the agent reads and writes the values without a system
/// call.
const MMAPABLE: u32 = 1 << 10;

/// Flows that are told apart: a power of two. Two that fall together share one
/// share.
pub const FLOWS_LEN: u32 = 4096;

/// What one flow has in the rings.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Flow {
    /// In [`CONTROL`].
    pub control: Share,
    /// In [`DATA`].
    pub data: Share,
}

/// What one flow has in one ring, at most: the bytes of its current period, and
/// of the one before.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Share {
    /// Where the ring's producer stood when the current period began.
    pub since: u64,
    /// Bytes put in since.
    pub bytes: u64,
    /// Bytes of the period before.
    pub before: u64,
}

/// The same for threads of sshd that run programs inside it, which can be
/// preempted; the agent sets how many.
#[map]
pub static SCRATCHES: HashMap<u64, Scratch> = HashMap::with_max_entries(1, 0);

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
    /// Whose share of the rings the record takes, see [`crate::flows`].
    pub flow: u64,
}

/// A process that writes to a terminal it is not controlled by.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Writer {
    /// Address of the master's `tty_struct`.
    pub master: u64,
    /// Its id.
    pub pid: u64,
}

/// Bytes on their way into a terminal's line discipline.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Receive {
    /// Address of the pty master's `tty_struct`, 0 for a terminal that is not
    /// ours.
    pub master: u64,
    /// Where the bytes lie.
    pub buffer: u64,
    /// How many are offered.
    pub offered: u64,
    /// See [`crate::streams::way`].
    pub way: u64,
    /// The entry, nanoseconds since boot.
    pub boot_ns: u64,
}

/// A system call between its entry and its exit.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    /// Its number.
    pub nr: u64,
    /// The user's buffer, or its vectors.
    pub buffer: u64,
    /// Number of the vectors; with [`IN_KERNEL`] they lie in the kernel's memory.
    pub vectors: u64,
    /// As in [`crate::files::Object`].
    pub object: u64,
    /// One of [`crate::files`]' classes.
    pub class: u32,
    /// The terminal waited for a secret at entry.
    pub secret: u32,
}

/// Mark of vectors that lie in the kernel's memory.
pub const IN_KERNEL: u64 = 1 << 63;

/// A TCP socket that is to be reported again.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Socket {
    /// Identity within one boot.
    pub id: u64,
    /// The connection it belongs to.
    pub connection: u64,
    /// See [`Header::root`].
    pub root: u64,
    /// The process that began it.
    pub pid: u32,
    /// Remote and local port, once it is announced.
    pub ports: u32,
    /// Its beginning was reported.
    pub announced: u32,
    /// Always 0.
    pub pad: u32,
}

/// Offsets of the members that are read.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::ZERO;

/// The generation of these programs; see [`ACTIVE`].
#[unsafe(no_mangle)]
pub static GENERATION: Global<u64> = Global::new(0);

/// Sizes of the rings.
#[unsafe(no_mangle)]
pub static CONTROL_BYTES: Global<u64> = Global::new(8 << 20);
#[unsafe(no_mangle)]
pub static DATA_BYTES: Global<u64> = Global::new(32 << 20);

/// 0: input is never copied; 1: copied, but not what is typed while a terminal
/// waits for a secret; 2: always copied.
#[unsafe(no_mangle)]
pub static RECORD_INPUT: Global<u32> = Global::new(1);

/// Not 0: the bytes of terminals are taken at the line discipline, and not at
/// the system calls of those who hold them.
#[unsafe(no_mangle)]
pub static LINE_DISCIPLINE: Global<u32> = Global::new(0);

/// Not 0: the functions of single system calls are probed, and what moves the
/// bytes of pipes and terminals; see [`crate::system_calls`].
#[unsafe(no_mangle)]
pub static BY_FUNCTIONS: Global<u32> = Global::new(0);

/// How an `iov_iter` says what it goes through: a buffer of the process, or
/// vectors of them; and the bits that say so.
#[unsafe(no_mangle)]
pub static ITER_BUFFER: Global<u32> = Global::new(0xff);
#[unsafe(no_mangle)]
pub static ITER_VECTORS: Global<u32> = Global::new(0xff);
#[unsafe(no_mangle)]
pub static ITER_MASK: Global<u32> = Global::new(0xff);

/// Not 0: programs run inside sshd, see [`SCRATCHES`].
#[unsafe(no_mangle)]
pub static INSIDE_SSHD: Global<u32> = Global::new(0);

/// 1: what processes do to files is recorded; 0: only what is transferred.
#[unsafe(no_mangle)]
pub static RECORD_FILES: Global<u32> = Global::new(1);

/// 1: opens for reading are looked at.
#[unsafe(no_mangle)]
pub static RECORD_READS: Global<u32> = Global::new(0);

/// 1: the bytes of transfers are copied.
#[unsafe(no_mangle)]
pub static RECORD_TRANSFERS: Global<u32> = Global::new(0);

/// System calls that do something to a file, by number: packed
/// [`auditty_capture_ebpf::FileCall`]s.
#[unsafe(no_mangle)]
pub static CALLS_ON_FILES: [u64; FILE_CALLS] = [0; FILE_CALLS];

/// System call numbers of this architecture.
#[unsafe(no_mangle)]
pub static NR_READ: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static NR_WRITE: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static NR_READV: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static NR_WRITEV: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static NR_CLOSE: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static NR_IOCTL: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static NR_CONNECT: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static NR_LISTEN: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static NR_ACCEPT: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static NR_ACCEPT4: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static NR_SENDTO: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static NR_SENDMSG: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static NR_SENDMMSG: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static NR_PTRACE: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
pub static NR_IO_URING_SETUP: Global<u64> = Global::new(0);

/// The constant offset of one member.
macro_rules! offset {
    ($field:ident) => {{
        // SAFETY: a plain read of a static; volatile because the loader puts
        // another value in its place.
        u64::from(unsafe { core::ptr::read_volatile(&raw const $crate::maps::OFFSETS.$field) })
    }};
}
pub(crate) use offset;
