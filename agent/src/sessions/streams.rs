//! The byte streams of a session: offsets, holes, and pieces of readable size.
//!
//! The kernel counts each stream from where it first saw it; the recording
//! counts from the session's first byte. A forward jump of the kernel's offset
//! is a loss of exactly that many bytes. Adjacent pieces are joined within a
//! batch, and the beginning of a UTF-8 character at the end of a piece waits for
//! its rest, so that text stays text. The content of file transfers is counted,
//! not stored: one event a second says how much went by.

use auditty_recording::Bytes;
use auditty_recording::event::{Body, Gap, GapCause, GapClass, Input, Output, Stream};

use super::sink::StreamPosition;
use super::timeline::{Out, Timeline};
use crate::capture::event::Direction;

/// The client's own terminal: sshd serves one per session.
pub(super) const CLIENT_TERMINAL: u32 = 0;

/// Joined pieces stay small enough to seek in and large enough to compress.
const MAX_PIECE: usize = 32 << 10;

/// How long the beginning of a character waits for its rest.
const MAX_TAIL_NS: u64 = 100_000_000;

/// For how long omitted bytes are counted together.
const OMITTED_NS: u64 = 1_000_000_000;

/// Names one stream of a session in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamId {
    pub stream: Stream,
    /// Number of the terminal, for terminals.
    pub terminal: Option<u32>,
    pub direction: Direction,
}

impl StreamId {
    pub(super) fn terminal(number: u32, direction: Direction) -> Self {
        Self {
            stream: Stream::Terminal,
            terminal: Some(number),
            direction,
        }
    }

    pub(super) fn pipe(stream: Stream, direction: Direction) -> Self {
        Self {
            stream,
            terminal: None,
            direction,
        }
    }

    fn is_at(&self, position: &StreamPosition) -> bool {
        let output = self.direction == Direction::Output;
        (self.stream, self.terminal, output)
            == (position.stream, position.terminal, position.output)
    }
}

/// Bytes of one piece, as the kernel saw them.
pub(super) struct Piece<'a> {
    pub boot_ns: u64,
    /// Position by the kernel's count.
    pub offset: Option<u64>,
    pub len: u64,
    /// `None`: withheld.
    pub data: Option<&'a [u8]>,
    /// Withheld as the content of a file transfer, not as a secret.
    pub transfer: bool,
}

/// All streams of one session.
#[derive(Debug, Default)]
pub(super) struct Streams {
    flows: Vec<Flow>,
    /// The piece that can still grow: stream, first moment, bytes.
    open: Option<(usize, u64, Vec<u8>)>,
}

/// One stream in one direction.
#[derive(Debug)]
struct Flow {
    id: StreamId,
    /// Where the kernel's count should stand next; `None` makes no claim.
    kernel_next: Option<u64>,
    /// `kernel_next` is what another session left behind on the same pty.
    carried: bool,
    /// Position in the recording of the next byte.
    next: u64,
    /// Incomplete character, and since when. Its bytes lie before `next`.
    tail: Vec<u8>,
    tail_since: u64,
    /// Bytes that are counted and not stored, and since when. They lie before
    /// `next`.
    omitted: u64,
    omitted_since: u64,
}

impl Flow {
    fn new(id: StreamId, kernel_next: Option<u64>, next: u64) -> Self {
        Self {
            id,
            kernel_next,
            carried: false,
            next,
            tail: Vec::new(),
            tail_since: 0,
            omitted: 0,
            omitted_since: 0,
        }
    }

    /// Bytes missing before a piece that stands at `offset` by the kernel.
    fn hole_before(&self, offset: Option<u64>) -> u64 {
        match (self.kernel_next, offset) {
            // The new pty's count began at 0, and its head is missing.
            (Some(expected), Some(offset)) if self.carried && offset < expected => offset,
            // Back at 0 is a new life of the pty; other steps back cannot be
            // told from a kernel that counts anew.
            (Some(expected), Some(offset)) => offset.saturating_sub(expected),
            _ => 0,
        }
    }

    fn body(&self, offset: u64, content: Content) -> Body {
        let StreamId {
            stream,
            terminal,
            direction,
        } = self.id;
        let (mut data, mut masked_bytes, mut omitted_bytes) = (Bytes(Vec::new()), None, None);
        match content {
            Content::Stored(bytes) => data = Bytes(bytes),
            Content::Masked(count) => masked_bytes = Some(count),
            Content::Omitted(count) => omitted_bytes = Some(count),
        }
        match direction {
            Direction::Output => Body::Output(Output {
                stream,
                terminal,
                offset,
                data,
                omitted_bytes,
            }),
            Direction::Input => Body::Input(Input {
                stream,
                terminal,
                offset,
                data,
                masked_bytes,
                omitted_bytes,
                encrypted_bytes: None,
            }),
        }
    }

    fn gap(&self, cause: GapCause, bytes: u64, from: u64, to: u64) -> Body {
        Body::Gap(Gap {
            cause,
            class: match self.id.direction {
                Direction::Output => GapClass::Output,
                Direction::Input => GapClass::Input,
            },
            events: None,
            bytes: Some(bytes),
            stream: Some(self.id.stream),
            terminal: self.id.terminal,
            offset: Some(self.next),
            from_boot_ns: from,
            to_boot_ns: to,
        })
    }
}

/// What an event of a stream holds.
enum Content {
    Stored(Vec<u8>),
    Masked(u64),
    Omitted(u64),
}

impl Streams {
    /// Streams that go on where a record left them. The kernel's count goes on
    /// too, or starts anew.
    pub(super) fn resume(positions: &[StreamPosition], goes_on: bool) -> Self {
        let flows = positions.iter().map(|position| {
            let id = StreamId {
                stream: position.stream,
                terminal: position.terminal,
                direction: match position.output {
                    true => Direction::Output,
                    false => Direction::Input,
                },
            };
            let kernel_next = position.kernel_next.filter(|_| goes_on);
            Flow::new(id, kernel_next, position.next_offset)
        });
        Self {
            flows: flows.collect(),
            open: None,
        }
    }

    /// The kernel's count of the stream goes on at `offset` although the session
    /// is new: the pty was another session's before.
    pub(super) fn expect(&mut self, id: StreamId, offset: Option<u64>) {
        let index = self.index(id);
        if let Some(flow) = self.flows.get_mut(index) {
            flow.kernel_next = offset;
            flow.carried = true;
        }
    }

    /// Where the kernel's count of the stream should stand next: 0 before its
    /// first byte.
    pub(super) fn expected(&self, id: StreamId) -> Option<u64> {
        let known = self.flows.iter().find(|flow| flow.id == id);
        known.map_or(Some(0), |flow| flow.kernel_next)
    }

    /// The kernel's count began at 0 after all: the terminal is a new one.
    pub(super) fn expect_anew(&mut self, terminal: u32) {
        let own = |flow: &&mut Flow| flow.carried && flow.id.terminal == Some(terminal);
        for flow in self.flows.iter_mut().filter(own) {
            (flow.kernel_next, flow.carried) = (Some(0), false);
        }
    }

    /// How many bytes of the stream went by so far, as the recording counts.
    pub(super) fn position(&self, id: StreamId) -> u64 {
        let known = self.flows.iter().find(|flow| flow.id == id);
        known.map_or(0, |flow| flow.next)
    }

    /// The terminal is gone: nothing more comes over its streams.
    pub(super) fn close(&mut self, terminal: u32, timeline: &mut Timeline, out: &mut Out<'_>) {
        self.flush_all(timeline, out);
        self.flows.retain(|flow| flow.id.terminal != Some(terminal));
        let positions = &mut timeline.record.streams;
        positions.retain(|position| position.terminal != Some(terminal));
    }

    /// Takes a piece; the bytes found missing before it.
    pub(super) fn push(
        &mut self,
        id: StreamId,
        piece: &Piece<'_>,
        cause: GapCause,
        timeline: &mut Timeline,
        out: &mut Out<'_>,
    ) -> u64 {
        let index = self.index(id);
        let hole = self
            .flows
            .get(index)
            .map_or(0, |f| f.hole_before(piece.offset));
        if hole > 0 {
            self.lose(index, cause, hole, piece.boot_ns, timeline, out);
        }
        if let Some(flow) = self.flows.get_mut(index) {
            flow.carried = false;
            flow.kernel_next = piece.offset.map(|offset| offset.saturating_add(piece.len));
        }
        match (piece.data, id.direction) {
            (Some(data), _) => self.join(index, piece.boot_ns, data, timeline, out),
            (None, _) if piece.transfer => self.omit(index, piece, timeline, out),
            // Only input is ever masked.
            (None, Direction::Output) => {
                let cause = GapCause::ReadFailed;
                self.lose(index, cause, piece.len, piece.boot_ns, timeline, out);
            }
            (None, Direction::Input) => self.mask(index, piece, timeline, out),
        }
        hole
    }

    /// Declares bytes of a stream that the agent itself could not hold.
    pub(super) fn declare_lost(
        &mut self,
        id: StreamId,
        (bytes, boot_ns): (u64, u64),
        timeline: &mut Timeline,
        out: &mut Out<'_>,
    ) {
        let index = self.index(id);
        self.lose(index, GapCause::Bound, bytes, boot_ns, timeline, out);
        if let Some(flow) = self.flows.get_mut(index) {
            flow.kernel_next = flow.kernel_next.map(|next| next.saturating_add(bytes));
        }
    }

    /// Writes what is joined so far. Incomplete characters keep waiting.
    pub(super) fn flush(&mut self, timeline: &mut Timeline, out: &mut Out<'_>) {
        let Some((index, boot_ns, mut data)) = self.open.take() else {
            return;
        };
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        flow.tail = data.split_off(data.len() - incomplete_tail(&data));
        flow.tail_since = boot_ns;
        let end = flow.next - flow.tail.len() as u64;
        if !data.is_empty() {
            let body = flow.body(end - data.len() as u64, Content::Stored(data));
            place(&mut timeline.record.streams, flow, end);
            timeline.emit(out, boot_ns, body);
        }
    }

    /// Writes everything, also incomplete characters and counts.
    pub(super) fn flush_all(&mut self, timeline: &mut Timeline, out: &mut Out<'_>) {
        self.flush(timeline, out);
        for flow in &mut self.flows {
            write_rest(flow, timeline, out);
        }
    }

    /// Writes incomplete characters and counts that have waited long enough.
    pub(super) fn flush_old(&mut self, now: u64, timeline: &mut Timeline, out: &mut Out<'_>) {
        self.flush(timeline, out);
        for flow in &mut self.flows {
            if now.saturating_sub(flow.tail_since) >= MAX_TAIL_NS {
                write_tail(flow, timeline, out);
            }
            if now.saturating_sub(flow.omitted_since) >= OMITTED_NS {
                write_omitted(flow, timeline, out);
            }
        }
    }

    fn index(&mut self, id: StreamId) -> usize {
        let known = self.flows.iter().position(|flow| flow.id == id);
        known.unwrap_or_else(|| {
            self.flows.push(Flow::new(id, Some(0), 0));
            self.flows.len() - 1
        })
    }

    fn join(
        &mut self,
        index: usize,
        boot_ns: u64,
        data: &[u8],
        timeline: &mut Timeline,
        out: &mut Out<'_>,
    ) {
        let fits = |(open, _, joined): &(usize, u64, Vec<u8>)| {
            *open == index && joined.len() + data.len() <= MAX_PIECE
        };
        if !self.open.as_ref().is_some_and(fits) {
            self.flush(timeline, out);
        }
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        write_omitted(flow, timeline, out);
        let tail = std::mem::take(&mut flow.tail);
        let (_, _, joined) = self.open.get_or_insert((index, boot_ns, tail));
        joined.extend_from_slice(data);
        flow.next += data.len() as u64;
    }

    fn mask(
        &mut self,
        index: usize,
        piece: &Piece<'_>,
        timeline: &mut Timeline,
        out: &mut Out<'_>,
    ) {
        self.flush(timeline, out);
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        write_rest(flow, timeline, out);
        let body = flow.body(flow.next, Content::Masked(piece.len));
        flow.next += piece.len;
        place(&mut timeline.record.streams, flow, flow.next);
        timeline.emit(out, piece.boot_ns, body);
    }

    /// Counts bytes that are not stored.
    fn omit(
        &mut self,
        index: usize,
        piece: &Piece<'_>,
        timeline: &mut Timeline,
        out: &mut Out<'_>,
    ) {
        if self.open.as_ref().is_some_and(|(open, ..)| *open == index) {
            self.flush(timeline, out);
        }
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        write_tail(flow, timeline, out);
        if flow.omitted == 0 {
            flow.omitted_since = piece.boot_ns;
        }
        flow.omitted += piece.len;
        flow.next += piece.len;
    }

    fn lose(
        &mut self,
        index: usize,
        cause: GapCause,
        bytes: u64,
        boot_ns: u64,
        timeline: &mut Timeline,
        out: &mut Out<'_>,
    ) {
        self.flush(timeline, out);
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        write_rest(flow, timeline, out);
        let gap = flow.gap(cause, bytes, timeline.last_boot_ns(), boot_ns);
        flow.next += bytes;
        place(&mut timeline.record.streams, flow, flow.next);
        timeline.emit(out, boot_ns, gap);
    }
}

fn write_tail(flow: &mut Flow, timeline: &mut Timeline, out: &mut Out<'_>) {
    let tail = std::mem::take(&mut flow.tail);
    if tail.is_empty() {
        return;
    }
    let body = flow.body(flow.next - tail.len() as u64, Content::Stored(tail));
    place(&mut timeline.record.streams, flow, flow.next);
    timeline.emit(out, timeline.last_boot_ns().max(flow.tail_since), body);
}

fn write_omitted(flow: &mut Flow, timeline: &mut Timeline, out: &mut Out<'_>) {
    let omitted = std::mem::take(&mut flow.omitted);
    if omitted == 0 {
        return;
    }
    let body = flow.body(flow.next - omitted, Content::Omitted(omitted));
    place(&mut timeline.record.streams, flow, flow.next);
    timeline.emit(out, timeline.last_boot_ns().max(flow.omitted_since), body);
}

/// A flow has a tail or omitted bytes at its end, never both.
fn write_rest(flow: &mut Flow, timeline: &mut Timeline, out: &mut Out<'_>) {
    write_tail(flow, timeline, out);
    write_omitted(flow, timeline, out);
}

/// Notes in the record that the flow is written up to `next_offset`.
fn place(positions: &mut Vec<StreamPosition>, flow: &Flow, next_offset: u64) {
    let StreamId {
        stream,
        terminal,
        direction,
    } = flow.id;
    let position = StreamPosition {
        stream,
        terminal,
        output: direction == Direction::Output,
        next_offset,
        kernel_next: flow.kernel_next,
    };
    match positions.iter_mut().find(|known| flow.id.is_at(known)) {
        Some(known) => *known = position,
        None => positions.push(position),
    }
}

/// How many bytes at the end of `data` begin a UTF-8 character that is not
/// complete.
fn incomplete_tail(data: &[u8]) -> usize {
    (1..=data.len().min(3))
        .find(|len| {
            let tail = data.get(data.len() - len..).unwrap_or_default();
            match std::str::from_utf8(tail) {
                Ok(_) => false,
                Err(error) => error.valid_up_to() == 0 && error.error_len().is_none(),
            }
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::incomplete_tail;

    #[test]
    fn incomplete_characters() {
        for (data, expected) in [
            (&b""[..], 0),
            (b"abc", 0),
            ("ä".as_bytes(), 0),
            (b"ab\xc3", 1),
            (b"\xe2\x82", 2),
            (b"a\xf0\x9f\x98", 3),
            (b"\xf0\x9f\x98\x80", 0),
            (b"\xff", 0),
            (b"\x80\x80", 0),
            (b"\xe2\xe2", 1),
        ] {
            assert_eq!(incomplete_tail(data), expected, "{data:x?}");
        }
    }
}
