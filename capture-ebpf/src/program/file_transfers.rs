//! Programs that transfer files: how much of which file they moved, and whose
//! bytes are therefore not copied.
//!
//! A program counts as one by its image: the name of the file that the kernel
//! runs, which must belong to root and be writable by nobody else. What a user
//! calls his own program means nothing.

use auditty_capture_ebpf::{
    CAUSE_MISSED, CAUSE_TABLE_FULL, CLASS_FILE, FILE_CLOSE, FileBody, KIND_FILE, OFFSET_UNKNOWN,
    PATH_FILE, PROCESS_IS_SUBSYSTEM, PROCESS_IS_TALKING, PROCESS_IS_TRANSFER, PROCESS_SERVER,
    PROCESS_USER, Process, SHAPE_COPY, SHAPE_READ, SHAPE_SEND, SHAPE_WRITE, Transfer, minted_for,
};
use aya_ebpf::{
    helpers::generated,
    macros::map,
    maps::{HashMap, LruHashMap},
};

use crate::{
    emit,
    file_reports::{S_IFMT, mode},
    files::{self, CLASS_PIPE},
    kernel::{self, Address, Origin, read},
    loss,
    maps::{BY_FUNCTIONS, RECORD_TRANSFERS, offset},
    paths::emit_path,
};

/// Files that transfers have open, by the address of the open file.
#[map]
static TRANSFERS: HashMap<u64, Transfer> = HashMap::with_max_entries(16_384, 0);

/// Pipes that carry a transfer, by inode number: the process at the far end of
/// them. Least recently used, because what is forgotten is merely recorded.
#[map]
static QUIET_PIPES: LruHashMap<u32, u32> = LruHashMap::with_max_entries(4_096, 0);

/// Descriptors that are looked at when a process ends: this many times as many
/// in one function, so that the verifier does not count them all.
const DESCRIPTORS: u64 = 16;

/// Largest transfer of one call (`MAX_RW_COUNT`).
const MAX_COUNT: u64 = 0x7fff_f000;

const O_ACCMODE: u32 = 0o3;
const O_WRONLY: u32 = 0o1;
const O_APPEND: u32 = 0o2000;
const SEEK_SET: u32 = 0;
const SEEK_CUR: u32 = 1;
const SEEK_END: u32 = 2;
const S_IFIFO: u16 = 0o010_000;
const S_IFSOCK: u16 = 0o140_000;
const WRITABLE_BY_OTHERS: u16 = 0o022;

/// A name as it is compared: its first 15 bytes.
type Name = [u64; 2];

const fn name(text: &[u8]) -> Name {
    let mut bytes = [0u8; 16];
    let mut at = 0;
    while at < text.len() && at < 15 {
        bytes[at] = text[at];
        at += 1;
    }
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    [
        u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
    ]
}

const SFTP_SERVER: Name = name(b"sftp-server");
const SCP: Name = name(b"scp");
const RSYNC: Name = name(b"rsync");
const GIT: Name = name(b"git");
const GIT_UPLOAD_PACK: Name = name(b"git-upload-pack");
const GIT_RECEIVE_PACK: Name = name(b"git-receive-pack");

#[inline(always)]
fn is(found: Name, wanted: Name) -> bool {
    found[0] == wanted[0] && found[1] == wanted[1]
}

/// The process runs a new program: whether that transfers files. A global
/// function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sort_out_transfer() -> i32 {
    let pid = kernel::current_pid();
    let Some(process) = kernel::process(pid) else {
        return 0;
    };
    let was = process.flags & PROCESS_IS_TRANSFER != 0;
    process.flags &= !(PROCESS_IS_TRANSFER | PROCESS_IS_TALKING | PROCESS_IS_SUBSYSTEM);
    if was {
        unquiet(0, pid);
        unquiet(1, pid);
    }
    if process.kind == PROCESS_USER && is_transfer_image(was) {
        process.flags |= PROCESS_IS_TRANSFER;
        quiet(0, pid);
        quiet(1, pid);
    }
    kernel::watch(pid, process.watch_bits());
    0
}

/// Whether the image of the running process transfers files. git does only as
/// the server's side of a fetch or push, and in what that starts.
#[inline(always)]
fn is_transfer_image(parent_is_transfer: bool) -> bool {
    let mm: Address = read(kernel::current_task(), offset!(task_mm));
    let exe: Address = read(mm, offset!(mm_exe_file));
    let inode: Address = read(exe, offset!(file_inode));
    if read::<u32>(inode, offset!(inode_uid)) != 0
        || read::<u16>(inode, offset!(inode_mode)) & WRITABLE_BY_OTHERS != 0
    {
        return false;
    }
    let dentry: Address = read(exe, offset!(file_path) + offset!(path_dentry));
    let text: Address = read(dentry, offset!(dentry_name) + offset!(qstr_name));
    let mut image: Name = [0; 2];
    let mut called: Name = [0; 2];
    // SAFETY: both write at most 16 bytes, the last of them a NUL.
    unsafe {
        generated::bpf_probe_read_kernel_str(image.as_mut_ptr().cast(), 16, text as *const _);
        generated::bpf_get_current_comm(called.as_mut_ptr().cast(), 16);
    }
    if is(image, GIT) {
        return parent_is_transfer || is(called, GIT_UPLOAD_PACK) || is(called, GIT_RECEIVE_PACK);
    }
    is(image, SFTP_SERVER)
        || is(image, SCP)
        || is(image, RSYNC)
        || is(image, GIT_UPLOAD_PACK)
        || is(image, GIT_RECEIVE_PACK)
}

/// The bytes on this descriptor of the running process are not copied, if it is
/// a pipe.
#[inline(always)]
fn quiet(fd: u32, pid: u32) {
    let object = files::classify(kernel::file(fd));
    if object.class == CLASS_PIPE && RECORD_TRANSFERS.load() == 0 {
        let _ = QUIET_PIPES.insert(object.id as u32, pid, 0);
    }
}

#[inline(always)]
fn unquiet(fd: u32, pid: u32) {
    let object = files::classify(kernel::file(fd));
    let number = object.id as u32;
    if object.class == CLASS_PIPE
        && let Some(owner) = QUIET_PIPES.get_ptr(number)
    {
        // SAFETY: a map value, an integer.
        if unsafe { *owner } == pid {
            let _ = QUIET_PIPES.remove(number);
        }
    }
}

/// Whether the bytes of a pipe are those of a transfer.
#[inline(always)]
pub fn is_quiet(pipe: u64) -> bool {
    QUIET_PIPES.get_ptr(pipe as u32).is_some()
}

/// Whether a call of sshd can tell that it serves files itself.
#[inline(always)]
pub fn may_find_subsystem(shape: u8, fd: u64) -> bool {
    shape == SHAPE_READ && fd as u32 == 0
}

/// An sshd that reads a pipe as its standard input serves files itself: there
/// is none at any other sshd's.
#[inline(always)]
pub fn find_subsystem(process: &mut Process, shape: u8, fd: u64) {
    if process.kind == PROCESS_SERVER && may_find_subsystem(shape, fd) {
        find_subsystem_at(process, kernel::file(0));
    }
}

/// The same, of what is at its standard input.
#[inline(always)]
fn find_subsystem_at(process: &mut Process, file: Address) {
    if files::classify(file).class == CLASS_PIPE {
        process.flags |= PROCESS_IS_TRANSFER | PROCESS_IS_TALKING | PROCESS_IS_SUBSYSTEM;
        let pid = kernel::current_pid();
        kernel::watch(pid, process.watch_bits());
        quiet(0, pid);
        quiet(1, pid);
    }
}

/// The running process reads a pipe or a socket, where not every read of it is
/// seen. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn hears(file: u64) -> i32 {
    let Some(process) = kernel::process(kernel::current_pid()) else {
        return 0;
    };
    let is_input = kernel::file(0) == file;
    if process.kind == PROCESS_SERVER && is_input && process.flags & PROCESS_IS_TRANSFER == 0 {
        find_subsystem_at(process, file);
    }
    let both = PROCESS_IS_TRANSFER | PROCESS_IS_TALKING;
    if process.flags & both == PROCESS_IS_TRANSFER {
        listen_to(process, file, is_input);
    }
    0
}

/// Counts the bytes of a file from now on.
#[inline(always)]
pub fn follow(file: Address, origin: Origin, pid: u32, flags: u32, boot_ns: u64) {
    let size = size(file);
    let appends = flags & (O_ACCMODE | O_APPEND) == O_WRONLY | O_APPEND;
    let transfer = Transfer {
        read: 0,
        written: 0,
        opened_boot_ns: boot_ns,
        owner: pid,
        flags,
        moved: 0,
        pad: 0,
        position: if appends { size } else { 0 },
        size,
        changed: changed(file),
    };
    if TRANSFERS.insert(file, transfer, 0).is_err() {
        loss::count(origin, CAUSE_TABLE_FULL, CLASS_FILE, 1, 0);
    }
}

/// Length of the file.
#[inline(always)]
fn size(file: Address) -> u64 {
    read(read(file, offset!(file_inode)), offset!(inode_size))
}

/// Tells one change of the file from another: seconds and nanoseconds, which lie
/// in one `timespec64` before Linux 6.11.
#[inline(always)]
fn changed(file: Address) -> u64 {
    let inode: Address = read(file, offset!(file_inode));
    let seconds = offset!(inode_mtime);
    let mut ns = offset!(inode_mtime_nsec);
    if ns == seconds {
        ns += 8;
    }
    let ns: u32 = read(inode, ns);
    read::<u64>(inode, seconds) << 30 ^ u64::from(ns)
}

/// Counts what reads and writes have moved since the last look: each moves the
/// file's position on, and nothing else does but jumps, which are followed
/// ([`seek`]). Which of both it was is told by how the file is open; of one that is
/// open for both, by whether it has grown or changed. A global function: verified
/// once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn settle(file: u64) -> i32 {
    if BY_FUNCTIONS.load() == 0 {
        return 0;
    }
    let Some(transfer) = TRANSFERS.get_ptr_mut(file) else {
        return 0;
    };
    let position: u64 = read(file, offset!(file_pos));
    // SAFETY: a map value of integers, see `count`.
    let transfer = unsafe { &mut *transfer };
    let moved = position.wrapping_sub(transfer.position);
    if transfer.position != OFFSET_UNKNOWN && moved != 0 && (moved as i64) > 0 {
        let mode = transfer.flags & O_ACCMODE;
        let writes = mode == O_WRONLY
            || mode != 0 && (position > transfer.size || changed(file) != transfer.changed);
        if writes {
            transfer.written += moved;
        } else {
            transfer.read += moved;
        }
        transfer.moved = 1;
    }
    stand(file, transfer);
    0
}

/// Notes where the file stands.
#[inline(always)]
fn stand(file: Address, transfer: &mut Transfer) {
    transfer.position = read(file, offset!(file_pos));
    transfer.size = size(file);
    transfer.changed = changed(file);
}

/// The position of a file is about to be moved (`lseek`).
#[inline(always)]
pub fn seek(fd: u64, by: u64, whence: u64) {
    let file = kernel::file(fd as u32);
    settle(file);
    let Some(transfer) = TRANSFERS.get_ptr_mut(file) else {
        return;
    };
    // SAFETY: a map value of integers, see `count`.
    let transfer = unsafe { &mut *transfer };
    let to = match whence as u32 {
        SEEK_SET => by,
        SEEK_CUR => transfer.position.wrapping_add(by),
        SEEK_END => transfer.size.wrapping_add(by),
        _ => OFFSET_UNKNOWN,
    };
    if whence as u32 == SEEK_SET {
        // To read it, also when there is nothing in it.
        transfer.moved = 1;
    }
    // An error moves nothing.
    if to == OFFSET_UNKNOWN {
        transfer.position = to;
        loss::of_running(CAUSE_MISSED, CLASS_FILE);
    } else if (to as i64) >= 0 {
        transfer.position = to;
    }
}

/// The file behind a descriptor, if its bytes are counted; else 0.
#[inline(always)]
fn counted(fd: u64) -> Address {
    let file = kernel::file(fd as u32);
    if file != 0 && TRANSFERS.get_ptr(file).is_some() {
        settle(file);
        file
    } else {
        0
    }
}

/// A transfer that reads a pipe or a socket has begun to talk to its peer.
#[inline(always)]
fn listen(process: &mut Process, fd: u64) {
    listen_to(process, kernel::file(fd as u32), fd as u32 == 0);
}

/// The same, of an open file, and whether it is the standard input.
#[inline(always)]
fn listen_to(process: &mut Process, file: Address, is_input: bool) {
    let kind = mode(file) & S_IFMT;
    if kind != S_IFIFO && kind != S_IFSOCK {
        return;
    }
    process.flags |= PROCESS_IS_TALKING;
    if is_input {
        // Not known since its exec when it ran before the agent did.
        let pid = kernel::current_pid();
        quiet(0, pid);
        quiet(1, pid);
    }
}

/// Where a call takes bytes from and where it puts them: files whose bytes are
/// counted, or 0.
#[inline(always)]
pub fn ends(
    process: &mut Process,
    shape: u8,
    first: u64,
    second: u64,
    third: u64,
) -> (Address, Address) {
    if process.flags & PROCESS_IS_TALKING == 0 {
        if shape == SHAPE_READ {
            listen(process, first);
        }
        return (0, 0);
    }
    match shape {
        SHAPE_READ => (counted(first), 0),
        SHAPE_WRITE => (0, counted(first)),
        SHAPE_SEND => (counted(second), counted(first)),
        SHAPE_COPY => (counted(first), counted(third)),
        _ => (0, 0),
    }
}

/// Adds what a call moved.
#[inline(always)]
pub fn count(source: Address, sink: Address, result: u64) {
    if result > MAX_COUNT {
        return;
    }
    // SAFETY: map values of integers; threads that share a file may lose a
    // count to each other, transfer programs have one thread for each file.
    unsafe {
        if let Some(transfer) = TRANSFERS.get_ptr_mut(source) {
            (*transfer).read += result;
            (*transfer).moved = 1;
            stand(source, &mut *transfer);
        }
        if let Some(transfer) = TRANSFERS.get_ptr_mut(sink) {
            (*transfer).written += result;
            (*transfer).moved = 1;
            stand(sink, &mut *transfer);
        }
    }
}

/// A descriptor is about to be closed.
#[inline(always)]
pub fn close_descriptor(fd: u64) {
    let file = kernel::file(fd as u32);
    if file != 0 && TRANSFERS.get_ptr(file).is_some() && files::has_duplicate(file) == 0 {
        report_close(file);
    }
}

/// Reports what was moved of a file, if the running process opened it. A global
/// function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn report_close(file: u64) -> i32 {
    let pid = kernel::current_pid();
    let Some(process) = kernel::process(pid) else {
        return 0;
    };
    settle(file);
    let Some(transfer) = TRANSFERS.get_ptr(file) else {
        return 0;
    };
    // SAFETY: a map value of integers.
    let transfer = unsafe { *transfer };
    if transfer.owner != pid {
        return 0;
    }
    let _ = TRANSFERS.remove(file);
    if transfer.moved == 0 && transfer.flags & O_ACCMODE == 0 {
        // Opened to look at it, or to map it.
        return 0;
    }
    let origin = Origin::from(&*process);
    let boot_ns = kernel::boot_ns();
    let path = file.wrapping_add(offset!(file_path));
    let which = u64::from(PATH_FILE);
    if emit_path(path, which, origin.connection, origin.root, boot_ns) == 0 {
        return 0;
    }
    if let Some(scratch) = emit::begin(KIND_FILE, origin, pid, boot_ns) {
        let body = emit::body::<FileBody>(scratch);
        body.operation = FILE_CLOSE;
        body.read = transfer.read;
        body.written = transfer.written;
        body.opened_boot_ns = transfer.opened_boot_ns;
        body.flags = transfer.flags;
        body.mode = u32::from(mode(file));
        body.resolved = 1;
        emit::submit(scratch);
    }
    0
}

/// The process ends with files open, and the pipes it spoke on may be another's
/// from now on. What still lies in those of the session's first program is its
/// own: nobody else is left. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn end_transfers() -> i32 {
    let pid = kernel::current_pid();
    let Some(process) = kernel::process(pid) else {
        return 0;
    };
    if process.flags & PROCESS_IS_TRANSFER == 0 {
        return 0;
    }
    if minted_for(process.root) != pid && process.flags & PROCESS_IS_SUBSYSTEM == 0 {
        unquiet(0, pid);
        unquiet(1, pid);
    }
    for group in 0..DESCRIPTORS {
        close_descriptors(group * DESCRIPTORS);
    }
    0
}

/// Reports what is still open behind [`DESCRIPTORS`] descriptors from the first
/// on. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn close_descriptors(first: u64) -> i32 {
    let table = kernel::descriptors();
    for place in 0..DESCRIPTORS {
        let fd = first + place;
        if fd >= table.length {
            break;
        }
        let file: Address = read(table.files, fd * 8);
        if file != 0 {
            report_close(file);
        }
    }
    0
}
