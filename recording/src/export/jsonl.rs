//! JSON Lines: the event lines as they are stored.

use std::io::{self, Write};

use super::Export;
use crate::chunk::Record;

/// Writes event lines.
pub(super) struct JsonLines<W> {
    to: W,
}

impl<W> JsonLines<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to }
    }
}

impl<W: Write> Export for JsonLines<W> {
    fn record(&mut self, record: &Record) -> io::Result<()> {
        self.to.write_all(record.line.as_bytes())?;
        self.to.write_all(b"\n")
    }

    fn finish(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
