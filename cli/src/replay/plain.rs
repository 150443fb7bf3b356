//! The replay where there is no terminal to paint on: sanitised text.

use std::time::Duration;

use super::emulator::{DEFAULT_SIZE, Emulator};
use super::player::Player;
use super::timeline::{Change, Note, Timeline};

/// Everything that was on the terminal, line by line as it scrolled by, then
/// what is on the screen at the end. Gaps and marks stand where they happened.
pub fn transcript(timeline: &Timeline, mut print: impl FnMut(&str)) {
    if timeline.is_plain() {
        return pipes(timeline, print);
    }
    let mut emulator = Emulator::with_transcript(DEFAULT_SIZE);
    for frame in timeline.frames() {
        match &frame.change {
            Change::Output(bytes) => emulator.feed(bytes),
            Change::Resize(size) => emulator.resize(*size),
            Change::Note(note) => print(&noted(note)),
        }
        for line in emulator.take_lines() {
            print(&format!("{line}\n"));
        }
    }
    for line in emulator.finish() {
        print(&format!("{line}\n"));
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

fn noted(note: &Note) -> String {
    let (Note::Gap(text) | Note::Mark(text)) = note;
    format!("[{text}]\n")
}
