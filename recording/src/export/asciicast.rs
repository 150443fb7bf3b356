//! What asciicast versions have in common: newline-delimited JSON, a header
//! object and events `[time, code, data]`.
//!
//! The header needs the terminal's size, so it is written with the first event
//! that shows something; sizes before that are the header's, later ones `r`
//! events. Times count from the recording's first event by the boot clock.

use std::collections::BTreeMap;
use std::io::{self, Write};

use jiff::Timestamp;

use super::{Export, Options, Utf8Joiner, gap_label};
use crate::chunk::Record;
use crate::event::{Body, ExitStatus, Input, Output, Resize, Stream};
use crate::session::Session;

/// Size where the recording says none: what players assume as well.
const DEFAULT_SIZE: (u16, u16) = (80, 24);

/// What a header says, whatever its version.
pub(super) struct Header<'a> {
    pub(super) columns: u16,
    pub(super) rows: u16,
    pub(super) timestamp: Timestamp,
    pub(super) title: &'a str,
    pub(super) command: Option<&'a str>,
}

/// What differs between versions.
pub(super) trait Version {
    /// Whether there is an `x` event.
    const HAS_EXIT: bool;

    /// The header object.
    fn header(&self, header: &Header<'_>) -> serde_json::Value;

    /// What to write as time, in microseconds, for an event `elapsed`
    /// microseconds after the beginning.
    fn time(&mut self, elapsed: u64) -> u64;
}

/// Writes an asciicast.
pub(super) struct Asciicast<W, V> {
    to: W,
    options: Options,
    version: V,
    title: String,
    command: String,
    size: (u16, u16),
    begin: Option<(Timestamp, u64)>,
    /// Microseconds since the beginning; never goes back.
    elapsed: u64,
    header_written: bool,
    output: BTreeMap<Stream, Utf8Joiner>,
    input: Utf8Joiner,
    exit: Option<(u64, ExitStatus)>,
}

impl<W: Write, V: Version> Asciicast<W, V> {
    pub(super) fn new(to: W, session: &Session, options: Options, version: V) -> Self {
        let user = &session.login.user;
        Self {
            to,
            options,
            version,
            title: format!("{user}@{} {}", session.host.hostname, session.session_id),
            command: session.command.clone(),
            size: DEFAULT_SIZE,
            begin: None,
            elapsed: 0,
            header_written: false,
            output: BTreeMap::new(),
            input: Utf8Joiner::default(),
            exit: None,
        }
    }

    fn advance(&mut self, record: &Record) {
        let (_, begin) = *self.begin.get_or_insert((record.time, record.boot_ns));
        let elapsed = record.boot_ns.saturating_sub(begin) / 1000;
        self.elapsed = self.elapsed.max(elapsed);
    }

    fn output(&mut self, output: &Output) -> io::Result<()> {
        let text = self
            .output
            .entry(output.stream)
            .or_default()
            .push(&output.data.0);
        if output.stream == Stream::Terminal {
            self.event('o', &text)
        } else {
            // A pipe has no line discipline that returns the carriage.
            self.event('o', &text.replace('\n', "\r\n"))
        }
    }

    fn input(&mut self, input: &Input) -> io::Result<()> {
        if let Some(bytes) = input.masked_bytes {
            self.event('m', &format!("{bytes} bytes of input masked"))?;
        }
        let text = self.input.push(&input.data.0);
        self.event('i', &text)
    }

    fn resize(&mut self, resize: &Resize) -> io::Result<()> {
        let size = (resize.columns, resize.rows);
        if size == self.size || size.0 == 0 || size.1 == 0 {
            return Ok(());
        }
        self.size = size;
        if self.header_written {
            self.event('r', &format!("{}x{}", size.0, size.1))
        } else {
            Ok(())
        }
    }

    fn event(&mut self, code: char, data: &str) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        self.header()?;
        let time = self.version.time(self.elapsed);
        let (seconds, micros) = (time / 1_000_000, time % 1_000_000);
        write!(self.to, "[{seconds}.{micros:06}, \"{code}\", ")?;
        serde_json::to_writer(&mut self.to, data)?;
        self.to.write_all(b"]\n")
    }

    fn header(&mut self) -> io::Result<()> {
        if self.header_written {
            return Ok(());
        }
        self.header_written = true;
        let header = self.version.header(&Header {
            columns: self.size.0,
            rows: self.size.1,
            timestamp: self.begin.map(|(time, _)| time).unwrap_or_default(),
            title: &self.title,
            command: Some(self.command.as_str()).filter(|command| !command.is_empty()),
        });
        serde_json::to_writer(&mut self.to, &header)?;
        self.to.write_all(b"\n")
    }

    fn exit(&mut self) -> io::Result<()> {
        let Some((elapsed, status)) = self.exit else {
            return Ok(());
        };
        // Players take an integer only; 128 + signal is the shell's custom.
        let code = match (status.exit_code, status.signal) {
            (Some(code), _) => u32::from(code),
            (None, Some(signal)) => 128 + u32::from(signal),
            (None, None) => return Ok(()),
        };
        self.elapsed = self.elapsed.max(elapsed);
        self.event('x', &code.to_string())
    }
}

impl<W: Write, V: Version> Export for Asciicast<W, V> {
    fn record(&mut self, record: &Record) -> io::Result<()> {
        let before = self.elapsed;
        self.advance(record);
        let options = self.options;
        match record.event.as_ref().map(|event| &event.body) {
            Some(Body::Output(output)) if options.shows(output.stream, output.terminal) => {
                self.output(output)
            }
            Some(Body::Input(input))
                if options.include_input && options.shows(input.stream, input.terminal) =>
            {
                self.input(input)
            }
            Some(Body::Resize(resize))
                if options.shows(Stream::Terminal, Some(resize.terminal)) =>
            {
                self.resize(resize)
            }
            Some(Body::Gap(gap)) if options.shows_gap(gap) => self.event('m', &gap_label(gap)),
            Some(Body::SessionEnd(end)) => {
                self.exit = Some((self.elapsed, end.status));
                Ok(())
            }
            _ => {
                self.elapsed = before;
                Ok(())
            }
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.header()?;
        for mut joiner in std::mem::take(&mut self.output).into_values() {
            let rest = joiner.finish();
            self.event('o', &rest)?;
        }
        let rest = self.input.finish();
        self.event('i', &rest)?;
        if V::HAS_EXIT {
            self.exit()?;
        }
        self.to.flush()
    }
}
