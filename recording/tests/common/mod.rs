//! Recordings to test with.
#![allow(dead_code, reason = "each test program uses a part")]

use auditty_recording::{
    Bytes,
    chunk::{ChunkWriter, SealedChunk},
    digest::Digest,
    event::*,
    format::{FORMAT, Header},
    key::SessionKey,
    manifest::{ChunkEntry, Manifest},
    session::*,
    store::{AnyStore, Body as StoreBody},
    summary::Summary,
};
use jiff::Timestamp;
use uuid::Uuid;

pub const SECOND: u64 = 1_000_000_000;
pub const HOST_ID: &str = "web-1";

pub fn start() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().unwrap()
}

pub fn new_session_key() -> SessionKey {
    SessionKey::new(HOST_ID, Uuid::now_v7(), start()).unwrap()
}

/// An event whose place in time is its sequence number in seconds.
pub fn event(seq: u64, body: Body) -> Event {
    let time = start() + jiff::SignedDuration::from_secs(seq as i64);
    Event {
        seq,
        time,
        boot_ns: seq * SECOND,
        body,
    }
}

pub fn output(bytes: &[u8]) -> Body {
    Body::Output(Output {
        stream: Stream::Terminal,
        terminal: Some(0),
        offset: 0,
        data: Bytes(bytes.to_vec()),
        omitted_bytes: None,
    })
}

pub fn input(bytes: &[u8], masked_bytes: Option<u64>) -> Body {
    Body::Input(Input {
        stream: Stream::Terminal,
        terminal: Some(0),
        offset: 0,
        data: Bytes(bytes.to_vec()),
        masked_bytes,
        omitted_bytes: None,
        encrypted_bytes: None,
    })
}

pub fn resize(columns: u16, rows: u16) -> Body {
    Body::Resize(Resize {
        terminal: 0,
        columns,
        rows,
    })
}

pub fn session_start() -> Body {
    Body::SessionStart(SessionStart {
        host: Host {
            host_id: HOST_ID.to_owned(),
            hostname: "web-1.example".to_owned(),
            boot_id: "b00t".to_owned(),
            capture_mode: "tracepoint".to_owned(),
            ..Default::default()
        },
        connection: Connection {
            pid: 7,
            ..Connection::default()
        },
        session_kind: SessionKind::Exec,
        adopted: false,
    })
}

pub fn session_end(exit_code: Option<u8>, signal: Option<u8>) -> Body {
    Body::SessionEnd(SessionEnd {
        reason: EndReason::Exited,
        status: ExitStatus { exit_code, signal },
        running_processes: 0,
    })
}

pub fn exec(argv: &[&str]) -> Body {
    Body::Exec(Exec {
        pid: 10,
        parent_pid: 7,
        exe: "/bin/bash".to_owned(),
        filename: "/bin/bash".to_owned(),
        cwd: "/root".to_owned(),
        argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
        argv_base64: None,
        argv_bytes: 20,
        argv_truncated: false,
        uid: 0,
        euid: 0,
        login_uid: None,
        exe_deleted: false,
    })
}

pub fn gap() -> Body {
    Body::Gap(Gap {
        cause: GapCause::RingFull,
        class: GapClass::Output,
        events: Some(2),
        bytes: Some(300),
        stream: Some(Stream::Terminal),
        terminal: Some(0),
        offset: Some(5),
        from_boot_ns: 1,
        to_boot_ns: 2,
    })
}

/// One event of every kind.
pub fn one_of_each() -> Vec<Event> {
    let bodies = [
        session_start(),
        Body::Login(Login {
            user: "ana".to_owned(),
            uid: Some(1000),
            ..Login::default()
        }),
        Body::Grant(Box::default()),
        Body::TerminalOpen(TerminalOpen {
            terminal: 0,
            name: "pts/3".to_owned(),
            pid: None,
            exe: None,
        }),
        resize(120, 40),
        exec(&["bash", "-c", "make test"]),
        output("grün\u{1b}[0m\r\n".as_bytes()),
        output(b"\xff\xfe\x00binary"),
        input(b"ls\r", None),
        input(b"", Some(9)),
        Body::Exit(Exit {
            pid: 10,
            exec_seq: Some(6),
            status: ExitStatus {
                exit_code: Some(2),
                signal: None,
            },
            duration_ns: 5,
        }),
        Body::File(File {
            pid: 10,
            operation: FileOperation::Rename,
            path: "/etc/motd".to_owned(),
            target: Some("/etc/motd.old".to_owned()),
            path_as_given: true,
            mode: None,
            uid: None,
            gid: None,
            errno: Some(13),
        }),
        Body::Transfer(Transfer {
            pid: 10,
            protocol: TransferProtocol::Sftp,
            direction: TransferDirection::Upload,
            path: "/tmp/a".to_owned(),
            bytes: 7,
            mode: Some(0o644),
            duration_ns: 9,
            errno: None,
        }),
        Body::Connect(Connect {
            pid: 10,
            forwarded: true,
            role: ConnectRole::Connect,
            local: None,
            remote: "[2001:db8::1]:443".parse().ok(),
            unix_path: None,
        }),
        Body::Disconnect(Disconnect {
            connect_seq: 14,
            sent_bytes: Some(1),
            received_bytes: None,
            duration_ns: 3,
        }),
        Body::Link(Link {
            relation: LinkRelation::DrivenBy,
            session_id: Uuid::nil(),
            pid: 10,
        }),
        Body::Handoff(Handoff {
            exec_seq: 6,
            pid: 10,
            to: HandoffTo::Cron,
        }),
        gap(),
        Body::Marker(Marker {
            marker: "recovered".to_owned(),
            message: "m".to_owned(),
        }),
        session_end(Some(2), None),
    ];
    (1..)
        .zip(bodies)
        .map(|(seq, body)| event(seq, body))
        .collect()
}

pub fn header(key: &SessionKey, chunk: u32, head: Digest, first_seq: u64) -> Header {
    Header {
        format: FORMAT.to_owned(),
        host_id: key.host_id().to_owned(),
        boot_id: "b00t".to_owned(),
        session_id: key.session_id(),
        chunk,
        previous_chain_head: head,
        first_seq,
        created_at: start(),
        input: false,
    }
}

pub fn seal(header: Header, events: &[Event]) -> (SealedChunk, Vec<u8>) {
    let mut writer = ChunkWriter::new(Vec::new(), header).unwrap();
    for event in events {
        writer.append(event).unwrap();
    }
    writer.finish().unwrap()
}

/// A recording in memory: chunks with their entries, and the sealed manifest.
pub struct Built {
    pub key: SessionKey,
    pub chunks: Vec<(ChunkEntry, Vec<u8>)>,
    pub manifest: Manifest,
}

pub fn build(key: &SessionKey, events: &[Event], per_chunk: usize) -> Built {
    let (mut head, mut chunks) = (Digest::ZERO, Vec::new());
    for (number, events) in (0..).zip(events.chunks(per_chunk)) {
        let (sealed, bytes) = seal(header(key, number, head, events[0].seq), events);
        let entry = ChunkEntry::new(key, &sealed);
        head = entry.chain_head;
        chunks.push((entry, bytes));
    }
    let mut summary = Summary::default();
    events.iter().for_each(|event| summary.apply(event));
    summary.session.session_id = key.session_id();
    summary.session.verdict = Verdict::Complete;
    let entries = chunks.iter().map(|(entry, _)| entry.clone()).collect();
    let manifest = Manifest::sealed(summary.session, entries, summary.gaps);
    Built {
        key: key.clone(),
        chunks,
        manifest,
    }
}

impl Built {
    pub async fn put_chunk(&self, store: &AnyStore, number: usize) {
        let (entry, bytes) = &self.chunks[number];
        let body = StoreBody::from(bytes.clone());
        store.put_new(&entry.key.to_string(), body).await.unwrap();
    }

    pub async fn put_manifest(&self, store: &AnyStore, manifest: &Manifest) {
        let key = self.key.object(manifest.name()).to_string();
        let json = manifest.to_json().unwrap();
        store.put_new(&key, json.into()).await.unwrap();
    }

    pub async fn put_all(&self, store: &AnyStore) {
        for number in 0..self.chunks.len() {
            self.put_chunk(store, number).await;
        }
        self.put_manifest(store, &self.manifest).await;
    }
}
