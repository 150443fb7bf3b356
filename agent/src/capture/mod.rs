//! What the kernel sees of SSH sessions, decoded and counted.
//!
//! [`Capture::start`] loads the programs, attaches them and adopts what is
//! already running; [`Capture::run`] drains the rings on a thread of its own
//! and hands on batches of [`event::KernelEvent`]s in the order they happened.
//! Nothing is dropped here: when the receiver is slow, the rings in the kernel
//! take the load, and what they cannot take is counted there.

mod adopt;
mod attached;
pub mod btf;
mod census;
mod check;
mod decode;
pub mod event;
mod file_calls;
mod files;
mod hooks;
mod kretprobe;
pub mod ladder;
mod left;
mod loss;
mod maps;
mod offsets;
pub mod pins;
mod processes;
mod queue;
pub mod ring;
mod rings;
pub mod sensitive;
mod sshd_calls;
mod system_calls;
mod tracefs;
mod watch;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};

pub use adopt::is_alive;
use census::Census;
pub use check::{Check, INSTRUCTION_BUDGET, check, check_types};
use event::{Fact, HookStop, KernelEvent, LossClass};
use hooks::Hooks;
use ladder::Mode;
pub use left::Left;
pub use loss::Declared;
use loss::LossCounters;
use pins::Pins;
use processes::Processes;
pub use queue::{Batch, BatchReceiver, BatchSender, queue};
use ring::Marks;
use rings::{Read, Rings};
use sensitive::SensitivePaths;
use watch::Look;

/// How often the rings are drained while somebody is connected. Waking up for
/// each record would cost more than the capture itself.
const BUSY_POLL: Duration = Duration::from_millis(10);

/// How often once nothing has come for `QUIET_NS`: what comes then waits so much
/// longer, once, and rings of the default size hold what it may be until then.
const QUIET_POLL: Duration = Duration::from_millis(100);

/// Between two keystrokes of somebody who types it is not quiet.
const QUIET_NS: u64 = 1_000_000_000;

/// How often without a connection; a new one wakes the agent up.
const IDLE_POLL: Duration = Duration::from_millis(500);

/// A program takes the time first and hands its record over last, with
/// preemption off in between: after this long it is certainly in the ring.
const SETTLE_NS: u64 = 2_000_000;

/// How often losses and the table of connections are looked at.
const HOUSEKEEPING_NS: u64 = 1_000_000_000;

/// How often it is looked whether the hooks are pinned; every second whether they
/// work.
const PINS_NS: u64 = 5_000_000_000;

/// How often positions of dead streams are looked for. Rarely: see [`census`].
const PRUNING_NS: u64 = 600_000_000_000;

/// How long the hooks on system calls stay attached after the last connection:
/// the next one is often not far.
const LINGER_NS: u64 = 10_000_000_000;

/// What of the input is recorded; the numbers are the programs'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing.
    Off = 0,
    /// All but what is typed while a terminal waits for a secret.
    Masked = 1,
    /// All, secrets too.
    Full = 2,
}

/// When the hooks on system calls are attached, which every process of the host
/// pays for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// While a connection is open, or has left processes behind.
    OnDemand,
    /// While a connection is open. Of what runs on afterwards only processes are
    /// captured then, and the rest is declared.
    WhileConnected,
    /// As long as the agent runs.
    Always,
}

/// How the capture is to work.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of the ring for processes and connections, bytes; rounded up to a
    /// power of two pages.
    pub control_ring_bytes: u32,
    /// Size of the ring for terminal and pipe bytes and for file activity, as
    /// above.
    pub data_ring_bytes: u32,
    /// Whether changes of files are recorded, and reads of `sensitive_paths`.
    pub record_files: bool,
    /// Files of which reads are recorded.
    pub sensitive_paths: SensitivePaths,
    /// Whether the bytes of file transfers are recorded.
    pub record_transfers: bool,
    /// What of the input is recorded.
    pub input: Input,
    /// The way of capture; without one, the best that works.
    pub mode: Option<Mode>,
    /// When the hooks on system calls are attached.
    pub attach: Attach,
    /// Go on capturing into the kernel's rings while no agent runs.
    pub pin: bool,
}

/// Where an agent before has stopped, with the pins it left.
#[derive(Clone, Debug)]
pub struct Handover {
    /// Everything before is recorded.
    pub marks: Marks,
    /// What it declared lost.
    pub declared: Declared,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            control_ring_bytes: 8 << 20,
            data_ring_bytes: 32 << 20,
            record_files: true,
            sensitive_paths: SensitivePaths::default(),
            record_transfers: false,
            input: Input::Masked,
            mode: None,
            attach: Attach::OnDemand,
            pin: false,
        }
    }
}

/// Why the capture cannot run.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Type information is missing or does not have what is needed.
    #[error("{0} (the kernel must be built with CONFIG_DEBUG_INFO_BTF)")]
    Btf(#[from] btf::BtfError),
    /// tracefs cannot be mounted.
    #[error("mounting tracefs at /sys/kernel/tracing: {0}")]
    Tracefs(#[source] io::Error),
    /// A program or map was refused.
    #[error("loading {0} into the kernel: {1}")]
    Load(&'static str, String),
    /// A hook was refused.
    #[error("attaching to the {0}: {1}")]
    Attach(String, String),
    /// This kernel allows no way of capture, or not the one that is wanted.
    #[error("this kernel does not allow what capture.mode asks for: {0}")]
    Mode(String),
    /// Running processes cannot be entered into the table.
    #[error("adopting running connections: {0}")]
    Adopt(String),
    /// What is pinned cannot be used or removed.
    #[error("pinning programs and maps in /sys/fs/bpf/auditty: {0}")]
    Pins(#[source] io::Error),
    /// The rings do not hold what they have to.
    #[error("the rings of the agent before do not hold what it has not recorded")]
    Marks,
    /// Waiting for the ring failed.
    #[error("waiting for events: {0}")]
    Wait(#[source] io::Error),
}

impl CaptureError {
    fn no_mode(refusals: &[ladder::Refusal]) -> Self {
        let reasons = refusals
            .iter()
            .map(|refusal| format!("{}: {}", refusal.mode.name(), refusal.reason));
        Self::Mode(reasons.collect::<Vec<_>>().join("; "))
    }
}

/// A running capture.
pub struct Capture {
    hooks: Hooks,
    rings: Rings,
    processes: Processes,
    losses: LossCounters,
    attach: Attach,
    /// Decoded, but perhaps not yet followed by everything older.
    pending: Vec<Read>,
    census: Census,
    /// Connections that began before this moment, since the agent before, began
    /// without hooks on system calls.
    blind_until_boot_ns: u64,
    /// Events about processes were lost: the census is not to be trusted.
    recount: bool,
    /// When somebody was connected, or about to be, for the last time.
    last_busy_boot_ns: u64,
    /// When there was something in the rings for the last time.
    last_read_boot_ns: u64,
    last_housekeeping_boot_ns: u64,
    last_pruning_boot_ns: u64,
    /// When the hooks were last seen to work, all that had to.
    last_inspection_boot_ns: u64,
    last_look_at_pins_boot_ns: u64,
    /// Everything up to this moment is handed over.
    handed_over_boot_ns: u64,
}

/// Nanoseconds since boot (`CLOCK_BOOTTIME`), 0 if the clock cannot be read.
pub fn now_boot_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

impl Capture {
    /// Loads and attaches the programs, and adopts open connections. With a
    /// `handover`, goes on where the agent before has stopped.
    pub fn start(
        options: &Options,
        pins: Option<Pins>,
        handover: Option<&Handover>,
    ) -> Result<Self, CaptureError> {
        tracefs::ensure().map_err(CaptureError::Tracefs)?;
        let types = btf::Btf::running_kernel()?;
        let (mode, refusals) = ladder::choose(options.mode, &types);
        let mode = mode.ok_or_else(|| CaptureError::no_mode(&refusals))?;
        for refusal in &refusals {
            let (mode, reason) = (refusal.mode.name(), &refusal.reason);
            tracing::info!(
                mode,
                reason,
                "this kernel does not allow a better way of capture"
            );
        }
        let mut hooks = Hooks::load(options, mode, &types, pins)?;
        drop(types);
        let now = now_boot_ns();
        let marks = handover.map(|handover| &handover.marks);
        let rings = Rings::new(&mut hooks, options.sensitive_paths.clone(), marks)?;
        let mut processes = Processes::new(&mut hooks)?;
        let declared = handover.map(|handover| &handover.declared);
        let mut losses = LossCounters::new(&mut hooks, declared, now)?;
        let had_demand = hooks.had_demand();
        hooks.attach_always()?;
        if had_demand || options.attach == Attach::Always {
            hooks.attach_on_demand()?;
        }
        let missed = hooks.take_over()?;
        losses.count_missed(missed.saturating_sub(declared.map_or(0, |d| d.missed_runs)));
        let mut found = Vec::new();
        let mut census = Census::default();
        if handover.is_some() {
            found = adopt::present(processes.all());
            found.iter().for_each(|event| census.count(event));
        }
        let adopted = adopt::adopt(&mut processes)?;
        adopted.iter().for_each(|event| census.count(event));
        found.extend(adopted);
        if census.demands(options.attach) {
            hooks.attach_on_demand()?;
        }
        if !hooks.has_demand() {
            found.push(KernelEvent::of_the_host(now_boot_ns(), Fact::Detached));
        }
        crate::memory::trim();
        let blind_until_boot_ns = match handover {
            Some(_) if !had_demand => now_boot_ns(),
            _ => 0,
        };
        Ok(Self {
            hooks,
            rings,
            processes,
            losses,
            attach: options.attach,
            pending: found.into_iter().map(Read::from).collect(),
            census,
            blind_until_boot_ns,
            recount: false,
            last_busy_boot_ns: now,
            last_read_boot_ns: now,
            last_housekeeping_boot_ns: now,
            last_pruning_boot_ns: now,
            last_inspection_boot_ns: now,
            last_look_at_pins_boot_ns: now,
            handed_over_boot_ns: 0,
        })
    }

    /// The way of capture.
    pub fn mode(&self) -> Mode {
        self.hooks.mode()
    }

    /// Names the rings that go on without this agent; `None` when none do.
    pub fn rings(&self) -> Option<String> {
        self.hooks.ring_ids()
    }

    /// Drains the rings until `stop` is set or nobody receives any more. Ends
    /// with a batch that holds everything up to that moment.
    pub fn run(
        mut self,
        batches: &BatchSender,
        stop: &Arc<AtomicBool>,
    ) -> Result<(), CaptureError> {
        while !stop.load(Ordering::Relaxed) {
            self.rings.release(batches.acknowledged());
            if !batches.has_room() {
                // The rings go on filling; what they cannot take they count.
                thread::sleep(BUSY_POLL);
                continue;
            }
            self.rings.wait(self.patience(now_boot_ns()))?;
            let now = now_boot_ns();
            let before = self.pending.len();
            let starting = self.drain();
            if self.pending.len() > before {
                self.last_read_boot_ns = now;
            }
            self.attach_on_demand(starting, now)?;
            let settled = now.saturating_sub(SETTLE_NS);
            let ends = |read: &Read| matches!(read.event.fact, Fact::Exit { .. });
            if self.pending.iter().any(ends) {
                // A session must not end well without them.
                self.inspect(Look::Attached);
            }
            if now.saturating_sub(self.last_housekeeping_boot_ns) >= HOUSEKEEPING_NS {
                self.housekeeping(now, settled);
            }
            let lost = self.losses.poll_connections(settled);
            self.pending.extend(lost.into_iter().map(Read::from));
            if !batches.send(self.take_batch(settled)) {
                return Ok(());
            }
        }
        if !self.hooks.are_pinned() {
            // The last runs of the programs end before detaching returns.
            self.hooks.detach_all()?;
        }
        self.drain();
        let now = now_boot_ns();
        let lost = self.losses.poll_connections(now);
        self.pending.extend(lost.into_iter().map(Read::from));
        self.housekeeping(now, now);
        // A receiver that is gone has said so already.
        batches.send(self.take_batch(now));
        Ok(())
    }

    /// Decodes what is in the rings; whether a connection is about to begin.
    fn drain(&mut self) -> bool {
        let losses = &mut self.losses;
        let first = self.pending.len();
        let starting = self
            .rings
            .drain(&mut self.pending, || losses.count_malformed());
        for read in self.pending.iter_mut().skip(first) {
            if read.event.boot_ns < self.blind_until_boot_ns
                && let Fact::ConnectionStart(start) = &mut read.event.fact
            {
                start.adopted = true;
            }
        }
        starting
    }

    /// How long the rings may fill until they are looked at again.
    fn patience(&self, now: u64) -> Duration {
        if self.is_idle(now) {
            IDLE_POLL
        } else if now.saturating_sub(self.last_read_boot_ns) >= QUIET_NS {
            QUIET_POLL
        } else {
            BUSY_POLL
        }
    }

    /// Nobody is connected, and nobody was a moment ago.
    fn is_idle(&self, now: u64) -> bool {
        now.saturating_sub(self.last_busy_boot_ns) >= LINGER_NS
    }

    fn attach_on_demand(&mut self, starting: bool, now: u64) -> Result<(), CaptureError> {
        let demand = match self.attach {
            Attach::Always | Attach::OnDemand => Attach::OnDemand,
            Attach::WhileConnected => Attach::WhileConnected,
        };
        if starting || self.census.demands(demand) {
            self.last_busy_boot_ns = now;
        }
        if starting && !self.hooks.has_demand() {
            self.hooks.attach_on_demand()?;
            if self.hooks.has_demand() && self.hooks.are_whole() {
                // Only from now on: a login may have been quicker.
                self.pending
                    .push(KernelEvent::of_the_host(now_boot_ns(), Fact::Attached).into());
            }
        } else if self.is_idle(now) && self.attach != Attach::Always && self.hooks.has_some() {
            if self.hooks.has_demand() {
                self.pending
                    .push(KernelEvent::of_the_host(now, Fact::Detached).into());
            }
            self.hooks.detach_one()?;
        }
        Ok(())
    }

    /// Looks whether the hooks work, and has them work again.
    fn inspect(&mut self, look: Look) {
        let now = now_boot_ns();
        let stops = self.hooks.inspect(look);
        if look == Look::Attached && stops.is_empty() {
            return;
        }
        for stop in stops {
            let (hook, reason) = (stop.hook.point.to_string(), stop.reason.words());
            tracing::error!(hook, reason, "a hook does not work");
            let stop = HookStop {
                hook,
                reason,
                since_boot_ns: self.last_inspection_boot_ns,
                blinds: stop.reason.blinds(),
            };
            // Before anything that happened since: a session may end there.
            let at = self.handed_over_boot_ns.max(self.last_inspection_boot_ns);
            let stop = KernelEvent::of_the_host(at, Fact::HookStopped(stop.into()));
            self.pending.push(stop.into());
        }
        if look >= Look::Switches {
            self.last_inspection_boot_ns = now;
        }
        let was_whole = self.hooks.are_whole();
        let mended = self.hooks.mend();
        let mended_boot_ns = now_boot_ns();
        for hook in &mended {
            let hook = hook.point.to_string();
            tracing::warn!(hook, "a hook works again");
            let mended = KernelEvent::of_the_host(mended_boot_ns, Fact::HookMended(hook));
            self.pending.push(mended.into());
        }
        if was_whole || mended.is_empty() {
            return;
        }
        match self.processes.begin_again() {
            Ok(found) => self.pending.extend(found.into_iter().map(Read::from)),
            Err(error) => tracing::error!(%error, "what began without hooks cannot be adopted"),
        }
        self.recount = true;
        let attached_boot_ns = now_boot_ns();
        if self.hooks.are_whole() {
            // What stops next has worked until now.
            self.last_inspection_boot_ns = attached_boot_ns;
            if self.hooks.has_demand() {
                self.pending
                    .push(KernelEvent::of_the_host(attached_boot_ns, Fact::Attached).into());
            }
        }
    }

    fn housekeeping(&mut self, now: u64, settled: u64) {
        self.last_housekeeping_boot_ns = now;
        let look = match now.saturating_sub(self.last_look_at_pins_boot_ns) >= PINS_NS {
            true => Look::Pins,
            false => Look::Switches,
        };
        if look == Look::Pins {
            self.last_look_at_pins_boot_ns = now;
        }
        self.inspect(look);
        if std::mem::take(&mut self.recount) {
            self.census.replace(self.processes.table());
        }
        if now.saturating_sub(self.last_pruning_boot_ns) >= PRUNING_NS {
            self.last_pruning_boot_ns = now;
            self.processes.prune_positions();
            self.processes.prune_transfers();
        }
        let live = self.census.connections();
        let host = self.losses.poll_host(&self.hooks, settled, &live);
        self.pending.extend(host.into_iter().map(Read::from));
    }

    /// Everything up to `until`, in order.
    fn take_batch(&mut self, until: u64) -> Batch {
        // Stable: records of one moment stay as their program emitted them.
        self.pending.sort_by_key(|read| read.event.boot_ns);
        let settled = self
            .pending
            .partition_point(|read| read.event.boot_ns <= until);
        self.handed_over_boot_ns = until;
        let rest = self.pending.split_off(settled);
        let settled = std::mem::replace(&mut self.pending, rest);
        for Read { event, .. } in &settled {
            self.census.count(event);
            self.recount |= matches!(&event.fact, Fact::Loss(loss)
                if matches!(loss.class, LossClass::Process | LossClass::Exec | LossClass::Any));
        }
        Batch {
            now_boot_ns: until,
            events: settled.into_iter().map(|read| read.event).collect(),
            marks: self.rings.marks(&self.pending, until),
            declared: self.losses.declared(self.hooks.generation()),
            urgent: self.rings.is_urgent(),
        }
    }
}
