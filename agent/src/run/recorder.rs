//! The thread that turns batches of kernel events into recordings.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use auditty_recording::session::Host;
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::break_glass::Uses;
use super::courtesy::Courtesy;
use super::door::{Door, SOCKET};
use super::ending::end_overdue;
use super::notify;
use super::told::Told;
use crate::capture::event::{Fact, LossClass};
use crate::capture::ring::Marks;
use crate::capture::{Batch, BatchReceiver, Declared, is_alive, now_boot_ns};
use crate::config::{Grants, WhenOver};
use crate::delivery::{Point, Spool};
use crate::grants::{Followed, Sources};
use crate::sessions::{Clock, Limits, Restart, Sessions, SystemUsers};

/// How often time alone is looked at.
const TICK: Duration = Duration::from_millis(100);

/// How often while nobody is connected: a look costs more than all else then. Who asks
/// whether sessions are recorded waits so long at most.
const REST: Duration = Duration::from_millis(250);

/// How often everything is written out that the kernel's rings still hold.
const CHECKPOINT: Duration = Duration::from_millis(200);

/// How long that may wait for a session that is about to begin.
const LONGEST_CHECKPOINT: Duration = Duration::from_millis(500);

/// How often grants, the wall clock and the service manager have their turn.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

/// How long a stopping agent waits for store and collector. What they do not
/// take by then stays in the spool for the next start.
const DELIVERY_DEADLINE: Duration = Duration::from_secs(10);

/// How much longer for the digest that says how far that went.
const DIGEST_DEADLINE: Duration = Duration::from_secs(2);

/// How many times processes are looked for that ended unseen, after a loss. One
/// must be found dead twice: the record of its end may only be late.
const LOOKS_FOR_THE_DEAD: u32 = 3;

/// Sessions on one side, the spool on the other.
pub(super) struct Recorder {
    sessions: Sessions,
    grants: Sources,
    when_over: WhenOver,
    spool: Spool,
    batches: BatchReceiver,
    courtesy: Courtesy,
    /// How far the kernel's rings have been taken.
    marks: Marks,
    /// What was declared lost, since the last checkpoint where that is news.
    declared: Option<Declared>,
    urgent: bool,
    /// Everything that was taken is written out.
    written: bool,
    last_checkpoint: Instant,
    looks_for_the_dead: u32,
    found_dead: HashSet<u32>,
    unrecorded: Uses,
    told: Option<Told>,
}

impl Recorder {
    /// `marks` is where the capture begins in the kernel's rings.
    pub(super) fn new(
        host: Host,
        (grants, followed): (&Grants, Followed),
        spool: Spool,
        batches: BatchReceiver,
        marks: Marks,
        state_directory: &Path,
    ) -> Self {
        let mut sources = Sources::new(grants.directory(), followed);
        let book = sources.book();
        Self {
            sessions: Sessions::new(host, clock(), SystemUsers, book, Limits::default()),
            grants: sources,
            when_over: grants.when_over(),
            spool,
            batches,
            courtesy: Courtesy::new(),
            marks,
            declared: None,
            urgent: false,
            written: false,
            last_checkpoint: Instant::now(),
            looks_for_the_dead: 0,
            found_dead: HashSet::new(),
            unrecorded: Uses::new(state_directory),
            told: None,
        }
    }

    /// Will also have the collector told of what is in no session's recording.
    pub(super) fn telling(self, told: Told) -> Self {
        Self {
            told: Some(told),
            ..self
        }
    }

    /// Goes on with the sessions an agent before left open, says so with `begin`, then
    /// records until the capture ends. The kernel's programs go on after that, or do
    /// not.
    pub(super) fn run(mut self, restart: Restart, goes_on: bool, begin: oneshot::Sender<()>) {
        self.reload_unrecorded();
        self.sessions
            .resume(restart, &is_alive, now_boot_ns(), &mut self.spool);
        // From its first moment on an agent can be killed.
        self.checkpoint();
        let _ = begin.send(());
        let door = Door::open(Path::new(SOCKET))
            .inspect_err(|error| tracing::error!(%error, "strict mode: {SOCKET} cannot be opened, users it holds are refused"))
            .ok();
        let mut housekeeping = Instant::now();
        loop {
            if let Some(door) = &door {
                door.answer(self.spool.problem().as_deref());
            }
            let patience = match self.written && self.sessions.is_quiet() {
                true => REST,
                false => TICK,
            };
            match self.batches.recv_timeout(patience) {
                Ok(batch) => self.take(batch),
                Err(RecvTimeoutError::Timeout) => self.courtesy.rest(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Instant::now();
            if self.checkpoint_is_due(now) {
                self.checkpoint();
                self.spool.tick(now);
                for (session, note) in self.spool.take_notes() {
                    self.sessions.spool_note(session, note, &mut self.spool);
                }
            }
            if now.duration_since(housekeeping) >= HOUSEKEEPING {
                housekeeping = now;
                self.housekeeping();
            }
        }
        self.courtesy.rest();
        self.sessions.shutdown(goes_on, &mut self.spool);
        self.checkpoint();
        self.spool.close();
        let deadline = Instant::now() + DELIVERY_DEADLINE;
        self.deliver(deadline);
        // The last digest says what the store has, so it comes behind that.
        self.spool.conclude();
        self.deliver(deadline + DIGEST_DEADLINE);
        if !self.spool.is_delivered() {
            tracing::warn!(
                "not everything could be delivered; the rest stays in the spool for the next start"
            );
        }
    }

    /// Takes what an agent before has left where nobody goes on: the sessions that
    /// are open then are for the next recorder.
    pub(super) fn catch_up(mut self, restart: Restart) {
        self.reload_unrecorded();
        self.sessions
            .resume(restart, &is_alive, now_boot_ns(), &mut self.spool);
        while let Ok(batch) = self.batches.recv_timeout(TICK) {
            self.take(batch);
        }
        self.sessions.shutdown(false, &mut self.spool);
        self.checkpoint();
        self.spool.close();
    }

    /// A checkpoint comes often, but not while something waits for a session
    /// that is about to begin, unless the rings fill up.
    fn checkpoint_is_due(&self, now: Instant) -> bool {
        let since = now.duration_since(self.last_checkpoint);
        let longest = LONGEST_CHECKPOINT.as_nanos() as u64;
        let since_boot_ns = now_boot_ns().saturating_sub(longest);
        let patience = match self.sessions.holds_since(since_boot_ns) {
            true => LONGEST_CHECKPOINT,
            false => CHECKPOINT,
        };
        self.urgent || since >= patience
    }

    /// Writes everything out and lets go of it in the kernel's rings.
    fn checkpoint(&mut self) {
        (self.urgent, self.written) = (false, true);
        self.last_checkpoint = Instant::now();
        let connections = self.sessions.checkpoint(&mut self.spool);
        self.spool.commit(&Point {
            marks: self.marks.clone(),
            declared: self.declared.take(),
            connections,
        });
        self.batches.acknowledge(&self.marks);
    }

    fn take(&mut self, batch: Batch) {
        let age = Duration::from_nanos(now_boot_ns().saturating_sub(batch.now_boot_ns));
        self.courtesy.judge(batch.bytes(), age, batch.urgent);
        if !batch.events.is_empty() {
            self.reload_unrecorded();
            self.written = false;
        }
        for event in &batch.events {
            if let Fact::Loss(loss) = &event.fact
                && matches!(loss.class, LossClass::Process | LossClass::Any)
            {
                self.looks_for_the_dead = LOOKS_FOR_THE_DEAD;
            }
            if let (Fact::HookStopped(_) | Fact::HookMended(_), Some(told)) =
                (&event.fact, &mut self.told)
            {
                told.hook(event, clock());
                // Ends may have been missed.
                self.looks_for_the_dead = LOOKS_FOR_THE_DEAD;
            }
            if let Fact::ConnectionStart(_) = &event.fact {
                // A grant that was there before the login decides it.
                self.reload_grants();
            }
            self.sessions.apply(event, &mut self.spool);
        }
        if let Some(told) = &mut self.told {
            told.tell();
        }
        self.sessions.end_of_batch(&mut self.spool);
        self.sessions.tick(batch.now_boot_ns, &mut self.spool);
        self.urgent |= batch.urgent;
        self.marks = batch.marks;
        self.declared = batch.declared.or(self.declared.take());
    }

    fn housekeeping(&mut self) {
        notify::alive();
        self.sessions.set_clock(clock(), &mut self.spool);
        self.reap();
        self.reload_grants();
        if self.when_over == WhenOver::End {
            end_overdue(&self.sessions.overdue(&mut self.spool));
        }
        if let Some(told) = &mut self.told {
            told.counts(&self.sessions.counters(), self.spool.outbox().refused());
            told.tell();
        }
    }

    fn reload_unrecorded(&mut self) {
        if let Some(logins) = self.unrecorded.news() {
            self.sessions.set_unrecorded(logins);
        }
    }

    fn reload_grants(&mut self) {
        if let Some(book) = self.grants.refresh() {
            self.sessions.set_grants(book, &mut self.spool);
        }
    }

    /// Forgets processes whose end was lost: their sessions would stay open.
    fn reap(&mut self) {
        if self.looks_for_the_dead == 0 {
            return;
        }
        self.looks_for_the_dead -= 1;
        let dead_before = std::mem::take(&mut self.found_dead);
        let dead_now = RefCell::new(HashSet::new());
        self.sessions.reap(&|pid, start_boot_ns| {
            let alive = is_alive(pid, start_boot_ns);
            if !alive {
                dead_now.borrow_mut().insert(pid);
            }
            alive || !dead_before.contains(&pid)
        });
        self.found_dead = dead_now.into_inner();
    }

    /// Waits for store and collector, but not for ever.
    fn deliver(&mut self, deadline: Instant) {
        while !self.spool.is_delivered() && Instant::now() < deadline {
            thread::sleep(TICK);
            self.spool.tick(Instant::now());
        }
    }
}

fn clock() -> Clock {
    Clock::new(now_boot_ns(), Timestamp::now())
}
