//! The terminal emulator between a recording and the viewer's terminal.
//!
//! Recorded bytes end here: they change cells of a virtual screen, and only the
//! cells are painted. What a recording asks of a terminal beside that (titles,
//! the clipboard, reports) has no effect and no answer.

use avt::{Cell, Line, Terminal, observer::Transcript};

use super::skim::{self, Modes, Run, Watch};
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
    modes: Modes,
    #[cfg(test)]
    draws_all: bool,
    #[cfg(test)]
    drawn_bytes: usize,
}

/// An emulator's state, from which it can go on.
#[derive(Clone, Debug)]
pub struct Snapshot {
    size: Size,
    dump: String,
    bytes: sanitise::Emulated,
    modes: Modes,
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
            modes: Modes::new(),
            #[cfg(test)]
            draws_all: false,
            #[cfg(test)]
            drawn_bytes: 0,
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

    /// Bytes of the recording. The more at once, the fewer of the lines have to
    /// be drawn that nobody will see.
    pub fn feed(&mut self, bytes: &[u8]) {
        let text = self.bytes.text(bytes);
        #[cfg(test)]
        if self.draws_all {
            self.draw(&text);
            return;
        }
        let size = self.size();
        let (columns, rows) = (usize::from(size.columns), usize::from(size.rows));
        let (mut drawn, mut looked) = (0, 0);
        while looked < text.len() {
            let (run, to) = skim::next_run(&text, looked, columns, rows);
            if let Some(run) = run {
                self.draw(between(&text, drawn, run.start));
                drawn = self.skim(&text, run);
            }
            looked = to;
        }
        self.draw(between(&text, drawn, text.len()));
    }

    /// Draws all of a text; how many characters it printed.
    fn draw(&mut self, text: &str) -> usize {
        self.draw_behind(text, 0)
    }

    /// The same, where the next rows that leave the screen are in the transcript
    /// already.
    fn draw_behind(&mut self, text: &str, known_rows: usize) -> usize {
        #[cfg(test)]
        {
            self.drawn_bytes += text.len();
        }
        let mut printed = 0;
        if !text.is_empty() {
            let watch = Watch {
                modes: &mut self.modes,
                transcript: self.transcript.as_mut(),
                known_rows,
                printed: &mut printed,
            };
            self.lines.extend(self.terminal.feed_with(text, watch));
        }
        printed
    }

    /// Takes a run of plain lines; how far it has got in the text.
    fn skim(&mut self, text: &str, run: Run) -> usize {
        self.draw(between(text, run.start, run.whole));
        let printed = self.draw(between(text, run.whole, run.head));
        // In the middle of a control string nothing is printed.
        if printed != run.printed || !self.scrolls() {
            return run.head;
        }
        let size = self.size();
        if let Some(transcript) = &mut self.transcript {
            // It may hold the beginning of the first line, of which the rest is
            // on the screen.
            *transcript = Transcript::new();
            let skipped = between(text, run.on_screen, run.tail);
            let lines = skipped.split_inclusive('\n');
            let columns = usize::from(size.columns);
            self.lines
                .extend(lines.map(|line| skim::shown(line, columns)));
        }
        if run.coloured {
            self.draw(&skim::colours(between(text, run.head, run.tail)));
        }
        let above = usize::from(size.rows).saturating_sub(1);
        self.draw_behind(between(text, run.tail, run.end), above);
        run.end
    }

    /// Whether a line that comes now pushes out the one at the top.
    fn scrolls(&self) -> bool {
        let last_row = self.size().rows.saturating_sub(1);
        self.modes.are_ordinary()
            && self.cursor() == (0, last_row)
            && self.terminal.active_screen_kind() == avt::ScreenKind::Primary
    }

    /// The recorded terminal changed its size.
    pub fn resize(&mut self, size: Size) {
        let watch = Watch {
            modes: &mut self.modes,
            transcript: self.transcript.as_mut(),
            known_rows: 0,
            printed: &mut 0,
        };
        let (columns, rows) = (usize::from(size.columns), usize::from(size.rows));
        let lines = self.terminal.resize_with(columns, rows, watch);
        self.lines.extend(lines);
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
            modes: self.modes,
        }
    }

    /// The emulator a snapshot was taken of.
    pub fn restore(snapshot: &Snapshot) -> Self {
        let mut emulator = Self::new(snapshot.size);
        emulator.terminal.feed(snapshot.dump.as_str());
        emulator.bytes = snapshot.bytes.clone();
        emulator.modes = snapshot.modes;
        emulator
    }
}

/// A part of a text.
fn between(text: &str, start: usize, end: usize) -> &str {
    text.get(start..end).unwrap_or_default()
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

    /// A generator without state of its own, so that a failure can be repeated.
    fn next(seed: &mut u64) -> usize {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) as usize
    }

    /// A session that mostly prints lines, and now and then does something else.
    fn session(seed: &mut u64, lines: usize) -> Vec<u8> {
        const ODD: &[&str] = &[
            "\x1b[2;9r",
            "\x1b[r",
            "\x1b[1;10r",
            "\x1b[?7l",
            "\x1b[?7h",
            "\x1b(0",
            "\x1b(B",
            "\x0e",
            "\x0f",
            "\x1b[?1049h",
            "\x1b[?1049l",
            "\x1bc",
            "\x1b[!p",
            "\x1b[4h",
            "\x1b[4l",
            "\x1bH",
            "\x1b[3g",
            "\x1b]0;title",
            "\x07",
            "\x1bP",
            "\x1b\\",
            "\x1b[",
            "\x1b[2J",
            "\x1b[H",
            "\x1b[5A",
            "\x1b7",
            "\x1b8",
            "\x1b[44m",
            "\x1b[0m",
            "\x1b[K",
            "\x08",
            "\n",
            "\r",
            "界",
            "e\u{301}",
            "\t\t",
            "\x1b[20h",
            "\x1b[?6h",
        ];
        const PARTS: &[&str] = &[
            "a",
            "word ",
            "\tx",
            "\x1b[1;31m",
            "\x1b[m",
            "\x1b[48:5:20m",
            "ü",
            "┌─",
            " ",
            "~}{",
        ];
        let mut text = String::new();
        for _ in 0..lines {
            if next(seed).is_multiple_of(300) {
                text.push_str(ODD[next(seed) % ODD.len()]);
            }
            for _ in 0..next(seed) % 12 {
                text.push_str(PARTS[next(seed) % PARTS.len()]);
            }
            text.push_str(if next(seed).is_multiple_of(50) {
                "\r\r\n"
            } else {
                "\r\n"
            });
        }
        text.into_bytes()
    }

    #[test]
    fn lines_that_are_not_drawn_change_nothing() {
        let mut undrawn = 0;
        for round in 0..120 {
            let mut seed = round;
            let size = Size {
                columns: [1, 7, 20, 80][next(&mut seed) % 4],
                rows: [1, 2, 5, 24][next(&mut seed) % 4],
            };
            let bytes = session(&mut seed, 2000);
            let piece = [300, 4000, 1 << 20][next(&mut seed) % 3];
            let new = [Emulator::new, Emulator::with_transcript][next(&mut seed) % 2];
            let (mut skimmed, mut drawn) = (new(size), new(size));
            drawn.draws_all = true;
            for piece in bytes.chunks(piece) {
                skimmed.feed(piece);
                drawn.feed(piece);
                if next(&mut seed).is_multiple_of(8) {
                    let columns = [7, 20, 33][next(&mut seed) % 3];
                    let size = Size { columns, ..size };
                    skimmed.resize(size);
                    drawn.resize(size);
                }
                assert_eq!(skimmed.take_lines(), drawn.take_lines(), "round {round}");
                assert_eq!(
                    skimmed.terminal.dump(),
                    drawn.terminal.dump(),
                    "round {round}"
                );
            }
            undrawn += bytes.len() - skimmed.drawn_bytes;
            assert_eq!(skimmed.finish(), drawn.finish(), "round {round}");
        }
        assert!(undrawn > 1 << 18, "{undrawn} bytes were not drawn");
    }
}
