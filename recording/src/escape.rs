//! Percent-encoding for object keys and `file:` URLs.

/// `text` with every byte percent-encoded that is neither an ASCII letter or
/// digit, `.`, `_`, `-`, nor in `also`.
pub(crate) fn percent(text: &str, also: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = char::from(byte);
        if byte.is_ascii_alphanumeric() || "._-".contains(plain) || also.contains(plain) {
            encoded.push(plain);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The reverse of [`percent`]; `None` when an escape is broken or the result is
/// not UTF-8.
pub(crate) fn unpercent(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            (high << 4 | low) as u8
        } else {
            byte
        });
    }
    String::from_utf8(decoded).ok()
}
