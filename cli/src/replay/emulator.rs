//! The terminal emulator between a recording and the viewer's terminal.
//!
//! Recorded bytes end here: they change cells of a virtual screen, and only the
//! cells are painted. What a recording asks of a terminal beside that (titles,
//! the clipboard, reports) has no effect and no answer.

use avt::{Cell, Line, Terminal, observer::Transcript};

use crate::sanitise;

/// Widest screen that is emulated. The kernel would take 65535; a screen has
/// hardly 700 columns, and this bound keeps a hostile resize below 20 MB.
pub const MAX_COLUMNS: u16 = 1000;
/// Highest screen that is emulated.
pub const MAX_ROWS: u16 = 500;
/// What a terminal has until it says its size.
pub const DEFAULT_SIZE: Size = Size {
    columns: 80,
    rows: 24,
};

/// Size of a screen in character cells, never zero, never more than
/// [`MAX_COLUMNS`] by [`MAX_ROWS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Width.
    pub columns: u16,
    /// Height.
    pub rows: u16,
}

impl Size {
    /// The nearest size that is emulated. A size of zero means that the
    /// recorded terminal did not know its size.
    pub fn clamped(columns: u16, rows: u16) -> Self {
        let or = |value: u16, default: u16, max: u16| match value {
            0 => default,
            value => value.min(max),
        };
        Self {
            columns: or(columns, DEFAULT_SIZE.columns, MAX_COLUMNS),
            rows: or(rows, DEFAULT_SIZE.rows, MAX_ROWS),
        }
    }
}

/// A virtual terminal that is fed with recorded bytes.
pub struct Emulator {
    terminal: Terminal,
    bytes: sanitise::Emulated,
    transcript: Option<Transcript>,
    lines: Vec<String>,
}

/// An emulator's state, from which it can go on.
#[derive(Clone, Debug)]
pub struct Snapshot {
    size: Size,
    dump: String,
    bytes: sanitise::Emulated,
}

impl Snapshot {
    /// What it holds in memory, bytes.
    pub fn len(&self) -> usize {
        self.dump.len()
    }
}

impl Emulator {
    /// An empty screen.
    pub fn new(size: Size) -> Self {
        Self {
            terminal: terminal(size),
            bytes: sanitise::Emulated::default(),
            transcript: None,
            lines: Vec::new(),
        }
    }

    /// An empty screen that keeps the lines that scroll off it, for
    /// [`Emulator::take_lines`].
    pub fn with_transcript(size: Size) -> Self {
        Self {
            transcript: Some(Transcript::new()),
            ..Self::new(size)
        }
    }

    /// Bytes of the recording.
    pub fn feed(&mut self, bytes: &[u8]) {
        let text = self.bytes.text(bytes);
        match &mut self.transcript {
            Some(transcript) => {
                let lines = self.terminal.feed_with(text.as_str(), transcript);
                self.lines.extend(lines);
            }
            None => self.terminal.feed(text.as_str()),
        }
    }

    /// The recorded terminal changed its size.
    pub fn resize(&mut self, size: Size) {
        let (columns, rows) = (usize::from(size.columns), usize::from(size.rows));
        match &mut self.transcript {
            Some(transcript) => {
                let lines = self.terminal.resize_with(columns, rows, transcript);
                self.lines.extend(lines);
            }
            None => self.terminal.resize(columns, rows),
        }
    }

    /// Lines that scrolled off since the last call, sanitised.
    pub fn take_lines(&mut self) -> Vec<String> {
        let lines = std::mem::take(&mut self.lines);
        lines.iter().map(|line| sanitise::line(line)).collect()
    }

    /// What is left when nothing more comes: the last lines of the transcript,
    /// sanitised, and the alternate screen where it is still shown.
    pub fn finish(mut self) -> Vec<String> {
        let mut lines = self.take_lines();
        if let Some(transcript) = self.transcript.take() {
            let rest = transcript.finish(&self.terminal);
            lines.extend(rest.iter().map(|line| sanitise::line(line)));
        }
        if self.terminal.active_screen_kind() == avt::ScreenKind::Alternate {
            lines.extend(self.screen_text());
        }
        lines
    }

    /// The screen as sanitised lines, without the blank ones at its end.
    pub fn screen_text(&self) -> Vec<String> {
        let rows = self.terminal.screen().visible_lines();
        let mut lines: Vec<String> = rows
            .map(|row| sanitise::line(row.text().trim_end()))
            .collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }

    /// The size of the screen.
    pub fn size(&self) -> Size {
        let (columns, rows) = self.terminal.size();
        Size {
            columns: u16::try_from(columns).unwrap_or(MAX_COLUMNS),
            rows: u16::try_from(rows).unwrap_or(MAX_ROWS),
        }
    }

    /// The cells of every row, top to bottom.
    pub fn rows(&self) -> impl Iterator<Item = &[Cell]> {
        self.terminal.screen().visible_lines().map(Line::cells)
    }

    /// Column and row of the cursor.
    pub fn cursor(&self) -> (u16, u16) {
        let at = self.terminal.cursor_position();
        let size = self.size();
        (
            u16::try_from(at.col)
                .unwrap_or(u16::MAX)
                .min(size.columns.saturating_sub(1)),
            u16::try_from(at.row).unwrap_or(0),
        )
    }

    /// Whether the cursor is shown.
    pub fn cursor_visible(&self) -> bool {
        self.terminal.cursor().position().is_some()
    }

    /// The state, to go on from later. Lines of a transcript are not in it.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            size: self.size(),
            dump: self.terminal.dump(),
            bytes: self.bytes.clone(),
        }
    }

    /// The emulator a snapshot was taken of.
    pub fn restore(snapshot: &Snapshot) -> Self {
        let mut emulator = Self::new(snapshot.size);
        emulator.terminal.feed(snapshot.dump.as_str());
        emulator.bytes = snapshot.bytes.clone();
        emulator
    }
}

/// No scrollback: what scrolled off is in the transcript or nowhere.
#[expect(clippy::expect_used, reason = "a size of zero is all that is refused")]
fn terminal(size: Size) -> Terminal {
    let (columns, rows) = (size.columns.max(1), size.rows.max(1));
    Terminal::new(columns.into(), rows.into()).expect("both are positive")
}

#[cfg(test)]
mod tests {
    use super::{Emulator, MAX_COLUMNS, MAX_ROWS, Size};

    const SIZE: Size = Size {
        columns: 20,
        rows: 3,
    };

    #[test]
    fn hostile_sizes_are_clamped() {
        let huge = Size::clamped(u16::MAX, u16::MAX);
        assert_eq!((huge.columns, huge.rows), (MAX_COLUMNS, MAX_ROWS));
        assert_eq!(Size::clamped(0, 0), super::DEFAULT_SIZE);
        let mut emulator = Emulator::new(SIZE);
        emulator.resize(huge);
        emulator.feed(b"\x1b[65535;65535Hx\x1b[65535b\x1b[65535L\x1b[65535@");
        assert_eq!(emulator.size(), huge);
    }

    #[test]
    fn what_a_recording_asks_of_the_terminal_has_no_effect() {
        let mut emulator = Emulator::new(SIZE);
        emulator.feed(b"\x1b]0;title\x07a\x1b]52;c;aGk=\x07b\x1bP$qm\x1b\\c\x1b[6n\x7f");
        assert_eq!(emulator.screen_text(), ["abc\\x7f"]);
    }

    #[test]
    fn a_transcript_keeps_what_scrolled_off() {
        let mut emulator = Emulator::with_transcript(SIZE);
        emulator.feed(b"one\r\ntwo\r\nthree\r\nfour\r\nfive");
        assert_eq!(emulator.finish(), ["one", "two", "three", "four", "five"]);
    }

    #[test]
    fn a_snapshot_goes_on_where_it_was_taken() {
        let mut emulator = Emulator::new(SIZE);
        emulator.feed(b"\x1b[31mred \x1b[1mbold\r\n\xe7\x95");
        let mut restored = Emulator::restore(&emulator.snapshot());
        for emulator in [&mut emulator, &mut restored] {
            emulator.feed(b"\x8c\x1b[2;4Hx");
        }
        assert!(emulator.rows().eq(restored.rows()));
        assert_eq!(restored.screen_text(), ["red bold", "界 x"]);
    }
}
