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
    hooks::Hooks,
    maps::{LossCountValue, LossKeyValue},
};

/// Reads the loss counters of the kernel programs.
pub struct LossCounters {
    by_connection: PerCpuHashMap<MapData, LossKeyValue, LossCountValue>,
    unattributed: PerCpuArray<MapData, LossCountValue>,
    seen: HashMap<LossKey, LossCount>,
    seen_unattributed: LossCount,
    seen_missed_runs: Vec<(&'static str, u64)>,
    malformed: u64,
    connections_boot_ns: u64,
    host_boot_ns: u64,
}

impl LossCounters {
    /// Takes the counters' maps.
    pub fn new(hooks: &mut Hooks, boot_ns: u64) -> Result<Self, CaptureError> {
        let failed =
            |name| move |error: aya::maps::MapError| CaptureError::Load(name, error.to_string());
        Ok(Self {
            by_connection: hooks
                .take_map("LOSSES")?
                .try_into()
                .map_err(failed("LOSSES"))?,
            unattributed: hooks
                .take_map("UNATTRIBUTED")?
                .try_into()
                .map_err(failed("UNATTRIBUTED"))?,
            seen: HashMap::new(),
            seen_unattributed: LossCount::default(),
            seen_missed_runs: hooks.missed_runs(),
            malformed: 0,
            connections_boot_ns: boot_ns,
            host_boot_ns: boot_ns,
        })
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
    fn newly_missed(&mut self, hooks: &Hooks) -> u64 {
        let missed = hooks.missed_runs();
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
        hooks: &Hooks,
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
        let newly_missed = self.newly_missed(hooks);
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
        _ => LossClass::Any,
    }
}
