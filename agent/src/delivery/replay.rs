//! Brings a kept session up to date with events that were written after it.

use auditty_recording::event::{
    Body, EndReason, Event, Gap, GapClass, LinkRelation, PROCESSES_ENDED, Stream,
};

use crate::sessions::sink::{SessionRecord, StreamPosition};

/// Counts `event` in `record`, unless it counts it already.
pub(super) fn replay(record: &mut SessionRecord, event: &Event) {
    if event.seq < record.next_seq {
        return;
    }
    record.next_seq = event.seq.saturating_add(1);
    record.note_time(event);
    record.revision = record.revision.saturating_add(1);
    let session = &mut record.session;
    session.counts.add(&event.body);
    match &event.body {
        Body::Output(output) => {
            let stream = (output.stream, output.terminal, true);
            advance(record, stream, output.offset + output.len());
        }
        Body::Input(input) => {
            let stream = (input.stream, input.terminal, false);
            advance(record, stream, input.offset + input.len());
        }
        Body::Gap(Gap {
            stream: Some(stream),
            terminal,
            offset: Some(offset),
            bytes: Some(bytes),
            class,
            ..
        }) => {
            let stream = (*stream, *terminal, *class != GapClass::Input);
            advance(record, stream, offset.saturating_add(*bytes));
        }
        Body::Login(login) => session.login = login.clone(),
        Body::Grant(grant) => session.grant.clone_from(grant),
        Body::TerminalOpen(terminal) if terminal.terminal == 0 => {
            session.terminal = terminal.name.clone()
        }
        Body::Link(link) if link.relation == LinkRelation::Parent => {
            session.parent_session_id = Some(link.session_id);
        }
        Body::Marker(marker) if marker.marker == PROCESSES_ENDED => {
            session.processes_end_time = Some(event.time);
            session.running_processes = 0;
        }
        Body::SessionEnd(end) => {
            session.end_time = match end.reason {
                // Told by the agent after the reboot.
                EndReason::HostReboot => record.last_time.or(Some(session.start_time)),
                _ => Some(event.time.max(session.start_time)),
            };
            session.end_reason = Some(end.reason);
            session.exit_code = end.status.exit_code;
            session.signal = end.status.signal;
            session.running_processes = end.running_processes;
        }
        _ => {}
    }
}

fn advance(
    record: &mut SessionRecord,
    (stream, terminal, output): (Stream, Option<u32>, bool),
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
            kernel_next: None,
        }),
    }
}
