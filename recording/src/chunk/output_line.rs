//! Reading the lines that make up nearly all of a long recording.
//!
//! [`Event`] is read by way of a copy of all its fields, because its kind stands
//! beside them and not in front. For output that copy costs more than everything
//! else together.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

use crate::bytes::Bytes;
use crate::event::{Body, Event, Output, Stream};

/// Where the writer puts the kind, at most this far from the beginning.
const KIND_WITHIN: usize = 128;
const KIND: &str = r#""kind":"output""#;

#[derive(Deserialize)]
struct Line<'a> {
    seq: u64,
    time: Timestamp,
    boot_ns: u64,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    stream: Stream,
    terminal: Option<u32>,
    offset: u64,
    text: Option<String>,
    base64: Option<Cow<'a, str>>,
    omitted_bytes: Option<u64>,
}

/// The event on an ordinary line of output; `None` says nothing about the line.
pub(super) fn parse(line: &str) -> Option<Event> {
    let beginning = line.as_bytes().get(..KIND_WITHIN.min(line.len()))?;
    let mut windows = beginning.windows(KIND.len());
    if !windows.any(|window| window == KIND.as_bytes()) {
        return None;
    }
    let line: Line<'_> = serde_json::from_str(line).ok()?;
    if line.kind != "output" {
        return None;
    }
    Some(Event {
        seq: line.seq,
        time: line.time,
        boot_ns: line.boot_ns,
        body: Body::Output(Output {
            stream: line.stream,
            terminal: line.terminal,
            offset: line.offset,
            data: Bytes::from_fields(line.text, line.base64.as_deref()).ok()?,
            omitted_bytes: line.omitted_bytes,
        }),
    })
}

#[cfg(test)]
mod tests {
    use crate::event::Event;

    #[test]
    fn a_line_of_output_reads_as_any_event_does() {
        for line in [
            r#"{"seq":7,"time":"2026-01-31T12:00:00Z","boot_ns":5,"kind":"output","stream":"terminal","terminal":0,"offset":9,"text":"a\u001b[m\r\n\"ü"}"#,
            r#"{"seq":7,"time":"2026-01-31T12:00:00Z","boot_ns":5,"kind":"output","stream":"stdout","offset":0,"text":"caf\ufffd","base64":"Y2Fm6Q=="}"#,
            r#"{"seq":7,"time":"2026-01-31T12:00:00Z","boot_ns":5,"kind":"output","stream":"stdout","offset":0,"omitted_bytes":3,"new":{"a":[1]}}"#,
        ] {
            let event = super::parse(line);
            assert_eq!(event, Some(serde_json::from_str::<Event>(line).unwrap()));
        }
    }

    #[test]
    fn any_other_line_is_left_to_the_general_way() {
        for line in [
            r#"{"seq":7,"time":"2026-01-31T12:00:00Z","boot_ns":5,"kind":"output","stream":"stdout","offset":0,"base64":"*"}"#,
            r#"{"seq":7,"time":"2026-01-31T12:00:00Z","boot_ns":5,"kind":"output"}"#,
            r#"{"seq":7,"time":"2026-01-31T12:00:00Z","boot_ns":5,"kind":"marker","message":"\"kind\":\"output\""}"#,
            r#"{"kind":"output""#,
            "",
        ] {
            assert_eq!(super::parse(line), None, "{line}");
        }
    }
}
