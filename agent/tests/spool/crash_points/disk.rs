//! A disk with what is written to it, and what of it is durable.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use auditty_recording::chunk::ChunkReader;
use uuid::Uuid;

use super::trace::Call;

/// What a power loss takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Everything that was not synced: bytes, and names.
    All,
    /// Bytes that were not synced, but no name.
    Bytes,
    /// Half of the bytes that were not synced, and no name.
    Torn,
    /// The bytes that were not synced are zeros.
    Zeros,
}

impl Loss {
    pub const ALL: [Self; 4] = [Self::All, Self::Bytes, Self::Torn, Self::Zeros];
}

#[derive(Clone, Default)]
struct File {
    written: Vec<u8>,
    /// As it was at the last sync.
    durable: Vec<u8>,
}

#[derive(Clone)]
enum Entry {
    Folder,
    /// Number in [`Disk::files`].
    File(usize),
}

pub struct Disk {
    root: PathBuf,
    files: Vec<File>,
    names: BTreeMap<PathBuf, Entry>,
    durable_names: BTreeMap<PathBuf, Entry>,
}

impl Disk {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
        }
    }

    /// A store never loses what it has acknowledged.
    fn is_elsewhere(&self, path: &Path) -> bool {
        !path.starts_with(self.root.join("spool"))
    }

    fn file(&mut self, path: &Path) -> Option<&mut File> {
        match self.names.get(path) {
            Some(Entry::File(number)) => self.files.get_mut(*number),
            _ => None,
        }
    }

    pub fn apply(&mut self, call: &Call) {
        match call {
            Call::Open { path, truncate } => {
                if self.file(path).is_none() {
                    self.files.push(File::default());
                    self.names
                        .insert(path.clone(), Entry::File(self.files.len() - 1));
                }
                if *truncate && let Some(file) = self.file(path) {
                    file.written.clear();
                }
            }
            Call::Write { path, bytes } => {
                if let Some(file) = self.file(path) {
                    file.written.extend_from_slice(bytes);
                }
            }
            Call::Truncate { path, length } => {
                if let Some(file) = self.file(path) {
                    file.written.resize(*length, 0);
                }
            }
            Call::Sync { path } => self.sync(path),
            Call::Rename { from, to } => self.rename(from, to),
            Call::Link { from, to } => {
                if let Some(entry) = self.names.get(from).cloned() {
                    self.names.insert(to.clone(), entry);
                }
            }
            Call::Remove { path } => {
                self.names.remove(path);
            }
            Call::Folder { path } => {
                self.names.insert(path.clone(), Entry::Folder);
            }
        }
    }

    fn sync(&mut self, path: &Path) {
        if let Some(file) = self.file(path) {
            file.durable.clone_from(&file.written);
            return;
        }
        let here = |name: &Path| name.parent() == Some(path);
        self.durable_names.retain(|name, _| !here(name));
        let names = self.names.iter().filter(|(name, _)| here(name));
        let names: Vec<_> = names
            .map(|(name, entry)| (name.clone(), entry.clone()))
            .collect();
        self.durable_names.extend(names);
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        let below: Vec<_> = self
            .names
            .keys()
            .filter(|name| name.starts_with(from))
            .cloned()
            .collect();
        for name in below {
            if let Some(entry) = self.names.remove(&name) {
                let rest = name.strip_prefix(from).unwrap();
                let new = if rest.as_os_str().is_empty() {
                    to.to_owned()
                } else {
                    to.join(rest)
                };
                self.names.insert(new, entry);
            }
        }
    }

    /// The last event of each session that is durable by this sync, in a chunk
    /// whose name and folder are.
    pub fn synced_events(&self, call: &Call) -> Vec<(Uuid, u64)> {
        if !matches!(call, Call::Sync { .. }) {
            return Vec::new();
        }
        let names = self.durable_names.iter();
        names
            .filter_map(|(path, entry)| {
                let Entry::File(number) = entry else {
                    return None;
                };
                let folder = path.parent()?;
                if !path.to_str()?.ends_with(".jsonl.zst")
                    || !self.durable_names.contains_key(folder)
                {
                    return None;
                }
                let id = folder.file_name()?.to_str()?.parse().ok()?;
                let durable = self.files[*number].durable.as_slice();
                let last = ChunkReader::new(durable)
                    .ok()?
                    .map_while(Result::ok)
                    .last()?;
                Some((id, last.seq))
            })
            .collect()
    }

    /// Writes the disk to another folder, as a power loss leaves it.
    pub fn write(&self, to: &Path, loss: Loss) {
        for sub in ["spool", "store"] {
            fs::create_dir_all(to.join(sub)).unwrap();
        }
        let all = self.names.iter();
        let kept = all.filter(|(name, _)| loss != Loss::All || self.is_elsewhere(name));
        let durable = self.durable_names.iter();
        let durable = durable.filter(|(name, _)| loss == Loss::All && !self.is_elsewhere(name));
        for (name, entry) in kept.chain(durable) {
            if !self.is_reachable(name, loss) {
                continue;
            }
            let path = to.join(name.strip_prefix(&self.root).unwrap());
            match entry {
                Entry::Folder => fs::create_dir_all(path).unwrap(),
                Entry::File(number) => {
                    let file = &self.files[*number];
                    let content = match self.is_elsewhere(name) {
                        true => file.written.clone(),
                        false => file.after(loss),
                    };
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, content).unwrap();
                }
            }
        }
    }

    /// A name in a folder that is gone is gone. The folder that the test has made
    /// is there.
    fn is_reachable(&self, name: &Path, loss: Loss) -> bool {
        let names = match loss == Loss::All && !self.is_elsewhere(name) {
            true => &self.durable_names,
            false => &self.names,
        };
        let mut folders = name.ancestors().skip(1);
        folders.all(|folder| {
            let given = !folder.starts_with(&self.root) || folder == self.root;
            let given = given || self.is_elsewhere(folder);
            given || names.contains_key(folder)
        })
    }
}

impl File {
    fn after(&self, loss: Loss) -> Vec<u8> {
        let common = self
            .written
            .iter()
            .zip(&self.durable)
            .take_while(|(a, b)| a == b)
            .count();
        let unsynced = self.written.len().saturating_sub(common);
        match loss {
            Loss::All | Loss::Bytes => self.durable.clone(),
            Loss::Torn => self.written[..common + unsynced / 2].to_vec(),
            Loss::Zeros => {
                let mut content = self.written[..common].to_vec();
                content.resize(self.written.len(), 0);
                content
            }
        }
    }
}
