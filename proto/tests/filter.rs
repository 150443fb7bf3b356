//! The filter language as a caller meets it.

use auditty_proto::{
    filter::{CommandSearch, Filter, MAX_FILTER_LEN, MAX_TERMS},
    v1,
};

fn session() -> v1::Session {
    v1::Session {
        session_id: "0199e0a4-7b1c-7000-8000-0123456789ab".into(),
        state: v1::SessionState::Active.into(),
        start_time: Some(prost_types::Timestamp {
            seconds: 1_767_225_600, // 2026-01-01T00:00:00Z
            nanos: 0,
        }),
        login: Some(v1::Login {
            user: "alice \"the\" admin".into(),
            uid: Some(0),
            method: v1::AuthMethod::PublicKey.into(),
            certificate: Some(v1::Certificate {
                principals: vec!["alice".into(), "ops".into()],
                ..Default::default()
            }),
            ..Default::default()
        }),
        host: Some(v1::Host {
            labels: [("env", "prod"), ("app.kubernetes.io/name", "a b")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..Default::default()
        }),
        grant: Some(v1::GrantMatch {
            status: v1::GrantStatus::Granted.into(),
            grant: Some(v1::Grant {
                requester: "alice@example.com".into(),
                approvers: vec!["Bob".into(), "carol".into()],
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[test]
fn comparisons_mean_what_they_say() {
    for (filter, expected) in [
        ("", true),
        ("  ", true),
        ("user = \"alice \\\"the\\\" admin\"", true),
        ("user = 'alice \"the\" admin'", true),
        ("user:ALICE", true),
        ("user:bob", false),
        ("user != bob AND uid=0", true),
        ("uid = 0 AND uid != 0", false),
        ("uid >= 0 AND uid < 1", true),
        ("exit_code = 0", false),
        ("exit_code != 0", true),
        ("exit_code < 1", false),
        ("certificate_serial > 0", false),
        ("method = public_key", true),
        ("method = AUTH_METHOD_PUBLIC_KEY", true),
        ("state = active", true),
        ("state != active", false),
        ("grant_status=granted", true),
        ("adopted = false", true),
        ("person = alice AND requester != alice", true),
        ("person = alice@example.com", true),
        ("person = ops AND person : EXAMPLE.com", true),
        ("person != alice", false),
        ("person != \"alice \\\"the\\\" admin\"", true),
        ("person = \"\"", false),
        ("approver = carol", true),
        ("approver : bo", true),
        ("approver != Bob", false),
        ("approver != dave", true),
        ("labels.env = prod", true),
        ("labels.env = \"pro\"", false),
        ("labels.env != prod", false),
        ("labels.env != test AND labels.zone != a", true),
        ("labels.app.kubernetes.io/name=\"a b\"", true),
        ("label = env=prod", true),
        ("label : PROD", true),
        ("start_time = 2026-01-01", true),
        ("start_time >= \"2026-01-01T01:00:00+01:00\"", true),
        ("start_time > 2026-01-01T00:00:00Z", false),
        ("end_time < 2100-01-01", false),
        ("ticket = \"\"", true),
    ] {
        let parsed = Filter::sessions(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
        assert_eq!(parsed.matches(&session()), expected, "{filter}");
    }
}

#[test]
fn command_fields_are_found() {
    let command = v1::Command {
        seq: 7,
        argv: vec!["rm".into(), "-rf".into(), "/srv".into()],
        signal: Some(9),
        ..Default::default()
    };
    for (filter, expected) in [
        ("command_line : \"RM -rf\"", true),
        ("command_line = \"rm -rf /srv\"", true),
        ("argument = -rf", true),
        ("argument = rm AND argument = /srv", true),
        ("argument = -r", false),
        ("argument = \"rm -rf\"", false),
        ("argument : SR", true),
        ("argument : \"f /\"", false),
        ("argument != rm", false),
        ("argument != alarm", true),
        ("seq = 7 AND signal = 9", true),
        ("login_uid != 5", true),
    ] {
        assert_eq!(
            Filter::commands(filter).unwrap().matches(&command),
            expected,
            "{filter}"
        );
    }
}

#[test]
fn a_word_is_whole() {
    let holds = |argv: &[&str], filter: &str| {
        let command = v1::Command {
            argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
            ..Default::default()
        };
        Filter::commands(filter).unwrap().matches(&command)
    };
    let cases: &[(&[&str], &str, bool)] = &[
        (&["rm", "-r"], "rm", true),
        (&["sh", "-c", "cd /;/bin/rm -r x"], "rm", true),
        (&["alarm"], "rm", false),
        (&["rmdir", "a_rm", "rm2", "Rm", "rmü"], "rm", false),
        (&["alarm", "rm"], "rm", true),
        (&["apt-get", "install"], "apt-get", true),
        (&["apt-gets"], "apt-get", false),
        (&["cat", "/etc/shadow"], "/shadow", true),
        (&["cat", "/etc/shadow2"], "/shadow", false),
        (&["git", "push", "--force"], "\"push --force\"", true),
        (&["ba", "a", "a"], "\"a a\"", true),
        (&["ls"], "\"  \"", false),
        (&[], "rm", false),
    ];
    for &(argv, word, expected) in cases {
        assert_eq!(holds(argv, &format!("word = {word}")), expected, "{argv:?}");
        assert_ne!(
            holds(argv, &format!("word != {word}")),
            expected,
            "{argv:?}"
        );
    }
    for (filter, words) in [
        ("word : rm", "one of: = !="),
        ("word = ''", "`word` takes a text that is not empty"),
    ] {
        let error = Filter::commands(filter).unwrap_err();
        assert!(error.message.contains(words), "{error}");
    }
}

#[test]
fn a_search_names_fields_of_the_session_as_well() {
    let search = CommandSearch::parse(
        "command_line : rm AND session.user = bob AND uid = 0 AND session.uid != 0",
    )
    .unwrap();
    let names = |search: &CommandSearch| {
        let command = search.command.comparisons.iter().map(|c| c.field.name);
        let session = search.session.comparisons.iter().map(|c| c.field.name);
        (
            command.collect::<Vec<_>>(),
            session.map(str::to_owned).collect::<Vec<_>>(),
        )
    };
    assert_eq!(
        names(&search),
        (
            vec!["command_line", "uid"],
            vec!["user".into(), "uid".into()]
        )
    );
    assert!(search.asks_for_content());
    let rest = search.without_content();
    assert_eq!(names(&rest).0, ["uid"]);
    assert!(!rest.asks_for_content());
    for (filter, position, words) in [
        (
            "user = bob",
            1,
            "every field of the session as `session.user`",
        ),
        (
            "uid = 0 AND session.usr = bob",
            21,
            "there is no field \"usr\"",
        ),
        ("session. = bob", 9, "expected a field"),
    ] {
        let error = CommandSearch::parse(filter).unwrap_err();
        assert_eq!(error.position, position, "{filter}: {error}");
        assert!(error.message.contains(words), "{filter}: {error}");
    }
}

#[test]
fn errors_say_where_and_what_instead() {
    for (filter, position, words) in [
        (
            "usr = x",
            1,
            "there is no field \"usr\"; fields are: session_id, user,",
        ),
        ("user = x AND", 13, "expected a field after AND"),
        ("user = x OR uid = 1", 10, "expected AND, found \"OR\""),
        ("(user = x)", 1, "expected a field, found '('"),
        ("user", 5, "operator after `user`, one of: = != < <= > >= :"),
        ("user == x", 7, "expected a value for `user`"),
        ("uid : 1", 5, "one of: = != < <= > >="),
        ("state < active", 7, "one of: = !="),
        ("user =", 7, "expected a value for `user`"),
        ("user = \"x", 8, "no closing \""),
        ("user = \"\\x\"", 9, "after a backslash"),
        ("uid = -1", 7, "`uid` takes a whole number"),
        (
            "uid = 18446744073709551616",
            7,
            "`uid` takes a whole number",
        ),
        ("state = gone", 9, "one of: unspecified, active, closed"),
        ("adopted = yes", 11, "true or false"),
        ("start_time > 2026-01-31T10:00", 14, "takes a time such as"),
        ("start_time > 2026-13-01", 14, "takes a time such as"),
        ("user = ü AND käse = 1", 14, "there is no field \"käse\""),
        ("uid = \u{1b}[31m", 7, "not \"\\u{1b}[31m\""),
    ] {
        let Err(error) = Filter::sessions(filter) else {
            panic!("accepted: {filter}");
        };
        assert_eq!(error.position, position, "{filter}: {error}");
        assert!(error.message.contains(words), "{filter}: {error}");
        assert!(!error.to_string().contains(char::is_control), "{error:?}");
    }
}

#[test]
fn size_is_bounded() {
    let long = format!("user = \"{}\"", "x".repeat(MAX_FILTER_LEN));
    assert!(
        Filter::sessions(&long)
            .unwrap_err()
            .message
            .contains("bytes")
    );
    let terms = vec!["uid = 1"; MAX_TERMS].join(" AND ");
    assert!(Filter::sessions(&terms).is_ok());
    let more = format!("{terms} AND uid = 1");
    assert!(Filter::sessions(&more).unwrap_err().message.contains("50"));
}

#[test]
fn no_text_makes_it_panic() {
    let pieces = [
        "user", "=", "!", "<", ":", "\"", "'", "\\", " ", "AND", "ü", "\0", "(", "1", "uid",
        "state",
    ];
    let mut state = 7_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..8 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            text.push_str(pieces[(state >> 60) as usize]);
        }
        let _ = Filter::sessions(&text).map(|filter| filter.matches(&session()));
    }
}
