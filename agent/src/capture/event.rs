//! What the kernel programs report, decoded: the only thing the rest of the
//! agent knows of the kernel.

use std::net::SocketAddr;

/// One fact from the kernel, in the order of `boot_ns`.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelEvent {
    /// `CLOCK_BOOTTIME`, nanoseconds.
    pub boot_ns: u64,
    /// The connection whose process tree it happened in. Minted in the kernel,
    /// unique within one boot; 0 for what concerns the whole host.
    pub connection: u64,
    /// What of the connection it happened in: the first program that a server
    /// process started, and all that descends from it. Minted in the kernel,
    /// unique within one boot; 0 for the server's own processes.
    pub root: u64,
    /// Process (thread group) it is about: for [`Fact::Fork`] the child.
    pub pid: u32,
    /// What happened.
    pub fact: Fact,
}

impl KernelEvent {
    /// One that concerns no connection.
    pub fn of_the_host(boot_ns: u64, fact: Fact) -> Self {
        Self {
            boot_ns,
            connection: 0,
            root: 0,
            pid: 0,
            fact,
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// `pid` became an sshd that serves one connection. Everything below it
    /// belongs to this connection. An [`Fact::Exec`] of the same process
    /// follows.
    ConnectionStart(ConnectionStart),
    /// `pid` was forked by `parent`; both belong to the connection.
    Fork {
        /// The forking process.
        parent: u32,
    },
    /// `pid` was there already when this agent took over from one before. What
    /// it did until then was recorded by that one, or is still to come: this
    /// only says that it lives. `boot_ns` is its start.
    Present {
        /// Its parent process.
        parent: u32,
        /// It is an sshd, not the user's program.
        server: bool,
    },
    /// `pid` runs a new program.
    Exec(Box<Exec>),
    /// `pid` (its last thread) ended.
    Exit {
        /// Wait status as the kernel encodes it: code `<< 8`, or signal in the
        /// low seven bits.
        wait_status: u32,
    },
    /// Bytes went to or came from a pty master: `pid` holds it. For the client's
    /// own terminal that is an sshd process, for an inner one (tmux, script,
    /// sudo) a process of the session.
    Terminal(TerminalData),
    /// The last descriptor of a pty master was closed.
    TerminalClose {
        /// See [`TerminalData::terminal`].
        terminal: u64,
    },
    /// `pid` wrote to a pty that is not its controlling terminal, for the first
    /// time: a tmux server shows itself on its client's terminal this way.
    TerminalWriter {
        /// See [`TerminalData::terminal`].
        terminal: u64,
        /// Index of the pty.
        pts: u32,
    },
    /// `pid` put a byte into a pty's input queue (`TIOCSTI`).
    TerminalInjection {
        /// See [`TerminalData::terminal`].
        terminal: u64,
        /// Index of the pty.
        pts: u32,
    },
    /// sshd set the window size of a pty.
    WindowSize {
        /// Index of the pty, as in `/dev/pts/{index}`.
        pts: u32,
        /// The size it has now.
        size: WindowSize,
    },
    /// An sshd process moved bytes to or from a pipe.
    Pipe(PipeData),
    /// `pid` did something to a file.
    File(Box<FileAccess>),
    /// `pid` (0 where the kernel did it on its own) did something with a socket.
    Socket(SocketEvent),
    /// `pid` uses something of which no more is captured than that. Told once a
    /// minute at most.
    Use(Use),
    /// A message of sshd's privilege-separation monitor protocol, sent by
    /// `pid`. Only harmless types carry their body.
    Monitor(MonitorMessage),
    /// Nobody is connected: the hooks that cost something are detached from now
    /// on, and of what runs only processes are captured. Concerns no connection.
    Detached,
    /// All of them are attached from now on. Concerns no connection.
    Attached,
    /// A hook was found not to work. Concerns no connection.
    HookStopped(Box<HookStop>),
    /// The hook of this name works again. Concerns no connection.
    HookMended(String),
    /// Something was lost. `pid` is 0.
    Loss(Loss),
}

/// A hook that does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookStop {
    /// Its name, such as `tracepoint raw_syscalls:sys_enter`.
    pub hook: String,
    /// Why, in words.
    pub reason: &'static str,
    /// It worked at this moment still; nanoseconds since boot.
    pub since_boot_ns: u64,
    /// Open sessions miss what it sees.
    pub blinds: bool,
}

/// A new connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionStart {
    /// Client end of the socket; `None` when it is not TCP.
    pub client: Option<SocketAddr>,
    /// Server end of the socket.
    pub server: Option<SocketAddr>,
    /// The connection inside which this server was started, 0 for none: a
    /// user's own sshd.
    pub parent_connection: u64,
    /// User id the server runs as. Not 0: its word is a user's word.
    pub server_uid: u32,
    /// The connection was open before the agent watched.
    pub adopted: bool,
}

/// What a file descriptor refers to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fd {
    /// Closed or of no interest.
    #[default]
    Other,
    /// Slave side of the pty with this index.
    Pts(u32),
    /// A pipe with this inode number.
    Pipe(u64),
    /// A socket.
    Socket,
}

/// A program started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exec {
    /// Parent process.
    pub parent: u32,
    /// Path of the image. Bytes that are not UTF-8 stand as `\xNN`.
    pub exe: String,
    /// The image's file has no link left.
    pub exe_deleted: bool,
    /// Path given to `execve`.
    pub filename: String,
    /// Working directory.
    pub cwd: String,
    /// The argument block, NUL-terminated strings one after the other.
    pub args: Vec<u8>,
    /// Its true length.
    pub args_len: u64,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Login user id, `u32::MAX` when unset.
    pub login_uid: u32,
    /// Standard input, output and error.
    pub fds: [Fd; 3],
    /// The process leads a POSIX session (it called setsid).
    pub session_leader: bool,
    /// The image is sshd and the process belongs to the server side: not (yet)
    /// the user's program.
    pub server: bool,
    /// Only probes inside its server see what goes over its terminal, and the first
    /// sight of that is an event.
    pub by_probes: bool,
    /// Of a session's own process: its server has no probes, where those see
    /// what it moves.
    pub unprobed: bool,
    /// The process was found running when the agent started; nothing of it
    /// before now was captured. `boot_ns` of the event is its start.
    pub adopted: bool,
}

/// Which way bytes went, as the user sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Towards the client.
    Output,
    /// From the client.
    Input,
}

/// Bytes of a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminalData {
    /// Identity of the pty within one boot: indices are used again at once, this
    /// is not. 0 when not known.
    pub terminal: u64,
    /// Index of the pty.
    pub pts: u32,
    /// Which way.
    pub direction: Direction,
    /// Position of the first byte in this direction since the kernel first saw
    /// this pty; `None` when the kernel could not keep count.
    pub offset: Option<u64>,
    /// Length of this piece in bytes, also when `data` is masked.
    pub len: u32,
    /// The bytes; `None` when masked: echo was off in canonical mode.
    pub data: Option<Vec<u8>>,
    /// Window size at that moment.
    pub size: WindowSize,
}

/// Window size in character cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// Width.
    pub columns: u16,
    /// Height.
    pub rows: u16,
}

/// Bytes of a pipe, as an sshd process read or wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipeData {
    /// Inode number of the pipe.
    pub inode: u64,
    /// `Output`: sshd read it. `Input`: sshd wrote it.
    pub direction: Direction,
    /// Position of the first byte in this pipe and direction; `None` when the
    /// kernel could not keep count.
    pub offset: Option<u64>,
    /// Length of this piece in bytes, also when `data` is masked.
    pub len: u32,
    /// The bytes; `None` when they are withheld: input that is not recorded on
    /// this host, or the content of a file transfer.
    pub data: Option<Vec<u8>>,
    /// They are withheld because they are the content of a file transfer.
    pub transfer: bool,
}

/// What was done to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FileOperation {
    /// It was opened, and exists since then.
    #[default]
    Create,
    /// It existed and was opened for writing.
    OpenWrite,
    /// It was opened for reading.
    OpenRead,
    /// It was closed, after `read` and `written` bytes were counted.
    Close,
    /// The name was removed.
    Delete,
    /// It has the name `target` now.
    Rename,
    /// It has the mode `mode` now.
    Chmod,
    /// It belongs to `uid` and `gid` now.
    Chown,
    /// The directory was made.
    Mkdir,
    /// The directory was removed.
    Rmdir,
    /// It has the second name `target`.
    Link,
    /// It is a symbolic link that says `target`.
    Symlink,
    /// Its length was changed.
    Truncate,
    /// It could not be executed.
    Execute,
}

/// Something a process did, or tried to do, to a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileAccess {
    /// What.
    pub operation: FileOperation,
    /// Absolute path where `resolved`, else as the process gave it, made
    /// absolute with the directory it was relative to. Bytes that are not UTF-8
    /// stand as `\xNN`.
    pub path: String,
    /// Second path; empty where there is none.
    pub target: String,
    /// The path is the kernel's own, out of the process' reach.
    pub resolved: bool,
    /// 0, or the error number.
    pub error: u32,
    /// Flags of the open.
    pub flags: u32,
    /// Mode of the file; for a chmod the one it was given.
    pub mode: u32,
    /// New owner, for a chown.
    pub uid: Option<u32>,
    /// New group, for a chown.
    pub gid: Option<u32>,
    /// Bytes read, for a close.
    pub read: u64,
    /// Bytes written, for a close.
    pub written: u64,
    /// When it was opened, for a close; nanoseconds since boot.
    pub opened_boot_ns: u64,
}

/// What was done with a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SocketOperation {
    /// A connection was begun.
    Connect,
    /// It accepts connections from now on.
    Listen,
    /// A connection was accepted.
    Accept,
    /// The connection, or the listening, ended.
    Close,
}

/// Something a process did with a socket. Of sshd's own processes these are
/// forwarded connections (`-L`, `-R`, `-D`, `-W`, X11, agent), but for those it
/// makes for itself before the login is complete.
///
/// A connect is told when both ends are known or it has failed; a failed one
/// closes at once. A `Close` names the process that began the connection, which
/// may be gone. Unix sockets close without a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketEvent {
    /// Identity of the socket within one boot.
    pub socket: u64,
    /// What.
    pub operation: SocketOperation,
    /// This end; `None` for a Unix socket.
    pub local: Option<SocketAddr>,
    /// The other end; `None` for a Unix socket, and when listening.
    pub remote: Option<SocketAddr>,
    /// Path of a Unix socket; abstract names begin with `@`; empty for others.
    pub unix_path: String,
    /// Bytes sent so far, for a close.
    pub sent: u64,
    /// Bytes received so far, for a close.
    pub received: u64,
}

/// What a process uses, where nothing is captured of what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It has set up an io_uring: its operations are no system calls.
    IoUring,
    /// It has become the tracer of another process.
    Ptrace {
        /// That process, by the number it has for the tracer.
        target: u32,
    },
    /// It has sent a datagram there, or connected a socket for datagrams.
    Datagrams {
        /// Where to, as the process gave it. Port 0 where there are none.
        remote: SocketAddr,
    },
}

/// A message between sshd's processes before the login is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorMessage {
    /// Type, as in OpenSSH's `monitor.h`.
    pub kind: u8,
    /// Length of the body.
    pub len: u32,
    /// The body, for types that carry no secret; empty otherwise. May be
    /// shorter than `len`.
    pub body: Vec<u8>,
}

/// Why something was lost in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LossCause {
    /// A ring buffer was full.
    RingFull,
    /// Memory could not be read.
    ReadFailed,
    /// A program was skipped.
    ProgramMissed,
    /// A map was full.
    TableFull,
    /// A transfer was larger than what is captured at once.
    TooLarge,
    /// A record did not decode.
    Malformed,
}

/// What class of events was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LossClass {
    /// Terminal or pipe bytes. Losses of bytes with a known place show as a
    /// hole between offsets; this counts them a second time, for the host.
    Stream,
    /// Fork and exit.
    Process,
    /// Starts of programs.
    Exec,
    /// Monitor messages and connection starts.
    Login,
    /// File activity.
    File,
    /// Network activity.
    Network,
    /// Not known.
    Any,
}

/// Something was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Why.
    pub cause: LossCause,
    /// What.
    pub class: LossClass,
    /// How many events.
    pub events: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The loss happened after this moment, and before `boot_ns`.
    pub since_boot_ns: u64,
    /// It cannot be told which connection lost it: `connection` is 0 and every
    /// open session may have.
    pub host_wide: bool,
}
