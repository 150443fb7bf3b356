//! What a session's own activity may cost: how many facts of one class it may
//! put on its timeline, and the exact account of what was beyond.

use auditty_recording::event::{GapCause, GapClass};

use super::session::OpenSession;
use super::timeline::Out;

/// Losses at a bound are declared together, this often.
const DECLARE_NS: u64 = 1_000_000_000;

/// Facts of one class that may come at once. A large archive that is unpacked
/// has as many files.
const BURST: u64 = 20_000;

/// Facts of one class a second that may come for ever.
const PER_SECOND: u64 = 500;

/// How many more facts of one class a session may put on its timeline.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowance {
    /// In units of one fact / 10⁹, so that time is counted exactly.
    spent_nanos: u128,
    at_boot_ns: u64,
}

impl Allowance {
    /// Spends one fact; `false` when there is none left.
    pub(super) fn take(&mut self, boot_ns: u64) -> bool {
        const FACT: u128 = 1_000_000_000;
        let passed = boot_ns.saturating_sub(self.at_boot_ns);
        self.at_boot_ns = self.at_boot_ns.max(boot_ns);
        let regained = u128::from(passed) * u128::from(PER_SECOND);
        self.spent_nanos = self.spent_nanos.saturating_sub(regained);
        let affordable = self.spent_nanos + FACT <= u128::from(BURST) * FACT;
        if affordable {
            self.spent_nanos += FACT;
        }
        affordable
    }
}

/// Losses at bounds that are not declared yet, by class.
#[derive(Debug, Default)]
pub(super) struct Bounded(Vec<Beyond>);

#[derive(Debug)]
struct Beyond {
    class: GapClass,
    events: u64,
    bytes: u64,
    from: u64,
    to: u64,
}

impl Bounded {
    /// Counts a loss.
    pub(super) fn add(&mut self, class: GapClass, (events, bytes): (u64, u64), boot_ns: u64) {
        let known = self.0.iter_mut().find(|known| known.class == class);
        match known {
            Some(known) => {
                known.events += events;
                known.bytes += bytes;
                known.to = known.to.max(boot_ns);
            }
            None => self.0.push(Beyond {
                class,
                events,
                bytes,
                from: boot_ns,
                to: boot_ns,
            }),
        }
    }
}

impl OpenSession {
    /// Declares losses at bounds that have waited long enough, or all of them.
    pub(super) fn declare_bounded(&mut self, out: &mut Out<'_>, now: u64, at_once: bool) {
        let due = |beyond: &mut Beyond| at_once || now.saturating_sub(beyond.from) >= DECLARE_NS;
        let due: Vec<Beyond> = self.bounded.0.extract_if(.., due).collect();
        for beyond in due {
            let known = |count: u64| (count > 0).then_some(count);
            let amount = (known(beyond.events), known(beyond.bytes));
            let what = (GapCause::Bound, beyond.class);
            self.lose(out, what, amount, (beyond.from, beyond.to));
        }
        self.timeline.declare_shed(out, now, at_once);
    }
}

#[cfg(test)]
mod tests {
    use super::{Allowance, BURST, PER_SECOND};

    #[test]
    fn a_burst_and_then_a_rate() {
        let mut allowance = Allowance::default();
        let at = 5_000_000_000;
        let taken = (0..BURST + 10).filter(|_| allowance.take(at)).count() as u64;
        assert_eq!(taken, BURST);
        let later = at + 2_000_000_000;
        let taken = (0..BURST).filter(|_| allowance.take(later)).count() as u64;
        assert_eq!(taken, 2 * PER_SECOND);
        assert!(!allowance.take(at), "time never goes back");
    }
}
