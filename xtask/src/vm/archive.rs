//! An initramfs: a cpio archive in the format `newc`.
//!
//! One entry is a header of `070701` and 13 numbers of 8 hexadecimal digits
//! (inode, mode, uid, gid, links, mtime, size, 4 device numbers, length of the
//! name with its NUL, checksum), the name, and the content; name and content
//! are each padded to a multiple of 4 bytes. An entry named `TRAILER!!!` ends
//! the archive.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufWriter, Seek as _, Write},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// File types in the mode.
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// An archive that is being written.
pub struct Archive {
    out: BufWriter<File>,
    entries: u32,
    folders: BTreeSet<String>,
}

impl Archive {
    /// Creates the file, or empties it.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            out: BufWriter::new(File::create(path)?),
            entries: 0,
            folders: BTreeSet::new(),
        })
    }

    /// A folder and those above it.
    pub fn folder(&mut self, path: &str, permissions: u32) -> io::Result<()> {
        let path = path.trim_start_matches('/');
        self.folders_above(path)?;
        if self.folders.insert(path.to_owned()) {
            self.entry(path, FOLDER | permissions, 0, &mut io::empty())?;
        }
        Ok(())
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.folders_above(path)?;
        let size = u32::try_from(target.len()).map_err(io::Error::other)?;
        self.entry(path, LINK | 0o777, size, &mut target.as_bytes())
    }

    /// A file with this content.
    pub fn text(&mut self, path: &str, permissions: u32, content: &str) -> io::Result<()> {
        self.folders_above(path)?;
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        self.entry(path, FILE | permissions, size, &mut content.as_bytes())
    }

    /// A program or library of this machine.
    pub fn copy(&mut self, path: &str, source: &Path) -> io::Result<()> {
        self.folders_above(path)?;
        let mut source = File::open(source)?;
        let size = u32::try_from(source.metadata()?.len()).map_err(io::Error::other)?;
        self.entry(path, FILE | 0o755, size, &mut source)
    }

    /// The folders that every Debian has been merging for years.
    pub fn merged_usr(&mut self) -> io::Result<()> {
        for name in ["bin", "lib", "lib64", "sbin"] {
            self.folder(&format!("usr/{name}"), 0o755)?;
            self.link(name, &format!("usr/{name}"))?;
        }
        Ok(())
    }

    /// Everything below a folder, with its permissions, as if it belonged to
    /// root, but what is below one of `left_out`.
    pub fn tree(&mut self, root: &Path, left_out: &[&str]) -> io::Result<()> {
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let path = entry.path();
                let name = path.strip_prefix(root).map_err(io::Error::other)?;
                let name = merged(&name.to_string_lossy());
                let metadata = entry.metadata()?;
                let permissions = metadata.permissions().mode() & 0o7777;
                if left_out.contains(&name.as_str()) {
                    continue;
                }
                if metadata.is_dir() {
                    self.folder(&name, permissions)?;
                    folders.push(path);
                } else if self.folders.contains(&name) {
                    // One of the merged folders, where a package has them so.
                } else if metadata.is_symlink() {
                    self.link(&name, &fs::read_link(&path)?.to_string_lossy())?;
                } else {
                    let size = u32::try_from(metadata.len()).map_err(io::Error::other)?;
                    let mut source = File::open(&path)?;
                    self.entry(&name, FILE | permissions, size, &mut source)?;
                }
            }
        }
        Ok(())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<()> {
        self.entry("TRAILER!!!", 0, 0, &mut io::empty())?;
        self.out.flush()
    }

    fn folders_above(&mut self, path: &str) -> io::Result<()> {
        match path.trim_start_matches('/').rsplit_once('/') {
            Some((parent, _)) => self.folder(parent, 0o755),
            None => Ok(()),
        }
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        size: u32,
        content: &mut dyn io::Read,
    ) -> io::Result<()> {
        let name = path.trim_start_matches('/');
        self.entries += 1;
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        let numbers = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            0,
            0,
            name_size,
            0,
        ];
        write!(self.out, "070701")?;
        for number in numbers {
            write!(self.out, "{number:08x}")?;
        }
        write!(self.out, "{name}\0")?;
        self.pad()?;
        let copied = io::copy(content, &mut self.out)?;
        if copied != u64::from(size) {
            return Err(io::Error::other(format!("{name} changed meanwhile")));
        }
        self.pad()
    }

    fn pad(&mut self) -> io::Result<()> {
        while !self.out.stream_position()?.is_multiple_of(4) {
            self.out.write_all(&[0])?;
        }
        Ok(())
    }
}

/// Where a file of a package is once the folders are merged.
fn merged(name: &str) -> String {
    let (first, _) = name.split_once('/').unwrap_or((name, ""));
    match first {
        "bin" | "lib" | "lib64" | "sbin" => format!("usr/{name}"),
        _ => name.to_owned(),
    }
}
