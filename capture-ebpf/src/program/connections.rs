//! Where a connection begins: a server image with the client on its standard
//! input, or the child that dropbear forks for a client it accepted.

use auditty_capture_ebpf::{
    CAUSE_TABLE_FULL, CLASS_PROCESS, ConnectionBody, KIND_CONNECTION, PATH_MAX, PROCESS_SERVER,
    Process, mint,
};
use aya_ebpf::helpers::generated;

use crate::{
    emit,
    kernel::{self, Address, Origin, read},
    loss,
    maps::{PROCESSES, offset},
};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// `pid` serves the client behind `socket` from now on. The program runs in its
/// context, or in its parent's at the fork, whose user it still has.
#[inline(always)]
pub fn start(pid: u32, socket: Address, parent_connection: u64, boot_ns: u64) -> Process {
    let process = Process {
        connection: mint(boot_ns, pid),
        ..Process::new(PROCESS_SERVER)
    };
    remember(pid, &process);
    kernel::watch(pid, process.watch_bits());
    if let Some(scratch) = emit::begin(KIND_CONNECTION, Origin::from(&process), pid, boot_ns) {
        let cred: Address = read(kernel::current_task(), offset!(task_cred));
        let family: u16 = read(socket, offset!(sk_family));
        let body = emit::body::<ConnectionBody>(scratch);
        body.parent_connection = parent_connection;
        body.uid = read(cred, offset!(cred_euid));
        body.family = u32::from(family);
        if family == AF_INET || family == AF_INET6 {
            body.client_port = u16::from_be(read(socket, offset!(sk_dport)));
            body.server_port = read(socket, offset!(sk_num));
        }
        if family == AF_INET6 {
            body.client = read(socket, offset!(sk_v6_daddr));
            body.server = read(socket, offset!(sk_v6_rcv_saddr));
        } else if family == AF_INET {
            kernel::put_ipv4(&mut body.client, read(socket, offset!(sk_daddr)));
            kernel::put_ipv4(&mut body.server, read(socket, offset!(sk_rcv_saddr)));
        }
        emit::wake(scratch);
    }
    process
}

/// Enters a process into the table.
#[inline(always)]
pub fn remember(pid: u32, process: &Process) {
    if PROCESSES.insert(pid, process, 0).is_err() {
        loss::count(Origin::from(process), CAUSE_TABLE_FULL, CLASS_PROCESS, 1, 0);
    }
}

/// Arguments that are looked at for [`serves_stdin`].
const ARGUMENTS: u32 = 24;
/// Letters of each.
const LETTERS: usize = 4;

/// Whether the arguments of a new sshd or dropbear say that its standard input
/// is the client (`-i`, alone or behind flags without values): 1 or 0.
/// `arguments` is where they begin in the new image. A global function:
/// verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn serves_stdin(arguments: u64) -> i32 {
    let Some(scratch) = emit::scratch() else {
        return 0;
    };
    let mut at = arguments;
    for _ in 0..ARGUMENTS {
        // SAFETY: writes at most PATH_MAX bytes of the larger payload.
        let copied = unsafe {
            generated::bpf_probe_read_user_str(
                (&raw mut (*scratch).payload).cast(),
                PATH_MAX as u32,
                at as *const _,
            )
        };
        if copied <= 0 {
            return 0;
        }
        at = at.wrapping_add(copied as u64);
        // SAFETY: the first bytes of the payload, LETTERS and the dash.
        let word = unsafe {
            (&raw const (*scratch).payload)
                .cast::<[u8; LETTERS + 1]>()
                .read()
        };
        if says_stdin(word) {
            return 1;
        }
    }
    0
}

#[inline(always)]
fn says_stdin(word: [u8; LETTERS + 1]) -> bool {
    let [b'-', letters @ ..] = word else {
        return false;
    };
    for letter in letters {
        match letter {
            b'i' => return true,
            // Flags of sshd and of dropbear without a value.
            b'D' | b'd' | b'e' | b'q' | b'4' | b'6' | b'E' | b'F' | b'm' | b'w' | b's' | b'g' => {}
            // In a value any letter can stand.
            _ => return false,
        }
    }
    false
}
