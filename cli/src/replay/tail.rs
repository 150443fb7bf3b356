//! One terminal as text that goes on, for following a session: what is shown is
//! printed as it comes, without a screen.

use std::collections::VecDeque;
use std::mem;

use auditty_recording::export::{Plain, Utf8Joiner};

use super::plain::noted;
use super::timeline::{Change, Note};
use crate::sanitise;

/// Longest line that is kept whole, bytes: a terminal need not send any line feed.
const MAX_LINE_BYTES: usize = 64 << 10;

/// Changes → sanitised text, cut anywhere.
#[derive(Default)]
pub struct Text {
    characters: Utf8Joiner,
    plain: Plain,
    visible: sanitise::Stream,
    /// Something stands on the last line.
    in_line: bool,
    /// The cursor went back to the begin of the line, and nothing followed.
    returned: bool,
}

impl Text {
    /// The text of the next change.
    pub fn of(&mut self, change: &Change) -> String {
        match change {
            Change::Output(bytes) => {
                let text = self.characters.push(bytes);
                self.output(&text)
            }
            Change::Resize(_) => String::new(),
            Change::Note(note) => self.note(note),
        }
    }

    /// What the end leaves incomplete, and the end of the last line.
    pub fn finish(&mut self) -> String {
        let rest = self.characters.finish();
        let mut text = self.output(&rest);
        if mem::take(&mut self.in_line) {
            text.push('\n');
        }
        text
    }

    fn output(&mut self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        for (place, piece) in text.split('\r').enumerate() {
            self.returned |= place > 0;
            for c in self.plain.push(piece).chars() {
                // What is written over what is there stands below it: both are seen.
                if mem::take(&mut self.returned) && self.in_line && c != '\n' {
                    shown.push('\n');
                }
                self.in_line = c != '\n';
                shown.push(c);
            }
        }
        self.visible.text(shown.as_bytes())
    }

    fn note(&mut self, note: &Note) -> String {
        self.returned = false;
        let before = match mem::take(&mut self.in_line) {
            true => "\n",
            false => "",
        };
        format!("{before}{}", noted(note))
    }
}

/// The last lines of a text.
pub struct LastLines {
    most: usize,
    lines: VecDeque<String>,
    /// The last one, which has no end yet.
    open: String,
}

impl LastLines {
    /// Keeps so many.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            lines: VecDeque::new(),
            open: String::new(),
        }
    }

    /// Takes the next piece.
    pub fn push(&mut self, text: &str) {
        for piece in text.split_inclusive('\n') {
            self.open.push_str(piece);
            if piece.ends_with('\n') || self.open.len() > MAX_LINE_BYTES {
                self.close();
            }
        }
    }

    /// The lines that were kept.
    pub fn finish(mut self) -> String {
        if !self.open.is_empty() {
            self.close();
        }
        self.lines.into_iter().collect()
    }

    fn close(&mut self) {
        self.lines.push_back(mem::take(&mut self.open));
        if self.lines.len() > self.most {
            self.lines.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LastLines, Text};
    use crate::replay::timeline::{Change, Note};

    fn shown(pieces: &[&[u8]]) -> String {
        let mut text = Text::default();
        let pieces = pieces.iter().map(|piece| Change::Output(piece.to_vec()));
        let shown: String = pieces.map(|change| text.of(&change)).collect();
        shown + &text.finish()
    }

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        let hostile = b"\x1b]52;c;aGk=\x07a\x1b[2Jb\x9b31mc\xe2\x80\xaed\xe2\x80\x8be\r\n";
        let text = shown(&[hostile]);
        assert_eq!(text, "ab\u{fffd}31mcd\\u{200b}e\n");
        for at in 0..hostile.len() {
            let (first, second) = hostile.split_at(at);
            assert_eq!(shown(&[first, second]), text, "cut at {at}");
        }
    }

    #[test]
    fn what_is_written_anew_stands_below() {
        let progress: &[&[u8]] = &[b"10%\r", b"20%\x1b[K\r\n", b"\x1b[?2004l\rdone"];
        assert_eq!(shown(progress), "10%\n20%\ndone\n");
    }

    #[test]
    fn a_note_has_a_line_of_its_own() {
        let mut text = Text::default();
        let note = Change::Note(Note::Gap("GAP".into()));
        let shown: String = [Change::Output(b"$ ".to_vec()), note.clone(), note]
            .iter()
            .map(|change| text.of(change))
            .collect();
        assert_eq!(shown, "$ \n[GAP]\n[GAP]\n");
    }

    #[test]
    fn the_last_lines_count_one_without_an_end() {
        let last = |most: usize| {
            let mut last = LastLines::new(most);
            for piece in ["one\ntw", "o\nthree\n", "$ "] {
                last.push(piece);
            }
            last.finish()
        };
        assert_eq!(last(0), "");
        assert_eq!(last(2), "three\n$ ");
        assert_eq!(last(9), "one\ntwo\nthree\n$ ");
    }

    #[test]
    fn a_line_without_an_end_is_bounded() {
        let mut last = LastLines::new(1);
        for _ in 0..100 {
            last.push(&"x".repeat(10_000));
        }
        assert!(last.finish().len() < 100_000);
    }
}
