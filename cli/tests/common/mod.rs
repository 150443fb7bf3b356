//! A folder store with recordings, made by the recording crate's own writer,
//! and the binary that reads it.
#![allow(dead_code, reason = "each test program uses a part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use auditty_recording::Bytes;
use auditty_recording::chunk::ChunkWriter;
use auditty_recording::digest::Digest;
use auditty_recording::event::{self, Body, Event, Stream};
use auditty_recording::format::{FORMAT, Header};
use auditty_recording::key::SessionKey;
use auditty_recording::manifest::{ChunkEntry, Manifest};
use auditty_recording::session::{
    AuthMethod, Connection, Evidence, Grant, GrantMatch, GrantStatus, Host, Login, SessionKind,
    Verdict,
};
use auditty_recording::summary::Summary;
use jiff::{Timestamp, ToSpan};
use uuid::Uuid;

pub const PTY: &str = "0199e0a4-7b1c-7000-8000-000000000001";
pub const HOSTILE: &str = "0199e0a4-7b1d-7000-8000-000000000002";
pub const PIPES: &str = "0199f0a4-7b1c-7000-8000-000000000003";

/// A store in a temporary folder.
pub struct Store {
    folder: tempfile::TempDir,
}

/// The timeline of one recording.
pub struct Timeline {
    id: Uuid,
    start: Timestamp,
    events: Vec<Event>,
}

impl Timeline {
    pub fn new(id: &str, user: &str, kind: SessionKind) -> Self {
        let mut timeline = Self {
            id: id.parse().unwrap(),
            start: "2025-10-14T08:00:00Z".parse().unwrap(),
            events: Vec::new(),
        };
        timeline.at(
            0,
            Body::SessionStart(event::SessionStart {
                host: host(),
                connection: Connection {
                    connection_id: "c1".into(),
                    client_address: Some([192, 0, 2, 7].into()),
                    client_port: Some(50022),
                    pid: 4711,
                    ..Connection::default()
                },
                session_kind: kind,
                adopted: false,
            }),
        );
        timeline.at(
            0,
            Body::Login(Login {
                user: user.into(),
                uid: Some(1000),
                method: AuthMethod::PublicKey,
                key_fingerprint: Some("SHA256:abc".into()),
                evidence: Evidence::SshdMonitor,
                ..Login::default()
            }),
        );
        timeline
    }

    pub fn at(&mut self, milliseconds: i64, body: Body) -> &mut Self {
        self.events.push(Event {
            seq: self.events.len() as u64 + 1,
            time: self.start + milliseconds.milliseconds(),
            boot_ns: 1_000_000_000 + milliseconds as u64 * 1_000_000,
            body,
        });
        self
    }

    pub fn granted(&mut self) -> &mut Self {
        self.at(
            0,
            Body::Grant(Box::new(GrantMatch {
                status: GrantStatus::Granted,
                grant: Some(Grant {
                    request_id: "REQ-7".into(),
                    requester: "alice".into(),
                    approvers: vec!["bob".into()],
                    access_flow: "oncall".into(),
                    reason: "disk full".into(),
                    ..Grant::default()
                }),
                ..GrantMatch::default()
            })),
        )
    }

    pub fn output(&mut self, milliseconds: i64, stream: Stream, bytes: &[u8]) -> &mut Self {
        self.at(
            milliseconds,
            Body::Output(event::Output {
                stream,
                terminal: (stream == Stream::Terminal).then_some(0),
                offset: 0,
                data: Bytes(bytes.to_vec()),
                omitted_bytes: None,
            }),
        )
    }

    pub fn resize(&mut self, milliseconds: i64, columns: u16, rows: u16) -> &mut Self {
        self.at(
            milliseconds,
            Body::Resize(event::Resize {
                terminal: 0,
                columns,
                rows,
            }),
        )
    }

    pub fn exec(&mut self, milliseconds: i64, argv: &[&str]) -> &mut Self {
        self.at(
            milliseconds,
            Body::Exec(event::Exec {
                pid: 100,
                parent_pid: 99,
                exe: argv[0].into(),
                filename: argv[0].into(),
                cwd: "/root".into(),
                argv: argv.iter().map(|word| (*word).to_owned()).collect(),
                argv_base64: None,
                argv_bytes: 10,
                argv_truncated: false,
                uid: 1000,
                euid: 0,
                login_uid: None,
                exe_deleted: false,
            }),
        );
        let exec_seq = Some(self.events.len() as u64);
        self.at(
            milliseconds + 5,
            Body::Exit(event::Exit {
                pid: 100,
                exec_seq,
                status: event::ExitStatus {
                    exit_code: Some(3),
                    signal: None,
                },
                duration_ns: 5_000_000,
            }),
        )
    }

    pub fn end(&mut self, milliseconds: i64) -> &mut Self {
        self.at(
            milliseconds,
            Body::SessionEnd(event::SessionEnd {
                reason: event::EndReason::Exited,
                status: event::ExitStatus {
                    exit_code: Some(0),
                    signal: None,
                },
                running_processes: 0,
            }),
        )
    }
}

/// A recording that is written chunk by chunk.
pub struct Growing {
    key: SessionKey,
    id: Uuid,
    chunks: Vec<ChunkEntry>,
    head: Digest,
    summary: Summary,
    /// How many are written.
    events: usize,
}

impl Growing {
    pub fn of(timeline: &Timeline) -> Self {
        Self::new(timeline.id, timeline.start)
    }

    fn new(id: Uuid, start: Timestamp) -> Self {
        Self {
            key: SessionKey::new("host-1", id, start).unwrap(),
            id,
            chunks: Vec::new(),
            head: Digest::ZERO,
            summary: Summary::default(),
            events: 0,
        }
    }

    fn put(&mut self, store: &Store, events: &[Event]) {
        let header = Header {
            format: FORMAT.to_owned(),
            host_id: "host-1".into(),
            boot_id: "boot".into(),
            session_id: self.id,
            chunk: self.chunks.len() as u32,
            previous_chain_head: self.head,
            first_seq: events[0].seq,
            created_at: events[0].time,
            input: false,
        };
        let mut writer = ChunkWriter::new(Vec::new(), header).unwrap();
        for event in events {
            writer.append(event).unwrap();
            self.summary.apply(event);
        }
        self.events += events.len();
        let (sealed, bytes) = writer.finish().unwrap();
        let entry = ChunkEntry::new(&self.key, &sealed);
        self.head = entry.chain_head;
        store.write(&entry.key.to_string(), &bytes);
        self.chunks.push(entry);
    }

    /// Writes the manifest.
    pub fn seal(mut self, store: &Store) {
        let session = &mut self.summary.session;
        session.session_id = self.id;
        session.verdict = match session.counts.gaps {
            0 => Verdict::Complete,
            _ => Verdict::Lossy,
        };
        let manifest = Manifest::sealed(self.summary.session, self.chunks, self.summary.gaps);
        let name = self.key.object(manifest.name()).to_string();
        store.write(&name, &manifest.to_json().unwrap());
    }
}

fn host() -> Host {
    Host {
        host_id: "host-1".into(),
        hostname: "web-1".into(),
        boot_id: "boot".into(),
        capture_mode: "tracepoint".into(),
        ..Default::default()
    }
}

impl Store {
    pub fn empty() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// One session of each kind.
    pub fn filled() -> Self {
        let store = Self::empty();
        store.add(&mut pty());
        store.add(&mut hostile());
        store.add(&mut pipes());
        store
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a recording of two chunks and its manifest.
    pub fn add(&self, timeline: &mut Timeline) {
        let half = timeline.events.len().div_ceil(2);
        let mut growing = Growing::new(timeline.id, timeline.start);
        for events in timeline.events.chunks(half) {
            growing.put(self, events);
        }
        growing.seal(self);
    }

    /// Writes what is new of a session that goes on, as a chunk.
    pub fn grow(&self, growing: &mut Growing, timeline: &Timeline) {
        let known = growing.events;
        growing.put(self, &timeline.events[known..]);
    }

    /// An object is there whole or not at all, as in a store.
    fn write(&self, key: &str, bytes: &[u8]) {
        let path = self.path().join(key);
        let part = path.with_file_name(".part");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&part, bytes).unwrap();
        std::fs::rename(part, path).unwrap();
    }

    /// Chunk `number` of a session.
    pub fn chunk(&self, id: &str, number: u32) -> PathBuf {
        let folder = format!("v1/host=host-1/date=2025-10-14/session={id}");
        self.path()
            .join(folder)
            .join(format!("{number:06}.jsonl.zst"))
    }

    /// Runs the binary on this store alone.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = auditty();
        command.arg("--store").arg(self.path()).args(arguments);
        Ran::new(command.output().unwrap())
    }
}

/// The binary in a clean environment.
pub fn auditty() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditty"));
    command.env_clear().env("TZ", "UTC");
    command
}

/// What a run printed.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn new(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The output of a run that must have gone well.
    pub fn good(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        assert_eq!(self.err, "", "{self:?}");
        self.out
    }

    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.good()).unwrap()
    }
}

/// An interactive session with colours, a pause, masked input and a gap.
pub fn pty() -> Timeline {
    let mut timeline = Timeline::new(PTY, "alice", SessionKind::Shell);
    timeline
        .granted()
        .resize(0, 80, 24)
        .output(10, Stream::Terminal, b"\x1b[1;32malice@web-1\x1b[0m:~$ ")
        .exec(1000, &["/usr/bin/rm", "-rf", "a b"])
        .output(1500, Stream::Terminal, b"rm -rf 'a b'\r\ngr\xc3")
        .output(1600, Stream::Terminal, b"\xbcn\r\n")
        .at(
            2000,
            Body::Input(event::Input {
                stream: Stream::Terminal,
                terminal: Some(0),
                offset: 0,
                data: Bytes(Vec::new()),
                masked_bytes: Some(9),
                omitted_bytes: None,
                encrypted_bytes: None,
            }),
        )
        .output(
            61_000,
            Stream::Terminal,
            b"\x1b[31mred\x1b[0m after a pause\r\n",
        )
        .at(
            61_500,
            Body::Gap(event::Gap {
                cause: event::GapCause::RingFull,
                class: event::GapClass::Output,
                events: Some(3),
                bytes: Some(4096),
                stream: Some(Stream::Terminal),
                terminal: Some(0),
                offset: Some(99),
                from_boot_ns: 1,
                to_boot_ns: 2,
            }),
        )
        .output(62_000, Stream::Terminal, b"the end\r\n")
        .end(62_500);
    timeline
}

/// Everything a recording can try against the viewer's terminal.
pub fn hostile() -> Timeline {
    let mut timeline = Timeline::new(
        HOSTILE,
        "e\u{1b}]0;pwned\u{7}ve\u{202e}",
        SessionKind::Shell,
    );
    timeline
        .resize(0, u16::MAX, u16::MAX)
        .resize(5, 40, 10)
        .exec(6, &["/bin/\u{1b}[2Jsh", "\u{9b}31m"])
        .output(10, Stream::Terminal, b"\x1b]52;c;cHduZWQ=\x07")
        .output(
            20,
            Stream::Terminal,
            b"\x1b]0;pwned\x07\x1bP$qm\x1b\\\x1b[6n\x1b[c\x1b[21t",
        )
        .output(30, Stream::Terminal, b"\xff\xfe\x80\xe2\x80\xae binary\r\n")
        .output(40, Stream::Terminal, b"\x1b[?1049h\x1b[2J\x1b[Halternate")
        .end(50);
    timeline
}

/// A command without a terminal.
pub fn pipes() -> Timeline {
    let mut timeline = Timeline::new(PIPES, "carol", SessionKind::Exec);
    timeline
        .output(10, Stream::Stdout, b"one\ntwo\x1b[31m\n")
        .output(20, Stream::Stderr, b"bad \x1b]0;x\x07\n")
        .end(50);
    timeline
}
