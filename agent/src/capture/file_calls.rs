//! The system calls that do something to a file, by their number on this
//! architecture: what the kernel programs know of them.

use auditty_capture_ebpf::{
    FILE_CALLS, FILE_CHMOD, FILE_CHOWN, FILE_CREATE, FILE_DELETE, FILE_EXECUTE, FILE_LINK,
    FILE_MKDIR, FILE_RENAME, FILE_SYMLINK, FILE_TRUNCATE, FileCall, NO_ARGUMENT, SHAPE_CLOSE,
    SHAPE_COPY, SHAPE_DESCRIPTOR, SHAPE_NAME, SHAPE_OPEN, SHAPE_OPEN_HOW, SHAPE_READ, SHAPE_SEEK,
    SHAPE_SEND, SHAPE_WRITE,
};
use libc::c_long;

const NONE: FileCall = FileCall {
    shape: 0,
    operation: 0,
    directory: NO_ARGUMENT,
    path: NO_ARGUMENT,
    target_directory: NO_ARGUMENT,
    target: NO_ARGUMENT,
    value: NO_ARGUMENT,
};

const fn open(shape: u8, directory: u8, path: u8, value: u8) -> FileCall {
    FileCall {
        shape,
        directory,
        path,
        value,
        ..NONE
    }
}

/// An operation on `path` in the working directory.
const fn name(operation: u32, path: u8) -> FileCall {
    FileCall {
        shape: SHAPE_NAME,
        operation: operation as u8,
        path,
        ..NONE
    }
}

/// The same on `path` in the directory of the first argument.
const fn name_at(operation: u32, path: u8) -> FileCall {
    FileCall {
        directory: 0,
        ..name(operation, path)
    }
}

const fn valued(call: FileCall, value: u8) -> FileCall {
    FileCall { value, ..call }
}

const fn targeted(call: FileCall, target_directory: u8, target: u8) -> FileCall {
    FileCall {
        target_directory,
        target,
        ..call
    }
}

const fn descriptor(operation: u32, value: u8) -> FileCall {
    FileCall {
        shape: SHAPE_DESCRIPTOR,
        operation: operation as u8,
        value,
        ..NONE
    }
}

const fn moves(shape: u8) -> FileCall {
    FileCall { shape, ..NONE }
}

/// Calls that every architecture has.
const EVERYWHERE: [(c_long, FileCall); 31] = [
    (libc::SYS_openat, open(SHAPE_OPEN, 0, 1, 2)),
    (libc::SYS_openat2, open(SHAPE_OPEN_HOW, 0, 1, 2)),
    (libc::SYS_unlinkat, valued(name_at(FILE_DELETE, 1), 2)),
    (libc::SYS_renameat, targeted(name_at(FILE_RENAME, 1), 2, 3)),
    (libc::SYS_renameat2, targeted(name_at(FILE_RENAME, 1), 2, 3)),
    (libc::SYS_fchmodat, valued(name_at(FILE_CHMOD, 1), 2)),
    (SYS_FCHMODAT2, valued(name_at(FILE_CHMOD, 1), 2)),
    (libc::SYS_fchownat, valued(name_at(FILE_CHOWN, 1), 2)),
    (libc::SYS_mkdirat, name_at(FILE_MKDIR, 1)),
    (libc::SYS_mknodat, name_at(FILE_CREATE, 1)),
    (libc::SYS_linkat, targeted(name_at(FILE_LINK, 1), 2, 3)),
    (libc::SYS_symlinkat, symlink(1, 2)),
    (libc::SYS_truncate, name(FILE_TRUNCATE, 0)),
    (libc::SYS_execve, name(FILE_EXECUTE, 0)),
    (libc::SYS_execveat, name_at(FILE_EXECUTE, 1)),
    (libc::SYS_fchmod, descriptor(FILE_CHMOD, 1)),
    (libc::SYS_fchown, descriptor(FILE_CHOWN, 1)),
    (libc::SYS_ftruncate, descriptor(FILE_TRUNCATE, NO_ARGUMENT)),
    (libc::SYS_read, moves(SHAPE_READ)),
    (libc::SYS_readv, moves(SHAPE_READ)),
    (libc::SYS_pread64, moves(SHAPE_READ)),
    (libc::SYS_preadv, moves(SHAPE_READ)),
    (libc::SYS_preadv2, moves(SHAPE_READ)),
    (libc::SYS_write, moves(SHAPE_WRITE)),
    (libc::SYS_writev, moves(SHAPE_WRITE)),
    (libc::SYS_pwrite64, moves(SHAPE_WRITE)),
    (libc::SYS_pwritev, moves(SHAPE_WRITE)),
    (libc::SYS_pwritev2, moves(SHAPE_WRITE)),
    (libc::SYS_sendfile, moves(SHAPE_SEND)),
    (libc::SYS_copy_file_range, moves(SHAPE_COPY)),
    (libc::SYS_close, moves(SHAPE_CLOSE)),
];

/// The same number on every architecture; Linux 6.6 and later.
const SYS_FCHMODAT2: c_long = 452;

/// `symlinkat(target, directory, path)`: the link is made at `path`.
const fn symlink(directory: u8, path: u8) -> FileCall {
    FileCall {
        directory,
        ..targeted(name(FILE_SYMLINK, path), NO_ARGUMENT, 0)
    }
}

/// Older forms, relative to the working directory.
#[cfg(target_arch = "x86_64")]
const OLDER: [(c_long, FileCall); 12] = [
    (libc::SYS_open, open(SHAPE_OPEN, NO_ARGUMENT, 0, 1)),
    (
        libc::SYS_creat,
        open(SHAPE_OPEN, NO_ARGUMENT, 0, NO_ARGUMENT),
    ),
    (libc::SYS_unlink, name(FILE_DELETE, 0)),
    (libc::SYS_rmdir, name(auditty_capture_ebpf::FILE_RMDIR, 0)),
    (
        libc::SYS_rename,
        targeted(name(FILE_RENAME, 0), NO_ARGUMENT, 1),
    ),
    (libc::SYS_chmod, valued(name(FILE_CHMOD, 0), 1)),
    (libc::SYS_chown, valued(name(FILE_CHOWN, 0), 1)),
    (libc::SYS_lchown, valued(name(FILE_CHOWN, 0), 1)),
    (libc::SYS_mkdir, name(FILE_MKDIR, 0)),
    (libc::SYS_mknod, name(FILE_CREATE, 0)),
    (libc::SYS_link, targeted(name(FILE_LINK, 0), NO_ARGUMENT, 1)),
    (libc::SYS_symlink, symlink(NO_ARGUMENT, 1)),
];

#[cfg(not(target_arch = "x86_64"))]
const OLDER: [(c_long, FileCall); 0] = [];

/// Where not every read and write is looked at: what moves a file's position.
const SEEK: (c_long, FileCall) = (libc::SYS_lseek, moves(SHAPE_SEEK));

/// The table as the programs have it: packed calls by number, 0 for all others.
/// Without `all`, what is read and written is told by the positions of files.
pub fn table(all: bool) -> [u64; FILE_CALLS] {
    let mut table = [0; FILE_CALLS];
    let calls = EVERYWHERE.iter().chain(&OLDER);
    let read_or_write = |call: &FileCall| matches!(call.shape, SHAPE_READ | SHAPE_WRITE);
    let calls = calls.filter(|(_, call)| all || !read_or_write(call));
    for (number, call) in calls.chain((!all).then_some(&SEEK)) {
        let entry = usize::try_from(*number)
            .ok()
            .and_then(|number| table.get_mut(number));
        if let Some(entry) = entry {
            *entry = call.pack();
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_own_place_and_comes_back_as_it_was() {
        let table = table(true);
        for (number, call) in EVERYWHERE.iter().chain(&OLDER) {
            let found = table[usize::try_from(*number).unwrap()];
            assert_eq!(FileCall::unpack(found), *call, "{number}");
        }
        let filled = table.iter().filter(|word| **word != 0).count();
        assert_eq!(filled, EVERYWHERE.len() + OLDER.len());
    }

    #[test]
    fn positions_are_told_by_jumps_alone() {
        let table = table(false);
        let shape = |number: c_long| FileCall::unpack(table[number as usize]).shape;
        for moves in [libc::SYS_read, libc::SYS_writev, libc::SYS_pread64] {
            assert_eq!(shape(moves), 0);
        }
        assert_eq!(shape(libc::SYS_lseek), SHAPE_SEEK);
        assert_eq!(shape(libc::SYS_openat), SHAPE_OPEN);
    }

    #[test]
    fn arguments_of_a_symlinkat_are_not_those_of_a_linkat() {
        let table = table(true);
        let call = |number: c_long| FileCall::unpack(table[number as usize]);
        let symlink = call(libc::SYS_symlinkat);
        assert_eq!((symlink.target, symlink.directory, symlink.path), (0, 1, 2));
        let link = call(libc::SYS_linkat);
        assert_eq!((link.directory, link.path), (0, 1));
        assert_eq!((link.target_directory, link.target), (2, 3));
    }
}
