//! `auditty tail`: what a running session shows, as it comes to the store.

use std::mem;
use std::ops::ControlFlow;
use std::time::Duration;

use auditty_proto::v1;
use auditty_recording::chunk::Record;
use auditty_recording::reader::Position;

use super::replay;
use crate::args::{Lines, Tail};
use crate::config::Config;
use crate::failure::Result;
use crate::out;
use crate::replay::tail::{LastLines, Text};
use crate::replay::timeline::{Builder, Selection, Timeline};
use crate::source::{self, Content, Source};

/// How often the store is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Text that is printed at once, bytes.
const PIECE_BYTES: usize = 64 << 10;

pub(super) async fn run(args: &Tail, config: &Config) -> Result<()> {
    let mut source = Source::open(config).await?;
    let session = source.find_session(&args.session).await?;
    let mut content = match session.state() {
        v1::SessionState::Closed => source::open_content(&session, config).await?,
        _ => source::open_early(&session, config).await?,
    };
    let mut following = Following::new(args, config.json);
    let mut over = following.look(&mut content).await?;
    if !over && session.end_reason() == v1::EndReason::HostSilent {
        out::warn("its host is silent: this is what came before");
        over = true;
    }
    if !over {
        following.tell_what_is_missing(&content);
    }
    while !over {
        tokio::time::sleep(LOOK_INTERVAL).await;
        over = following.look(&mut content).await?;
    }
    following.finish()
}

/// What was followed so far.
struct Following {
    terminal: u32,
    json: bool,
    position: Position,
    builder: Builder,
    text: Text,
    /// Holds the end of what was there already, until that was read.
    before: Option<LastLines>,
    /// To be printed.
    piece: String,
    problems: usize,
}

impl Following {
    fn new(args: &Tail, json: bool) -> Self {
        Self {
            terminal: args.terminal,
            json,
            position: Position::default(),
            builder: builder(args.terminal),
            text: Text::default(),
            before: match args.lines {
                Lines::All => None,
                Lines::Last(most) => Some(LastLines::new(most)),
            },
            piece: String::new(),
            problems: 0,
        }
    }

    /// Prints what is new; whether the session has ended and all of it was read.
    async fn look(&mut self, content: &mut Content) -> Result<bool> {
        let mut position = self.position;
        let read = content.more(&mut position, |record| {
            self.take(record)?;
            Ok(ControlFlow::Continue(()))
        });
        let read = read.await;
        self.position = position;
        if let Some(before) = self.before.take() {
            self.piece = before.finish();
        }
        self.print()?;
        let problems = content.take_problems();
        self.problems += problems.len();
        for problem in &problems {
            out::warn(problem);
        }
        read
    }

    fn take(&mut self, record: &Record) -> Result<()> {
        if let Some(event) = &record.event {
            self.builder.push(event);
        }
        let changes = self.builder.take_changes();
        if self.json {
            return self.show(&(out::visible_json(&record.line) + "\n"));
        }
        for change in &changes {
            let text = self.text.of(change);
            self.show(&text)?;
        }
        Ok(())
    }

    fn show(&mut self, text: &str) -> Result<()> {
        match &mut self.before {
            Some(before) => before.push(text),
            None => self.piece.push_str(text),
        }
        match self.piece.len() > PIECE_BYTES {
            true => self.print(),
            false => Ok(()),
        }
    }

    fn print(&mut self) -> Result<()> {
        match mem::take(&mut self.piece).as_str() {
            "" => Ok(()),
            text => out::print(text),
        }
    }

    /// What somebody who waits should know.
    fn tell_what_is_missing(&self, content: &Content) {
        if !content.is_there() {
            out::warn("the store has nothing of it yet");
        } else if let Err(missing) = self.check(self.builder.so_far()) {
            out::warn(&format!("{missing} so far"));
        }
    }

    /// Whether the session has the terminal; JSON has all of them.
    fn check(&self, timeline: &Timeline) -> Result<()> {
        match self.json {
            true => Ok(()),
            false => replay::check(timeline, self.terminal),
        }
    }

    /// The session is over.
    fn finish(mut self) -> Result<()> {
        let taken = mem::replace(&mut self.builder, builder(self.terminal));
        let timeline = taken.finish();
        if !self.json {
            for frame in timeline.frames() {
                let text = self.text.of(&frame.change);
                self.show(&text)?;
            }
            let rest = self.text.finish();
            self.show(&rest)?;
            self.print()?;
            self.check(&timeline)?;
            replay::tell_others(&timeline, self.terminal);
        }
        super::report_count(self.problems)
    }
}

fn builder(terminal: u32) -> Builder {
    Builder::new(Selection {
        terminal,
        idle_limit: Duration::ZERO,
    })
}
