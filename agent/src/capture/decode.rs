//! Records of the rings → [`KernelEvent`]s.
//!
//! A record that does not decode is counted and dropped; it never stops the
//! ones behind it.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use auditty_capture_ebpf::{self as layout, BODY_LEN, Header};

use super::event::{
    ConnectionStart, Direction, Exec, Fact, Fd, KernelEvent, MonitorMessage, PipeData, SocketEvent,
    SocketOperation, TerminalData, Use, WindowSize,
};
use super::files::{Access, FileDecoder};
use super::sensitive::SensitivePaths;

/// Execs whose pieces are under way at most: a program emits all pieces of one
/// in a row, so that more than one for each CPU means lost ends.
pub const MAX_PARTIAL: usize = 1024;

/// What a record can be.
#[derive(Debug, PartialEq)]
pub enum Decoded {
    /// An event.
    Event(KernelEvent),
    /// An sshd listener forked: a connection is about to begin.
    ListenerFork,
    /// A piece of something that is not whole yet.
    Partial,
    /// An event that nobody asked for.
    Unwanted,
    /// Not a record of this layout.
    Malformed,
}

/// Pieces of an exec seen so far.
#[derive(Default)]
struct PartialExec {
    boot_ns: u64,
    /// Of the first piece.
    position: u64,
    exe: String,
    cwd: String,
    args: Vec<u8>,
}

/// Decodes records, joining the pieces of execs and of file activity.
#[derive(Default)]
pub struct Decoder {
    partial: HashMap<u32, PartialExec>,
    /// Position in the ring of the record that comes next.
    pub position: u64,
    /// Position of the first piece of the record that came last.
    pub first: u64,
    files: FileDecoder,
}

/// Reads integers off the front of a body.
pub struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    /// The next bytes; zeros behind the end.
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        // Bodies have a fixed length, longer than what is taken from them.
        let Some((head, tail)) = self.0.split_first_chunk::<N>() else {
            return [0; N];
        };
        self.0 = tail;
        *head
    }
    /// The next integer.
    pub fn u16(&mut self) -> u16 {
        u16::from_ne_bytes(self.take())
    }
    /// The next integer.
    pub fn u32(&mut self) -> u32 {
        u32::from_ne_bytes(self.take())
    }
    /// The next integer.
    pub fn u64(&mut self) -> u64 {
        u64::from_ne_bytes(self.take())
    }
}

impl Decoder {
    /// Position of the oldest piece since `boot_ns` whose end is still to come.
    pub fn oldest_piece(&self, boot_ns: u64) -> Option<u64> {
        let waiting = self.partial.values().filter(|p| p.boot_ns >= boot_ns);
        waiting.map(|partial| partial.position).min()
    }

    /// Reports reads of these files too.
    pub fn new(sensitive: SensitivePaths) -> Self {
        Self {
            files: FileDecoder::new(sensitive),
            ..Self::default()
        }
    }

    /// The same of file activity.
    pub fn oldest_file_piece(&self, boot_ns: u64) -> Option<u64> {
        self.files.oldest_piece(boot_ns)
    }

    /// Decodes one record.
    pub fn decode(&mut self, record: &[u8]) -> Decoded {
        let Some((head, rest)) = record.split_at_checked(size_of::<Header>()) else {
            return Decoded::Malformed;
        };
        let Some((body, rest)) = rest.split_at_checked(BODY_LEN) else {
            return Decoded::Malformed;
        };
        self.first = self.position;
        let mut head = Fields(head);
        let (kind, len) = (head.u32(), head.u32());
        let (boot_ns, connection, root) = (head.u64(), head.u64(), head.u64());
        let pid = head.u32();
        let Some(payload) = rest.get(..len as usize) else {
            return Decoded::Malformed;
        };
        let mut body = Fields(body);
        let fact = match kind {
            layout::KIND_LISTENER_FORK => return Decoded::ListenerFork,
            layout::KIND_PATH | layout::KIND_ARGS => {
                self.piece(kind, pid, boot_ns, &mut body, payload);
                return Decoded::Partial;
            }
            layout::KIND_FILE_PATH => {
                let place = (self.position, pid, boot_ns);
                self.files.piece(place, &mut body, payload);
                return Decoded::Partial;
            }
            layout::KIND_FILE => {
                let (first, access) = self.files.access(pid, boot_ns, &mut body);
                self.first = first.unwrap_or(self.position);
                match access {
                    Access::Wanted(access) => Fact::File(Box::new(access)),
                    Access::Unwanted => return Decoded::Unwanted,
                    Access::Malformed => return Decoded::Malformed,
                }
            }
            layout::KIND_CONNECTION => Fact::ConnectionStart(connection_start(&mut body)),
            layout::KIND_FORK => Fact::Fork { parent: body.u32() },
            layout::KIND_EXEC => Fact::Exec(Box::new(self.exec(pid, boot_ns, &mut body, payload))),
            layout::KIND_EXIT => {
                self.partial.remove(&pid);
                Fact::Exit {
                    wait_status: body.u32(),
                }
            }
            layout::KIND_TERMINAL => Fact::Terminal(StreamBody::read(&mut body).terminal(payload)),
            layout::KIND_WINDOW_SIZE => {
                let StreamBody { pts, size, .. } = StreamBody::read(&mut body);
                Fact::WindowSize { pts, size }
            }
            layout::KIND_TERMINAL_CLOSE => Fact::TerminalClose {
                terminal: body.u64(),
            },
            layout::KIND_TERMINAL_WRITER => {
                let (terminal, pts) = (body.u64(), body.u32());
                Fact::TerminalWriter { terminal, pts }
            }
            layout::KIND_TERMINAL_INJECTION => {
                let (terminal, pts) = (body.u64(), body.u32());
                Fact::TerminalInjection { terminal, pts }
            }
            layout::KIND_PIPE => Fact::Pipe(StreamBody::read(&mut body).pipe(payload)),
            layout::KIND_SOCKET => match socket(&mut body, payload) {
                Some(socket) => Fact::Socket(socket),
                None => return Decoded::Malformed,
            },
            layout::KIND_USE => match used(&mut body) {
                Some(used) => Fact::Use(used),
                None => return Decoded::Malformed,
            },
            layout::KIND_MONITOR => Fact::Monitor(MonitorMessage {
                kind: u8::try_from(body.u32()).unwrap_or(0),
                len: body.u32(),
                body: payload.to_vec(),
            }),
            _ => return Decoded::Malformed,
        };
        Decoded::Event(KernelEvent {
            boot_ns,
            connection,
            root,
            pid,
            fact,
        })
    }

    fn piece(&mut self, kind: u32, pid: u32, boot_ns: u64, body: &mut Fields<'_>, payload: &[u8]) {
        if self.partial.len() >= MAX_PARTIAL {
            // Their ends were lost, and counted where they were lost.
            self.partial.clear();
        }
        let partial = self.partial.entry(pid).or_default();
        if partial.boot_ns != boot_ns {
            *partial = PartialExec {
                boot_ns,
                position: self.position,
                ..PartialExec::default()
            };
        }
        if kind == layout::KIND_ARGS {
            // Behind a lost piece nothing can be placed; the exec's true length
            // shows that something is missing.
            if body.u64() == partial.args.len() as u64 {
                partial.args.extend_from_slice(payload);
            }
            return;
        }
        let which = body.u32();
        let truncated = body.u32() != 0;
        let path = join_path(payload, truncated);
        match which {
            layout::PATH_EXE => partial.exe = path,
            layout::PATH_CWD => partial.cwd = path,
            _ => {}
        }
    }

    fn exec(&mut self, pid: u32, boot_ns: u64, body: &mut Fields<'_>, payload: &[u8]) -> Exec {
        let partial = self
            .partial
            .remove(&pid)
            .filter(|partial| partial.boot_ns == boot_ns)
            .unwrap_or_else(|| PartialExec {
                position: self.position,
                ..PartialExec::default()
            });
        self.first = partial.position;
        let args_len = body.u64();
        let (parent, uid, euid, login_uid) = (body.u32(), body.u32(), body.u32(), body.u32());
        let fds = [fd(body), fd(body), fd(body)];
        let flags = body.u32();
        Exec {
            parent,
            exe: partial.exe,
            exe_deleted: flags & layout::EXEC_DELETED != 0,
            filename: readable(payload.split(|byte| *byte == 0).next().unwrap_or_default()),
            cwd: partial.cwd,
            args: partial.args,
            args_len,
            uid,
            euid,
            login_uid,
            fds,
            session_leader: flags & layout::EXEC_SESSION_LEADER != 0,
            server: flags & layout::EXEC_SERVER != 0,
            by_probes: flags & layout::EXEC_BY_PROBES != 0,
            unprobed: flags & layout::EXEC_UNPROBED != 0,
            adopted: false,
        }
    }
}

fn fd(body: &mut Fields<'_>) -> Fd {
    let number = body.u32();
    match body.u32() {
        layout::FD_PTS => Fd::Pts(number),
        layout::FD_PIPE => Fd::Pipe(u64::from(number)),
        layout::FD_SOCKET => Fd::Socket,
        _ => Fd::Other,
    }
}

fn connection_start(body: &mut Fields<'_>) -> ConnectionStart {
    let (client, server) = (body.take::<16>(), body.take::<16>());
    let (client_port, server_port) = (body.u16(), body.u16());
    let family = body.u32();
    ConnectionStart {
        client: address(family, client, client_port),
        server: address(family, server, server_port),
        parent_connection: body.u64(),
        server_uid: body.u32(),
        adopted: false,
    }
}

/// `None` for an operation of another layout.
fn socket(body: &mut Fields<'_>, payload: &[u8]) -> Option<SocketEvent> {
    let (local, remote) = (body.take::<16>(), body.take::<16>());
    let (socket, sent, received) = (body.u64(), body.u64(), body.u64());
    let (local_port, remote_port) = (body.u16(), body.u16());
    let family = u32::from(body.u16());
    let operation = match body.u16() {
        layout::SOCKET_CONNECT => SocketOperation::Connect,
        layout::SOCKET_LISTEN => SocketOperation::Listen,
        layout::SOCKET_ACCEPT => SocketOperation::Accept,
        layout::SOCKET_CLOSE => SocketOperation::Close,
        _ => return None,
    };
    Some(SocketEvent {
        socket,
        operation,
        local: address(family, local, local_port),
        // A socket that listens has no other end.
        remote: address(family, remote, remote_port).filter(|address| address.port() != 0),
        unix_path: unix_path(payload),
        sent,
        received,
    })
}

/// `None` for a use of another layout.
fn used(body: &mut Fields<'_>) -> Option<Use> {
    let remote = body.take::<16>();
    let (what, target) = (body.u32(), body.u32());
    let (port, family) = (body.u16(), body.u16());
    match what {
        layout::USE_IO_URING => Some(Use::IoUring),
        layout::USE_PTRACE => Some(Use::Ptrace { target }),
        layout::USE_DATAGRAMS => Some(Use::Datagrams {
            remote: address(u32::from(family), remote, port)?,
        }),
        _ => None,
    }
}

/// The name of a Unix socket: a path ends with its NUL, an abstract name begins
/// with one and may hold more, which stand as `\x00`.
fn unix_path(name: &[u8]) -> String {
    match name.split_first() {
        Some((0, name)) => format!("@{}", readable(name).replace('\0', "\\x00")),
        _ => readable(name.split(|byte| *byte == 0).next().unwrap_or_default()),
    }
}

fn address(family: u32, bytes: [u8; 16], port: u16) -> Option<SocketAddr> {
    let [a, b, c, d, ..] = bytes;
    let address = match i32::try_from(family).ok()? {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        // A v4 client of a v6 socket is shown as what it is.
        libc::AF_INET6 => Ipv6Addr::from(bytes).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// The body of a terminal's, window size's or pipe's record.
struct StreamBody {
    offset: Option<u64>,
    inode: u64,
    len: u32,
    direction: Direction,
    withheld: u32,
    pts: u32,
    size: WindowSize,
}

impl StreamBody {
    fn read(body: &mut Fields<'_>) -> Self {
        let (offset, inode) = (known(body.u64()), body.u64());
        let (len, direction) = (body.u32(), direction(body.u32()));
        let (withheld, pts) = (body.u32(), body.u32());
        let (rows, columns) = (body.u16(), body.u16());
        let size = WindowSize { columns, rows };
        Self {
            offset,
            inode,
            len,
            direction,
            withheld,
            pts,
            size,
        }
    }

    fn terminal(self, payload: &[u8]) -> TerminalData {
        let Self {
            offset,
            len,
            direction,
            withheld,
            pts,
            size,
            inode: terminal,
        } = self;
        let data = (withheld == layout::WITHHELD_NOT).then(|| payload.to_vec());
        TerminalData {
            terminal,
            pts,
            direction,
            offset,
            len,
            data,
            size,
        }
    }

    fn pipe(self, payload: &[u8]) -> PipeData {
        let Self {
            offset,
            inode,
            len,
            direction,
            withheld,
            pts: _,
            size: _,
        } = self;
        let data = (withheld == layout::WITHHELD_NOT).then(|| payload.to_vec());
        PipeData {
            inode,
            direction,
            offset,
            len,
            data,
            transfer: withheld == layout::WITHHELD_TRANSFER,
        }
    }
}

fn known(offset: u64) -> Option<u64> {
    (offset != layout::OFFSET_UNKNOWN).then_some(offset)
}

fn direction(value: u32) -> Direction {
    if value == layout::DIRECTION_INPUT {
        Direction::Input
    } else {
        Direction::Output
    }
}

/// Components from the leaf to the root, each with a NUL behind it, as a path.
pub fn join_path(components: &[u8], truncated: bool) -> String {
    let components = components.strip_suffix(&[0]).unwrap_or(components);
    let mut path = String::from(if truncated { "…" } else { "" });
    if components.is_empty() {
        path.push('/');
        return path;
    }
    for component in components.rsplit(|byte| *byte == 0) {
        path.push('/');
        path.push_str(&readable(component.strip_prefix(b"/").unwrap_or(component)));
    }
    path
}

/// Bytes as text; those that are not UTF-8 stand as `\xNN`.
pub fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, pid: u32, boot_ns: u64, body: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((payload.len() as u32).to_ne_bytes());
        bytes.extend(boot_ns.to_ne_bytes());
        bytes.extend(7u64.to_ne_bytes());
        bytes.extend(11u64.to_ne_bytes());
        bytes.extend(pid.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(body);
        bytes.resize(size_of::<Header>() + BODY_LEN, 0);
        bytes.extend(payload);
        bytes
    }

    /// Bytes as the kernel program lays them out, on a little-endian host.
    #[test]
    #[cfg(target_endian = "little")]
    fn golden_terminal_record() {
        let bytes = [
            &[
                8, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 11, 0, 0,
                0, 0, 0, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0,
            ][..],
            &[
                5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
                3, 0, 0, 0, 24, 0, 80, 0,
            ][..],
            &[0; 28],
            b"ls",
        ]
        .concat();
        let Decoded::Event(event) = Decoder::default().decode(&bytes) else {
            panic!("not an event")
        };
        let data = TerminalData {
            terminal: 6,
            pts: 3,
            direction: Direction::Input,
            offset: Some(5),
            len: 2,
            data: Some(b"ls".to_vec()),
            size: WindowSize {
                columns: 80,
                rows: 24,
            },
        };
        assert_eq!(
            event,
            KernelEvent {
                boot_ns: 9,
                connection: 7,
                root: 11,
                pid: 42,
                fact: Fact::Terminal(data)
            }
        );
    }

    fn socket_record(operation: u16, family: i32, body: [&[u8]; 2], payload: &[u8]) -> SocketEvent {
        let ends = body.map(|end| [end, &vec![0; 16 - end.len()]].concat());
        let numbers = [99u64, 10, 20].map(u64::to_ne_bytes).concat();
        let words = [5555, 443, family as u16, operation].map(u16::to_ne_bytes);
        let body = [ends.concat(), numbers, words.concat()].concat();
        assert_eq!(body.len(), BODY_LEN);
        let bytes = record(layout::KIND_SOCKET, 5, 100, &body, payload);
        match Decoder::default().decode(&bytes) {
            Decoded::Event(KernelEvent {
                fact: Fact::Socket(event),
                ..
            }) => event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ends_of_sockets() {
        let v4 = socket_record(
            layout::SOCKET_CLOSE,
            libc::AF_INET,
            [&[10, 0, 0, 1], &[10, 0, 0, 2]],
            b"",
        );
        assert_eq!(v4.operation, SocketOperation::Close);
        assert_eq!((v4.socket, v4.sent, v4.received), (99, 10, 20));
        assert_eq!(v4.local, Some("10.0.0.1:5555".parse().unwrap()));
        assert_eq!(v4.remote, Some("10.0.0.2:443".parse().unwrap()));

        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2];
        let real = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        let v6 = socket_record(
            layout::SOCKET_CONNECT,
            libc::AF_INET6,
            [&real, &mapped],
            b"",
        );
        assert_eq!(v6.local, Some("[2001:db8::7]:5555".parse().unwrap()));
        assert_eq!(v6.remote, Some("10.0.0.2:443".parse().unwrap()));
    }

    #[test]
    fn uses() {
        let used = |what: u32, target: u32, port: u16, family: i32| {
            let numbers = [what, target].map(u32::to_ne_bytes).concat();
            let words = [port, family as u16].map(u16::to_ne_bytes).concat();
            let remote = [&[192, 0, 2, 1][..], &[0; 12]].concat();
            let body = [remote, numbers, words].concat();
            match Decoder::default().decode(&record(layout::KIND_USE, 5, 100, &body, b"")) {
                Decoded::Event(KernelEvent {
                    fact: Fact::Use(used),
                    ..
                }) => Some(used),
                _ => None,
            }
        };
        assert_eq!(used(layout::USE_IO_URING, 0, 0, 0), Some(Use::IoUring));
        let traced = Some(Use::Ptrace { target: 77 });
        assert_eq!(used(layout::USE_PTRACE, 77, 0, 0), traced);
        let remote = "192.0.2.1:53".parse().unwrap();
        let sent = used(layout::USE_DATAGRAMS, 0, 53, libc::AF_INET);
        assert_eq!(sent, Some(Use::Datagrams { remote }));
        assert_eq!(used(layout::USE_DATAGRAMS, 0, 53, libc::AF_UNIX), None);
        assert_eq!(used(9, 0, 0, 0), None);
    }

    #[test]
    fn names_of_unix_sockets() {
        let path = |name| {
            let event = socket_record(layout::SOCKET_CONNECT, libc::AF_UNIX, [&[], &[]], name);
            assert_eq!((event.local, event.remote), (None, None));
            event.unix_path
        };
        assert_eq!(path(b"/run/docker.sock\0"), "/run/docker.sock");
        assert_eq!(path(b"/tmp/a\xff\0"), "/tmp/a\\xff");
        assert_eq!(path(b"\0bus\0x"), "@bus\\x00x");
        assert_eq!(path(b""), "");
    }

    #[test]
    fn an_unknown_socket_operation_is_malformed() {
        let mut body = [0; BODY_LEN];
        body[62] = 9;
        let bytes = record(layout::KIND_SOCKET, 1, 1, &body, b"");
        assert_eq!(Decoder::default().decode(&bytes), Decoded::Malformed);
    }

    #[test]
    fn pieces_of_an_exec_are_joined() {
        let mut decoder = Decoder::default();
        let args = |offset: u64, piece: &[u8]| {
            record(layout::KIND_ARGS, 5, 100, &offset.to_ne_bytes(), piece)
        };
        let path = |which: u32, components: &[u8]| {
            record(layout::KIND_PATH, 5, 100, &which.to_ne_bytes(), components)
        };
        assert_eq!(
            decoder.decode(&path(layout::PATH_EXE, b"ls\0bin\0usr\0")),
            Decoded::Partial
        );
        assert_eq!(
            decoder.decode(&path(layout::PATH_CWD, b"")),
            Decoded::Partial
        );
        assert_eq!(decoder.decode(&args(0, b"ls\0-")), Decoded::Partial);
        assert_eq!(decoder.decode(&args(4, b"l\0")), Decoded::Partial);
        let exec = decoder.decode(&record(
            layout::KIND_EXEC,
            5,
            100,
            &6u64.to_ne_bytes(),
            b"/bin/ls\0",
        ));
        let Decoded::Event(KernelEvent {
            fact: Fact::Exec(exec),
            ..
        }) = exec
        else {
            panic!("not an exec")
        };
        assert_eq!(
            (exec.exe.as_str(), exec.cwd.as_str(), exec.filename.as_str()),
            ("/usr/bin/ls", "/", "/bin/ls")
        );
        assert_eq!((exec.args.as_slice(), exec.args_len), (&b"ls\0-l\0"[..], 6));
    }

    #[test]
    fn a_lost_piece_leaves_a_truncated_exec() {
        let mut decoder = Decoder::default();
        decoder.decode(&record(
            layout::KIND_ARGS,
            5,
            100,
            &9u64.to_ne_bytes(),
            b"tail",
        ));
        let exec = decoder.decode(&record(
            layout::KIND_EXEC,
            5,
            100,
            &13u64.to_ne_bytes(),
            b"",
        ));
        let Decoded::Event(KernelEvent {
            fact: Fact::Exec(exec),
            ..
        }) = exec
        else {
            panic!("not an exec")
        };
        assert_eq!((exec.args.len(), exec.args_len), (0, 13));
    }

    #[test]
    fn nonsense_is_malformed() {
        let whole = record(layout::KIND_PIPE, 1, 1, &[], b"payload");
        for len in 0..whole.len() {
            assert_eq!(Decoder::default().decode(&whole[..len]), Decoded::Malformed);
        }
        assert_eq!(
            Decoder::default().decode(&record(999, 1, 1, &[], &[])),
            Decoded::Malformed
        );
    }

    #[test]
    fn hostile_paths_stay_readable() {
        assert_eq!(join_path(b"a\xffb\0tmp\0", false), "/tmp/a\\xffb");
        assert_eq!(join_path(b"memfd:x\0", false), "/memfd:x");
        assert_eq!(join_path(b"", false), "/");
        assert_eq!(join_path(b"c\0b\0", true), "…/b/c");
    }
}
