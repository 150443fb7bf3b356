//! Ptys: the client's own, which sshd holds, and inner ones, which processes of
//! the session hold (tmux, screen, script, sudo).
//!
//! A pty is known by the address of its master's `tty_struct`. Its index is of
//! no use: it is used again at once, and every devpts counts for itself.

use auditty_capture_ebpf::{
    CAUSE_TABLE_FULL, CLASS_STREAM, INNER_TERMINALS, Inner, KIND_TERMINAL_CLOSE,
    KIND_TERMINAL_INJECTION, KIND_TERMINAL_WRITER, KIND_WINDOW_SIZE, PROCESS_HOLDS_TERMINAL,
    StreamBody, Terminal, TerminalBody,
};

use crate::{
    emit, files,
    kernel::{self, Address, Origin, read},
    loss,
    maps::{INNER, INSIDE_SSHD, LINE_DISCIPLINE, TERMINALS, WRITERS, Writer, offset},
};

const ICANON: u32 = 0o2;
const ECHO: u32 = 0o10;

/// The other side of a pty is closed (include/linux/tty.h).
const TTY_OTHER_CLOSED: u64 = 1 << 2;

/// Descriptors of an ending process that are looked at for ptys.
const DESCRIPTORS: u64 = 256;

/// The running process reads or writes the master: from now on the pty is its
/// own. Returns 1 when the pty is known. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sight(master: u64) -> i32 {
    let pid = kernel::current_pid();
    let Some(process) = kernel::process(pid) else {
        return 0;
    };
    process.flags |= PROCESS_HOLDS_TERMINAL;
    let pts: u32 = read(master, offset!(tty_index));
    if let Some(terminal) = TERMINALS
        .get_ptr_mut(master)
        // SAFETY: a map value of integers.
        .and_then(|value| unsafe { value.as_mut() })
    {
        let ours = terminal.connection == process.connection && terminal.root == process.root;
        if terminal.pts == pts && (ours || terminal.holder == pid) {
            terminal.holder = pid;
            return 1;
        }
        if LINE_DISCIPLINE.load() != 0 {
            // Handed over by another session; it is closed when the kernel says.
            return 1;
        }
        // Its close was not seen: another pty took its address.
        close(master, u64::from(terminal.holder));
    }
    begin(master, pts, process.connection, process.root, pid)
}

/// The running process opens a master, if it is one that matters. A global
/// function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn opened(master: u64) -> i32 {
    let pid = kernel::current_pid();
    let Some(process) = kernel::process(pid) else {
        return 0;
    };
    if process.connection == 0 {
        return 0;
    }
    closed(master);
    let pts = read(master, offset!(tty_index));
    begin(master, pts, process.connection, process.root, pid)
}

/// The master is closed, whoever held it. A global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn closed(master: u64) -> i32 {
    let Some(terminal) = TERMINALS.get_ptr(master) else {
        return 0;
    };
    // SAFETY: a map value of integers.
    close(master, u64::from(unsafe { (*terminal).holder }))
}

#[inline(always)]
fn begin(master: u64, pts: u32, connection: u64, root: u64, pid: u32) -> i32 {
    let terminal = Terminal {
        id: kernel::boot_ns(),
        connection,
        root,
        next_output: 0,
        next_input: 0,
        writers: [0; 2],
        holder: pid,
        pts,
    };
    if TERMINALS.insert(master, terminal, 0).is_err() {
        let origin = Origin { connection, root };
        loss::count(origin, CAUSE_TABLE_FULL, CLASS_STREAM, 1, 0);
        return 0;
    }
    if root != 0 {
        remember_inner(root, master);
    } else if INSIDE_SSHD.load() != 0 {
        emit_window_size(master);
    }
    1
}

#[inline(always)]
fn remember_inner(root: u64, master: u64) {
    if let Some(inner) = INNER
        .get_ptr_mut(root)
        // SAFETY: a map value of integers.
        .and_then(|value| unsafe { value.as_mut() })
    {
        let at = inner.next as usize % INNER_TERMINALS;
        inner.next += 1;
        if let Some(slot) = inner.masters.get_mut(at) {
            *slot = master;
        }
        return;
    }
    let mut masters = [0; INNER_TERMINALS];
    masters[0] = master;
    let _ = INNER.insert(root, Inner { masters, next: 1 }, 0);
}

/// The running process has read the master and got an error. When nobody has the
/// other side open any more that was its end (`EIO`), and nobody says so where only
/// probes inside sshd run: the next pty may have the same address and index.
#[inline(always)]
pub fn read_failed(master: Address) {
    let flags: u64 = read(master, offset!(tty_flags));
    if flags & TTY_OTHER_CLOSED != 0 {
        close(master, u64::from(kernel::current_pid()));
    }
}

/// The holder's last descriptor of the master was closed. A global function:
/// verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn close(master: u64, holder: u64) -> i32 {
    let Some(terminal) = TERMINALS.get_ptr(master) else {
        return 0;
    };
    // SAFETY: a map value of integers.
    let Terminal {
        id,
        connection,
        root,
        holder: known,
        pts,
        ..
    } = unsafe { *terminal };
    if u64::from(known) != holder || TERMINALS.remove(master).is_err() {
        return 0;
    }
    if root != 0 {
        forget_inner(root, master);
    }
    let kind = KIND_TERMINAL_CLOSE;
    let origin = Origin { connection, root };
    if let Some(scratch) = emit::begin(kind, origin, known, kernel::boot_ns()) {
        let body = emit::body::<TerminalBody>(scratch);
        body.terminal = id;
        body.pts = pts;
        emit::submit(scratch);
    }
    0
}

#[inline(always)]
fn forget_inner(root: u64, master: u64) {
    // SAFETY: a map value of integers.
    let Some(inner) = INNER
        .get_ptr_mut(root)
        .and_then(|value| unsafe { value.as_mut() })
    else {
        return;
    };
    let mut others = false;
    for slot in &mut inner.masters {
        if *slot == master {
            *slot = 0;
        }
        others |= *slot != 0;
    }
    if !others {
        let _ = INNER.remove(root);
    }
}

/// Every pty that the running process holds is closed by its end. A global
/// function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn close_all(pid: u64) -> i32 {
    let table = kernel::descriptors();
    for fd in 0..DESCRIPTORS {
        if fd >= table.length {
            break;
        }
        let master = files::pty_master(read(table.files, fd * 8));
        if master != 0 {
            close(master, pid);
        }
    }
    0
}

/// Moves a terminal's position on by `len` and returns where it stood.
#[inline(always)]
pub fn advance(terminal: &mut Terminal, input: bool, len: u64) -> u64 {
    let next = if input {
        &mut terminal.next_input
    } else {
        &mut terminal.next_output
    };
    let start = *next;
    *next = start.wrapping_add(len);
    start
}

/// Fills in what a record says of its terminal.
#[inline(always)]
pub fn describe(body: &mut StreamBody, master: Address, id: u64) {
    let slave: Address = read(master, offset!(tty_link));
    // struct winsize: rows, columns, and two of pixels.
    let size: u32 = read(slave, offset!(tty_winsize));
    body.inode = id;
    body.rows = size as u16;
    body.columns = (size >> 16) as u16;
    body.pts = read(master, offset!(tty_index));
}

/// sshd set the window size of a pty.
#[inline(always)]
pub fn emit_window_size(master: Address) {
    let Some(terminal) = TERMINALS.get_ptr(master) else {
        return;
    };
    // SAFETY: a map value of integers.
    let terminal = unsafe { &*terminal };
    let origin = Origin {
        connection: terminal.connection,
        root: terminal.root,
    };
    let (kind, now) = (KIND_WINDOW_SIZE, kernel::boot_ns());
    if let Some(scratch) = emit::begin(kind, origin, terminal.holder, now) {
        describe(emit::body::<StreamBody>(scratch), master, terminal.id);
        emit::submit(scratch);
    }
}

/// Whether what is typed into the terminal may be a secret (1): it waits for
/// one itself, or another pty of the session does, to which it is passed on. A
/// global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn waits_for_secret(master: u64) -> i32 {
    if hides_input(master) {
        return 1;
    }
    let Some(terminal) = TERMINALS.get_ptr(master) else {
        return 0;
    };
    // SAFETY: a map value of integers.
    let Terminal { root, writers, .. } = unsafe { *terminal };
    if inner_waits(root) != 0 {
        return 1;
    }
    if writers[0] != root && inner_waits(writers[0]) != 0 {
        return 1;
    }
    inner_waits(writers[1])
}

/// Whether one of a root's own ptys waits for a secret (1). A global function:
/// verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn inner_waits(root: u64) -> i32 {
    if root == 0 {
        return 0;
    }
    let Some(inner) = INNER.get_ptr(root) else {
        return 0;
    };
    // SAFETY: a map value of integers.
    for master in unsafe { (*inner).masters } {
        if master != 0 && hides_input(master) {
            return 1;
        }
    }
    0
}

/// Echo off in canonical mode, as every password prompt has it. Line editors
/// turn echo off too, but not in canonical mode.
#[inline(always)]
fn hides_input(master: Address) -> bool {
    let slave: Address = read(master, offset!(tty_link));
    let flags: u32 = read(slave, offset!(tty_termios) + offset!(termios_lflag));
    flags & ECHO == 0 && flags & ICANON != 0
}

/// The running process writes to the slave side: what it shows there is noted,
/// and reported once when the terminal does not control it. A global function:
/// verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn wrote_to_slave(master: u64) -> i32 {
    let pid = kernel::current_pid();
    let Some(process) = kernel::process(pid) else {
        return 0;
    };
    let root = process.root;
    // SAFETY: a map value of integers.
    let terminal = TERMINALS
        .get_ptr_mut(master)
        .and_then(|value| unsafe { value.as_mut() });
    let mut id = 0;
    if let Some(terminal) = terminal {
        id = terminal.id;
        if terminal.writers[0] == 0 {
            terminal.writers[0] = root;
        } else if terminal.writers[0] != root {
            terminal.writers[1] = root;
        }
    }
    let signal: Address = read(kernel::current_task(), offset!(task_signal));
    let controlling: Address = read(signal, offset!(signal_tty));
    if controlling == read(master, offset!(tty_link)) {
        return 0;
    }
    let writer = Writer {
        master,
        pid: u64::from(pid),
    };
    if let Some(reported) = WRITERS.get_ptr(writer) {
        // SAFETY: a map value, an integer.
        if unsafe { *reported } == id {
            return 0;
        }
    }
    if WRITERS.insert(writer, id, 0).is_ok() {
        report(
            KIND_TERMINAL_WRITER,
            Origin::from(&*process),
            pid,
            master,
            id,
        );
    }
    0
}

/// The running process put a byte into the terminal's input.
#[inline(always)]
pub fn injected(master: Address) {
    let pid = kernel::current_pid();
    let Some(process) = kernel::process(pid) else {
        return;
    };
    let id = match TERMINALS.get_ptr(master) {
        // SAFETY: a map value of integers.
        Some(terminal) => unsafe { (*terminal).id },
        None => 0,
    };
    let origin = Origin::from(&*process);
    report(KIND_TERMINAL_INJECTION, origin, pid, master, id);
}

#[inline(always)]
fn report(kind: u32, origin: Origin, pid: u32, master: Address, id: u64) {
    if let Some(scratch) = emit::begin(kind, origin, pid, kernel::boot_ns()) {
        let body = emit::body::<TerminalBody>(scratch);
        body.terminal = id;
        body.pts = read(master, offset!(tty_index));
        emit::submit(scratch);
    }
}
