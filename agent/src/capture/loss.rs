//! What the kernel programs could not capture, as events.
//!
//! The programs count losses by connection, cause and class; this turns what
//! was added since the last look into [`Fact::Loss`].

use std::collections::{HashMap, HashSet};

use auditty_capture_ebpf::{self as layout, LossCount, LossKey};
use aya::maps::{MapData, PerCpuArray, PerCpuHashMap};

use super::{
    CaptureError,
    event::{Fact, KernelEvent, Loss, LossCause, LossClass},
    maps::{LossCountValue, LossKeyValue, Maps},
};

/// What the agents of this host have declared lost since the counters exist:
/// the next agent goes on from there.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Declared {
    /// By connection, root, cause and class.
    pub losses: Vec<DeclaredLoss>,
    /// What cannot be told apart, events and bytes.
    pub unattributed: (u64, u64),
    /// Skipped runs of the programs of this generation.
    pub missed_runs: u64,
    /// The generation.
    pub generation: u64,
}

/// One counter's part of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeclaredLoss {
    connection: u64,
    root: u64,
    cause: u32,
    class: u32,
    events: u64,
    bytes: u64,
}

/// Reads the loss counters of the kernel programs.
pub struct LossCounters {
    by_connection: PerCpuHashMap<MapData, LossKeyValue, LossCountValue>,
    unattributed: PerCpuArray<MapData, LossCountValue>,
    seen: HashMap<LossKey, LossCount>,
    seen_unattributed: LossCount,
    seen_missed_runs: Vec<(&'static str, u64)>,
    missed_before: u64,
    malformed: u64,
    /// Something was declared that [`LossCounters::declared`] has not told.
    news: bool,
    connections_boot_ns: u64,
    host_boot_ns: u64,
}

impl LossCounters {
    /// Takes the counters' maps, and goes on where an agent before has stopped.
    pub fn new(
        maps: &mut impl Maps,
        before: Option<&Declared>,
        boot_ns: u64,
    ) -> Result<Self, CaptureError> {
        let before = before.cloned().unwrap_or_default();
        let failed =
            |name| move |error: aya::maps::MapError| CaptureError::Load(name, error.to_string());
        Ok(Self {
            by_connection: maps.take("LOSSES")?.try_into().map_err(failed("LOSSES"))?,
            unattributed: maps
                .take("UNATTRIBUTED")?
                .try_into()
                .map_err(failed("UNATTRIBUTED"))?,
            seen: before.losses.iter().map(DeclaredLoss::counter).collect(),
            seen_unattributed: LossCount {
                events: before.unattributed.0,
                bytes: before.unattributed.1,
            },
            seen_missed_runs: maps.missed(),
            missed_before: 0,
            malformed: 0,
            news: true,
            connections_boot_ns: boot_ns,
            host_boot_ns: boot_ns,
        })
    }

    /// What was declared so far, where that is news.
    pub fn declared(&mut self, generation: u64) -> Option<Declared> {
        std::mem::take(&mut self.news).then(|| Declared {
            losses: self.seen.iter().map(DeclaredLoss::new).collect(),
            unattributed: (self.seen_unattributed.events, self.seen_unattributed.bytes),
            missed_runs: self.seen_missed_runs.iter().map(|(_, runs)| runs).sum(),
            generation,
        })
    }

    /// Programs that are gone were skipped this often, undeclared.
    pub fn count_missed(&mut self, runs: u64) {
        self.missed_before += runs;
    }

    /// A record did not decode.
    pub fn count_malformed(&mut self) {
        self.malformed += 1;
    }

    /// What connections lost since the last call, up to `boot_ns`. Cheap: it is
    /// called with every batch, so that a session hears of its losses before it
    /// is told that its last process ended.
    pub fn poll_connections(&mut self, boot_ns: u64) -> Vec<KernelEvent> {
        let since_boot_ns = std::mem::replace(&mut self.connections_boot_ns, boot_ns);
        let mut events = Vec::new();
        for (LossKeyValue(key), total) in self.by_connection.iter().flatten() {
            let total = sum(&total);
            let seen = self.seen.insert(key, total).unwrap_or_default();
            let lost = minus(total, seen);
            self.news |= lost != LossCount::default();
            let (cause, class) = (cause(key.cause), class(key.class));
            events.extend(event(
                (key.connection, key.root),
                cause,
                class,
                lost,
                since_boot_ns,
                boot_ns,
            ));
        }
        events
    }

    /// Runs that the kernel skipped since the last call, each program named in
    /// the log.
    fn newly_missed(&mut self, maps: &impl Maps) -> u64 {
        let missed = maps.missed();
        let before = std::mem::replace(&mut self.seen_missed_runs, missed);
        let mut all = 0;
        for (program, runs) in &self.seen_missed_runs {
            let seen = before.iter().find(|(name, _)| name == program);
            let newly = runs.saturating_sub(seen.map_or(0, |(_, runs)| *runs));
            if newly > 0 {
                tracing::warn!(program, runs = newly, "the kernel skipped a program");
            }
            all += newly;
        }
        all
    }

    /// What cannot be told apart by connection, since the last call, up to
    /// `boot_ns`. Counters of connections that are not `live` any more are
    /// given back to the kernel.
    pub fn poll_host(
        &mut self,
        maps: &impl Maps,
        boot_ns: u64,
        live: &HashSet<u64>,
    ) -> Vec<KernelEvent> {
        let since_boot_ns = std::mem::replace(&mut self.host_boot_ns, boot_ns);
        let ended = |key: &&LossKey| key.connection != 0 && !live.contains(&key.connection);
        let ended: Vec<LossKey> = self.seen.keys().filter(ended).copied().collect();
        for key in ended {
            // Without processes nothing counts for it any more.
            if self.by_connection.remove(&LossKeyValue(key)).is_ok() {
                self.seen.remove(&key);
                self.news = true;
            }
        }
        // Only used when the other counters are full: without any, there is no
        // need to look (see `census`).
        let unattributed = if self.seen.is_empty() {
            self.seen_unattributed
        } else {
            let counts = self.unattributed.iter().flatten();
            counts
                .map(|count| sum(&count))
                .fold(LossCount::default(), plus)
        };
        let seen = std::mem::replace(&mut self.seen_unattributed, unattributed);
        let newly_missed = self.newly_missed(maps) + std::mem::take(&mut self.missed_before);
        self.news |= newly_missed > 0 || unattributed != seen;
        let malformed = std::mem::take(&mut self.malformed);
        let only = |events| LossCount { events, bytes: 0 };
        [
            (LossCause::TableFull, minus(unattributed, seen)),
            (LossCause::ProgramMissed, only(newly_missed)),
            (LossCause::Malformed, only(malformed)),
        ]
        .into_iter()
        .filter_map(|(cause, lost)| {
            event((0, 0), cause, LossClass::Any, lost, since_boot_ns, boot_ns)
        })
        .collect()
    }
}

impl DeclaredLoss {
    fn new((key, count): (&LossKey, &LossCount)) -> Self {
        Self {
            connection: key.connection,
            root: key.root,
            cause: key.cause,
            class: key.class,
            events: count.events,
            bytes: count.bytes,
        }
    }

    fn counter(&self) -> (LossKey, LossCount) {
        let key = LossKey {
            connection: self.connection,
            root: self.root,
            cause: self.cause,
            class: self.class,
        };
        let count = LossCount {
            events: self.events,
            bytes: self.bytes,
        };
        (key, count)
    }
}

fn event(
    (connection, root): (u64, u64),
    cause: LossCause,
    class: LossClass,
    lost: LossCount,
    since_boot_ns: u64,
    boot_ns: u64,
) -> Option<KernelEvent> {
    let loss = Loss {
        cause,
        class,
        events: lost.events,
        bytes: lost.bytes,
        since_boot_ns,
        host_wide: connection == 0,
    };
    (lost != LossCount::default()).then_some(KernelEvent {
        boot_ns,
        connection,
        root,
        pid: 0,
        fact: Fact::Loss(loss),
    })
}

fn sum(values: &[LossCountValue]) -> LossCount {
    values
        .iter()
        .map(|value| value.0)
        .fold(LossCount::default(), plus)
}

fn plus(a: LossCount, b: LossCount) -> LossCount {
    LossCount {
        events: a.events.saturating_add(b.events),
        bytes: a.bytes.saturating_add(b.bytes),
    }
}

fn minus(a: LossCount, b: LossCount) -> LossCount {
    LossCount {
        events: a.events.saturating_sub(b.events),
        bytes: a.bytes.saturating_sub(b.bytes),
    }
}

fn cause(value: u32) -> LossCause {
    match value {
        layout::CAUSE_RING_FULL => LossCause::RingFull,
        layout::CAUSE_READ_FAILED => LossCause::ReadFailed,
        layout::CAUSE_TABLE_FULL => LossCause::TableFull,
        layout::CAUSE_TOO_LARGE => LossCause::TooLarge,
        layout::CAUSE_MISSED => LossCause::ProgramMissed,
        _ => LossCause::Malformed,
    }
}

fn class(value: u32) -> LossClass {
    match value {
        layout::CLASS_STREAM => LossClass::Stream,
        layout::CLASS_PROCESS => LossClass::Process,
        layout::CLASS_LOGIN => LossClass::Login,
        layout::CLASS_FILE => LossClass::File,
        layout::CLASS_NETWORK => LossClass::Network,
        layout::CLASS_EXEC => LossClass::Exec,
        _ => LossClass::Any,
    }
}
