//! How much the spool holds, and what it takes no more, in stages.
//!
//! What it may hold is its own bound, or less when the disk has less room. Of
//! that, in percent:
//!
//! | held | what happens |
//! |---|---|
//! | 75 | the operator is warned |
//! | 85, 90, 95 | the first, second, third optional class is shed |
//! | 100 | no new event is taken |
//!
//! What is not taken is declared, exactly, on the timeline of its session. Each
//! stage ends five percent below where it began: enough room that a gap is not
//! followed by the next one at once. What is open can always be sealed: its end
//! may exceed the bound, and on the disk a [reserve](super::reserve) is kept.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use auditty_recording::event::GapClass;
use nix::sys::statvfs::{Statvfs, statvfs};

use crate::config::units::show_size;

/// From here on the operator is warned, in percent.
const WARN: u64 = 75;

/// From here on the first optional class is shed, in percent.
const SHED: u64 = 85;

/// Between one stage and the next, and between its beginning and its end.
const STEP: u64 = 5;

/// From here on nothing is taken, in percent.
const FULL: u64 = 100;

/// Inodes that are left for the end of open sessions (seals, manifests), as the
/// reserve is for bytes; of a small disk, a quarter at most.
const KEPT_INODES: u64 = 4096;

/// Bytes in the spool, shared by who writes and who deletes.
#[derive(Clone, Debug)]
pub(super) struct Usage(Arc<State>);

#[derive(Debug)]
struct State {
    bytes: AtomicU64,
    max_bytes: u64,
    /// Bytes that the disk still takes.
    available: AtomicU64,
    /// Optional classes, in the order in which they are shed.
    optional: Vec<GapClass>,
    /// How many of them are.
    shed: AtomicUsize,
    full: AtomicBool,
    /// The disk was found full, and the reserve is given away.
    spent: AtomicBool,
    warned: AtomicBool,
    /// Events that were not taken.
    refused: AtomicU64,
}

impl Usage {
    pub(super) fn new(max_bytes: u64, optional: Vec<GapClass>) -> Self {
        Self(Arc::new(State {
            bytes: AtomicU64::new(0),
            max_bytes,
            available: AtomicU64::new(u64::MAX),
            optional,
            shed: AtomicUsize::new(0),
            full: AtomicBool::new(false),
            spent: AtomicBool::new(false),
            warned: AtomicBool::new(false),
            refused: AtomicU64::new(0),
        }))
    }

    pub(super) fn add(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, bytes: u64) {
        let less = |held: u64| Some(held.saturating_sub(bytes));
        // Never fails: the closure always gives a value.
        let _ = self
            .0
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Looks how much room the disk has. Returns what its blocks take, bytes: one
    /// large file needs no more.
    pub(super) fn measure(&self, spool: &Path) -> u64 {
        let Ok(disk) = statvfs(spool) else {
            return 0;
        };
        self.0.available.store(free(&disk), Ordering::Relaxed);
        blocks(&disk)
    }

    /// The disk was found full, or has room again.
    pub(super) fn set_spent(&self, spent: bool) {
        self.0.spent.store(spent, Ordering::Relaxed);
    }

    /// Whether the disk was found full.
    pub(super) fn is_spent(&self) -> bool {
        self.0.spent.load(Ordering::Relaxed)
    }

    /// An event was not taken.
    pub(super) fn refuse(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Events that were not taken since the start.
    pub(super) fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Whether the spool takes no event now.
    pub(super) fn is_full(&self) -> bool {
        self.review();
        self.0.full.load(Ordering::Relaxed)
    }

    /// Whether events of this class are shed now.
    pub(super) fn sheds(&self, class: GapClass) -> bool {
        let Some(place) = self.0.optional.iter().position(|known| *known == class) else {
            return false;
        };
        self.review();
        place < self.0.shed.load(Ordering::Relaxed)
    }

    /// What is held of what may be, in percent.
    fn percent(&self) -> u64 {
        let held = self.bytes();
        let available = self.0.available.load(Ordering::Relaxed);
        let room = self.0.max_bytes.min(held.saturating_add(available));
        match (self.is_spent(), room) {
            (true, _) | (_, 0) => FULL,
            _ => (held.saturating_mul(100) / room).min(FULL),
        }
    }

    /// Enters and leaves stages, and logs each change.
    fn review(&self) {
        let percent = self.percent();
        let held = show_mib(self.bytes());
        let max = show_size(self.0.max_bytes);
        if let Some(full) = changed(&self.0.full, percent, FULL) {
            if full {
                tracing::error!(
                    held,
                    max,
                    "the spool is full: new events are lost, and declared as gaps, until there is room again"
                );
            } else {
                tracing::warn!(held, max, "the spool has room again: recording goes on");
            }
        }
        self.review_shed(percent);
        if changed(&self.0.warned, percent, WARN) == Some(true) {
            tracing::warn!(
                held,
                max,
                "the spool is three quarters full: the store or the collector does not take what waits, or the disk is full"
            );
        }
    }

    fn review_shed(&self, percent: u64) {
        let before = self.0.shed.load(Ordering::Relaxed);
        let is_shed = |place: &usize| {
            let begins = SHED + STEP * *place as u64;
            percent >= begins - if *place < before { STEP } else { 0 }
        };
        let now = (0..self.0.optional.len()).take_while(is_shed).count();
        if now == before {
            return;
        }
        self.0.shed.store(now, Ordering::Relaxed);
        let classes = self.0.optional.get(..now).unwrap_or_default();
        tracing::warn!(
            percent,
            ?classes,
            "the spool sheds these classes of events, and declares them as gaps"
        );
    }
}

/// What a disk still takes, bytes. Small files use up the inodes long before the
/// blocks: each that is left counts as one block, but for those that are kept.
fn free(disk: &Statvfs) -> u64 {
    let block = disk.fragment_size();
    let blocks = blocks(disk);
    match disk.files() {
        // It has no bound of its own for them.
        0 => blocks,
        total => {
            let kept = KEPT_INODES.min(total / 4);
            let files = disk.files_available().saturating_sub(kept);
            blocks.min(files.saturating_mul(block))
        }
    }
}

fn blocks(disk: &Statvfs) -> u64 {
    disk.blocks_available().saturating_mul(disk.fragment_size())
}

/// Enters a stage at `begins`, leaves it a step below; the change.
fn changed(stage: &AtomicBool, percent: u64, begins: u64) -> Option<bool> {
    let before = stage.load(Ordering::Relaxed);
    let now = percent >= begins - if before { STEP } else { 0 };
    (now != before).then(|| {
        stage.store(now, Ordering::Relaxed);
        now
    })
}

fn show_mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage() -> Usage {
        Usage::new(1000, vec![GapClass::File, GapClass::Input])
    }

    #[test]
    fn a_full_spool_takes_events_again_when_there_is_room() {
        let usage = usage();
        usage.add(999);
        assert!(!usage.is_full());
        usage.add(1);
        assert!(usage.is_full());
        usage.remove(20);
        assert!(usage.is_full());
        usage.remove(40);
        assert!(!usage.is_full());
    }

    #[test]
    fn optional_classes_go_in_their_order_and_come_back() {
        let usage = usage();
        let shed = || [GapClass::File, GapClass::Input, GapClass::Output].map(|c| usage.sheds(c));
        usage.add(849);
        assert_eq!(shed(), [false, false, false]);
        usage.add(1);
        assert_eq!(shed(), [true, false, false]);
        usage.add(50);
        assert_eq!(shed(), [true, true, false]);
        usage.add(500);
        assert_eq!(shed(), [true, true, false], "the rest goes on to the bound");
        usage.remove(549);
        assert_eq!(shed(), [true, true, false]);
        usage.remove(2);
        assert_eq!(shed(), [true, false, false]);
        usage.remove(50);
        assert_eq!(shed(), [false, false, false]);
    }

    #[test]
    fn a_small_disk_is_the_bound() {
        let usage = Usage::new(1 << 60, vec![GapClass::File]);
        usage.add(100);
        assert!(usage.measure(Path::new("/")) > 0);
        assert!(!usage.is_full());
        usage.0.available.store(10, Ordering::Relaxed);
        assert!(usage.sheds(GapClass::File) && !usage.is_full());
        usage.0.available.store(0, Ordering::Relaxed);
        assert!(usage.is_full());
        usage.0.available.store(1000, Ordering::Relaxed);
        assert!(!usage.is_full());
        usage.set_spent(true);
        assert!(usage.is_full());
    }
}
