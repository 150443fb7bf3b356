//! Lines of plain text that scroll by: what they do to a screen is known without
//! drawing them.
//!
//! Most of a long recording is the output of programs that print line after
//! line. Such a line fills rows from the bottom of the screen, and rows leave at
//! its top as they came. Of a run of them that is longer than two screens only
//! the beginning and the end need an emulator: the beginning pushes out what was
//! there before, the end is what stays. In between there is nothing to draw.

use avt::observer::Transcript;
use avt::parser::{AnsiMode, DecMode, Function};
use avt::{Charset, Line, Observation, Observer, Operation};

/// A tab stop every so many columns, until a program sets others.
const TAB: usize = 8;

/// A run that saves fewer lines than this is not worth its bookkeeping.
const WORTH_LINES: usize = 16;

/// A line of plain text, `\r\n` at its end.
#[derive(Clone, Copy, Debug)]
struct Plain {
    /// Where it ends in its text.
    end: usize,
    /// Rows that it fills.
    rows: usize,
    /// Characters that are printed.
    printed: usize,
    /// It changes colours.
    coloured: bool,
}

/// A run of plain lines, cut into what is drawn and what is not: byte positions
/// in the text it was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// It begins here: the emulator may stand anywhere in a line.
    pub start: usize,
    /// From here on lines are whole.
    pub whole: usize,
    /// Characters that are printed between `whole` and `head`.
    pub printed: usize,
    /// Up to here everything is drawn: all of the screen is of this run then.
    pub head: usize,
    /// The first line of which a row is still on the screen at `head`.
    pub on_screen: usize,
    /// From here on everything is drawn again.
    pub tail: usize,
    /// It ends here.
    pub end: usize,
    /// Lines between `head` and `tail` change colours.
    pub coloured: bool,
}

/// The first run behind `from` that is worth it, and how far the text was looked
/// at for it.
pub(super) fn next_run(
    text: &str,
    from: usize,
    columns: usize,
    rows: usize,
) -> (Option<Run>, usize) {
    let mut lines = Vec::new();
    let (mut start, mut at) = (from, from);
    for line in text.get(from..).unwrap_or_default().split_inclusive('\n') {
        at += line.len();
        if let Some(plain) = measure(line, columns) {
            lines.push(Plain { end: at, ..plain });
            continue;
        }
        if let Some(run) = cut(start, &lines, rows) {
            return (Some(run), at);
        }
        lines.clear();
        start = at;
    }
    (cut(start, &lines, rows), at)
}

fn cut(start: usize, lines: &[Plain], rows: usize) -> Option<Run> {
    let whole = lines.first()?.end;
    let first_end = |index: usize| match index.checked_sub(1) {
        Some(before) => lines.get(before).map_or(start, |line| line.end),
        None => start,
    };
    // The first line may continue one that was there before.
    let (mut head, mut filled, mut printed) = (1, 0, 0);
    while filled < 2 * rows || printed == 0 {
        let line = lines.get(head)?;
        (filled, printed) = (filled + line.rows, printed + line.printed);
        head += 1;
    }
    let behind = |end: usize, least: usize| {
        let (mut first, mut filled) = (end, 0);
        while filled < least {
            first = usize::checked_sub(first, 1)?;
            filled += lines.get(first)?.rows;
        }
        Some(first)
    };
    // The cursor's row is empty; the others are the last ones of the head.
    let on_screen = behind(head, rows - 1)?;
    // One more, so that the row on which the tail begins is gone as well: its
    // blanks may have the colour of the head.
    let tail = behind(lines.len(), rows).filter(|tail| *tail >= head + WORTH_LINES)?;
    Some(Run {
        start,
        whole,
        printed,
        head: first_end(head),
        on_screen: first_end(on_screen),
        tail: first_end(tail),
        end: first_end(lines.len()),
        coloured: lines.get(head..tail)?.iter().any(|line| line.coloured),
    })
}

/// What a plain line is made of.
enum Part<'a> {
    /// Characters that certainly take one column each, and show.
    Text(&'a str),
    Tab,
    /// A sequence for colours (SGR).
    Colours(&'a str),
}

/// The parts of a line; the iteration ends early, with `None`, where it is not
/// plain.
fn parts(line: &str) -> impl Iterator<Item = Option<Part<'_>>> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let length = match rest.as_bytes().first()? {
            b'\t' => 1,
            0x1b => match colours_length(rest) {
                Some(length) => length,
                None => return Some(None),
            },
            _ => rest.find(['\t', '\u{1b}']).unwrap_or(rest.len()),
        };
        let (part, behind) = rest.split_at_checked(length)?;
        rest = behind;
        Some(match part.as_bytes().first()? {
            b'\t' => Some(Part::Tab),
            0x1b => Some(Part::Colours(part)),
            _ => are_narrow(part).then_some(Part::Text(part)),
        })
    })
}

fn colours_length(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let length = parameters.find(|char| !matches!(char, '0'..='9' | ';' | ':'))?;
    let end = parameters.get(length..)?;
    end.starts_with('m').then_some("\u{1b}[".len() + length + 1)
}

/// ASCII, Latin, Cyrillic, common punctuation, box drawing, and the character for
/// bytes that are none.
fn are_narrow(text: &str) -> bool {
    is_ascii(text)
        || text.chars().all(|char| {
            matches!(char,
                ' '..='~'
                | '\u{a1}'..='\u{ac}'
                | '\u{ae}'..='\u{2ff}'
                | '\u{400}'..='\u{482}'
                | '\u{2010}'..='\u{2027}'
                | '\u{2500}'..='\u{257f}'
                | '\u{fffd}')
        })
}

/// Without a branch for each byte: this sees every byte of a recording.
fn is_ascii(text: &str) -> bool {
    text.bytes()
        .fold(true, |all, byte| all & matches!(byte, b' '..=b'~'))
}

/// A line that only prints: characters, tabs, colours, and the end of the line.
fn measure(line: &str, columns: usize) -> Option<Plain> {
    let line = line.strip_suffix("\r\n")?.trim_end_matches('\r');
    let mut plain = Plain {
        end: 0,
        rows: 1,
        printed: 0,
        coloured: false,
    };
    let mut column = 0;
    for part in parts(line) {
        match part? {
            Part::Text(text) => {
                let count = if is_ascii(text) {
                    text.len()
                } else {
                    text.chars().count()
                };
                plain.printed += count;
                plain.rows += (column + count - 1) / columns;
                column = behind(column, count, columns);
            }
            // Where no stop is left it goes to the last column, and stays.
            Part::Tab => column = next_stop(column, columns)?,
            Part::Colours(_) => plain.coloured = true,
        }
    }
    Some(plain)
}

/// The column behind `count` characters. A full row is left by the next character.
fn behind(column: usize, count: usize, columns: usize) -> usize {
    match (column + count) % columns {
        0 => columns,
        column => column,
    }
}

fn next_stop(column: usize, columns: usize) -> Option<usize> {
    let stop = (column / TAB + 1) * TAB;
    (stop < columns).then_some(stop)
}

/// What a line of a run shows, as a transcript has it.
pub(super) fn shown(line: &str, columns: usize) -> String {
    let line = line.trim_ascii_end();
    if is_ascii(line) {
        return line.to_owned();
    }
    let mut shown = String::with_capacity(line.len() + 4 * TAB);
    let mut column = 0;
    for part in parts(line).flatten() {
        match part {
            Part::Text(text) => {
                shown.push_str(text);
                column = behind(column, text.chars().count(), columns);
            }
            Part::Tab => {
                let stop = next_stop(column, columns).unwrap_or(column);
                shown.extend(std::iter::repeat_n(' ', stop - column));
                column = stop;
            }
            Part::Colours(_) => {}
        }
    }
    shown.truncate(shown.trim_end().len());
    shown
}

/// The sequences for colours in lines of a run.
pub(super) fn colours(lines: &str) -> String {
    let found = lines.split_inclusive('\n').flat_map(|line| {
        parts(line.trim_end_matches(['\r', '\n'])).filter_map(|part| match part {
            Some(Part::Colours(sequence)) => Some(sequence),
            _ => None,
        })
    });
    found.collect()
}

/// Whether a terminal is in a mode in which lines scroll by as described above.
/// It may be said of one that is that it is not, never the other way round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Modes {
    /// Something is or was as it is hardly ever: wrapping, insertion, tab stops.
    odd: bool,
    /// The scroll region is smaller than the screen.
    region: bool,
    /// What the two sets of characters draw instead of letters.
    drawing: [bool; 2],
    /// The second one is in use.
    shifted: bool,
}

impl Modes {
    pub(super) fn new() -> Self {
        Self {
            odd: false,
            region: false,
            drawing: [false; 2],
            shifted: false,
        }
    }

    pub(super) fn are_ordinary(&self) -> bool {
        let [first, second] = self.drawing;
        let drawing = if self.shifted { second } else { first };
        !self.odd && !self.region && !drawing
    }

    /// Rows that are added or go take the scroll region with them.
    pub(super) fn resize(&mut self) {
        self.region = false;
    }

    fn see(&mut self, function: &Function, rows: usize) {
        match function {
            Function::Ris => *self = Self::new(),
            Function::Decstr => {
                (self.region, self.drawing, self.shifted) = (false, [false; 2], false)
            }
            Function::Decstbm(top, bottom) => {
                let whole = *top <= 1 && (*bottom == 0 || usize::from(*bottom) == rows);
                self.region = !whole;
            }
            Function::Decrst(modes) => self.odd |= modes.as_slice().contains(&DecMode::AutoWrap),
            Function::Sm(modes) => self.odd |= modes.as_slice().contains(&AnsiMode::Insert),
            Function::Gzd4(charset) => self.drawing[0] = *charset != Charset::Ascii,
            Function::G1d4(charset) => self.drawing[1] = *charset != Charset::Ascii,
            Function::So => self.shifted = true,
            Function::Si => self.shifted = false,
            Function::Hts | Function::Tbc(_) | Function::Ctc(_) => self.odd = true,
            _ => {}
        }
    }
}

/// Sees what an emulator does with what it is fed.
pub(super) struct Watch<'a> {
    pub modes: &'a mut Modes,
    pub transcript: Option<&'a mut Transcript>,
    /// So many of the next rows that leave the screen are in the transcript
    /// already.
    pub known_rows: usize,
    /// Characters that were printed.
    pub printed: &'a mut usize,
}

impl Observer for Watch<'_> {
    type Output = Vec<String>;

    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        match operation {
            Operation::Function(Function::Print(_)) => *self.printed += 1,
            Operation::Function(function) => self.modes.see(function, context.terminal().size().1),
            Operation::Resize { .. } => self.modes.resize(),
        }
        if let Some(transcript) = &mut self.transcript {
            transcript.before(context, operation);
        }
    }

    fn evicted(&mut self, context: &mut Observation<'_>, line: &Line) {
        match (&mut self.transcript, self.known_rows) {
            (Some(transcript), 0) => transcript.evicted(context, line),
            _ => self.known_rows = self.known_rows.saturating_sub(1),
        }
    }

    fn end(&mut self, context: &mut Observation<'_>) -> Self::Output {
        match &mut self.transcript {
            Some(transcript) => transcript.end(context),
            None => Vec::new(),
        }
    }
}
