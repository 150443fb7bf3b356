//! Paints cells on the viewer's terminal: only those that changed.
//!
//! Everything written here is the painter's own: cursor moves, colours, and
//! characters that [`sanitise::cell`] let through.

use std::io::{self, Write};

use avt::{Cell, Color, Pen};
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::queue;
use crossterm::style::{
    Attribute, Color as Paint, Print, SetAttribute, SetBackgroundColor, SetForegroundColor,
};
use crossterm::terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};

use super::emulator::{Emulator, Size};
use crate::sanitise;

/// What one cell of the viewer's terminal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown {
    char: char,
    /// Cells it covers; 0 for the second half of a wide character.
    width: u8,
    pen: Pen,
}

const BLANK_CHAR: char = ' ';

impl Shown {
    fn blank() -> Self {
        Self::plain(BLANK_CHAR, Pen::default())
    }

    fn plain(char: char, pen: Pen) -> Self {
        Self {
            char,
            width: 1,
            pen,
        }
    }

    fn of(cell: &Cell) -> Self {
        Self {
            char: sanitise::cell(cell.char()),
            width: match cell.width() {
                width @ 0..=1 => width,
                _ => 2,
            },
            pen: *cell.pen(),
        }
    }
}

/// What is to be painted.
pub struct View<'a> {
    /// The recorded screen.
    pub emulator: &'a Emulator,
    /// Column and row of the screen at the window's top left corner.
    pub origin: (u16, u16),
    /// The last line of the window, sanitised.
    pub status: &'a str,
    /// The status line calls for attention.
    pub alert: bool,
}

/// The viewer's terminal as it was painted last.
pub struct Painter<W> {
    out: W,
    window: Size,
    colour: bool,
    shown: Vec<Vec<Shown>>,
    status: Option<(String, bool)>,
}

impl<W: Write> Painter<W> {
    /// Nothing is painted yet.
    pub fn new(out: W, window: Size, colour: bool) -> Self {
        Self {
            out,
            window,
            colour,
            shown: Vec::new(),
            status: None,
        }
    }

    /// The window has another size: all of it is painted again.
    pub fn resize(&mut self, window: Size) {
        self.window = window;
        self.shown.clear();
        self.status = None;
    }

    /// Size of the part of the window that shows the screen: all but the status
    /// line.
    pub fn canvas(&self) -> Size {
        Size {
            columns: self.window.columns.max(1),
            rows: self.window.rows.saturating_sub(1).max(1),
        }
    }

    /// Brings the window up to date.
    ///
    /// # Errors
    /// The terminal could not be written.
    pub fn paint(&mut self, view: &View<'_>) -> io::Result<()> {
        queue!(self.out, BeginSynchronizedUpdate, Hide)?;
        if self.shown.is_empty() {
            queue!(
                self.out,
                SetAttribute(Attribute::Reset),
                Clear(ClearType::All)
            )?;
            let canvas = self.canvas();
            let row = vec![Shown::blank(); usize::from(canvas.columns)];
            self.shown = vec![row; usize::from(canvas.rows)];
        }
        let wanted = self.wanted(view);
        let shown = std::mem::take(&mut self.shown);
        for ((y, old), new) in (0..).zip(&shown).zip(&wanted) {
            if old != new {
                self.paint_row(y, old, new)?;
            }
        }
        self.shown = wanted;
        self.paint_status(view)?;
        self.place_cursor(view)?;
        queue!(self.out, EndSynchronizedUpdate)?;
        self.out.flush()
    }

    fn wanted(&self, view: &View<'_>) -> Vec<Vec<Shown>> {
        let canvas = self.canvas();
        let (left, top) = view.origin;
        let mut rows: Vec<Vec<Shown>> = view
            .emulator
            .rows()
            .skip(usize::from(top))
            .take(usize::from(canvas.rows))
            .map(|cells| crop(cells, usize::from(left), usize::from(canvas.columns)))
            .collect();
        let blank = vec![Shown::blank(); usize::from(canvas.columns)];
        rows.resize(usize::from(canvas.rows), blank);
        rows
    }

    /// Paints from the first to the last cell that differs. Every cell behind a
    /// character whose width terminals disagree about is placed anew.
    fn paint_row(&mut self, y: u16, old: &[Shown], new: &[Shown]) -> io::Result<()> {
        let differs = |x: &usize| old.get(*x) != new.get(*x);
        let (Some(mut first), Some(last)) = (
            (0..new.len()).find(differs),
            (0..new.len()).rev().find(differs),
        ) else {
            return Ok(());
        };
        // Half a wide character cannot be painted.
        while first > 0 && new.get(first).is_some_and(|cell| cell.width == 0) {
            first -= 1;
        }
        let mut placed = false;
        let mut pen = None;
        for (x, cell) in new.iter().enumerate().take(last + 1).skip(first) {
            if cell.width == 0 {
                continue;
            }
            if !placed {
                queue!(self.out, MoveTo(u16::try_from(x).unwrap_or(u16::MAX), y))?;
            }
            if pen != Some(cell.pen) {
                self.set_pen(&cell.pen)?;
                pen = Some(cell.pen);
            }
            queue!(self.out, Print(cell.char))?;
            placed = cell.char.is_ascii();
        }
        queue!(self.out, SetAttribute(Attribute::Reset))
    }

    fn set_pen(&mut self, pen: &Pen) -> io::Result<()> {
        queue!(self.out, SetAttribute(Attribute::Reset))?;
        let attributes = [
            (pen.is_bold(), Attribute::Bold),
            (pen.is_faint(), Attribute::Dim),
            (pen.is_italic(), Attribute::Italic),
            (pen.is_underline(), Attribute::Underlined),
            (pen.is_blink(), Attribute::SlowBlink),
            (pen.is_inverse(), Attribute::Reverse),
            (pen.is_strikethrough(), Attribute::CrossedOut),
        ];
        for (_, attribute) in attributes.into_iter().filter(|(set, _)| *set) {
            queue!(self.out, SetAttribute(attribute))?;
        }
        if !self.colour {
            return Ok(());
        }
        if let Some(colour) = pen.foreground() {
            queue!(self.out, SetForegroundColor(paint(colour)))?;
        }
        if let Some(colour) = pen.background() {
            queue!(self.out, SetBackgroundColor(paint(colour)))?;
        }
        Ok(())
    }

    fn paint_status(&mut self, view: &View<'_>) -> io::Result<()> {
        if self.window.rows < 2 {
            return Ok(());
        }
        let width = usize::from(self.window.columns);
        let mut text: String = view.status.chars().take(width).collect();
        text.extend(std::iter::repeat_n(
            ' ',
            width.saturating_sub(text.chars().count()),
        ));
        let wanted = Some((text, view.alert));
        if self.status != wanted {
            queue!(
                self.out,
                MoveTo(0, self.window.rows - 1),
                SetAttribute(Attribute::Reverse)
            )?;
            if view.alert {
                queue!(self.out, SetAttribute(Attribute::Bold))?;
            }
            if let Some((text, _)) = &wanted {
                queue!(self.out, Print(text))?;
            }
            queue!(self.out, SetAttribute(Attribute::Reset))?;
            self.status = wanted;
        }
        Ok(())
    }

    fn place_cursor(&mut self, view: &View<'_>) -> io::Result<()> {
        let (column, row) = view.emulator.cursor();
        let (left, top) = view.origin;
        let canvas = self.canvas();
        if let (Some(x), Some(y)) = (column.checked_sub(left), row.checked_sub(top))
            && x < canvas.columns
            && y < canvas.rows
            && view.emulator.cursor_visible()
        {
            queue!(self.out, MoveTo(x, y), Show)?;
        }
        Ok(())
    }
}

/// `width` cells of a row from `left` on; a wide character that the edge cuts
/// is left out.
fn crop(cells: &[Cell], left: usize, width: usize) -> Vec<Shown> {
    let mut row: Vec<Shown> = cells.iter().skip(left).take(width).map(Shown::of).collect();
    if let Some(first) = row.first_mut()
        && first.width == 0
    {
        *first = Shown::plain(BLANK_CHAR, first.pen);
    }
    if let Some(last) = row.last_mut()
        && last.width == 2
    {
        *last = Shown::plain(BLANK_CHAR, last.pen);
    }
    row.resize(width, Shown::blank());
    row
}

fn paint(colour: Color) -> Paint {
    match colour {
        Color::Indexed(index) => Paint::AnsiValue(index),
        Color::RGB(rgb) => Paint::Rgb {
            r: rgb.r,
            g: rgb.g,
            b: rgb.b,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{Painter, View};
    use crate::replay::emulator::{Emulator, Size};

    const WINDOW: Size = Size {
        columns: 20,
        rows: 5,
    };

    /// Paints on a virtual terminal instead of a real one: what it shows is
    /// what a viewer sees.
    struct Viewer {
        painter: Painter<Vec<u8>>,
        terminal: Emulator,
    }

    impl Viewer {
        fn new(window: Size) -> Self {
            Self {
                painter: Painter::new(Vec::new(), window, true),
                terminal: Emulator::new(window),
            }
        }

        fn paint(&mut self, emulator: &Emulator, origin: (u16, u16)) -> Vec<u8> {
            let view = View {
                emulator,
                origin,
                status: "status",
                alert: false,
            };
            self.painter.paint(&view).unwrap();
            let written = std::mem::take(&mut self.painter.out);
            self.terminal.feed(&written);
            written
        }
    }

    #[test]
    fn the_viewer_sees_the_recorded_screen() {
        let mut recorded = Emulator::new(Size {
            columns: 20,
            rows: 4,
        });
        let mut viewer = Viewer::new(WINDOW);
        for bytes in [
            "\x1b[31mred\x1b[0m \x1b[1;44mbold\x1b[m\r\n",
            "界界 wide\r\nthree",
            "\x1b[2;2Hx\x1b[3;1H\x1b[K\x1b[38;2;1;2;3mrgb",
            "\x1b[?1049halt\x1b[?25l",
            "\x1b[?1049l",
        ] {
            recorded.feed(bytes.as_bytes());
            viewer.paint(&recorded, (0, 0));
            let seen: Vec<_> = viewer.terminal.rows().take(4).collect();
            assert_eq!(seen, recorded.rows().collect::<Vec<_>>(), "after {bytes:?}");
        }
        assert_eq!(viewer.terminal.screen_text().last().unwrap(), "status");
    }

    #[test]
    fn only_changes_are_painted() {
        let mut recorded = Emulator::new(WINDOW);
        recorded.feed(b"a long line of text");
        let mut viewer = Viewer::new(WINDOW);
        viewer.paint(&recorded, (0, 0));
        recorded.feed(b"\x1b[1;3HX");
        let written = String::from_utf8(viewer.paint(&recorded, (0, 0))).unwrap();
        assert!(
            written.contains('X') && !written.contains("text"),
            "{written:?}"
        );
        assert!(!written.contains("status"), "{written:?}");
    }

    #[test]
    fn a_larger_screen_is_cropped() {
        let mut recorded = Emulator::new(Size {
            columns: 100,
            rows: 50,
        });
        recorded.feed(b"\x1b[40;60Hhere");
        let mut viewer = Viewer::new(WINDOW);
        viewer.paint(&recorded, (0, 0));
        assert!(!viewer.terminal.screen_text().concat().contains("here"));
        viewer.paint(&recorded, (55, 38));
        assert_eq!(viewer.terminal.screen_text()[1], "    here");
    }

    #[test]
    fn nothing_of_the_recording_is_an_escape_sequence() {
        let mut recorded = Emulator::new(WINDOW);
        recorded
            .feed(b"\x1b]52;c;aGk=\x07\x1b]0;t\x07\x7f\xe2\x80\xae\x1bP$qm\x1b\\\x1b[5n\x1b[18t");
        let written = viewer_bytes(&recorded);
        for hostile in ["]52", "]0;", "$q", "\x7f", "\u{202e}", "[5n", "[18t"] {
            assert!(!written.contains(hostile), "{hostile:?} in {written:?}");
        }
    }

    fn viewer_bytes(recorded: &Emulator) -> String {
        String::from_utf8(Viewer::new(WINDOW).paint(recorded, (0, 0))).unwrap()
    }
}
