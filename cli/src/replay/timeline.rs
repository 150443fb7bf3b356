//! The events of one terminal, or of the pipes of a session without one, as
//! frames on a clock.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::time::Duration;

use auditty_recording::event::{Body, Event, Gap, Link, LinkRelation, Marker, Stream, Transfer};
use jiff::Timestamp;

use super::emulator::Size;
use crate::sanitise;

/// Most bytes of output that are held for a replay. Longer sessions are shown
/// up to here, and the status line says so; `export` has no such bound.
pub const MAX_OUTPUT_BYTES: usize = 512 << 20;
/// Most frames that are held for a replay.
pub const MAX_FRAMES: usize = 16 << 20;

/// Output that an emulator is given at once: it need not draw lines that come and
/// go within.
const RUN_BYTES: usize = 1 << 20;

/// What a frame does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Shows bytes; for pipes they are sanitised already.
    Output(Vec<u8>),
    /// Changes the screen's size.
    Resize(Size),
    /// Something to tell the viewer: a gap, a marker, masked input.
    Note(Note),
}

/// What the status line tells about the recording, sanitised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A declared loss.
    Gap(String),
    /// A note about the recording itself, or masked input.
    Mark(String),
}

/// Something that happens at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When, since the session's start.
    pub recorded: Duration,
    /// When, on the clock of the replay, with idle time shortened.
    pub played: Duration,
    /// What.
    pub change: Change,
}

impl Frame {
    fn is_output(&self) -> bool {
        matches!(self.change, Change::Output(_))
    }
}

/// Which frames are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Selection {
    /// The terminal; 0 stands for the pipes too.
    pub terminal: u32,
    /// Longest pause; zero keeps pauses as they were.
    pub idle_limit: Duration,
}

/// The frames of a session, in order.
#[derive(Debug, Default)]
pub struct Timeline {
    frames: Vec<Frame>,
    /// Wall clock of the first event.
    start: Option<Timestamp>,
    /// Terminals that were seen, whether selected or not, by number.
    terminals: BTreeMap<u32, String>,
    pipes: bool,
    plain: bool,
    truncated: bool,
}

impl Timeline {
    /// The frames.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Wall clock at the session's start.
    pub fn start(&self) -> Option<Timestamp> {
        self.start
    }

    /// Terminals of the session: their numbers, and what is known of them,
    /// sanitised.
    pub fn terminals(&self) -> &BTreeMap<u32, String> {
        &self.terminals
    }

    /// Some of the session's streams are pipes.
    pub fn has_pipes(&self) -> bool {
        self.pipes
    }

    /// The session's streams are pipes: its output is text without a screen.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// A bound was reached and the rest is not here.
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// Length on the clock of the replay.
    pub fn length(&self) -> Duration {
        self.frames
            .last()
            .map_or(Duration::ZERO, |frame| frame.played)
    }

    /// Length as it was recorded.
    pub fn recorded_length(&self) -> Duration {
        self.frames
            .last()
            .map_or(Duration::ZERO, |frame| frame.recorded)
    }

    /// The replay's clock at a moment of the recording.
    pub fn played_at(&self, recorded: Duration) -> Duration {
        let after = self
            .frames
            .partition_point(|frame| frame.recorded <= recorded);
        let Some(before) = after.checked_sub(1).and_then(|at| self.frames.get(at)) else {
            return recorded.min(self.frames.first().map_or(recorded, |next| next.played));
        };
        let on = before.played + recorded.saturating_sub(before.recorded);
        self.frames
            .get(after)
            .map_or(on.min(self.length()), |next| on.min(next.played))
    }

    /// The moment of the recording at the replay's clock. Within a shortened
    /// pause it runs as fast as the clock and jumps at the end.
    pub fn recorded_at(&self, played: Duration) -> Duration {
        let after = self.frames.partition_point(|frame| frame.played <= played);
        let Some(before) = after.checked_sub(1).and_then(|at| self.frames.get(at)) else {
            return played;
        };
        let on = before.recorded + played.saturating_sub(before.played);
        self.frames
            .get(after)
            .map_or(on.min(self.recorded_length()), |next| on.min(next.recorded))
    }
}

/// The output that begins with `first` and goes on in the next `frames`, as long
/// as they are `wanted` and bounded; takes these. `None` when it does not go on.
pub fn run<'a>(
    first: &[u8],
    frames: &mut Peekable<impl Iterator<Item = &'a Frame>>,
    wanted: impl Fn(&Frame) -> bool,
) -> Option<Vec<u8>> {
    let mut run = Vec::new();
    while first.len().max(run.len()) < RUN_BYTES
        && let Some(next) = frames.next_if(|next| next.is_output() && wanted(next))
        && let Change::Output(bytes) = &next.change
    {
        if run.is_empty() {
            run.extend_from_slice(first);
        }
        run.extend_from_slice(bytes);
    }
    (!run.is_empty()).then_some(run)
}

/// Builds a [`Timeline`] event by event.
pub struct Builder {
    selection: Selection,
    timeline: Timeline,
    start_ns: Option<u64>,
    output_bytes: usize,
    stdout: sanitise::Stream,
    stderr: sanitise::Stream,
}

impl Builder {
    /// Nothing yet.
    pub fn new(selection: Selection) -> Self {
        Self {
            selection,
            timeline: Timeline::default(),
            start_ns: None,
            output_bytes: 0,
            stdout: sanitise::Stream::default(),
            stderr: sanitise::Stream::default(),
        }
    }

    /// Takes the next event. `false` means that a bound is reached and nothing
    /// more is taken.
    pub fn push(&mut self, event: &Event) -> bool {
        let start_ns = *self.start_ns.get_or_insert(event.boot_ns);
        self.timeline.start.get_or_insert(event.time);
        self.see(&event.body);
        let Some(change) = self.change(&event.body) else {
            return true;
        };
        if let Change::Output(bytes) = &change {
            self.output_bytes += bytes.len();
        }
        if self.output_bytes > MAX_OUTPUT_BYTES || self.timeline.frames.len() >= MAX_FRAMES {
            self.timeline.truncated = true;
            return false;
        }
        let at = Duration::from_nanos(event.boot_ns.saturating_sub(start_ns));
        self.append(at, change);
        true
    }

    /// What came since the last call. It does not count for the bounds any more, and
    /// the timeline goes on behind it.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.output_bytes = 0;
        let frames = std::mem::take(&mut self.timeline.frames);
        frames.into_iter().map(|frame| frame.change).collect()
    }

    /// What is known of the terminals so far.
    pub fn so_far(&self) -> &Timeline {
        &self.timeline
    }

    /// The timeline of everything that was taken.
    pub fn finish(mut self) -> Timeline {
        let at = self.timeline.recorded_length();
        let rest = self.stdout.finish() + &self.stderr.finish();
        if !rest.is_empty() {
            self.append(at, Change::Output(rest.into_bytes()));
        }
        let timeline = &mut self.timeline;
        let on_pipes = timeline.pipes && !timeline.terminals.contains_key(&0);
        timeline.plain = on_pipes && self.selection.terminal == 0;
        self.timeline
    }

    fn see(&mut self, body: &Body) {
        let terminal = match body {
            Body::TerminalOpen(open) => {
                let what = match &open.exe {
                    Some(exe) => format!("{}, {exe}", open.name),
                    None => open.name.clone(),
                };
                let what = sanitise::line(&what);
                self.timeline.terminals.insert(open.terminal, what);
                None
            }
            Body::Resize(resize) => Some(resize.terminal),
            Body::Output(output) if output.stream == Stream::Terminal => output.terminal,
            Body::Output(_) => {
                self.timeline.pipes = true;
                None
            }
            _ => None,
        };
        if let Some(terminal) = terminal {
            self.timeline.terminals.entry(terminal).or_default();
        }
    }

    fn change(&mut self, body: &Body) -> Option<Change> {
        let selected = |terminal: Option<u32>| terminal == Some(self.selection.terminal);
        match body {
            Body::Output(output) if output.omitted_bytes.is_some() => None,
            Body::Output(output) => match output.stream {
                Stream::Terminal => {
                    selected(output.terminal).then(|| Change::Output(output.data.0.clone()))
                }
                Stream::Stdin => None,
                Stream::Stdout | Stream::Stderr if self.selection.terminal != 0 => None,
                Stream::Stdout => Some(pipe(self.stdout.text(&output.data.0))),
                Stream::Stderr => Some(pipe(self.stderr.text(&output.data.0))),
            },
            Body::Resize(resize) => selected(Some(resize.terminal))
                .then(|| Change::Resize(Size::clamped(resize.columns, resize.rows))),
            Body::Input(input) if selected(input.terminal) || input.terminal.is_none() => {
                let masked = input.masked_bytes?;
                let text = format!("masked input: {masked} bytes");
                Some(Change::Note(Note::Mark(text)))
            }
            Body::Gap(lost) => Some(Change::Note(Note::Gap(gap(lost)))),
            Body::Marker(mark) => Some(Change::Note(Note::Mark(marker(mark)))),
            Body::Transfer(moved) => Some(Change::Note(Note::Mark(transfer(moved)))),
            Body::Link(tie) => Some(Change::Note(Note::Mark(link(tie)))),
            Body::Handoff(handoff) => {
                let text = format!("work handed to {}", word(&handoff.to));
                Some(Change::Note(Note::Mark(text)))
            }
            _ => None,
        }
    }

    /// Times never run backwards: a damaged event cannot stop the clock.
    fn append(&mut self, at: Duration, change: Change) {
        let (recorded, played) = self
            .timeline
            .frames
            .last()
            .map_or((Duration::ZERO, Duration::ZERO), |last| {
                (last.recorded, last.played)
            });
        let pause = at.saturating_sub(recorded);
        let limit = self.selection.idle_limit;
        let shown = if limit.is_zero() {
            pause
        } else {
            pause.min(limit)
        };
        self.timeline.frames.push(Frame {
            recorded: recorded + pause,
            played: played + shown,
            change,
        });
    }
}

/// Sanitised text for an emulator, which wants a carriage return too.
fn pipe(text: String) -> Change {
    Change::Output(text.replace('\n', "\r\n").into_bytes())
}

/// A gap in words, exact where it is known, such as
/// `GAP output: 3 events, 4096 bytes lost (ring_full)`.
pub fn gap(gap: &Gap) -> String {
    let count = |count: Option<u64>, what: &str| match count {
        Some(count) => format!("{count} {what}"),
        None => format!("unknown {what}"),
    };
    let terminal = gap
        .terminal
        .map_or_else(String::new, |number| format!(" of terminal {number}"));
    format!(
        "GAP {}{terminal}: {}, {} lost ({})",
        word(&gap.class),
        count(gap.events, "events"),
        count(gap.bytes, "bytes"),
        word(&gap.cause),
    )
}

fn marker(marker: &Marker) -> String {
    sanitise::line(&format!("{}: {}", marker.marker, marker.message))
}

fn transfer(transfer: &Transfer) -> String {
    let failed = match transfer.errno {
        Some(number) => format!(" failed with errno {number}"),
        None => format!(": {} bytes", transfer.bytes),
    };
    let (protocol, direction) = (word(&transfer.protocol), word(&transfer.direction));
    sanitise::line(&format!(
        "{protocol} {direction} of {}{failed}",
        transfer.path
    ))
}

fn link(link: &Link) -> String {
    let id = link.session_id;
    match link.relation {
        LinkRelation::Parent => format!("its client is a process of session {id}"),
        LinkRelation::Child => format!("a process of it is the client of session {id}"),
        LinkRelation::Drives => format!("its terminal shows and drives one of session {id}"),
        LinkRelation::DrivenBy => format!("a terminal of it is driven from session {id}"),
    }
}

/// The name under which a value stands in a recording.
pub fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "unknown".to_owned(),
    }
}
