//! What may reach a viewer's terminal.
//!
//! Every string of a recording and of its metadata was chosen by somebody else:
//! a user name, a hostname, an argument, a server's error message. Printed raw
//! it can move the cursor, set the clipboard, change what the viewer sees above
//! it or make text read in another order than it is stored. Here is the only
//! place that decides: what is not plainly visible becomes an escape that is.
//!
//! | character | printed as |
//! |---|---|
//! | tab, line feed, carriage return | `\t` `\n` `\r` |
//! | other C0 controls and DEL | `\x1b` |
//! | C1 controls, bidi controls, invisible characters | `\u{202e}` |
//! | byte that is not UTF-8 | `\xff` |

use std::fmt::Write as _;

/// What a terminal cell shows in place of a character that must not be painted.
const PLACEHOLDER: char = '\u{fffd}';

/// Longest incomplete UTF-8 sequence that can still become a character.
const LONGEST_PARTIAL: usize = 3;

/// The text on one line: nothing in it moves the cursor or hides.
pub fn line(text: &str) -> String {
    // Most lines are this simple.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push(&mut out, c);
    }
    out
}

/// One character of a terminal cell, one cell wide where it had none.
pub fn cell(c: char) -> char {
    if hidden(c) { PLACEHOLDER } else { c }
}

fn push(out: &mut String, c: char) {
    match c {
        '\t' => out.push_str("\\t"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\0'..='\x1f' | '\x7f' => push_byte(out, u32::from(c)),
        c if hidden(c) => {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
        c => out.push(c),
    }
}

fn push_byte(out: &mut String, byte: u32) {
    let _ = write!(out, "\\x{byte:02x}");
}

/// Characters that act instead of showing: controls (C0, DEL, C1), bidi
/// controls, zero-width and filler characters, line separators, tags,
/// variation selectors, and combining marks of the zalgo blocks are left out
/// because they are writing.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// A byte stream as sanitised text, line feeds kept, cut anywhere: a sequence
/// that a cut splits is put together again.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    partial: Vec<u8>,
    return_pending: bool,
}

impl Stream {
    /// The text of the next bytes. `\r\n` becomes `\n`; tabs and line feeds
    /// stay, everything else is as in [`line`].
    pub fn text(&mut self, bytes: &[u8]) -> String {
        let mut out = String::with_capacity(bytes.len());
        decode(&mut self.partial, bytes, |part| match part {
            Part::Text(text) => {
                for c in text.chars() {
                    push_stream(&mut out, &mut self.return_pending, c);
                }
            }
            Part::Byte(byte) => {
                flush_return(&mut out, &mut self.return_pending);
                push_byte(&mut out, u32::from(byte));
            }
        });
        out
    }

    /// What the end of the stream left incomplete.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        flush_return(&mut out, &mut self.return_pending);
        for byte in std::mem::take(&mut self.partial) {
            push_byte(&mut out, u32::from(byte));
        }
        out
    }
}

fn push_stream(out: &mut String, return_pending: &mut bool, c: char) {
    match c {
        '\r' => {
            flush_return(out, return_pending);
            *return_pending = true;
        }
        '\n' => {
            *return_pending = false;
            out.push('\n');
        }
        c => {
            flush_return(out, return_pending);
            if c == '\t' {
                out.push('\t');
            } else {
                push(out, c);
            }
        }
    }
}

fn flush_return(out: &mut String, return_pending: &mut bool) {
    if std::mem::take(return_pending) {
        out.push_str("\\r");
    }
}

/// A byte stream as the characters a terminal emulator takes: not UTF-8 becomes
/// U+FFFD. **Not** sanitised; it is for emulators only.
#[derive(Clone, Debug, Default)]
pub struct Emulated {
    partial: Vec<u8>,
}

impl Emulated {
    /// The characters of the next bytes.
    pub fn text(&mut self, bytes: &[u8]) -> String {
        let mut out = String::with_capacity(bytes.len());
        decode(&mut self.partial, bytes, |part| match part {
            Part::Text(text) => out.push_str(text),
            Part::Byte(_) => out.push(PLACEHOLDER),
        });
        out
    }
}

enum Part<'a> {
    Text(&'a str),
    Byte(u8),
}

fn decode(partial: &mut Vec<u8>, bytes: &[u8], mut emit: impl FnMut(Part<'_>)) {
    let joined;
    let mut input = bytes;
    if !partial.is_empty() {
        joined = [std::mem::take(partial).as_slice(), bytes].concat();
        input = &joined;
    }
    let mut chunks = input.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        emit(Part::Text(chunk.valid()));
        let invalid = chunk.invalid();
        if chunks.peek().is_none() && may_become_a_character(invalid) {
            *partial = invalid.to_vec();
        } else {
            invalid.iter().for_each(|byte| emit(Part::Byte(*byte)));
        }
    }
}

/// Whether the bytes at the end of the input are the beginning of a character.
fn may_become_a_character(bytes: &[u8]) -> bool {
    bytes.len() <= LONGEST_PARTIAL
        && std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::{Emulated, Stream, cell, line};

    #[test]
    fn escape_sequences_are_spelled_out() {
        assert_eq!(
            line("a\x1b]52;c;aGk=\x07\u{9b}31mb\x7f\n"),
            "a\\x1b]52;c;aGk=\\x07\\u{9b}31mb\\x7f\\n"
        );
    }

    #[test]
    fn bidi_and_invisible_characters_are_spelled_out() {
        assert_eq!(
            line("\u{202e}x\u{2066}\u{200b}\u{feff}\u{e0041}"),
            "\\u{202e}x\\u{2066}\\u{200b}\\u{feff}\\u{e0041}"
        );
    }

    #[test]
    fn writing_stays_as_it_is() {
        assert_eq!(line("grün 界 é \u{1f600} שלום"), "grün 界 é \u{1f600} שלום");
    }

    #[test]
    fn a_cell_never_holds_a_control() {
        assert_eq!(cell('\x7f'), '\u{fffd}');
        assert_eq!(cell('\u{202e}'), '\u{fffd}');
        assert_eq!(cell('x'), 'x');
    }

    #[test]
    fn a_stream_keeps_lines_and_joins_split_characters() {
        let mut stream = Stream::default();
        let mut text = stream.text(b"a\tb\r");
        text += &stream.text(b"\ngr\xc3");
        text += &stream.text(b"\xbcn\r50%\xff\x1b[31m\xe7\x95");
        text += &stream.finish();
        assert_eq!(text, "a\tb\ngrün\\r50%\\xff\\x1b[31m\\xe7\\x95");
    }

    #[test]
    fn an_emulator_gets_whole_characters() {
        let mut emulated = Emulated::default();
        let mut text = emulated.text("界".as_bytes().split_at(1).0);
        text += &emulated.text("界".as_bytes().split_at(1).1);
        text += &emulated.text(b"\xfe");
        assert_eq!(text, "界\u{fffd}");
    }
}
