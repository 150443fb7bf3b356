//! Reading a chunk.

use std::io::Read;

use ::bytes::Buf as _;
use jiff::Timestamp;
use serde::Deserialize;

use super::{ChunkError, MAX_BAD_LINES, MAX_LINE_BYTES, decompress::Decompress};
use crate::encryption::Identities;
use crate::event::Event;
use crate::format::{FORMAT, Header};
use crate::key::Form;
use crate::store::Body;

/// One event line of a chunk.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Position in the session.
    pub seq: u64,
    /// Wall clock of the host.
    pub time: Timestamp,
    /// Nanoseconds since boot.
    pub boot_ns: u64,
    /// The event; `None` for a kind this version does not know.
    pub event: Option<Event>,
    /// The line as stored, without its newline.
    pub line: String,
}

/// What every line has, whatever its kind.
#[derive(Deserialize)]
struct AnyEvent {
    seq: u64,
    time: Timestamp,
    boot_ns: u64,
    kind: String,
}

impl Record {
    fn parse(line: String) -> Result<Self, String> {
        if let Some(event) = super::output_line::parse(&line) {
            return Ok(Self {
                seq: event.seq,
                time: event.time,
                boot_ns: event.boot_ns,
                event: Some(event),
                line,
            });
        }
        let (seq, time, boot_ns, event) = match serde_json::from_str::<Event>(&line) {
            Ok(event) => (event.seq, event.time, event.boot_ns, Some(event)),
            Err(error) => match serde_json::from_str::<AnyEvent>(&line) {
                Ok(any) if !crate::event::KINDS.contains(&any.kind.as_str()) => {
                    (any.seq, any.time, any.boot_ns, None)
                }
                _ => return Err(error.to_string()),
            },
        };
        Ok(Self {
            seq,
            time,
            boot_ns,
            event,
            line,
        })
    }
}

/// Iterates over the events of a chunk. A line that is no event is an error
/// item of its own and reading goes on behind it; a truncated or damaged chunk
/// gives every complete line before the damage, then one error, then ends.
pub struct ChunkReader<R> {
    source: Decompress<R>,
    header: Header,
    buffer: Vec<u8>,
    /// Bytes of `buffer` already handed out.
    consumed: usize,
    /// Bytes of `buffer` already searched for a newline.
    searched: usize,
    line: u64,
    bad_lines: u32,
    /// The stream is over: what follows the last line of `buffer`.
    end: Option<Option<ChunkError>>,
    done: bool,
}

impl<R: Read> ChunkReader<R> {
    /// Reads the header of a chunk.
    pub fn new(source: R) -> Result<Self, ChunkError> {
        let mut reader = Self {
            source: Decompress::new(source)?,
            header: Header::default(),
            buffer: Vec::new(),
            consumed: 0,
            searched: 0,
            line: 0,
            bad_lines: 0,
            end: None,
            done: false,
        };
        let line = match reader.next_line() {
            Some(line) => line?,
            None => return Err(ChunkError::Header("there is none".to_owned())),
        };
        reader.header = parse_header(&line)?;
        Ok(reader)
    }

    /// The chunk's first line.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next complete line, or why there is none.
    fn next_line(&mut self) -> Option<Result<String, ChunkError>> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = unsearched.iter().position(|&byte| byte == b'\n') {
                let end = self.searched + at;
                let bytes = self.buffer.get(self.consumed..end).unwrap_or_default();
                self.line += 1;
                let line = if bytes.len() > MAX_LINE_BYTES {
                    Err(ChunkError::LongLine { line: self.line })
                } else {
                    String::from_utf8(bytes.to_vec()).map_err(|error| ChunkError::Line {
                        line: self.line,
                        reason: error.to_string(),
                    })
                };
                (self.consumed, self.searched) = (end + 1, end + 1);
                return Some(line);
            }
            self.searched = self.buffer.len();
            if let Some(end) = self.end.take() {
                return self.last(end).map(Err);
            }
            self.fill();
        }
    }

    /// Gets more bytes, keeping at most one unfinished line in memory: of a line
    /// beyond the bound only as much stays as shows that it is too long.
    fn fill(&mut self) {
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        self.buffer.truncate(MAX_LINE_BYTES + 1);
        self.searched = self.buffer.len();
        match self.source.read_into(&mut self.buffer) {
            Ok(true) => {}
            Ok(false) => self.end = Some(None),
            Err(error) => self.end = Some(Some(error)),
        }
    }

    /// What is said when the stream is over.
    fn last(&mut self, end: Option<ChunkError>) -> Option<ChunkError> {
        self.done = true;
        let unfinished = self.buffer.len() > self.consumed;
        end.or_else(|| {
            unfinished.then_some(ChunkError::UnfinishedLine {
                line: self.line + 1,
            })
        })
    }

    fn parse_event(&mut self, line: Result<String, ChunkError>) -> Result<Record, ChunkError> {
        let record = line.and_then(|line| {
            Record::parse(line).map_err(|reason| ChunkError::Line {
                line: self.line,
                reason,
            })
        });
        if record.is_err() && !self.done {
            self.bad_lines += 1;
            if self.bad_lines > MAX_BAD_LINES {
                self.done = true;
                return Err(ChunkError::BadLines);
            }
        }
        record
    }
}

impl<R: Read> Iterator for ChunkReader<R> {
    type Item = Result<Record, ChunkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let line = self.next_line()?;
        Some(self.parse_event(line))
    }
}

/// A chunk in any form, from a store.
pub type AnyChunk = ChunkReader<Box<dyn Read + Send>>;

impl AnyChunk {
    /// Opens a chunk that is stored in this form.
    ///
    /// # Errors
    /// [`ChunkError::Locked`] when none of the keys opens it, or as
    /// [`ChunkReader::new`].
    pub fn open(form: Form, object: Body, keys: &Identities) -> Result<Self, ChunkError> {
        let reader = object.reader();
        Self::new(match form.is_encrypted() {
            true => Box::new(keys.open(reader)?),
            false => Box::new(reader),
        })
    }
}

fn parse_header(line: &str) -> Result<Header, ChunkError> {
    #[derive(Deserialize)]
    struct AnyHeader {
        kind: String,
        format: String,
    }
    let malformed = |error: serde_json::Error| ChunkError::Header(error.to_string());
    let AnyHeader { kind, format } = serde_json::from_str(line).map_err(malformed)?;
    if kind != Header::KIND {
        return Err(ChunkError::Header(format!("its kind is `{kind}`")));
    }
    if format != FORMAT {
        return Err(ChunkError::UnknownFormat(format));
    }
    serde_json::from_str(line).map_err(malformed)
}
