//! Paths, walked from the dentry to the root of everything: what the kernel
//! knows, not what the process says.

use core::hint::black_box;

use auditty_capture_ebpf::{KIND_PATH, PATH_MAX, PathBody};
use aya_ebpf::helpers::generated;

use crate::{
    emit,
    kernel::{self, Address, read},
    maps::{SCRATCH, offset},
};

/// Components and mount points that are walked at most. Deeper paths are
/// marked as truncated.
const STEPS: u32 = 64;

/// Longest name of one component (`NAME_MAX`).
const NAME_MAX: u64 = 255;

/// Reports the path of a `struct path`. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn emit_path(path: u64, which: u64, connection: u64, boot_ns: u64) -> i32 {
    let Some(scratch) = emit::begin(KIND_PATH, connection, kernel::current_pid(), boot_ns) else { return 0 };
    let walked = walk_path(read(path, offset!(path_dentry)), read(path, offset!(path_mnt)));
    let body = emit::body::<PathBody>(scratch);
    body.which = which as u32;
    body.truncated = u32::from(walked & TRUNCATED != 0);
    let len = walked as u64 & (TRUNCATED as u64 - 1);
    if len == 0 {
        emit::submit(scratch);
    } else {
        emit::submit_payload(scratch, len);
    }
    0
}

const TRUNCATED: u32 = 1 << 30;

/// Writes the components, leaf first, each followed by NUL, into the payload
/// and returns their length, with [`TRUNCATED`] where not all were reached.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn walk_path(mut dentry: u64, mut mount: u64) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return TRUNCATED };
    let mut len: u64 = 0;
    for _ in 0..STEPS {
        let root: Address = read(mount, offset!(vfsmount_root));
        let parent: Address = read(dentry, offset!(dentry_parent));
        if dentry == root || dentry == parent {
            let outer = mount.wrapping_sub(offset!(mount_mnt));
            let next: Address = read(outer, offset!(mount_parent));
            if dentry != root || next == outer || next == 0 {
                // A file system that is mounted nowhere (memfd), or the root:
                // its name is the path.
                return if dentry == root { len as u32 } else { append(scratch.cast(), dentry, len) as u32 };
            }
            dentry = read(outer, offset!(mount_mountpoint));
            mount = next.wrapping_add(offset!(mount_mnt));
            continue;
        }
        len = append(scratch.cast(), dentry, len);
        if len >= PATH_MAX as u64 {
            return (len as u32 & (2 * PATH_MAX as u32 - 1)) | TRUNCATED;
        }
        dentry = parent;
    }
    len as u32 | TRUNCATED
}

/// Appends the dentry's name and NUL at `len`; returns the new length.
#[inline(always)]
fn append(scratch: *mut crate::maps::Scratch, dentry: Address, len: u64) -> u64 {
    let at = black_box(len) & (PATH_MAX as u64 - 1);
    let name_at = dentry.wrapping_add(offset!(dentry_name));
    let size: u32 = read(name_at, offset!(qstr_len));
    let name: Address = read(name_at, offset!(qstr_name));
    let size = black_box(u64::from(size)) & NAME_MAX;
    // SAFETY: `at` is below PATH_MAX and the name at most 255 bytes, both well
    // inside the payload.
    unsafe {
        let target = (&raw mut (*scratch).payload).cast::<u8>().add(at as usize);
        generated::bpf_probe_read_kernel(target.cast(), size as u32, name as *const _);
        *target.add(size as usize) = 0;
    }
    at + size + 1
}
