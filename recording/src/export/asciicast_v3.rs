//! asciicast version 3: <https://docs.asciinema.org/manual/asciicast/v3/>.
//! Times are intervals since the event before; `x` carries the exit status, an
//! integer as a string.

use serde_json::{Value, json};

use super::asciicast::{Header, Version};

/// Version 3.
#[derive(Default)]
pub(super) struct Version3 {
    /// Microseconds since the beginning at the event before.
    previous: u64,
}

impl Version for Version3 {
    const HAS_EXIT: bool = true;

    fn header(&self, header: &Header<'_>) -> Value {
        let mut object = json!({
            "version": 3,
            "term": {"cols": header.columns, "rows": header.rows},
            "timestamp": header.timestamp.as_second(),
            "title": header.title,
        });
        if let (Some(command), Some(map)) = (header.command, object.as_object_mut()) {
            map.insert("command".to_owned(), command.into());
        }
        object
    }

    fn time(&mut self, elapsed: u64) -> u64 {
        let interval = elapsed.saturating_sub(self.previous);
        self.previous = elapsed;
        interval
    }
}
