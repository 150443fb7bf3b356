//! What outlives the agent: maps and attached programs, pinned in bpffs.
//!
//! ```text
//! /sys/fs/bpf/auditty/<layout version>-<digest of all map definitions>/
//!     maps/<map>                 the programs' maps, both rings among them
//!     links/<generation>/<hook>  programs that stay attached
//! ```
//!
//! While no agent runs, the programs of the last one go on filling the rings.
//! The next agent loads its own programs over the same maps, attaches them
//! beside the old ones, and turns `ACTIVE` over; then it removes the old links.
//! A restart and an upgrade are the same thing. Maps of another layout cannot
//! be used: what is in their rings is taken first (see [`super::Left`]), then they
//! are removed.
//!
//! Links of tracepoints and kprobes can be pinned since Linux 5.15.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use auditty_capture_ebpf::LAYOUT_VERSION;
use auditty_recording::digest::Digest;
use aya::{
    EbpfLoader,
    maps::{Map, MapData, MapInfo},
    programs::{
        links::{FdLink, PinnedLink},
        loaded_programs,
    },
};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::statfs::{BPF_FS_MAGIC, statfs},
    unistd::Pid,
};

use super::{
    CaptureError, Options,
    hooks::{self, OBJECT},
    ladder::{Hook, Mode},
    ring::{Marks, Ring, SharedArray},
};

const BPFFS: &str = "/sys/fs/bpf";
const FOLDER: &str = "/sys/fs/bpf/auditty";

/// A map as the object defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Definition {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

/// The folder of this layout, for one agent.
pub struct Pins {
    folder: PathBuf,
    definitions: BTreeMap<String, Definition>,
    generation: u64,
    /// Links of the agent before, by hook.
    old: Vec<(String, PinnedLink)>,
    /// The maps that are pinned, by name, to pin them again.
    maps: BTreeMap<String, MapData>,
}

impl Pins {
    /// Opens the folder; `None` when nothing is to be pinned, or nothing can.
    /// Whatever does not fit is removed.
    pub fn open(options: &Options, generation: u64) -> Result<Option<Self>, CaptureError> {
        if !pins_anything(options) {
            remove_all().map_err(failed)?;
            return Ok(None);
        }
        if let Some(why) = obstacle() {
            tracing::warn!("nothing is captured while no agent runs: {why}");
            return Ok(None);
        }
        let definitions = definitions(options)?;
        let mut pins = Self {
            folder: folder(&definitions),
            definitions,
            generation,
            old: Vec::new(),
            maps: BTreeMap::new(),
        };
        remove_others(&pins.folder).map_err(failed)?;
        if pins.maps_fit() {
            pins.old = pins.links();
        }
        if !pins.follow_processes() {
            pins.old.clear();
            remove(&pins.folder).map_err(failed)?;
        }
        let links = pins.folder.join("links").join(generation.to_string());
        for folder in [pins.folder.join("maps"), links] {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        Ok(Some(pins))
    }

    /// Those of an agent with another layout.
    pub fn of_another(folder: PathBuf) -> Self {
        let mut pins = Self {
            folder,
            definitions: BTreeMap::new(),
            generation: 0,
            old: Vec::new(),
            maps: BTreeMap::new(),
        };
        pins.old = pins.links();
        pins
    }

    /// Detaches the programs of the agent before: when this returns, none runs any
    /// more. Returns how many runs of them the kernel had skipped.
    pub fn detach(&mut self) -> Result<u64, CaptureError> {
        let mut missed = 0;
        for (hook, link) in self.old.drain(..) {
            missed += missed_runs(&link_of(link).map_err(failed)?);
            tracing::debug!(hook, "the program of the agent before is detached");
        }
        Ok(missed)
    }

    /// Removes all of it.
    pub fn remove(self) -> Result<(), CaptureError> {
        remove(&self.folder).map_err(failed)
    }

    /// The generation of this agent's programs.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Names the rings that an agent before has left, within one boot.
    pub fn rings(&self) -> Option<String> {
        if self.old.is_empty() {
            return None;
        }
        self.ring_ids()
    }

    /// Names the rings as they are now.
    pub fn ring_ids(&self) -> Option<String> {
        let id = |name| Some(MapInfo::from_pin(self.map(name)).ok()?.id());
        Some(format!("{}-{}", id("CONTROL")?, id("DATA")?))
    }

    /// Whether the rings still hold all that came after `marks`.
    pub fn hold(&self, marks: &Marks) -> bool {
        let seek = |name, mark| {
            let map = MapData::from_pin(self.map(name)).ok()?;
            Some(Ring::new(map).ok()?.seek(mark))
        };
        seek("CONTROL", &marks.control) == Some(true) && seek("DATA", &marks.data) == Some(true)
    }

    /// What an agent before has left is of no use: everything begins anew.
    pub fn begin_anew(&mut self) -> Result<(), CaptureError> {
        self.old.clear();
        remove(&self.folder).map_err(failed)?;
        let links = self.folder.join("links").join(self.generation.to_string());
        for folder in [self.folder.join("maps"), links] {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        Ok(())
    }

    /// Has the loader take the maps from here, or leave them here.
    pub fn prepare<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        for name in self.definitions.keys() {
            loader.map_pin_path(name, self.map(name));
        }
    }

    /// Notes which maps are pinned, once all of them are.
    pub fn note_maps(&mut self) {
        let names = self.definitions.keys();
        let maps =
            names.filter_map(|name| Some((name.clone(), MapData::from_pin(self.map(name)).ok()?)));
        self.maps = maps.collect();
    }

    /// Pins maps again whose names somebody has removed, and makes the folder for
    /// links.
    pub fn pin_maps_again(&self) -> io::Result<()> {
        let gone = |name: &str| !self.map(name).exists();
        ensure_bpffs()?;
        let links = self.folder.join("links").join(self.generation.to_string());
        for folder in [self.folder.join("maps"), links] {
            fs::create_dir_all(folder)?;
        }
        for (name, map) in self.maps.iter().filter(|(name, _)| gone(name)) {
            map.pin(self.map(name)).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Where this agent's link to a hook is pinned.
    pub fn link(&self, hook: &str) -> PathBuf {
        let generation = self.generation.to_string();
        self.folder.join("links").join(generation).join(hook)
    }

    /// Whether the agent before left this hook attached.
    pub fn had(&self, hook: &str) -> bool {
        self.old.iter().any(|(name, _)| name == hook)
    }

    /// From now on this agent's programs work, and those before are detached.
    /// Returns how many runs of those the kernel had skipped.
    pub fn take_over(&mut self, active: &Map) -> Result<u64, CaptureError> {
        let Map::Array(active) = active else {
            return Err(CaptureError::Load("ACTIVE", "it is no array".to_owned()));
        };
        let active = SharedArray::new(active).map_err(failed)?;
        activate(&active, self.generation);
        let missed = self.detach()?;
        let links = self.folder.join("links");
        for entry in fs::read_dir(&links).map_err(failed)?.flatten() {
            if entry.file_name().to_str() != Some(&self.generation.to_string()) {
                remove(&entry.path()).map_err(failed)?;
            }
        }
        Ok(missed)
    }

    /// Where a map is pinned.
    pub fn map(&self, name: &str) -> PathBuf {
        self.folder.join("maps").join(name)
    }

    fn maps_fit(&self) -> bool {
        self.definitions.iter().all(|(name, definition)| {
            MapInfo::from_pin(self.map(name)).is_ok_and(|info| {
                let kind = info.map_type().map_or(u32::MAX, |kind| kind as u32);
                let found = Definition {
                    kind,
                    key_size: info.key_size(),
                    value_size: info.value_size(),
                    max_entries: info.max_entries(),
                    flags: info.map_flags(),
                };
                found == *definition
            })
        })
    }

    /// Whether the agent before left every hook attached that follows processes
    /// in all ways of capture.
    fn follow_processes(&self) -> bool {
        let mut needed = Hook::of(Mode::Tracepoint).filter(|hook| !hook.on_demand);
        needed.all(|hook| self.had(hook.program))
    }

    /// The links that are there, with the hooks they are attached to.
    fn links(&self) -> Vec<(String, PinnedLink)> {
        let folders = fs::read_dir(self.folder.join("links"))
            .into_iter()
            .flatten();
        let links = folders
            .flatten()
            .flat_map(|folder| fs::read_dir(folder.path()))
            .flatten();
        links
            .flatten()
            .filter_map(|link| {
                let hook = link.file_name().into_string().ok()?;
                Some((hook, PinnedLink::from_pin(link.path()).ok()?))
            })
            .collect()
    }
}

/// Removes all that any agent has pinned: its programs are detached then.
pub fn remove_all() -> io::Result<()> {
    remove(Path::new(FOLDER))
}

/// Why nothing can be pinned here, if so.
pub fn obstacle() -> Option<String> {
    if !aya::features().bpf_perf_link() {
        return Some("Linux before 5.15 cannot keep tracepoint programs attached".to_owned());
    }
    ensure_bpffs()
        .err()
        .map(|error| format!("there is no bpffs at {BPFFS}: {error}"))
}

fn ensure_bpffs() -> io::Result<()> {
    if statfs(BPFFS)?.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("bpf"), BPFFS, Some("bpf"), flags, Some("mode=0700"))?;
    Ok(())
}

/// The maps of the object, with the sizes that are configured.
fn definitions(options: &Options) -> Result<BTreeMap<String, Definition>, CaptureError> {
    let object = aya_obj::Object::parse(OBJECT)
        .map_err(|error| CaptureError::Load("the object", error.to_string()))?;
    let definition = |name: &str, map: &aya_obj::Map| Definition {
        kind: map.map_type(),
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: match name {
            "CONTROL" => options.control_ring_bytes,
            "DATA" => options.data_ring_bytes,
            _ => map.max_entries(),
        },
        flags: map.map_flags(),
    };
    // Constants are every agent's own.
    let maps = object
        .maps
        .iter()
        .filter(|(name, _)| !name.starts_with('.'));
    Ok(maps
        .map(|(name, map)| (name.clone(), definition(name, map)))
        .collect())
}

/// Turns the table over, each CPU's entry from that CPU: programs run there
/// with preemption off, so that for each event either both the old and the new
/// one see the old value, or both the new.
pub fn activate(active: &SharedArray, generation: u64) {
    let this = Pid::from_raw(0);
    let before = sched_getaffinity(this).ok();
    for (cpu, value) in active.values().iter().enumerate() {
        if cpu < CpuSet::count() && Path::new(&format!("/sys/devices/system/cpu/cpu{cpu}")).exists()
        {
            let mut only = CpuSet::new();
            // A CPU that is offline, or not for us: nothing else can be done.
            if only.set(cpu).is_ok() {
                let _ = sched_setaffinity(this, &only);
            }
        }
        value.store(generation, Ordering::Release);
    }
    if let Some(before) = before {
        let _ = sched_setaffinity(this, &before);
    }
}

/// Takes a link out of the file system; it ends when it is dropped.
fn link_of(link: PinnedLink) -> io::Result<FdLink> {
    link.unpin()
}

/// Runs of a link's program that the kernel skipped.
fn missed_runs(link: &FdLink) -> u64 {
    let Ok(info) = link.info() else {
        return 0;
    };
    let mut programs = loaded_programs().flatten();
    programs
        .find(|program| program.id() == info.program_id())
        .and_then(|program| program.fd().ok())
        .and_then(|fd| hooks::missed_runs_of(&fd))
        .unwrap_or(0)
}

/// Folders of all layouts that are pinned.
pub fn layouts() -> Vec<PathBuf> {
    let layouts = fs::read_dir(FOLDER).into_iter().flatten();
    layouts.flatten().map(|layout| layout.path()).collect()
}

/// The folder of an agent with these options; `None` when it pins nothing.
pub fn folder_of(options: &Options) -> Result<Option<PathBuf>, CaptureError> {
    if !pins_anything(options) || obstacle().is_some() {
        return Ok(None);
    }
    definitions(options).map(|definitions| Some(folder(&definitions)))
}

fn folder(definitions: &BTreeMap<String, Definition>) -> PathBuf {
    let text = format!("{definitions:?}");
    let digest = Digest::of(text.as_bytes()).to_string();
    let name = format!("{LAYOUT_VERSION}-{}", digest.get(..16).unwrap_or(&digest));
    Path::new(FOLDER).join(name)
}

/// Probes of a program end with the agent: what goes on must be whole.
fn pins_anything(options: &Options) -> bool {
    options.pin && options.mode != Some(Mode::Uprobe)
}

fn remove_others(own: &Path) -> io::Result<()> {
    for layout in layouts().iter().filter(|layout| *layout != own) {
        let unread: u64 = ["CONTROL", "DATA"]
            .iter()
            .filter_map(|ring| MapData::from_pin(layout.join("maps").join(ring)).ok())
            .filter_map(|map| Ring::new(map).ok())
            .map(|ring| ring.unread())
            .sum();
        tracing::warn!(
            layout = %layout.display(),
            unread_bytes = unread,
            "an agent with another layout has left its programs: they are detached, and what they captured since is declared as a gap"
        );
        remove(layout)?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn failed(error: io::Error) -> CaptureError {
    CaptureError::Pins(error)
}
