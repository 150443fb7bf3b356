//! Exports: what a player, a terminal and `jq` get.

#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use auditty_recording::chunk::{ChunkReader, Record};
use auditty_recording::digest::Digest;
use auditty_recording::event::Event;
use auditty_recording::export::{Format, Options, export};
use auditty_recording::session::Session;
use common::*;
use serde_json::{Value, json};

/// Through a real chunk, so that the lines are the stored ones.
fn records(events: &[Event]) -> Vec<Record> {
    let (_, bytes) = seal(
        header(&new_session_key(), 0, Digest::ZERO, events[0].seq),
        events,
    );
    ChunkReader::new(bytes.as_slice())
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn exported(format: &str, options: Options, events: &[Event]) -> String {
    let mut session = Session::default();
    session.login.user = "ana".to_owned();
    session.host.hostname = "web-1".to_owned();
    session.command = "make test".to_owned();
    let mut to = Vec::new();
    let format: Format = format.parse().unwrap();
    export(format, &mut to, &session, options, &records(events)).unwrap();
    String::from_utf8(to).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn session_with_everything() -> Vec<Event> {
    let bodies = [
        session_start(),
        resize(120, 40),
        output(b"caf\xc3"),
        input(b"x", None),
        output(b"\xa9 \xff\r\n"),
        input(b"", Some(8)),
        resize(100, 30),
        gap(),
        output(b"\x1b[1mend\xe2\x82"),
        session_end(None, Some(9)),
    ];
    (1..)
        .zip(bodies)
        .map(|(seq, body)| event(seq, body))
        .collect()
}

#[test]
fn asciicast_v3_has_intervals_and_an_integer_exit() {
    let cast = lines(&exported(
        "asciicast-v3",
        Options::default(),
        &session_with_everything(),
    ));
    assert_eq!(cast[0]["version"], 3);
    assert_eq!(cast[0]["term"], json!({"cols": 120, "rows": 40}));
    assert_eq!(cast[0]["timestamp"], json!(start().as_second() + 1));
    assert_eq!(cast[0]["command"], "make test");
    assert_eq!(
        cast[1..],
        [
            json!([2.0, "o", "caf"]),
            json!([2.0, "o", "é \u{fffd}\r\n"]),
            json!([2.0, "r", "100x30"]),
            json!([1.0, "m", "gap: 300 bytes missing (output, ring_full)"]),
            json!([1.0, "o", "\u{1b}[1mend"]),
            json!([1.0, "o", "\u{fffd}"]),
            json!([0.0, "x", "137"]),
        ]
    );
}

#[test]
fn asciicast_v2_has_absolute_times_and_input_on_request() {
    let options = Options {
        include_input: true,
        ..Options::default()
    };
    let cast = lines(&exported(
        "asciicast-v2",
        options,
        &session_with_everything(),
    ));
    assert_eq!(
        (&cast[0]["version"], &cast[0]["width"], &cast[0]["height"]),
        (&json!(2), &json!(120), &json!(40))
    );
    assert_eq!(
        cast[1..],
        [
            json!([2.0, "o", "caf"]),
            json!([3.0, "i", "x"]),
            json!([4.0, "o", "é \u{fffd}\r\n"]),
            json!([5.0, "m", "8 bytes of input masked"]),
            json!([6.0, "r", "100x30"]),
            json!([7.0, "m", "gap: 300 bytes missing (output, ring_full)"]),
            json!([8.0, "o", "\u{1b}[1mend"]),
            json!([9.0, "o", "\u{fffd}"]),
        ]
    );
}

#[test]
fn an_empty_session_is_still_a_cast() {
    for format in ["asciicast-v3", "asciicast-v2"] {
        let cast = lines(&exported(
            format,
            Options::default(),
            &[event(1, session_start())],
        ));
        assert_eq!(cast.len(), 1, "{format}");
    }
}

#[test]
fn text_is_safe_and_says_where_something_is_missing() {
    let text = exported("text", Options::default(), &session_with_everything());
    assert_eq!(
        text,
        "café \u{fffd}\n\n[gap: 300 bytes missing (output, ring_full)]\nend\u{fffd}"
    );
    let other = Options {
        terminal: Some(1),
        ..Options::default()
    };
    assert_eq!(exported("text", other, &session_with_everything()), "");
}

#[test]
fn json_lines_are_the_stored_lines() {
    let events = one_of_each();
    let text = exported("jsonl", Options::default(), &events);
    let back: Vec<Event> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(back, events);
}

#[test]
fn an_unknown_format_names_the_known_ones() {
    let error = "gif".parse::<Format>().unwrap_err().to_string();
    assert!(
        error.contains("`gif`") && error.contains("asciicast-v3"),
        "{error}"
    );
    for name in Format::NAMES {
        assert!(name.parse::<Format>().is_ok(), "{name}");
    }
}

#[test]
fn stock_asciinema_plays_a_v2_cast() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("session.cast");
    let cast = exported(
        "asciicast-v2",
        Options::default(),
        &session_with_everything(),
    );
    std::fs::write(&path, cast).unwrap();
    // asciinema wants a terminal of its own; `script` gives it one.
    let played = std::process::Command::new("script")
        .args(["-qec", "asciinema cat session.cast", "/dev/null"])
        .current_dir(dir.path())
        .env("LC_ALL", "C.UTF-8")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&played.stdout);
    if shown.contains("asciinema: not found") {
        eprintln!("skipped: asciinema is not installed");
        return;
    }
    assert!(played.status.success(), "{shown}");
    for part in ["café \u{fffd}\r", "\u{1b}[1mend\u{fffd}"] {
        assert!(shown.contains(part), "{part:?} is not in {shown:?}");
    }
}
