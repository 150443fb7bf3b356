//! Files, transfers, network connections and inner terminals of a session.

#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use auditty_recording::Bytes;
use auditty_recording::event::*;
use auditty_recording::session::SessionKind;
use common::{PTY, Ran, Store, Timeline};

fn file(operation: FileOperation, path: &str) -> File {
    File {
        pid: 100,
        operation,
        path: path.into(),
        target: None,
        path_as_given: false,
        mode: None,
        uid: None,
        gid: None,
        errno: None,
    }
}

fn inner(milliseconds: i64, timeline: &mut Timeline, bytes: &[u8]) {
    timeline.at(
        milliseconds,
        Body::Output(Output {
            stream: Stream::Terminal,
            terminal: Some(1),
            offset: 0,
            data: Bytes(bytes.to_vec()),
            omitted_bytes: None,
        }),
    );
}

/// A session with one activity of every kind, and a tmux inside.
fn store() -> Store {
    let mut timeline = Timeline::new(PTY, "alice", SessionKind::Shell);
    let open = |terminal, name: &str, exe: Option<&str>| {
        Body::TerminalOpen(TerminalOpen {
            terminal,
            name: name.into(),
            pid: exe.map(|_| 120),
            exe: exe.map(str::to_owned),
        })
    };
    timeline
        .at(0, open(0, "pts/3", None))
        .output(5, Stream::Terminal, b"outer\r\n")
        .at(10, open(1, "pts/4", Some("/usr/bin/tm\x1b[2Jux")));
    inner(11, &mut timeline, b"inside\r\n");
    let renamed = File {
        target: Some("/tmp/\u{1b}]0;x\u{7}b".into()),
        path_as_given: true,
        errno: Some(13),
        ..file(FileOperation::Rename, "/tmp/a")
    };
    let chmod = File {
        mode: Some(0o4755),
        ..file(FileOperation::Chmod, "/tmp/suid")
    };
    let connect_seq = 9;
    timeline
        .at(20, Body::File(renamed))
        .at(21, Body::File(chmod))
        .at(
            22,
            Body::Connect(Connect {
                pid: 101,
                forwarded: true,
                role: ConnectRole::Connect,
                local: "[::1]:40000".parse().ok(),
                remote: "192.0.2.9:5432".parse().ok(),
                unix_path: None,
            }),
        )
        .at(
            23,
            Body::Transfer(Transfer {
                pid: 102,
                protocol: TransferProtocol::Sftp,
                direction: TransferDirection::Upload,
                path: "/srv/grün\n".into(),
                bytes: 2048,
                mode: Some(0o600),
                duration_ns: 5_000_000,
                errno: None,
            }),
        )
        .at(
            24,
            Body::Disconnect(Disconnect {
                connect_seq,
                sent_bytes: Some(10),
                received_bytes: Some(2048),
                duration_ns: 2_000_000_000,
            }),
        )
        .exec(30, &["/bin/sh", "./run.sh"])
        .end(100);
    let store = Store::empty();
    store.add(&mut timeline);
    store
}

fn assert_harmless(ran: &Ran) {
    for part in ["\u{1b}", "\u{7}"] {
        assert!(
            !ran.out.contains(part) && !ran.err.contains(part),
            "{ran:?}"
        );
    }
}

/// The words of the rows below the titles.
fn rows(ran: Ran) -> Vec<String> {
    assert_harmless(&ran);
    let text = ran.good();
    let rows = text.lines().skip(1);
    rows.map(|row| row.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn activities_are_listed_by_kind() {
    let store = store();
    assert_eq!(
        rows(store.run(&["--utc", "files", PTY])),
        [
            "7 08:00:00.020 100 rename EACCES /tmp/a -> /tmp/\\x1b]0;x\\x07b (as given)",
            "8 08:00:00.021 100 chmod 4755 ok /tmp/suid",
        ]
    );
    assert_eq!(
        rows(store.run(&["--utc", "transfers", PTY])),
        ["10 08:00:00.023 102 sftp upload 2.0 KiB 0600 0.0s ok /srv/grün\\n"]
    );
    assert_eq!(
        rows(store.run(&["--utc", "network", PTY])),
        ["9 08:00:00.022 101 forward connect [::1]:40000 192.0.2.9:5432 10 B 2.0 KiB 2.0s"]
    );
}

#[test]
fn activities_are_filtered_paged_and_printed_as_json() {
    let store = store();
    let filter = ["--filter", "operation = chmod"];
    let arguments = [&["files", PTY, "--output", "json"], &filter[..]].concat();
    let json = store.run(&arguments).json();
    assert_eq!(json["activities"].as_array().unwrap().len(), 1);
    assert_eq!(json["activities"][0]["kind"], "ACTIVITY_KIND_FILE");
    assert_eq!(json["activities"][0]["file"]["mode"], 0o4755);
    let first = store.run(&["files", PTY, "--limit", "1", "--output", "json"]);
    let first = first.json();
    let token = first["nextPageToken"].as_str().unwrap();
    let next = ["files", PTY, "--output", "json", "--page-token", token];
    assert_eq!(store.run(&next).json()["activities"][0]["seq"], "8");
    assert_eq!(
        store.run(&["files", PTY, "--filter", "nonsense = 1"]).code,
        2
    );
    assert_eq!(
        store.run(&["transfers", PTY, "--filter", "pid = 1"]).good(),
        "no transfers\n"
    );
    assert_eq!(store.run(&["network", "01990000"]).code, 3);
}

#[test]
fn inner_terminals_are_shown_on_their_own() {
    let store = store();
    let outer = store.run(&["replay", PTY]);
    assert_harmless(&outer);
    assert!(
        outer.out.contains("outer") && !outer.out.contains("inside"),
        "{outer:?}"
    );
    assert!(
        outer
            .err
            .contains("other terminals, shown by --terminal: 1 (pts/4, /usr/bin/tm"),
        "{outer:?}"
    );
    let within = store.run(&["replay", PTY, "--terminal", "1"]);
    assert!(
        within.out.contains("inside") && !within.out.contains("outer"),
        "{within:?}"
    );
    let cast = ["export", PTY, "--format", "asciicast-v2", "--terminal", "1"];
    let cast = store.run(&cast).good();
    assert!(cast.contains("inside") && !cast.contains("outer"), "{cast}");
    let missing = store.run(&["replay", PTY, "--terminal", "7"]);
    assert_eq!(missing.code, 3);
    assert!(
        missing.err.contains("only: 0 (pts/3), 1 (pts/4"),
        "{missing:?}"
    );
    assert_harmless(&missing);
}

#[test]
fn show_counts_what_there_is() {
    let text = store().run(&["show", PTY]).good();
    for part in [
        "inner terminals",
        "`auditty replay --terminal 1`",
        "2 (`auditty files` lists them)",
        "1 (`auditty transfers` lists them)",
        "1 (`auditty network` lists them)",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}
