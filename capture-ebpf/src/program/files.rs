//! What an open file is, told by its inode and not by how it was opened: sshd
//! gets the pty master over a socket from its monitor.

use auditty_capture_ebpf::{FD_OTHER, FD_PIPE, FD_PTS, FD_SOCKET, FdBody};

use crate::{
    kernel::{self, Address, read},
    maps::offset,
};

/// Of no interest.
pub const CLASS_OTHER: u32 = 0;
/// Master side of a pty.
pub const CLASS_PTY_MASTER: u32 = 1;
/// A pipe.
pub const CLASS_PIPE: u32 = 2;
/// A Unix socket.
pub const CLASS_UNIX_SOCKET: u32 = 3;
/// Slave side of a pty.
pub const CLASS_PTY_SLAVE: u32 = 4;
/// A socket that is connected, or listens from now on.
pub const CLASS_SOCKET: u32 = 5;
/// What one of [`crate::uses`] works on.
pub const CLASS_USE: u32 = 6;
/// A call that accepts a connection: the socket shows when it has returned.
pub const CLASS_ACCEPT: u32 = 7;

const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFIFO: u16 = 0o010_000;

/// Device numbers of user-visible ABI, as the kernel keeps them (major << 20):
/// `/dev/ptmx` is 5:2, slaves have the majors 136 to 143 (admin-guide/devices.txt).
const PTMX: u32 = 5 << 20 | 2;
const PTS_FIRST_MAJOR: u32 = 136;
const PTS_LAST_MAJOR: u32 = 143;

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const AF_VSOCK: u16 = 40;
const TCP_ESTABLISHED: u8 = 1;

/// An open file that a watched process reads or writes.
pub struct Object {
    /// One of the `CLASS_*` constants.
    pub class: u32,
    /// `tty_struct` of a pty's master, for either side; inode number of a pipe.
    pub id: u64,
}

/// Tells what a file is.
#[inline(always)]
pub fn classify(file: Address) -> Object {
    const OTHER: Object = Object {
        class: CLASS_OTHER,
        id: 0,
    };
    if file == 0 {
        return OTHER;
    }
    let inode: Address = read(file, offset!(file_inode));
    let mode: u16 = read(inode, offset!(inode_mode));
    match mode & S_IFMT {
        S_IFCHR => {
            let device: u32 = read(inode, offset!(inode_rdev));
            if device == PTMX {
                return Object {
                    class: CLASS_PTY_MASTER,
                    id: tty(file),
                };
            }
            if !(PTS_FIRST_MAJOR..=PTS_LAST_MAJOR).contains(&(device >> 20)) {
                return OTHER;
            }
            Object {
                class: CLASS_PTY_SLAVE,
                id: read(tty(file), offset!(tty_link)),
            }
        }
        S_IFIFO => Object {
            class: CLASS_PIPE,
            id: read(inode, offset!(inode_number)),
        },
        S_IFSOCK => {
            let family: u16 = read(socket(file), offset!(sk_family));
            if family == AF_UNIX {
                Object {
                    class: CLASS_UNIX_SOCKET,
                    id: 0,
                }
            } else {
                OTHER
            }
        }
        _ => OTHER,
    }
}

/// What a descriptor of a program that just started refers to.
#[inline(always)]
pub fn describe(file: Address) -> FdBody {
    let inode: Address = read(file, offset!(file_inode));
    let mode: u16 = read(inode, offset!(inode_mode));
    match mode & S_IFMT {
        S_IFCHR => {
            let device: u32 = read(inode, offset!(inode_rdev));
            let major = device >> 20;
            if !(PTS_FIRST_MAJOR..=PTS_LAST_MAJOR).contains(&major) {
                return FdBody {
                    number: 0,
                    class: FD_OTHER,
                };
            }
            let index = (major - PTS_FIRST_MAJOR) << 20 | device & 0xf_ffff;
            FdBody {
                number: index,
                class: FD_PTS,
            }
        }
        // Pipe inode numbers come from a 32-bit counter (`get_next_ino`).
        S_IFIFO => FdBody {
            number: read::<u64>(inode, offset!(inode_number)) as u32,
            class: FD_PIPE,
        },
        S_IFSOCK => FdBody {
            number: 0,
            class: FD_SOCKET,
        },
        _ => FdBody {
            number: 0,
            class: FD_OTHER,
        },
    }
}

/// The connected network socket on standard input, as sshd has it when it
/// begins to serve a connection; 0 when there is none.
#[inline(always)]
pub fn client_socket() -> Address {
    connected(any_socket(kernel::file(0)))
}

/// The socket, if it is a network socket and has a client; else 0.
#[inline(always)]
fn connected(sock: Address) -> Address {
    let family: u16 = read(sock, offset!(sk_family));
    let state: u8 = read(sock, offset!(sk_state));
    // sshd may exec itself after the client has already gone: any state but
    // listening (10) and closed (7) is a connection.
    let connected = state >= TCP_ESTABLISHED && state != 7 && state != 10;
    let network = family == AF_INET || family == AF_INET6;
    if (network && connected) || family == AF_VSOCK {
        sock
    } else {
        0
    }
}

/// The connected Unix socket on standard input, 0 when there is none.
#[inline(always)]
pub fn local_socket() -> Address {
    let sock = any_socket(kernel::file(0));
    let family: u16 = read(sock, offset!(sk_family));
    let state: u8 = read(sock, offset!(sk_state));
    if family == AF_UNIX && state == TCP_ESTABLISHED {
        sock
    } else {
        0
    }
}

/// Descriptors that are looked at for a client: what listens has few.
const LISTENER_DESCRIPTORS: u32 = 32;

/// The client's socket among the first descriptors of a server that has just
/// accepted it, 0 when there is none: the last one, because whatever else it
/// has was opened before. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn accepted_socket() -> u64 {
    let table = kernel::descriptors();
    let mut found = 0;
    for fd in 0..u64::from(LISTENER_DESCRIPTORS) {
        if fd >= table.length {
            break;
        }
        let sock = connected(any_socket(read(table.files, fd * 8)));
        if sock != 0 {
            found = sock;
        }
    }
    found
}

/// Whether the running program's file is called `dropbear` or `dropbearmulti`.
/// Its name as a task is another one when it executed itself by a descriptor.
#[inline(always)]
pub fn is_dropbear() -> bool {
    let mm: Address = read(kernel::current_task(), offset!(task_mm));
    let exe: Address = read(mm, offset!(mm_exe_file));
    let dentry: Address = read(exe, offset!(file_path) + offset!(path_dentry));
    let name: Address = read(dentry, offset!(dentry_name) + offset!(qstr_name));
    let next: u8 = read(name, 8);
    read::<u64>(name, 0) == u64::from_ne_bytes(*b"dropbear") && (next == 0 || next == b'm')
}

/// Descriptors that are looked at for a duplicate: one sshd serves at most some
/// dozens of sessions (`MaxSessions`), with a handful each.
const DESCRIPTORS: u32 = 256;

/// Whether the running process has the same open file under two or more of its
/// first [`DESCRIPTORS`] descriptors (1) or not (0). sshd keeps three for each
/// pty master and goes on reading when it has closed the first. A global
/// function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn has_duplicate(wanted: u64) -> i32 {
    let table = kernel::descriptors();
    let mut found = 0;
    for fd in 0..u64::from(DESCRIPTORS) {
        if fd >= table.length || found > 1 {
            break;
        }
        if read::<Address>(table.files, fd * 8) == wanted {
            found += 1;
        }
    }
    i32::from(found > 1)
}

/// The `tty_struct` behind an open terminal.
#[inline(always)]
fn tty(file: Address) -> Address {
    let private: Address = read(file, offset!(file_private_data));
    read(private, offset!(tty_file_tty))
}

/// The master's `tty_struct` of a pty master, 0 for any other file.
#[inline(always)]
pub fn pty_master(file: Address) -> Address {
    let inode: Address = read(file, offset!(file_inode));
    let device: u32 = read(inode, offset!(inode_rdev));
    if device == PTMX { tty(file) } else { 0 }
}

/// The socket behind an open file, 0 when it is none.
#[inline(always)]
pub fn any_socket(file: Address) -> Address {
    if file == 0 {
        return 0;
    }
    let inode: Address = read(file, offset!(file_inode));
    let mode: u16 = read(inode, offset!(inode_mode));
    if mode & S_IFMT == S_IFSOCK {
        socket(file)
    } else {
        0
    }
}

#[inline(always)]
fn socket(file: Address) -> Address {
    let socket: Address = read(file, offset!(file_private_data));
    read(socket, offset!(socket_sk))
}
