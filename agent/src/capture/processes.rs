//! The kernel programs' table of processes: written once, at the start, for what
//! was already running, and read when events about processes were lost.

use std::path::Path;

use auditty_capture_ebpf::{Position, Process, Transfer, WATCH_WORD};
use aya::maps::{Array, HashMap, MapData};

use super::{
    CaptureError, adopt,
    event::KernelEvent,
    hooks::Hooks,
    maps::{PositionValue, ProcessValue, TransferValue, WatchWord},
};

/// Only what is not there yet (`BPF_NOEXIST`): the programs know better.
const IF_ABSENT: u64 = 1;

/// Streams that are remembered at most before those without an owner are
/// looked for; three quarters of the map.
const POSITIONS_HIGH: usize = 49_152;

/// The same for open files of transfers.
const TRANSFERS_HIGH: usize = 12_288;

/// Looks into the programs' maps.
pub struct Processes {
    processes: HashMap<MapData, u32, ProcessValue>,
    watched: Array<MapData, WatchWord>,
    positions: HashMap<MapData, u64, PositionValue>,
    transfers: HashMap<MapData, u64, TransferValue>,
}

impl Processes {
    /// Takes the maps.
    pub fn new(hooks: &mut Hooks) -> Result<Self, CaptureError> {
        let failed =
            |name| move |error: aya::maps::MapError| CaptureError::Load(name, error.to_string());
        Ok(Self {
            processes: hooks
                .take_map("PROCESSES")?
                .try_into()
                .map_err(failed("PROCESSES"))?,
            watched: hooks
                .take_map("WATCHED")?
                .try_into()
                .map_err(failed("WATCHED"))?,
            positions: hooks
                .take_map("POSITIONS")?
                .try_into()
                .map_err(failed("POSITIONS"))?,
            transfers: hooks
                .take_map("TRANSFERS")?
                .try_into()
                .map_err(failed("TRANSFERS"))?,
        })
    }

    /// All processes that belong to a connection.
    pub fn table(&self) -> impl Iterator<Item = (u32, Process)> {
        let all = self.processes.iter().flatten();
        all.map(|(pid, ProcessValue(process))| (pid, process))
            .filter(|(_, process)| process.connection != 0)
    }

    /// Everything in the table.
    pub fn all(&self) -> Vec<(u32, Process)> {
        let all = self.processes.iter().flatten();
        all.map(|(pid, ProcessValue(process))| (pid, process))
            .collect()
    }

    /// Adds a process that was already running; `false` when it is known.
    pub fn adopt(&mut self, pid: u32, process: Process) -> Result<bool, CaptureError> {
        match self.processes.insert(pid, ProcessValue(process), IF_ABSENT) {
            Ok(()) => Ok(true),
            Err(aya::maps::MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::EEXIST) =>
            {
                Ok(false)
            }
            Err(error) => Err(CaptureError::Adopt(error.to_string())),
        }
    }

    /// The hooks on processes were away: what has ended meanwhile leaves the table,
    /// and what has begun is adopted.
    pub fn begin_again(&mut self) -> Result<Vec<KernelEvent>, CaptureError> {
        for (pid, _) in self.all() {
            if !Path::new(&format!("/proc/{pid}")).exists() {
                self.forget(pid)?;
            }
        }
        adopt::adopt(self)
    }

    /// Takes a process out again that ended while it was added.
    pub fn forget(&mut self, pid: u32) -> Result<(), CaptureError> {
        match self.processes.remove(&pid) {
            Ok(()) => Ok(()),
            Err(aya::maps::MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
            {
                Ok(())
            }
            Err(aya::maps::MapError::KeyNotFound) => Ok(()),
            Err(error) => Err(CaptureError::Adopt(error.to_string())),
        }
    }

    /// Makes sure that every process in the table is watched. A word of the watch
    /// table is written as a whole, which can undo what a program did to a
    /// neighbour at that moment: hence until nothing is left to do.
    pub fn watch_all(&mut self) -> Result<(), CaptureError> {
        const ATTEMPTS: usize = 16;
        let failed = |error: aya::maps::MapError| CaptureError::Adopt(error.to_string());
        for _ in 0..ATTEMPTS {
            let mut done = true;
            let watched: Vec<(u32, u8)> = self
                .processes
                .iter()
                .flatten()
                .map(|(pid, ProcessValue(process))| (pid, process.watch_bits()))
                .filter(|(_, bits)| *bits != 0)
                .collect();
            for (pid, bits) in watched {
                let index = pid / WATCH_WORD as u32;
                let WatchWord(mut word) = self.watched.get(&index, 0).map_err(failed)?;
                if let Some(byte) = word.get_mut(pid as usize % WATCH_WORD)
                    && *byte != bits
                {
                    *byte = bits;
                    self.watched
                        .set(index, WatchWord(word), 0)
                        .map_err(failed)?;
                    done = false;
                }
            }
            if done {
                return Ok(());
            }
        }
        Err(CaptureError::Adopt(
            "the table of watched processes keeps changing".to_owned(),
        ))
    }

    /// Gives back the positions of streams whose sshd was killed before it
    /// could close them, once there are many.
    pub fn prune_positions(&mut self) {
        let keys = self.positions.iter().flatten();
        let owned: Vec<(u64, Position)> = keys
            .map(|(key, PositionValue(position))| (key, position))
            .collect();
        if owned.len() < POSITIONS_HIGH {
            return;
        }
        for (key, position) in owned {
            if self.processes.get(&position.owner, 0).is_err() {
                // Already gone is as good.
                let _ = self.positions.remove(&key);
            }
        }
    }

    /// Gives back the open files of transfers that were closed otherwise than by
    /// a close or the end of their process, once there are many.
    pub fn prune_transfers(&mut self) {
        let keys = self.transfers.iter().flatten();
        let owned: Vec<(u64, Transfer)> = keys
            .map(|(key, TransferValue(transfer))| (key, transfer))
            .collect();
        if owned.len() < TRANSFERS_HIGH {
            return;
        }
        for (key, transfer) in owned {
            if self.processes.get(&transfer.owner, 0).is_err() {
                // Already gone is as good.
                let _ = self.transfers.remove(&key);
            }
        }
    }
}
