//! Brings a kept session up to date with events that were written after it.

use auditty_recording::event::{Body, Event, Stream};

use crate::sessions::sink::{SessionRecord, StreamPosition};

/// Counts `event` in `record`, unless it counts it already.
pub(super) fn replay(record: &mut SessionRecord, event: &Event) {
    if event.seq < record.next_seq {
        return;
    }
    record.next_seq = event.seq.saturating_add(1);
    record.last_boot_ns = record.last_boot_ns.max(event.boot_ns);
    record.revision = record.revision.saturating_add(1);
    let session = &mut record.session;
    let counts = &mut session.counts;
    counts.events += 1;
    match &event.body {
        Body::Exec(_) => counts.commands += 1,
        Body::Output(output) => {
            let bytes = output.data.0.len() as u64;
            counts.output_bytes += bytes;
            advance(
                record,
                output.stream,
                output.terminal,
                true,
                output.offset + bytes,
            );
        }
        Body::Input(input) => {
            let masked = input.masked_bytes.unwrap_or_default();
            let bytes = input.data.0.len() as u64 + masked;
            counts.input_bytes += bytes;
            counts.masked_bytes += masked;
            advance(
                record,
                input.stream,
                input.terminal,
                false,
                input.offset + bytes,
            );
        }
        Body::Gap(gap) => {
            counts.gaps += 1;
            counts.lost_events += gap.events.unwrap_or_default();
            counts.lost_bytes += gap.bytes.unwrap_or_default();
        }
        Body::Login(login) => session.login = login.clone(),
        Body::Grant(grant) => session.grant = grant.clone(),
        Body::TerminalOpen(terminal) if terminal.terminal == 0 => {
            session.terminal = terminal.name.clone()
        }
        Body::SessionEnd(end) => {
            session.end_time = Some(event.time);
            session.end_reason = Some(end.reason);
            session.exit_code = end.status.exit_code;
            session.signal = end.status.signal;
            session.running_processes = end.running_processes;
        }
        Body::TerminalOpen(_)
        | Body::SessionStart(_)
        | Body::Resize(_)
        | Body::Exit(_)
        | Body::Marker(_) => {}
    }
}

fn advance(
    record: &mut SessionRecord,
    stream: Stream,
    terminal: Option<u32>,
    output: bool,
    next_offset: u64,
) {
    let known = record
        .streams
        .iter_mut()
        .find(|known| (known.stream, known.terminal, known.output) == (stream, terminal, output));
    match known {
        Some(known) => known.next_offset = next_offset,
        None => record.streams.push(StreamPosition {
            stream,
            terminal,
            output,
            next_offset,
        }),
    }
}
