//! Probes of a function's return, with room for as many calls at once as there
//! can be.
//!
//! The kernel's own default is one instance for each CPU, or two where it can be
//! preempted; a call that finds none is not seen. Only an event that is defined
//! in tracefs can have more, and a program is attached to it by hand.

#![allow(
    unsafe_code,
    reason = "two system calls that no library has; see the SAFETY comments"
)]

use std::{
    ffi::CString,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use super::tracefs;

/// Calls under way at once that are seen: one for each kernel thread that
/// could be in there. The kernel takes no more (`KRETPROBE_MAXACTIVE_MAX`).
const MAX_ACTIVE: u32 = 4096;

const GROUP: &str = "auditty";

/// A definition in tracefs, which is removed when nobody uses it any more.
#[derive(Debug)]
pub struct Event {
    name: String,
}

/// An attached program. It is detached first, and then the definition goes.
#[derive(Debug)]
pub struct Probe {
    /// A link, or before Linux 5.15 the event itself.
    link: OwnedFd,
    /// What the kernel says of it.
    identity: Option<String>,
    _event: Event,
}

/// `struct perf_event_attr` up to its first version with what is needed.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    rest: [u64; 5],
}

/// The part of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// The part of `union bpf_attr` for `BPF_OBJ_PIN`.
#[repr(C)]
struct Pin {
    path: u64,
    object: u32,
    flags: u32,
}

const PERF_TYPE_TRACEPOINT: u32 = 2;
/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 8;
const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PERF_EVENT: u32 = 41;

impl Event {
    /// Defines the event. One that is left from before is as good.
    pub fn define(function: &str) -> io::Result<Self> {
        let name = format!("{function}_r{MAX_ACTIVE}");
        if tracefs::event_id(GROUP, &name).is_err() {
            command(&format!("r{MAX_ACTIVE}:{GROUP}/{name} {function}"))?;
        }
        Ok(Self { name })
    }

    /// Attaches a program.
    pub fn attach(self, program: BorrowedFd<'_>) -> io::Result<Probe> {
        let link = self.link(program)?;
        Ok(Probe {
            identity: identity(&link),
            link,
            _event: self,
        })
    }

    fn link(&self, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let event = open(tracefs::event_id(GROUP, &self.name)?)?;
        let create = LinkCreate {
            program: program.as_raw_fd().unsigned_abs(),
            target: event.as_raw_fd().unsigned_abs(),
            attach_type: BPF_PERF_EVENT,
            flags: 0,
        };
        // SAFETY: the kernel reads `size_of::<LinkCreate>()` bytes of integers.
        let link = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_LINK_CREATE,
                &raw const create,
                size_of::<LinkCreate>(),
            )
        };
        if let Ok(link) = descriptor(link) {
            return Ok(link);
        }
        // SAFETY: no memory is passed, and both descriptors are open.
        unsafe {
            checked(libc::ioctl(
                event.as_raw_fd(),
                PERF_EVENT_IOC_SET_BPF,
                program.as_raw_fd(),
            ))?;
            checked(libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_ENABLE, 0))?;
        }
        Ok(event)
    }
}

impl Probe {
    /// Whether the descriptor still is what it was.
    pub fn is_attached(&self) -> bool {
        self.identity.is_some() && identity(&self.link) == self.identity
    }

    /// It is not attached any more: its descriptor may be something else's by now.
    pub fn forget(self) {
        std::mem::forget(self.link);
    }

    /// Keeps the program attached beyond the agent's life, by a name in bpffs.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let pin = Pin {
            path: path.as_ptr() as u64,
            object: self.link.as_raw_fd().unsigned_abs(),
            flags: 0,
        };
        // SAFETY: the kernel reads `size_of::<Pin>()` bytes of integers, and the
        // path, which lives until after the call.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_PIN, &raw const pin, size_of::<Pin>()) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // In use by a program that goes on without us: it stays.
        if let Err(error) = command(&format!("-:{GROUP}/{}", self.name)) {
            tracing::debug!(event = self.name, %error, "the definition of a probe stays");
        }
    }
}

/// One line to the kernel's table of probes.
fn command(line: &str) -> io::Result<()> {
    let path = tracefs::folder().join("kprobe_events");
    let mut events = OpenOptions::new().append(true).open(path)?;
    events.write_all(format!("{line}\n").as_bytes())
}

/// Opens an event on all CPUs: for one that calls a program, which CPU it is
/// opened for makes no difference.
fn open(id: u64) -> io::Result<OwnedFd> {
    const ALL_PROCESSES: libc::c_int = -1;
    const FIRST_CPU: libc::c_int = 0;
    const NO_GROUP: libc::c_int = -1;
    let attributes = PerfEventAttributes {
        kind: PERF_TYPE_TRACEPOINT,
        size: size_of::<PerfEventAttributes>() as u32,
        config: id,
        sample_period: 1,
        rest: [0; 5],
    };
    // SAFETY: the kernel reads `size` bytes of integers.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            ALL_PROCESSES,
            FIRST_CPU,
            NO_GROUP,
            CLOSE_ON_EXEC,
        )
    })
}

/// The number of a link; of anything else what it is.
fn identity(descriptor: &OwnedFd) -> Option<String> {
    let fd = descriptor.as_raw_fd();
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    match about.lines().find(|line| line.starts_with("link_id:")) {
        Some(line) => Some(line.to_owned()),
        None => {
            let what = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
            Some(what.to_string_lossy().into_owned())
        }
    }
}

fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: the kernel has just given it to us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

const _: () = assert!(size_of::<PerfEventAttributes>() == 64);
