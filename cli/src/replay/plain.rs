//! The replay where there is no terminal to paint on: sanitised text.

use std::collections::VecDeque;
use std::time::Duration;

use super::emulator::{DEFAULT_SIZE, Emulator};
use super::player::Player;
use super::timeline::{self, Change, Note, Timeline};

/// Everything that was on the terminal, line by line as it scrolled by, then
/// what is on the screen at the end. Gaps and marks stand where they happened.
pub fn transcript(timeline: &Timeline, mut print: impl FnMut(&str)) {
    if timeline.is_plain() {
        return pipes(timeline, print);
    }
    let mut emulator = Emulator::with_transcript(DEFAULT_SIZE);
    let mut scroll = Scroll::default();
    let mut frames = timeline.frames().iter().peekable();
    while let Some(frame) = frames.next() {
        match &frame.change {
            Change::Output(bytes) => match timeline::run(bytes, &mut frames, |_| true) {
                Some(run) => emulator.feed(&run),
                None => emulator.feed(bytes),
            },
            Change::Resize(size) => emulator.resize(*size),
            Change::Note(note) => scroll.note(emulator.cursor().1, noted(note)),
        }
        scroll.lines(emulator.take_lines(), &mut print);
    }
    scroll.lines(emulator.finish(), &mut print);
    scroll.rest(&mut print);
}

/// Lines that leave the screen, with each note behind the line on which the
/// cursor stood when it came.
#[derive(Default)]
struct Scroll {
    printed: usize,
    notes: VecDeque<(usize, String)>,
}

impl Scroll {
    fn note(&mut self, cursor_row: u16, text: String) {
        self.notes
            .push_back((self.printed + usize::from(cursor_row), text));
    }

    fn lines(&mut self, lines: Vec<String>, mut print: impl FnMut(&str)) {
        let mut out = String::new();
        for line in lines {
            out.push_str(&line);
            out.push('\n');
            while let Some((_, text)) = self.notes.pop_front_if(|(at, _)| *at <= self.printed) {
                out.push_str(&text);
            }
            self.printed += 1;
        }
        if !out.is_empty() {
            print(&out);
        }
    }

    fn rest(self, mut print: impl FnMut(&str)) {
        for (_, text) in self.notes {
            print(&text);
        }
    }
}

/// The screen as it was at a moment of the replay's clock.
pub fn screen(timeline: &Timeline, at: Duration, mut print: impl FnMut(&str)) {
    let mut player = Player::new(timeline, DEFAULT_SIZE);
    player.seek(at);
    for line in player.emulator().screen_text() {
        print(&format!("{line}\n"));
    }
    if let Some(note) = player.note() {
        print(&noted(note));
    }
}

/// The text of pipes was sanitised when the timeline was built.
fn pipes(timeline: &Timeline, mut print: impl FnMut(&str)) {
    let mut at_line_start = true;
    for frame in timeline.frames() {
        match &frame.change {
            Change::Output(bytes) => {
                let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
                print(&text);
                at_line_start = text.ends_with('\n');
            }
            Change::Resize(_) => {}
            Change::Note(note) => {
                if !at_line_start {
                    print("\n");
                }
                print(&noted(note));
                at_line_start = true;
            }
        }
    }
    if !at_line_start {
        print("\n");
    }
}

/// A note on a line of its own.
pub(super) fn noted(note: &Note) -> String {
    let (Note::Gap(text) | Note::Mark(text)) = note;
    format!("[{text}]\n")
}
