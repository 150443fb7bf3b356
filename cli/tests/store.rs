//! The binary on a folder alone.

#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{HOSTILE, PIPES, PTY, Ran, Store, auditty};

/// The beginning of what a recording wants the viewer's terminal to do.
const HOSTILE_PARTS: [&str; 4] = ["\u{1b}", "\u{7}", "\u{9b}", "\u{202e}"];

fn assert_harmless(ran: &Ran) {
    for part in HOSTILE_PARTS {
        assert!(!ran.out.contains(part), "{part:?} in {:?}", ran.out);
        assert!(!ran.err.contains(part), "{part:?} in {:?}", ran.err);
    }
}

#[test]
fn sessions_are_listed_newest_first_and_filtered() {
    let store = Store::filled();
    let table = store.run(&["sessions"]).good();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[1].starts_with("0199f0a4-7b1c "), "{table}");
    for part in [
        "2025-10-14 08:00:00",
        "alice",
        "web-1",
        "192.0.2.7",
        "shell",
        "bob / oncall",
        "LOSSY",
    ] {
        assert!(lines[3].contains(part), "{part} in {table}");
    }
    for (options, found) in [
        (&["--user", "alice"][..], &[PTY][..]),
        (
            &[
                "--approver",
                "bob",
                "--access-flow",
                "oncall",
                "--request-id",
                "REQ-7",
            ],
            &[PTY],
        ),
        (
            &[
                "--person",
                "alice",
                "--requester",
                "alice",
                "--key-fingerprint",
                "SHA256:abc",
                "--verdict",
                "lossy",
            ],
            &[PTY],
        ),
        // A unix user is no name of a person.
        (&["--person", "carol"], &[]),
        (&["--grant-status", "ungranted"], &[PIPES, HOSTILE]),
        (&["--kind", "exec", "--state", "closed"], &[PIPES]),
        (&["--host", "web-1", "--filter", "verdict = lossy"], &[PTY]),
        (&["--since", "2025-10-15"], &[]),
        (&["--until", "2025-10-14 08:00:01"], &[PIPES, HOSTILE, PTY]),
    ] {
        let arguments = [&["sessions", "--utc", "--output", "json"], options].concat();
        let json = store.run(&arguments).json();
        let ids: Vec<&str> = json["sessions"]
            .as_array()
            .map(|sessions| {
                sessions
                    .iter()
                    .map(|s| s["sessionId"].as_str().unwrap())
                    .collect()
            })
            .unwrap_or_default();
        assert_eq!(ids, found, "{options:?}");
    }
}

#[test]
fn pages_follow_each_other() {
    let store = Store::filled();
    let list = |arguments: &[&str]| {
        let arguments = [&["sessions", "--output", "json", "--limit", "2"], arguments].concat();
        store.run(&arguments).json()
    };
    let first = list(&[]);
    assert_eq!(first["sessions"].as_array().unwrap().len(), 2);
    let token = first["nextPageToken"].as_str().unwrap();
    let second = list(&["--page-token", token]);
    assert_eq!(second["sessions"][0]["sessionId"], PTY);
    assert_eq!(second["nextPageToken"], serde_json::Value::Null);
    assert_eq!(list(&["--all"])["sessions"].as_array().unwrap().len(), 3);
    let wrong = store.run(&["sessions", "--page-token", "nonsense"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
}

#[test]
fn a_session_is_found_by_every_spelling() {
    let store = Store::filled();
    for spelling in [
        PTY,
        &format!("sessions/{PTY}"),
        "0199e0a4-7b1c",
        "0199E0A4-7B1C",
    ] {
        let json = store.run(&["show", spelling, "--output", "json"]).json();
        assert_eq!(json["session"]["sessionId"], PTY, "{spelling}");
    }
    let ambiguous = store.run(&["show", "0199e0a4"]);
    assert_eq!(ambiguous.code, 2);
    assert!(
        ambiguous.err.contains(PTY) && ambiguous.err.contains(HOSTILE),
        "{ambiguous:?}"
    );
    assert_harmless(&ambiguous);
    for missing in ["01990000", "0199e0a4-7b1c-7000-8000-00000000000f"] {
        assert_eq!(store.run(&["show", missing]).code, 3, "{missing}");
    }
    assert_eq!(store.run(&["show", "alice"]).code, 2);
}

#[test]
fn show_tells_who_and_by_whose_approval() {
    let text = Store::filled().run(&["show", PTY]).good();
    for part in [
        "alice",
        "SHA256:abc",
        "192.0.2.7:50022",
        "GRANTED",
        "bob",
        "oncall",
        "REQ-7",
        "disk full",
        "9 bytes of it masked",
        "GAP output of terminal 0: 3 events, 4096 bytes lost (ring_full)",
        "exited, exit code 0",
        "file://",
        "sshd's own messages",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn arguments_and_words_are_found_whole() {
    let store = Store::filled();
    for (options, found) in [
        (&["--word", "rm"][..], 1),
        (&["--word", "/usr/bin/rm"], 1),
        (&["--word", "r"], 0),
        (&["--argument", "a b"], 1),
        (&["--argument", "-rf", "--argument", "/usr/bin/rm"], 1),
        (&["--argument", "a"], 0),
        (&["--argument", "rm"], 0),
        (&["--filter", "argument : bin AND word != rmdir"], 1),
    ] {
        for asked in [&["commands", PTY][..], &["search", "--person", "alice"]] {
            let arguments = [asked, &["--output", "json"], options].concat();
            let json = store.run(&arguments).json();
            let commands = json["commands"].as_array().map_or(0, Vec::len);
            assert_eq!(commands, found, "{arguments:?}");
        }
    }
}

#[test]
fn commands_keep_their_arguments_apart() {
    let store = Store::filled();
    let text = store.run(&["commands", PTY]).good();
    assert!(
        text.contains("/usr/bin/rm -rf 'a b'") && text.contains("1000>0"),
        "{text}"
    );
    let json = store
        .run(&[
            "commands",
            PTY,
            "--filter",
            "exit_code = 3",
            "--output=json",
        ])
        .json();
    assert_eq!(json["commands"][0]["argv"][2], "a b");
    assert_eq!(json["commands"][0]["duration"], "0.005s");
}

#[test]
fn a_search_reads_every_recording() {
    let store = Store::filled();
    let text = store.run(&["search", "RM -RF"]).good();
    for part in [
        &PTY[..13],
        "alice",
        "web-1",
        "1000>0",
        "REQ-7",
        "rm -rf 'a b'",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(text.lines().count(), 2, "{text}");
    let json = store.run(&["search", "--output=json"]).json();
    let commands = json["commands"].as_array().unwrap();
    assert_eq!(commands.len(), 2, "{json}");
    assert_eq!(
        commands[0]["session"]["name"],
        format!("sessions/{HOSTILE}")
    );
    assert_eq!(commands[1]["session"]["user"], "alice");
    let first = store.run(&["search", "--limit=1", "--output=json"]).json();
    let token = first["nextPageToken"].as_str().unwrap();
    let second = store.run(&[
        "search",
        "--limit=1",
        "--output=json",
        "--page-token",
        token,
    ]);
    let second = second.json();
    assert_eq!(first["commands"][0], json["commands"][0]);
    assert_eq!(second["commands"][0], json["commands"][1]);
    assert_eq!(second["nextPageToken"], serde_json::Value::Null);
    for none in [
        &["search", "nothing of the kind"][..],
        &["search", "rm", "--user", "bob"],
        &["search", "rm", "--exit-code", "0"],
        &["search", "rm", "--until", "2025-10-13"],
        &["search", "rm", "--filter", "session.verdict = interrupted"],
    ] {
        assert_eq!(store.run(none).good(), "no commands\n", "{none:?}");
    }
    let wrong = store.run(&["search", "--filter", "user = alice"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert!(wrong.err.contains("`session.user`"), "{wrong:?}");
}

#[test]
fn sessions_of_a_minute_are_those_going_on_in_it() {
    let store = Store::filled();
    let ids = |at: &str| {
        let json = store.run(&["sessions", "--at", at, "--output=json"]).json();
        let sessions = json["sessions"].as_array().cloned().unwrap_or_default();
        let ids = sessions
            .iter()
            .map(|s| s["sessionId"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ids("2025-10-14 08:00"), [PIPES, HOSTILE, PTY]);
    // One lasted longer than a minute.
    assert_eq!(ids("2025-10-14 08:01"), [PTY]);
    assert_eq!(ids("2025-10-14 07:59:30"), [PIPES, HOSTILE, PTY]);
    assert!(ids("2025-10-14 07:59").is_empty() && ids("2025-10-14 08:02").is_empty());
}

#[test]
fn nothing_hostile_reaches_the_output() {
    let store = Store::filled();
    for arguments in [
        &["sessions"][..],
        &["sessions", "--output", "json"],
        &["show", HOSTILE],
        &["commands", HOSTILE],
        &["commands", HOSTILE, "--output", "json"],
        &["search"],
        &["search", "--output", "json"],
        &["search", "--filter", "x\u{1b}[2J"],
        &["replay", HOSTILE],
        &["replay", HOSTILE, "--from", "1s"],
        &["replay", PIPES],
        &["export", HOSTILE, "--format", "text"],
        &["show", "\u{1b}[2J"],
        &["sessions", "--store", "/no/\u{1b}[2J\u{202e}"],
    ] {
        assert_harmless(&store.run(arguments));
    }
    let table = store.run(&["sessions"]).good();
    assert!(table.contains("e\\x1b]0;pwned\\x07ve\\u{202e}"), "{table}");
}

#[test]
fn a_replay_without_a_terminal_prints_text() {
    let store = Store::filled();
    let text = store.run(&["replay", PTY]).good();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.contains(&"alice@web-1:~$ rm -rf 'a b'"), "{text}");
    assert!(
        lines.contains(&"grün") && lines.contains(&"the end"),
        "{text}"
    );
    assert!(
        text.contains("masked input: 9 bytes") && text.contains("4096 bytes lost"),
        "{text}"
    );
    let early = store.run(&["replay", PTY, "--from", "5s"]).good();
    assert!(
        early.contains("grün") && !early.contains("the end"),
        "{early}"
    );
    let at = store
        .run(&["replay", PTY, "--at", "2025-10-14T08:01:01Z"])
        .good();
    assert!(
        at.contains("after a pause") && !at.contains("the end"),
        "{at}"
    );
    let hostile = store.run(&["replay", HOSTILE]).good();
    assert!(hostile.contains("alternate"), "{hostile}");
    let pipes = store.run(&["replay", PIPES]).good();
    assert_eq!(pipes, "one\ntwo\\x1b[31m\nbad \\x1b]0;x\\x07\n");
    assert_eq!(store.run(&["replay", PTY, "--terminal", "7"]).code, 3);
}

#[test]
fn exports_parse() {
    let store = Store::filled();
    for format in ["asciicast-v2", "asciicast-v3", "jsonl"] {
        let text = store.run(&["export", HOSTILE, "--format", format]).good();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert!(lines.len() > 4, "{format}: {text}");
    }
    let file = store.path().join("cast");
    let file = file.to_str().unwrap();
    let arguments = ["export", PTY, "--format", "asciicast-v2", "-o", file];
    store.run(&arguments).good();
    let cast = std::fs::read_to_string(file).unwrap();
    let header: serde_json::Value = serde_json::from_str(cast.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&header["version"], &header["width"]),
        (&2.into(), &80.into())
    );
    let again = store.run(&arguments);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("cannot create"), "{again:?}");
}

#[test]
fn a_truncated_chunk_is_a_problem_and_the_rest_is_shown() {
    let store = Store::filled();
    let chunk = store.chunk(PTY, 1);
    let bytes = std::fs::read(&chunk).unwrap();
    std::fs::write(&chunk, &bytes[..bytes.len() / 2]).unwrap();
    for (arguments, good) in [
        (&["replay", PTY][..], "alice@web-1:~$"),
        (&["export", PTY, "--format", "text"], "alice@web-1:~$"),
        (&["export", PTY, "--format", "jsonl"], "alice@web-1"),
        (&["commands", PTY], "rm -rf 'a b'"),
    ] {
        let ran = store.run(arguments);
        assert_eq!(ran.code, 4, "{ran:?}");
        assert!(
            ran.out.contains(good) && ran.err.contains("cut off"),
            "{ran:?}"
        );
    }
    std::fs::remove_file(&chunk).unwrap();
    let ran = store.run(&["replay", PTY]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(
        ran.out.contains("alice@web-1:~$") && ran.err.contains("missing"),
        "{ran:?}"
    );
}

#[test]
fn errors_say_what_to_do() {
    let run = |arguments: &[&str]| Ran::new(auditty().args(arguments).output().unwrap());
    let ran = run(&["--collector", "unix:/no/such.sock", "sessions"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.err.contains("unix:/no/such.sock") && ran.err.contains("--store"),
        "{ran:?}"
    );
    let ran = run(&["--collector", "http://127.0.0.1:1", "sessions"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("127.0.0.1:1"), "{ran:?}");
    assert_eq!(run(&["--collector", "ftp://x", "sessions"]).code, 2);
    assert_eq!(run(&["--store", "gs://bucket", "sessions"]).code, 2);
    let ran = run(&["--store", "/no/such/folder", "sessions"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("no folder /no/such/folder"), "{ran:?}");
    let ran = run(&["--store", "/tmp", "sessions", "--filter", "usr = a"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("usr"), "{ran:?}");
    assert_eq!(
        run(&["--store", "/tmp", "sessions", "--since", "whenever"]).code,
        2
    );
    assert!(run(&["completions", "bash"]).good().contains("_auditty"));
}

#[test]
fn an_empty_store_has_no_sessions() {
    let store = Store::empty();
    assert_eq!(store.run(&["sessions"]).good(), "no sessions\n");
    assert_eq!(store.run(&["sessions", "--output", "json"]).good(), "{}\n");
}
