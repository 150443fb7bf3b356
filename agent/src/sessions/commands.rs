//! What a program start says: the exec event, and what kind of session it is
//! the beginning of.

use auditty_recording::event;
use auditty_recording::session::SessionKind;
use base64::{Engine, prelude::BASE64_STANDARD};

use crate::capture::event::Exec;

/// The audit system's "no login user".
const UNSET_LOGIN_UID: u32 = u32::MAX;

/// The exec as it stands on the timeline.
pub(super) fn exec_event(pid: u32, exec: &Exec) -> event::Exec {
    let arguments = arguments(&exec.args);
    let exact = arguments
        .iter()
        .any(|arg| std::str::from_utf8(arg).is_err());
    event::Exec {
        pid,
        parent_pid: exec.parent,
        exe: exec.exe.clone(),
        filename: exec.filename.clone(),
        cwd: exec.cwd.clone(),
        argv: arguments.iter().map(|arg| lossy(arg)).collect(),
        argv_base64: exact.then(|| {
            arguments
                .iter()
                .map(|arg| BASE64_STANDARD.encode(arg))
                .collect()
        }),
        argv_bytes: exec.args_len,
        argv_truncated: exec.args_len > exec.args.len() as u64,
        uid: exec.uid,
        euid: exec.euid,
        login_uid: (exec.login_uid != UNSET_LOGIN_UID).then_some(exec.login_uid),
        exe_deleted: exec.exe_deleted,
    }
}

/// Kind and requested command of the session that this exec begins: sshd runs
/// `-shell` for a login and `shell -c command` for a command or subsystem
/// (OpenSSH `session.c`, `do_child`).
pub(super) fn session_kind(exec: &Exec) -> (SessionKind, String) {
    let arguments = arguments(&exec.args);
    match arguments.as_slice() {
        [] => (SessionKind::Unknown, String::new()),
        [_shell] => (SessionKind::Shell, String::new()),
        [_shell, flag, command, ..] if *flag == b"-c" => {
            let command = lossy(command);
            (command_kind(&command), command)
        }
        words => {
            let words: Vec<_> = words.iter().map(|word| lossy(word)).collect();
            let command = words.join(" ");
            (command_kind(&command), command)
        }
    }
}

fn command_kind(command: &str) -> SessionKind {
    let program = command.split_whitespace().next().unwrap_or_default();
    match program.rsplit('/').next() {
        Some("sftp-server") => SessionKind::Subsystem,
        _ => SessionKind::Exec,
    }
}

/// The arguments of a block that `execve` made of them.
pub(super) fn arguments(block: &[u8]) -> Vec<&[u8]> {
    match block.strip_suffix(b"\0").unwrap_or(block) {
        [] if block.is_empty() => Vec::new(),
        block => block.split(|byte| *byte == 0).collect(),
    }
}

/// The text, with what is not UTF-8 replaced.
pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use auditty_recording::session::SessionKind;

    use super::{exec_event, session_kind};
    use crate::capture::event::Exec;

    fn exec(args: &[u8]) -> Exec {
        Exec {
            args: args.to_vec(),
            args_len: args.len() as u64,
            ..Exec::default()
        }
    }

    #[test]
    fn kinds_of_sessions() {
        use SessionKind::{Exec, Shell, Subsystem, Unknown};
        for (args, kind, command) in [
            (&b"-bash\0"[..], Shell, ""),
            (b"bash\0", Shell, ""),
            (b"bash\0-c\0ls -l\0", Exec, "ls -l"),
            (
                b"bash\0-c\0/usr/lib/openssh/sftp-server\0",
                Subsystem,
                "/usr/lib/openssh/sftp-server",
            ),
            (
                b"bash\0-c\0/usr/lib/sftp-server -l INFO\0",
                Subsystem,
                "/usr/lib/sftp-server -l INFO",
            ),
            (b"bash\0-c\0cat sftp-server\0", Exec, "cat sftp-server"),
            (b"sleep\x00100\0", Exec, "sleep 100"),
            (b"", Unknown, ""),
        ] {
            assert_eq!(session_kind(&exec(args)), (kind, command.to_owned()));
        }
    }

    #[test]
    fn arguments_are_exact() {
        let event = exec_event(7, &exec(b"a\0\0b c\0"));
        assert_eq!(event.argv, ["a", "", "b c"]);
        assert_eq!((event.argv_base64, event.argv_truncated), (None, false));

        let mut cut = exec(b"a\0caf\xe9");
        cut.args_len = 100;
        let event = exec_event(7, &cut);
        assert_eq!(event.argv, ["a", "caf\u{fffd}"]);
        assert_eq!(event.argv_base64.unwrap(), ["YQ==", "Y2Fm6Q=="]);
        assert!(event.argv_truncated && event.argv_bytes == 100);
        assert_eq!(exec_event(7, &exec(b"\0")).argv, [""]);
    }
}
