//! File transfers: the host's ends of sftp, scp, rsync and git, by their
//! programs, and the files they move.
//!
//! | protocol | program | told when |
//! |---|---|---|
//! | sftp | `sftp-server`, or sshd itself (`internal-sftp`) | it closes a file |
//! | scp | `scp` with `-t` (upload) or `-f` (download) | it closes a file |
//! | rsync | `rsync --server`, with `--sender` a download | it closes a file |
//! | git | `git-receive-pack` (upload), `git-upload-pack`, `git-upload-archive` | the session ends: the repository, with the bytes that went over the connection |
//!
//! These programs also open files that nobody asked them for: libraries,
//! locales, the user database. The C library opens those with `O_CLOEXEC`;
//! OpenSSH and rsync open what they transfer without it. So that bit decides,
//! and not the path: an upload to `/etc/passwd` is one, a look at it is none.

use auditty_recording::event::{
    Body, GapClass, Stream, Transfer, TransferDirection, TransferProtocol,
};
use nix::libc::{O_ACCMODE, O_CLOEXEC, O_RDONLY};

use serde::{Deserialize, Serialize};

use super::commands::{arguments, lossy};
use super::ending::Ending;
use super::session::OpenSession;
use super::streams::{StreamId, Streams};
use super::timeline::Out;
use crate::capture::event::{Direction, Exec, FileAccess, FileOperation};

/// The host's end of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Transport {
    /// Moves files one by one; the direction where the protocol has only one.
    Files(TransferProtocol, Option<TransferDirection>),
    /// Moves a repository as one stream.
    Repository {
        /// Its path.
        path: String,
        /// Its way over the connection.
        way: Way,
    },
}

/// The stream that carries a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Way {
    /// Which way.
    direction: TransferDirection,
    /// Where the stream stood when the program started.
    from: u64,
}

/// A repository whose program has ended, while the rest of it goes over the
/// connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moved {
    pid: u32,
    path: String,
    way: Way,
    duration_ns: u64,
}

impl Transport {
    /// sshd's own sftp server.
    pub(super) const SFTP: Self = Self::Files(TransferProtocol::Sftp, None);

    /// What this program start is the host's end of, if of anything.
    pub(super) fn of(exec: &Exec, streams: &Streams) -> Option<Self> {
        let (image, given) = (last_name(&exec.exe), last_name(&exec.filename));
        let is = |name: &str| image == name || given == name;
        let args: Vec<String> = arguments(&exec.args).into_iter().map(lossy).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).skip(1).collect();
        if is("sftp-server") {
            return Some(Self::SFTP);
        }
        if is("scp") {
            let direction = scp_direction(&args)?;
            return Some(Self::Files(TransferProtocol::Scp, Some(direction)));
        }
        if is("rsync") && args.first() == Some(&"--server") {
            let direction = match args.contains(&"--sender") {
                true => TransferDirection::Download,
                false => TransferDirection::Upload,
            };
            return Some(Self::Files(TransferProtocol::Rsync, Some(direction)));
        }
        let by_name = GIT
            .iter()
            .find(|(name, _)| given == *name || image == *name);
        let by_word = || {
            let (first, _) = args.split_first().filter(|_| is("git"))?;
            GIT.iter()
                .find(|(name, _)| name.strip_prefix("git-") == Some(first))
        };
        let (_, direction) = by_name.or_else(by_word)?;
        Some(Self::Repository {
            path: absolute(&exec.cwd, args.last()?),
            way: Way {
                direction: *direction,
                from: streams.position(wire(*direction)),
            },
        })
    }
}

impl Transport {
    /// Without what was done.
    pub(super) fn clear_path(&mut self) {
        if let Self::Repository { path, .. } = self {
            path.clear();
        }
    }
}

impl Moved {
    /// Without what was done.
    pub(super) fn clear_path(&mut self) {
        self.path.clear();
    }
}

const GIT: [(&str, TransferDirection); 3] = [
    ("git-receive-pack", TransferDirection::Upload),
    ("git-upload-pack", TransferDirection::Download),
    ("git-upload-archive", TransferDirection::Download),
];

/// The stream that carries what goes this way.
fn wire(direction: TransferDirection) -> StreamId {
    match direction {
        TransferDirection::Upload => StreamId::pipe(Stream::Stdin, Direction::Input),
        TransferDirection::Download => StreamId::pipe(Stream::Stdout, Direction::Output),
    }
}

/// scp's remote end is started with `-t` (to) or `-f` (from) among its options,
/// all of them before the path.
fn scp_direction(args: &[&str]) -> Option<TransferDirection> {
    let options = args.iter().take_while(|arg| arg.starts_with('-'));
    options
        .flat_map(|option| option.chars())
        .find_map(|letter| match letter {
            't' => Some(TransferDirection::Upload),
            'f' => Some(TransferDirection::Download),
            _ => None,
        })
}

/// The last component of a path.
pub(super) fn last_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

fn absolute(cwd: &str, path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{}/{path}", cwd.trim_end_matches('/')),
    }
}

impl OpenSession {
    /// A process of the session closed a file, or could not open it: a
    /// transfer, where its program is the host's end of one.
    pub(super) fn transfer(
        &mut self,
        out: &mut Out<'_>,
        (boot_ns, pid): (u64, u32),
        access: &FileAccess,
    ) {
        let transport = self.programs.get(&pid).and_then(|p| p.transport.as_ref());
        let Some(Transport::Files(protocol, only)) = transport.cloned() else {
            return;
        };
        let Some(direction) = direction(access) else {
            return;
        };
        // rsync reads what it is about to replace.
        if only.is_some_and(|only| only != direction) {
            return;
        }
        if !self.file_allowance.take(boot_ns) {
            self.bounded.add(GapClass::File, (1, 0), boot_ns);
            return;
        }
        let failed = access.error != 0;
        let transfer = Transfer {
            pid,
            protocol,
            direction,
            path: access.path.clone(),
            bytes: match direction {
                TransferDirection::Upload => access.written,
                TransferDirection::Download => access.read,
            },
            mode: (!failed).then_some(access.mode & PERMISSIONS),
            duration_ns: match failed {
                true => 0,
                false => boot_ns.saturating_sub(access.opened_boot_ns),
            },
            errno: failed.then_some(access.error),
        };
        self.emit(out, boot_ns, Body::Transfer(transfer));
    }

    /// Whether the process is the host's end of a transfer.
    pub(super) fn is_transport(&self, pid: u32) -> bool {
        let program = self.programs.get(&pid);
        program.is_some_and(|program| program.transport.is_some())
    }

    /// A process ended. What a git transport has left in its pipe is still to go
    /// over the connection.
    pub(super) fn program_ended(&mut self, out: &mut Out<'_>, boot_ns: u64, pid: u32) {
        let program = self.programs.remove(&pid);
        let Some(program) = program.filter(|program| program.pid == pid) else {
            return;
        };
        if let Some(Transport::Repository { path, way }) = &program.transport {
            self.moved.push(Moved {
                pid,
                path: path.clone(),
                way: *way,
                duration_ns: boot_ns.saturating_sub(program.boot_ns),
            });
            if matches!(self.ending, Ending::Told) {
                self.tell_moved(out, boot_ns);
            }
        }
    }

    /// Tells which repositories have gone over the connection by now.
    pub(super) fn tell_moved(&mut self, out: &mut Out<'_>, boot_ns: u64) {
        for moved in std::mem::take(&mut self.moved) {
            let position = self.streams.position(wire(moved.way.direction));
            let transfer = Transfer {
                pid: moved.pid,
                protocol: TransferProtocol::Git,
                direction: moved.way.direction,
                path: moved.path,
                bytes: position.saturating_sub(moved.way.from),
                mode: None,
                duration_ns: moved.duration_ns,
                errno: None,
            };
            self.emit(out, boot_ns, Body::Transfer(transfer));
        }
    }
}

const PERMISSIONS: u32 = 0o7777;

/// Which way the file went; `None` where the access is no transfer.
fn direction(access: &FileAccess) -> Option<TransferDirection> {
    let flags = access.flags.cast_signed();
    if flags & O_CLOEXEC != 0 || access.path == "/dev/null" {
        return None;
    }
    let opened = matches!(
        access.operation,
        FileOperation::OpenRead | FileOperation::OpenWrite | FileOperation::Create
    );
    match access.operation {
        FileOperation::Close => {}
        _ if opened && access.error != 0 => {}
        _ => return None,
    }
    let writes = access.written > 0 || (flags & O_ACCMODE != O_RDONLY && access.read == 0);
    Some(match writes {
        true => TransferDirection::Upload,
        false => TransferDirection::Download,
    })
}

#[cfg(test)]
mod tests {
    use auditty_recording::event::{TransferDirection, TransferProtocol};

    use super::{Streams, Transport, Way};
    use crate::capture::event::Exec;

    fn of(exe: &str, args: &str) -> Option<Transport> {
        let exec = Exec {
            exe: exe.into(),
            filename: exe.into(),
            cwd: "/home/alice".into(),
            args: args.replace(' ', "\0").into_bytes(),
            ..Exec::default()
        };
        Transport::of(&exec, &Streams::default())
    }

    #[test]
    fn only_the_hosts_ends_are_transports() {
        use TransferDirection::{Download, Upload};
        use TransferProtocol::{Rsync, Scp};
        let files = |protocol, direction| Some(Transport::Files(protocol, Some(direction)));
        let repository = |path: &str, direction| {
            Some(Transport::Repository {
                path: path.into(),
                way: Way { direction, from: 0 },
            })
        };
        for (exe, args, expected) in [
            (
                "/usr/lib/openssh/sftp-server",
                "sftp-server",
                Some(Transport::SFTP),
            ),
            ("/usr/bin/scp", "scp -v -r -t /tmp", files(Scp, Upload)),
            ("/usr/bin/scp", "scp -pf -- -t", files(Scp, Download)),
            ("/usr/bin/scp", "scp a host:-t", None),
            (
                "/usr/bin/rsync",
                "rsync --server -logDtpre.iLsfxC . /tmp",
                files(Rsync, Upload),
            ),
            (
                "/usr/bin/rsync",
                "rsync --server --sender -r . /x",
                files(Rsync, Download),
            ),
            ("/usr/bin/rsync", "rsync -a x y", None),
            (
                "/usr/bin/git-receive-pack",
                "git-receive-pack x.git",
                repository("/home/alice/x.git", Upload),
            ),
            (
                "/usr/bin/git",
                "git upload-pack /srv/x.git",
                repository("/srv/x.git", Download),
            ),
            ("/usr/bin/git", "git commit -a", None),
            ("/usr/bin/git", "git", None),
            ("/bin/cat", "sftp-server", None),
        ] {
            assert_eq!(of(exe, args), expected, "{exe} {args}");
        }
    }
}
