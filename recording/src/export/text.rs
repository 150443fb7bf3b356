//! Plain text: what was shown, without anything that acts on a terminal.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::{Export, Options, Plain, Utf8Joiner, gap_label};
use crate::chunk::Record;
use crate::event::{Body, Stream};

/// Writes what was shown as text.
pub(super) struct Text<W> {
    to: W,
    options: Options,
    streams: BTreeMap<Stream, (Utf8Joiner, Plain)>,
}

impl<W> Text<W> {
    pub(super) fn new(to: W, options: Options) -> Self {
        Self {
            to,
            options,
            streams: BTreeMap::new(),
        }
    }
}

impl<W: Write> Export for Text<W> {
    fn record(&mut self, record: &Record) -> io::Result<()> {
        match record.event.as_ref().map(|event| &event.body) {
            Some(Body::Output(output)) if self.options.shows(output.stream, output.terminal) => {
                if let Some(bytes) = output.omitted_bytes {
                    return writeln!(self.to, "\n[{bytes} bytes of a file transfer]");
                }
                let (joiner, plain) = self.streams.entry(output.stream).or_default();
                let text = plain.push(&joiner.push(&output.data.0));
                self.to.write_all(text.as_bytes())
            }
            Some(Body::Gap(gap)) if self.options.shows_gap(gap) => {
                writeln!(self.to, "\n[{}]", gap_label(gap))
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        for (joiner, plain) in self.streams.values_mut() {
            self.to.write_all(plain.push(&joiner.finish()).as_bytes())?;
        }
        self.to.flush()
    }
}
