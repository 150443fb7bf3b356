//! Probes of functions that are defined in tracefs: several functions in one event,
//! which has one program, and of a function's return, with room for as many calls at
//! once as there can be.
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
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    now_boot_ns,
    system_calls::{Group, Probed},
    tracefs,
};

/// Calls under way at once that are seen: one for each kernel thread that
/// could be in there. The kernel takes no more (`KRETPROBE_MAXACTIVE_MAX`).
const MAX_ACTIVE: u32 = 4096;

const GROUP: &str = "auditty";

/// A definition in tracefs, which is removed when nobody uses it any more.
#[derive(Debug)]
pub struct Event {
    name: String,
    /// Its program goes on without us.
    is_pinned: AtomicBool,
}

/// An attached program. It is detached first, and then the definition goes.
#[derive(Debug)]
pub struct Probe {
    /// A link, or before Linux 5.15 the event itself.
    link: OwnedFd,
    /// What the kernel says of it.
    identity: Option<String>,
    event: Event,
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
    /// Defines an event of the entries or returns of several functions, under a name
    /// that no other has: the kernel lets all functions but the last be removed from
    /// one that is in use.
    pub fn define_group(group: &Group) -> io::Result<Self> {
        let event = Self::new(format!("{}_{:x}", group.event(), now_boot_ns()));
        for probed in group.functions {
            event.add(group, probed).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", probed.function))
            })?;
        }
        Ok(event)
    }

    fn new(name: String) -> Self {
        Self {
            name,
            is_pinned: AtomicBool::new(false),
        }
    }

    fn add(&self, group: &Group, probed: &Probed) -> io::Result<()> {
        let kind = match group.returns {
            true => format!("r{}", probed.at_once),
            false => "p".to_owned(),
        };
        let mut result = Ok(());
        for function in probed.function.split('|') {
            result = command(&format!("{kind}:{GROUP}/{} {function}", self.name));
            if result.is_ok() {
                return Ok(());
            }
        }
        match result {
            Err(error) if probed.may_lack && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// Defines the event. One that is left from before is as good.
    pub fn define(function: &str) -> io::Result<Self> {
        let name = format!("{function}_r{MAX_ACTIVE}");
        if tracefs::event_id(GROUP, &name).is_err() {
            command(&format!("r{MAX_ACTIVE}:{GROUP}/{name} {function}"))?;
        }
        Ok(Self::new(name))
    }

    /// Attaches a program.
    pub fn attach(self, program: BorrowedFd<'_>) -> io::Result<Probe> {
        let link = self.link(program)?;
        Ok(Probe {
            identity: identity(&link),
            link,
            event: self,
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
        self.event.is_pinned.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Removes events of several functions that agents before have left. Their programs
/// must be detached.
pub fn clean(groups: &[&Group], own: &[&Probe]) {
    let events = fs::read_dir(tracefs::folder().join("events").join(GROUP));
    for event in events.into_iter().flatten().flatten() {
        let name = event.file_name().to_string_lossy().into_owned();
        let is_own = own.iter().any(|probe| probe.event.name == name);
        if !is_own && groups.iter().any(|group| group.has(&name)) {
            drop(Event::new(name));
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.is_pinned.load(Ordering::Relaxed) {
            return;
        }
        // In use by a program that goes on without us: it stays.
        if let Err(error) = command(&format!("-:{GROUP}/{}", self.name)) {
            tracing::debug!(event = self.name, %error, "the definition of a probe stays");
        }
    }
}

/// How often the probes of each group's functions were left out so far: since
/// Linux 6.2 also for want of room.
pub fn missed(group: &Group) -> u64 {
    let profile = fs::read_to_string(tracefs::folder().join("kprobe_profile"));
    missed_in(&profile.unwrap_or_default(), |event| group.has(event))
}

/// Lines of an event, its hits and its misses.
fn missed_in(profile: &str, is_it: impl Fn(&str) -> bool) -> u64 {
    let missed = profile.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        is_it(words.next()?).then(|| words.nth(1)?.parse::<u64>().ok())?
    });
    missed.sum()
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

#[cfg(test)]
mod tests {
    #[test]
    fn misses_of_an_event_are_those_of_all_its_functions() {
        let profile = "  calls_1a  12  3\n  calls_1a  1  4\n  other  9  9\n  calls\n";
        let missed = |name| super::missed_in(profile, |event| event == name);
        assert_eq!(missed("calls_1a"), 7);
        assert_eq!(missed("calls"), 0);
    }
}
