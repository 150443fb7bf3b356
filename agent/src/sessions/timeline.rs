//! One session's timeline: sequence numbers, counts, and what the spool did not
//! take.

use auditty_recording::event::{Body, Event, Gap, GapCause, GapClass};

use super::clock::Clock;
use super::limits::Counters;
use super::sink::{SessionRecord, Sink};

/// Where events go and what they need on the way.
pub(super) struct Out<'a> {
    pub sink: &'a mut dyn Sink,
    pub clock: Clock,
    pub counters: &'a mut Counters,
}

/// The session's record, and the events that could not be kept.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    pub record: SessionRecord,
    lost: Option<Lost>,
}

#[derive(Debug)]
struct Lost {
    events: u64,
    bytes: u64,
    from: u64,
    to: u64,
}

impl Timeline {
    /// Puts an event on the timeline; its number, or `None` when the spool did
    /// not take it. Then the loss is declared before the next event.
    pub(super) fn emit(&mut self, out: &mut Out<'_>, boot_ns: u64, body: Body) -> Option<u64> {
        if self.declare_lost(out) {
            self.append(out, boot_ns, body)
        } else {
            self.note_lost(boot_ns, &body);
            None
        }
    }

    /// Moment of the latest event.
    pub(super) fn last_boot_ns(&self) -> u64 {
        self.record.last_boot_ns
    }

    /// Declares what the spool did not take. `false` when it still does not.
    pub(super) fn declare_lost(&mut self, out: &mut Out<'_>) -> bool {
        let Some(lost) = self.lost.take() else {
            return true;
        };
        let gap = Body::Gap(Gap {
            cause: GapCause::Spool,
            class: GapClass::Any,
            events: Some(lost.events),
            bytes: Some(lost.bytes),
            stream: None,
            terminal: None,
            offset: None,
            from_boot_ns: lost.from,
            to_boot_ns: lost.to,
        });
        let kept = self.append(out, lost.to, gap).is_some();
        if !kept {
            // The refused gap is no loss of its own.
            self.lost = Some(lost);
        }
        kept
    }

    /// The last word, when the spool takes nothing to the end: the losses stand
    /// in the counts at least.
    pub(super) fn count_lost(&mut self) {
        if let Some(lost) = self.lost.take() {
            let counts = &mut self.record.session.counts;
            counts.gaps += 1;
            counts.lost_events += lost.events;
            counts.lost_bytes += lost.bytes;
        }
    }

    fn append(&mut self, out: &mut Out<'_>, boot_ns: u64, body: Body) -> Option<u64> {
        let seq = self.record.next_seq;
        let event = Event {
            seq,
            time: out.clock.wall(boot_ns),
            boot_ns,
            body,
        };
        let before = (self.record.session.counts, self.record.last_boot_ns);
        self.record.session.counts.add(&event.body);
        self.record.next_seq = seq + 1;
        self.record.last_boot_ns = before.1.max(boot_ns);
        if out.sink.append(&self.record, &event).is_ok() {
            return Some(seq);
        }
        out.counters.spool_errors += 1;
        self.record.next_seq = seq;
        (self.record.session.counts, self.record.last_boot_ns) = before;
        self.note_lost(boot_ns, &event.body);
        None
    }

    fn note_lost(&mut self, boot_ns: u64, body: &Body) {
        let lost = self.lost.get_or_insert(Lost {
            events: 0,
            bytes: 0,
            from: boot_ns,
            to: boot_ns,
        });
        lost.events += 1;
        lost.bytes += stream_bytes(body);
        lost.from = lost.from.min(boot_ns);
        lost.to = lost.to.max(boot_ns);
    }
}

fn stream_bytes(body: &Body) -> u64 {
    match body {
        Body::Output(output) => output.len(),
        Body::Input(input) => input.len(),
        _ => 0,
    }
}
