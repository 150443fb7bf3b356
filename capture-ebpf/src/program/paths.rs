//! Paths, walked from the dentry to the root of everything: what the kernel
//! knows, not what the process says.

use core::hint::black_box;

use auditty_capture_ebpf::{KIND_FILE_PATH, KIND_PATH, PATH_FILE, PATH_MAX, PathBody};
use aya_ebpf::helpers::generated;

use crate::{
    emit,
    kernel::{self, Address, Origin, read},
    maps::offset,
};

/// Components and mount points that are walked at most. Deeper paths are
/// marked as truncated.
const STEPS: u32 = 64;

/// Longest name of one component (`NAME_MAX`).
const NAME_MAX: u64 = 255;

/// A walk under way. It is kept in the scratch buffer and not in registers, so
/// that the verifier looks at one step and not at every way to take them all.
#[repr(C)]
pub struct Walk {
    dentry: Address,
    mount: Address,
    /// Bytes of payload written.
    len: u64,
}

const GO_ON: i32 = 0;
const ARRIVED: i32 = 1;

/// Reports the path of a `struct path`. A global function: verified once.
/// Returns 1 when the record got through.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn emit_path(
    path: u64,
    which: u64,
    connection: u64,
    root: u64,
    boot_ns: u64,
) -> i32 {
    let origin = Origin { connection, root };
    let kind = if which < u64::from(PATH_FILE) {
        KIND_PATH
    } else {
        KIND_FILE_PATH
    };
    let Some(scratch) = emit::begin(kind, origin, kernel::current_pid(), boot_ns) else {
        return 0;
    };
    scratch.walk.dentry = read(path, offset!(path_dentry));
    scratch.walk.mount = read(path, offset!(path_mnt));
    scratch.walk.len = 0;
    let mut arrived = GO_ON;
    for _ in 0..STEPS {
        arrived = walk_step();
        if arrived != GO_ON {
            break;
        }
    }
    let body = emit::body::<PathBody>(scratch);
    body.which = which as u32;
    body.truncated = u32::from(arrived != ARRIVED);
    let len = scratch.walk.len;
    i32::from(if len == 0 {
        emit::submit(scratch)
    } else {
        emit::submit_payload(scratch, len)
    })
}

/// One step towards the root: to the parent directory, after its child's name
/// was written, or from the root of a file system to where it is mounted.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn walk_step() -> i32 {
    let Some(scratch) = emit::scratch() else {
        return ARRIVED;
    };
    // SAFETY: a value of this CPU alone.
    let walk = unsafe { &mut (*scratch).walk };
    let root: Address = read(walk.mount, offset!(vfsmount_root));
    let parent: Address = read(walk.dentry, offset!(dentry_parent));
    if walk.dentry == root {
        let mounted = walk.mount.wrapping_sub(offset!(mount_mnt));
        let outer: Address = read(mounted, offset!(mount_parent));
        if outer == mounted || outer == 0 {
            return ARRIVED;
        }
        walk.dentry = read(mounted, offset!(mount_mountpoint));
        walk.mount = outer.wrapping_add(offset!(mount_mnt));
        return GO_ON;
    }
    if walk.len >= PATH_MAX as u64 {
        return GO_ON;
    }
    let at = black_box(walk.len) & (PATH_MAX as u64 - 1);
    let name = walk.dentry.wrapping_add(offset!(dentry_name));
    let size: u32 = read(name, offset!(qstr_len));
    let source: Address = read(name, offset!(qstr_name));
    let size = black_box(u64::from(size)) & NAME_MAX;
    // SAFETY: `at` is below PATH_MAX and the name at most 255 bytes, both well
    // inside the payload.
    unsafe {
        let target = (&raw mut (*scratch).payload).cast::<u8>().add(at as usize);
        generated::bpf_probe_read_kernel(target.cast(), size as u32, source as *const _);
        *target.add(size as usize) = 0;
    }
    walk.len = at + size + 1;
    if walk.dentry == parent {
        // A file system that is mounted nowhere, such as that of memfds.
        return ARRIVED;
    }
    walk.dentry = parent;
    GO_ON
}
