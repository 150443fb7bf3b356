//! A real server over a real database, and generated sessions.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "every test file uses a part of it, and a failed step ends the test"
)]

pub mod postgres;

use std::{io::Write, sync::OnceLock};

use auditty_collector::{
    Access, Countersigner, ListenAddress, Listeners, Location, ServeError, Store, serve,
};
use auditty_proto::v1::{
    self, evidence_service_client::EvidenceServiceClient,
    ingest_service_client::IngestServiceClient, session_service_client::SessionServiceClient,
};
use prost_types::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

pub const HOST: &str = "host-1";

/// Says loudly that a test cannot run here; `cargo xtask test` counts it.
pub fn skipped(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let line = format!("\nSKIPPED {test}: {reason}\n");
    // Past the capture of the test's output.
    let _ = std::io::stdout().write_all(line.as_bytes());
}

/// A database of a test's own, and a folder for what else it needs.
pub struct Database {
    pub folder: tempfile::TempDir,
    pub location: Location,
}

impl Database {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(folder.path().join("c.db"));
        Self { folder, location }
    }

    pub fn postgres() -> Option<Self> {
        Some(Self {
            location: postgres::database()?.parse().unwrap(),
            folder: tempfile::tempdir().unwrap(),
        })
    }

    /// Another one of its kind, empty.
    pub fn fresh(&self) -> Self {
        match self.location {
            Location::Sqlite(_) => Self::sqlite(),
            Location::Postgres(_) => Self::postgres().unwrap(),
        }
    }

    pub async fn open(&self) -> Store {
        Store::open(&self.location).await.unwrap()
    }

    pub async fn collector(&self) -> Collector {
        Collector::start(&self.location, "127.0.0.1:0").await
    }
}

/// Makes two tests of each: one on SQLite, one on PostgreSQL.
macro_rules! on_both {
    ($(async fn $name:ident($database:ident) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn check($database: Database) $body

            #[tokio::test]
            async fn sqlite() {
                check(Database::sqlite()).await;
            }

            #[tokio::test]
            async fn postgres() {
                if let Some(database) = Database::postgres() {
                    check(database).await;
                }
            }
        }
    )*};
}

/// The same key in every test of a process.
pub fn signer() -> Countersigner {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().unwrap());
    Countersigner::open(&folder.path().join("collector.key")).unwrap()
}

pub struct Collector {
    pub address: ListenAddress,
    pub store: Store,
    shutdown: CancellationToken,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Collector {
    pub async fn start(database: &Location, listen: &str) -> Self {
        Self::start_with(database, listen, Access::default()).await
    }

    pub async fn start_with(database: &Location, listen: &str, access: Access) -> Self {
        let store = Store::open(database).await.unwrap();
        let listeners = Listeners::bind(&[listen.parse().unwrap()], access.tls.is_some())
            .await
            .unwrap();
        let address = listeners.addresses().next().unwrap().clone();
        let shutdown = CancellationToken::new();
        let serving = serve(listeners, store.clone(), signer(), access, shutdown.clone());
        let serving = tokio::spawn(serving);
        Self {
            address,
            store,
            shutdown,
            serving,
        }
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap().unwrap();
        self.store.close().await;
    }

    pub async fn channel(&self) -> Channel {
        let target = match &self.address {
            ListenAddress::Tcp(address) => format!("http://{address}"),
            ListenAddress::Unix(path) => format!("unix://{}", path.display()),
        };
        Endpoint::try_from(target).unwrap().connect().await.unwrap()
    }

    pub async fn ingest(&self) -> IngestServiceClient<Channel> {
        IngestServiceClient::new(self.channel().await)
    }

    pub async fn evidence(&self) -> EvidenceServiceClient<Channel> {
        EvidenceServiceClient::new(self.channel().await)
    }

    pub async fn query(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel().await)
    }
}

pub fn session_id(number: u64) -> String {
    Uuid::from_u128(0x0199_e0a4_7b1c_7000_8000_0000_0000_0000 + u128::from(number)).to_string()
}

/// Every field takes few values, so that filters hit and miss.
pub fn session(number: u64) -> v1::Session {
    let pick = |step: u64, of: &[&str]| of[(number / step) as usize % of.len()].to_owned();
    let time = |nanoseconds: u64| Timestamp {
        seconds: 1_767_225_600 + (nanoseconds / 10) as i64,
        nanos: (nanoseconds % 10) as i32,
    };
    let ended = !number.is_multiple_of(3);
    let certificate = (number.is_multiple_of(4)).then(|| v1::Certificate {
        key_id: pick(4, &["alice@corp", "BOB's \"key\"", "", "%_\\"]),
        serial: [0, 7, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX][(number / 4) as usize % 5],
        ca_fingerprint: pick(8, &["SHA256:ca1", "SHA256:ca2"]),
        principals: match number % 3 {
            0 => vec![],
            1 => vec!["Bob".into()],
            _ => vec!["ops".into(), "alice@corp".into(), "alice@corp".into()],
        },
        ..Default::default()
    });
    let grant = (number.is_multiple_of(2)).then(|| v1::Grant {
        request_id: format!("REQ-{}", number % 5),
        requester: pick(1, &["alice", "bob"]),
        approvers: match number % 3 {
            0 => vec![],
            1 => vec!["Carol".into()],
            _ => vec!["carol".into(), "dave".into(), "dave".into()],
        },
        access_flow: pick(2, &["oncall", "breakglass"]),
        ticket: pick(3, &["", "INC-1", "inc-1"]),
        ..Default::default()
    });
    v1::Session {
        name: format!("sessions/{}", session_id(number)),
        session_id: session_id(number),
        host: Some(v1::Host {
            host_id: HOST.into(),
            hostname: pick(1, &["web-1", "web-2", "db"]),
            boot_id: "boot".into(),
            capture_mode: "tracepoint".into(),
            labels: match number % 4 {
                0 => [].into(),
                1 => [("env".into(), "prod".into())].into(),
                _ => [
                    ("env".into(), "Test".into()),
                    ("a/b-c".into(), "x=y".into()),
                ]
                .into(),
            },
        }),
        connection: Some(v1::Connection {
            client_address: pick(2, &["10.0.0.1", "", "::1"]),
            ..Default::default()
        }),
        login: Some(v1::Login {
            user: pick(1, &["alice", "Alice", "grün", "GRÜN", "nul\0x", "a'b"]),
            uid: (!number.is_multiple_of(5)).then_some((number % 3) as u32),
            method: (number % 7) as i32,
            key_fingerprint: pick(1, &["SHA256:a", "SHA256:b", ""]),
            certificate,
            ..Default::default()
        }),
        grant: Some(v1::GrantMatch {
            status: (number % 5) as i32,
            grant,
            ..Default::default()
        }),
        kind: (number % 4) as i32,
        command: pick(1, &["", "uptime", "rm -rf /", "100%_done"]),
        terminal: pick(1, &["pts/0", ""]),
        state: if ended { 2 } else { 1 },
        // Some start at the same moment.
        start_time: Some(time(number / 2)),
        end_time: ended.then(|| time(number + 3)),
        end_reason: (number % 5) as i32,
        exit_code: (ended && number.is_multiple_of(2)).then_some((number % 3) as u32),
        adopted: number.is_multiple_of(6),
        parent_session_id: match number % 7 {
            0 => session_id(number / 7),
            _ => String::new(),
        },
        verdict: (number % 5) as i32,
        ..Default::default()
    }
}

pub fn command(session: u64, seq: u64) -> v1::Command {
    v1::Command {
        name: format!("sessions/{}/commands/{seq}", session_id(session)),
        seq,
        start_time: Some(Timestamp {
            seconds: 1_767_225_600 + seq as i64,
            nanos: 0,
        }),
        pid: 100 + seq as u32,
        parent_pid: 100,
        exe: ["/usr/bin/ls", "/usr/bin/rm"][seq as usize % 2].into(),
        argv: vec![
            ["ls", "rm"][seq as usize % 2].into(),
            format!("-{seq}"),
            "x y".into(),
        ],
        login_uid: (seq.is_multiple_of(3)).then_some(1000),
        ..Default::default()
    }
}

/// All kinds in turn.
pub fn activity(session: u64, seq: u64) -> v1::Activity {
    use v1::activity::Activity;
    let path = ["/etc/passwd", "/tmp/grün", "/tmp/a'b"][seq as usize % 3].to_owned();
    let errno = (seq.is_multiple_of(4)).then_some(13);
    let kind = (seq % 5 + 1) as i32;
    let body = match kind {
        1 => Activity::File(v1::FileAccess {
            operation: (seq % 13) as i32,
            target: if seq.is_multiple_of(2) {
                String::new()
            } else {
                path.clone()
            },
            path,
            errno,
            ..Default::default()
        }),
        2 => Activity::Transfer(v1::Transfer {
            protocol: (seq % 5) as i32,
            direction: (seq % 3) as i32,
            path,
            byte_count: [0, 9, u64::MAX][seq as usize % 3],
            errno,
            ..Default::default()
        }),
        3 => Activity::Connect(v1::Connect {
            role: (seq % 4) as i32,
            forwarded: seq.is_multiple_of(2),
            local_address: "10.0.0.1".into(),
            local_port: 40_000 + seq as u32,
            remote_address: ["::1", ""][seq as usize % 2].into(),
            remote_port: 443,
            unix_path: ["", "/run/x"][seq as usize % 2].into(),
            ..Default::default()
        }),
        4 => Activity::Link(v1::Link {
            relation: (seq % 5) as i32,
            session_id: session_id(seq),
        }),
        _ => Activity::Handoff(v1::Handoff {
            to: (seq % 6) as i32,
            command_seq: 1,
        }),
    };
    v1::Activity {
        name: format!("sessions/{}/activities/{seq}", session_id(session)),
        seq,
        time: Some(Timestamp {
            seconds: 1_767_225_600 + seq as i64,
            nanos: 0,
        }),
        pid: 100 + (seq % 3) as u32,
        kind,
        content_withheld: false,
        activity: Some(body),
    }
}

pub fn activity_report(session: u64, seq: u64) -> v1::Report {
    fact(v1::report::Fact::Activity(v1::ActivityReport {
        session_id: session_id(session),
        activity: Some(activity(session, seq)),
    }))
}

pub fn connect_end_report(session: u64, seq: u64) -> v1::Report {
    fact(v1::report::Fact::ConnectEnd(v1::ConnectEndReport {
        session_id: session_id(session),
        seq,
        sent_byte_count: Some(7),
        received_byte_count: None,
        duration_ns: 3_000_000_000,
    }))
}

pub fn session_report(number: u64, revision: u64) -> v1::Report {
    changed_report(session(number), revision)
}

pub fn changed_report(session: v1::Session, revision: u64) -> v1::Report {
    fact(v1::report::Fact::Session(v1::SessionReport {
        revision,
        session: Some(session),
    }))
}

pub fn command_report(session: u64, seq: u64) -> v1::Report {
    fact(v1::report::Fact::Command(v1::CommandReport {
        session_id: session_id(session),
        command: Some(command(session, seq)),
    }))
}

pub fn end_report(session: u64, seq: u64) -> v1::Report {
    let killed = seq.is_multiple_of(4);
    fact(v1::report::Fact::CommandEnd(v1::CommandEndReport {
        session_id: session_id(session),
        seq,
        exit_code: (!killed).then_some((seq % 2) as u32),
        signal: killed.then_some(9),
        duration_ns: 1_000_000_001 * seq,
    }))
}

pub fn fact(fact: v1::report::Fact) -> v1::Report {
    v1::Report { fact: Some(fact) }
}

pub fn batch(reports: Vec<v1::Report>) -> v1::ReportRequest {
    v1::ReportRequest {
        host_id: HOST.into(),
        boot_id: "boot".into(),
        reports,
        host: None,
    }
}
