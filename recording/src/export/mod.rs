//! Exports: what other tools play and people read. Never the evidence: only a
//! chunk has exact bytes and times.

mod asciicast;
mod asciicast_v2;
mod asciicast_v3;
mod jsonl;
mod plain;
mod text;
mod utf8;

use std::{io, io::Write, str::FromStr};

pub use plain::Plain;
pub use utf8::Utf8Joiner;

use crate::chunk::Record;
use crate::event::{Gap, Stream};
use crate::session::Session;

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// asciicast version 3: asciinema 3, current players.
    AsciicastV3,
    /// asciicast version 2: older asciinema.
    AsciicastV2,
    /// What was shown, as plain text that is safe on a terminal.
    Text,
    /// The event lines as they are stored, without the chunk headers.
    JsonLines,
}

impl Format {
    /// Names as [`FromStr`] takes them, in the order to show.
    pub const NAMES: [&str; 4] = ["asciicast-v3", "asciicast-v2", "text", "jsonl"];
}

/// The name is none of [`Format::NAMES`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no export format; there are {names}", names = Format::NAMES.join(", "))]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "asciicast-v3" => Ok(Self::AsciicastV3),
            "asciicast-v2" => Ok(Self::AsciicastV2),
            "text" => Ok(Self::Text),
            "jsonl" => Ok(Self::JsonLines),
            other => Err(UnknownFormat(other.to_owned())),
        }
    }
}

/// What of a recording to export. JSON Lines are always the whole timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Also what the client sent (asciicast only; text is what was shown).
    pub include_input: bool,
    /// Which terminal; by default the client's own (0), and the pipes of a
    /// session without a terminal.
    pub terminal: Option<u32>,
}

impl Options {
    fn shows(&self, stream: Stream, terminal: Option<u32>) -> bool {
        match stream {
            Stream::Terminal => terminal.unwrap_or(0) == self.terminal.unwrap_or(0),
            Stream::Stdin | Stream::Stdout | Stream::Stderr => self.terminal.is_none(),
        }
    }

    /// A loss without a known place concerns every view.
    fn shows_gap(&self, gap: &Gap) -> bool {
        gap.stream
            .is_none_or(|stream| self.shows(stream, gap.terminal))
    }
}

/// Takes a recording's events in order and writes them in another form.
pub trait Export {
    /// Takes in the next event.
    fn record(&mut self, record: &Record) -> io::Result<()>;

    /// Writes what is left. Nothing may follow.
    fn finish(&mut self) -> io::Result<()>;
}

/// An export of `session` to `to`, to be fed with its events.
pub fn exporter<'a>(
    format: Format,
    to: impl Write + Send + 'a,
    session: &Session,
    options: Options,
) -> Box<dyn Export + Send + 'a> {
    match format {
        Format::AsciicastV3 => {
            let version = asciicast_v3::Version3::default();
            Box::new(asciicast::Asciicast::new(to, session, options, version))
        }
        Format::AsciicastV2 => {
            let version = asciicast_v2::Version2;
            Box::new(asciicast::Asciicast::new(to, session, options, version))
        }
        Format::Text => Box::new(text::Text::new(to, options)),
        Format::JsonLines => Box::new(jsonl::JsonLines::new(to)),
    }
}

/// Exports events that are at hand.
pub fn export<'a>(
    format: Format,
    to: impl Write + Send,
    session: &Session,
    options: Options,
    records: impl IntoIterator<Item = &'a Record>,
) -> io::Result<()> {
    let mut export = exporter(format, to, session, options);
    for record in records {
        export.record(record)?;
    }
    export.finish()
}

/// A declared loss in words.
fn gap_label(gap: &Gap) -> String {
    let name = |value: serde_json::Result<serde_json::Value>| match value {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    };
    let class = name(serde_json::to_value(gap.class));
    let cause = name(serde_json::to_value(gap.cause));
    match (gap.bytes, gap.events) {
        (Some(bytes), _) => format!("gap: {bytes} bytes missing ({class}, {cause})"),
        (None, Some(events)) => format!("gap: {events} events missing ({class}, {cause})"),
        (None, None) => format!("gap: an unknown amount missing ({class}, {cause})"),
    }
}
