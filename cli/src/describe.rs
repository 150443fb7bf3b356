//! Messages of `auditty.v1` in the words of tables.

use auditty_proto::names::ShortName;
use auditty_proto::v1;
use auditty_recording::encryption::Recipient;
use jiff::Timestamp;

use crate::moment;
use crate::table::{Text, Tone};

/// What stands where nothing is known.
pub const UNKNOWN: &str = "?";

/// Short name of an enum value, with spaces; `unknown` for an unset one.
pub fn name<E: ShortName + TryFrom<i32>>(value: i32) -> String {
    match E::try_from(value) {
        Ok(value) => match value.short_name().as_str() {
            "unspecified" => "unknown".to_owned(),
            name => name.replace('_', " "),
        },
        Err(_) => format!("unknown ({value})"),
    }
}

/// How long a session lasted, or lasts.
pub fn duration(session: &v1::Session, now: Timestamp) -> String {
    let start = moment::from_proto(session.start_time.as_ref());
    let end = moment::from_proto(session.end_time.as_ref());
    match (start, end) {
        (Some(start), Some(end)) => moment::short(moment::between(start, end)),
        (Some(start), None) => format!("{}+", moment::short(moment::between(start, now))),
        _ => UNKNOWN.to_owned(),
    }
}

/// Who allowed it, in one cell: `bob / oncall`, or that nobody did.
pub fn grant(session: &v1::Session) -> Text {
    let Some(matched) = &session.grant else {
        return Text::toned("UNKNOWN", Tone::Warning);
    };
    let by = matched.grant.as_ref().map(|grant| {
        let approvers = grant.approvers.join(", ");
        format!("{approvers} / {}", grant.access_flow)
    });
    let outlived = matched.outlived_time.is_some();
    match (v1::GrantStatus::try_from(matched.status), by) {
        (Ok(v1::GrantStatus::Granted), Some(by)) if outlived => {
            Text::toned(format!("OUTLIVED {by}"), Tone::Bad)
        }
        (Ok(v1::GrantStatus::Granted), Some(by)) => Text::from(by),
        (Ok(v1::GrantStatus::Expired), Some(by)) => Text::toned(format!("EXPIRED {by}"), Tone::Bad),
        (Ok(v1::GrantStatus::Revoked), Some(by)) => Text::toned(format!("REVOKED {by}"), Tone::Bad),
        (Ok(v1::GrantStatus::Ungranted), _) => Text::toned("UNGRANTED", Tone::Bad),
        (Ok(v1::GrantStatus::Ambiguous), _) => Text::toned("AMBIGUOUS", Tone::Warning),
        _ => Text::toned(
            name::<v1::GrantStatus>(matched.status).to_uppercase(),
            Tone::Warning,
        ),
    }
}

/// Whether the session goes on, and what is left of it.
pub fn state(session: &v1::Session) -> String {
    let name = name::<v1::SessionState>(session.state);
    match session.running_process_count {
        running @ 1.. if session.state() == v1::SessionState::Closed => {
            let running = count(running.into(), "process", "processes");
            format!("{name}, {running} still running")
        }
        _ => name,
    }
}

/// `1 process`, `2 processes`.
pub fn count(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Whether the recording is whole.
pub fn verdict(session: &v1::Session) -> Text {
    let tone = match session.verdict() {
        v1::Verdict::Complete => Tone::Good,
        v1::Verdict::Open | v1::Verdict::Unspecified => Tone::Plain,
        v1::Verdict::Lossy => Tone::Warning,
        v1::Verdict::Interrupted => Tone::Bad,
    };
    Text::toned(name::<v1::Verdict>(session.verdict).to_uppercase(), tone)
}

/// How a process ended: its exit code, or the signal's name.
pub fn exit(code: Option<u32>, signal: Option<u32>) -> String {
    match (code, signal) {
        (_, Some(signal)) => signal_name(signal),
        (Some(code), None) => code.to_string(),
        (None, None) => String::new(),
    }
}

fn signal_name(signal: u32) -> String {
    let name = match signal {
        1 => "HUP",
        2 => "INT",
        3 => "QUIT",
        4 => "ILL",
        6 => "ABRT",
        7 => "BUS",
        8 => "FPE",
        9 => "KILL",
        11 => "SEGV",
        13 => "PIPE",
        14 => "ALRM",
        15 => "TERM",
        _ => return format!("signal {signal}"),
    };
    format!("SIG{name}")
}

/// Whether something worked: `ok`, or the error's name.
pub fn result(errno: Option<u32>) -> Text {
    let Some(number) = errno else {
        return "ok".into();
    };
    let name = match number {
        1 => "EPERM",
        2 => "ENOENT",
        5 => "EIO",
        13 => "EACCES",
        17 => "EEXIST",
        18 => "EXDEV",
        20 => "ENOTDIR",
        21 => "EISDIR",
        22 => "EINVAL",
        26 => "ETXTBSY",
        28 => "ENOSPC",
        30 => "EROFS",
        36 => "ENAMETOOLONG",
        39 => "ENOTEMPTY",
        40 => "ELOOP",
        122 => "EDQUOT",
        _ => return Text::toned(format!("errno {number}"), Tone::Warning),
    };
    Text::toned(name, Tone::Warning)
}

/// One end of a network connection.
pub fn address(address: &str, port: u32) -> String {
    match address {
        "" => String::new(),
        address if address.contains(':') => format!("[{address}]:{port}"),
        address => format!("{address}:{port}"),
    }
}

/// Whether a command runs a script: the kernel puts the path that was started
/// behind the interpreter's own arguments.
pub fn is_script(command: &v1::Command) -> bool {
    let other = command.exe != command.filename;
    let mut behind = command.argv.iter().skip(1).take(2);
    other && !command.filename.is_empty() && behind.any(|arg| *arg == command.filename)
}

/// A public key as people compare it; what is none, as it is.
pub fn recipient(key: &str) -> String {
    let kind = key
        .split(' ')
        .next()
        .filter(|kind| kind.starts_with("ssh-"));
    match (key.parse::<Recipient>(), kind) {
        (Ok(key), Some(kind)) => format!("{kind} {}", key.fingerprint()),
        (Ok(key), None) => key.fingerprint(),
        (Err(_), _) => key.to_owned(),
    }
}

/// What stands in place of what only the recording has.
pub const WITHHELD: &str = "(in the recording alone)";

/// A command's arguments as a shell would take them: `rm 'a b'` is not
/// `rm a b`.
pub fn command_line(command: &v1::Command) -> String {
    if command.content_withheld {
        return WITHHELD.to_owned();
    }
    let words: Vec<String> = command.argv.iter().map(|word| quoted(word)).collect();
    let mut line = words.join(" ");
    if line.is_empty() {
        line = format!("({})", command.exe);
    }
    if command.argv_truncated {
        line.push_str(&format!(" … ({} bytes in all)", command.argv_byte_count));
    }
    line
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,@%+^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// `12 B`, `3.4 KiB`, `5.6 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use auditty_proto::v1;

    use super::{address, bytes, command_line, exit, grant, is_script, result};
    use crate::table::{Text, Tone};

    #[test]
    fn arguments_keep_their_borders() {
        let command = v1::Command {
            argv: ["rm", "-rf", "a b", "it's", ""].map(str::to_owned).into(),
            ..Default::default()
        };
        assert_eq!(command_line(&command), r"rm -rf 'a b' 'it'\''s' ''");
    }

    #[test]
    fn scripts_are_told_from_links() {
        let command = |exe: &str, filename: &str, argv: &str| v1::Command {
            exe: exe.into(),
            filename: filename.into(),
            argv: argv.split(' ').map(str::to_owned).collect(),
            ..Default::default()
        };
        assert!(is_script(&command(
            "/bin/bash",
            "./x.sh",
            "/bin/bash ./x.sh a"
        )));
        assert!(is_script(&command(
            "/bin/sh",
            "/opt/x",
            "/bin/sh -e /opt/x"
        )));
        assert!(!is_script(&command(
            "/bin/bash",
            "/bin/bash",
            "bash ./x.sh"
        )));
        assert!(!is_script(&command(
            "/usr/bin/vim.basic",
            "/usr/bin/vi",
            "vi /usr/bin/a"
        )));
    }

    #[test]
    fn ungranted_stands_out() {
        let mut session = v1::Session {
            grant: Some(v1::GrantMatch {
                status: v1::GrantStatus::Ungranted.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(grant(&session), Text::toned("UNGRANTED", Tone::Bad));
        session.grant = Some(v1::GrantMatch {
            status: v1::GrantStatus::Granted.into(),
            grant: Some(v1::Grant {
                approvers: vec!["bob".into(), "eve".into()],
                access_flow: "oncall".into(),
                ..Default::default()
            }),
            ..Default::default()
        });
        assert_eq!(grant(&session), Text::from("bob, eve / oncall"));
        let matched = session.grant.as_mut().unwrap();
        matched.outlived_time = Some(prost_types::Timestamp::default());
        let outlived = Text::toned("OUTLIVED bob, eve / oncall", Tone::Bad);
        assert_eq!(grant(&session), outlived);
    }

    #[test]
    fn small_words() {
        assert_eq!(exit(Some(3), None), "3");
        assert_eq!(exit(None, Some(9)), "SIGKILL");
        assert_eq!(result(Some(13)), Text::toned("EACCES", Tone::Warning));
        assert_eq!(address("2001:db8::1", 22), "[2001:db8::1]:22");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
    }
}
