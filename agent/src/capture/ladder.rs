//! The ways of capture, best first, and what each hooks.
//!
//! | hook | kernel function | tracepoint | uprobe | attached |
//! |---|---|---|---|---|
//! | `task:task_newtask` | x | x | x | always |
//! | `sched:sched_process_exec` | x | x | x | always |
//! | `sched:sched_process_exit` | x | x | x | always |
//! | `pty_open`, `pty_close` | x | | | always |
//! | `n_tty_receive_buf2`, entry and return | x | | | always |
//! | single system calls, entry and return | x | | | always |
//! | pipes, terminals, Unix sockets: reads and writes | x | | | always |
//! | `sock:inet_sock_set_state` | x | x | | while a session's processes live |
//! | `raw_syscalls:sys_enter`, `sys_exit` | | x | | while a session's processes live |
//! | `read` and `write` inside sshd | | | x | always |
//!
//! The tracepoints of all system calls are paid for by every program of the host,
//! and by each of its calls; the probes of single ones by who makes those. A kernel
//! whose single calls cannot be probed has the tracepoints also in the first way
//! ([`Mode::LineDiscipline`]).
//!
//! The kind of a hook is chosen for truth before cost. Trampolines (fentry,
//! fexit) and raw or BTF tracepoints lose events silently on kernels that can
//! preempt them; classic tracepoints, kprobes and uprobes do not. A way is taken
//! when the kernel really accepts its probes: features are tried, versions are
//! not looked at.

use std::path::Path;

use super::{
    btf::Btf,
    kretprobe, sshd_calls,
    system_calls::{CALLS as CALLS_BEGIN, Group, PARTS, RETURNS},
    tracefs,
};

/// A way of capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Terminals at the line discipline and everything else at single calls, by
    /// probes of kernel functions.
    KernelFunction,
    /// Only terminals so, and everything else at all system calls: to the
    /// configuration and to recordings the same.
    LineDiscipline,
    /// Terminals at the system calls of those who hold them.
    Tracepoint,
    /// Terminals at the calls inside sshd's own program.
    Uprobe,
}

impl Mode {
    /// All, best first.
    pub const LADDER: [Self; 4] = [
        Self::KernelFunction,
        Self::LineDiscipline,
        Self::Tracepoint,
        Self::Uprobe,
    ];

    /// As it is written in the configuration and in recordings.
    pub fn name(self) -> &'static str {
        match self {
            Self::KernelFunction | Self::LineDiscipline => "kernel-function",
            Self::Tracepoint => "tracepoint",
            Self::Uprobe => "uprobe",
        }
    }

    /// Why this kernel does not allow it, if so: its probes are tried.
    pub fn obstacle(self, btf: &Btf) -> Option<String> {
        match self {
            Self::KernelFunction => kernel_functions(btf).and_then(|()| single_calls(btf)).err(),
            Self::LineDiscipline => kernel_functions(btf)
                .and_then(|()| raw_system_calls())
                .err(),
            Self::Tracepoint => raw_system_calls().err(),
            Self::Uprobe => uprobes().err(),
        }
    }

    /// What is not captured this way, besides what no way captures.
    pub fn limits(self) -> &'static [&'static str] {
        match self {
            Self::KernelFunction => &[
                "of a transfer, bytes that are moved by pread, pwrite and the like are not counted; of a file that it opens for both, what was read and what was written is told by whether the file has changed",
            ],
            Self::LineDiscipline => &[],
            Self::Tracepoint => &[
                "bytes that a session's own programs (not sshd) move through inner terminals by other calls than read, write, readv and writev (io_uring, splice)",
            ],
            Self::Uprobe => &[
                "inner terminals (tmux, screen, script)",
                "files, transfers, forwarded and outgoing connections",
                "uses of io_uring, ptrace and datagrams",
                "the login, but for the client's address",
                "whatever happens while no agent runs, whatever capture.pin says",
                "what is typed and shown in sessions of dropbear, and of an sshd that is statically linked, elsewhere than where distributions have it, in a container, or replaced while the agent runs",
            ],
        }
    }
}

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A classic tracepoint: category and name.
    Tracepoint(&'static str, &'static str),
    /// The entry of a kernel function.
    Entry(&'static str),
    /// Its return.
    Return(&'static str),
    /// The entries or returns of several kernel functions.
    Several(&'static Group),
    /// Inside sshd's own program, wherever it calls.
    Sshd(Call),
}

/// Places around a call of `read` or `write`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The instruction that calls `read`.
    Read,
    /// The instruction that calls `write`.
    Write,
    /// The instruction behind either.
    Behind,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tracepoint(category, name) => write!(f, "tracepoint {category}:{name}"),
            Self::Entry(function) => write!(f, "kprobe {function}"),
            Self::Return(function) => write!(f, "kretprobe {function}"),
            Self::Several(group) => group.fmt(f),
            Self::Sshd(Call::Read) => f.write_str("uprobe read in sshd"),
            Self::Sshd(Call::Write) => f.write_str("uprobe write in sshd"),
            Self::Sshd(Call::Behind) => f.write_str("uprobe behind read and write in sshd"),
        }
    }
}

/// A program and where it belongs.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    /// Name of the program.
    pub program: &'static str,
    /// Where it is attached.
    pub point: Point,
    /// Only while processes of a session live: it costs the whole host.
    pub on_demand: bool,
    /// What it is for.
    pub purpose: &'static str,
    modes: &'static [Mode],
}

impl Hook {
    /// Those of a mode, in the order in which they are attached: the end of
    /// something before its beginning, which would be left waiting for it.
    pub fn of(mode: Mode) -> impl Iterator<Item = &'static Self> {
        HOOKS.iter().filter(move |hook| hook.modes.contains(&mode))
    }
}

const ALL: &[Mode] = &Mode::LADDER;
const FUNCTION: &[Mode] = &[Mode::KernelFunction, Mode::LineDiscipline];
const SINGLE: &[Mode] = &[Mode::KernelFunction];
const SSHD: &[Mode] = &[Mode::Uprobe];
const SOCKETS: &[Mode] = &[Mode::KernelFunction, Mode::LineDiscipline, Mode::Tracepoint];
const CALLS: &[Mode] = &[Mode::LineDiscipline, Mode::Tracepoint];

const HOOKS: [Hook; 23] = [
    Hook {
        program: "task_newtask",
        point: Point::Tracepoint("task", "task_newtask"),
        on_demand: false,
        purpose: "lineage: a child is what its parent is",
        modes: ALL,
    },
    Hook {
        program: "sched_process_exec",
        point: Point::Tracepoint("sched", "sched_process_exec"),
        on_demand: false,
        purpose: "commands, and the start of a connection",
        modes: ALL,
    },
    Hook {
        program: "sched_process_exit",
        point: Point::Tracepoint("sched", "sched_process_exit"),
        on_demand: false,
        purpose: "ends and exit codes",
        modes: ALL,
    },
    Hook {
        program: "pty_close",
        point: Point::Entry("pty_close"),
        on_demand: false,
        purpose: "the end of a terminal",
        modes: FUNCTION,
    },
    Hook {
        program: "pty_open",
        point: Point::Entry("pty_open"),
        on_demand: false,
        purpose: "whose a terminal is",
        modes: FUNCTION,
    },
    Hook {
        program: "n_tty_receive_buf2_return",
        point: Point::Return("n_tty_receive_buf2"),
        on_demand: false,
        purpose: "bytes of terminals, as many as were really taken",
        modes: FUNCTION,
    },
    Hook {
        program: "n_tty_receive_buf2",
        point: Point::Entry("n_tty_receive_buf2"),
        on_demand: false,
        purpose: "bytes of terminals, and whether one waits for a secret",
        modes: FUNCTION,
    },
    Hook {
        program: "part_returned",
        point: Point::Several(&PARTS),
        on_demand: false,
        purpose: "bytes of pipes, as many as were really taken; sizes of terminals",
        modes: SINGLE,
    },
    Hook {
        program: "call_returned",
        point: Point::Several(&RETURNS),
        on_demand: false,
        purpose: "results of the calls below",
        modes: SINGLE,
    },
    Hook {
        program: "call_begins",
        point: Point::Several(&CALLS_BEGIN),
        on_demand: false,
        purpose: "files, sockets, and what else is done by calls of its own",
        modes: SINGLE,
    },
    Hook {
        program: "pipe_read",
        point: Point::Entry("anon_pipe_read|pipe_read"),
        on_demand: false,
        purpose: "output of sessions without a terminal",
        modes: SINGLE,
    },
    Hook {
        program: "pipe_write",
        point: Point::Entry("anon_pipe_write|pipe_write"),
        on_demand: false,
        purpose: "input of sessions without a terminal",
        modes: SINGLE,
    },
    Hook {
        program: "sock_read_iter",
        point: Point::Entry("sock_read_iter"),
        on_demand: false,
        purpose: "that a transfer begins to talk to its peer",
        modes: SINGLE,
    },
    Hook {
        program: "unix_stream_sendmsg",
        point: Point::Entry("unix_stream_sendmsg"),
        on_demand: false,
        purpose: "the login",
        modes: SINGLE,
    },
    Hook {
        program: "tty_read",
        point: Point::Entry("tty_read"),
        on_demand: false,
        purpose: "who holds a terminal",
        modes: SINGLE,
    },
    Hook {
        program: "tty_write",
        point: Point::Entry("tty_write"),
        on_demand: false,
        purpose: "who holds a terminal, and who writes to it",
        modes: SINGLE,
    },
    Hook {
        program: "tty_ioctl",
        point: Point::Entry("tty_ioctl"),
        on_demand: false,
        purpose: "sizes of terminals, and bytes that are put into their input",
        modes: SINGLE,
    },
    Hook {
        program: "sshd_returned",
        point: Point::Sshd(Call::Behind),
        on_demand: false,
        purpose: "how many bytes went through",
        modes: SSHD,
    },
    Hook {
        program: "sshd_read",
        point: Point::Sshd(Call::Read),
        on_demand: false,
        purpose: "output of terminals and pipes",
        modes: SSHD,
    },
    Hook {
        program: "sshd_write",
        point: Point::Sshd(Call::Write),
        on_demand: false,
        purpose: "input of terminals and pipes",
        modes: SSHD,
    },
    Hook {
        program: "inet_sock_set_state",
        point: Point::Tracepoint("sock", "inet_sock_set_state"),
        on_demand: true,
        purpose: "network connections and forwards",
        modes: SOCKETS,
    },
    Hook {
        program: "raw_sys_exit",
        point: Point::Tracepoint("raw_syscalls", "sys_exit"),
        on_demand: true,
        purpose: "results of the calls below",
        modes: CALLS,
    },
    Hook {
        program: "raw_sys_enter",
        point: Point::Tracepoint("raw_syscalls", "sys_enter"),
        on_demand: true,
        purpose: "files, pipes, the login, terminals where their bytes are not seen elsewhere",
        modes: CALLS,
    },
];

/// What an argument of a hooked function must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A pointer to this structure.
    Structure(&'static str),
    /// A pointer to bytes.
    Bytes,
    /// An integer of four or eight bytes.
    Integer,
}

/// A kernel function as the programs take it.
pub struct Prototype {
    /// Its name.
    pub name: &'static str,
    /// Its arguments.
    pub arguments: &'static [Argument],
    /// Whether its result is an integer that is read.
    pub has_result: bool,
}

/// The functions that are probed.
pub const PROTOTYPES: [Prototype; 3] = [
    Prototype {
        name: "n_tty_receive_buf2",
        arguments: &[
            Argument::Structure("tty_struct"),
            Argument::Bytes,
            Argument::Bytes,
            Argument::Integer,
        ],
        has_result: true,
    },
    Prototype {
        name: "pty_open",
        arguments: &[
            Argument::Structure("tty_struct"),
            Argument::Structure("file"),
        ],
        has_result: false,
    },
    Prototype {
        name: "pty_close",
        arguments: &[
            Argument::Structure("tty_struct"),
            Argument::Structure("file"),
        ],
        has_result: false,
    },
];

/// A read or write that has come to whom it concerns.
const fn transfer(name: &'static str) -> Prototype {
    Prototype {
        name,
        arguments: &[
            Argument::Structure("kiocb"),
            Argument::Structure("iov_iter"),
        ],
        has_result: true,
    }
}

/// Those of [`Mode::KernelFunction`] alone. The functions of system calls all take
/// the registers.
pub const SINGLE_PROTOTYPES: [Prototype; 7] = [
    transfer("anon_pipe_read|pipe_read"),
    transfer("anon_pipe_write|pipe_write"),
    transfer("sock_read_iter"),
    transfer("tty_read"),
    transfer("tty_write"),
    Prototype {
        name: "tty_ioctl",
        arguments: &[
            Argument::Structure("file"),
            Argument::Integer,
            Argument::Integer,
        ],
        has_result: true,
    },
    Prototype {
        name: "unix_stream_sendmsg",
        arguments: &[
            Argument::Structure("socket"),
            Argument::Structure("msghdr"),
            Argument::Integer,
        ],
        has_result: true,
    },
];

/// Whether single system calls can be probed, and what reads and writes.
fn single_calls(btf: &Btf) -> Result<(), String> {
    const INSTEAD: &str = "while a session's processes live, tracepoints that every system call pays for take its place";
    let tried = || -> Result<(), String> {
        for prototype in &SINGLE_PROTOTYPES {
            btf.check_function(prototype)
                .map_err(|error| error.to_string())?;
        }
        for hook in Hook::of(Mode::KernelFunction) {
            if let Point::Several(group) = hook.point {
                let event = kretprobe::Event::define_group(group);
                drop(event.map_err(|error| format!("it refuses to probe {error}"))?);
            }
        }
        Ok(())
    };
    tried().map_err(|reason| format!("for single system calls, {reason}; {INSTEAD}"))
}

/// Whether the functions are what the programs take them for, and can be probed.
fn kernel_functions(btf: &Btf) -> Result<(), String> {
    if !tracefs::folder().join("kprobe_events").exists() {
        return Err("it has no kprobes (CONFIG_KPROBE_EVENTS)".to_owned());
    }
    if !Path::new("/sys/bus/event_source/devices/kprobe").exists() {
        return Err(
            "it has no kprobes for programs (CONFIG_KPROBES, CONFIG_PERF_EVENTS)".to_owned(),
        );
    }
    for prototype in &PROTOTYPES {
        btf.check_function(prototype)
            .map_err(|error| error.to_string())?;
    }
    for hook in Hook::of(Mode::KernelFunction) {
        if let Point::Return(function) = hook.point {
            let event = kretprobe::Event::define(function)
                .map_err(|error| format!("it refuses to probe {function}: {error}"))?;
            drop(event);
        }
    }
    Ok(())
}

/// Whether sshd's program can be probed.
fn uprobes() -> Result<(), String> {
    if !Path::new("/sys/bus/event_source/devices/uprobe").exists() {
        return Err("it has no uprobes (CONFIG_UPROBES)".to_owned());
    }
    sshd_calls::sites().map(|_| ())
}

/// Whether the tracepoints of system calls are there.
fn raw_system_calls() -> Result<(), String> {
    for hook in Hook::of(Mode::Tracepoint) {
        if let Point::Tracepoint(category, name) = hook.point
            && !tracefs::folder()
                .join("events")
                .join(category)
                .join(name)
                .exists()
        {
            return Err(format!("it has no tracepoint {category}:{name}"));
        }
    }
    Ok(())
}

/// A way that was not taken, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The way.
    pub mode: Mode,
    /// The reason.
    pub reason: String,
}

/// The best way this kernel allows, or the one that is `wanted`; and the better
/// ones that it does not.
pub fn choose(wanted: Option<Mode>, btf: &Btf) -> (Option<Mode>, Vec<Refusal>) {
    let mut refusals = Vec::new();
    for mode in Mode::LADDER {
        if wanted.is_some_and(|wanted| wanted.name() != mode.name()) {
            continue;
        }
        let refusal = match mode.obstacle(btf) {
            None => return (Some(mode), refusals),
            Some(reason) => Refusal { mode, reason },
        };
        let same =
            |other: &Refusal| other.mode.name() == mode.name() && other.reason == refusal.reason;
        if !refusals.iter().any(same) {
            refusals.push(refusal);
        }
    }
    (None, refusals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_follows_processes_all_the_time() {
        for mode in Mode::LADDER {
            let always: Vec<&str> = Hook::of(mode)
                .filter(|hook| !hook.on_demand)
                .map(|hook| hook.program)
                .collect();
            assert!(always.starts_with(&[
                "task_newtask",
                "sched_process_exec",
                "sched_process_exit"
            ]));
        }
    }

    #[test]
    fn what_is_probed_has_a_prototype() {
        for hook in &HOOKS {
            if let Point::Entry(function) | Point::Return(function) = hook.point {
                assert!(
                    PROTOTYPES
                        .iter()
                        .chain(&SINGLE_PROTOTYPES)
                        .any(|prototype| prototype.name == function)
                );
            }
        }
    }
}
