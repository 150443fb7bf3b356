//! Bytes to text where a character may be split between two events.

/// Decodes a byte stream piece by piece: a character split across pieces comes
/// out whole, with the later piece; invalid bytes become U+FFFD.
#[derive(Clone, Debug, Default)]
pub struct Utf8Joiner {
    /// The incomplete character at the end of the last piece; at most 3 bytes.
    tail: Vec<u8>,
}

impl Utf8Joiner {
    /// Decodes the next piece.
    pub fn push(&mut self, piece: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.tail);
        bytes.extend_from_slice(piece);
        let whole = bytes.len() - incomplete_tail(&bytes);
        self.tail = bytes.split_off(whole);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What is left at the end of the stream.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.tail)).into_owned()
    }
}

/// Length of a character that `bytes` begins at its end but does not complete.
fn incomplete_tail(bytes: &[u8]) -> usize {
    for length in 1..=bytes.len().min(3) {
        let tail = bytes.split_at(bytes.len() - length).1;
        match std::str::from_utf8(tail) {
            Err(error) if error.valid_up_to() == 0 && error.error_len().is_none() => return length,
            _ => {}
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::Utf8Joiner;

    #[test]
    fn any_split_gives_the_same_text() {
        let bytes = "aß€😀\u{1b}[0m".as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut joiner = Utf8Joiner::default();
                let mut text = joiner.push(&bytes[..first]);
                text += &joiner.push(&bytes[first..second]);
                text += &joiner.push(&bytes[second..]);
                text += &joiner.finish();
                assert_eq!(text.as_bytes(), bytes, "{first} {second}");
            }
        }
    }

    #[test]
    fn invalid_bytes_are_replaced_and_never_held_back() {
        let mut joiner = Utf8Joiner::default();
        assert_eq!(
            joiner.push(b"a\xffb\x80\x80\x80"),
            "a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}"
        );
        assert_eq!(joiner.push(b"\xe2\x82"), "");
        assert_eq!(joiner.push(b"x"), "\u{fffd}x");
        assert_eq!(joiner.push(b"\xf0\x9f"), "");
        assert_eq!(joiner.finish(), "\u{fffd}");
    }
}
