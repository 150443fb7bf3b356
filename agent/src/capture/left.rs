//! What an agent of another version, or with rings of another size, has left in
//! the kernel: its programs cannot go on over this agent's maps, but what they
//! have seen until they are detached is in their rings, and is recorded first.
//!
//! Layouts since [`RECORDS_SINCE`] can be read. Of others nothing is known but
//! when they began and ended: that is a gap.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use auditty_capture_ebpf::{LAYOUT_VERSION, Process, RECORDS_SINCE};
use aya::maps::{HashMap, Map, MapData};

use super::{
    Batch, CaptureError, Handover, Options, adopt,
    event::Fact,
    ladder::{Hook, Mode},
    loss::LossCounters,
    maps::{Maps, ProcessValue},
    now_boot_ns,
    pins::{self, Pins},
    rings::{Read, Rings},
};

/// Maps and programs of another agent, pinned.
pub struct Left {
    pins: Pins,
}

impl Left {
    /// What can be read of them and is not this agent's own: the latest.
    pub fn find(options: &Options) -> Result<Option<Self>, CaptureError> {
        let own = pins::folder_of(options)?;
        let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
        for folder in pins::layouts() {
            let readable = layout_version(&folder)
                .is_some_and(|version| (RECORDS_SINCE..=LAYOUT_VERSION).contains(&version));
            if readable && Some(&folder) != own.as_ref() {
                let since = fs::metadata(&folder).and_then(|folder| folder.modified());
                found.push((since.unwrap_or(SystemTime::UNIX_EPOCH), folder));
            }
        }
        let latest = found.into_iter().max();
        Ok(latest.map(|(_, folder)| Self {
            pins: Pins::of_another(folder),
        }))
    }

    /// Its place among those of other agents.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Detaches the programs, and gives all that they have seen since the handover.
    /// The rings stay until [`Left::remove`]: the agent after one that dies over it
    /// begins again.
    pub fn drain(&mut self, options: &Options, handover: &Handover) -> Result<Batch, CaptureError> {
        let sensitive = options.sensitive_paths.clone();
        let mut rings = Rings::new(self, sensitive, Some(&handover.marks))?;
        let began = now_boot_ns();
        let mut losses = LossCounters::new(self, Some(&handover.declared), began)?;
        let processes = self.processes()?;
        let live: HashSet<u64> = processes.iter().map(|(_, p)| p.connection).collect();
        let mut reads: Vec<Read> = adopt::present(processes)
            .into_iter()
            .map(Read::from)
            .collect();
        // Those that look at single calls are always attached.
        let saw_calls = self.pins.had("call_begins")
            || Hook::of(Mode::Tracepoint)
                .filter(|hook| hook.on_demand)
                .all(|hook| self.pins.had(hook.program));
        let missed = self.pins.detach()?;
        losses.count_missed(missed.saturating_sub(handover.declared.missed_runs));
        rings.drain(&mut reads, || losses.count_malformed());
        let now = now_boot_ns();
        let lost = losses.poll_connections(now);
        let lost_by_host = losses.poll_host(self, now, &live);
        reads.extend(lost.into_iter().chain(lost_by_host).map(Read::from));
        for read in &mut reads {
            // It began without hooks on system calls.
            if let Fact::ConnectionStart(start) = &mut read.event.fact {
                start.adopted |= !saw_calls;
            }
        }
        // Stable: records of one moment stay as their program emitted them.
        reads.sort_by_key(|read| read.event.boot_ns);
        Ok(Batch {
            now_boot_ns: now,
            events: reads.into_iter().map(|read| read.event).collect(),
            marks: rings.marks(&[], now),
            declared: losses.declared(handover.declared.generation),
            urgent: false,
        })
    }

    /// All of it is recorded.
    pub fn remove(self) -> Result<(), CaptureError> {
        self.pins.remove()
    }

    fn processes(&mut self) -> Result<Vec<(u32, Process)>, CaptureError> {
        const MAP: &str = "PROCESSES";
        let failed = |error: aya::maps::MapError| CaptureError::Load(MAP, error.to_string());
        let map: HashMap<MapData, u32, ProcessValue> =
            Maps::take(self, MAP)?.try_into().map_err(failed)?;
        let all = map.iter().flatten();
        Ok(all
            .map(|(pid, ProcessValue(process))| (pid, process))
            .collect())
    }
}

impl Maps for Left {
    fn take(&mut self, name: &'static str) -> Result<Map, CaptureError> {
        let failed = |error: aya::maps::MapError| CaptureError::Load(name, error.to_string());
        let map = MapData::from_pin(self.pins.map(name)).map_err(failed)?;
        Map::from_map_data(map).map_err(failed)
    }

    /// Of programs that are gone: see [`Pins::detach`].
    fn missed(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// `<layout version>-<digest>`
fn layout_version(folder: &Path) -> Option<u32> {
    let (version, _) = folder.file_name()?.to_str()?.split_once('-')?;
    version.parse().ok()
}
