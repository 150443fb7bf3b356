//! Where an agent stands in the kernel's rings, and its sessions with it.
//!
//! One line of JSON for each checkpoint, appended to `journal` in the spool
//! after everything it speaks of is written to the open chunks. A line holds
//! how far the rings have been read, and the sessions and connections that
//! changed since the line before. The page cache is enough: what has to be
//! survived is the death of the agent, and with the host the rings die too.
//!
//! The next agent takes the state of the last whole line, cuts from each open
//! chunk the events that came later, and reads on in the rings from there. So
//! every event is in the recording once, wherever the agent died.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::files::{SpoolError, unfinished};
use crate::capture::ring::Marks;
use crate::capture::{Declared, Handover};
use crate::sessions::Connections;
use crate::sessions::sink::{ConnectionRecord, SessionRecord};

const NAME: &str = "journal";

/// A journal this long is written anew, with the current state alone.
const MAX_BYTES: u64 = 8 << 20;

/// A session in the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) record: SessionRecord,
    /// Nothing more will be appended.
    pub(super) finished: bool,
}

/// One line.
#[derive(Default, Serialize, Deserialize)]
struct Line {
    boot_id: String,
    rings: String,
    marks: Marks,
    /// What was declared lost; absent where the line before says it.
    #[serde(default)]
    declared: Option<Declared>,
    #[serde(default)]
    sessions: Vec<Entry>,
    #[serde(default)]
    connections: Vec<ConnectionRecord>,
    /// Connections that are over.
    #[serde(default)]
    gone: Vec<u64>,
}

/// What the lines add up to.
#[derive(Clone, Debug, Default)]
pub struct Journaled {
    boot_id: String,
    rings: String,
    marks: Marks,
    declared: Declared,
    pub(super) sessions: HashMap<Uuid, Entry>,
    connections: HashMap<u64, ConnectionRecord>,
}

impl Journaled {
    /// Reads the journal of the agent before; `None` when there is none that
    /// can be used.
    pub fn read(spool: &Path) -> Option<Self> {
        let file = BufReader::new(File::open(spool.join(NAME)).ok()?);
        let mut state = Self::default();
        let mut lines = 0;
        for line in file.lines() {
            // The last line may be torn: it was not acknowledged then.
            let Some(line) = line.ok().and_then(|line| serde_json::from_str(&line).ok()) else {
                break;
            };
            state.apply(line);
            lines += 1;
        }
        (lines > 0).then_some(state)
    }

    /// Whether it speaks of these rings, in this boot.
    pub fn is_of(&self, boot_id: &str, rings: &str) -> bool {
        self.boot_id == boot_id && self.rings == rings
    }

    /// Where the capture goes on.
    pub fn handover(&self) -> Handover {
        Handover {
            marks: self.marks.clone(),
            declared: self.declared.clone(),
        }
    }

    /// The connections that were open.
    pub fn connections(&self) -> Vec<ConnectionRecord> {
        self.connections.values().cloned().collect()
    }

    fn apply(&mut self, line: Line) {
        self.boot_id = line.boot_id;
        self.rings = line.rings;
        self.marks = line.marks;
        if let Some(declared) = line.declared {
            self.declared = declared;
        }
        for entry in line.sessions {
            self.sessions.insert(entry.record.session.session_id, entry);
        }
        for connection in line.connections {
            self.connections.insert(connection.id, connection);
        }
        for id in line.gone {
            self.connections.remove(&id);
        }
    }

    /// The whole state as one line.
    fn line(&self) -> Line {
        Line {
            boot_id: self.boot_id.clone(),
            rings: self.rings.clone(),
            marks: self.marks.clone(),
            declared: Some(self.declared.clone()),
            sessions: self.sessions.values().cloned().collect(),
            connections: self.connections(),
            gone: Vec::new(),
        }
    }
}

/// A point to which everything is recorded.
#[derive(Debug)]
pub struct Point {
    /// How far the rings were read.
    pub marks: Marks,
    /// What was declared lost, where that is news.
    pub declared: Option<Declared>,
    /// Connections that changed.
    pub connections: Connections,
}

/// The writing side.
pub(super) struct Journal {
    path: PathBuf,
    /// `None` after a failure: the next line is a new beginning.
    file: Option<File>,
    bytes: u64,
    state: Journaled,
}

impl Journal {
    /// Begins anew for these rings, with what is known of the ones before when
    /// they are the same.
    pub(super) fn begin(
        spool: &Path,
        boot_id: &str,
        rings: &str,
        before: Option<Journaled>,
    ) -> Result<Self, SpoolError> {
        // Of new rings nothing is known before the first checkpoint.
        if before.is_none() {
            remove(spool)?;
        }
        let state = Journaled {
            boot_id: boot_id.to_owned(),
            rings: rings.to_owned(),
            ..before.unwrap_or_default()
        };
        Ok(Self {
            path: spool.join(NAME),
            file: None,
            bytes: 0,
            state,
        })
    }

    /// Sessions of which nothing more has to be remembered.
    pub(super) fn forget(&mut self, done: impl Fn(&Uuid) -> bool) {
        self.state.sessions.retain(|id, _| !done(id));
    }

    /// Whether the next line is due to be the whole state.
    pub(super) fn is_long(&self) -> bool {
        self.file.is_none() || self.bytes > MAX_BYTES
    }

    /// Appends a line, where there is something new to say.
    pub(super) fn write(&mut self, point: &Point, sessions: Vec<Entry>) -> Result<(), SpoolError> {
        if !self.is_long() && sessions.is_empty() && self.knows(point) {
            return Ok(());
        }
        let line = Line {
            boot_id: self.state.boot_id.clone(),
            rings: self.state.rings.clone(),
            marks: point.marks.clone(),
            declared: point.declared.clone(),
            sessions,
            connections: point.connections.changed.clone(),
            gone: point.connections.gone.clone(),
        };
        let text = serialized(&line, &self.path)?;
        self.state.apply(line);
        if self.is_long() {
            return self.rewrite();
        }
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(&text)
        {
            // Half a line: nothing may stand behind it.
            self.file = None;
            return Err(SpoolError::new("write", &self.path, error));
        }
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Whether the file says all of this already.
    fn knows(&self, point: &Point) -> bool {
        let Connections { changed, gone } = &point.connections;
        let declared = point.declared.as_ref();
        point.marks == self.state.marks
            && declared.is_none_or(|declared| *declared == self.state.declared)
            && changed.is_empty()
            && gone.is_empty()
    }

    fn rewrite(&mut self) -> Result<(), SpoolError> {
        self.file = None;
        let text = serialized(&self.state.line(), &self.path)?;
        let new = unfinished(&self.path);
        let failed = |error| SpoolError::new("write", &new, error);
        fs::write(&new, &text).map_err(failed)?;
        let file = OpenOptions::new().append(true).open(&new).map_err(failed)?;
        fs::rename(&new, &self.path).map_err(failed)?;
        (self.file, self.bytes) = (Some(file), text.len() as u64);
        Ok(())
    }
}

/// Removes the journal: the rings it speaks of are gone, or it lags behind what
/// was acknowledged.
pub(super) fn remove(spool: &Path) -> Result<(), SpoolError> {
    let path = spool.join(NAME);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SpoolError::new("remove", &path, error))
        }
        _ => Ok(()),
    }
}

fn serialized(line: &Line, path: &Path) -> Result<Vec<u8>, SpoolError> {
    let mut text = serde_json::to_vec(line).map_err(|error| SpoolError::malformed(path, error))?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: Uuid, next_seq: u64) -> Entry {
        let mut record = SessionRecord {
            next_seq,
            ..SessionRecord::default()
        };
        record.session.session_id = id;
        Entry {
            record,
            finished: false,
        }
    }

    fn point(data: u64) -> Point {
        let mut marks = Marks::default();
        marks.data.cursor = data;
        Point {
            marks,
            declared: None,
            connections: Connections::default(),
        }
    }

    fn begin(spool: &Path) -> Journal {
        Journal::begin(spool, "boot", "rings", None).unwrap()
    }

    #[test]
    fn the_last_line_of_each_session_counts() {
        let spool = tempfile::tempdir().unwrap();
        assert!(Journaled::read(spool.path()).is_none(), "there is none");
        let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
        let mut journal = begin(spool.path());
        journal
            .write(&point(10), vec![entry(one, 2), entry(two, 5)])
            .unwrap();
        journal.write(&point(20), vec![entry(one, 9)]).unwrap();
        let read = Journaled::read(spool.path()).unwrap();
        assert!(read.is_of("boot", "rings"));
        assert!(!read.is_of("boot", "others") && !read.is_of("later", "rings"));
        assert_eq!(read.handover().marks.data.cursor, 20);
        let next = |id| read.sessions.get(&id).map(|entry| entry.record.next_seq);
        assert_eq!((next(one), next(two)), (Some(9), Some(5)));
    }

    #[test]
    fn wherever_it_is_cut_it_says_what_its_whole_lines_say() {
        let spool = tempfile::tempdir().unwrap();
        let id = Uuid::now_v7();
        let mut journal = begin(spool.path());
        for number in 1..=5 {
            journal
                .write(&point(number), vec![entry(id, number)])
                .unwrap();
        }
        let path = spool.path().join(NAME);
        let whole = fs::read(&path).unwrap();
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let lines = whole[..length]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count() as u64;
            // A line is whole without its newline, too.
            let almost = whole.get(length) == Some(&b'\n');
            let expected = lines + u64::from(almost);
            let position =
                Journaled::read(spool.path()).map(|read| read.handover().marks.data.cursor);
            assert_eq!(position, (expected > 0).then_some(expected), "{length}");
        }
    }

    #[test]
    fn what_the_file_says_is_not_written_again() {
        let spool = tempfile::tempdir().unwrap();
        let id = Uuid::now_v7();
        let mut journal = begin(spool.path());
        let length = || fs::metadata(spool.path().join(NAME)).unwrap().len();
        journal.write(&point(10), vec![entry(id, 2)]).unwrap();
        let before = length();
        journal.write(&point(10), Vec::new()).unwrap();
        assert_eq!(length(), before);
        journal.write(&point(10), vec![entry(id, 3)]).unwrap();
        let with_session = length();
        assert!(with_session > before);
        let declared = Some(Declared {
            missed_runs: 1,
            ..Declared::default()
        });
        let point = Point {
            declared,
            ..point(10)
        };
        journal.write(&point, Vec::new()).unwrap();
        let with_loss = length();
        assert!(with_loss > with_session);
        journal.write(&point, Vec::new()).unwrap();
        assert_eq!(length(), with_loss);
        let read = Journaled::read(spool.path()).unwrap();
        assert_eq!(read.handover().declared.missed_runs, 1);
    }

    #[test]
    fn nothing_counts_behind_a_damaged_line() {
        let spool = tempfile::tempdir().unwrap();
        let mut journal = begin(spool.path());
        for number in 1..=3 {
            journal.write(&point(number), Vec::new()).unwrap();
        }
        let path = spool.path().join(NAME);
        let mut bytes = fs::read(&path).unwrap();
        let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        bytes[second] = b'#';
        fs::write(&path, bytes).unwrap();
        let read = Journaled::read(spool.path()).unwrap();
        assert_eq!(read.handover().marks.data.cursor, 1);
    }

    #[test]
    fn a_long_journal_begins_anew_with_what_is_still_open() {
        let spool = tempfile::tempdir().unwrap();
        let (over, open) = (Uuid::now_v7(), Uuid::now_v7());
        let mut journal = begin(spool.path());
        journal
            .write(&point(1), vec![entry(over, 2), entry(open, 3)])
            .unwrap();
        journal.bytes = MAX_BYTES + 1;
        assert!(journal.is_long());
        journal.forget(|id| *id == over);
        journal.write(&point(2), Vec::new()).unwrap();
        assert!(!journal.is_long());
        let text = fs::read_to_string(spool.path().join(NAME)).unwrap();
        assert_eq!(text.lines().count(), 1);
        let read = Journaled::read(spool.path()).unwrap();
        assert!(read.sessions.contains_key(&open) && !read.sessions.contains_key(&over));
        assert_eq!(read.handover().marks.data.cursor, 2);
    }

    #[test]
    fn the_next_agent_goes_on_with_it_and_new_rings_begin_anew() {
        let spool = tempfile::tempdir().unwrap();
        let id = Uuid::now_v7();
        begin(spool.path())
            .write(&point(7), vec![entry(id, 4)])
            .unwrap();
        let before = Journaled::read(spool.path());
        let mut journal = Journal::begin(spool.path(), "boot", "rings", before).unwrap();
        assert!(
            spool.path().join(NAME).exists(),
            "until there is a better one"
        );
        journal.write(&point(8), Vec::new()).unwrap();
        assert!(
            Journaled::read(spool.path())
                .unwrap()
                .sessions
                .contains_key(&id)
        );
        drop(Journal::begin(spool.path(), "boot", "new rings", None).unwrap());
        assert!(Journaled::read(spool.path()).is_none());
    }

    #[test]
    fn after_a_failed_write_the_next_line_is_a_new_beginning() {
        let spool = tempfile::tempdir().unwrap();
        let id = Uuid::now_v7();
        let mut journal = begin(spool.path());
        journal.write(&point(1), vec![entry(id, 4)]).unwrap();
        // A file that takes nothing.
        journal.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        assert!(journal.write(&point(2), vec![entry(id, 5)]).is_err());
        journal.write(&point(3), Vec::new()).unwrap();
        let read = Journaled::read(spool.path()).unwrap();
        assert_eq!(read.handover().marks.data.cursor, 3);
        assert_eq!(
            read.sessions[&id].record.next_seq, 5,
            "nothing is forgotten"
        );
    }
}
