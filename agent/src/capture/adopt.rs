//! What was already running when the agent started: listeners of sshd and
//! dropbear, connections and their processes, found in `/proc`.
//!
//! The hooks on fork, exec and exit are attached first, so that nothing begins
//! unseen while this looks; it looks until it finds nothing new.

use std::{collections::HashMap, net::SocketAddr, os::unix::fs::MetadataExt};

use auditty_capture_ebpf::{
    PROCESS_IS_TRANSFER, PROCESS_LISTENER, PROCESS_SERVER, PROCESS_USER, Process, mint, minted_for,
};
use procfs::{
    net::{TcpNetEntry, TcpState},
    process::{FDTarget, Process as ProcProcess, Stat},
};

use super::{
    CaptureError,
    event::{ConnectionStart, Exec, Fact, Fd, KernelEvent},
    processes::Processes,
};

/// Rounds that are looked at most: each finds what was forked, by a parent not
/// yet known, during the one before.
const ROUNDS: usize = 8;

/// Adopts what is running and returns it as events, oldest first.
pub fn adopt(processes: &mut Processes) -> Result<Vec<KernelEvent>, CaptureError> {
    let mut events = Vec::new();
    for _ in 0..ROUNDS {
        let found = Scan::new().knowing(processes.all()).run(processes)?;
        let done = found.is_empty();
        events.extend(found);
        if done {
            break;
        }
    }
    if !events.is_empty() {
        processes.watch_all()?;
    }
    events.sort_by_key(|event| event.boot_ns);
    Ok(events)
}

/// What of the programs' table is running, oldest first.
pub fn present(table: Vec<(u32, Process)>) -> Vec<KernelEvent> {
    let scan = Scan::new();
    let mut events: Vec<KernelEvent> = table
        .into_iter()
        .filter(|(_, process)| process.connection != 0)
        .filter_map(|(pid, process)| {
            let running = scan.running.get(&i32::try_from(pid).ok()?)?;
            Some(KernelEvent {
                boot_ns: running.start_boot_ns,
                connection: process.connection,
                root: process.root,
                pid,
                fact: Fact::Present {
                    parent: running.stat.ppid.unsigned_abs(),
                    server: process.kind == PROCESS_SERVER,
                },
            })
        })
        .collect();
    events.sort_by_key(|event| event.boot_ns);
    events
}

struct Running {
    process: ProcProcess,
    stat: Stat,
    start_boot_ns: u64,
}

/// One look at all processes.
struct Scan {
    running: HashMap<i32, Running>,
    sockets: HashMap<u64, TcpNetEntry>,
    kinds: HashMap<i32, Process>,
}

impl Scan {
    fn new() -> Self {
        let ns_per_tick = 1_000_000_000 / procfs::ticks_per_second().max(1);
        let all = procfs::process::all_processes()
            .into_iter()
            .flatten()
            .flatten();
        let running = all.filter_map(|process| {
            let stat = process.stat().ok()?;
            let start_boot_ns = stat.starttime.saturating_mul(ns_per_tick);
            Some((
                stat.pid,
                Running {
                    process,
                    stat,
                    start_boot_ns,
                },
            ))
        });
        let sockets = procfs::net::tcp()
            .into_iter()
            .chain(procfs::net::tcp6())
            .flatten();
        Self {
            running: running.collect(),
            sockets: sockets.map(|entry| (entry.inode, entry)).collect(),
            kinds: HashMap::new(),
        }
    }

    /// What the programs know counts: the id of a connection is a moment that `/proc`
    /// does not tell, and its processes are to be found under it.
    fn knowing(mut self, table: Vec<(u32, Process)>) -> Self {
        let known = table.into_iter();
        let known = known.filter_map(|(pid, process)| Some((i32::try_from(pid).ok()?, process)));
        self.kinds.extend(known);
        self
    }

    fn run(mut self, processes: &mut Processes) -> Result<Vec<KernelEvent>, CaptureError> {
        let mut order: Vec<i32> = self.running.keys().copied().collect();
        order.sort_by_key(|pid| {
            self.running
                .get(pid)
                .map(|running| (running.start_boot_ns, *pid))
        });
        let mut events = Vec::new();
        for pid in order {
            let Some(kind) = self.kind(pid, 0) else {
                continue;
            };
            if processes.adopt(pid.unsigned_abs(), kind)? {
                let announced = self.announce(pid, kind);
                // One that ended during the look was told of before, or never
                // belonged to what is recorded; in the table it would stay for
                // whoever gets its number next.
                match self.still_runs(pid) {
                    true => events.extend(announced),
                    false => processes.forget(pid.unsigned_abs())?,
                }
            }
        }
        Ok(events)
    }

    /// What a process is to us: by its own image, or by its parent.
    fn kind(&mut self, pid: i32, depth: usize) -> Option<Process> {
        /// Deeper families do not fit a pid space.
        const MAX_DEPTH: usize = 4096;
        if let Some(kind) = self.kinds.get(&pid) {
            return Some(*kind);
        }
        let running = self.running.get(&pid)?;
        let (parent_pid, start) = (running.stat.ppid, running.start_boot_ns);
        let is_server = is_server(&running.stat.comm);
        let parent = if depth < MAX_DEPTH {
            self.kind(parent_pid, depth + 1)
        } else {
            None
        };
        let kind = match parent {
            Some(parent) if parent.kind != PROCESS_LISTENER => {
                let kind = if is_server && parent.kind == PROCESS_SERVER {
                    PROCESS_SERVER
                } else {
                    PROCESS_USER
                };
                let root = if kind == PROCESS_USER && parent.kind == PROCESS_SERVER {
                    mint(start, pid.unsigned_abs())
                } else {
                    parent.root
                };
                Process {
                    kind,
                    root,
                    flags: transfer_flag(self.running.get(&pid)?, parent.flags),
                    ..parent
                }
            }
            _ if !is_server => return None,
            _ if self.serves(pid) => Process {
                connection: mint(start, pid.unsigned_abs()),
                ..Process::new(PROCESS_SERVER)
            },
            _ => Process::new(PROCESS_LISTENER),
        };
        self.kinds.insert(pid, kind);
        Some(kind)
    }

    /// Whether a server that nobody else's connection started serves one itself.
    /// Without a network socket (`sshd -i` behind a Unix socket) its title tells,
    /// and since OpenSSH 9.8 its name.
    fn serves(&self, pid: i32) -> bool {
        let Some(running) = self.running.get(&pid) else {
            return false;
        };
        let titled = || {
            let arguments = running.process.cmdline().unwrap_or_default();
            let title = arguments.first().map_or("", String::as_str);
            title.starts_with("sshd: ") && !title.contains("[listener]")
        };
        running.stat.comm.starts_with("sshd-") || self.client(pid).is_some() || titled()
    }

    /// The client of a server: the peer of its first connected socket. A
    /// listener has none that is connected.
    fn client(&self, pid: i32) -> Option<&TcpNetEntry> {
        let fds = self.running.get(&pid)?.process.fd().ok()?;
        fds.flatten().find_map(|fd| match fd.target {
            FDTarget::Socket(inode) => self
                .sockets
                .get(&inode)
                .filter(|entry| entry.state == TcpState::Established),
            _ => None,
        })
    }

    fn still_runs(&self, pid: i32) -> bool {
        let running = self.running.get(&pid);
        running.is_some_and(|running| is_alive(pid.unsigned_abs(), running.start_boot_ns))
    }

    fn announce(&self, pid: i32, kind: Process) -> Vec<KernelEvent> {
        let mut events = Vec::new();
        let Some(running) = self.running.get(&pid) else {
            return events;
        };
        if kind.kind == PROCESS_LISTENER {
            return events;
        }
        let event = |fact| KernelEvent {
            boot_ns: running.start_boot_ns,
            connection: kind.connection,
            root: kind.root,
            pid: pid.unsigned_abs(),
            fact,
        };
        if minted_for(kind.connection) == pid.unsigned_abs() {
            let peers: Option<(SocketAddr, SocketAddr)> = self
                .client(pid)
                .map(|entry| (entry.remote_address, entry.local_address));
            events.push(event(Fact::ConnectionStart(ConnectionStart {
                client: peers.map(|(client, _)| canonical(client)),
                server: peers.map(|(_, server)| canonical(server)),
                parent_connection: 0,
                server_uid: running
                    .process
                    .status()
                    .map_or(u32::MAX, |status| status.euid),
                adopted: true,
            })));
        } else {
            events.push(event(Fact::Fork {
                parent: running.stat.ppid.unsigned_abs(),
            }));
        }
        events.push(event(Fact::Exec(Box::new(exec(running, kind)))));
        events
    }
}

/// As the kernel programs tell it of a program that starts: whether it transfers
/// files, by its image, which nobody but root may have made.
fn transfer_flag(running: &Running, parent_flags: u32) -> u32 {
    const IMAGES: [&str; 5] = [
        "sftp-server",
        "scp",
        "rsync",
        "git-upload-pack",
        "git-receive-pack",
    ];
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    let is_roots = std::fs::metadata(format!("/proc/{}/exe", running.stat.pid))
        .is_ok_and(|image| image.uid() == 0 && image.mode() & WRITABLE_BY_OTHERS == 0);
    let Ok(exe) = running.process.exe() else {
        return 0;
    };
    let image = exe.file_name().unwrap_or_default();
    let comm = running.stat.comm.as_str();
    let serves_git = comm == "git-upload-pack" || comm == "git-receive-pac";
    let is_transfer = IMAGES.iter().any(|name| image == *name)
        || (image == "git" && (serves_git || parent_flags & PROCESS_IS_TRANSFER != 0));
    if is_roots && is_transfer {
        PROCESS_IS_TRANSFER
    } else {
        0
    }
}

fn exec(running: &Running, kind: Process) -> Exec {
    let process = &running.process;
    let args = std::fs::read(format!("/proc/{}/cmdline", running.stat.pid)).unwrap_or_default();
    let exe = process
        .exe()
        .map(|path| path.to_string_lossy().into_owned())
        .unwrap_or_default();
    let status = process.status().ok();
    Exec {
        parent: running.stat.ppid.unsigned_abs(),
        exe_deleted: exe.ends_with(" (deleted)"),
        filename: exe.clone(),
        exe,
        cwd: process
            .cwd()
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        args_len: args.len() as u64,
        args,
        uid: status.as_ref().map_or(u32::MAX, |status| status.ruid),
        euid: status.as_ref().map_or(u32::MAX, |status| status.euid),
        login_uid: process.loginuid().unwrap_or(u32::MAX),
        fds: descriptors(running),
        session_leader: running.stat.session == running.stat.pid,
        server: kind.kind == PROCESS_SERVER,
        by_probes: false,
        unprobed: false,
        adopted: true,
    }
}

/// What sshd gave a program, as far as it can still be told: a shell may have
/// put something else in the place of its terminal, for a `read` from a file.
fn descriptors(running: &Running) -> [Fd; 3] {
    let mut fds = [0, 1, 2].map(|fd| describe(&running.process, fd));
    if running.stat.session == running.stat.pid
        && let Some(index) = pty_index(running.stat.tty_nr)
    {
        fds[0] = Fd::Pts(index);
    }
    fds
}

/// Index of the pty that is a process' controlling terminal, by its device
/// number as `/proc` has it.
fn pty_index(tty_nr: i32) -> Option<u32> {
    /// Of slaves (admin-guide/devices.txt).
    const MAJORS: std::ops::RangeInclusive<u32> = 136..=143;
    let device = tty_nr.cast_unsigned();
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
    let index = (major.wrapping_sub(*MAJORS.start())) << 20 | minor;
    MAJORS.contains(&major).then_some(index)
}

fn describe(process: &ProcProcess, fd: i32) -> Fd {
    match process.fd_from_fd(fd).map(|fd| fd.target) {
        Ok(FDTarget::Pipe(inode)) => Fd::Pipe(inode),
        Ok(FDTarget::Socket(_)) => Fd::Socket,
        Ok(FDTarget::Path(path)) => path
            .to_str()
            .and_then(|path| path.strip_prefix("/dev/pts/"))
            .and_then(|index| index.parse().ok())
            .map_or(Fd::Other, Fd::Pts),
        _ => Fd::Other,
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// As the kernel programs tell it: `sshd`, `sshd-session`, `sshd-auth`,
/// `dropbear`.
fn is_server(comm: &str) -> bool {
    comm == "sshd" || comm.starts_with("sshd-") || comm == "dropbear"
}

/// Whether the process that started then still runs: pids are reused.
pub fn is_alive(pid: u32, start_boot_ns: u64) -> bool {
    /// Start times in `/proc` have the resolution of a clock tick.
    const TICK_NS: u64 = 10_000_000;
    let Ok(stat) = i32::try_from(pid).map_err(|_| ()).and_then(|pid| {
        ProcProcess::new(pid)
            .and_then(|process| process.stat())
            .map_err(|_| ())
    }) else {
        return false;
    };
    let started = stat
        .starttime
        .saturating_mul(1_000_000_000 / procfs::ticks_per_second().max(1));
    // A zombie has ended, and only its parent has not looked yet; unless it is the
    // first thread of several.
    let ended = matches!(stat.state, 'Z' | 'X') && stat.num_threads <= 1;
    // A process is forked a moment before anyone is told: one with this pid that
    // started no later is the same, one that started later has taken its pid.
    started <= start_boot_ns.saturating_add(TICK_NS) && !ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_only_with_its_own_start_time() {
        let me = ProcProcess::myself().unwrap().stat().unwrap();
        let started = me.starttime * 1_000_000_000 / procfs::ticks_per_second();
        assert!(is_alive(std::process::id(), started));
        assert!(!is_alive(std::process::id(), started - 1_000_000_000));
    }

    #[test]
    fn controlling_terminals() {
        // pts/0, pts/1, pts/300; none, tty1.
        let ptys = [34_816, 34_817, 1_083_436].map(pty_index);
        assert_eq!(ptys, [Some(0), Some(1), Some(300)]);
        assert_eq!([0, 1_025].map(pty_index), [None, None]);
    }

    #[test]
    fn names_of_servers() {
        let servers = ["sshd", "sshd-session", "sshd-auth", "dropbear"];
        assert!(servers.iter().all(|name| is_server(name)));
        let others = ["ssh", "sshdx", "bash", "dropbearkey", "dbclient"];
        assert!(!others.iter().any(|name| is_server(name)));
    }
}
