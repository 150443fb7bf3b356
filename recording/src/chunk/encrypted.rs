//! Writing a chunk that only its recipients can read.
//!
//! An age file cannot be read before its end, and so cannot be flushed. What is
//! to survive a crash is therefore cut into *pieces*, each a whole small chunk of
//! its own; at the end one chunk is made of everything, and the pieces are thrown
//! away. Until then the lines are here, in memory, compressed.

use std::io::{self, Read as _, Write as _};

use jiff::Timestamp;
use zstd::stream::read::Decoder;
use zstd::stream::write::Encoder;

use super::writer::{LEVEL, Span};
use super::{ChunkError, MAX_CHUNK_BYTES, MAX_LINE_BYTES, SealedChunk};
use crate::digest::Digest;
use crate::encryption::{Recipient, encrypt};
use crate::event::Event;
use crate::format::Header;
use crate::key::Form;

/// Lines are compressed when there are so many bytes of them.
const BLOCK_BYTES: usize = 1 << 20;

/// An event as it will stand in a chunk.
pub struct Line {
    seq: u64,
    time: Timestamp,
    json: Vec<u8>,
}

impl Line {
    /// The line of `event`.
    ///
    /// # Errors
    /// It is too long.
    pub fn new(event: &Event) -> Result<Self, ChunkError> {
        let mut json = serde_json::to_vec(event).map_err(ChunkError::Json)?;
        if json.len() > MAX_LINE_BYTES {
            return Err(ChunkError::LongLine { line: event.seq });
        }
        json.push(b'\n');
        Ok(Self {
            seq: event.seq,
            time: event.time,
            json,
        })
    }
}

/// The events of an open chunk, in memory.
#[derive(Default)]
pub struct EncryptedWriter {
    /// Not compressed yet.
    lines: Vec<u8>,
    /// zstd frames, one after the other.
    frames: Vec<u8>,
    all: Extent,
    /// Of all, what is in no piece yet.
    uncut: Extent,
    /// Where in `frames` that begins.
    cut_at: usize,
}

/// What a chunk or piece reaches over.
#[derive(Clone, Copy, Default)]
struct Extent {
    span: Option<Span>,
    bytes: u64,
}

impl Extent {
    fn add(&mut self, line: &Line) {
        let span = self.span.get_or_insert(Span::of(line.seq, line.time));
        (span.last_seq, span.last_time) = (line.seq, line.time);
        self.bytes += line.json.len() as u64;
    }
}

impl EncryptedWriter {
    /// Whether this line still fits.
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self, line: &Line) -> Result<(), ChunkError> {
        match self.all.bytes + line.json.len() as u64 > MAX_CHUNK_BYTES {
            true => Err(ChunkError::TooLarge),
            false => Ok(()),
        }
    }

    /// Appends a line.
    ///
    /// # Errors
    /// It does not fit: nothing of it is there then.
    pub fn append(&mut self, line: &Line) -> Result<(), ChunkError> {
        self.check(line)?;
        if self.lines.len() + line.json.len() > BLOCK_BYTES {
            self.compress()?;
        }
        self.lines.extend_from_slice(&line.json);
        self.all.add(line);
        self.uncut.add(line);
        Ok(())
    }

    /// What came since the last piece, as a chunk of its own with this header;
    /// `None` when nothing did.
    ///
    /// # Errors
    /// It cannot be compressed or encrypted.
    pub fn piece(
        &mut self,
        header: &Header,
        to: &[Recipient],
    ) -> Result<Option<(SealedChunk, Vec<u8>)>, ChunkError> {
        if self.uncut.span.is_none() {
            return Ok(None);
        }
        self.compress()?;
        let line = header_line(header)?;
        let head = compressed(&line)?;
        let frames = self.frames.get(self.cut_at..).unwrap_or_default();
        let file = encrypt(to, |file| {
            file.write_all(&head)?;
            file.write_all(frames)
        })?;
        let chunk = sealed(header, &line, &self.uncut, &file)?;
        self.uncut = Extent::default();
        self.cut_at = self.frames.len();
        Ok(Some((chunk, file)))
    }

    /// All of it as one chunk with this header.
    ///
    /// # Errors
    /// There is nothing, or it cannot be compressed or encrypted.
    pub fn finish(
        &mut self,
        header: &Header,
        to: &[Recipient],
    ) -> Result<(SealedChunk, Vec<u8>), ChunkError> {
        if self.all.span.is_none() {
            return Err(ChunkError::NoEvents);
        }
        let line = header_line(header)?;
        let file = encrypt(to, |file| {
            // One frame for all compresses better than those of the pieces.
            let mut encoder = Encoder::new(file, LEVEL)?;
            encoder.include_checksum(true)?;
            encoder.write_all(&line)?;
            io::copy(
                &mut Decoder::with_buffer(self.frames.as_slice())?.take(MAX_CHUNK_BYTES),
                &mut encoder,
            )?;
            encoder.write_all(&self.lines)?;
            encoder.finish().map(|_| ())
        })?;
        let chunk = sealed(header, &line, &self.all, &file)?;
        Ok((chunk, file))
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.all.span.is_none()
    }

    /// Whether nothing came since the last piece.
    pub fn is_cut(&self) -> bool {
        self.uncut.span.is_none()
    }

    /// JSON Lines bytes so far.
    pub fn uncompressed_bytes(&self) -> u64 {
        self.all.bytes
    }

    /// Bytes so far, as far as they are compressed: about what will be stored.
    pub fn compressed_bytes(&self) -> u64 {
        self.frames.len() as u64
    }

    /// Sequence number of the first event, and of the first one in no piece yet.
    pub fn first_seqs(&self) -> (Option<u64>, Option<u64>) {
        let first = |extent: &Extent| extent.span.map(|span| span.first_seq);
        (first(&self.all), first(&self.uncut))
    }

    fn compress(&mut self) -> Result<(), ChunkError> {
        if !self.lines.is_empty() {
            self.frames.extend(compressed(&self.lines)?);
            self.lines.clear();
            // What a flood has left is given back.
            self.lines.shrink_to(BLOCK_BYTES);
        }
        Ok(())
    }
}

fn header_line(header: &Header) -> Result<Vec<u8>, ChunkError> {
    let mut line = serde_json::to_vec(header).map_err(ChunkError::Json)?;
    line.push(b'\n');
    Ok(line)
}

/// One zstd frame.
fn compressed(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = Encoder::new(Vec::new(), LEVEL)?;
    encoder.include_checksum(true)?;
    // Little content takes little memory then.
    encoder.set_pledged_src_size(Some(content.len() as u64))?;
    encoder.write_all(content)?;
    encoder.finish()
}

fn sealed(
    header: &Header,
    line: &[u8],
    extent: &Extent,
    file: &[u8],
) -> Result<SealedChunk, ChunkError> {
    let span = extent.span.ok_or(ChunkError::NoEvents)?;
    Ok(SealedChunk {
        form: match header.input {
            true => Form::EncryptedInput,
            false => Form::Encrypted,
        },
        header: header.clone(),
        sha256: Digest::of(file),
        bytes: file.len() as u64,
        uncompressed_bytes: line.len() as u64 + extent.bytes,
        first_seq: span.first_seq,
        last_seq: span.last_seq,
        first_time: span.first_time,
        last_time: span.last_time,
    })
}
