//! asciicast version 2: <https://docs.asciinema.org/manual/asciicast/v2/>.
//! Times are absolute; there is no exit event.

use serde_json::{Value, json};

use super::asciicast::{Header, Version};

/// Version 2.
pub(super) struct Version2;

impl Version for Version2 {
    const HAS_EXIT: bool = false;

    fn header(&self, header: &Header<'_>) -> Value {
        let mut object = json!({
            "version": 2,
            "width": header.columns,
            "height": header.rows,
            "timestamp": header.timestamp.as_second(),
            "title": header.title,
        });
        if let (Some(command), Some(map)) = (header.command, object.as_object_mut()) {
            map.insert("command".to_owned(), command.into());
        }
        object
    }

    fn time(&mut self, elapsed: u64) -> u64 {
        elapsed
    }
}
