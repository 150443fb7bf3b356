//! The replay on the viewer's terminal: keys, clock, status line.

use std::io::{self, Stdout, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::{cursor, execute, style, terminal};

use super::emulator::{DEFAULT_SIZE, Size};
use super::painter::{Painter, View};
use super::player::Player;
use super::timeline::{Note, Timeline};
use super::view::Viewport;
use crate::moment::{self, Zone};

/// How far an arrow key goes.
const SEEK: Duration = Duration::from_secs(5);
/// Speeds that the keys choose from.
const SPEEDS: [f64; 9] = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
/// Longest wait: a signal is noticed, and the clock on the status line moves,
/// at least this often.
const TICK: Duration = Duration::from_millis(100);
/// Shortest time between two paintings: 60 a second.
const FRAME: Duration = Duration::from_millis(16);

/// How to play.
pub struct Options {
    /// Speed at first.
    pub speed: f64,
    /// Where to begin, on the replay's clock.
    pub from: Duration,
    /// Whether the view follows the cursor.
    pub follow: bool,
    /// Whether to paint colours.
    pub colour: bool,
    /// Zone of the shown times.
    pub zone: Zone,
    /// What is played, sanitised.
    pub title: String,
}

/// Plays until the viewer leaves or `stop` is set.
///
/// # Errors
/// The terminal could not be read or written.
pub fn play(timeline: &Timeline, options: Options, stop: &Arc<AtomicBool>) -> io::Result<()> {
    let guard = Guard::enter()?;
    let window = window();
    let painter = Painter::new(io::stdout(), window, options.colour);
    let mut player = Player::new(timeline, painter.canvas());
    player.seek(options.from);
    let mut replay = Replay {
        timeline,
        player,
        painter,
        viewport: Viewport::new(options.follow),
        speed: options.speed,
        paused: false,
        options,
    };
    let result = replay.run(stop);
    drop(guard);
    result
}

fn window() -> Size {
    match terminal::size() {
        Ok((columns, rows)) => Size::clamped(columns, rows),
        Err(_) => DEFAULT_SIZE,
    }
}

/// The viewer's terminal in the state the replay needs; dropping it, and a
/// panic, restore it.
#[must_use]
struct Guard;

impl Guard {
    fn enter() -> io::Result<Self> {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            report(panic);
        }));
        terminal::enable_raw_mode()?;
        let guard = Self;
        execute!(
            io::stdout(),
            terminal::EnterAlternateScreen,
            terminal::DisableLineWrap
        )?;
        Ok(guard)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
        // The default hook again: there is nothing left to restore.
        if !std::thread::panicking() {
            drop(std::panic::take_hook());
        }
    }
}

/// Nothing can be done about a terminal that is gone.
fn restore() {
    let _ = execute!(
        io::stdout(),
        style::ResetColor,
        style::SetAttribute(style::Attribute::Reset),
        terminal::EndSynchronizedUpdate,
        terminal::EnableLineWrap,
        cursor::Show,
        terminal::LeaveAlternateScreen,
    );
    let _ = terminal::disable_raw_mode();
    let _ = io::stdout().flush();
}

struct Replay<'a> {
    timeline: &'a Timeline,
    player: Player<'a>,
    painter: Painter<Stdout>,
    viewport: Viewport,
    speed: f64,
    paused: bool,
    options: Options,
}

/// Whether to go on.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    Quit,
}

impl Replay<'_> {
    fn run(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut last = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if !self.paused {
                let passed = now.duration_since(last).mul_f64(self.speed);
                self.player.seek(self.player.clock().saturating_add(passed));
            }
            last = now;
            self.paint()?;
            if event::poll(self.wait())? && self.handle_all()? == Next::Quit {
                break;
            }
        }
        Ok(())
    }

    /// Until the next frame is due, but neither too short nor too long.
    fn wait(&self) -> Duration {
        let until = match self.player.next_due() {
            Some(due) if !self.paused => due.saturating_sub(self.player.clock()),
            _ => return TICK,
        };
        until.div_f64(self.speed).clamp(FRAME, TICK)
    }

    /// Takes everything that was typed, so that a held key does not lag.
    fn handle_all(&mut self) -> io::Result<Next> {
        loop {
            match event::read()? {
                Event::Key(key)
                    if key.kind != KeyEventKind::Release && self.key(key) == Next::Quit =>
                {
                    return Ok(Next::Quit);
                }
                Event::Resize(columns, rows) => self.painter.resize(Size::clamped(columns, rows)),
                _ => {}
            }
            if !event::poll(Duration::ZERO)? {
                return Ok(Next::GoOn);
            }
        }
    }

    fn key(&mut self, key: KeyEvent) -> Next {
        let clock = self.player.clock();
        match key.code {
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Next::Quit;
            }
            KeyCode::Char('q') | KeyCode::Esc => return Next::Quit,
            KeyCode::Char(' ') => self.paused = !self.paused,
            KeyCode::Right => self.player.seek(clock.saturating_add(SEEK)),
            KeyCode::Left => self.player.seek(clock.saturating_sub(SEEK)),
            KeyCode::Char('g') | KeyCode::Home => self.player.seek(Duration::ZERO),
            KeyCode::Char('G') | KeyCode::End => self.player.seek(self.timeline.length()),
            KeyCode::Char('.') => {
                self.paused = true;
                self.player.step();
            }
            KeyCode::Char(']' | '+' | '=') => self.speed = faster(self.speed),
            KeyCode::Char('[' | '-') => self.speed = slower(self.speed),
            KeyCode::Char('h') => self.viewport.shift(-8, 0),
            KeyCode::Char('l') => self.viewport.shift(8, 0),
            KeyCode::Char('k') => self.viewport.shift(0, -4),
            KeyCode::Char('j') => self.viewport.shift(0, 4),
            _ => {}
        }
        Next::GoOn
    }

    fn paint(&mut self) -> io::Result<()> {
        let emulator = self.player.emulator();
        let canvas = self.painter.canvas();
        let origin = self.viewport.place(emulator, canvas);
        let status = self.status(origin, canvas);
        self.painter.paint(&View {
            emulator,
            origin,
            status: &status,
            alert: matches!(self.player.note(), Some(Note::Gap(_))),
        })
    }

    fn status(&self, origin: (u16, u16), canvas: Size) -> String {
        let recorded = self.timeline.recorded_at(self.player.clock());
        let state = match (self.paused, self.player.next_due()) {
            (_, None) => "END",
            (true, _) => "PAUSED",
            (false, _) => "PLAY",
        };
        let mut parts = vec![format!(
            "{state} {}/{} {}x",
            moment::clock(recorded),
            moment::clock(self.timeline.recorded_length()),
            self.speed
        )];
        let start = self.timeline.start();
        if let Some(at) = start.and_then(|start| start.checked_add(recorded).ok()) {
            parts.push(self.options.zone.seconds(at));
        }
        let screen = self.player.emulator().size();
        if screen.columns > canvas.columns || screen.rows > canvas.rows {
            let (left, top) = origin;
            parts.push(format!(
                "{}x{} CROPPED at {},{}",
                screen.columns,
                screen.rows,
                left + 1,
                top + 1
            ));
        }
        match self.player.note() {
            Some(Note::Gap(text) | Note::Mark(text)) => parts.push(text.clone()),
            None => {}
        }
        if self.player.gaps() > 0 {
            parts.push(format!("gaps so far: {}", self.player.gaps()));
        }
        if self.timeline.truncated() && self.player.next_due().is_none() {
            parts.push("TOO LONG, see `auditty export`".to_owned());
        }
        parts.push(self.options.title.clone());
        format!(" {}", parts.join(" | "))
    }
}

fn faster(speed: f64) -> f64 {
    let next = SPEEDS.into_iter().find(|choice| *choice > speed);
    next.unwrap_or(speed)
}

fn slower(speed: f64) -> f64 {
    let next = SPEEDS.into_iter().rev().find(|choice| *choice < speed);
    next.unwrap_or(speed)
}

#[cfg(test)]
mod tests {
    use super::{faster, slower};

    #[test]
    fn speeds_stay_in_their_range() {
        assert_eq!(faster(1.0), 2.0);
        assert_eq!(slower(1.5), 1.0);
        assert_eq!(faster(64.0), 64.0);
        assert_eq!(slower(0.25), 0.25);
    }
}
