//! A bounded zstd decoder that hands out every byte before a damage.
//!
//! The decoders of the `zstd` crate drop what they decoded in the call that
//! then meets the damage; evidence must not be lost that way.

use std::io::Read;

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::{ChunkError, MAX_CHUNK_BYTES, MAX_WINDOW_LOG};

/// Input and output buffer, bytes: zstd's block size, so that a step can always
/// make progress.
const BUFFER_BYTES: usize = 128 << 10;

/// Decompresses one or several concatenated zstd frames.
pub(super) struct Decompress<R> {
    source: R,
    decoder: Decoder<'static>,
    input: Vec<u8>,
    /// The part of `input` not yet decoded.
    pending: std::ops::Range<usize>,
    output: Vec<u8>,
    compressed: u64,
    decompressed: u64,
    /// Inside a frame: an end of the input here is a truncation.
    in_frame: bool,
    /// The decoder may hold decoded bytes that did not fit the output.
    held_back: bool,
}

impl<R: Read> Decompress<R> {
    pub(super) fn new(source: R) -> Result<Self, ChunkError> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
        Ok(Self {
            source,
            decoder,
            input: vec![0; BUFFER_BYTES],
            pending: 0..0,
            output: vec![0; BUFFER_BYTES],
            compressed: 0,
            decompressed: 0,
            in_frame: false,
            held_back: false,
        })
    }

    /// Appends the next piece to `to`. `Ok(false)` is the end; bytes appended
    /// before an error are good.
    pub(super) fn read_into(&mut self, to: &mut Vec<u8>) -> Result<bool, ChunkError> {
        if self.pending.is_empty() && !self.held_back && !self.refill()? {
            return match (self.in_frame, self.compressed) {
                (true, bytes) => Err(ChunkError::Truncated { bytes }),
                (false, 0) => Err(ChunkError::Empty),
                (false, _) => Ok(false),
            };
        }
        let pending = self.input.get(self.pending.clone()).unwrap_or_default();
        let mut input = InBuffer::around(pending);
        let mut output = OutBuffer::around(self.output.as_mut_slice());
        let outcome = self.decoder.run(&mut input, &mut output);
        let (taken, made) = (input.pos(), output.pos());
        self.pending.start += taken;
        self.decompressed += made as u64;
        self.held_back = made == self.output.len();
        to.extend_from_slice(self.output.get(..made).unwrap_or_default());
        match outcome {
            Ok(hint) => self.in_frame = hint != 0,
            Err(error) => {
                return Err(ChunkError::Corrupt {
                    near: self.compressed - self.pending.len() as u64,
                    reason: error.to_string(),
                });
            }
        }
        if self.decompressed > MAX_CHUNK_BYTES {
            return Err(ChunkError::TooLarge);
        }
        Ok(true)
    }

    fn refill(&mut self) -> Result<bool, ChunkError> {
        let count = loop {
            match self.source.read(&mut self.input) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.pending = 0..count;
        self.compressed += count as u64;
        Ok(count > 0)
    }
}
