//! Terminal output to plain text that is safe on any terminal.

/// Longest control string (title, hyperlink, sixel) that is taken for one,
/// characters. Behind it the text shows again: an unfinished sequence must not
/// hide the rest of a session from its reader.
const MAX_SEQUENCE: usize = 4096;

/// Removes escape sequences and control characters, piece by piece. Newline and
/// tab stay. The characters that reverse the writing direction are removed too:
/// they make a line read as what it is not.
#[derive(Clone, Debug, Default)]
pub struct Plain {
    state: State,
    /// Characters of the current sequence so far.
    length: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// In `ESC [ …`, up to a final character.
    Control,
    /// In an OSC, DCS, APC, PM or SOS string, up to its terminator.
    String,
}

impl Plain {
    /// The plain text of the next piece.
    pub fn push(&mut self, piece: &str) -> String {
        let mut plain = String::with_capacity(piece.len());
        for char in piece.chars() {
            if self.shows(char) {
                plain.push(char);
            }
        }
        plain
    }

    fn shows(&mut self, char: char) -> bool {
        self.length += 1;
        if self.length > MAX_SEQUENCE {
            self.enter(State::Ground);
        }
        match (self.state, char) {
            (_, '\u{1b}') => self.enter(State::Escape),
            // CAN and SUB cancel any sequence; BEL and ST end strings.
            (_, '\u{18}' | '\u{1a}' | '\u{9c}') => self.enter(State::Ground),
            (State::String, '\u{7}') => self.enter(State::Ground),
            (State::String, _) => false,
            (_, '\u{9b}') => self.enter(State::Control),
            (_, '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}') => self.enter(State::String),
            (_, '\n' | '\t') => true,
            (_, char) if char.is_control() => false,
            (State::Escape, '[') => self.enter(State::Control),
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => self.enter(State::String),
            (State::Escape, ' '..='/') | (State::Control, ' '..='?') => false,
            (State::Escape | State::Control, '\u{30}'..='\u{7e}') => self.enter(State::Ground),
            (State::Escape | State::Control, char) => {
                self.enter(State::Ground);
                !is_direction(char)
            }
            (State::Ground, char) => {
                self.length = 0;
                !is_direction(char)
            }
        }
    }

    /// The character belongs to a sequence and is not shown.
    fn enter(&mut self, state: State) -> bool {
        (self.state, self.length) = (state, 0);
        false
    }
}

fn is_direction(char: char) -> bool {
    matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::Plain;

    #[test]
    fn sequences_and_controls_go_and_text_stays() {
        for (shown, plain) in [
            ("\u{1b}[1;31mred\u{1b}[0m\r\n", "red\n"),
            ("\u{1b}]0;title\u{7}a\u{1b}]8;;http://x\u{1b}\\b", "ab"),
            ("\u{1b}Pq#0;sixel\u{1b}\\c\u{1b}(Bd\u{1b}=e", "cde"),
            ("\u{9b}31mf\u{9d}2;t\u{9c}g", "fg"),
            ("tab\there\u{8}\u{7}\0\u{7f}", "tab\there"),
            ("\u{1b}[12\u{18}h", "h"),
            ("\u{202e}evil\u{2069}", "evil"),
            ("grün 😀", "grün 😀"),
        ] {
            assert_eq!(Plain::default().push(shown), plain, "{shown:?}");
        }
    }

    #[test]
    fn a_sequence_split_between_pieces_goes_too() {
        let shown = "a\u{1b}[1;31mb\u{1b}]0;t\u{1b}\\c";
        for at in (0..shown.len()).filter(|&at| shown.is_char_boundary(at)) {
            let mut plain = Plain::default();
            assert_eq!(plain.push(&shown[..at]) + &plain.push(&shown[at..]), "abc");
        }
    }

    #[test]
    fn an_endless_sequence_does_not_hide_the_rest() {
        for opening in ["\u{1b}]0;", "\u{1b}P", "\u{1b}["] {
            let shown = format!("{opening}{}rm -rf /", "1".repeat(5000));
            assert!(Plain::default().push(&shown).ends_with("rm -rf /"));
        }
    }

    #[test]
    fn no_character_string_gives_a_control_character() {
        let all: Vec<char> = (0..0x2100).filter_map(char::from_u32).collect();
        for &first in &all {
            let piece: String = [first, '\u{1b}', first, first, 'x', first].iter().collect();
            let plain = Plain::default().push(&piece);
            let harmless = |char: char| !char.is_control() || matches!(char, '\n' | '\t');
            assert!(plain.chars().all(harmless), "{piece:?}");
        }
    }
}
