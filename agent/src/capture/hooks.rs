//! Loading the kernel programs and attaching them.
//!
//! | hook | attached | why |
//! |---|---|---|
//! | `task:task_newtask` | always | lineage: a child is what its parent is |
//! | `sched:sched_process_exec` | always | commands; the start of a connection |
//! | `sched:sched_process_exit` | always | ends, exit codes |
//! | `raw_syscalls:sys_enter`, `raw_syscalls:sys_exit` | while a connection exists | bytes of terminals, pipes and the login |
//! | `sock:inet_sock_set_state` | while a connection exists | network connections and forwards |
//!
//! All are classic tracepoints: trampolines and raw tracepoints lose events
//! silently on preemptible kernels. Those on system calls and sockets cost the
//! whole host a little, hence on demand.

use std::{fs, io, os::fd::AsRawFd, path::Path};

use auditty_capture_ebpf::Offsets;
use aya::{
    Btf as AyaBtf, Ebpf, EbpfLoader,
    programs::{TracePoint, trace_point::TracePointLinkId},
};

use super::{CaptureError, Options, btf::Btf, offsets};

const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/capture"));

/// Program, category and name of the tracepoint.
type Hook = (&'static str, &'static str, &'static str);

const PROCESS_HOOKS: [Hook; 3] = [
    ("task_newtask", "task", "task_newtask"),
    ("sched_process_exec", "sched", "sched_process_exec"),
    ("sched_process_exit", "sched", "sched_process_exit"),
];

/// The exit first: an entry without an exit would be left behind in a map.
const STREAM_HOOKS: [Hook; 3] = [
    ("inet_sock_set_state", "sock", "inet_sock_set_state"),
    ("raw_sys_exit", "raw_syscalls", "sys_exit"),
    ("raw_sys_enter", "raw_syscalls", "sys_enter"),
];

/// Numbers of system calls on this architecture, by the programs' names for
/// them.
const SYSTEM_CALLS: [(&str, libc::c_long); 10] = [
    ("NR_READ", libc::SYS_read),
    ("NR_WRITE", libc::SYS_write),
    ("NR_READV", libc::SYS_readv),
    ("NR_WRITEV", libc::SYS_writev),
    ("NR_CLOSE", libc::SYS_close),
    ("NR_IOCTL", libc::SYS_ioctl),
    ("NR_CONNECT", libc::SYS_connect),
    ("NR_LISTEN", libc::SYS_listen),
    ("NR_ACCEPT", libc::SYS_accept),
    ("NR_ACCEPT4", libc::SYS_accept4),
];

/// Where the kernel lists its tracepoints.
pub const TRACEFS: &str = "/sys/kernel/tracing";

/// The loaded programs. Dropping it detaches them.
pub struct Hooks {
    ebpf: Ebpf,
    streams: Vec<(&'static str, TracePointLinkId)>,
}

impl Hooks {
    /// Loads the programs into the kernel. Nothing is attached yet.
    pub fn load(options: &Options) -> Result<Self, CaptureError> {
        ensure_tracefs()?;
        let members: offsets::Values = offsets::resolve(&Btf::running_kernel()?)?;
        const { assert!(size_of::<Offsets>() == size_of::<offsets::Values>()) };
        let btf = AyaBtf::from_sys_fs()
            .map_err(|error| CaptureError::Load("type information", error.to_string()))?;
        let record_input = u32::from(options.record_input);
        let numbers = SYSTEM_CALLS.map(|(name, number)| (name, number as u64));
        let mut loader = EbpfLoader::new();
        for (name, number) in &numbers {
            loader.override_global(name, number, true);
        }
        let mut ebpf = loader
            .btf(Some(&btf))
            .override_global("OFFSETS", members.as_slice(), true)
            .override_global("RECORD_INPUT", &record_input, true)
            .map_max_entries("CONTROL", options.control_ring_bytes)
            .map_max_entries("DATA", options.data_ring_bytes)
            .load(OBJECT)
            .map_err(|error| CaptureError::Load("the object", describe(&error)))?;
        for (name, ..) in PROCESS_HOOKS.iter().chain(&STREAM_HOOKS) {
            program(&mut ebpf, name)?
                .load()
                .map_err(|error| CaptureError::Load(name, describe(&error)))?;
        }
        Ok(Self {
            ebpf,
            streams: Vec::new(),
        })
    }

    /// Attaches the hooks that cost nothing but at fork, exec and exit.
    pub fn attach_processes(&mut self) -> Result<(), CaptureError> {
        for hook in &PROCESS_HOOKS {
            self.attach(hook)?;
        }
        Ok(())
    }

    /// Attaches the hooks on every system call, if they are not.
    pub fn attach_streams(&mut self) -> Result<(), CaptureError> {
        if self.streams.is_empty() {
            for hook in &STREAM_HOOKS {
                let link = self.attach(hook)?;
                self.streams.push((hook.0, link));
            }
        }
        Ok(())
    }

    /// Detaches them again.
    pub fn detach_streams(&mut self) -> Result<(), CaptureError> {
        while let Some((name, link)) = self.streams.pop() {
            program(&mut self.ebpf, name)?
                .detach(link)
                .map_err(|error| CaptureError::Attach(name, describe(&error)))?;
        }
        Ok(())
    }

    /// Whether the hooks on every system call are attached.
    pub fn streams_attached(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Takes a map out.
    pub fn take_map(&mut self, name: &'static str) -> Result<aya::maps::Map, CaptureError> {
        self.ebpf.take_map(name).ok_or(CaptureError::Load(
            name,
            "the object has no such map".to_owned(),
        ))
    }

    /// Runs of the programs that the kernel skipped so far: losses that leave
    /// no other trace. Since Linux 5.12; 0 before.
    pub fn missed_runs(&self) -> u64 {
        self.ebpf
            .programs()
            .filter_map(|(_, program)| program.fd().ok())
            .filter_map(|fd| {
                fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd_raw())).ok()
            })
            .filter_map(|info| missed_runs(&info))
            .sum()
    }

    /// Instructions the verifier went through, by program; `None` before Linux
    /// 5.16.
    pub fn verified_instructions(&self) -> Vec<(String, Option<u32>)> {
        let count =
            |program: &aya::programs::Program| program.info().ok()?.verified_instruction_count();
        self.ebpf
            .programs()
            .map(|(name, program)| (name.to_owned(), count(program)))
            .collect()
    }

    fn attach(&mut self, (name, category, event): &Hook) -> Result<TracePointLinkId, CaptureError> {
        program(&mut self.ebpf, name)?
            .attach(category, event)
            .map_err(|error| CaptureError::Attach(event, describe(&error)))
    }
}

trait RawFd {
    fn as_fd_raw(&self) -> i32;
}

impl RawFd for aya::programs::ProgramFd {
    fn as_fd_raw(&self) -> i32 {
        use std::os::fd::AsFd;
        self.as_fd().as_raw_fd()
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut TracePoint, CaptureError> {
    ebpf.program_mut(name)
        .ok_or(CaptureError::Load(
            name,
            "the object has no such program".to_owned(),
        ))?
        .try_into()
        .map_err(|error| CaptureError::Load(name, describe(&error)))
}

fn missed_runs(fdinfo: &str) -> Option<u64> {
    let line = fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"))?;
    line.trim().parse().ok()
}

/// An error with all its causes, on one line; of a verifier's log its end.
fn describe(error: &dyn std::error::Error) -> String {
    const LOG_LINES: usize = 12;
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    let lines: Vec<&str> = text.lines().collect();
    lines
        .get(lines.len().saturating_sub(LOG_LINES)..)
        .unwrap_or_default()
        .join("\n")
}

/// Mounts tracefs where it is not: the ids of tracepoints are read from it.
fn ensure_tracefs() -> Result<(), CaptureError> {
    if Path::new(TRACEFS).join("events").is_dir()
        || Path::new("/sys/kernel/debug/tracing/events").is_dir()
    {
        return Ok(());
    }
    nix::mount::mount(
        Some("tracefs"),
        TRACEFS,
        Some("tracefs"),
        nix::mount::MsFlags::empty(),
        None::<&str>,
    )
    .map_err(|errno| CaptureError::Tracefs(io::Error::from(errno)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn missed_runs_are_found_in_fdinfo() {
        let info = "pos:\t0\nprog_type:\t5\nrecursion_misses:\t7\nverified_insns:\t82\n";
        assert_eq!(super::missed_runs(info), Some(7));
        assert_eq!(super::missed_runs("pos:\t0\n"), None);
    }
}
