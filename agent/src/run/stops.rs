//! Hooks that did not work, for the collector: it hears of them with what the host
//! says of itself.

use std::collections::VecDeque;

use auditty_proto::convert::timestamp;
use auditty_proto::v1::{HostReport, StoppedHook};
use prost_types::Timestamp;
use tokio::sync::watch;

use crate::capture::event::{Fact, KernelEvent};
use crate::sessions::Clock;

/// Stops that are told at most: the latest, and before those that are over the
/// ones that are not.
const KEPT: usize = 64;

/// The stops since this agent started.
pub(super) struct Stops {
    host: watch::Sender<Option<HostReport>>,
    known: VecDeque<StoppedHook>,
    /// The last moment that was told: what happened to several hooks at once is to
    /// have one time of day.
    last: Option<(u64, Timestamp)>,
}

impl Stops {
    /// Tells them with this.
    pub(super) fn new(host: watch::Sender<Option<HostReport>>) -> Self {
        Self {
            host,
            known: VecDeque::new(),
            last: None,
        }
    }

    /// Notes what an event says of a hook.
    pub(super) fn note(&mut self, event: &KernelEvent, clock: Clock) {
        match &event.fact {
            Fact::HookStopped(stop) => {
                let stopped_time = Some(self.wall(stop.since_boot_ns, clock));
                if self.known.len() >= KEPT {
                    let over = self.known.iter().position(|s| s.mended_time.is_some());
                    self.known.remove(over.unwrap_or_default());
                }
                self.known.push_back(StoppedHook {
                    hook: stop.hook.clone(),
                    reason: stop.reason.to_owned(),
                    stopped_time,
                    mended_time: None,
                });
            }
            Fact::HookMended(hook) => {
                let mended_time = Some(self.wall(event.boot_ns, clock));
                let mut stops = self.known.iter_mut().rev();
                let stop = stops.find(|stop| stop.hook == *hook && stop.mended_time.is_none());
                if let Some(stop) = stop {
                    stop.mended_time = mended_time;
                }
            }
            _ => return,
        }
        self.host.send_modify(|host| {
            if let Some(host) = host {
                host.stopped_hooks = self.known.iter().cloned().collect();
            }
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

    fn event(boot_ns: u64, fact: Fact) -> KernelEvent {
        KernelEvent {
            boot_ns,
            connection: 0,
            root: 0,
            pid: 0,
            fact,
        }
    }

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
        let mut stops = Stops::new(host);
        let clock = Clock::new(0, jiff::Timestamp::UNIX_EPOCH);
        stops.note(&event(7, stop("a", 5)), clock);
        // The clock is another one by then.
        let later = Clock::new(
            0,
            jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_nanos(1),
        );
        stops.note(&event(7, stop("b", 5)), later);
        stops.note(&event(9, Fact::HookMended("b".to_owned())), clock);
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
            stops.note(&event(at, stop("b", at)), clock);
            stops.note(&event(at, Fact::HookMended("b".to_owned())), clock);
        }
        let told = of(&told);
        assert_eq!(told.len(), KEPT);
        assert_eq!(told[0], first[0]);
    }
}
