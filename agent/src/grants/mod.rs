//! Grants: approved accesses, read from a directory of files and matched to
//! logins.
//!
//! A file holds one grant, or several under `grants` (`[[grants]]` or
//! `[[grant]]` in TOML, `{"grants": […]}` or a plain list in JSON). A file that
//! does not parse is reported by name, line and column; all others still count.

mod file;
mod matching;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use file::{GrantFileError, GrantRule};

/// A directory with more files is not what it is meant to be.
const MAX_FILES: usize = 10_000;
/// A single file of approvals does not get larger than this by hand or by any
/// ticket system.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// All grants of a directory as they stood when it was read.
#[derive(Clone, Debug, Default)]
pub struct GrantBook {
    rules: Vec<GrantRule>,
    dir: Option<PathBuf>,
    seen: Vec<SeenFile>,
}

/// What tells that a file changed without reading it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SeenFile {
    name: OsString,
    modified: Option<SystemTime>,
    bytes: u64,
}

impl GrantBook {
    /// A book of these grants, without files behind it.
    pub fn new(rules: Vec<GrantRule>) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// Reads every `.json` and `.toml` file of `dir`. Files that cannot be used
    /// are in the list of errors; a directory that does not exist holds no
    /// grants.
    pub fn load(dir: &Path) -> (Self, Vec<GrantFileError>) {
        let mut errors = Vec::new();
        let seen = match scan(dir) {
            Ok(seen) => seen,
            Err(error) => {
                errors.push(GrantFileError::of_file(dir, error));
                Vec::new()
            }
        };
        let mut rules = Vec::new();
        for entry in &seen {
            let path = dir.join(&entry.name);
            match read(&path, entry.bytes).and_then(|text| file::parse(&path, &text)) {
                Ok(more) => rules.extend(more),
                Err(error) => errors.push(error),
            }
        }
        let book = Self {
            rules,
            dir: Some(dir.to_owned()),
            seen,
        };
        (book, errors)
    }

    /// Whether the directory holds other files, sizes or times than when it was
    /// read. Cheap: no file is opened.
    pub fn changed(&self) -> bool {
        self.dir
            .as_deref()
            .is_some_and(|dir| scan(dir).unwrap_or_default() != self.seen)
    }

    /// The grants.
    pub fn rules(&self) -> &[GrantRule] {
        &self.rules
    }
}

fn scan(dir: &Path) -> Result<Vec<SeenFile>, String> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read the directory: {error}")),
    };
    let mut seen = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("cannot read the directory: {error}"))?;
        let name = entry.file_name();
        let path = Path::new(&name);
        let hidden = name.as_encoded_bytes().starts_with(b".");
        let ours = path.extension().is_some_and(|e| e == "json" || e == "toml");
        if hidden || !ours {
            continue;
        }
        if seen.len() == MAX_FILES {
            return Err(format!("more than {MAX_FILES} grant files"));
        }
        let metadata = std::fs::metadata(entry.path()).ok();
        seen.push(SeenFile {
            modified: metadata.as_ref().and_then(|m| m.modified().ok()),
            bytes: metadata.map_or(0, |m| m.len()),
            name,
        });
    }
    seen.sort();
    Ok(seen)
}

fn read(path: &Path, bytes: u64) -> Result<String, GrantFileError> {
    if bytes > MAX_FILE_BYTES {
        let message = format!("larger than {MAX_FILE_BYTES} bytes");
        return Err(GrantFileError::of_file(path, message));
    }
    std::fs::read_to_string(path).map_err(|e| GrantFileError::of_file(path, e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::GrantBook;

    const GOOD: &str = r#"{"request_id": "R1", "requester": "ann", "approvers": ["bob"],
        "access_flow": "oncall", "unix_users": ["root"]}"#;

    #[test]
    fn a_malformed_file_is_named_and_disturbs_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.json"), GOOD).unwrap();
        std::fs::write(
            dir.path().join("b.toml"),
            "request_id = \"x\"\nrequester = 3\n",
        )
        .unwrap();
        std::fs::write(dir.path().join("c.toml"), [0xff, 0xfe]).unwrap();
        std::fs::write(dir.path().join("README"), "not a grant").unwrap();
        std::fs::create_dir(dir.path().join("d.json")).unwrap();
        let (book, errors) = GrantBook::load(dir.path());
        assert_eq!(book.rules().len(), 1);
        let places: Vec<_> = errors
            .iter()
            .map(|e| (e.path.file_name().unwrap().to_str().unwrap(), e.line))
            .collect();
        assert_eq!(places, [("b.toml", 2), ("c.toml", 0), ("d.json", 0)]);
        assert!(errors[0].to_string().contains("b.toml:2:13: "));
    }

    #[test]
    fn a_missing_directory_holds_no_grants() {
        let (book, errors) = GrantBook::load("/nonexistent/grants".as_ref());
        assert!(book.rules().is_empty() && errors.is_empty());
        assert!(!book.changed());
    }

    #[test]
    fn changes_are_noticed_without_reading() {
        let dir = tempfile::tempdir().unwrap();
        let (empty, _) = GrantBook::load(dir.path());
        assert!(!empty.changed());
        std::fs::write(dir.path().join("a.json"), GOOD).unwrap();
        assert!(empty.changed());
        let (book, _) = GrantBook::load(dir.path());
        assert!(!book.changed());
        std::fs::write(dir.path().join("a.json"), format!("{GOOD}\n")).unwrap();
        assert!(book.changed());
        std::fs::remove_file(dir.path().join("a.json")).unwrap();
        assert!(book.changed());
    }
}
