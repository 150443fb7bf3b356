//! What a process did, or tried to do, to a file.
//!
//! Of a file that was opened, the path is the kernel's own. Of calls that take
//! a name, it is the name that the process gave, with the directory that it was
//! relative to.

use auditty_capture_ebpf::{
    CAUSE_READ_FAILED, CLASS_FILE, FILE_CHMOD, FILE_CHOWN, FILE_CREATE, FILE_DELETE, FILE_EXECUTE,
    FILE_OPEN_READ, FILE_OPEN_WRITE, FILE_RMDIR, FILE_SYMLINK, FileBody, FileCall, KIND_FILE,
    KIND_FILE_PATH, NAME_KEY, NAME_LEVELS, NAMES_MAX, NO_ARGUMENT, PATH_FILE, PATH_FILE_BASE,
    PATH_MAX, PATH_TARGET, PATH_TARGET_BASE, PROCESS_IS_TALKING, PathBody, SHAPE_OPEN_HOW,
};
use aya_ebpf::{helpers::generated, macros::map, maps::HashMap};

use crate::{
    emit,
    file_calls::{self, UnderWay},
    file_transfers,
    kernel::{self, Address, Origin, read},
    loss,
    maps::{RECORD_FILES, RECORD_READS, Scratch, offset},
    paths::emit_path,
};

/// Names of files that are reported also when they are only read, and of
/// directories with such files. The agent looks at the whole path; this keeps
/// it from having to look at every one.
#[map]
static NAMES_OF_READS: HashMap<[u8; NAME_KEY], u32> = HashMap::with_max_entries(NAMES_MAX, 0);

pub const S_IFMT: u16 = 0o170_000;
pub const S_IFREG: u16 = 0o100_000;
const S_IFDIR: u16 = 0o040_000;

const O_ACCMODE: u32 = 0o3;
const O_WRONLY: u32 = 0o1;
const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;
const O_TRUNC: u32 = 0o1000;
const O_PATH: u32 = 0o10_000_000;
const AT_REMOVEDIR: u64 = 0x200;
const AT_FDCWD: u32 = (-100_i32).cast_unsigned();

/// The file may be written, and it was created by this open
/// (include/linux/fs.h).
const FMODE_WRITE: u32 = 0x2;
const FMODE_CREATED: u32 = 0x10_0000;

const EPERM: u32 = 1;
const ENOENT: u32 = 2;
const ENXIO: u32 = 6;
const EBADF: u32 = 9;
const EACCES: u32 = 13;
const EFAULT: u32 = 14;
const ENOTDIR: u32 = 20;
/// From here on, errors mean that the call will be made again.
const ERESTARTSYS: u32 = 512;

/// No directory belongs to this name.
const NO_BASE: u64 = u64::MAX;

/// Whose event it is, and when.
struct Moment {
    origin: Origin,
    pid: u32,
    boot_ns: u64,
}

impl Moment {
    #[inline(always)]
    fn now() -> Option<Self> {
        let pid = kernel::current_pid();
        let process = kernel::process(pid)?;
        Some(Self {
            origin: Origin::from(&*process),
            pid,
            boot_ns: kernel::boot_ns(),
        })
    }

    /// The path of an open file; whether it got through.
    #[inline(always)]
    fn path(&self, file: Address) -> bool {
        let Origin { connection, root } = self.origin;
        let path = file.wrapping_add(offset!(file_path));
        emit_path(path, u64::from(PATH_FILE), connection, root, self.boot_ns) != 0
    }

    /// The record itself, to be filled in.
    #[inline(always)]
    fn record(&self) -> Option<&'static mut Scratch> {
        emit::begin(KIND_FILE, self.origin, self.pid, self.boot_ns)
    }
}

/// 0, or the error number; `None` for a call that did not take place.
#[inline(always)]
fn error(result: u64) -> Option<u32> {
    if (result as i64) >= 0 {
        return Some(0);
    }
    let error = result.wrapping_neg() as u32;
    (error < ERESTARTSYS && error != EFAULT && error != EBADF).then_some(error)
}

/// Mode of the inode behind an open file.
#[inline(always)]
pub fn mode(file: Address) -> u16 {
    let inode: Address = read(file, offset!(file_inode));
    read(inode, offset!(inode_mode))
}

/// Pipes, sockets and devices are not what is meant by a file here.
#[inline(always)]
fn is_file(mode: u16) -> bool {
    mode & S_IFMT == S_IFREG || mode & S_IFMT == S_IFDIR
}

/// Flags of the open that is under way.
#[inline(always)]
fn flags(under_way: &UnderWay) -> u32 {
    let call = FileCall::unpack(under_way.call);
    if call.value == NO_ARGUMENT {
        return O_CREAT | O_WRONLY | O_TRUNC;
    }
    let value = under_way.argument(call.value);
    if call.shape != SHAPE_OPEN_HOW {
        return value as u32;
    }
    let mut flags = 0u64;
    // SAFETY: writes eight bytes, or zeros when it cannot read.
    unsafe {
        generated::bpf_probe_read_user((&raw mut flags).cast(), 8, value as *const _);
    }
    flags as u32
}

/// An open ended. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn report_open(result: u64) -> i32 {
    let Some(under_way) = file_calls::under_way() else {
        return 0;
    };
    let flags = flags(under_way);
    let Some(error) = error(result) else {
        return 0;
    };
    if flags & O_PATH != 0 {
        return 0;
    }
    if error == 0 {
        return report_opened(result, u64::from(flags));
    }
    let writes = flags & (O_ACCMODE | O_CREAT | O_TRUNC) != 0;
    let transfers = kernel::process(kernel::current_pid())
        .is_some_and(|process| process.flags & PROCESS_IS_TALKING != 0);
    let refused = RECORD_READS.load() != 0 && (error == EACCES || error == EPERM);
    // A device that is not there is no file.
    if error == ENXIO || RECORD_FILES.load() == 0 || !(writes || refused || transfers) {
        return 0;
    }
    let operation = if !writes {
        FILE_OPEN_READ
    } else if flags & O_CREAT != 0 && flags & O_EXCL != 0 {
        FILE_CREATE
    } else {
        FILE_OPEN_WRITE
    };
    report_failed_open(
        u64::from(operation),
        u64::from(error),
        u64::from(flags),
        u64::from(transfers),
    )
}

/// A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn report_failed_open(operation: u64, error: u64, flags: u64, transfer: u64) -> i32 {
    let (Some(under_way), Some(moment)) = (file_calls::under_way(), Moment::now()) else {
        return 0;
    };
    let call = FileCall::unpack(under_way.call);
    let base = base(under_way, call.directory);
    let path = under_way.argument(call.path);
    if emit_name(base, path, u64::from(PATH_FILE), moment.boot_ns) == 0 {
        return 0;
    }
    if let Some(scratch) = moment.record() {
        let body = emit::body::<FileBody>(scratch);
        body.operation = operation as u32;
        body.error = error as u32;
        body.flags = flags as u32;
        body.transfer = transfer as u32;
        emit::submit(scratch);
    }
    0
}

/// A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn report_opened(fd: u64, flags: u64) -> i32 {
    let file = kernel::file(fd as u32);
    let mode = mode(file);
    if file == 0 || !is_file(mode) {
        return 0;
    }
    let Some(moment) = Moment::now() else {
        return 0;
    };
    if mode & S_IFMT == S_IFREG
        && let Some(process) = kernel::process(moment.pid)
        && process.flags & PROCESS_IS_TALKING != 0
    {
        file_transfers::follow(
            file,
            moment.origin,
            moment.pid,
            flags as u32,
            moment.boot_ns,
        );
    }
    if RECORD_FILES.load() == 0 {
        return 0;
    }
    let opened: u32 = read(file, offset!(file_mode));
    let operation = if opened & FMODE_CREATED != 0 {
        FILE_CREATE
    } else if opened & FMODE_WRITE != 0 || flags as u32 & O_TRUNC != 0 {
        FILE_OPEN_WRITE
    } else if RECORD_READS.load() != 0 && has_name_of_reads(file) != 0 {
        FILE_OPEN_READ
    } else {
        return 0;
    };
    if moment.path(file)
        && let Some(scratch) = moment.record()
    {
        let body = emit::body::<FileBody>(scratch);
        body.operation = operation;
        body.flags = flags as u32;
        body.mode = u32::from(mode);
        body.resolved = 1;
        emit::submit(scratch);
    }
    0
}

/// Whether the file, or one of the directories above it, has a name that reads
/// are reported of. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn has_name_of_reads(file: u64) -> i32 {
    let mut dentry: Address = read(file, offset!(file_path) + offset!(path_dentry));
    for _ in 0..NAME_LEVELS {
        let mut key = [0u8; NAME_KEY];
        let name: Address = read(dentry, offset!(dentry_name) + offset!(qstr_name));
        // SAFETY: writes at most the bytes of `key`, the last a NUL.
        unsafe {
            generated::bpf_probe_read_kernel_str(
                key.as_mut_ptr().cast(),
                NAME_KEY as u32,
                name as *const _,
            );
        }
        if NAMES_OF_READS.get_ptr(key).is_some() {
            return 1;
        }
        dentry = read(dentry, offset!(dentry_parent));
    }
    0
}

/// A call on names ended. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn report_names(result: u64) -> i32 {
    let (Some(under_way), Some(moment)) = (file_calls::under_way(), Moment::now()) else {
        return 0;
    };
    let Some(error) = error(result) else {
        return 0;
    };
    let call = FileCall::unpack(under_way.call);
    let mut operation = u32::from(call.operation);
    if operation == FILE_EXECUTE && !is_failed_exec(error) {
        return 0;
    }
    let (base, path) = (
        base(under_way, call.directory),
        under_way.argument(call.path),
    );
    if emit_name(base, path, u64::from(PATH_FILE), moment.boot_ns) == 0 {
        return 0;
    }
    if call.target != NO_ARGUMENT {
        let base = target_base(under_way, call, operation);
        let target = under_way.argument(call.target);
        if emit_name(base, target, u64::from(PATH_TARGET), moment.boot_ns) == 0 {
            return 0;
        }
    }
    let value = under_way.argument(call.value);
    if operation == FILE_DELETE && call.value != NO_ARGUMENT && value & AT_REMOVEDIR != 0 {
        operation = FILE_RMDIR;
    }
    if let Some(scratch) = moment.record() {
        let body = emit::body::<FileBody>(scratch);
        describe(body, under_way, operation);
        body.error = error;
        emit::submit(scratch);
    }
    0
}

/// Looking for a program along `PATH` is no attempt to execute what is not there.
#[inline(always)]
fn is_failed_exec(error: u32) -> bool {
    error != 0 && error != ENOENT && error != ENOTDIR
}

/// A call on a descriptor ended. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn report_descriptor(result: u64) -> i32 {
    let (Some(under_way), Some(moment)) = (file_calls::under_way(), Moment::now()) else {
        return 0;
    };
    let Some(error) = error(result) else {
        return 0;
    };
    let file = kernel::file(under_way.argument(0) as u32);
    if file == 0 || !is_file(mode(file)) || !moment.path(file) {
        return 0;
    }
    if let Some(scratch) = moment.record() {
        let body = emit::body::<FileBody>(scratch);
        let operation = FileCall::unpack(under_way.call).operation;
        describe(body, under_way, u32::from(operation));
        body.error = error;
        body.resolved = 1;
        emit::submit(scratch);
    }
    0
}

/// What was asked for.
#[inline(always)]
fn describe(body: &mut FileBody, under_way: &UnderWay, operation: u32) {
    let value = FileCall::unpack(under_way.call).value;
    body.operation = operation;
    if operation == FILE_CHMOD {
        body.mode = under_way.argument(value) as u32 & 0o7777;
    }
    body.uid = u32::MAX;
    body.gid = u32::MAX;
    if operation == FILE_CHOWN {
        body.uid = under_way.argument(value) as u32;
        body.gid = under_way.argument(value.wrapping_add(1)) as u32;
    }
}

/// The descriptor of the directory that the call's name is relative to.
#[inline(always)]
fn base(under_way: &UnderWay, position: u8) -> u64 {
    if position == NO_ARGUMENT {
        u64::from(AT_FDCWD)
    } else {
        u64::from(under_way.argument(position) as u32)
    }
}

/// The same for its second name; what a symbolic link says is relative to
/// nothing.
#[inline(always)]
fn target_base(under_way: &UnderWay, call: FileCall, operation: u32) -> u64 {
    if operation == FILE_SYMLINK {
        NO_BASE
    } else {
        base(under_way, call.target_directory)
    }
}

/// Reports a name that the process gave, and what it is relative to. A global
/// function: verified once. Returns 1 when both got through.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn emit_name(base: u64, name: u64, which: u64, boot_ns: u64) -> i32 {
    let pid = kernel::current_pid();
    let Some(process) = kernel::process(pid) else {
        return 0;
    };
    let origin = Origin::from(&*process);
    if base != NO_BASE {
        let which = if which == u64::from(PATH_FILE) {
            PATH_FILE_BASE
        } else {
            PATH_TARGET_BASE
        };
        let (connection, root) = (origin.connection, origin.root);
        let path = base_path(base as u32, name);
        if emit_path(path, u64::from(which), connection, root, boot_ns) == 0 {
            return 0;
        }
    }
    let Some(scratch) = emit::begin(KIND_FILE_PATH, origin, pid, boot_ns) else {
        return 0;
    };
    let body = emit::body::<PathBody>(scratch);
    body.which = which as u32;
    body.given = 1;
    // SAFETY: writes at most PATH_MAX bytes of the larger payload.
    let copied = unsafe {
        generated::bpf_probe_read_user_str(
            scratch.payload.as_mut_ptr().cast(),
            PATH_MAX as u32,
            name as *const _,
        )
    };
    if copied <= 0 {
        loss::count(origin, CAUSE_READ_FAILED, CLASS_FILE, 1, 0);
        return 0;
    }
    i32::from(emit::submit_payload(scratch, copied as u64))
}

/// Address of the `struct path` that a name is relative to.
#[inline(always)]
fn base_path(directory: u32, name: u64) -> Address {
    let mut first = 0u8;
    // SAFETY: writes one byte, or a zero when it cannot read.
    unsafe {
        generated::bpf_probe_read_user((&raw mut first).cast(), 1, name as *const _);
    }
    let fs: Address = read(kernel::current_task(), offset!(task_fs));
    if first == b'/' {
        fs.wrapping_add(offset!(fs_root))
    } else if directory == AT_FDCWD {
        fs.wrapping_add(offset!(fs_pwd))
    } else {
        kernel::file(directory).wrapping_add(offset!(file_path))
    }
}
