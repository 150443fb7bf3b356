//! One session whose recording is open.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use auditty_recording::event::{Body, Gap, GapCause, GapClass, LinkRelation, Resize, TerminalOpen};
use auditty_recording::session::{GrantMatch, Login, Verdict};
use uuid::Uuid;

use super::bounds::{Allowance, Bounded};
use super::connection::StreamLoss;
use super::ending::Ending;
use super::inner::InnerTerminals;
use super::marks::Injections;
use super::programs::Program;
use super::sink::SessionRecord;
use super::streams::{CLIENT_TERMINAL, Piece, StreamId, Streams};
use super::timeline::{Out, Timeline};
use super::transfers::Moved;
use crate::capture::event::WindowSize;

/// Counts change with every event; the metadata follows this often.
const STALE_NS: u64 = 5_000_000_000;

/// A session from its first event to its manifest.
#[derive(Debug, Default)]
pub(super) struct OpenSession {
    pub timeline: Timeline,
    pub streams: Streams,
    /// The kernel's number of its connection, 0 while a resumed session has not
    /// been seen again.
    pub connection: u64,
    pub root: Option<Root>,
    pub ending: Ending,
    /// Live processes.
    pub live: u32,
    /// Nothing more can come over its streams.
    pub closed: bool,
    /// Last sign of life of its streams or its root.
    pub active_boot_ns: u64,
    /// Part of it was not captured because no agent was running.
    pub interrupted: bool,
    /// It went on after a restart of the agent: processes that started before
    /// this moment are on the timeline already.
    pub resumed_from: Option<u64>,
    /// An agent before has begun it, and the rings hold what came since.
    pub taken_over: bool,
    /// The record as it was last kept for the next agent.
    pub kept: Option<SessionRecord>,
    /// The metadata changed and was not reported.
    pub dirty: bool,
    /// A login, and a match with the grants, are on the timeline.
    pub identified: bool,
    pub matched: bool,
    /// The agent has told its server to end.
    pub over_by_grant: bool,
    /// Processes that were not followed at the bound, since the last gap.
    pub unfollowed: u64,
    /// The kernel's name for the client's terminal, once it is known.
    pub client_terminal: Option<u64>,
    pub inner: InnerTerminals,
    /// Sizes of its terminals.
    pub sizes: HashMap<u32, WindowSize>,
    /// What its processes run.
    pub programs: HashMap<u32, Arc<Program>>,
    /// Repositories of which the last bytes are on their way.
    pub moved: Vec<Moved>,
    pub file_allowance: Allowance,
    pub network_allowance: Allowance,
    pub bounded: Bounded,
    pub injections: Injections,
    /// Sessions it drives or that drive it, as told.
    pub driving: HashSet<(LinkRelation, Uuid)>,
    /// Since when its terminal must be seen, and whether it was.
    pub sight_due_boot_ns: Option<u64>,
    pub sighted: bool,
    /// Since when less is captured of it.
    pub detached_boot_ns: Option<u64>,
    /// Processes ran on after its end.
    pub ran_on: bool,
    /// When the latest of its processes ended.
    pub last_exit_boot_ns: u64,
    /// When the metadata was last reported, and its count of events then.
    pub reported_boot_ns: u64,
    pub reported_events: u64,
}

/// The session's own process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Root {
    pub pid: u32,
    /// The server process that holds its channel.
    pub server: u32,
    pub exited: Option<u64>,
}

impl OpenSession {
    /// Puts an event on the timeline, after what the streams have joined.
    pub(super) fn emit(&mut self, out: &mut Out<'_>, boot_ns: u64, body: Body) -> Option<u64> {
        self.streams.flush(&mut self.timeline, out);
        self.timeline.emit(out, boot_ns, body)
    }

    /// Says who logged in and who allowed it, where that is news.
    pub(super) fn identify(
        &mut self,
        out: &mut Out<'_>,
        boot_ns: u64,
        login: Login,
        grant: GrantMatch,
    ) {
        if !self.identified || self.timeline.record.session.login != login {
            self.identified = true;
            self.timeline.record.session.login = login.clone();
            self.dirty = true;
            self.emit(out, boot_ns, Body::Login(login));
        }
        self.allow(out, boot_ns, grant);
    }

    /// Says who allowed it, where that is news.
    pub(super) fn allow(&mut self, out: &mut Out<'_>, boot_ns: u64, grant: GrantMatch) {
        if !self.matched || self.timeline.record.session.grant != grant {
            self.matched = true;
            self.timeline.record.session.grant = grant.clone();
            self.dirty = true;
            self.emit(out, boot_ns, Body::Grant(Box::new(grant)));
        }
    }

    /// The client's terminal was seen.
    pub(super) fn open_terminal(&mut self, out: &mut Out<'_>, boot_ns: u64, pts: u32) {
        let name = format!("pts/{pts}");
        self.timeline.record.session.terminal.clone_from(&name);
        self.dirty = true;
        let terminal = CLIENT_TERMINAL;
        self.emit(
            out,
            boot_ns,
            Body::TerminalOpen(TerminalOpen {
                terminal,
                name,
                pid: None,
                exe: None,
            }),
        );
    }

    /// A terminal has this size now. 0 × 0 is a pty whose size nobody set.
    pub(super) fn resize(
        &mut self,
        out: &mut Out<'_>,
        boot_ns: u64,
        terminal: u32,
        size: WindowSize,
    ) {
        if self.sizes.get(&terminal) == Some(&size) || size == WindowSize::default() {
            return;
        }
        self.sizes.insert(terminal, size);
        let WindowSize { columns, rows } = size;
        self.emit(
            out,
            boot_ns,
            Body::Resize(Resize {
                terminal,
                columns,
                rows,
            }),
        );
    }

    /// Bytes of one of its streams.
    pub(super) fn bytes(
        &mut self,
        out: &mut Out<'_>,
        id: StreamId,
        piece: &Piece<'_>,
        loss: &mut StreamLoss,
    ) {
        self.active_boot_ns = self.active_boot_ns.max(piece.boot_ns);
        let cause = loss.cause.unwrap_or(GapCause::RingFull);
        let timeline = &mut self.timeline;
        loss.shown_bytes += self.streams.push(id, piece, cause, timeline, out);
    }

    /// Declares a loss that has no place in a stream.
    pub(super) fn lose(
        &mut self,
        out: &mut Out<'_>,
        (cause, class): (GapCause, GapClass),
        (events, bytes): (Option<u64>, Option<u64>),
        (from_boot_ns, to_boot_ns): (u64, u64),
    ) {
        let gap = Gap {
            cause,
            class,
            events,
            bytes,
            stream: None,
            terminal: None,
            offset: None,
            from_boot_ns,
            to_boot_ns,
        };
        self.emit(out, to_boot_ns, Body::Gap(gap));
    }

    /// Declares processes that could not be followed.
    pub(super) fn declare_unfollowed(&mut self, out: &mut Out<'_>, now: u64) {
        let events = std::mem::take(&mut self.unfollowed);
        if events > 0 {
            let what = (GapCause::Bound, GapClass::Process);
            let from = self.timeline.last_boot_ns();
            self.lose(out, what, (Some(events), None), (from.min(now), now));
        }
    }

    /// Reports the metadata when it changed, or its counts did some time ago.
    pub(super) fn report(&mut self, out: &mut Out<'_>, now: u64) {
        let session = &mut self.timeline.record.session;
        let moved =
            session.counts.events != self.reported_events || session.running_processes != self.live;
        let stale = moved && now.saturating_sub(self.reported_boot_ns) >= STALE_NS;
        if self.dirty || stale {
            session.running_processes = self.live;
            self.reported_events = session.counts.events;
            self.reported_boot_ns = now;
            self.dirty = false;
            self.timeline.record.revision += 1;
            out.sink.changed(&self.timeline.record);
        }
    }

    /// The last of it: verdict, metadata, and nothing more.
    pub(super) fn finish(mut self, out: &mut Out<'_>, now: u64) {
        self.declare_detached(out, now);
        self.streams.flush_all(&mut self.timeline, out);
        self.timeline.declare_shed(out, now, true);
        if !self.timeline.declare_lost(out) {
            self.timeline.count_lost(out);
        }
        let session = &mut self.timeline.record.session;
        session.verdict = if self.interrupted || session.adopted {
            Verdict::Interrupted
        } else if session.counts.gaps > 0 {
            Verdict::Lossy
        } else {
            Verdict::Complete
        };
        self.dirty = true;
        self.report(out, now);
        out.counters.sessions_finished += 1;
        out.sink.finished(&self.timeline.record);
    }
}
