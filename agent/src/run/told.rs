//! What no session's recording tells, for the collector: hooks that did not work, and
//! what was seen and is in no recording. It hears of them with what the host says of
//! itself.

use std::collections::VecDeque;

use auditty_proto::convert::timestamp;
use auditty_proto::v1::{HostReport, StoppedHook, UnrecordedCounts};
use prost_types::Timestamp;
use tokio::sync::watch;

use crate::capture::event::{Fact, KernelEvent};
use crate::sessions::{Clock, Counters};

/// Stops that are told at most: the latest, and before those that are over the
/// ones that are not.
const KEPT: usize = 64;

/// All of it since this agent started.
pub(super) struct Told {
    host: watch::Sender<Option<HostReport>>,
    stops: VecDeque<StoppedHook>,
    unrecorded: UnrecordedCounts,
    /// The collector has not heard of all, and is to hear of it now.
    news: bool,
    /// It is enough when it hears of it with what it hears of anyway.
    more: bool,
    /// The last moment that was told: what happened to several hooks at once is to
    /// have one time of day.
    last: Option<(u64, Timestamp)>,
}

impl Told {
    /// Tells it with this.
    pub(super) fn new(host: watch::Sender<Option<HostReport>>, start: jiff::Timestamp) -> Self {
        let unrecorded = UnrecordedCounts {
            start_time: Some(timestamp(start)),
            ..UnrecordedCounts::default()
        };
        Self {
            host,
            stops: VecDeque::new(),
            unrecorded,
            news: false,
            more: false,
            last: None,
        }
    }

    /// Notes what an event says of a hook. [`tell`](Self::tell) follows when those of
    /// the same moment are noted, too.
    pub(super) fn hook(&mut self, event: &KernelEvent, clock: Clock) {
        match &event.fact {
            Fact::HookStopped(stop) => {
                let stopped_time = Some(self.wall(stop.since_boot_ns, clock));
                if self.stops.len() >= KEPT {
                    let over = self.stops.iter().position(|s| s.mended_time.is_some());
                    self.stops.remove(over.unwrap_or_default());
                }
                self.stops.push_back(StoppedHook {
                    hook: stop.hook.clone(),
                    reason: stop.reason.to_owned(),
                    stopped_time,
                    mended_time: None,
                });
            }
            Fact::HookMended(hook) => {
                let mended_time = Some(self.wall(event.boot_ns, clock));
                let mut stops = self.stops.iter_mut().rev();
                let stop = stops.find(|stop| stop.hook == *hook && stop.mended_time.is_none());
                if let Some(stop) = stop {
                    stop.mended_time = mended_time;
                }
            }
            _ => return,
        }
        self.news = true;
    }

    /// Notes what was counted. Bytes alone are no news: with every connection there
    /// are some that sshd's processes write to each other.
    pub(super) fn counts(&mut self, counters: &Counters, refused_reports: u64) {
        let now = UnrecordedCounts {
            start_time: self.unrecorded.start_time,
            connections: counters.refused_connections,
            sessions: counters.refused_sessions,
            losses: counters.unattributed_losses,
            bytes: counters.unattributed_bytes,
            refused_reports,
        };
        let but_bytes = UnrecordedCounts {
            bytes: now.bytes,
            ..self.unrecorded
        };
        self.news |= now != but_bytes;
        self.more |= now != self.unrecorded;
        self.unrecorded = now;
    }

    /// Has the collector told what it has not heard.
    pub(super) fn tell(&mut self) {
        let now = std::mem::take(&mut self.news);
        if !std::mem::take(&mut self.more) && !now {
            return;
        }
        self.host.send_if_modified(|host| {
            if let Some(host) = host {
                host.stopped_hooks = self.stops.iter().cloned().collect();
                host.unrecorded = Some(self.unrecorded);
            }
            now
        });
    }

    fn wall(&mut self, boot_ns: u64, clock: Clock) -> Timestamp {
        match self.last {
            Some((known, time)) if known == boot_ns => time,
            _ => {
                let time = timestamp(clock.wall(boot_ns));
                self.last = Some((boot_ns, time));
                time
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::event::HookStop;

    fn stop(hook: &str, since_boot_ns: u64) -> Fact {
        Fact::HookStopped(Box::new(HookStop {
            hook: hook.to_owned(),
            reason: "it was detached",
            since_boot_ns,
            blinds: true,
        }))
    }

    #[test]
    fn each_stop_is_told_until_there_are_too_many() {
        let (host, told) = watch::channel(Some(HostReport::default()));
        let clock = Clock::new(0, jiff::Timestamp::UNIX_EPOCH);
        let mut tells = Told::new(host, jiff::Timestamp::UNIX_EPOCH);
        let mut note = |at: u64, fact: Fact, clock: Clock| {
            tells.hook(&KernelEvent::of_the_host(at, fact), clock);
            tells.tell();
        };
        note(7, stop("a", 5), clock);
        // The clock is another one by then.
        let later = Clock::new(
            0,
            jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_nanos(1),
        );
        note(7, stop("b", 5), later);
        note(9, Fact::HookMended("b".to_owned()), clock);
        let of = |told: &watch::Receiver<Option<HostReport>>| {
            let hooks = told.borrow().clone().unwrap().stopped_hooks;
            let nanos = |time: Option<Timestamp>| time.map(|time| time.nanos);
            let hooks = hooks.into_iter();
            hooks
                .map(|s| (s.hook, nanos(s.stopped_time), nanos(s.mended_time)))
                .collect::<Vec<_>>()
        };
        let first = [
            ("a".to_owned(), Some(5), None),
            ("b".to_owned(), Some(5), Some(9)),
        ];
        assert_eq!(of(&told), first);
        for at in 10..10 + KEPT as u64 {
            note(at, stop("b", at), clock);
            note(at, Fact::HookMended("b".to_owned()), clock);
        }
        let told = of(&told);
        assert_eq!(told.len(), KEPT);
        assert_eq!(told[0], first[0]);
    }

    #[test]
    fn what_changes_together_is_told_together_and_once() {
        let (host, mut told) = watch::channel(Some(HostReport::default()));
        let clock = Clock::new(0, jiff::Timestamp::UNIX_EPOCH);
        let mut tells = Told::new(host, jiff::Timestamp::UNIX_EPOCH);
        tells.counts(&Counters::default(), 0);
        tells.tell();
        assert!(!told.has_changed().unwrap(), "nothing to tell");
        tells.hook(&KernelEvent::of_the_host(7, stop("a", 5)), clock);
        tells.hook(&KernelEvent::of_the_host(7, stop("b", 5)), clock);
        let counters = Counters {
            refused_sessions: 2,
            unattributed_bytes: 9,
            ..Counters::default()
        };
        for _ in 0..2 {
            tells.counts(&counters, 3);
            tells.tell();
        }
        let report = told.borrow_and_update().clone().unwrap();
        let unrecorded = report.unrecorded.unwrap();
        assert_eq!((unrecorded.sessions, unrecorded.bytes), (2, 9));
        assert_eq!(unrecorded.refused_reports, 3);
        assert!(unrecorded.start_time.is_some());
        assert_eq!(report.stopped_hooks.len(), 2);
        let counters = Counters {
            unattributed_bytes: 10,
            ..counters
        };
        tells.counts(&counters, 3);
        tells.tell();
        assert!(!told.has_changed().unwrap(), "it can wait");
        let report = told.borrow().clone().unwrap();
        assert_eq!(report.unrecorded.unwrap().bytes, 10);
    }
}
