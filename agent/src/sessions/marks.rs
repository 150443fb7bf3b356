//! Notes on the timeline: injected input, what was used of which no more is
//! captured, the end of what was left running, and times at which less was
//! captured.

use auditty_recording::event::{Body, GapCause, GapClass, Marker, PROCESSES_ENDED};
use uuid::Uuid;

use super::Sessions;
use super::lineage::SessionKey;
use super::session::OpenSession;
use super::sink::Sink;
use super::timeline::Out;
use crate::capture::event::{HookStop, KernelEvent, Use};

/// Injected bytes are told together, this often: each is a system call of its
/// own.
const INJECTION_NS: u64 = 1_000_000_000;

/// Processes and ptys that are told apart until then.
const MAX_INJECTORS: usize = 16;

/// Input that processes put into ptys (`TIOCSTI`) since it was last told.
#[derive(Debug, Default)]
pub(super) struct Injections(Vec<Injection>);

#[derive(Debug)]
struct Injection {
    pid: u32,
    pts: u32,
    bytes: u64,
    since_boot_ns: u64,
}

impl Sessions {
    /// A process put a byte into a pty's input: news for its own session, and
    /// for the one that has the pty.
    pub(super) fn terminal_injection(&mut self, event: &KernelEvent, (terminal, pts): (u64, u32)) {
        let own = self.session_of(event);
        let target = self.session_with_terminal(terminal, pts);
        let other = target.filter(|target| Some(*target) != own);
        for key in own.into_iter().chain(other) {
            if let Some(session) = self.sessions.get_mut(&key) {
                session.injections.add(event.pid, pts, event.boot_ns);
            }
        }
    }

    /// A process uses something of which no more is captured than that.
    pub(super) fn used(&mut self, event: &KernelEvent, used: Use, sink: &mut dyn Sink) {
        let pid = event.pid;
        let (marker, message) = match used {
            Use::IoUring => (
                "io_uring",
                format!(
                    "Process {pid} has set up an io_uring: what it does to files and Unix \
                     sockets through it is not captured."
                ),
            ),
            Use::Ptrace { target } => (
                "ptrace",
                format!(
                    "Process {pid} traces process {target} (ptrace): what it makes that one do \
                     is recorded with the session of that one."
                ),
            ),
            Use::Datagrams { remote } => {
                let remote = match remote.port() {
                    0 => remote.ip().to_string(),
                    _ => remote.to_string(),
                };
                (
                    "datagrams",
                    format!("Process {pid} sends datagrams to {remote}: they are not counted."),
                )
            }
        };
        let opened = self.session_of(event).and_then(|key| self.open(key, sink));
        if let Some((session, mut out)) = opened {
            let marker = Marker {
                marker: marker.into(),
                message,
            };
            session.emit(&mut out, event.boot_ns, Body::Marker(marker));
        }
    }

    /// The hooks that cost something are detached: nobody is connected.
    pub(super) fn detached(&mut self, boot_ns: u64, sink: &mut dyn Sink) {
        self.attached_boot_ns = u64::MAX;
        for key in self.keys() {
            let opened = self.open(key, sink);
            let Some((session, mut out)) = opened.filter(|(session, _)| session.live > 0) else {
                continue;
            };
            if session.detached_boot_ns.is_none() {
                session.detached_boot_ns = Some(boot_ns);
                let marker = Marker {
                    marker: "detached".into(),
                    message: "Nobody is connected: of what runs on only processes are \
                              captured (capture.attach = \"while-connected\")."
                        .into(),
                };
                session.emit(&mut out, boot_ns, Body::Marker(marker));
            }
        }
    }

    /// They are attached again.
    pub(super) fn attached(&mut self, boot_ns: u64, sink: &mut dyn Sink) {
        self.attached_boot_ns = boot_ns;
        for key in self.keys() {
            if let Some((session, mut out)) = self.open(key, sink) {
                session.declare_detached(&mut out, boot_ns);
            }
        }
    }

    /// A hook does not work. What open sessions miss is declared when all hooks are
    /// attached again, or when they end.
    pub(super) fn hook_stopped(&mut self, boot_ns: u64, stop: &HookStop, sink: &mut dyn Sink) {
        if !stop.blinds {
            return;
        }
        self.attached_boot_ns = u64::MAX;
        let now = self.now.max(boot_ns);
        for key in self.keys() {
            let Some((session, mut out)) = self.open(key, sink) else {
                continue;
            };
            let began = session.timeline.record.start_boot_ns;
            session
                .detached_boot_ns
                .get_or_insert(stop.since_boot_ns.max(began));
            let marker = Marker {
                marker: "hook_stopped".into(),
                message: format!("The {} does not work: {}.", stop.hook, stop.reason),
            };
            session.emit(&mut out, now, Body::Marker(marker));
        }
    }

    /// The time of day was set: those of events before and behind this marker do
    /// not compare. Their order, and how long things lasted, come from another
    /// clock.
    pub(super) fn clock_stepped(&mut self, message: &str, sink: &mut dyn Sink) {
        let now = self.now;
        for key in self.keys() {
            if let Some((session, mut out)) = self.open(key, sink) {
                let marker = Marker {
                    marker: "clock_stepped".into(),
                    message: message.to_owned(),
                };
                session.emit(&mut out, now, Body::Marker(marker));
            }
        }
    }

    /// A session is described that began at `from_boot_ns`: its login may have
    /// been quicker than the hooks were attached.
    pub(super) fn declare_late_hooks(
        &mut self,
        key: SessionKey,
        (from_boot_ns, boot_ns): (u64, u64),
        sink: &mut dyn Sink,
    ) {
        let attached_boot_ns = self.attached_boot_ns;
        let Some((session, mut out)) = self.open(key, sink) else {
            return;
        };
        if from_boot_ns < attached_boot_ns && session.detached_boot_ns.is_none() {
            session.detached_boot_ns = Some(from_boot_ns);
            if attached_boot_ns <= boot_ns {
                session.declare_detached(&mut out, attached_boot_ns);
            }
        }
    }

    /// A session is described whose server has no probes: nothing sees what it
    /// moves, from the beginning to the end.
    pub(super) fn declare_unseen(
        &mut self,
        key: SessionKey,
        (from_boot_ns, boot_ns): (u64, u64),
        sink: &mut dyn Sink,
    ) {
        let Some((session, mut out)) = self.open(key, sink) else {
            return;
        };
        session.detached_boot_ns.get_or_insert(from_boot_ns);
        let marker = Marker {
            marker: "not_probed".into(),
            message: "The program of this session's server has no probes: what was typed and \
                      shown is not captured (capture.mode = \"uprobe\")."
                .into(),
        };
        session.emit(&mut out, boot_ns, Body::Marker(marker));
    }

    /// The session's server must be seen to read its terminal before it ends: it
    /// reads up to the end. Otherwise nothing that went over it was captured.
    pub(super) fn expect_sight(&mut self, key: SessionKey, from_boot_ns: u64) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.sight_due_boot_ns = Some(from_boot_ns);
        }
    }

    /// The spool has something to say about a recording. One that is not open
    /// any more can be told nothing.
    pub fn spool_note(&mut self, id: Uuid, body: Body, sink: &mut dyn Sink) {
        let now = self.now;
        let mut sessions = self.sessions.iter();
        let found = sessions.find(|(_, s)| s.timeline.record.session.session_id == id);
        if let Some((session, mut out)) = found
            .map(|(key, _)| *key)
            .and_then(|key| self.open(key, sink))
        {
            session.emit(&mut out, now, body);
        }
    }

    /// Tells notes that have waited long enough, or all of them.
    pub(super) fn tell_notes(&mut self, key: SessionKey, at_once: bool, sink: &mut dyn Sink) {
        let now = self.now;
        if let Some((session, mut out)) = self.open(key, sink) {
            session.tell_injections(&mut out, now, at_once);
            session.declare_bounded(&mut out, now, at_once);
        }
    }
}

impl Injections {
    fn add(&mut self, pid: u32, pts: u32, boot_ns: u64) {
        let full = self.0.len() >= MAX_INJECTORS;
        let same = |known: &&mut Injection| (known.pid, known.pts) == (pid, pts) || full;
        match self.0.iter_mut().rev().find(same) {
            Some(known) => known.bytes += 1,
            None => self.0.push(Injection {
                pid,
                pts,
                bytes: 1,
                since_boot_ns: boot_ns,
            }),
        }
    }
}

impl OpenSession {
    fn tell_injections(&mut self, out: &mut Out<'_>, now: u64, at_once: bool) {
        let due = |known: &mut Injection| {
            at_once || now.saturating_sub(known.since_boot_ns) >= INJECTION_NS
        };
        let due: Vec<Injection> = self.injections.0.extract_if(.., due).collect();
        for Injection {
            pid,
            pts,
            bytes,
            since_boot_ns,
        } in due
        {
            let message =
                format!("Process {pid} put {bytes} bytes into the input of pts/{pts} (TIOCSTI).");
            let marker = Marker {
                marker: "terminal_injection".into(),
                message,
            };
            self.emit(out, since_boot_ns, Body::Marker(marker));
        }
    }

    /// Declares the time at which less was captured, once it is over.
    pub(super) fn declare_detached(&mut self, out: &mut Out<'_>, until_boot_ns: u64) {
        if let Some(from) = self.detached_boot_ns.take() {
            let what = (GapCause::Detached, GapClass::Any);
            self.lose(out, what, (None, None), (from, until_boot_ns));
        }
    }

    /// Declares a terminal that was never seen.
    pub(super) fn declare_unsighted(&mut self, out: &mut Out<'_>, until_boot_ns: u64) {
        if let Some(from) = self.sight_due_boot_ns.take()
            && !self.sighted
            && self.detached_boot_ns.is_none()
        {
            let what = (GapCause::Detached, GapClass::Any);
            self.lose(out, what, (None, None), (from, until_boot_ns));
        }
    }

    /// Tells that the last of the processes that ran on after the end has
    /// ended.
    pub(super) fn tell_rest(&mut self, out: &mut Out<'_>) {
        if !std::mem::take(&mut self.ran_on) {
            return;
        }
        let boot_ns = self.last_exit_boot_ns.max(self.timeline.last_boot_ns());
        let session = &mut self.timeline.record.session;
        session.processes_end_time = Some(out.clock.wall(boot_ns));
        self.dirty = true;
        let marker = Marker {
            marker: PROCESSES_ENDED.into(),
            message: "The last process that ran on after the session's end has ended.".into(),
        };
        self.emit(out, boot_ns, Body::Marker(marker));
    }
}
