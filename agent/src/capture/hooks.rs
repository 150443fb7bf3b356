//! Loading the kernel programs and attaching them, as [`super::ladder`] has it.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use auditty_capture_ebpf::{NAME_KEY, Offsets};
use aya::{
    Btf as AyaBtf, Ebpf, EbpfLoader,
    maps::HashMap,
    programs::{
        KProbe, Program, ProgramFd, TracePoint, UProbe,
        links::FdLink,
        uprobe::{UProbeAttachLocation, UProbeScope},
    },
};

use super::{
    CaptureError, Options,
    attached::{Attached, Kept},
    btf::Btf,
    file_calls, kretprobe,
    ladder::{Call, Hook, Mode, Point},
    maps::Maps,
    offsets,
    pins::Pins,
    sensitive::SensitivePaths,
    sshd_calls,
    system_calls::GROUPS,
    watch::Watch,
};

/// The programs.
pub const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/capture"));

/// Threads of sshd that move bytes, at most, where programs run inside it: what
/// more of them move is a declared loss. 20 KiB each.
const SSHD_THREADS: u32 = 1024;

/// Numbers of system calls on this architecture, by the programs' names for
/// them.
const SYSTEM_CALLS: [(&str, libc::c_long); 15] = [
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
    ("NR_SENDTO", libc::SYS_sendto),
    ("NR_SENDMSG", libc::SYS_sendmsg),
    ("NR_SENDMMSG", libc::SYS_sendmmsg),
    ("NR_PTRACE", libc::SYS_ptrace),
    ("NR_IO_URING_SETUP", libc::SYS_io_uring_setup),
];

/// The loaded programs. Dropping it detaches them, unless they are pinned.
pub struct Hooks {
    ebpf: Ebpf,
    pub(super) pins: Option<Pins>,
    mode: Mode,
    pub(super) always: Vec<Attached>,
    pub(super) on_demand: Vec<Attached>,
    /// Whether the hooks on system calls are to be attached.
    pub(super) demanded: bool,
    pub(super) watch: Watch,
}

impl Hooks {
    /// Loads the programs of a mode into the kernel. Nothing is attached yet.
    pub fn load(
        options: &Options,
        mode: Mode,
        types: &Btf,
        pins: Option<Pins>,
    ) -> Result<Self, CaptureError> {
        let members: offsets::Values = offsets::resolve(types)?;
        const { assert!(size_of::<Offsets>() == size_of::<offsets::Values>()) };
        let btf = AyaBtf::from_sys_fs()
            .map_err(|error| CaptureError::Load("type information", error.to_string()))?;
        let by_functions = mode == Mode::KernelFunction;
        let calls_on_files = file_calls::table(!by_functions);
        let by_functions = u32::from(by_functions);
        let [iter_buffer, iter_vectors, iter_mask] = iterators(types)?;
        let record_files = u32::from(options.record_files);
        let record_reads = u32::from(options.record_files && !options.sensitive_paths.is_empty());
        let record_transfers = u32::from(options.record_transfers);
        let record_input = options.input as u32;
        let inside_sshd = u32::from(mode == Mode::Uprobe);
        let at_line_discipline = matches!(mode, Mode::KernelFunction | Mode::LineDiscipline);
        let line_discipline = u32::from(at_line_discipline);
        let generation = pins.as_ref().map_or(0, Pins::generation);
        let ring_bytes = [options.control_ring_bytes, options.data_ring_bytes].map(u64::from);
        let [control_bytes, data_bytes] = &ring_bytes;
        let numbers = SYSTEM_CALLS.map(|(name, number)| (name, number as u64));
        let mut loader = EbpfLoader::new();
        if let Some(pins) = &pins {
            pins.prepare(&mut loader);
        }
        for (name, number) in &numbers {
            loader.override_global(name, number, true);
        }
        let mut ebpf = loader
            .btf(Some(&btf))
            .override_global("GENERATION", &generation, true)
            .override_global("CONTROL_BYTES", control_bytes, true)
            .override_global("DATA_BYTES", data_bytes, true)
            .override_global("OFFSETS", members.as_slice(), true)
            .override_global("RECORD_INPUT", &record_input, true)
            .override_global("LINE_DISCIPLINE", &line_discipline, true)
            .override_global("RECORD_FILES", &record_files, true)
            .override_global("RECORD_READS", &record_reads, true)
            .override_global("RECORD_TRANSFERS", &record_transfers, true)
            .override_global("CALLS_ON_FILES", calls_on_files.as_slice(), true)
            .override_global("INSIDE_SSHD", &inside_sshd, true)
            .override_global("BY_FUNCTIONS", &by_functions, true)
            .override_global("ITER_BUFFER", &iter_buffer, true)
            .override_global("ITER_VECTORS", &iter_vectors, true)
            .override_global("ITER_MASK", &iter_mask, true)
            .map_max_entries("SCRATCHES", if inside_sshd == 0 { 1 } else { SSHD_THREADS })
            .map_max_entries("CONTROL", options.control_ring_bytes)
            .map_max_entries("DATA", options.data_ring_bytes)
            .load(OBJECT)
            .map_err(|error| CaptureError::Load("the object", describe(&error)))?;
        for hook in Hook::of(mode) {
            load(&mut ebpf, hook)?;
        }
        let mut pins = pins;
        pins.iter_mut().for_each(Pins::note_maps);
        let watch = Watch::new(ebpf.map("ACTIVE"), generation)?;
        let mut hooks = Self {
            ebpf,
            pins,
            mode,
            always: Vec::new(),
            on_demand: Vec::new(),
            demanded: false,
            watch,
        };
        hooks.name_reads(&options.sensitive_paths)?;
        Ok(hooks)
    }

    /// Tells the programs which opens for reading may be of interest.
    fn name_reads(&mut self, sensitive: &SensitivePaths) -> Result<(), CaptureError> {
        const MAP: &str = "NAMES_OF_READS";
        let failed = |error: aya::maps::MapError| CaptureError::Load(MAP, error.to_string());
        let mut names: HashMap<_, [u8; NAME_KEY], u32> =
            self.take_map(MAP)?.try_into().map_err(failed)?;
        let wanted = sensitive.names();
        let before: Vec<_> = names.keys().flatten().collect();
        for name in before.iter().filter(|name| !wanted.contains(*name)) {
            names.remove(name).map_err(failed)?;
        }
        for name in wanted {
            names.insert(name, 1, 0).map_err(failed)?;
        }
        Ok(())
    }

    /// The way of capture.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Attaches the hooks that cost nothing but where something happens.
    pub fn attach_always(&mut self) -> Result<(), CaptureError> {
        for hook in Hook::of(self.mode).filter(|hook| !hook.on_demand) {
            let attached = self.attach(hook)?;
            self.always.push(attached);
        }
        Ok(())
    }

    /// Puts these programs in the place of those an agent before has left.
    /// Nothing is missed between, and nothing seen twice. Returns how many runs
    /// of the old ones the kernel had skipped; 0 also where there were none.
    pub fn take_over(&mut self) -> Result<u64, CaptureError> {
        let Self {
            ebpf, pins, always, ..
        } = self;
        let own = always.iter().filter_map(Attached::probe);
        let own: Vec<_> = own.collect();
        let Some(pins) = pins else {
            kretprobe::clean(&GROUPS, &own);
            return Ok(0);
        };
        let active = ebpf.map("ACTIVE").ok_or(CaptureError::Load(
            "ACTIVE",
            "the object has no such map".to_owned(),
        ))?;
        let missed = pins.take_over(active)?;
        kretprobe::clean(&GROUPS, &own);
        Ok(missed)
    }

    /// Whether the agent before left the hooks on system calls attached.
    pub fn had_demand(&self) -> bool {
        let mut hooks = Hook::of(self.mode).filter(|hook| hook.on_demand);
        let pins = self.pins.as_ref();
        pins.is_some_and(|pins| hooks.all(|hook| pins.had(hook.program)))
    }

    /// The generation of these programs, 0 when they are not pinned.
    pub fn generation(&self) -> u64 {
        self.pins.as_ref().map_or(0, Pins::generation)
    }

    /// Names the rings that go on without the agent.
    pub fn ring_ids(&self) -> Option<String> {
        self.pins.as_ref()?.ring_ids()
    }

    /// Whether the programs go on without the agent.
    pub fn are_pinned(&self) -> bool {
        self.pins.is_some()
    }

    /// Attaches the hooks on every system call that are not. Those that were found
    /// stopped are [`Hooks::mend`]'s.
    pub fn attach_on_demand(&mut self) -> Result<(), CaptureError> {
        self.demanded = true;
        for hook in Hook::of(self.mode).filter(|hook| hook.on_demand) {
            if !self.is_attached(hook) && !self.watch.is_stopped(hook) {
                let attached = self.attach(hook)?;
                self.on_demand.push(attached);
            }
        }
        Ok(())
    }

    /// Whether it was attached, and not found stopped since.
    pub(super) fn is_attached(&self, hook: &Hook) -> bool {
        let mut all = self.always.iter().chain(&self.on_demand);
        all.any(|attached| std::ptr::eq(attached.hook(), hook))
    }

    /// Detaches one of them: the kernel takes its time for each, and somebody
    /// may connect meanwhile.
    pub fn detach_one(&mut self) -> Result<(), CaptureError> {
        self.demanded = false;
        match self.on_demand.pop() {
            Some(attached) => self.detach(attached),
            None => Ok(()),
        }
    }

    /// Detaches all.
    pub fn detach_all(&mut self) -> Result<(), CaptureError> {
        self.demanded = false;
        while let Some(attached) = self.on_demand.pop() {
            self.detach(attached)?;
        }
        while let Some(attached) = self.always.pop() {
            self.detach(attached)?;
        }
        Ok(())
    }

    /// Whether the hooks that are attached on demand are, all of them.
    pub fn has_demand(&self) -> bool {
        let all = Hook::of(self.mode).filter(|hook| hook.on_demand);
        self.on_demand.len() == all.count()
    }

    /// Whether some of them are.
    pub fn has_some(&self) -> bool {
        !self.on_demand.is_empty()
    }

    /// Takes a map out.
    pub fn take_map(&mut self, name: &'static str) -> Result<aya::maps::Map, CaptureError> {
        self.ebpf.take_map(name).ok_or(CaptureError::Load(
            name,
            "the object has no such map".to_owned(),
        ))
    }

    /// Runs of each program that the kernel skipped so far: losses that leave
    /// no other trace. Since Linux 5.12; none before, but for those of functions
    /// that are probed together.
    pub fn missed_runs(&self) -> Vec<(&'static str, u64)> {
        Hook::of(self.mode)
            .filter_map(|hook| {
                let fd = self.ebpf.program(hook.program)?.fd().ok()?;
                let skipped = missed_runs_of(fd);
                let unseen = match hook.point {
                    Point::Several(group) => Some(kretprobe::missed(group)),
                    _ => None,
                };
                let either = skipped.is_some() || unseen.is_some();
                let runs = skipped.unwrap_or(0) + unseen.unwrap_or(0);
                either.then_some((hook.program, runs))
            })
            .collect()
    }

    /// Instructions the verifier went through, by program; `None` before Linux
    /// 5.16.
    pub fn verified_instructions(&self) -> Vec<(&'static str, Option<u32>)> {
        let count = |program: &Program| program.info().ok()?.verified_instruction_count();
        Hook::of(self.mode)
            .filter_map(|hook| Some((hook.program, count(self.ebpf.program(hook.program)?))))
            .collect()
    }

    pub(super) fn attach(&mut self, hook: &'static Hook) -> Result<Attached, CaptureError> {
        let refused = |error: &dyn std::error::Error| {
            CaptureError::Attach(hook.point.to_string(), describe(error))
        };
        let program = program(&mut self.ebpf, hook)?;
        let links = aya::features().bpf_perf_link();
        let link = match hook.point {
            Point::Tracepoint(category, name) => {
                let program: &mut TracePoint = program.try_into().map_err(|e| refused(&e))?;
                let link = program.attach(category, name).map_err(|e| refused(&e))?;
                if !links {
                    return Ok(Attached::Tracepoint(hook, link));
                }
                let link = program.take_link(link).map_err(|e| refused(&e))?;
                FdLink::try_from(link).map_err(|e| refused(&e))?
            }
            Point::Entry(function) => {
                let program: &mut KProbe = program.try_into().map_err(|e| refused(&e))?;
                let mut functions = function.split('|');
                let mut link = program.attach(functions.next().unwrap_or(function), 0);
                for function in functions {
                    link = link.or_else(|_| program.attach(function, 0));
                }
                let link = link.map_err(|e| refused(&e))?;
                if !links {
                    return Ok(Attached::Entry(hook, link));
                }
                let link = program.take_link(link).map_err(|e| refused(&e))?;
                FdLink::try_from(link).map_err(|e| refused(&e))?
            }
            Point::Sshd(place) => {
                let program: &mut UProbe = program.try_into().map_err(|e| refused(&e))?;
                let sites = sshd_calls::sites()
                    .map_err(|reason| CaptureError::Attach(hook.point.to_string(), reason))?;
                let mut links = Vec::new();
                for site in &sites {
                    let at = match place {
                        Call::Behind => site.behind,
                        Call::Read if !site.writes => site.call,
                        Call::Write if site.writes => site.call,
                        Call::Read | Call::Write => continue,
                    };
                    let at = UProbeAttachLocation::AbsoluteOffset(at);
                    let link = program.attach(at, &site.program, UProbeScope::AllProcesses);
                    links.push(link.map_err(|e| refused(&e))?);
                }
                return Ok(Attached::Sshd(hook, links));
            }
            Point::Return(function) => {
                let event = kretprobe::Event::define(function).map_err(|e| refused(&e))?;
                let program = program.fd().map_err(|e| refused(&e))?;
                let probe = event.attach(program.as_fd()).map_err(|e| refused(&e))?;
                return self.keep(hook, probe);
            }
            Point::Several(group) => {
                let event = kretprobe::Event::define_group(group).map_err(|e| refused(&e))?;
                let program = program.fd().map_err(|e| refused(&e))?;
                let probe = event.attach(program.as_fd()).map_err(|e| refused(&e))?;
                return self.keep(hook, probe);
            }
        };
        let unpinned = |error| CaptureError::Attach(hook.point.to_string(), error);
        let pin = self.pins.as_ref().map(|pins| pins.link(hook.program));
        let kept = Kept::new(link, pin).map_err(unpinned)?;
        Ok(Attached::Link(hook, kept))
    }

    /// Keeps a probe beyond the agent's life, where that is to be.
    fn keep(&self, hook: &'static Hook, probe: kretprobe::Probe) -> Result<Attached, CaptureError> {
        let pin = self.pins.as_ref().map(|pins| pins.link(hook.program));
        if let Some(pin) = &pin {
            let refused = |error| CaptureError::Attach(hook.point.to_string(), describe(&error));
            probe.pin(pin).map_err(refused)?;
        }
        Ok(Attached::Return(hook, probe, pin))
    }

    fn detach(&mut self, attached: Attached) -> Result<(), CaptureError> {
        let (hook, detached) = match attached {
            Attached::Tracepoint(hook, link) => {
                let program: Result<&mut TracePoint, _> = program(&mut self.ebpf, hook)?.try_into();
                (hook, program.and_then(|program| program.detach(link)))
            }
            Attached::Entry(hook, link) => {
                let program: Result<&mut KProbe, _> = program(&mut self.ebpf, hook)?.try_into();
                (hook, program.and_then(|program| program.detach(link)))
            }
            Attached::Sshd(hook, links) => {
                let program: Result<&mut UProbe, _> = program(&mut self.ebpf, hook)?.try_into();
                let mut links = links.into_iter();
                let detached = program.and_then(|p| links.try_for_each(|link| p.detach(link)));
                (hook, detached)
            }
            Attached::Return(..) => return Ok(()),
            Attached::Link(_, kept) => return kept.detach().map_err(CaptureError::Pins),
        };
        detached.map_err(|error| CaptureError::Attach(hook.point.to_string(), describe(&error)))
    }
}

impl Maps for Hooks {
    fn take(&mut self, name: &'static str) -> Result<aya::maps::Map, CaptureError> {
        self.take_map(name)
    }

    fn missed(&self) -> Vec<(&'static str, u64)> {
        self.missed_runs()
    }
}

/// How an `iov_iter` says that it goes through a buffer of the process, or through
/// vectors of them, and the bits that say so: before Linux 5.14 the lowest of them
/// is the direction, before 6.0 there are only vectors.
fn iterators(types: &Btf) -> Result<[u32; 3], CaptureError> {
    /// No kind has this number.
    const NONE: u32 = 0x100;
    let buffer = types.enumerator("ITER_UBUF")?.unwrap_or(NONE);
    let vectors = types.enumerator("ITER_IOVEC")?.unwrap_or(NONE);
    let mask = match types.locate("iov_iter", "iter_type") {
        Ok(_) => 0xff,
        Err(_) => 0xfe,
    };
    Ok([buffer, vectors, mask])
}

fn load(ebpf: &mut Ebpf, hook: &Hook) -> Result<(), CaptureError> {
    let program = program(ebpf, hook)?;
    let loaded = match hook.point {
        Point::Tracepoint(..) => {
            let program: Result<&mut TracePoint, _> = program.try_into();
            program.and_then(TracePoint::load)
        }
        Point::Entry(_) | Point::Return(_) | Point::Several(_) => {
            let program: Result<&mut KProbe, _> = program.try_into();
            program.and_then(KProbe::load)
        }
        Point::Sshd(_) => {
            let program: Result<&mut UProbe, _> = program.try_into();
            program.and_then(UProbe::load)
        }
    };
    loaded.map_err(|error| CaptureError::Load(hook.program, describe(&error)))
}

fn program<'a>(ebpf: &'a mut Ebpf, hook: &Hook) -> Result<&'a mut Program, CaptureError> {
    ebpf.program_mut(hook.program).ok_or(CaptureError::Load(
        hook.program,
        "the object has no such program".to_owned(),
    ))
}

/// Runs of a program that the kernel skipped, from the file about it.
pub fn missed_runs_of(program: &ProgramFd) -> Option<u64> {
    let fd = program.as_fd().as_raw_fd();
    missed_runs(&fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?)
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

#[cfg(test)]
mod tests {
    #[test]
    fn missed_runs_are_found_in_fdinfo() {
        let info = "pos:\t0\nprog_type:\t5\nrecursion_misses:\t7\nverified_insns:\t82\n";
        assert_eq!(super::missed_runs(info), Some(7));
        assert_eq!(super::missed_runs("pos:\t0\n"), None);
    }
}
