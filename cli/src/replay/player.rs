//! A position in a timeline and the screen at that position.
//!
//! Going on feeds the emulator. Going back starts from the nearest keyframe
//! before the target, or from the beginning, and feeds from there.

use std::time::Duration;

use super::emulator::{DEFAULT_SIZE, Emulator, Size, Snapshot};
use super::timeline::{self, Change, Frame, Note, Timeline};

/// Most keyframes that are held; when there are more, every second one goes and
/// they are taken half as often.
const MAX_KEYFRAMES: usize = 64;
/// Most memory of all keyframes, bytes.
const MAX_KEYFRAME_BYTES: usize = 64 << 20;
/// Output between two keyframes at first, bytes: an emulator that draws all of it
/// takes this in about 50 ms.
const KEYFRAME_INTERVAL_BYTES: usize = 1 << 20;

/// Plays a timeline.
pub struct Player<'a> {
    timeline: &'a Timeline,
    first_size: Size,
    clock: Duration,
    state: State,
    keyframes: Vec<Keyframe>,
    interval: usize,
}

/// Everything that frames change.
struct State {
    emulator: Emulator,
    /// The next frame.
    next: usize,
    /// Bytes fed since the beginning.
    fed: usize,
    gaps: usize,
    note: Option<Note>,
}

struct Keyframe {
    snapshot: Snapshot,
    next: usize,
    fed: usize,
    gaps: usize,
    note: Option<Note>,
}

impl State {
    fn first(size: Size) -> Self {
        Self {
            emulator: Emulator::new(size),
            next: 0,
            fed: 0,
            gaps: 0,
            note: None,
        }
    }

    fn keyframe(&self) -> Keyframe {
        Keyframe {
            snapshot: self.emulator.snapshot(),
            next: self.next,
            fed: self.fed,
            gaps: self.gaps,
            note: self.note.clone(),
        }
    }

    fn from_keyframe(keyframe: &Keyframe) -> Self {
        Self {
            emulator: Emulator::restore(&keyframe.snapshot),
            next: keyframe.next,
            fed: keyframe.fed,
            gaps: keyframe.gaps,
            note: keyframe.note.clone(),
        }
    }
}

impl<'a> Player<'a> {
    /// Stands at the beginning. A session without a terminal is shown on a
    /// screen of `plain_size`.
    pub fn new(timeline: &'a Timeline, plain_size: Size) -> Self {
        let first_size = if timeline.is_plain() {
            plain_size
        } else {
            DEFAULT_SIZE
        };
        let mut player = Self {
            timeline,
            first_size,
            clock: Duration::ZERO,
            state: State::first(first_size),
            keyframes: Vec::new(),
            interval: KEYFRAME_INTERVAL_BYTES,
        };
        player.apply_until(Duration::ZERO);
        player
    }

    /// Goes on to a moment of the replay's clock, or back to it.
    pub fn seek(&mut self, to: Duration) {
        let to = to.min(self.timeline.length());
        if to < self.clock {
            self.rewind(to);
        }
        self.apply_until(to);
        self.clock = to;
    }

    /// Goes on to the next frame that changes something visible.
    pub fn step(&mut self) {
        if let Some(frame) = self.next_frame() {
            self.clock = frame.played;
            self.apply_next(|_| false);
        }
    }

    /// Where it stands on the replay's clock.
    pub fn clock(&self) -> Duration {
        self.clock
    }

    /// When the next frame is due on the replay's clock; `None` at the end.
    pub fn next_due(&self) -> Option<Duration> {
        Some(self.next_frame()?.played)
    }

    /// The screen.
    pub fn emulator(&self) -> &Emulator {
        &self.state.emulator
    }

    /// The latest gap, marker or masked input up to here.
    pub fn note(&self) -> Option<&Note> {
        self.state.note.as_ref()
    }

    /// Gaps up to here.
    pub fn gaps(&self) -> usize {
        self.state.gaps
    }

    fn rewind(&mut self, to: Duration) {
        let frames = self.timeline.frames();
        // A keyframe stands before its `next` frame, after everything earlier.
        let usable = |keyframe: &Keyframe| {
            let last = keyframe.next.checked_sub(1).and_then(|at| frames.get(at));
            last.is_none_or(|frame| frame.played <= to)
        };
        let count = self.keyframes.partition_point(usable);
        self.state = match count.checked_sub(1).and_then(|at| self.keyframes.get(at)) {
            Some(keyframe) => State::from_keyframe(keyframe),
            None => State::first(self.first_size),
        };
    }

    fn apply_until(&mut self, to: Duration) {
        let due = |frame: &Frame| frame.played <= to;
        while self.next_frame().is_some_and(due) {
            self.apply_next(due);
        }
    }

    fn next_frame(&self) -> Option<&'a Frame> {
        self.timeline.frames().get(self.state.next)
    }

    /// Applies the next frame, and output that goes on in `wanted` ones.
    fn apply_next(&mut self, wanted: impl Fn(&Frame) -> bool) {
        let frames = self.timeline.frames().get(self.state.next..);
        let mut frames = frames.unwrap_or_default().iter().peekable();
        let Some(frame) = frames.next() else {
            return;
        };
        let state = &mut self.state;
        match &frame.change {
            Change::Output(bytes) => {
                let run = timeline::run(bytes, &mut frames, wanted);
                let bytes = run.as_ref().unwrap_or(bytes);
                state.emulator.feed(bytes);
                state.fed += bytes.len();
            }
            Change::Resize(size) => state.emulator.resize(*size),
            Change::Note(note) => {
                state.gaps += usize::from(matches!(note, Note::Gap(_)));
                state.note = Some(note.clone());
            }
        }
        state.next = self.timeline.frames().len() - frames.len();
        self.keep_keyframe();
    }

    fn keep_keyframe(&mut self) {
        let last = self.keyframes.last().map_or(0, |keyframe| keyframe.fed);
        if self.state.fed < last + self.interval {
            return;
        }
        self.keyframes.push(self.state.keyframe());
        let held = |keyframes: &[Keyframe]| -> usize {
            keyframes
                .iter()
                .map(|keyframe| keyframe.snapshot.len())
                .sum()
        };
        while self.keyframes.len() > MAX_KEYFRAMES || held(&self.keyframes) > MAX_KEYFRAME_BYTES {
            let mut at = 0;
            self.keyframes.retain(|_| {
                at += 1;
                at % 2 == 0
            });
            self.interval *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use auditty_recording::Bytes;
    use auditty_recording::event::{Body, Event, Output, Resize, Stream};

    use super::{MAX_KEYFRAMES, Player};
    use crate::replay::emulator::DEFAULT_SIZE;
    use crate::replay::timeline::{Builder, Selection, Timeline};

    fn event(seconds: u64, body: Body) -> Event {
        Event {
            seq: seconds + 1,
            time: "2026-01-31T12:00:00Z".parse().unwrap(),
            boot_ns: seconds * 1_000_000_000,
            body,
        }
    }

    fn output(seconds: u64, bytes: Vec<u8>) -> Event {
        event(
            seconds,
            Body::Output(Output {
                stream: Stream::Terminal,
                terminal: Some(0),
                offset: 0,
                data: Bytes(bytes),
                omitted_bytes: None,
            }),
        )
    }

    fn timeline(events: &[Event], idle_limit: Duration) -> Timeline {
        let mut builder = Builder::new(Selection {
            terminal: 0,
            idle_limit,
        });
        assert!(events.iter().all(|event| builder.push(event)));
        builder.finish()
    }

    #[test]
    fn going_back_shows_what_going_on_showed() {
        // 200 MB of output in few frames: more keyframes than are held.
        let mut events = vec![event(
            0,
            Body::Resize(Resize {
                terminal: 0,
                columns: 20,
                rows: 4,
            }),
        )];
        for second in 1..=200 {
            let mut bytes = vec![0; 1 << 20];
            bytes.extend_from_slice(format!("\x1b[3{}m{second}\r\n", second % 8).as_bytes());
            events.push(output(second, bytes));
        }
        let timeline = timeline(&events, Duration::ZERO);
        let mut forward = Player::new(&timeline, DEFAULT_SIZE);
        let mut back = Player::new(&timeline, DEFAULT_SIZE);
        back.seek(timeline.length());
        assert!(back.keyframes.len() <= MAX_KEYFRAMES);
        let mut screens = Vec::new();
        for second in [0, 1, 50, 51, 120, 199] {
            forward.seek(Duration::from_secs(second));
            screens.push((second, forward.emulator().snapshot()));
        }
        for (second, expected) in screens.iter().rev() {
            back.seek(Duration::from_secs(*second));
            let expected = super::Emulator::restore(expected);
            assert!(back.emulator().rows().eq(expected.rows()), "at {second} s");
        }
    }

    #[test]
    fn pauses_are_shortened_and_positions_translate() {
        let events = [
            output(0, b"a".to_vec()),
            output(100, b"b".to_vec()),
            output(101, b"c".to_vec()),
        ];
        let timeline = timeline(&events, Duration::from_secs(2));
        assert_eq!(timeline.length(), Duration::from_secs(3));
        assert_eq!(
            timeline.played_at(Duration::from_secs(100)),
            Duration::from_secs(2)
        );
        assert_eq!(
            timeline.played_at(Duration::from_secs(50)),
            Duration::from_secs(2)
        );
        assert_eq!(
            timeline.recorded_at(Duration::from_secs(3)),
            Duration::from_secs(101)
        );
        let mut player = Player::new(&timeline, DEFAULT_SIZE);
        assert_eq!(player.emulator().screen_text(), ["a"]);
        player.step();
        assert_eq!(player.emulator().screen_text(), ["ab"]);
        assert_eq!(player.clock(), Duration::from_secs(2));
        player.seek(Duration::MAX);
        assert_eq!(player.emulator().screen_text(), ["abc"]);
        assert_eq!(player.next_due(), None);
    }
}
