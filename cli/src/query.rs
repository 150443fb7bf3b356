//! Options of the lists → the filter language of `auditty.v1`.

use jiff::{SignedDuration, Timestamp};

use crate::args::{Alerts, Audit, Commands, FailedLogins, Hosts, Line, Search, Sessions};
use crate::failure::{Failure, Result};
use crate::moment::Zone;

/// The filter that the options of `auditty sessions` ask for.
///
/// # Errors
/// A time that is none.
pub fn sessions(args: &Sessions, zone: &Zone) -> Result<String> {
    let now = Timestamp::now();
    let time = |text: &Option<String>| match text {
        Some(text) => zone
            .parse(text, now)
            .map(|at| Some(at.to_string()))
            .map_err(Failure::usage),
        None => Ok(None),
    };
    let comparisons = [
        ("user =", args.user.clone()),
        ("person =", args.person.clone()),
        ("key_fingerprint =", args.key_fingerprint.clone()),
        ("hostname =", args.host.clone()),
        ("start_time >=", time(&args.since)?),
        ("start_time <", time(&args.until)?),
        ("grant_status =", args.grant_status.clone()),
        ("requester =", args.requester.clone()),
        ("approver =", args.approver.clone()),
        ("access_flow =", args.access_flow.clone()),
        ("request_id =", args.request_id.clone()),
        ("verdict =", args.verdict.clone()),
        ("state =", args.state.clone()),
        ("kind =", args.kind.clone()),
        ("parent_session_id =", args.parent.clone()),
    ];
    let mut parts: Vec<String> = comparisons
        .into_iter()
        .filter_map(|(what, value)| Some(format!("{what} {}", quoted(&value?))))
        .collect();
    parts.extend(labels(&args.label));
    parts.extend(args.page.filter.clone());
    Ok(parts.join(" AND "))
}

/// The minute that `auditty sessions --at` asks for.
///
/// # Errors
/// A time that is none.
pub fn minute(args: &Sessions, zone: &Zone) -> Result<Option<(Timestamp, Timestamp)>> {
    let Some(text) = &args.at else {
        return Ok(None);
    };
    let from = zone.parse(text, Timestamp::now()).map_err(Failure::usage)?;
    let until = from.checked_add(SignedDuration::from_mins(1));
    Ok(Some((from, until.map_err(Failure::usage)?)))
}

/// The filter that the options of `auditty commands` ask for.
pub fn commands(args: &Commands) -> String {
    let parts = line(&args.line).chain(args.page.filter.clone());
    parts.collect::<Vec<_>>().join(" AND ")
}

/// What must be there of a command line as a whole.
fn line(line: &Line) -> impl Iterator<Item = String> {
    let all = |field: &'static str, texts: &[String]| -> Vec<String> {
        let texts = texts.iter();
        texts
            .map(|text| format!("{field} = {}", quoted(text)))
            .collect()
    };
    let words = all("word", &line.word);
    all("argument", &line.argument).into_iter().chain(words)
}

/// The filter that the options of `auditty search` ask for.
///
/// # Errors
/// A time that is none.
pub fn search(args: &Search, zone: &Zone) -> Result<String> {
    let now = Timestamp::now();
    let mut parts = Vec::new();
    let comparisons = [
        ("command_line :", &args.text),
        ("session.user =", &args.user),
        ("session.person =", &args.person),
        ("session.hostname =", &args.host),
    ];
    for (what, value) in comparisons {
        parts.extend(
            value
                .iter()
                .map(|value| format!("{what} {}", quoted(value))),
        );
    }
    parts.extend(line(&args.line));
    let labels = args.label.iter();
    parts.extend(labels.map(|label| format!("session.label = {}", quoted(label))));
    if let Some(code) = args.exit_code {
        parts.push(format!("exit_code = {code}"));
    }
    for (operator, text) in [(">=", &args.since), ("<", &args.until)] {
        if let Some(text) = text {
            let at = zone.parse(text, now).map_err(Failure::usage)?;
            parts.push(format!("start_time {operator} {}", quoted(&at.to_string())));
        }
    }
    parts.extend(args.page.filter.clone());
    Ok(parts.join(" AND "))
}

/// The filter that the options of `auditty audit` ask for.
///
/// # Errors
/// A time that is none.
pub fn audit(args: &Audit, zone: &Zone) -> Result<String> {
    let now = Timestamp::now();
    let mut parts = Vec::new();
    for (field, value) in [("caller", &args.caller), ("purpose", &args.purpose)] {
        let value = value.iter();
        parts.extend(value.map(|value| format!("{field} = {}", quoted(value))));
    }
    for (operator, text) in [(">=", &args.since), ("<", &args.until)] {
        if let Some(text) = text {
            let at = zone.parse(text, now).map_err(Failure::usage)?;
            parts.push(format!("time {operator} {}", quoted(&at.to_string())));
        }
    }
    if args.refused {
        parts.push("refused = true".to_owned());
    }
    parts.extend(args.page.filter.clone());
    Ok(parts.join(" AND "))
}

/// The filter that the options of `auditty alerts` ask for.
///
/// # Errors
/// A time that is none.
pub fn alerts(args: &Alerts, zone: &Zone) -> Result<String> {
    let now = Timestamp::now();
    let named = [
        ("kind", &args.kind),
        ("hostname", &args.host),
        ("user", &args.user),
    ];
    let named = named.into_iter().filter_map(|(field, value)| {
        let value = quoted(value.as_ref()?);
        Some(format!("{field} = {value}"))
    });
    let mut parts: Vec<_> = named.chain(labels(&args.label)).collect();
    for (operator, text) in [(">=", &args.since), ("<", &args.until)] {
        if let Some(text) = text {
            let at = zone.parse(text, now).map_err(Failure::usage)?;
            parts.push(format!("time {operator} {}", quoted(&at.to_string())));
        }
    }
    parts.extend(args.page.filter.clone());
    Ok(parts.join(" AND "))
}

/// The filter that the options of `auditty hosts` ask for.
pub fn hosts(args: &Hosts) -> String {
    let parts = labels(&args.label).chain(args.filter.clone());
    parts.collect::<Vec<_>>().join(" AND ")
}

/// Labels that a host must have.
fn labels(labels: &[String]) -> impl Iterator<Item = String> {
    labels
        .iter()
        .map(|label| format!("label = {}", quoted(label)))
}

/// The filter that the options of `auditty failed-logins` ask for.
///
/// # Errors
/// A time that is none.
pub fn failed_logins(args: &FailedLogins, zone: &Zone) -> Result<String> {
    let now = Timestamp::now();
    let named = [
        ("user", &args.user),
        ("hostname", &args.host),
        ("client_address", &args.from),
        ("outcome", &args.outcome),
    ];
    let named = named.into_iter().filter_map(|(field, value)| {
        let value = quoted(value.as_ref()?);
        Some(format!("{field} = {value}"))
    });
    let mut parts: Vec<_> = named.collect();
    for (operator, text) in [(">=", &args.since), ("<", &args.until)] {
        if let Some(text) = text {
            let at = zone.parse(text, now).map_err(Failure::usage)?;
            parts.push(format!("start_time {operator} {}", quoted(&at.to_string())));
        }
    }
    parts.extend(args.page.filter.clone());
    Ok(parts.join(" AND "))
}

/// Sessions whose id begins so. Ids are hexadecimal digits and hyphens, which
/// all sort before `g`.
pub fn id_prefix(prefix: &str) -> String {
    format!(r#"session_id >= "{prefix}" AND session_id < "{prefix}g""#)
}

fn quoted(value: &str) -> String {
    let mut out = String::from('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use auditty_proto::filter::{CommandSearch, Filter};
    use auditty_proto::names::ShortName;
    use auditty_proto::v1;
    use clap::Parser;

    use crate::args::{Cli, Verb};
    use crate::moment::Zone;

    fn filter(options: &[&str]) -> String {
        let Verb::Sessions(args) =
            Cli::parse_from(["auditty", "sessions"].iter().chain(options)).verb
        else {
            unreachable!()
        };
        super::sessions(&args, &Zone::new(true)).unwrap()
    }

    #[test]
    fn every_option_becomes_a_comparison_that_parses() {
        let text = filter(&[
            "--user=a\"b\\c",
            "--person=alice@corp",
            "--key-fingerprint=SHA256:a",
            "--requester=alice",
            "--verdict=interrupted",
            "--host=web-1",
            "--since=2026-01-31",
            "--until=1h",
            "--grant-status=ungranted",
            "--approver=bob",
            "--access-flow=oncall",
            "--request-id=REQ-1",
            "--state=active",
            "--kind=forward",
            "--label=env=prod",
            "--label=zone=\"a\"",
            "--parent=0199e0a4-7b1c-7000-8000-000000000001",
            "--filter=verdict = lossy",
        ]);
        let parsed = Filter::sessions(&text).unwrap();
        assert_eq!(parsed.comparisons.len(), 18, "{text}");
        assert_eq!(filter(&[]), "");
    }

    #[test]
    fn every_option_of_a_search_becomes_a_comparison_that_parses() {
        let options = [
            "auditty",
            "search",
            "rm \"-rf\"",
            "--argument=-rf",
            "--argument",
            "--force",
            "--word=rm",
            "--user=bob",
            "--person=alice@corp",
            "--host=web-1",
            "--exit-code=1",
            "--label=env=prod",
            "--since=2026-01-31",
            "--until=1h",
            "--filter=session.verdict = lossy",
        ];
        let Verb::Search(args) = Cli::parse_from(options).verb else {
            unreachable!()
        };
        let text = super::search(&args, &Zone::new(true)).unwrap();
        let search = CommandSearch::parse(&text).unwrap();
        let (command, session) = (search.command.comparisons, search.session.comparisons);
        assert_eq!((command.len(), session.len()), (7, 5), "{text}");
    }

    #[test]
    fn every_option_of_commands_becomes_a_comparison_that_parses() {
        let options = ["--argument=/srv x", "--word=rm", "--filter=uid = 0"];
        let typed = ["auditty", "commands", "0199"].into_iter().chain(options);
        let Verb::Commands(args) = Cli::parse_from(typed).verb else {
            unreachable!()
        };
        let text = super::commands(&args);
        let parsed = Filter::commands(&text).unwrap();
        assert_eq!(parsed.comparisons.len(), 3, "{text}");
    }

    #[test]
    fn every_option_of_audit_becomes_a_comparison_that_parses() {
        let options = [
            "--caller=eve",
            "--purpose=replay",
            "--since=1h",
            "--refused",
        ];
        let typed = ["auditty", "audit", "--until=1m"].into_iter();
        let Verb::Audit(args) = Cli::parse_from(typed.chain(options)).verb else {
            unreachable!()
        };
        let text = super::audit(&args, &Zone::new(true)).unwrap();
        let parsed = Filter::audit_records(&text).unwrap();
        assert_eq!(parsed.comparisons.len(), 5, "{text}");
    }

    #[test]
    fn every_option_of_alerts_becomes_a_comparison_that_parses() {
        let kinds: Vec<_> = (1..)
            .map_while(|kind| v1::AlertKind::try_from(kind).ok())
            .collect();
        assert!(kinds.len() >= 14);
        for kind in kinds {
            let kind = format!("--kind={}", ShortName::short_name(kind));
            let options = [&kind, "--host=a", "--user=b", "--since=1h", "--until=1m"];
            let typed = ["auditty", "alerts", "--label=env=prod"]
                .into_iter()
                .chain(options);
            let Verb::Alerts(args) = Cli::parse_from(typed).verb else {
                unreachable!()
            };
            let text = super::alerts(&args, &Zone::new(true)).unwrap();
            let parsed = Filter::alerts(&text).unwrap();
            assert_eq!(parsed.comparisons.len(), 6, "{text}");
        }
    }

    #[test]
    fn every_option_of_hosts_becomes_a_comparison_that_parses() {
        let options = ["--label=env=prod", "--label=zone=a", "--filter=host_id : a"];
        let typed = ["auditty", "hosts"].into_iter().chain(options);
        let Verb::Hosts(args) = Cli::parse_from(typed).verb else {
            unreachable!()
        };
        let parsed = Filter::hosts(&super::hosts(&args)).unwrap();
        assert_eq!(parsed.comparisons.len(), 3);
    }

    #[test]
    fn every_option_of_failed_logins_becomes_a_comparison_that_parses() {
        for outcome in ["failed", "not_tried", "logged_in", "not_recorded"] {
            let outcome = format!("--outcome={outcome}");
            let options = [&outcome, "--user=a", "--host=b", "--from=::1", "--since=1h"];
            let typed = ["auditty", "failed-logins", "--until=1m"];
            let Verb::FailedLogins(args) = Cli::parse_from(typed.into_iter().chain(options)).verb
            else {
                unreachable!()
            };
            let text = super::failed_logins(&args, &Zone::new(true)).unwrap();
            let parsed = Filter::failed_logins(&text).unwrap();
            assert_eq!(parsed.comparisons.len(), 6, "{text}");
        }
    }

    #[test]
    fn a_prefix_finds_exactly_its_ids() {
        let filter = Filter::sessions(&super::id_prefix("0199e0a4-7")).unwrap();
        let matches = |id: &str| {
            filter.matches(&v1::Session {
                session_id: id.to_owned(),
                ..Default::default()
            })
        };
        assert!(matches("0199e0a4-7b1c-7000-8000-0123456789ab"));
        assert!(matches("0199e0a4-7fff-7fff-bfff-ffffffffffff"));
        assert!(!matches("0199e0a4-8000-7000-8000-000000000000"));
        assert!(!matches("0199e0a3-7b1c-7000-8000-0123456789ab"));
    }
}
