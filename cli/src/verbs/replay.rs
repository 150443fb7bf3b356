//! `auditty replay`: a session in this terminal.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use auditty_proto::v1;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Replay;
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::replay::live::{self, Options};
use crate::replay::plain;
use crate::replay::timeline::{Builder, Selection, Timeline};
use crate::source::{self, Content, Source};
use crate::{moment, out, sanitise};

pub(super) async fn run(args: &Replay, config: &Config) -> Result<()> {
    let mut source = Source::open(config).await?;
    let session = source.find_session(&args.session).await?;
    let mut content = source::open_content(&session, config).await?;
    let timeline = timeline(&mut content, args).await?;
    check(&timeline, args.terminal)?;
    let from = from(&timeline, &session, args, config)?;
    if std::io::stdout().is_terminal() {
        let options = Options {
            speed: args.speed,
            from: from.unwrap_or_default(),
            follow: !args.no_fit,
            colour: config.colour,
            zone: config.zone.clone(),
            title: title(&session),
        };
        let stop = stop_on_signals()?;
        tokio::task::block_in_place(|| live::play(&timeline, options, &stop))
            .map_err(|error| Failure::error(format!("cannot use the terminal: {error}")))?;
    } else {
        print(&timeline, from)?;
    }
    tell_others(&timeline, args.terminal);
    if timeline.truncated() {
        out::warn("the session is longer than a replay holds; `auditty export` has all of it");
    }
    super::report_problems(&content.take_problems())
}

async fn timeline(content: &mut Content, args: &Replay) -> Result<Timeline> {
    let mut builder = Builder::new(Selection {
        terminal: args.terminal,
        idle_limit: args.idle_limit,
    });
    content
        .each(|record| {
            let event = record.event.as_ref();
            Ok(match event.is_none_or(|event| builder.push(event)) {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            })
        })
        .await?;
    Ok(builder.finish())
}

/// Whether the session has the terminal.
pub(super) fn check(timeline: &Timeline, terminal: u32) -> Result<()> {
    let terminals = timeline.terminals();
    let pipes = timeline.has_pipes() && terminal == 0;
    if terminals.is_empty() || terminals.contains_key(&terminal) || pipes {
        return Ok(());
    }
    Err(Failure::not_found(format!(
        "the session has no terminal {terminal}, only: {}",
        listed(timeline, |_| true)
    )))
}

/// Terminals with what is known of them: `1 (pts/4, /usr/bin/tmux)`.
fn listed(timeline: &Timeline, wanted: impl Fn(u32) -> bool) -> String {
    let terminals = timeline.terminals().iter();
    let listed = terminals.filter(|(number, _)| wanted(**number));
    let listed: Vec<String> = listed
        .map(|(number, what)| match what.as_str() {
            "" => number.to_string(),
            what => format!("{number} ({what})"),
        })
        .collect();
    listed.join(", ")
}

/// Tells of the session's other terminals.
pub(super) fn tell_others(timeline: &Timeline, shown: u32) {
    let others = listed(timeline, |number| number != shown);
    if !others.is_empty() {
        out::warn(&format!(
            "the session has other terminals, shown by --terminal: {others}"
        ));
    }
}

/// Where to begin on the replay's clock; `None` when it was not said.
fn from(
    timeline: &Timeline,
    session: &v1::Session,
    args: &Replay,
    config: &Config,
) -> Result<Option<Duration>> {
    let recorded = match (&args.at, args.from) {
        (Some(at), _) => {
            let at = config
                .zone
                .parse(at, Timestamp::now())
                .map_err(Failure::usage)?;
            let start = timeline
                .start()
                .or_else(|| moment::from_proto(session.start_time.as_ref()))
                .unwrap_or(at);
            moment::between(start, at)
        }
        (None, Some(from)) => from,
        (None, None) => return Ok(None),
    };
    Ok(Some(timeline.played_at(recorded)))
}

fn title(session: &v1::Session) -> String {
    let user = session.login.as_ref().map_or("?", |login| &login.user);
    let host = session.host.as_ref().map_or("?", |host| &host.hostname);
    sanitise::line(&format!("{user}@{host}"))
}

fn print(timeline: &Timeline, from: Option<Duration>) -> Result<()> {
    let mut result = Ok(());
    let print = |text: &str| {
        if result.is_ok() {
            result = out::print(text);
        }
    };
    match from {
        Some(at) => plain::screen(timeline, at, print),
        None => plain::transcript(timeline, print),
    }
    result
}

/// Set when the process is asked to end, so that the terminal is restored.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for kind in [
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::interrupt(),
    ] {
        let mut signals = signal(kind)?;
        let stop = Arc::clone(&stop);
        tokio::spawn(async move {
            signals.recv().await;
            stop.store(true, Ordering::Relaxed);
        });
    }
    Ok(stop)
}
