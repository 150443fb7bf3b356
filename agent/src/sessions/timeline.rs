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
    /// What the spool sheds, by class, since it was last declared.
    shed: Vec<(GapClass, Lost)>,
}

/// What is shed is declared together, this often.
const DECLARE_SHED_NS: u64 = 1_000_000_000;

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
        if let Some(class) = optional(&body).filter(|class| out.sink.sheds(*class)) {
            self.note_shed(class, boot_ns, &body);
            return None;
        }
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

    /// Declares what was shed some time ago, or all of it.
    pub(super) fn declare_shed(&mut self, out: &mut Out<'_>, now: u64, at_once: bool) {
        let due = |(_, lost): &mut (GapClass, Lost)| {
            at_once || now.saturating_sub(lost.from) >= DECLARE_SHED_NS
        };
        let due: Vec<_> = self.shed.extract_if(.., due).collect();
        for (class, lost) in due {
            let to = lost.to;
            self.emit(out, to, Body::Gap(lost.gap(class)));
        }
    }

    fn note_shed(&mut self, class: GapClass, boot_ns: u64, body: &Body) {
        match self.shed.iter_mut().find(|(known, _)| *known == class) {
            Some((_, lost)) => lost.add(boot_ns, body),
            None => {
                let mut lost = Lost::since(boot_ns);
                lost.add(boot_ns, body);
                self.shed.push((class, lost));
            }
        }
    }

    /// Declares what the spool did not take. `false` when it still does not.
    pub(super) fn declare_lost(&mut self, out: &mut Out<'_>) -> bool {
        let Some(lost) = self.lost.take() else {
            return true;
        };
        let gap = Body::Gap(lost.gap(GapClass::Any));
        let kept = self.append(out, lost.to, gap).is_some();
        if !kept {
            // The refused gap is no loss of its own.
            self.lost = Some(lost);
        }
        kept
    }

    /// The last word, when the spool takes nothing to the end: the losses stand
    /// in the counts at least.
    pub(super) fn count_lost(&mut self, out: &Out<'_>) {
        if let Some(lost) = self.lost.take() {
            self.note_gap(out, lost.from, lost.to);
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
        let record = &mut self.record;
        let before = (record.session.counts, record.last_boot_ns, record.last_time);
        record.session.counts.add(&event.body);
        record.next_seq = seq + 1;
        record.note_time(&event);
        if out.sink.append(&self.record, &event).is_ok() {
            if let Body::Gap(gap) = &event.body {
                self.note_gap(out, gap.from_boot_ns, gap.to_boot_ns);
            }
            return Some(seq);
        }
        out.counters.spool_errors += 1;
        let record = &mut self.record;
        record.next_seq = seq;
        (record.session.counts, record.last_boot_ns, record.last_time) = before;
        self.note_lost(boot_ns, &event.body);
        None
    }

    fn note_gap(&mut self, out: &Out<'_>, from_boot_ns: u64, to_boot_ns: u64) {
        let from = from_boot_ns.max(self.record.start_boot_ns);
        let (from, to) = (out.clock.wall(from), out.clock.wall(to_boot_ns));
        self.record.gap_times.add(from, to);
    }

    fn note_lost(&mut self, boot_ns: u64, body: &Body) {
        let lost = self.lost.get_or_insert_with(|| Lost::since(boot_ns));
        lost.add(boot_ns, body);
    }
}

impl Lost {
    fn since(boot_ns: u64) -> Self {
        Self {
            events: 0,
            bytes: 0,
            from: boot_ns,
            to: boot_ns,
        }
    }

    /// Counts an event. A gap stands for what it declares.
    fn add(&mut self, boot_ns: u64, body: &Body) {
        let (events, bytes) = match body {
            Body::Gap(gap) if gap.events.is_some() || gap.bytes.is_some() => {
                self.from = self.from.min(gap.from_boot_ns);
                (gap.events.unwrap_or(0), gap.bytes.unwrap_or(0))
            }
            _ => (1, stream_bytes(body)),
        };
        self.events += events;
        self.bytes += bytes;
        self.from = self.from.min(boot_ns);
        self.to = self.to.max(boot_ns);
    }

    fn gap(&self, class: GapClass) -> Gap {
        Gap {
            cause: GapCause::Spool,
            class,
            events: Some(self.events),
            bytes: Some(self.bytes),
            stream: None,
            terminal: None,
            offset: None,
            from_boot_ns: self.from,
            to_boot_ns: self.to,
        }
    }
}

/// The class of an event that the spool may shed.
fn optional(body: &Body) -> Option<GapClass> {
    match body {
        Body::File(_) => Some(GapClass::File),
        Body::Connect(_) | Body::Disconnect(_) => Some(GapClass::Network),
        Body::Input(_) => Some(GapClass::Input),
        _ => None,
    }
}

fn stream_bytes(body: &Body) -> u64 {
    match body {
        Body::Output(output) => output.len(),
        Body::Input(input) => input.len(),
        _ => 0,
    }
}
