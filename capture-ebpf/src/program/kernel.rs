//! Reading the kernel's own structures.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, generated};

use crate::maps::{ACTIVE, GENERATION, PROCESSES, WATCHED, offset};
use auditty_capture_ebpf::{Process, WATCH_WORD};

/// A kernel object, by its address. 0 reads as zeros.
pub type Address = u64;

/// Types whose every bit pattern is a value.
pub trait Plain: Copy {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for [u8; 16] {}

/// Reads a member at `base + offset`; zeros where there is no such memory.
#[inline(always)]
pub fn read<T: Plain>(base: Address, offset: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes `size_of::<T>()` bytes: what it read, or zeros
    // when it could not. Every bit pattern is a value of `T`.
    unsafe {
        generated::bpf_probe_read_kernel(
            value.as_mut_ptr().cast::<c_void>(),
            size_of::<T>() as u32,
            base.wrapping_add(offset) as *const c_void,
        );
        value.assume_init()
    }
}

/// Reads eight bytes of the running process; 0 where it has no such memory.
#[inline(always)]
pub fn read_user(address: u64) -> u64 {
    let mut value = 0u64;
    // SAFETY: writes the eight bytes of `value`, zeros when it cannot read.
    unsafe {
        generated::bpf_probe_read_user(
            (&raw mut value).cast::<c_void>(),
            size_of::<u64>() as u32,
            address as *const c_void,
        );
    }
    value
}

/// Whether these programs are the ones that work. Each one asks first.
#[inline(always)]
pub fn is_active() -> bool {
    // SAFETY: no arguments, no preconditions.
    let cpu = unsafe { generated::bpf_get_smp_processor_id() };
    match ACTIVE.get_ptr(cpu) {
        // SAFETY: a map value, one integer; volatile because the agent writes it.
        Some(active) => unsafe { active.read_volatile() == GENERATION.load() },
        None => true,
    }
}

/// The running task.
#[inline(always)]
pub fn current_task() -> Address {
    // SAFETY: no arguments, no preconditions.
    unsafe { bpf_get_current_task() }
}

/// Thread group id of the running task, in the initial pid namespace.
#[inline(always)]
pub fn current_pid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// `CLOCK_BOOTTIME`, nanoseconds.
#[inline(always)]
pub fn boot_ns() -> u64 {
    // SAFETY: no arguments, no preconditions; since Linux 5.8.
    unsafe { generated::bpf_ktime_get_boot_ns() }
}

/// Whose event it is.
#[derive(Clone, Copy)]
pub struct Origin {
    /// The connection, 0 for none.
    pub connection: u64,
    /// What of it, see [`auditty_capture_ebpf::Header::root`].
    pub root: u64,
}

impl From<&Process> for Origin {
    #[inline(always)]
    fn from(process: &Process) -> Self {
        Self {
            connection: process.connection,
            root: process.root,
        }
    }
}

/// What is known of a process.
#[inline(always)]
pub fn process(pid: u32) -> Option<&'static mut Process> {
    let process = PROCESSES.get_ptr_mut(pid)?;
    // SAFETY: a map value; all its fields are integers, and torn or concurrent
    // updates of one process are impossible: only its own thread writes it.
    unsafe { process.as_mut() }
}

/// Whether and why the process' system calls are of interest: `WATCH_*` bits.
#[inline(always)]
pub fn watched(pid: u32) -> u8 {
    let Some(word) = WATCHED.get_ptr(pid / WATCH_WORD as u32) else {
        return 0;
    };
    // SAFETY: the index is below WATCH_WORD, the length of the value.
    unsafe { *word.cast::<u8>().add(pid as usize % WATCH_WORD) }
}

/// Says why the process' system calls are of interest: `WATCH_*` bits. A byte
/// store: other CPUs may write the neighbours at the same moment.
#[inline(always)]
pub fn watch(pid: u32, bits: u8) {
    let Some(word) = WATCHED.get_ptr_mut(pid / WATCH_WORD as u32) else {
        return;
    };
    // SAFETY: as in `watched`.
    unsafe { *word.cast::<u8>().add(pid as usize % WATCH_WORD) = bits }
}

/// An IPv4 address, as it lies in memory, in the first four bytes.
#[inline(always)]
pub fn put_ipv4(address: &mut [u8; 16], ipv4: u32) {
    // SAFETY: four of the sixteen bytes; unaligned is fine for bytes.
    unsafe { address.as_mut_ptr().cast::<u32>().write_unaligned(ipv4) };
}

/// The task's name: the kernel sets it at exec from the file's.
#[inline(always)]
fn name() -> [u8; 16] {
    let mut name = [0u8; 16];
    // SAFETY: writes at most the 16 bytes of `name`.
    unsafe { generated::bpf_get_current_comm(name.as_mut_ptr().cast::<c_void>(), 16) };
    name
}

/// Whether the task has the name of an SSH server: `sshd`, `sshd-session` (since
/// OpenSSH 9.8), `sshd-auth` (since 10.0), or `dropbear`.
#[inline(always)]
pub fn is_server_name() -> bool {
    match name() {
        [b's', b's', b'h', b'd', next, ..] => next == 0 || next == b'-',
        [b'd', b'r', b'o', b'p', b'b', b'e', b'a', b'r', 0, ..] => true,
        _ => false,
    }
}

/// Whether the task has dropbear's name.
#[inline(always)]
pub fn is_dropbear_name() -> bool {
    matches!(
        name(),
        [b'd', b'r', b'o', b'p', b'b', b'e', b'a', b'r', 0, ..]
    )
}

/// Open files of the running task, by descriptor.
pub struct Descriptors {
    /// Array of pointers to open files.
    pub files: Address,
    /// Its length.
    pub length: u64,
}

/// The running task's descriptor table.
#[inline(always)]
pub fn descriptors() -> Descriptors {
    let files: Address = read(current_task(), offset!(task_files));
    let table: Address = read(files, offset!(files_fdt));
    let length: u32 = read(table, offset!(fdt_max_fds));
    Descriptors {
        files: read(table, offset!(fdt_fd)),
        length: u64::from(length),
    }
}

/// The open file behind a descriptor of the running task, 0 for none.
#[inline(always)]
pub fn file(fd: u32) -> Address {
    let table = descriptors();
    if u64::from(fd) >= table.length {
        return 0;
    }
    read(table.files, u64::from(fd) * 8)
}
