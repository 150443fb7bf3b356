//! What this kernel allows: which hooks would be used, and what would not be
//! captured.

use std::path::Path;

use super::{
    CaptureError, Options,
    btf::{Btf, BtfError},
    hooks::Hooks,
    ladder::{self, Hook, Mode, Refusal},
    offsets, pins, tracefs,
};

/// Instructions that the verifier may go through in one program. It gives up at
/// a million, and its count differs between kernels by a factor of several.
pub const INSTRUCTION_BUDGET: u32 = 50_000;

/// The answer of [`check`].
#[derive(Debug)]
pub struct Check {
    /// Kernel release, as `uname -r` has it.
    pub kernel: String,
    /// The way of capture that would be used.
    pub mode: Mode,
    /// The better ways, and why they would not.
    pub refusals: Vec<Refusal>,
    /// The hooks, one line each.
    pub hooks: Vec<String>,
    /// What would not be captured, one line each.
    pub limits: Vec<String>,
    /// Instructions the verifier went through, by program, where the kernel
    /// tells.
    pub verified_instructions: Vec<(&'static str, Option<u32>)>,
}

impl Check {
    /// Whether every program is within [`INSTRUCTION_BUDGET`].
    pub fn is_within_budget(&self) -> bool {
        let mut counts = self.verified_instructions.iter();
        counts.all(|(_, count)| count.is_none_or(|count| count <= INSTRUCTION_BUDGET))
    }
}

const LIMITS: [&str; 10] = [
    "passwords at prompts that put the terminal into raw mode, or on the far side of a nested ssh, are not masked",
    "SSH servers that are neither OpenSSH nor dropbear",
    "of datagrams (UDP, ICMP) more than that a program sends them, and where to as it says",
    "the ends of connections over Unix sockets, and those that io_uring accepts or makes over Unix sockets",
    "commands that other daemons run on a user's behalf (cron, at, systemd-run, containers)",
    "contents of forwarded connections (-L, -R, -D), and of X11 and agent forwarding",
    "file activity through io_uring (that a program uses it is recorded), of programs of 32 bits, and by other means than names and descriptors (open_by_handle_at, extended attributes, mmap)",
    "paths of deletes, renames, and others that take a name are what the process gave, read when the call ended; those of opens are the kernel's",
    "of a transfer, bytes that are moved by mmap or splice are not counted",
    "output of programs that run beside a transfer program on the same pipe, while it runs",
];

/// Loads every program into the running kernel, attaches it for a moment, and
/// says what that means.
pub fn check(options: &Options) -> Result<Check, CaptureError> {
    tracefs::ensure().map_err(CaptureError::Tracefs)?;
    let types = Btf::running_kernel()?;
    let (mode, refusals) = ladder::choose(options.mode, &types);
    let mode = mode.ok_or_else(|| CaptureError::no_mode(&refusals))?;
    let mut hooks = Hooks::load(options, mode, &types, None)?;
    hooks.attach_always()?;
    hooks.attach_on_demand()?;
    hooks.detach_all()?;
    let limits = mode.limits().iter().chain(&LIMITS);
    let mut limits: Vec<String> = limits.map(|limit| (*limit).to_owned()).collect();
    if !Path::new("/proc/self/loginuid").exists() {
        limits.push("login user ids: this kernel is built without auditing".to_owned());
    }
    limits.push(match pins::obstacle() {
        Some(why) => format!(
            "whatever happens while no agent runs ({why}): it is declared as a gap in every session that was open"
        ),
        None => "with capture.attach = \"on-demand\": what is shown and typed in connections that begin while no agent runs"
            .to_owned(),
    });
    Ok(Check {
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        mode,
        refusals,
        hooks: Hook::of(mode).map(describe).collect(),
        limits,
        verified_instructions: hooks.verified_instructions(),
    })
}

fn describe(hook: &Hook) -> String {
    let when = if hook.on_demand {
        "while a session's processes live"
    } else {
        "always attached"
    };
    format!("{}: {} ({when})", hook.point, hook.purpose)
}

/// Something the programs rely on, and why it is not as expected, if so.
pub type TypeCheck = (String, Result<(), BtfError>);

/// What the programs rely on of a kernel, and whether its type information has
/// it: one line each, with the reason where not.
pub fn check_types(data: Vec<u8>) -> Result<Vec<TypeCheck>, BtfError> {
    let types = Btf::parse(data)?;
    let members = offsets::check(&types).map(|(path, found)| (path.to_owned(), found.map(|_| ())));
    let functions = ladder::PROTOTYPES.iter().chain(&ladder::SINGLE_PROTOTYPES);
    let functions = functions.map(|prototype| {
        let name = format!("function {}", prototype.name);
        (name, types.check_function(prototype))
    });
    Ok(members.chain(functions).collect())
}
