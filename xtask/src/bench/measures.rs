//! What is measured: names, units, and what a reading is compared with.

/// How readings of a recorder become a number in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// Divided by that of the same round without a recorder.
    Ratio,
    /// Less that of the same round without a recorder.
    Difference,
    /// As it is.
    Nothing,
    /// The least of all rounds: what is not all is said.
    Whole,
}

/// A row of a table.
pub struct Measure {
    /// Its id in what was measured.
    pub id: &'static str,
    /// What it is, with its unit.
    pub name: &'static str,
    /// What a reading is compared with.
    pub against: Against,
}

/// A table: all its rows have the same recorders.
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// Who everybody is compared with.
    pub baseline: &'static str,
    /// What the reader has to know.
    pub remark: &'static str,
    /// Its rows.
    pub measures: &'static [Measure],
}

const fn row(id: &'static str, name: &'static str, against: Against) -> Measure {
    Measure { id, name, against }
}

use Against::{Difference, Nothing, Ratio, Whole};

/// All of them, in their order.
pub const SECTIONS: [Section; 8] = [
    Section {
        title: "In a session, through ssh",
        baseline: "none",
        remark: "Processor time is that of sshd, of everything in the session and of the recorder, \
                 until what was shown is stored; the ssh client and the kernel's own threads are \
                 not in it. Stored bytes are all files of the recording. Complete is the part of \
                 what the client got that the recorder has stored, byte for byte from the \
                 beginning.",
        measures: &[
            row("text.speed", "text: speed, ratio", Ratio),
            row("text.cpu", "text: processor time, ratio", Ratio),
            row(
                "text.cpu",
                "text: processor time added, s per 50 MB",
                Difference,
            ),
            row("text.stored", "text: bytes stored per byte shown", Nothing),
            row("text.complete", "text: complete", Whole),
            row("small.speed", "small writes: speed, ratio", Ratio),
            row("small.cpu", "small writes: processor time, ratio", Ratio),
            row(
                "small.stored",
                "small writes: bytes stored per byte shown",
                Nothing,
            ),
            row("small.complete", "small writes: complete", Whole),
            row(
                "key.p50",
                "keystroke there and back: p50 added, µs",
                Difference,
            ),
            row(
                "key.p99",
                "keystroke there and back: p99 added, µs",
                Difference,
            ),
            row("exec.rate", "programs started: rate, ratio", Ratio),
            row("exec.complete", "programs started: recorded", Whole),
            row("storm.rate", "storm of programs: rate, ratio", Ratio),
            row("storm.complete", "storm of programs: recorded", Whole),
            row(
                "storm.accounted",
                "storm of programs: recorded or declared lost",
                Whole,
            ),
        ],
    },
    Section {
        title: "How it grows",
        baseline: "none",
        remark: "The same text, in sessions of different length. How memory grows with sessions, \
                 and queries with commands, stands below.",
        measures: &[
            row("text.1.speed", "1 MB of text: speed, ratio", Ratio),
            row("text.10.speed", "10 MB of text: speed, ratio", Ratio),
            row("text.100.speed", "100 MB of text: speed, ratio", Ratio),
            row(
                "text.1.cpu",
                "1 MB of text: processor time added, s per 50 MB",
                Difference,
            ),
            row(
                "text.10.cpu",
                "10 MB of text: processor time added, s per 50 MB",
                Difference,
            ),
            row(
                "text.100.cpu",
                "100 MB of text: processor time added, s per 50 MB",
                Difference,
            ),
            row(
                "text.1.stored",
                "1 MB of text: bytes stored per byte shown",
                Nothing,
            ),
            row(
                "text.10.stored",
                "10 MB of text: bytes stored per byte shown",
                Nothing,
            ),
            row(
                "text.100.stored",
                "100 MB of text: bytes stored per byte shown",
                Nothing,
            ),
        ],
    },
    Section {
        title: "Outside sessions",
        baseline: "no agent",
        remark: "Programs of this machine that are in no session. Those of one row do the same each \
                 time; processor time is theirs, in the kernel and outside. Two empty programs, \
                 one at the entry and one at the exit of every system call, are what the kernel \
                 itself takes for being watched that way: no tracer of system calls costs less.",
        measures: &[
            row("call.getppid", "getppid: ns added to a call", Difference),
            row(
                "call.read",
                "read of 1 byte: ns added to a call",
                Difference,
            ),
            row(
                "call.write",
                "write of 1 byte: ns added to a call",
                Difference,
            ),
            row(
                "call.open",
                "a file opened and closed: ns added",
                Difference,
            ),
            row(
                "call.pipe",
                "1 byte into a pipe and out: ns added",
                Difference,
            ),
            row("call.read", "read of 1 byte: duration, ratio", Ratio),
            row("turn.forks", "fork and exit: processor time, ratio", Ratio),
            row(
                "turn.loopback",
                "64 bytes over TCP: processor time, ratio",
                Ratio,
            ),
            row(
                "turn.connects",
                "TCP connection: processor time, ratio",
                Ratio,
            ),
            row("program.find", "find: processor time, ratio", Ratio),
            row("program.tar", "tar: processor time, ratio", Ratio),
            row("program.python", "python: processor time, ratio", Ratio),
            row("program.gcc", "gcc: processor time, ratio", Ratio),
        ],
    },
    Section {
        title: "Storage",
        baseline: "",
        remark: "Bytes stored per byte shown, with everything that belongs to the recording.",
        measures: &[
            row(
                "storage.empty",
                "a login that shows an empty line: kB stored",
                Nothing,
            ),
            row("storage.ls", "ls -lR", Nothing),
            row("storage.apt", "apt list", Nothing),
            row("storage.sources", "cat of C headers", Nothing),
            row("storage.vim", "vim: paging, a search, an edit", Nothing),
            row("storage.base64", "random bytes in base64", Nothing),
            row("storage.raw", "random bytes", Nothing),
            row("storage.ls.complete", "ls -lR: complete", Whole),
            row("storage.apt.complete", "apt list: complete", Whole),
            row(
                "storage.sources.complete",
                "cat of C headers: complete",
                Whole,
            ),
            row("storage.vim.complete", "vim: complete", Whole),
            row(
                "storage.base64.complete",
                "random bytes in base64: complete",
                Whole,
            ),
            row("storage.raw.complete", "random bytes: complete", Whole),
        ],
    },
    Section {
        title: "The agent itself",
        baseline: "",
        remark: "Memory is what is resident, with each page of the ring buffers once; `own` is \
                 without these and without files such as the program's. A session has been \
                 idle for 15 s and has a terminal and a connection of its own. When a keystroke is \
                 on the disk is what strace sees, which slows the agent down: an upper bound.",
        measures: &[
            row("memory.0", "memory without sessions, MiB", Nothing),
            row("memory.own.0", "own memory without sessions, MiB", Nothing),
            row("memory.1", "memory with 1 session, MiB", Nothing),
            row("memory.20", "memory with 20 sessions, MiB", Nothing),
            row("memory.own.20", "own memory with 20 sessions, MiB", Nothing),
            row("memory.100", "memory with 100 sessions, MiB", Nothing),
            row(
                "memory.own.100",
                "own memory with 100 sessions, MiB",
                Nothing,
            ),
            row("memory.1000", "memory with 1,000 sessions, MiB", Nothing),
            row(
                "memory.own.1000",
                "own memory with 1,000 sessions, MiB",
                Nothing,
            ),
            row(
                "idle.nobody",
                "processor while nobody is connected, %",
                Nothing,
            ),
            row(
                "idle.somebody",
                "processor while somebody is, idle, %",
                Nothing,
            ),
            row("durable.p50", "keystroke to disk: p50, ms", Nothing),
            row("durable.p99", "keystroke to disk: p99, ms", Nothing),
            row("stored.p50", "keystroke to store: p50, ms", Nothing),
            row("stored.p99", "keystroke to store: p99, ms", Nothing),
        ],
    },
    Section {
        title: "Reading a long recording",
        baseline: "",
        remark: "Megabytes that were shown, per second, from the start of the CLI to its end, with \
                 the recording in a folder.",
        measures: &[
            row("read.size", "what was shown, MB", Nothing),
            row("read.verify", "verify, MB/s", Nothing),
            row("read.text", "export as text, MB/s", Nothing),
            row("read.replay", "replay as text, MB/s", Nothing),
            row("read.seek", "first screen at 80 % of it, s", Nothing),
        ],
    },
    Section {
        title: "In an emulated guest",
        baseline: "no agent",
        remark: "A kernel that allows the kernel-function mode, under QEMU without virtualization: \
                 take the ratios, and compare the ways of capture with each other. The first rows \
                 are of programs outside sessions, the last of text and small writes through ssh.",
        measures: &[
            row("guest.getppid", "getppid: duration, ratio", Ratio),
            row("guest.read", "read of 1 byte: duration, ratio", Ratio),
            row("guest.write", "write of 1 byte: duration, ratio", Ratio),
            row(
                "guest.open",
                "a file opened and closed: duration, ratio",
                Ratio,
            ),
            row(
                "guest.pipe",
                "1 byte into a pipe and out: duration, ratio",
                Ratio,
            ),
            row("guest.forks", "fork and exit: processor time, ratio", Ratio),
            row(
                "guest.loopback",
                "64 bytes over TCP: processor time, ratio",
                Ratio,
            ),
            row(
                "guest.connects",
                "TCP connection: processor time, ratio",
                Ratio,
            ),
            row("guest.text", "text: speed, ratio", Ratio),
            row("guest.small", "small writes: speed, ratio", Ratio),
        ],
    },
    Section {
        title: "The collector",
        baseline: "",
        remark: "How many commands it has, and what it takes in and finds: reports of 2,000 agents \
                 over 16 connections, as fast as each is answered, stored durably; then each \
                 question 200 times with other words, one after the other, the first page of 100. \
                 Memory is the most that was resident, files of the program included.",
        measures: &[
            row("collector.ingest", "taken in, commands/s", Nothing),
            row(
                "collector.bytes",
                "stored without the log, B a command",
                Nothing,
            ),
            row(
                "collector.memory.ingest",
                "memory while taking in, MiB",
                Nothing,
            ),
            row("collector.memory", "memory in all, MiB", Nothing),
            row("collector.user.p50", "sessions of a user: p50, ms", Nothing),
            row("collector.user.p99", "sessions of a user: p99, ms", Nothing),
            row(
                "collector.minute.p50",
                "sessions of a host at a minute: p50, ms",
                Nothing,
            ),
            row(
                "collector.minute.p99",
                "sessions of a host at a minute: p99, ms",
                Nothing,
            ),
            row(
                "collector.session.p50",
                "commands of a session: p50, ms",
                Nothing,
            ),
            row(
                "collector.session.p99",
                "commands of a session: p99, ms",
                Nothing,
            ),
            row(
                "collector.text.p50",
                "text of one command: p50, ms",
                Nothing,
            ),
            row(
                "collector.text.p99",
                "text of one command: p99, ms",
                Nothing,
            ),
            row(
                "collector.text.10000.p50",
                "text of one in 10,000: p50, ms",
                Nothing,
            ),
            row(
                "collector.text.10000.p99",
                "text of one in 10,000: p99, ms",
                Nothing,
            ),
            row(
                "collector.text.12.p50",
                "text of one in 12: p50, ms",
                Nothing,
            ),
            row(
                "collector.text.12.p99",
                "text of one in 12: p99, ms",
                Nothing,
            ),
            row("collector.text.none.p50", "text of none: p50, ms", Nothing),
            row("collector.text.none.p99", "text of none: p99, ms", Nothing),
            row(
                "collector.text.host.p50",
                "text of one in 12, of a host: p50, ms",
                Nothing,
            ),
            row(
                "collector.text.host.p99",
                "text of one in 12, of a host: p99, ms",
                Nothing,
            ),
            row(
                "collector.failed.p50",
                "newest that failed: p50, ms",
                Nothing,
            ),
            row(
                "collector.failed.p99",
                "newest that failed: p99, ms",
                Nothing,
            ),
        ],
    },
];

/// Recorders in the order of the columns; what is not here comes behind.
pub const RECORDERS: [&str; 25] = [
    "none",
    "auditty",
    "script",
    "tlog",
    "sudo",
    "asciinema",
    "auditd",
    "no agent",
    "two empty programs",
    "kernel-function, nobody connected",
    "kernel-function, somebody idle",
    "kernel-function, in a session",
    "tracepoint, nobody connected",
    "tracepoint, somebody idle",
    "tracepoint, in a session",
    "uprobe, nobody connected",
    "uprobe, somebody idle",
    "SQLite, 10,000",
    "SQLite, 100,000",
    "SQLite, 1,000,000",
    "SQLite, 10,000,000",
    "PostgreSQL, 10,000",
    "PostgreSQL, 100,000",
    "PostgreSQL, 1,000,000",
    "PostgreSQL, 10,000,000",
];
