//! Writing a chunk, and taking over one that was torn by a crash.

use std::io::{self, Read, Write};

use jiff::Timestamp;
use zstd::stream::write::Encoder;

use super::{ChunkError, ChunkReader, MAX_CHUNK_BYTES, MAX_LINE_BYTES};
use crate::digest::{Digest, Hasher};
use crate::event::Event;
use crate::format::Header;
use crate::key::Form;

/// zstd's level. Measured by `examples/chunk_speed.rs` on two shared cores: 50 MB
/// of coloured listings in events of 4–32 KiB are written at 320 MB/s, JSON and
/// SHA-256 included, and stored in 12 %. Level 3 compresses such output worse
/// (14 %) at two thirds of the speed, level -1 stores 18 %.
pub const LEVEL: i32 = 1;

/// An open chunk: takes events, can be read up to the last flush, and becomes a
/// [`SealedChunk`] when finished.
pub struct ChunkWriter<W: Write> {
    header: Header,
    encoder: Encoder<'static, Hashing<W>>,
    line: Vec<u8>,
    lines: u64,
    uncompressed_bytes: u64,
    events: Option<Span>,
    broken: bool,
}

/// First and last event of a chunk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) first_time: Timestamp,
    pub(super) last_time: Timestamp,
}

impl Span {
    /// Of one event.
    pub(super) fn of(seq: u64, time: Timestamp) -> Self {
        Self {
            first_seq: seq,
            last_seq: seq,
            first_time: time,
            last_time: time,
        }
    }
}

/// A chunk that never changes again.
#[derive(Clone, Debug, PartialEq)]
pub struct SealedChunk {
    /// Its header.
    pub header: Header,
    /// In which form it is stored.
    pub form: Form,
    /// Digest of the chunk as stored.
    pub sha256: Digest,
    /// Size as stored.
    pub bytes: u64,
    /// Size of the JSON Lines, header included.
    pub uncompressed_bytes: u64,
    /// Sequence number of its first event.
    pub first_seq: u64,
    /// Sequence number of its last event.
    pub last_seq: u64,
    /// Time of its first event.
    pub first_time: Timestamp,
    /// Time of its last event.
    pub last_time: Timestamp,
}

/// What could be read of a torn chunk, as an open chunk to go on with.
pub struct Recovered<W: Write> {
    /// Holds every good event; `last_seq` tells how far they reach.
    pub writer: ChunkWriter<W>,
    /// What ended the good part; `None` when the torn chunk was whole.
    pub damage: Option<ChunkError>,
}

impl<W: Write> ChunkWriter<W> {
    /// Begins a chunk in `to`, which has to be empty.
    pub fn new(to: W, header: Header) -> Result<Self, ChunkError> {
        let mut encoder = Encoder::new(Hashing::new(to), LEVEL)?;
        encoder.include_checksum(true)?;
        let mut writer = Self {
            header,
            encoder,
            line: Vec::new(),
            lines: 0,
            uncompressed_bytes: 0,
            events: None,
            broken: false,
        };
        serde_json::to_writer(&mut writer.line, &writer.header).map_err(ChunkError::Json)?;
        writer.write_line()?;
        Ok(writer)
    }

    /// Copies the good events of `torn` (a chunk cut off by a crash) into a new
    /// chunk in `to`, up to but without the event `until`. Fails when not even
    /// the header can be read.
    pub fn recover(torn: impl Read, to: W, until: Option<u64>) -> Result<Recovered<W>, ChunkError> {
        let reader = ChunkReader::new(torn)?;
        let mut writer = Self::new(to, reader.header().clone())?;
        for record in reader {
            let record = match record {
                Ok(record) => record,
                Err(damage) => {
                    let damage = Some(damage);
                    return Ok(Recovered { writer, damage });
                }
            };
            if until.is_some_and(|until| record.seq >= until) {
                break;
            }
            if let Some(damage) = writer.out_of_sequence(record.seq) {
                let damage = Some(damage);
                return Ok(Recovered { writer, damage });
            }
            writer.line.clear();
            writer.line.extend_from_slice(record.line.as_bytes());
            writer.write_line()?;
            writer.count(record.seq, record.time);
        }
        Ok(Recovered {
            writer,
            damage: None,
        })
    }

    /// Appends an event. Its `seq` has to follow the one before, or be the
    /// header's `first_seq`. [`ChunkError::Io`] breaks the chunk; after any
    /// other error it goes on as if the event had not been offered.
    pub fn append(&mut self, event: &Event) -> Result<(), ChunkError> {
        if let Some(error) = self.out_of_sequence(event.seq) {
            return Err(error);
        }
        self.line.clear();
        serde_json::to_writer(&mut self.line, event).map_err(ChunkError::Json)?;
        self.write_line()?;
        self.count(event.seq, event.time);
        Ok(())
    }

    /// Makes all that was appended readable from `to`, and flushes `to`.
    pub fn flush(&mut self) -> Result<(), ChunkError> {
        self.guard(|encoder| encoder.flush())
    }

    /// Seals the chunk: nothing is appended any more. Fails without events.
    pub fn finish(mut self) -> Result<(SealedChunk, W), ChunkError> {
        let span = self.events.ok_or(ChunkError::NoEvents)?;
        self.flush()?;
        let Hashing { to, hasher, bytes } = self.encoder.finish()?;
        let chunk = SealedChunk {
            header: self.header,
            form: Form::Clear,
            sha256: hasher.finish(),
            bytes,
            uncompressed_bytes: self.uncompressed_bytes,
            first_seq: span.first_seq,
            last_seq: span.last_seq,
            first_time: span.first_time,
            last_time: span.last_time,
        };
        Ok((chunk, to))
    }

    /// The chunk's first line.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What the chunk is written to.
    pub fn get_ref(&self) -> &W {
        &self.encoder.get_ref().to
    }

    /// The same, for what does not touch the bytes: a sync, a count.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.encoder.get_mut().to
    }

    /// JSON Lines bytes so far, header included.
    pub fn uncompressed_bytes(&self) -> u64 {
        self.uncompressed_bytes
    }

    /// Bytes written to `to` so far; what the encoder still holds comes on top.
    pub fn compressed_bytes(&self) -> u64 {
        self.encoder.get_ref().bytes
    }

    /// Sequence number of the first event.
    pub fn first_seq(&self) -> Option<u64> {
        self.events.map(|span| span.first_seq)
    }

    /// Sequence number of the last event.
    pub fn last_seq(&self) -> Option<u64> {
        self.events.map(|span| span.last_seq)
    }

    /// Time of the first event.
    pub fn first_time(&self) -> Option<Timestamp> {
        self.events.map(|span| span.first_time)
    }

    /// Time of the last event.
    pub fn last_time(&self) -> Option<Timestamp> {
        self.events.map(|span| span.last_time)
    }

    /// Sequence number of the next event.
    pub fn next_seq(&self) -> u64 {
        self.events.map_or(self.header.first_seq, |span| {
            span.last_seq.saturating_add(1)
        })
    }

    fn out_of_sequence(&self, found: u64) -> Option<ChunkError> {
        let expected = self.next_seq();
        (found != expected).then_some(ChunkError::Sequence { expected, found })
    }

    fn count(&mut self, seq: u64, time: Timestamp) {
        let span = self.events.get_or_insert(Span::of(seq, time));
        (span.last_seq, span.last_time) = (seq, time);
    }

    fn write_line(&mut self) -> Result<(), ChunkError> {
        if self.line.len() > MAX_LINE_BYTES {
            let line = self.lines + 1;
            return Err(ChunkError::LongLine { line });
        }
        self.line.push(b'\n');
        let length = self.line.len() as u64;
        if self.uncompressed_bytes + length > MAX_CHUNK_BYTES {
            return Err(ChunkError::TooLarge);
        }
        let line = std::mem::take(&mut self.line);
        let written = self.guard(|encoder| encoder.write_all(&line));
        self.line = line;
        written?;
        self.uncompressed_bytes += length;
        self.lines += 1;
        Ok(())
    }

    /// A failed write leaves half a line in the encoder: the chunk is broken.
    fn guard(
        &mut self,
        write: impl FnOnce(&mut Encoder<'static, Hashing<W>>) -> io::Result<()>,
    ) -> Result<(), ChunkError> {
        if self.broken {
            return Err(ChunkError::Broken);
        }
        write(&mut self.encoder).map_err(|error| {
            self.broken = true;
            ChunkError::Io(error)
        })
    }
}

/// Passes bytes on, hashing and counting them.
struct Hashing<W> {
    to: W,
    hasher: Hasher,
    bytes: u64,
}

impl<W> Hashing<W> {
    fn new(to: W) -> Self {
        Self {
            to,
            hasher: Hasher::default(),
            bytes: 0,
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.to.write(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
