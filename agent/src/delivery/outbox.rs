//! Reports on their way to the collector, as files in the order they happened.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use auditty_proto::v1::{Report, ReportRequest, report::Fact};
use prost::Message as _;
use tokio::sync::watch;

use super::files::{SpoolError, names, place_folder, write_whole};
use super::usage::Usage;

/// Most reports of one request.
const MAX_REPORTS: usize = 500;

/// Most bytes of one request: a quarter of what a gRPC server takes by default.
const MAX_BYTES: usize = 1 << 20;

/// Most of one command's arguments that is reported; the recording has all.
const MAX_COMMAND_LINE: usize = 32 << 10;

/// How far the outbox was written and acknowledged, for both sides.
#[derive(Debug)]
pub struct OutboxState {
    pub(super) folder: PathBuf,
    pub(super) dead_letters: PathBuf,
    pub(super) usage: Usage,
    /// Number of the first batch that was there at the start.
    pub(super) first: u64,
    /// Number of the last batch written.
    pub(super) written: watch::Sender<u64>,
    /// Number of the last batch acknowledged.
    pub(super) acknowledged: watch::Sender<u64>,
    /// Host and boot id in every request.
    pub(super) host_id: String,
    pub(super) boot_id: String,
    /// When the recorder last looked at the spool.
    alive: Mutex<Instant>,
    /// Reports that went to the dead letters since the start.
    refused: AtomicU64,
}

impl OutboxState {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        *self.acknowledged.borrow() >= *self.written.borrow()
    }

    /// How many reports the collector refused since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn count_refused(&self, reports: usize) {
        self.refused.fetch_add(reports as u64, Ordering::Relaxed);
    }

    /// The recorder is there.
    pub(super) fn note_alive(&self, now: Instant) {
        *self.alive.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// How long the recorder did not look at the spool.
    pub(super) fn idle(&self) -> Duration {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.elapsed()
    }

    pub(super) fn batch(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:020}.pb"))
    }
}

/// The writing side.
pub(super) struct Outbox {
    state: Arc<OutboxState>,
    /// Not written yet; bounded, because nothing is appended while writing fails.
    waiting: Vec<Report>,
}

impl Outbox {
    pub(super) fn open(
        spool: &Path,
        usage: &Usage,
        host_id: &str,
        boot_id: &str,
    ) -> Result<Self, SpoolError> {
        let folder = spool.join("outbox");
        let dead_letters = spool.join("dead-letter");
        place_folder(&folder)?;
        place_folder(&dead_letters)?;
        let mut numbers = Vec::new();
        for name in names(&folder)? {
            if let Some(number) = name
                .strip_suffix(".pb")
                .and_then(|number| number.parse::<u64>().ok())
            {
                usage.add(fs::metadata(folder.join(&name)).map_or(0, |file| file.len()));
                numbers.push(number);
            }
        }
        // A dead letter keeps its number.
        let dead = names(&dead_letters)?;
        let dead = dead
            .iter()
            .filter_map(|name| name.strip_suffix(".pb")?.parse::<u64>().ok())
            .max();
        let last = numbers.iter().copied().max().max(dead).unwrap_or(0);
        let first = numbers.iter().copied().min().unwrap_or(last + 1);
        Ok(Self {
            state: Arc::new(OutboxState {
                folder,
                dead_letters,
                usage: usage.clone(),
                first,
                written: watch::Sender::new(last),
                acknowledged: watch::Sender::new(first - 1),
                host_id: host_id.to_owned(),
                boot_id: boot_id.to_owned(),
                alive: Mutex::new(Instant::now()),
                refused: AtomicU64::new(0),
            }),
            waiting: Vec::new(),
        })
    }

    pub(super) fn state(&self) -> &Arc<OutboxState> {
        &self.state
    }

    pub(super) fn push(&mut self, report: Report) {
        self.waiting.push(shortened(report));
    }

    /// How many reports are not written yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The last batch that the collector has.
    pub(super) fn acknowledged(&self) -> u64 {
        *self.state.acknowledged.borrow()
    }

    /// Writes what waits; the number of the last batch then.
    pub(super) fn flush(&mut self) -> Result<u64, SpoolError> {
        while !self.waiting.is_empty() {
            let mut bytes = 0;
            let fits = |report: &&Report| {
                bytes += report.encoded_len() + 8;
                bytes <= MAX_BYTES
            };
            let count = self
                .waiting
                .iter()
                .take(MAX_REPORTS)
                .take_while(fits)
                .count()
                .max(1);
            let request = ReportRequest {
                host_id: self.state.host_id.clone(),
                boot_id: self.state.boot_id.clone(),
                reports: self.waiting.get(..count).unwrap_or_default().to_vec(),
                host: None,
            };
            let encoded = request.encode_to_vec();
            let number = *self.state.written.borrow() + 1;
            write_whole(&self.state.batch(number), &encoded)?;
            self.state.usage.add(encoded.len() as u64);
            self.waiting.drain(..count);
            self.state.written.send_replace(number);
        }
        Ok(*self.state.written.borrow())
    }
}

/// The report without what was done: of a session not the command that was asked
/// for, of a command that there was one, of a file what kind of access it was.
pub(super) fn without_content(mut report: Report) -> Report {
    use auditty_proto::v1::activity::Activity as Kind;
    match &mut report.fact {
        Some(Fact::Session(fact)) => {
            if let Some(session) = &mut fact.session {
                session.command.clear();
                session.content_withheld = true;
            }
        }
        Some(Fact::Command(fact)) => {
            if let Some(command) = &mut fact.command {
                command.exe.clear();
                command.filename.clear();
                command.cwd.clear();
                command.argv.clear();
                command.content_withheld = true;
            }
        }
        Some(Fact::Activity(fact)) => {
            if let Some(activity) = &mut fact.activity {
                match &mut activity.activity {
                    Some(Kind::File(file)) => {
                        file.path.clear();
                        file.target.clear();
                    }
                    Some(Kind::Transfer(transfer)) => transfer.path.clear(),
                    Some(Kind::Connect(connect)) => connect.unix_path.clear(),
                    Some(Kind::Link(_) | Kind::Handoff(_)) | None => return report,
                }
                activity.content_withheld = true;
            }
        }
        _ => {}
    }
    report
}

/// The report, its command line cut to what is reported.
fn shortened(mut report: Report) -> Report {
    if let Some(Fact::Command(fact)) = &mut report.fact
        && let Some(command) = &mut fact.command
    {
        let mut room = MAX_COMMAND_LINE;
        for argument in &mut command.argv {
            if argument.len() > room {
                argument.truncate(argument.floor_char_boundary(room));
                command.argv_truncated = true;
            }
            room -= argument.len();
        }
        if command.argv_truncated {
            while command.argv.last().is_some_and(String::is_empty) {
                command.argv.pop();
            }
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use auditty_proto::v1::{Command, CommandReport};

    use super::*;

    fn command(argv: Vec<String>) -> Report {
        let command = Command {
            argv,
            ..Command::default()
        };
        let fact = CommandReport {
            session_id: "s".into(),
            command: Some(command),
        };
        Report {
            fact: Some(Fact::Command(fact)),
        }
    }

    fn argv(report: Report) -> (Vec<String>, bool) {
        let Some(Fact::Command(CommandReport {
            command: Some(command),
            ..
        })) = report.fact
        else {
            panic!("not a command");
        };
        (command.argv, command.argv_truncated)
    }

    #[test]
    fn a_long_command_line_is_cut_between_characters_and_says_so() {
        let (short, truncated) = argv(shortened(command(vec!["a".into(), String::new()])));
        assert_eq!((short.len(), truncated), (2, false));
        let (cut, truncated) = argv(shortened(command(vec![
            "x".into(),
            "ü".repeat(20_000),
            "y".into(),
        ])));
        assert_eq!((cut.len(), truncated), (3, true));
        assert_eq!(cut.iter().map(String::len).sum::<usize>(), MAX_COMMAND_LINE);
    }

    #[test]
    fn batches_are_bounded_and_numbering_goes_on_after_a_restart() {
        let spool = tempfile::tempdir().unwrap();
        let usage = Usage::new(1 << 30, Vec::new());
        let mut outbox = Outbox::open(spool.path(), &usage, "h", "b").unwrap();
        assert!(outbox.state().is_empty());
        for _ in 0..1001 {
            outbox.push(command(vec!["a".into()]));
        }
        assert_eq!(outbox.flush().unwrap(), 3);
        let outbox =
            Outbox::open(spool.path(), &Usage::new(1 << 30, Vec::new()), "h", "b").unwrap();
        assert_eq!(
            (outbox.state().first, *outbox.state().written.borrow()),
            (1, 3)
        );
        assert!(!outbox.state().is_empty());
        for number in 1..=3 {
            let size = fs::metadata(outbox.state().batch(number)).unwrap().len();
            assert!(size > 0 && size <= MAX_BYTES as u64);
        }
    }
}
