//! What the kernel programs report, decoded: the only thing the rest of the
//! agent knows of the kernel.

use std::net::SocketAddr;

/// One fact from the kernel, in the order of `boot_ns`.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelEvent {
    /// `CLOCK_BOOTTIME`, nanoseconds.
    pub boot_ns: u64,
    /// The connection whose process tree it happened in. Never 0; minted in the
    /// kernel, unique within one boot.
    pub connection: u64,
    /// Process (thread group) it is about: for [`Fact::Fork`] the child.
    pub pid: u32,
    /// What happened.
    pub fact: Fact,
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
    /// `pid` runs a new program.
    Exec(Box<Exec>),
    /// `pid` (its last thread) ended.
    Exit {
        /// Wait status as the kernel encodes it: code `<< 8`, or signal in the
        /// low seven bits.
        wait_status: u32,
    },
    /// An sshd process moved bytes to or from a pty master.
    Terminal(TerminalData),
    /// sshd set the window size of a pty.
    WindowSize {
        /// Index of the pty, as in `/dev/pts/{index}`.
        pts: u32,
        /// The size it has now.
        size: WindowSize,
    },
    /// An sshd process moved bytes to or from a pipe.
    Pipe(PipeData),
    /// A message of sshd's privilege-separation monitor protocol, sent by
    /// `pid`. Only harmless types carry their body.
    Monitor(MonitorMessage),
    /// Something was lost. `pid` is 0.
    Loss(Loss),
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
    /// The bytes; `None` when masked: input is not recorded on this host.
    pub data: Option<Vec<u8>>,
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
    /// Fork, exec, exit.
    Process,
    /// Monitor messages and connection starts.
    Login,
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
