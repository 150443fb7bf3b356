//! Alerts: one for each cause, told to who follows, and delivered at least once.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

use std::{
    collections::BTreeSet,
    fs,
    process::{Child, Command},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::common::*;
use auditty_collector::{
    Access,
    alerts::{
        Alarm, AlarmSettings, DEFAULT_SILENCE, RuleText, SnsTarget, SyslogTarget, WebhookTarget,
    },
};
use auditty_proto::v1::{
    self, AlertKind, alert_service_client::AlertServiceClient,
    ingest_service_client::IngestServiceClient,
};
use aws_lc_rs::hmac;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket, UnixDatagram},
};
use tonic::{
    Code, Streaming,
    transport::{Channel, Endpoint},
};

const SECRET: &str = "a secret of more than thirty-two bytes";

fn settings() -> AlarmSettings {
    AlarmSettings {
        silence: DEFAULT_SILENCE,
        rules: vec![RuleText {
            name: "removed".into(),
            filter: "command_line : \"rm \"".into(),
            pattern: None,
        }],
        webhooks: Vec::new(),
        syslog: None,
        sns: None,
    }
}

async fn start(database: &Database, settings: &AlarmSettings) -> Collector {
    let access = Access {
        alarm: Alarm::load(settings).unwrap(),
        ..Access::default()
    };
    Collector::start_with(&database.location, "127.0.0.1:0", access).await
}

/// A session that goes on, whose login is as it is said.
fn login(number: u64, connection: &str, status: v1::GrantStatus) -> v1::Session {
    v1::Session {
        connection: Some(v1::Connection {
            connection_id: connection.into(),
            client_address: "192.0.2.7".into(),
            ..Default::default()
        }),
        grant: Some(v1::GrantMatch {
            status: status.into(),
            ..Default::default()
        }),
        verdict: v1::Verdict::Open.into(),
        ..session(number)
    }
}

fn ungranted(number: u64) -> v1::Report {
    let connection = format!("c{number}");
    changed_report(login(number, &connection, v1::GrantStatus::Ungranted), 1)
}

async fn client(collector: &Collector) -> AlertServiceClient<Channel> {
    AlertServiceClient::new(collector.channel().await)
}

async fn list(client: &mut AlertServiceClient<Channel>, filter: &str) -> Vec<v1::Alert> {
    let mut ask = v1::ListAlertsRequest {
        page_size: 3,
        filter: filter.into(),
        ..Default::default()
    };
    let mut alerts = Vec::new();
    loop {
        let answer = client.list_alerts(ask.clone()).await.unwrap().into_inner();
        alerts.extend(answer.alerts);
        ask.page_token = answer.next_page_token;
        if ask.page_token.is_empty() {
            return alerts;
        }
    }
}

async fn piece(pieces: &mut Streaming<v1::WatchAlertsResponse>) -> v1::WatchAlertsResponse {
    let next = tokio::time::timeout(Duration::from_secs(20), pieces.message());
    next.await.unwrap().unwrap().unwrap()
}

on_both! {

async fn each_cause_is_one_alert(database) {
    use AlertKind::*;
    let collector = start(&database, &settings()).await;
    let mut ingest = collector.ingest().await;
    let lossy = v1::Session {
        counts: Some(v1::Counts { gap_count: 1, ..Default::default() }),
        ..login(3, "c2", v1::GrantStatus::Granted)
    };
    let lossier = v1::Session {
        counts: Some(v1::Counts { gap_count: 2, ..Default::default() }),
        ..lossy.clone()
    };
    let mut outlived = login(6, "c3", v1::GrantStatus::Revoked);
    outlived.grant.as_mut().unwrap().outlived_time = outlived.start_time;
    outlived.verdict = v1::Verdict::Interrupted.into();
    let reports = vec![
        // Two sessions of one connection.
        changed_report(login(1, "c1", v1::GrantStatus::Ungranted), 1),
        changed_report(login(2, "c1", v1::GrantStatus::Ungranted), 1),
        changed_report(lossy, 1),
        changed_report(lossier, 2),
        changed_report(outlived, 1),
        // The even ones are not, and all odd ones are the same cause.
        command_report(2, 1),
        command_report(2, 2),
        command_report(2, 3),
        command_report(3, 5),
    ];
    for _ in 0..3 {
        ingest.report(batch(reports.clone())).await.unwrap();
    }
    let mut client = client(&collector).await;
    let mut alerts = list(&mut client, "").await;
    let newest_first = alerts.iter().map(|alert| alert.revision);
    assert!(newest_first.eq((1..=6).rev()), "{alerts:#?}");
    let mut kinds: Vec<_> = alerts.iter().map(v1::Alert::kind).collect();
    kinds.sort_by_key(|kind| *kind as i32);
    let expected = [
        UngrantedLogin, GrantOutlived, SessionLossy, SessionInterrupted, SensitiveCommand,
        SensitiveCommand,
    ];
    assert_eq!(kinds, expected);
    alerts.retain(|alert| alert.kind() == UngrantedLogin);
    let alert = &alerts[0];
    assert_eq!((&*alert.session_id, &*alert.user, &*alert.hostname), (&*session_id(1), "Alice", "web-2"));
    assert_eq!(alert.summary, "Alice logged in to web-2 from 192.0.2.7 without a grant");
    let commands = list(&mut client, "kind = sensitive_command AND rule = removed").await;
    assert_eq!(commands.len(), 2);
    assert_eq!(commands[1].session_id, session_id(2));
    assert_eq!(commands[1].summary, "removed: rm -1 x y");
    assert_eq!(commands[1].user, "grün");
    let wrong = v1::ListAlertsRequest { filter: "kind = x".into(), ..Default::default() };
    assert_eq!(client.list_alerts(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    collector.stop().await;
}

async fn a_pattern_names_commands(database) {
    let rule = |name: &str, filter: &str, pattern: &str| RuleText {
        name: name.into(),
        filter: filter.into(),
        pattern: Some(pattern.into()),
    };
    let rules = vec![
        rule("numbered", "", r"^rm\s+-[12]\s+x\b"),
        rule("by a user", "euid = 1000", "rm"),
        rule("in any case", "exe : rm", "(?i)RM -3"),
        rule("none", "", "^x$"),
    ];
    let collector = start(&database, &AlarmSettings { rules, ..settings() }).await;
    let reports = vec![
        session_report(2, 1),
        command_report(2, 1),
        command_report(2, 2),
        command_report(2, 3),
    ];
    collector.ingest().await.report(batch(reports)).await.unwrap();
    let found = list(&mut client(&collector).await, "kind = sensitive_command").await;
    let mut found: Vec<_> = found.iter().map(|a| (&*a.rule, &*a.summary)).collect();
    found.sort();
    assert_eq!(found.first(), Some(&("in any case", "in any case: rm -3 x y")));
    assert_eq!(found.last(), Some(&("numbered", "numbered: rm -1 x y")));
    assert_eq!(found.len(), 2);
    collector.stop().await;
}

async fn who_follows_misses_none(database) {
    let collector = start(&database, &settings()).await;
    let mut ingest = collector.ingest().await;
    ingest.report(batch(vec![ungranted(1)])).await.unwrap();
    let mut client = client(&collector).await;
    let ask = v1::WatchAlertsRequest::default();
    let mut pieces = client.watch_alerts(ask).await.unwrap().into_inner();
    let first = piece(&mut pieces).await;
    assert!(first.alerts.is_empty());
    let of_second = v1::WatchAlertsRequest {
        filter: format!("session_id = \"{}\"", session_id(2)),
        ..Default::default()
    };
    let mut filtered = client.watch_alerts(of_second).await.unwrap().into_inner();
    piece(&mut filtered).await;
    ingest.report(batch(vec![ungranted(3)])).await.unwrap();
    let second = piece(&mut pieces).await;
    assert_eq!(second.alerts[0].session_id, session_id(3));
    ingest.report(batch(vec![ungranted(2)])).await.unwrap();
    assert_eq!(piece(&mut filtered).await.alerts[0].session_id, session_id(2));
    // After a broken connection, on another collector.
    let other = database.collector().await;
    let resume = v1::WatchAlertsRequest { resume_token: first.resume_token, ..Default::default() };
    let mut client = AlertServiceClient::new(other.channel().await);
    let mut again = client.watch_alerts(resume).await.unwrap().into_inner();
    let told: Vec<_> = piece(&mut again).await.alerts.iter().map(|a| a.session_id.clone()).collect();
    assert_eq!(told, [session_id(3), session_id(2)]);
    // One of another database is told everything.
    let lost = v1::WatchAlertsRequest { resume_token: "other-1".into(), ..Default::default() };
    let mut anew = client.watch_alerts(lost).await.unwrap().into_inner();
    assert_eq!(piece(&mut anew).await.alerts.len(), 3);
    other.stop().await;
    collector.stop().await;
    while let Ok(Some(_)) = pieces.message().await {}
}

async fn a_webhook_has_every_alert_once_when_it_answers(database) {
    let (receiver, url) = Receiver::start(503).await;
    let secret = database.folder.path().join("secret");
    fs::write(&secret, SECRET).unwrap();
    let target = WebhookTarget {
        name: "soc".into(),
        url,
        secret: Some(secret),
        ca: None,
        filter: "kind = ungranted_login".into(),
    };
    let settings = AlarmSettings { webhooks: vec![target], ..settings() };
    let collector = start(&database, &settings).await;
    // Two collectors over one database do not tell everything twice.
    let other = match database.location {
        auditty_collector::Location::Postgres(_) => Some(start(&database, &settings).await),
        auditty_collector::Location::Sqlite(_) => None,
    };
    receiver.ready(&collector).await;
    let mut ingest = collector.ingest().await;
    let reports = (10..140).map(ungranted).chain([command_report(10, 1)]);
    ingest.report(batch(reports.collect())).await.unwrap();
    receiver.until(|seen| seen.refused >= 2).await;
    receiver.answer_with(200);
    receiver.until(|seen| seen.taken.len() >= 130).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let seen = receiver.seen();
    let sessions: BTreeSet<_> = seen.taken.iter().map(|alert| &alert["sessionId"]).map(Value::to_string).collect();
    assert_eq!((seen.taken.len(), sessions.len()), (130, 130));
    assert!(seen.taken.iter().all(|alert| alert["kind"] == "ALERT_KIND_UNGRANTED_LOGIN"));
    if let Some(other) = other {
        other.stop().await;
    }
    collector.stop().await;
}

}

/// What is no pattern, or too large, is said with the rule's name.
#[test]
fn a_pattern_that_is_none_is_refused() {
    for (pattern, words) in [
        ("(", "unclosed group"),
        (r"(a)\1", "backreferences are not supported"),
        ("(?=a)", "look-around"),
        (r"(\w{100}){100}", "exceeds size limit"),
    ] {
        let rule = RuleText {
            name: "the rule".into(),
            filter: String::new(),
            pattern: Some(pattern.into()),
        };
        let settings = AlarmSettings {
            rules: vec![rule],
            ..settings()
        };
        let refused = Alarm::load(&settings).unwrap_err().to_string();
        assert!(refused.contains("the pattern of \"the rule\""), "{refused}");
        assert!(refused.contains(words), "{refused}");
    }
}

#[tokio::test]
async fn a_collector_that_is_killed_delivers_what_it_had_not() {
    let database = Database::sqlite();
    let (receiver, url) = Receiver::start(503).await;
    let folder = database.folder.path();
    fs::write(folder.join("secret"), SECRET).unwrap();
    let text = format!(
        "listen = [\"unix:{0}/s\"]\ndatabase = \"{0}/c.db\"\n\
         [[alerts.webhooks]]\nname = \"soc\"\nurl = \"{url}\"\nsecret = \"{0}/secret\"\n",
        folder.display()
    );
    fs::write(folder.join("c.toml"), text).unwrap();
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auditty-collector"));
        command.arg("--config").arg(folder.join("c.toml"));
        Killed(command.spawn().unwrap())
    };
    let socket = format!("unix://{}/s", folder.display());
    let running = start();
    report_to(&socket, ungranted(1)).await;
    receiver.until(|seen| seen.refused > 0).await;
    drop(running);
    receiver.answer_with(200);
    let running = start();
    receiver.until(|seen| !seen.taken.is_empty()).await;
    report_to(&socket, ungranted(2)).await;
    receiver.until(|seen| seen.taken.len() > 1).await;
    drop(running);
    // What was taken is not told again.
    let running = start();
    report_to(&socket, ungranted(3)).await;
    receiver.until(|seen| seen.taken.len() > 2).await;
    drop(running);
    let taken = receiver.seen().taken;
    let sessions: Vec<_> = taken.iter().map(|alert| &alert["sessionId"]).collect();
    assert_eq!(sessions, [1, 2, 3].map(session_id).each_ref());
}

#[tokio::test]
async fn a_systems_log_has_every_alert() {
    for over_udp in [false, true] {
        let database = Database::sqlite();
        let path = database.folder.path().join("log");
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = match over_udp {
            true => format!("udp:{}", udp.local_addr().unwrap()),
            false => format!("unix:{}", path.display()),
        };
        let target = SyslogTarget {
            address: address.parse().unwrap(),
            filter: String::new(),
        };
        let settings = AlarmSettings {
            syslog: Some(target),
            ..settings()
        };
        let collector = start(&database, &settings).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let report = batch(vec![ungranted(1), command_report(1, 1)]);
        collector.ingest().await.report(report).await.unwrap();
        // A log that is not there yet is waited for.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let unix = UnixDatagram::bind(&path).unwrap();
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut bytes = [0; 4096];
            let received = async {
                match over_udp {
                    true => udp.recv(&mut bytes).await,
                    false => unix.recv(&mut bytes).await,
                }
            };
            let received = tokio::time::timeout(Duration::from_secs(20), received).await;
            let line = str::from_utf8(&bytes[..received.unwrap().unwrap()]).unwrap();
            let mut parts = line.splitn(8, ' ');
            assert_eq!(parts.next().unwrap(), "<108>1");
            parts.next().unwrap().parse::<jiff::Timestamp>().unwrap();
            assert_eq!(parts.nth(1), Some("auditty"));
            let kind = parts.nth(1).unwrap().to_owned();
            assert_eq!(parts.next(), Some("-"));
            let alert: Value = serde_json::from_str(parts.next().unwrap()).unwrap();
            assert_eq!(alert["sessionId"], session_id(1));
            kinds.push(kind);
        }
        kinds.sort();
        assert_eq!(kinds, ["sensitive_command", "ungranted_login"]);
        collector.stop().await;
    }
}

/// A topic of each kind, whose subscription wants one kind of alert.
#[tokio::test]
async fn a_topic_has_every_alert_it_is_for() {
    let read = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(endpoint) = read("AUDITTY_TEST_S3_ENDPOINT") else {
        skipped("AUDITTY_TEST_S3_ENDPOINT is not set");
        return;
    };
    let shared = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
    let config = aws_sdk_sns::config::Builder::from(&shared).endpoint_url(&endpoint);
    let sns = aws_sdk_sns::Client::from_conf(config.build());
    for name in ["alerts", "alerts.fifo"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/topic", listener.local_addr().unwrap());
        let mut topic = sns.create_topic().name(name);
        if name.ends_with(".fifo") {
            topic = topic.attributes("FifoTopic", "true");
        }
        let arn = topic.send().await.unwrap().topic_arn.unwrap();
        let subscription = sns.subscribe().topic_arn(&arn).protocol("http");
        let policy = r#"{"kind": ["ungranted_login"]}"#;
        let subscription = subscription.attributes("FilterPolicy", policy);
        subscription.endpoint(&url).send().await.unwrap();
        let message = async |kind: &str| loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let Some((_, body)) = next_request(&mut stream, &mut Vec::new()).await else {
                continue;
            };
            stream.write_all(b"HTTP/1.1 200 x\r\n\r\n").await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["Type"], kind);
            break body;
        };
        let asked = message("SubscriptionConfirmation").await;
        let token = asked["Token"].as_str().unwrap();
        let confirmed = sns.confirm_subscription().topic_arn(&arn).token(token);
        confirmed.send().await.unwrap();

        let database = Database::sqlite();
        let target = SnsTarget {
            topic: arn.parse().unwrap(),
            endpoint_url: Some(endpoint.clone()),
            filter: String::new(),
        };
        let settings = AlarmSettings {
            sns: Some(target),
            ..settings()
        };
        let collector = start(&database, &settings).await;
        // What comes before the destination is known to the database is not its own.
        let mut number = 0;
        loop {
            number += 1;
            let reports = batch(vec![ungranted(number)]);
            collector.ingest().await.report(reports).await.unwrap();
            let first = tokio::time::timeout(Duration::from_secs(1), message("Notification"));
            if first.await.is_ok() {
                break;
            }
        }
        let reports = (100..125).map(ungranted).chain([command_report(100, 1)]);
        let reports = batch(reports.collect());
        collector.ingest().await.report(reports).await.unwrap();
        let mut sessions = BTreeSet::new();
        while sessions.len() < 25 {
            let told = tokio::time::timeout(Duration::from_secs(20), message("Notification"));
            let told = told.await.unwrap();
            let alert: Value = serde_json::from_str(told["Message"].as_str().unwrap()).unwrap();
            assert_eq!(alert["kind"], "ALERT_KIND_UNGRANTED_LOGIN");
            let of = |name: &str| told["MessageAttributes"][name]["Value"].clone();
            assert_eq!(of("kind"), "ungranted_login");
            assert_eq!(of("hostname"), alert["hostname"]);
            let hostname = alert["hostname"].as_str().unwrap();
            let subject = format!("auditty: ungranted_login on {hostname}");
            assert_eq!(told["Subject"], subject);
            let session = alert["sessionId"].as_str().unwrap().to_owned();
            // The first may have been told for what came before, too.
            if (100..125).any(|number| session_id(number) == session) {
                assert!(sessions.insert(session), "once");
            }
        }
        collector.stop().await;
    }
}

/// Reports to a collector that is just starting.
async fn report_to(socket: &str, report: v1::Report) {
    let begin = Instant::now();
    loop {
        let channel = Endpoint::try_from(socket.to_owned())
            .unwrap()
            .connect()
            .await;
        if let Ok(channel) = channel {
            let mut client = IngestServiceClient::new(channel);
            if client.report(batch(vec![report.clone()])).await.is_ok() {
                return;
            }
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "no collector");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Killed with SIGKILL when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A webhook: takes what is signed, or refuses it with a status.
#[derive(Clone)]
struct Receiver(Arc<Mutex<Seen>>);

#[derive(Clone, Default)]
struct Seen {
    status: u16,
    taken: Vec<Value>,
    refused: usize,
}

impl Receiver {
    async fn start(status: u16) -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let receiver = Self(Arc::new(Mutex::new(Seen {
            status,
            ..Seen::default()
        })));
        let clone = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(clone.clone().serve(stream));
            }
        });
        (receiver, url)
    }

    fn seen(&self) -> Seen {
        self.0.lock().unwrap().clone()
    }

    fn answer_with(&self, status: u16) {
        self.0.lock().unwrap().status = status;
    }

    async fn until(&self, enough: impl Fn(&Seen) -> bool) {
        let begin = Instant::now();
        while !enough(&self.seen()) {
            assert!(begin.elapsed() < Duration::from_secs(60), "not delivered");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A destination begins with what comes after it is known to the database: the
    /// first alerts until then are not its own.
    async fn ready(&self, collector: &Collector) {
        let mut number = 1;
        while self.seen().refused == 0 {
            let report = batch(vec![ungranted(number)]);
            collector.ingest().await.report(report).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
            number += 1;
        }
        // They are taken, and forgotten.
        self.answer_with(200);
        let begin = Instant::now();
        while self
            .seen()
            .taken
            .last()
            .is_none_or(|alert| alert["sessionId"] != session_id(number - 1))
        {
            assert!(begin.elapsed() < Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        *self.0.lock().unwrap() = Seen {
            status: 503,
            ..Seen::default()
        };
    }

    /// One connection, request after request.
    async fn serve(self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        while let Some((head, body)) = next_request(&mut stream, &mut bytes).await {
            assert!(head.starts_with("POST /hook HTTP/1.1"), "{head}");
            check_signature(&header(&head, "x-auditty-signature"), &body);
            let status = self.take(&body);
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn take(&self, body: &[u8]) -> u16 {
        let body: Value = serde_json::from_slice(body).unwrap();
        let mut seen = self.0.lock().unwrap();
        match seen.status {
            200 => seen
                .taken
                .extend(body["alerts"].as_array().unwrap().iter().cloned()),
            _ => seen.refused += 1,
        }
        seen.status
    }
}

/// The head and the body of the next request; `bytes` has what was read beyond it.
async fn next_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    let head = loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            break end + 4;
        }
        if stream.read_buf(bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let len: usize = header(&text, "content-length").parse().unwrap();
    while bytes.len() < head + len {
        if stream.read_buf(bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    let body = bytes.drain(..head + len).skip(head).collect();
    Some((text, body))
}

fn header(head: &str, name: &str) -> String {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.to_owned()).unwrap()
}

fn check_signature(header: &str, body: &[u8]) {
    let (time, digits) = header.split_once(",v1=").unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let expected = hmac::sign(&key, &[time.as_bytes(), b".", body].concat());
    let expected = expected.as_ref().iter().map(|byte| format!("{byte:02x}"));
    assert_eq!(digits, expected.collect::<String>());
}
