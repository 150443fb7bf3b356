//! `auditty export`: a session in another format.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use auditty_recording::export::{Format, Options, exporter};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::Export;
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::out;
use crate::sanitise;
use crate::source::{self, Content, Source};

/// How often the progress is drawn; shorter exports show none.
const PROGRESS_TICK: Duration = Duration::from_secs(1);

pub(super) async fn run(args: &Export, config: &Config) -> Result<()> {
    let mut source = Source::open(config).await?;
    let session = source.find_session(&args.session).await?;
    let mut content = source::open_content(&session, config).await?;
    let options = Options {
        include_input: args.input,
        terminal: args.terminal,
    };
    let written = write(&mut content, args.format, options, open(args)?).await;
    match written {
        // A reader that has seen enough, such as `head`, is no error.
        Err(Stop::Write(error)) if error.kind() == ErrorKind::BrokenPipe => {}
        Err(Stop::Write(error)) => {
            let to = args.out.display();
            return Err(Failure::error(format!("cannot write to {to}: {error}")));
        }
        Err(Stop::Read(failure)) => return Err(failure),
        Ok(()) => {}
    }
    super::report_problems(&content.take_problems())
}

/// Why an export ended early.
enum Stop {
    Read(Failure),
    Write(io::Error),
}

async fn write(
    content: &mut Content,
    format: Format,
    options: Options,
    to: Box<dyn Write + Send>,
) -> std::result::Result<(), Stop> {
    let session = content.session().clone();
    let progress = progress(session.counts.events);
    let mut to = BufWriter::new(to);
    let mut export = exporter(format, &mut to, &session, options);
    let mut written = Ok(());
    let read = content
        .each(|record| {
            progress.inc(1);
            written = export.record(record);
            Ok(match written {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            })
        })
        .await;
    let written = written.and_then(|()| export.finish());
    drop(export);
    progress.finish_and_clear();
    written.and_then(|()| to.flush()).map_err(Stop::Write)?;
    read.map_err(Stop::Read)
}

fn open(args: &Export) -> Result<Box<dyn Write + Send>> {
    if args.out == Path::new("-") {
        let stdout = io::stdout();
        return Ok(match (stdout.is_terminal(), args.format) {
            (true, Format::AsciicastV3 | Format::AsciicastV2 | Format::JsonLines) => {
                Box::new(VisibleJson::new(stdout))
            }
            (false, _) | (true, Format::Text) => Box::new(stdout),
        });
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&args.out);
    let file = file.map_err(|error| {
        let to = args.out.display();
        Failure::error(format!("cannot create {to}: {error}"))
    })?;
    Ok(Box::new(file))
}

/// On the standard error, and only where somebody looks at it.
fn progress(events: u64) -> ProgressBar {
    if !io::stderr().is_terminal() || io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(events), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} events {eta}")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(PROGRESS_TICK);
    bar
}

/// JSON on a terminal: what a terminal would act on is escaped as JSON does.
struct VisibleJson<W> {
    to: W,
    bytes: sanitise::Emulated,
}

impl<W: Write> VisibleJson<W> {
    fn new(to: W) -> Self {
        Self {
            to,
            bytes: sanitise::Emulated::default(),
        }
    }
}

impl<W: Write> Write for VisibleJson<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = self.bytes.text(bytes);
        self.to.write_all(out::visible_json(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
