//! Writing to the standard output.

use std::io::{self, ErrorKind, Write};

use prost::{Message, Name};

use crate::failure::{Failure, Result};
use crate::sanitise;

/// Writes text to the standard output. A reader that has seen enough, such as
/// `head`, is no error.
///
/// # Errors
/// The standard output cannot be written.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::error(format!("cannot write the output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a message as canonical proto3 JSON.
///
/// # Errors
/// As for [`print`].
pub fn json<M: Message + Name>(message: &M) -> Result<()> {
    let text = auditty_proto::json::to_string_pretty(message).map_err(Failure::error)?;
    print(&(visible_json(&text) + "\n"))
}

/// JSON escapes C0 controls by itself; this escapes everything else that a
/// terminal would act on or hide, in JSON's own way.
pub fn visible_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || sanitise::cell(c) == c {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

/// A line on the standard error, sanitised.
pub fn warn(text: &str) {
    // Without a standard error there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "auditty: {}", sanitise::line(text));
}

#[cfg(test)]
mod tests {
    use super::visible_json;

    #[test]
    fn json_keeps_its_value_and_shows_everything() {
        let value = serde_json::json!({"a": "\u{202e}\u{9b}\u{e0041}\u{1b}ü"});
        let text = visible_json(&format!("{value:#}"));
        assert!(
            !text.contains(['\u{202e}', '\u{9b}', '\u{e0041}', '\u{1b}']),
            "{text}"
        );
        assert!(
            text.contains("\\u202e\\u009b\\udb40\\udc41\\u001bü"),
            "{text}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
    }
}
