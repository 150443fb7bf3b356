//! The directory of grant files, as it is and as it becomes.
//!
//! A file that turns bad keeps what it said before until it is mended or
//! removed: an editor that has written half of it revokes nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use auditty_grants::{GrantFileError, GrantRule, file};

/// A directory with more files is not what it is meant to be.
const MAX_FILES: usize = 10_000;
/// A single file of approvals does not get larger than this by hand or by any
/// ticket system.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Grants of all files together.
const MAX_GRANTS: usize = 50_000;

/// Endings of the files that count.
const EXTENSIONS: [&str; 4] = ["json", "toml", "yaml", "yml"];

/// The directory and what was read from it. It does not have to exist.
#[derive(Debug)]
pub struct GrantFolder {
    directory: PathBuf,
    files: BTreeMap<OsString, Known>,
    /// The directory itself cannot be read.
    error: Option<GrantFileError>,
}

/// A file as it was read.
#[derive(Debug)]
struct Known {
    stamp: Stamp,
    rules: Vec<GrantRule>,
    error: Option<GrantFileError>,
}

/// What tells that a file changed without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: (i64, i64),
    /// What copies a file with its time of modification cannot set these.
    changed: (i64, i64),
    inode: u64,
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            bytes: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
            inode: file.ino(),
        }
    }
}

impl GrantFolder {
    /// Nothing is read yet.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            files: BTreeMap::new(),
            error: None,
        }
    }

    /// Reads what changed since the last time; whether anything did.
    pub fn refresh(&mut self) -> bool {
        let seen = match scan(&self.directory) {
            Ok(seen) => seen,
            Err(message) => {
                let error = Some(GrantFileError::of_file(&self.directory, message));
                let changed = self.error != error;
                self.error = error;
                return changed;
            }
        };
        let mut changed = self.error.take().is_some();
        self.files.retain(|name, _| {
            let stays = seen.contains_key(name);
            changed |= !stays;
            stays
        });
        for (name, stamp) in seen {
            let known = self.files.get(&name);
            if known.is_some_and(|known| known.stamp == stamp) {
                continue;
            }
            changed = true;
            let others = self.files.iter().filter(|(other, _)| **other != name);
            let room = MAX_GRANTS.saturating_sub(others.map(|(_, k)| k.rules.len()).sum());
            let (rules, error) = match read(&self.directory.join(&name), room) {
                Ok(rules) => (rules, None),
                Err(error) => {
                    let before = self.files.remove(&name).map(|known| known.rules);
                    (before.unwrap_or_default(), Some(error))
                }
            };
            let known = Known {
                stamp,
                rules,
                error,
            };
            self.files.insert(name, known);
        }
        changed
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What cannot be used, and why.
    pub fn errors(&self) -> Vec<&GrantFileError> {
        let files = self.files.values().filter_map(|known| known.error.as_ref());
        self.error.iter().chain(files).collect()
    }

    /// The grants of all files.
    pub fn rules(&self) -> impl Iterator<Item = &GrantRule> {
        self.files.values().flat_map(|known| &known.rules)
    }
}

fn scan(directory: &Path) -> Result<BTreeMap<OsString, Stamp>, String> {
    let failed = |error: std::io::Error| format!("cannot read the directory: {error}");
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut seen = BTreeMap::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        let extension = Path::new(&name).extension();
        let ours = extension.is_some_and(|own| EXTENSIONS.iter().any(|known| own == *known));
        if hidden || !ours {
            continue;
        }
        if seen.len() == MAX_FILES {
            return Err(format!("more than {MAX_FILES} grant files"));
        }
        let file = fs::metadata(directory.join(&name));
        let stamp = file.map_or_else(|_| Stamp::default(), |file| Stamp::of(&file));
        seen.insert(name, stamp);
    }
    Ok(seen)
}

/// At most `room` grants.
fn read(path: &Path, room: usize) -> Result<Vec<GrantRule>, GrantFileError> {
    let failed = |error: std::io::Error| GrantFileError::of_file(path, error.to_string());
    // A pipe would be waited for.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(GrantFileError::of_file(path, "not a regular file".into()));
    }
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    let mut bounded = file.take(MAX_FILE_BYTES + 1);
    bounded.read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        let message = format!("larger than {MAX_FILE_BYTES} bytes");
        return Err(GrantFileError::of_file(path, message));
    }
    let rules = file::parse(path, &text)?;
    if rules.len() > room {
        let message = format!("there are more than {MAX_GRANTS} grants with those of other files");
        return Err(GrantFileError::of_file(path, message));
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, UNIX_EPOCH};

    use super::{File, GrantFolder, MAX_FILE_BYTES};

    const GOOD: &str = r#"{"request_id": "R1", "requester": "ann", "approvers": ["bob"],
        "access_flow": "oncall", "unix_users": ["root"]}"#;

    #[test]
    fn a_malformed_file_is_named_and_disturbs_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| fs::write(dir.path().join(name), text).unwrap();
        write("a.json", GOOD.as_bytes());
        write("b.toml", b"request_id = \"x\"\nrequester = 3\n");
        write("c.toml", &[0xff, 0xfe]);
        write("e.yaml", b"request_id: y\nrequester: [\n");
        write("f.json", &vec![b' '; MAX_FILE_BYTES as usize + 1]);
        write("README", b"not a grant");
        fs::create_dir(dir.path().join("d.json")).unwrap();
        let mut folder = GrantFolder::new(dir.path());
        assert!(folder.refresh());
        assert_eq!(folder.rules().count(), 1);
        let errors = folder.errors();
        let places: Vec<_> = errors
            .iter()
            .map(|e| (e.path.file_name().unwrap().to_str().unwrap(), e.line > 0))
            .collect();
        assert_eq!(
            places,
            [
                ("b.toml", true),
                ("c.toml", false),
                ("d.json", false),
                ("e.yaml", true),
                ("f.json", false)
            ]
        );
        assert!(errors[0].to_string().contains("b.toml:2:13: "));
    }

    #[test]
    fn a_missing_directory_holds_no_grants() {
        let mut folder = GrantFolder::new("/nonexistent/grants".as_ref());
        assert!(!folder.refresh());
        assert!(folder.rules().next().is_none() && folder.errors().is_empty());
    }

    #[test]
    fn only_what_changed_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = GrantFolder::new(dir.path());
        assert!(!folder.refresh());
        fs::write(dir.path().join("a.json"), GOOD).unwrap();
        assert!(folder.refresh() && !folder.refresh());
        fs::write(dir.path().join("a.json"), format!("{GOOD}\n")).unwrap();
        assert!(folder.refresh());
        fs::remove_file(dir.path().join("a.json")).unwrap();
        assert!(folder.refresh());
        assert!(folder.rules().next().is_none() && !folder.refresh());
    }

    #[test]
    fn a_file_of_the_same_length_and_time_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = GrantFolder::new(dir.path());
        let path = dir.path().join("a.json");
        let put = |text: &str| {
            fs::write(&path, text).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(UNIX_EPOCH).unwrap();
        };
        put(GOOD);
        assert!(folder.refresh() && !folder.refresh());
        // As rsync, tar and images do; the clock of file systems is a coarse one.
        std::thread::sleep(Duration::from_millis(20));
        put(&GOOD.replace("ann", "eve"));
        assert!(folder.refresh());
    }

    #[test]
    fn a_file_half_written_keeps_what_it_said() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = GrantFolder::new(dir.path());
        let path = dir.path().join("a.json");
        fs::write(&path, GOOD).unwrap();
        folder.refresh();
        fs::write(&path, &GOOD[..40]).unwrap();
        assert!(folder.refresh());
        assert_eq!(folder.rules().count(), 1);
        assert_eq!(folder.errors().len(), 1);
        fs::write(&path, "[]").unwrap();
        folder.refresh();
        assert!(folder.rules().next().is_none() && folder.errors().is_empty());
    }
}
