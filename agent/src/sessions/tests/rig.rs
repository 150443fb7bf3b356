//! An sshd that is not there: short names for kernel events, and a sink that
//! keeps what it is given and checks that no number is missing.

use std::collections::BTreeMap;

use auditty_recording::event::{Body, Event, Gap, GapClass, Output, SessionEnd, Stream};
use auditty_recording::session::{Host, Session};
use uuid::Uuid;

use crate::capture::event::{
    ConnectionStart, Direction, Exec, Fact, Fd, KernelEvent, Loss, LossCause, LossClass,
    MonitorMessage, PipeData, TerminalData, WindowSize,
};
use crate::sessions::sink::{SessionRecord, Sink, SinkError};
use crate::sessions::{Clock, FailedLogin, Limits, Sessions, UserNames};
use auditty_grants::GrantBook;

pub const MS: u64 = 1_000_000;
pub const MONITOR: u32 = 100;
pub const CHILD: u32 = 101;
pub const SSHD: u32 = 102;
pub const SHELL: u32 = 110;
pub const SIZE: WindowSize = WindowSize {
    columns: 80,
    rows: 24,
};

pub struct Users;

impl UserNames for Users {
    fn name(&self, uid: u32) -> Option<String> {
        [(0, "root"), (1000, "alice")]
            .iter()
            .find(|user| user.0 == uid)
            .map(|user| user.1.to_owned())
    }

    fn uid(&self, name: &str) -> Option<u32> {
        [0, 1000]
            .into_iter()
            .find(|uid| self.name(*uid).as_deref() == Some(name))
    }
}

/// What the sink got for one session.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    pub events: Vec<Event>,
    pub record: SessionRecord,
    pub finished: bool,
}

#[derive(Default)]
pub struct Memory {
    pub sessions: BTreeMap<Uuid, Recorded>,
    pub order: Vec<Uuid>,
    /// Appends fail while set.
    pub full: bool,
    /// Classes that are shed.
    pub shed: Vec<GapClass>,
    /// As they were told last.
    pub failed_logins: BTreeMap<String, FailedLogin>,
}

impl Sink for Memory {
    fn sheds(&self, class: GapClass) -> bool {
        self.shed.contains(&class)
    }

    fn append(&mut self, record: &SessionRecord, event: &Event) -> Result<(), SinkError> {
        if self.full {
            return Err(SinkError("full".into()));
        }
        let id = record.session.session_id;
        if !self.sessions.contains_key(&id) {
            self.order.push(id);
        }
        let recorded = self.sessions.entry(id).or_default();
        assert!(!recorded.finished, "{event:?} after the end of {id}");
        assert_eq!(
            event.seq,
            recorded.events.last().map_or(1, |last| last.seq + 1)
        );
        assert_eq!(record.next_seq, event.seq + 1);
        recorded.events.push(event.clone());
        recorded.record = record.clone();
        Ok(())
    }

    fn changed(&mut self, record: &SessionRecord) {
        let recorded = self.sessions.entry(record.session.session_id).or_default();
        assert!(!recorded.finished && record.revision > recorded.record.revision);
        recorded.record = record.clone();
    }

    fn keep(&mut self, record: &SessionRecord) {
        let id = record.session.session_id;
        self.sessions.get_mut(&id).unwrap().record = record.clone();
    }

    fn failed_logins(&mut self, logins: &[FailedLogin]) -> Result<(), SinkError> {
        if self.full {
            return Err(SinkError("full".into()));
        }
        for login in logins {
            self.failed_logins.insert(login.id.clone(), login.clone());
        }
        Ok(())
    }

    fn finished(&mut self, record: &SessionRecord) {
        let recorded = self.sessions.get_mut(&record.session.session_id).unwrap();
        assert!(!std::mem::replace(&mut recorded.finished, true));
        recorded.record = record.clone();
    }
}

impl Recorded {
    pub fn session(&self) -> &Session {
        &self.record.session
    }

    /// The timeline in short.
    pub fn story(&self) -> Vec<String> {
        self.events.iter().map(|event| short(&event.body)).collect()
    }

    pub fn gaps(&self) -> Vec<Gap> {
        let gaps = self.events.iter().filter_map(|event| match &event.body {
            Body::Gap(gap) => Some(gap.clone()),
            _ => None,
        });
        gaps.collect()
    }

    /// Pieces of output with their offsets.
    pub fn output(&self, wanted: Stream) -> Vec<(u64, Vec<u8>)> {
        let pieces = self.events.iter().filter_map(|event| match &event.body {
            Body::Output(Output {
                stream,
                offset,
                data,
                ..
            }) if *stream == wanted => Some((*offset, data.0.clone())),
            _ => None,
        });
        pieces.collect()
    }

    pub fn end(&self) -> Option<SessionEnd> {
        self.events.iter().find_map(|event| match &event.body {
            Body::SessionEnd(end) => Some(end.clone()),
            _ => None,
        })
    }
}

fn short(body: &Body) -> String {
    match body {
        Body::Output(o) => match o.omitted_bytes {
            Some(bytes) => format!("{:?}>omitted {bytes}", o.stream),
            None => format!("{}>{}", place(o.stream, o.terminal), text(&o.data.0)),
        },
        Body::Input(i) => match (i.masked_bytes, i.omitted_bytes) {
            (Some(bytes), _) => format!("{:?}<masked {bytes}", i.stream),
            (_, Some(bytes)) => format!("{:?}<omitted {bytes}", i.stream),
            _ => format!("{}<{}", place(i.stream, i.terminal), text(&i.data.0)),
        },
        Body::Exec(exec) => format!("exec {}", exec.argv.join(" ")),
        Body::Exit(exit) => format!("exit {} of {}", exit.pid, exit.exec_seq.unwrap()),
        Body::Gap(gap) => format!("gap {:?}", gap.cause),
        Body::Marker(marker) => format!("marker {}", marker.marker),
        Body::Resize(size) => format!("resize {}x{}", size.columns, size.rows),
        Body::File(file) => format!("{:?} {}", file.operation, file.path),
        Body::Transfer(t) => format!("{:?} {:?} {} {}", t.protocol, t.direction, t.path, t.bytes),
        Body::Connect(c) => format!("{:?} forwarded={}", c.role, c.forwarded),
        Body::Disconnect(d) => format!("disconnect {}", d.connect_seq),
        Body::Link(link) => format!("link {:?}", link.relation),
        Body::Handoff(handoff) => format!("handoff {:?} of {}", handoff.to, handoff.exec_seq),
        Body::SessionEnd(end) => format!("end {:?}", end.reason),
        Body::TerminalOpen(open) => match open.pid {
            None => format!("open {}", open.name),
            Some(pid) => format!(
                "open {} as {} by {pid} {}",
                open.name,
                open.terminal,
                open.exe.as_deref().unwrap_or("?")
            ),
        },
        other => other.kind().to_owned(),
    }
}

fn place(stream: Stream, terminal: Option<u32>) -> String {
    match terminal {
        Some(number @ 1..) => format!("{stream:?}{number}"),
        _ => format!("{stream:?}"),
    }
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Sessions, their sink, and a clock that moves 1 ms with every event.
pub struct Rig {
    pub sessions: Sessions,
    pub sink: Memory,
    pub now: u64,
    pub connection: u64,
    /// The kernel's name for the ptys; 0: it has none.
    pub life: u64,
    /// The process that holds the ptys.
    pub holder: u32,
    /// The kernel's name for the program of sshd that what happens descends from; 0:
    /// it has none.
    pub root: u64,
}

pub fn host() -> Host {
    Host {
        host_id: "h1".into(),
        hostname: "web-1".into(),
        boot_id: "boot".into(),
        capture_mode: "tracepoint".into(),
        ..Host::default()
    }
}

impl Rig {
    pub fn new() -> Self {
        Self::with(GrantBook::default(), Limits::default())
    }

    pub fn with(grants: GrantBook, limits: Limits) -> Self {
        let clock = Clock::new(0, "2026-06-01T00:00:00Z".parse().unwrap());
        Self {
            sessions: Sessions::new(host(), clock, Users, grants, limits),
            sink: Memory::default(),
            now: 1_000 * MS,
            connection: 7,
            life: 0,
            holder: SSHD,
            root: 0,
        }
    }

    /// A user's connection up to the process that holds its channels.
    pub fn logged_in() -> Self {
        let mut rig = Self::new();
        rig.login(0);
        rig
    }

    /// Logs alice in over connection `self.connection` with processes from
    /// `MONITOR + base`.
    pub fn login(&mut self, base: u32) {
        self.connect(MONITOR + base, ConnectionStart::default());
        self.fork(MONITOR + base, CHILD + base);
        self.monitor(CHILD + base, 8, b"\0\0\0\x05alice");
        self.monitor(MONITOR + base, 13, b"\0\0\0\x01");
        self.exit(CHILD + base, 0);
        self.fork(MONITOR + base, SSHD + base);
    }

    pub fn connect(&mut self, pid: u32, start: ConnectionStart) {
        self.fact(pid, Fact::ConnectionStart(start));
        let server = Exec {
            exe: "/usr/sbin/sshd".into(),
            server: true,
            ..Exec::default()
        };
        self.fact(pid, Fact::Exec(Box::new(server)));
    }

    pub fn fact(&mut self, pid: u32, fact: Fact) {
        self.now += MS;
        let connection = if matches!(fact, Fact::Loss(_)) && pid == 1 {
            0
        } else {
            self.connection
        };
        let event = KernelEvent {
            boot_ns: self.now,
            connection,
            root: self.root,
            pid,
            fact,
        };
        self.sessions.apply(&event, &mut self.sink);
    }

    pub fn fork(&mut self, parent: u32, pid: u32) {
        self.fact(pid, Fact::Fork { parent });
    }

    pub fn exit(&mut self, pid: u32, wait_status: u32) {
        self.fact(pid, Fact::Exit { wait_status });
    }

    pub fn monitor(&mut self, pid: u32, kind: u8, body: &[u8]) {
        let message = MonitorMessage {
            kind,
            len: body.len() as u32,
            body: body.to_vec(),
        };
        self.fact(pid, Fact::Monitor(message));
    }

    pub fn exec_with(&mut self, pid: u32, argv: &[&str], change: impl FnOnce(&mut Exec)) {
        let args: Vec<u8> = argv
            .iter()
            .flat_map(|arg| [arg.as_bytes(), b"\0"].concat())
            .collect();
        let mut exec = Exec {
            exe: "/bin/x".into(),
            args_len: args.len() as u64,
            args,
            uid: 1000,
            euid: 1000,
            ..Exec::default()
        };
        change(&mut exec);
        self.fact(pid, Fact::Exec(Box::new(exec)));
    }

    pub fn exec(&mut self, pid: u32, argv: &[&str]) {
        self.exec_with(pid, argv, |_| {});
    }

    pub fn root(&mut self, pid: u32, argv: &[&str], fds: [Fd; 3]) {
        self.exec_with(pid, argv, |exec| {
            exec.session_leader = true;
            exec.fds = fds;
        });
    }

    /// A login shell on pts/`pts`, forked from `server`.
    pub fn shell(&mut self, server: u32, pid: u32, pts: u32) {
        self.fork(server, pid);
        self.root(pid, &["-bash"], [Fd::Pts(pts); 3]);
    }

    /// A command without a terminal on pipes 1, 2 and 3.
    pub fn command(&mut self, pid: u32, command: &str) {
        self.fork(SSHD, pid);
        self.root(
            pid,
            &["bash", "-c", command],
            [Fd::Pipe(1), Fd::Pipe(2), Fd::Pipe(3)],
        );
    }

    pub fn terminal(&mut self, direction: Direction, pts: u32, offset: Option<u64>, data: &[u8]) {
        let data = TerminalData {
            terminal: self.life,
            pts,
            direction,
            offset,
            len: data.len() as u32,
            data: Some(data.to_vec()),
            size: SIZE,
        };
        self.fact(self.holder, Fact::Terminal(data));
    }

    pub fn output(&mut self, pts: u32, offset: u64, data: &str) {
        self.terminal(Direction::Output, pts, Some(offset), data.as_bytes());
    }

    pub fn input(&mut self, pts: u32, offset: u64, data: &str) {
        self.terminal(Direction::Input, pts, Some(offset), data.as_bytes());
    }

    pub fn masked(&mut self, pts: u32, offset: u64, len: u32) {
        let direction = Direction::Input;
        let data = TerminalData {
            terminal: self.life,
            pts,
            direction,
            offset: Some(offset),
            len,
            data: None,
            size: SIZE,
        };
        self.fact(self.holder, Fact::Terminal(data));
    }

    pub fn pipe(&mut self, pid: u32, inode: u64, direction: Direction, offset: u64, data: &str) {
        let data = PipeData {
            inode,
            direction,
            offset: Some(offset),
            len: data.len() as u32,
            data: Some(data.as_bytes().to_vec()),
            transfer: false,
        };
        self.fact(pid, Fact::Pipe(data));
    }

    pub fn loss(
        &mut self,
        cause: LossCause,
        class: LossClass,
        events: u64,
        bytes: u64,
        host_wide: bool,
    ) {
        let since_boot_ns = self.now - 5 * MS;
        let loss = Loss {
            cause,
            class,
            events,
            bytes,
            since_boot_ns,
            host_wide,
        };
        self.fact(u32::from(host_wide), Fact::Loss(loss));
    }

    pub fn end_of_batch(&mut self) {
        self.sessions.end_of_batch(&mut self.sink);
    }

    /// Time passes.
    pub fn pass(&mut self, ms: u64) {
        self.now += ms * MS;
        self.sessions.tick(self.now, &mut self.sink);
    }

    /// The client is gone: sshd's processes end.
    pub fn disconnect(&mut self) {
        self.exit(SSHD, 255 << 8);
        self.exit(MONITOR, 255 << 8);
        self.end_of_batch();
    }

    /// The n-th session that began.
    pub fn session(&self, index: usize) -> &Recorded {
        &self.sink.sessions[&self.sink.order[index]]
    }

    pub fn count(&self) -> usize {
        self.sink.order.len()
    }
}
