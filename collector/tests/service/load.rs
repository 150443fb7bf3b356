//! A fleet's reports into a collector of its own process, over gRPC, and then
//! questions: what is found is right, and how long it takes is printed, in the
//! lines that `cargo xtask bench` makes its tables of.
//!
//! Small by default. `cargo xtask load` sets the variables.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step outside a test function ends the test as well"
)]

use std::{
    env, fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::common::*;
use auditty_collector::Location;
use auditty_proto::v1::{
    self, ingest_service_client::IngestServiceClient, session_service_client::SessionServiceClient,
};
use prost_types::Timestamp;
use tonic::transport::{Channel, Endpoint};

/// Connections that agents share, one request on each at a time.
const CONNECTIONS: u64 = 16;
/// Commands of a session, which are one batch with their ends.
const SESSION: u64 = 50;
const USERS: u64 = 50;
/// 2026-01-01, and how long the reports are about.
const BEGIN: i64 = 1_767_225_600;
const DAYS: i64 = 30;
/// One command in so many has a text that no other has.
const RARE: u64 = 1000;

#[derive(Clone, Copy)]
struct Fleet {
    agents: u64,
    sessions: u64,
    questions: u64,
}

impl Fleet {
    fn asked_for() -> Self {
        let number = |name: &str, default| {
            let set = env::var(format!("AUDITTY_TEST_LOAD_{name}"));
            set.map_or(default, |text| text.parse().unwrap())
        };
        Self {
            agents: number("AGENTS", 20),
            sessions: number("COMMANDS", 5_000_u64).div_ceil(SESSION),
            questions: number("QUESTIONS", 5),
        }
    }

    /// Sessions follow each other over all hosts, newest last; each goes on while
    /// the next ones begin.
    fn begin_ns(self, session: u64) -> i64 {
        let span = i128::from(DAYS * 86_400) * 1_000_000_000;
        let at = span * i128::from(session) / i128::from(self.sessions);
        BEGIN * 1_000_000_000 + i64::try_from(at).unwrap()
    }

    fn host(self, session: u64) -> u64 {
        session % self.agents
    }
}

/// Spreads numbers: the same at every run.
fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
}

fn time(ns: i64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: ns.div_euclid(1_000_000_000),
        nanos: i32::try_from(ns.rem_euclid(1_000_000_000)).unwrap(),
    })
}

fn argv(number: u64) -> Vec<String> {
    let chance = mix(number);
    let (a, b) = (chance % 97, chance / 97 % 9973);
    let line = match chance / 1_000_003 % 12 {
        _ if number % RARE == RARE - 1 => format!("/opt/deploy/run --ticket needle-{number}-x"),
        0 => format!("systemctl status service-{a}.service"),
        1 => format!("ls -la /srv/app-{a}/releases/{b}"),
        2 => format!("grep -rn error-{b} /var/log/app-{a}.log"),
        3 => format!("tail -n {b} /var/log/syslog.{a}"),
        4 => format!("kubectl get pods -n team-{a} --selector=app=web-{b}"),
        5 => "git status".to_owned(),
        6 => format!("cat /proc/{b}/status"),
        7 => format!("psql -h db-{a}.internal -c 'select {b}'"),
        8 => format!("curl -sS https://api-{a}.internal/v1/items/{b}"),
        9 => format!("sudo journalctl -u worker@{a} --since -{b}m"),
        10 => format!("vim /etc/app/conf.d/{a}-{b}.yaml"),
        _ => format!("sh -c 'df -h | sort -k{a} | head -{b}'"),
    };
    line.split(' ').map(str::to_owned).collect()
}

fn reports(fleet: Fleet, number: u64) -> v1::ReportRequest {
    let begin = fleet.begin_ns(number);
    let host = format!("host-{}", fleet.host(number));
    let mut session = session(number);
    session.start_time = time(begin);
    session.end_time = time(begin + 1_800_000_000_000);
    session.state = v1::SessionState::Closed.into();
    session.host = Some(v1::Host {
        host_id: host.clone(),
        hostname: host.clone(),
        ..Default::default()
    });
    session.login = Some(v1::Login {
        user: format!("user-{}", mix(number) % USERS),
        ..Default::default()
    });
    let mut reports = vec![changed_report(session, 1)];
    for seq in 1..=SESSION {
        let of_all = number * SESSION + seq - 1;
        let argv = argv(of_all);
        let after = i64::try_from(seq * 36_000_000_000 + mix(of_all) % 36_000_000_000).unwrap();
        let command = v1::Command {
            name: format!("sessions/{}/commands/{seq}", session_id(number)),
            seq,
            start_time: time(begin + after),
            pid: 1000 + u32::try_from(seq).unwrap(),
            exe: format!("/usr/bin/{}", argv[0]),
            cwd: "/srv".into(),
            argv,
            uid: 1000,
            exit_code: Some(u32::from(mix(of_all).is_multiple_of(20))),
            duration: Some(prost_types::Duration {
                seconds: 1,
                nanos: 0,
            }),
            ..Default::default()
        };
        reports.push(fact(v1::report::Fact::Command(v1::CommandReport {
            session_id: session_id(number),
            command: Some(command),
        })));
    }
    v1::ReportRequest {
        host_id: host,
        boot_id: "boot".into(),
        reports,
        ..Default::default()
    }
}

/// A collector's process, ended with this.
struct Process {
    child: Child,
    socket: PathBuf,
}

impl Process {
    async fn start(database: &Database) -> Self {
        let folder = database.folder.path();
        let socket = folder.join("load.sock");
        let place = match &database.location {
            Location::Sqlite(path) => path.display().to_string(),
            Location::Postgres(url) => url.clone(),
        };
        let config = format!(
            "listen = [\"unix:{}\"]\ndatabase = \"{place}\"\nsigning_key = \"{}\"\n\
             [limits]\nrequests_per_second = 100000\nburst = 100000\n",
            socket.display(),
            folder.join("key").display(),
        );
        let file = folder.join("collector.toml");
        fs::write(&file, config).unwrap();
        let mut collector = Command::new(env!("CARGO_BIN_EXE_auditty-collector"));
        collector.arg("--config").arg(file).stdin(Stdio::null());
        let child = collector.stderr(Stdio::null()).stdout(Stdio::null());
        let mut process = Self {
            child: child.spawn().unwrap(),
            socket,
        };
        let begin = Instant::now();
        while process.connect().await.is_err() {
            assert_eq!(process.child.try_wait().unwrap(), None);
            assert!(begin.elapsed() < Duration::from_secs(60), "does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        process
    }

    async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        let target = format!("unix://{}", self.socket.display());
        Endpoint::try_from(target)?.connect().await
    }

    /// Most memory it has had, MiB.
    fn peak_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reports everything, in the order of time as fast as it is taken; seconds.
async fn ingest(collector: &Process, fleet: Fleet) -> f64 {
    let (begin, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut client = IngestServiceClient::new(collector.connect().await.unwrap());
        let next = Arc::clone(&next);
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= fleet.sessions {
                    return;
                }
                client.report(reports(fleet, number)).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    begin.elapsed().as_secs_f64()
}

type Client = SessionServiceClient<Channel>;

/// How many items a question finds on its first page.
enum Question {
    Sessions(v1::ListSessionsRequest),
    Commands(v1::ListCommandsRequest),
}

impl Question {
    async fn ask(self, client: &mut Client) -> usize {
        match self {
            Self::Sessions(request) => {
                let answer = client.list_sessions(request).await.unwrap().into_inner();
                answer.sessions.len()
            }
            Self::Commands(request) => {
                let answer = client.list_commands(request).await.unwrap().into_inner();
                answer.commands.len()
            }
        }
    }
}

fn search(filter: String) -> Question {
    commands("sessions/-".into(), filter)
}

fn commands(parent: String, filter: String) -> Question {
    Question::Commands(v1::ListCommandsRequest {
        parent,
        filter,
        page_size: 100,
        ..Default::default()
    })
}

/// The questions by the id of their measure: what is asked the n-th time, and
/// whether a number of findings is right.
type Case = (&'static str, fn(Fleet, u64) -> Question, fn(usize) -> bool);

const CASES: [Case; 9] = [
    (
        "user",
        |fleet, n| {
            let user = mix(mix(n) % fleet.sessions) % USERS;
            Question::Sessions(v1::ListSessionsRequest {
                filter: format!("user = user-{user}"),
                ..Default::default()
            })
        },
        |found| found > 0,
    ),
    (
        "minute",
        |fleet, n| {
            let session = mix(n) % fleet.sessions;
            let at = fleet.begin_ns(session) + 60_000_000_000;
            Question::Sessions(v1::ListSessionsRequest {
                filter: format!("hostname = host-{}", fleet.host(session)),
                going_on_from_time: time(at),
                going_on_until_time: time(at + 60_000_000_000),
                ..Default::default()
            })
        },
        |found| found > 0,
    ),
    (
        "session",
        |fleet, n| {
            let id = session_id(mix(n) % fleet.sessions);
            commands(format!("sessions/{id}"), String::new())
        },
        |found| found == SESSION as usize,
    ),
    (
        "text",
        |fleet, n| {
            let all = fleet.sessions * SESSION / RARE;
            let number = mix(n) % all * RARE + RARE - 1;
            search(format!("command_line : \"NEEDLE-{number}-x\""))
        },
        |found| found == 1,
    ),
    (
        "text.10000",
        |_, n| search(format!("command_line : \"error-{} \"", mix(n) % 9973)),
        |_| true,
    ),
    (
        "text.12",
        |_, _| search("command_line : systemctl".into()),
        |found| found == 100,
    ),
    (
        "text.none",
        |_, n| search(format!("command_line : \"nobody-typed-{n}\"")),
        |found| found == 0,
    ),
    (
        "text.host",
        |fleet, n| {
            let host = mix(n) % fleet.agents;
            search(format!(
                "command_line : kubectl AND session.hostname = host-{host}"
            ))
        },
        |_| true,
    ),
    (
        "failed",
        |_, _| search("exit_code = 1".into()),
        |found| found == 100,
    ),
];

/// The middle, and what one in a hundred takes longer than, milliseconds.
async fn latency(collector: &Process, fleet: Fleet, case: &Case) -> (f64, f64) {
    let mut client = Client::new(collector.connect().await.unwrap());
    let mut all = Vec::new();
    for n in 0..fleet.questions {
        let question = case.1(fleet, n);
        let begin = Instant::now();
        let found = question.ask(&mut client).await;
        all.push(begin.elapsed().as_secs_f64() * 1000.0);
        assert!(case.2(found), "{}, time {n}: {found} found", case.0);
    }
    all.sort_by(f64::total_cmp);
    let at = |part: f64| all[((all.len() - 1) as f64 * part).round() as usize];
    (at(0.5), at(0.99))
}

/// What was measured on a database with so many commands, as lines.
struct Samples {
    column: String,
    /// libtest leaves its own line open.
    lines: String,
}

impl Samples {
    fn new(database: &str, commands: u64) -> Self {
        let digits = commands.to_string();
        let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().collect();
        let commands = String::from_utf8(groups.join(&b',')).unwrap();
        Self {
            column: format!("{database}, {commands}"),
            lines: "\n".to_owned(),
        }
    }

    fn add(&mut self, measure: &str, value: f64) {
        let column = &self.column;
        self.lines += &format!("sample\tcollector.{measure}\t{column}\t0\t{value}\n");
    }
}

on_both! {
    async fn a_fleet_reports_and_is_asked(database) {
        let fleet = Fleet::asked_for();
        let collector = Process::start(&database).await;
        let seconds = ingest(&collector, fleet).await;
        let commands = fleet.sessions * SESSION;
        let (name, bytes) = match &database.location {
            Location::Sqlite(path) => ("SQLite", fs::metadata(path).unwrap().len()),
            Location::Postgres(url) => {
                let pool = sqlx::PgPool::connect(url).await.unwrap();
                // What its own housekeeping does within minutes.
                sqlx::raw_sql("VACUUM ANALYZE").execute(&pool).await.unwrap();
                let size = sqlx::query_scalar("SELECT pg_database_size(current_database())");
                let bytes: i64 = size.fetch_one(&pool).await.unwrap();
                pool.close().await;
                ("PostgreSQL", bytes.unsigned_abs())
            }
        };
        let mut samples = Samples::new(name, commands);
        samples.add("ingest", commands as f64 / seconds);
        samples.add("bytes", bytes as f64 / commands as f64);
        samples.add("memory.ingest", collector.peak_mib());
        for case in &CASES {
            let (middle, late) = latency(&collector, fleet, case).await;
            samples.add(&format!("{}.p50", case.0), middle);
            samples.add(&format!("{}.p99", case.0), late);
        }
        samples.add("memory", collector.peak_mib());
        print!("{}", samples.lines);
    }
}
