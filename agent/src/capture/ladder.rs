//! The ways of capture, best first, and what each hooks.
//!
//! | hook | kernel function | tracepoint | uprobe | attached |
//! |---|---|---|---|---|
//! | `task:task_newtask` | x | x | x | always |
//! | `sched:sched_process_exec` | x | x | x | always |
//! | `sched:sched_process_exit` | x | x | x | always |
//! | `pty_open`, `pty_close` | x | | | always |
//! | `n_tty_receive_buf2`, entry and return | x | | | always |
//! | `sock:inet_sock_set_state` | x | x | | while a session's processes live |
//! | `raw_syscalls:sys_enter`, `sys_exit` | x | x | | while a session's processes live |
//! | `read` and `write` inside sshd | | | x | always |
//!
//! The kind of a hook is chosen for truth before cost. Trampolines (fentry,
//! fexit) and raw or BTF tracepoints lose events silently on kernels that can
//! preempt them; classic tracepoints, kprobes and uprobes do not. A way is taken
//! when the kernel really accepts its probes: features are tried, versions are
//! not looked at.

use std::path::Path;

use super::{btf::Btf, kretprobe, sshd_calls, tracefs};

/// A way of capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Terminals at the line discipline, by probes of kernel functions.
    KernelFunction,
    /// Terminals at the system calls of those who hold them.
    Tracepoint,
    /// Terminals at the calls inside sshd's own program.
    Uprobe,
}

impl Mode {
    /// All, best first.
    pub const LADDER: [Self; 3] = [Self::KernelFunction, Self::Tracepoint, Self::Uprobe];

    /// As it is written in the configuration and in recordings.
    pub fn name(self) -> &'static str {
        match self {
            Self::KernelFunction => "kernel-function",
            Self::Tracepoint => "tracepoint",
            Self::Uprobe => "uprobe",
        }
    }

    /// Why this kernel does not allow it, if so: its probes are tried.
    pub fn obstacle(self, btf: &Btf) -> Option<String> {
        match self {
            Self::KernelFunction => kernel_functions(btf).err(),
            Self::Tracepoint => raw_system_calls().err(),
            Self::Uprobe => uprobes().err(),
        }
    }

    /// What is not captured this way, besides what no way captures.
    pub fn limits(self) -> &'static [&'static str] {
        match self {
            Self::KernelFunction => &[],
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
const FUNCTION: &[Mode] = &[Mode::KernelFunction];
const SSHD: &[Mode] = &[Mode::Uprobe];
const CALLS: &[Mode] = &[Mode::KernelFunction, Mode::Tracepoint];

const HOOKS: [Hook; 13] = [
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
        modes: CALLS,
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
        if wanted.is_some_and(|wanted| wanted != mode) {
            continue;
        }
        match mode.obstacle(btf) {
            None => return (Some(mode), refusals),
            Some(reason) => refusals.push(Refusal { mode, reason }),
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
                        .any(|prototype| prototype.name == function)
                );
            }
        }
    }
}
