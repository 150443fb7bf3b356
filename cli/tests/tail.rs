//! `auditty tail` on a folder alone.

#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use std::io::Read;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use auditty_recording::event::{Body, Gap, GapCause, GapClass, Stream};
use auditty_recording::session::SessionKind;
use common::{Growing, HOSTILE, PIPES, PTY, Store, Timeline, auditty};

/// How long a step may take.
const SOON: Duration = Duration::from_secs(30);
const GAP: &str = "[GAP output of terminal 0: 3 events, 4096 bytes lost (ring_full)]\n";

/// A running `auditty tail`.
struct Tail {
    child: Child,
    printed: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Tail {
    fn start(store: &Store, arguments: &[&str]) -> Self {
        let mut command = auditty();
        command.arg("--store").arg(store.path()).arg("tail");
        command.args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let printed = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&printed);
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut bytes) {
                let text = str::from_utf8(&bytes[..count]).unwrap();
                sink.lock().unwrap().push_str(text);
            }
        });
        Self {
            child,
            printed,
            reader,
        }
    }

    fn printed(&self) -> String {
        self.printed.lock().unwrap().clone()
    }

    /// Waits for text while it runs.
    fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + SOON;
        while !self.printed().contains(text) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", self.printed());
            assert!(Instant::now() < deadline, "{text:?}: {}", self.printed());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end; all that it printed.
    fn finish(mut self) -> String {
        let deadline = Instant::now() + SOON;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it goes on");
            thread::sleep(Duration::from_millis(20));
        };
        self.reader.join().unwrap();
        assert!(status.success(), "{status}");
        self.printed.lock().unwrap().clone()
    }
}

fn gap() -> Body {
    Body::Gap(Gap {
        cause: GapCause::RingFull,
        class: GapClass::Output,
        events: Some(3),
        bytes: Some(4096),
        stream: Some(Stream::Terminal),
        terminal: Some(0),
        offset: Some(99),
        from_boot_ns: 1,
        to_boot_ns: 2,
    })
}

/// A session that goes on, with twenty lines so far.
fn begun() -> Timeline {
    let mut timeline = Timeline::new(PTY, "alice", SessionKind::Shell);
    timeline.resize(0, 80, 24);
    for line in 1..=20 {
        let text = format!("\x1b[32mline {line}\x1b[0m\r\n");
        timeline.output(line * 10, Stream::Terminal, text.as_bytes());
    }
    timeline
}

#[test]
fn a_session_is_followed_until_it_ends() {
    let store = Store::empty();
    let mut timeline = begun();
    let mut growing = Growing::of(&timeline);
    store.grow(&mut growing, &timeline);
    let mut tail = Tail::start(&store, &[PTY]);
    let mut from_start = Tail::start(&store, &["0199e0a4", "--lines=all"]);
    tail.expect("line 20\n");
    from_start.expect("line 20\n");
    let before: String = (11..=20).map(|line| format!("line {line}\n")).collect();
    assert_eq!(tail.printed(), before);

    timeline.output(500, Stream::Terminal, b"\x1b]0;title\x07$ ha\xe2\x80");
    store.grow(&mut growing, &timeline);
    tail.expect("$ ha");
    timeline
        .output(600, Stream::Terminal, b"\x8bd\r\n")
        .at(700, gap());
    store.grow(&mut growing, &timeline);
    tail.expect(GAP);
    timeline.output(800, Stream::Terminal, b"bye").end(900);
    store.grow(&mut growing, &timeline);
    tail.expect("bye");
    growing.seal(&store);

    let rest = format!("$ ha\\u{{200b}}d\n{GAP}bye\n");
    assert_eq!(tail.finish(), format!("{before}{rest}"));
    let first: String = (1..=10).map(|line| format!("line {line}\n")).collect();
    assert_eq!(from_start.finish(), format!("{first}{before}{rest}"));
}

#[test]
fn what_was_there_before_can_be_left_out() {
    let store = Store::empty();
    let mut timeline = begun();
    let mut growing = Growing::of(&timeline);
    store.grow(&mut growing, &timeline);
    let tail = Tail::start(&store, &[PTY, "-n0"]);
    let deadline = Instant::now() + SOON;
    // When it has looked for the first time cannot be seen from outside.
    for tick in 0.. {
        timeline.output(500 + tick, Stream::Terminal, b"tick\r\n");
        store.grow(&mut growing, &timeline);
        if !tail.printed().is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "nothing comes");
        thread::sleep(Duration::from_millis(100));
    }
    growing.seal(&store);
    let printed = tail.finish();
    assert_eq!(printed.replace("tick\n", ""), "");
}

#[test]
fn of_a_session_that_has_ended_the_last_lines_come() {
    let store = Store::filled();
    let tail = |arguments: &[&str]| {
        let arguments = [&["tail"], arguments].concat();
        store.run(&arguments)
    };
    assert_eq!(tail(&[PTY, "-n", "2"]).good(), format!("{GAP}the end\n"));
    let all = format!(
        "alice@web-1:~$ rm -rf 'a b'\ngrün\n[masked input: 9 bytes]\nred after a pause\n\
         {GAP}the end\n"
    );
    assert_eq!(tail(&[PTY]).good(), all);
    assert_eq!(
        tail(&[PIPES]).good(),
        "one\ntwo\\x1b[31m\nbad \\x1b]0;x\\x07\n"
    );
    let hostile = tail(&[HOSTILE, "--lines", "all"]).good();
    assert!(hostile.contains("alternate"), "{hostile}");
    for part in ["\u{1b}", "\u{7}", "\u{9b}", "\u{202e}"] {
        assert!(!hostile.contains(part), "{part:?} in {hostile:?}");
    }
    assert_eq!(tail(&[PTY, "--terminal", "7"]).code, 3);
    assert_eq!(tail(&["01990000"]).code, 3);
    assert_eq!(tail(&[PTY, "-n", "some"]).code, 2);
    assert_eq!(tail(&[PTY, "--output", "csv"]).code, 2);
}

#[test]
fn json_has_the_events_of_the_recording() {
    let store = Store::filled();
    let parse = |text: String| -> Vec<serde_json::Value> {
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    for session in [PTY, HOSTILE] {
        let tail = store.run(&["tail", session, "-n", "all", "--output", "json"]);
        let tail = tail.good();
        assert!(!tail.contains(['\u{202e}', '\u{9b}']), "{tail:?}");
        let export = store.run(&["export", session, "--format", "jsonl"]).good();
        assert_eq!(parse(tail), parse(export));
    }
    let last = store.run(&["tail", PTY, "-n1", "--output=json"]).json();
    assert_eq!(last["kind"], "session_end");
}

#[test]
fn what_is_damaged_is_said_and_the_rest_shown() {
    let store = Store::filled();
    std::fs::remove_file(store.chunk(PTY, 0)).unwrap();
    let ran = store.run(&["tail", PTY]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(
        ran.out.ends_with("the end\n") && ran.err.contains("missing"),
        "{ran:?}"
    );
}
