//! The layout shared by the kernel programs and the agent.
//!
//! Every record is a [`Header`], a body of [`BODY_LEN`] bytes whose meaning
//! depends on [`Header::kind`], and [`Header::len`] bytes of payload. All
//! integers are in the host's byte order: records never leave it. The version
//! of this layout is [`LAYOUT_VERSION`]; records are read of the versions since
//! [`RECORDS_SINCE`].
//!
//! Records of an exec come in pieces with the same `pid` and `boot_ns`: paths,
//! arguments, and last the exec itself, which says how much there was.
#![no_std]
#![forbid(unsafe_code)]

mod file_calls;
mod offsets;

pub use file_calls::*;
pub use offsets::{Member, Offsets};

/// Changes with every change of this file, and with what a value of a map means.
pub const LAYOUT_VERSION: u32 = 11;

/// Records of layouts since this one mean the same: what changed since was added,
/// or concerns maps. With every other change it becomes [`LAYOUT_VERSION`].
pub const RECORDS_SINCE: u32 = 8;

/// Room for the body of a record, bytes.
pub const BODY_LEN: usize = 64;

/// Largest payload of one record, bytes. A power of two, so that the verifier
/// sees the bound; two of them and a header fit a per-CPU map value (32 KiB on
/// kernels before 6.10).
pub const PAYLOAD_MAX: usize = 16 * 1024;

/// Pieces of at most [`PAYLOAD_MAX`] that one read or write is split into. sshd
/// moves at most 32 KiB at once.
pub const STREAM_PIECES: u32 = 8;

/// Pieces of at most [`PAYLOAD_MAX`] that the arguments of one exec are split
/// into: 256 KiB. What is longer is truncated, and its true length reported.
pub const ARGS_PIECES: u32 = 16;

/// Longest path, bytes.
pub const PATH_MAX: usize = 4096;

/// What every record begins with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// One of the `KIND_*` constants.
    pub kind: u32,
    /// Length of the payload, bytes.
    pub len: u32,
    /// `CLOCK_BOOTTIME`, nanoseconds.
    pub boot_ns: u64,
    /// The connection, 0 for none.
    pub connection: u64,
    /// What the process belongs to below the server: the first program that a
    /// server process started, inherited at fork. Minted at that exec, unique
    /// within one boot; 0 for the server's own processes.
    pub root: u64,
    /// Process (thread group) id.
    pub pid: u32,
    /// Always 0.
    pub pad: u32,
}

/// An sshd listener forked. No body; only wakes the agent.
pub const KIND_LISTENER_FORK: u32 = 1;
/// [`ConnectionBody`].
pub const KIND_CONNECTION: u32 = 2;
/// [`ForkBody`].
pub const KIND_FORK: u32 = 3;
/// [`PathBody`]; the payload holds the path's components from the leaf to the
/// root, each followed by NUL.
pub const KIND_PATH: u32 = 4;
/// [`PieceBody`]; the payload is a piece of the arguments.
pub const KIND_ARGS: u32 = 5;
/// [`ExecBody`]; the payload is the path given to `execve`.
pub const KIND_EXEC: u32 = 6;
/// [`ExitBody`].
pub const KIND_EXIT: u32 = 7;
/// [`StreamBody`]; the payload is the bytes, absent when masked.
pub const KIND_TERMINAL: u32 = 8;
/// [`StreamBody`] without bytes: sshd set the window size.
pub const KIND_WINDOW_SIZE: u32 = 9;
/// [`StreamBody`]; the payload is the bytes, absent when masked.
pub const KIND_PIPE: u32 = 10;
/// [`MonitorBody`]; the payload is the message's body.
pub const KIND_MONITOR: u32 = 11;
/// [`FileBody`]; its paths came before, as [`KIND_FILE_PATH`].
pub const KIND_FILE: u32 = 12;
/// [`SocketBody`]; the payload is the path of a Unix socket, if it is one.
pub const KIND_SOCKET: u32 = 13;
/// [`TerminalBody`]: the last descriptor of a pty master was closed.
pub const KIND_TERMINAL_CLOSE: u32 = 14;
/// [`TerminalBody`]: a process wrote to a pty that is not its controlling
/// terminal, for the first time.
pub const KIND_TERMINAL_WRITER: u32 = 15;
/// [`TerminalBody`]: a process put a byte into a pty's input (`TIOCSTI`).
pub const KIND_TERMINAL_INJECTION: u32 = 16;

/// [`PathBody`]; a path of a [`KIND_FILE`], as [`KIND_PATH`] has it, or as the
/// process gave it.
pub const KIND_FILE_PATH: u32 = 17;
/// [`UseBody`]: a process uses something of which no more is captured than that.
pub const KIND_USE: u32 = 18;

/// Body of [`KIND_CONNECTION`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionBody {
    /// Client address; IPv4 in the first four bytes.
    pub client: [u8; 16],
    /// Server address; IPv4 in the first four bytes.
    pub server: [u8; 16],
    /// Client port.
    pub client_port: u16,
    /// Server port.
    pub server_port: u16,
    /// `AF_INET`, `AF_INET6` or another family.
    pub family: u32,
    /// The connection this server was started in, 0 for none.
    pub parent_connection: u64,
    /// Effective user id of the server.
    pub uid: u32,
    /// Always 0.
    pub pad: [u32; 3],
}

/// Body of [`KIND_FORK`]; the header's `pid` is the child.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForkBody {
    /// The forking process.
    pub parent: u32,
    /// Always 0.
    pub pad: [u32; 15],
}

/// Body of [`KIND_FILE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileBody {
    /// Bytes read, for [`FILE_CLOSE`].
    pub read: u64,
    /// Bytes written, for [`FILE_CLOSE`].
    pub written: u64,
    /// When the file was opened, for [`FILE_CLOSE`]; nanoseconds since boot.
    pub opened_boot_ns: u64,
    /// One of the `FILE_*` constants.
    pub operation: u32,
    /// 0, or the error number.
    pub error: u32,
    /// Flags of the open.
    pub flags: u32,
    /// Mode of the file; for [`FILE_CHMOD`] the one it was given.
    pub mode: u32,
    /// New owner, for [`FILE_CHOWN`]; `u32::MAX` when it stays.
    pub uid: u32,
    /// New group, for [`FILE_CHOWN`]; `u32::MAX` when it stays.
    pub gid: u32,
    /// The path is the kernel's own, not what the process gave.
    pub resolved: u32,
    /// A transfer program could not open it.
    pub transfer: u32,
    /// Always 0.
    pub pad: [u32; 2],
}

/// A file was opened, and exists since then.
pub const FILE_CREATE: u32 = 1;
/// An existing file was opened for writing.
pub const FILE_OPEN_WRITE: u32 = 2;
/// A file was opened for reading.
pub const FILE_OPEN_READ: u32 = 3;
/// A file of which bytes were counted was closed.
pub const FILE_CLOSE: u32 = 4;
/// A name was removed.
pub const FILE_DELETE: u32 = 5;
/// A name was changed.
pub const FILE_RENAME: u32 = 6;
/// The mode was changed.
pub const FILE_CHMOD: u32 = 7;
/// The owner was changed.
pub const FILE_CHOWN: u32 = 8;
/// A directory was made.
pub const FILE_MKDIR: u32 = 9;
/// A directory was removed.
pub const FILE_RMDIR: u32 = 10;
/// A second name was made.
pub const FILE_LINK: u32 = 11;
/// A symbolic link was made; the target is what it says.
pub const FILE_SYMLINK: u32 = 12;
/// The length was changed.
pub const FILE_TRUNCATE: u32 = 13;
/// A program could not be executed. Of one that was, there is a [`KIND_EXEC`].
pub const FILE_EXECUTE: u32 = 14;

/// Body of [`KIND_SOCKET`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketBody {
    /// Local address; IPv4 in the first four bytes.
    pub local: [u8; 16],
    /// Remote address; IPv4 in the first four bytes.
    pub remote: [u8; 16],
    /// Identity of the socket within one boot.
    pub socket: u64,
    /// Bytes sent, for [`SOCKET_CLOSE`].
    pub sent: u64,
    /// Bytes received, for [`SOCKET_CLOSE`].
    pub received: u64,
    /// Local port.
    pub local_port: u16,
    /// Remote port.
    pub remote_port: u16,
    /// `AF_UNIX`, `AF_INET`, `AF_INET6`.
    pub family: u16,
    /// One of the `SOCKET_*` constants.
    pub operation: u16,
}

/// A connection was begun.
pub const SOCKET_CONNECT: u16 = 1;
/// The socket accepts connections from now on.
pub const SOCKET_LISTEN: u16 = 2;
/// A connection was accepted.
pub const SOCKET_ACCEPT: u16 = 3;
/// The connection, or the listening, ended.
pub const SOCKET_CLOSE: u16 = 4;

/// Body of [`KIND_TERMINAL_CLOSE`], [`KIND_TERMINAL_WRITER`] and
/// [`KIND_TERMINAL_INJECTION`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TerminalBody {
    /// Identity of the pty within one boot, 0 when it was never seen.
    pub terminal: u64,
    /// Index of the pty.
    pub pts: u32,
    /// Always 0.
    pub pad: [u32; 13],
}

/// Body of [`KIND_USE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UseBody {
    /// Where datagrams go, as the process gave it when it gave it with them; IPv4
    /// in the first four bytes.
    pub remote: [u8; 16],
    /// One of the `USE_*` constants.
    pub what: u32,
    /// The process that is traced, by the number it has for the tracer.
    pub target: u32,
    /// Port behind `remote`, 0 where there are none.
    pub port: u16,
    /// `AF_INET`, `AF_INET6`.
    pub family: u16,
    /// Always 0.
    pub pad: [u32; 9],
}

/// It has set up an io_uring.
pub const USE_IO_URING: u32 = 1;
/// It has become the tracer of another process.
pub const USE_PTRACE: u32 = 2;
/// It has sent a datagram, or connected a socket for datagrams.
pub const USE_DATAGRAMS: u32 = 3;

/// Body of [`KIND_PATH`] and [`KIND_FILE_PATH`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathBody {
    /// One of the `PATH_*` constants.
    pub which: u32,
    /// The path had more components than were walked, or more bytes.
    pub truncated: u32,
    /// The payload is not components but a string that the process gave, with a
    /// NUL at its end.
    pub given: u32,
    /// Always 0.
    pub pad: [u32; 13],
}

/// The image's path.
pub const PATH_EXE: u32 = 1;
/// The working directory.
pub const PATH_CWD: u32 = 2;
/// The file of a [`KIND_FILE`].
pub const PATH_FILE: u32 = 3;
/// Its second path: the new name, or a link's target.
pub const PATH_TARGET: u32 = 4;
/// What a given [`PATH_FILE`] is relative to: for one that begins with a slash,
/// the process' root.
pub const PATH_FILE_BASE: u32 = 5;
/// What a given [`PATH_TARGET`] is relative to.
pub const PATH_TARGET_BASE: u32 = 6;

/// Body of [`KIND_ARGS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PieceBody {
    /// Position of the payload's first byte.
    pub offset: u64,
    /// Always 0.
    pub pad: [u64; 7],
}

/// What a file descriptor refers to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FdBody {
    /// Inode number of a pipe, index of a pty.
    pub number: u32,
    /// One of the `FD_*` constants.
    pub class: u32,
}

/// Closed, or of no interest.
pub const FD_OTHER: u32 = 0;
/// Slave side of a pty.
pub const FD_PTS: u32 = 1;
/// A pipe.
pub const FD_PIPE: u32 = 2;
/// A socket.
pub const FD_SOCKET: u32 = 3;

/// Body of [`KIND_EXEC`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecBody {
    /// True length of the argument block, bytes.
    pub args_len: u64,
    /// Parent process.
    pub parent: u32,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Login user id, `u32::MAX` when unset.
    pub login_uid: u32,
    /// Standard input, output and error.
    pub fds: [FdBody; 3],
    /// `EXEC_*` bits.
    pub flags: u32,
    /// Always 0.
    pub pad: [u32; 3],
}

/// The process leads a POSIX session.
pub const EXEC_SESSION_LEADER: u32 = 1;
/// The image is an sshd on the server side of a connection.
pub const EXEC_SERVER: u32 = 2;
/// The image's file has no link.
pub const EXEC_DELETED: u32 = 4;
/// No probe has run in the process that forked this one: what that server moves is
/// not seen. Only where probes inside sshd see it.
pub const EXEC_UNPROBED: u32 = 8;
/// Only probes inside its server see what goes over its terminal, and there is a
/// [`KIND_WINDOW_SIZE`] when they see it first.
pub const EXEC_BY_PROBES: u32 = 16;

/// Body of [`KIND_EXIT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitBody {
    /// As `wait` has it: code `<< 8`, or signal in the low seven bits.
    pub wait_status: u32,
    /// Always 0.
    pub pad: [u32; 15],
}

/// Body of [`KIND_TERMINAL`], [`KIND_WINDOW_SIZE`] and [`KIND_PIPE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamBody {
    /// Position of the first byte, [`OFFSET_UNKNOWN`] when not counted.
    pub offset: u64,
    /// Inode number of the pipe, or identity of the pty within one boot.
    pub inode: u64,
    /// Bytes that went through, also when they are masked.
    pub bytes: u32,
    /// `DIRECTION_OUTPUT` or `DIRECTION_INPUT`.
    pub direction: u32,
    /// One of the `WITHHELD_*` constants: the bytes are not in the payload.
    pub withheld: u32,
    /// Index of the pty.
    pub pts: u32,
    /// Height of the terminal in character cells.
    pub rows: u16,
    /// Width of the terminal in character cells.
    pub columns: u16,
    /// Always 0.
    pub pad: [u32; 7],
}

/// Not withheld: the bytes are in the payload.
pub const WITHHELD_NOT: u32 = 0;
/// Input that is a secret, or not recorded on this host.
pub const WITHHELD_MASKED: u32 = 1;
/// Content of a file transfer.
pub const WITHHELD_TRANSFER: u32 = 2;

/// sshd read it: towards the client.
pub const DIRECTION_OUTPUT: u32 = 0;
/// sshd wrote it: from the client.
pub const DIRECTION_INPUT: u32 = 1;
/// The position is not known.
pub const OFFSET_UNKNOWN: u64 = u64::MAX;

/// Body of [`KIND_MONITOR`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MonitorBody {
    /// Type of the message.
    pub kind: u32,
    /// Length of its body, bytes.
    pub bytes: u32,
    /// Always 0.
    pub pad: [u32; 14],
}

/// Types of sshd's privilege-separation monitor protocol that are read. All
/// others stay in the kernel: among them are passwords (12, 108) and session
/// keys (26).
///
/// Numbers as in OpenSSH 9.2 and 10.0:
/// <https://github.com/openssh/openssh-portable/blob/V_9_2_P1/monitor.h#L31>.
pub mod monitor {
    /// The user the client wants to be.
    pub const PWNAM: u32 = 8;
    /// Whether that user may log in at all. Only the first byte is read: the user's
    /// entry and sshd's settings follow.
    pub const ANS_PWNAM: u32 = 9;
    /// Verdict on a password.
    pub const ANS_AUTHPASSWORD: u32 = 13;
    /// A key, and whether it may log in.
    pub const KEYALLOWED: u32 = 22;
    /// The answer.
    pub const ANS_KEYALLOWED: u32 = 23;
    /// A signature by a key, with the key and what it signed.
    pub const KEYVERIFY: u32 = 24;
    /// Verdict on it.
    pub const ANS_KEYVERIFY: u32 = 25;
    /// Whether a GSSAPI principal may be the user.
    pub const ANS_GSSUSEROK: u32 = 47;
    /// What PAM asks next, or that it refuses.
    pub const ANS_PAM_QUERY: u32 = 107;
    /// Verdict on a keyboard-interactive answer.
    pub const ANS_PAM_RESPOND: u32 = 109;
}

/// What a process is to us.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// The connection it belongs to, 0 for a listener.
    pub connection: u64,
    /// See [`Header::root`].
    pub root: u64,
    /// One of the `PROCESS_*` constants.
    pub kind: u32,
    /// Type of the monitor message whose body comes next, 0 for none.
    pub monitor_kind: u32,
    /// Length field of that message.
    pub monitor_len: u32,
    /// [`PROCESS_HOLDS_TERMINAL`] and others.
    pub flags: u32,
}

/// An sshd that waits for connections, or its child before it serves one.
pub const PROCESS_LISTENER: u32 = 1;
/// An sshd that serves a connection.
pub const PROCESS_SERVER: u32 = 2;
/// A process below it that runs anything else.
pub const PROCESS_USER: u32 = 3;

/// Flag of a [`Process`]: it reads and writes a pty master, which its end
/// closes.
pub const PROCESS_HOLDS_TERMINAL: u32 = 1;
/// Flag of a [`Process`]: it runs a program that transfers files, or descends
/// from one that does.
pub const PROCESS_IS_TRANSFER: u32 = 1 << 8;
/// Flag of a [`Process`]: it has begun to talk to its peer. What a transfer
/// opened before are its libraries and settings.
pub const PROCESS_IS_TALKING: u32 = 1 << 9;
/// Flag of a [`Process`]: a probe has run in it.
pub const PROCESS_IS_PROBED: u32 = 1 << 10;
/// Flag of a [`Process`]: one had run in the process that forked it.
pub const PROCESS_IS_OF_PROBED: u32 = 1 << 11;
/// Flag of a [`Process`]: an sshd that serves files itself (`internal-sftp`).
pub const PROCESS_IS_SUBSYSTEM: u32 = 1 << 12;

const _: () = {
    let flags = [
        PROCESS_HOLDS_TERMINAL,
        PROCESS_IS_TRANSFER,
        PROCESS_IS_TALKING,
        PROCESS_IS_PROBED,
        PROCESS_IS_OF_PROBED,
        PROCESS_IS_SUBSYSTEM,
    ];
    let (mut all, mut at) = (0, 0);
    while at < flags.len() {
        assert!(all & flags[at] == 0, "each flag has a bit of its own");
        all |= flags[at];
        at += 1;
    }
};

/// A file that a transfer has open.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// When it was opened, nanoseconds since boot.
    pub opened_boot_ns: u64,
    /// The process that opened it.
    pub owner: u32,
    /// Flags of the open.
    pub flags: u32,
    /// Not 0 when a call moved bytes, or found that there are none.
    pub moved: u32,
    /// Always 0.
    pub pad: u32,
    /// Where the file stood when it was last looked at, bytes; [`OFFSET_UNKNOWN`]
    /// after a jump that cannot be followed.
    pub position: u64,
    /// How long it was then, bytes.
    pub size: u64,
    /// When it had last been changed then: equal or not is all it says.
    pub changed: u64,
}

impl Process {
    /// A process of this kind that belongs to nothing.
    #[must_use]
    pub const fn new(kind: u32) -> Self {
        Self {
            connection: 0,
            root: 0,
            kind,
            monitor_kind: 0,
            monitor_len: 0,
            flags: 0,
        }
    }

    /// Why its system calls are of interest: `WATCH_*` bits.
    #[must_use]
    pub const fn watch_bits(&self) -> u8 {
        let kind = match self.kind {
            PROCESS_SERVER => WATCH_SERVER,
            PROCESS_USER => WATCH_USER,
            _ => return 0,
        };
        if self.flags & PROCESS_IS_TRANSFER != 0 {
            kind | WATCH_TRANSFER
        } else {
            kind
        }
    }
}

/// Bits of the largest pid: the rest of a minted id is its time.
const PID_BITS: u64 = (1 << 22) - 1;

/// Mints the id of a connection or root: unique within one boot.
#[must_use]
pub const fn mint(boot_ns: u64, pid: u32) -> u64 {
    boot_ns & !PID_BITS | pid as u64
}

/// The process an id was minted for.
#[must_use]
pub const fn minted_for(id: u64) -> u32 {
    (id & PID_BITS) as u32
}

/// A pty, known by the address of its master's `tty_struct`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Its identity: when it was first seen, nanoseconds since boot.
    pub id: u64,
    /// The connection of its holder.
    pub connection: u64,
    /// What of the connection holds it: 0 for the server itself, whose terminal
    /// is the client's; see [`Header::root`].
    pub root: u64,
    /// Position of the next byte that comes out.
    pub next_output: u64,
    /// Position of the next byte that goes in.
    pub next_input: u64,
    /// Roots whose processes wrote to its slave side: the first, and the last
    /// that was another. While a pty of theirs waits for a secret, what is typed
    /// here may be that secret.
    pub writers: [u64; 2],
    /// The process that reads and writes the master.
    pub holder: u32,
    /// Index of the pty.
    pub pts: u32,
}

/// Ptys of one root that are remembered at most.
pub const INNER_TERMINALS: usize = 8;

/// The last ptys that the processes of a root opened for others: those of tmux,
/// screen, script and sudo.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inner {
    /// Addresses of their masters, as in the keys of the table of terminals.
    pub masters: [u64; INNER_TERMINALS],
    /// Where the next goes.
    pub next: u64,
}

/// Bit in the watch table: a process of [`PROCESS_SERVER`].
pub const WATCH_SERVER: u8 = 1;
/// Bit in the watch table: a process of [`PROCESS_USER`].
pub const WATCH_USER: u8 = 2;
/// Bit in the watch table: a process with [`PROCESS_IS_TRANSFER`].
pub const WATCH_TRANSFER: u8 = 4;

/// Where the byte stream of a pipe stands.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Position of the next byte.
    pub next: u64,
    /// The process that moves the bytes. Another one means another stream
    /// behind the same kernel address.
    pub owner: u32,
    /// Always 0.
    pub pad: u32,
}

/// What was lost, and why.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LossKey {
    /// The connection that lost it, 0 when it cannot be told.
    pub connection: u64,
    /// What of it lost it, see [`Header::root`].
    pub root: u64,
    /// One of the `CAUSE_*` constants.
    pub cause: u32,
    /// One of the `CLASS_*` constants.
    pub class: u32,
}

/// How much was lost.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossCount {
    /// Events.
    pub events: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A ring buffer was full.
pub const CAUSE_RING_FULL: u32 = 1;
/// Memory could not be read.
pub const CAUSE_READ_FAILED: u32 = 2;
/// A map was full.
pub const CAUSE_TABLE_FULL: u32 = 3;
/// A transfer was longer than what is captured at once.
pub const CAUSE_TOO_LARGE: u32 = 4;
/// A program was skipped.
pub const CAUSE_MISSED: u32 = 5;

/// Terminal and pipe bytes.
pub const CLASS_STREAM: u32 = 1;
/// Fork and exit.
pub const CLASS_PROCESS: u32 = 2;
/// Connection starts and monitor messages.
pub const CLASS_LOGIN: u32 = 3;
/// File activity.
pub const CLASS_FILE: u32 = 4;
/// Network activity.
pub const CLASS_NETWORK: u32 = 5;

/// Starts of programs.
pub const CLASS_EXEC: u32 = 6;

/// CPUs that the table of active generations has room for: the kernel's own
/// bound on x86 (`NR_CPUS_RANGE_END`).
pub const ACTIVE_CPUS: u32 = 8192;

/// Pids a word of the watch table covers: one byte each.
pub const WATCH_WORD: usize = 4096;

/// Words of the watch table: the kernel's largest pid is 2^22 (`PID_MAX_LIMIT`).
pub const WATCH_WORDS: u32 = (1 << 22) / WATCH_WORD as u32;

const _: () = {
    assert!(size_of::<Header>() == 40);
    assert!(size_of::<ConnectionBody>() == BODY_LEN);
    assert!(size_of::<ForkBody>() == BODY_LEN);
    assert!(size_of::<PathBody>() == BODY_LEN);
    assert!(size_of::<PieceBody>() == BODY_LEN);
    assert!(size_of::<ExecBody>() == BODY_LEN);
    assert!(size_of::<ExitBody>() == BODY_LEN);
    assert!(size_of::<StreamBody>() == BODY_LEN);
    assert!(size_of::<MonitorBody>() == BODY_LEN);
    assert!(size_of::<FileBody>() == BODY_LEN);
    assert!(size_of::<SocketBody>() == BODY_LEN);
    assert!(size_of::<TerminalBody>() == BODY_LEN);
    assert!(size_of::<UseBody>() == BODY_LEN);
    assert!(size_of::<Process>() == 32);
    assert!(size_of::<Terminal>() == 64);
    assert!(size_of::<Inner>() == 72);
    assert!(size_of::<Transfer>() == 64);
    assert!(size_of::<Position>() == 16);
    assert!(size_of::<LossKey>() == 24);
    assert!(size_of::<LossCount>() == 16);
};
