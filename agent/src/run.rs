//! The agent as a whole: composes capture, sessions and delivery, and takes
//! them apart again.
//!
//! ```text
//! thread "capture"  → batches → thread "recorder" → spool → tasks: uploader, reporter
//!   kernel rings      bounded     sessions, spool             embedded collector
//! ```
//!
//! On SIGTERM or SIGINT the chain ends from its source: the capture drains the
//! kernel, the recorder takes its last batch, seals, and waits a bounded time
//! for store and collector; then the tasks are stopped. Pinned programs go on
//! without it, for the next agent.

mod break_glass;
mod check;
mod collector;
mod courtesy;
mod door;
mod ending;
mod guard;
mod held;
mod notify;
mod permit;
mod process;
mod recorder;
mod told;
mod uninstall;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use auditty_proto::v1::HostReport;
use auditty_recording::digest::Digest;
use auditty_recording::session::Host;
use auditty_recording::store::{AnyStore, StoreUrl};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use check::{check, check_types};
pub use guard::guard;
pub use permit::permit;
pub use uninstall::uninstall;

use crate::capture::ladder::Mode;
use crate::capture::pins::Pins;
use crate::capture::{self, Attach, Capture, Left, Options, now_boot_ns, queue};
use crate::config::{self, Config, Files};
use crate::delivery::{AgentLock, Journaled, Reporter, Spool, SpoolOptions, Uploader, Watch, dial};
use crate::grants::{Followed, Follower, kept_grants};
use crate::sessions::Restart;
use crate::sessions::sink::SessionRecord;
use collector::EmbeddedCollector;
use recorder::Recorder;
use told::Told;

/// The copy of the collector's grants, in the state directory.
const COLLECTOR_GRANTS: &str = "collector-grants";

/// From then on the agent does what it does all day.
const START: Duration = Duration::from_secs(10);

/// How long tasks may take to stop after the last delivery.
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// Runs the agent until it is told to stop.
pub fn run(config: &Config) -> Result<()> {
    process::start_logging(config.log())?;
    process::require_root()?;
    process::prepare();
    ending::may_end(config.grants())?;
    let _lock = AgentLock::take(&process::lock_file()?)?;
    let host = process::host(config.host())?;
    let runtime = process::runtime()?;
    let store = runtime
        .block_on(config.store().open())
        .context("opening the store")?;
    catch_up(config, &host, &store)?;
    let takeover = Takeover::prepare(config, &host)?;
    let options = spool_options(config, &host);
    let (spool, resumable) = Spool::open(options, Arc::clone(&store), takeover.journal.as_ref())
        .context("opening the spool")?;
    let shared = Shared::default();
    let tasks = Tasks::start(&runtime, config, &host, &spool, store, &shared)?;
    let outcome = record(&runtime, config, &host, takeover, spool, resumable, shared);
    runtime.block_on(tasks.stop());
    outcome
}

/// What the threads and the tasks tell each other.
#[derive(Clone, Default)]
struct Shared {
    /// Grants of the collector.
    followed: Followed,
    /// What the collector is told of the host, when it is known how it records.
    host: watch::Sender<Option<HostReport>>,
}

fn configuration(config: &Config) -> Digest {
    Digest::of(format!("{config:?}").as_bytes())
}

fn spool_options(config: &Config, host: &Host) -> SpoolOptions {
    SpoolOptions {
        directory: config.spool().directory().to_owned(),
        max_bytes: config.spool().max_bytes(),
        shed: config.spool().shed().to_vec(),
        reserve: config.spool().reserve(),
        chunk_interval: config.recording().chunk_interval(),
        chunk_size: config.recording().chunk_size(),
        flush_interval: config.recording().flush_interval(),
        host_id: host.host_id.clone(),
        boot_id: host.boot_id.clone(),
        keys_directory: config.host().state_directory().join("keys"),
        key_lifetime: config.recording().key_lifetime(),
        digest_interval: config.recording().digest_interval(),
        configuration: configuration(config),
        encryption: config.encryption().recipients().cloned().map(Arc::new),
        report_content: config.report_content(),
    }
}

fn capture_options(config: &Config) -> Options {
    Options {
        control_ring_bytes: config.capture().control_ring_size(),
        data_ring_bytes: config.capture().data_ring_size(),
        record_files: config.capture().files() == Files::Changes,
        sensitive_paths: config.capture().sensitive_paths().clone(),
        record_transfers: config.capture().transfer_content(),
        input: match config.capture().input() {
            config::Input::Masked => capture::Input::Masked,
            config::Input::Off => capture::Input::Off,
            config::Input::Full => capture::Input::Full,
        },
        mode: config.capture().mode().map(|mode| match mode {
            config::Mode::KernelFunction => Mode::KernelFunction,
            config::Mode::Tracepoint => Mode::Tracepoint,
            config::Mode::Uprobe => Mode::Uprobe,
        }),
        attach: match config.capture().attach() {
            config::Attach::OnDemand => Attach::OnDemand,
            config::Attach::WhileConnected => Attach::WhileConnected,
            config::Attach::Always => Attach::Always,
        },
        pin: config.capture().pin(),
    }
}

/// Records what is left in rings that this agent cannot go on with. From then on
/// until it captures itself, open sessions have a gap.
fn catch_up(config: &Config, host: &Host, store: &AnyStore) -> Result<()> {
    let options = capture_options(config);
    let failed = "looking for rings of an agent before";
    let Some(mut left) = Left::find(&options).context(failed)? else {
        return Ok(());
    };
    let journal = Journaled::read(config.spool().directory());
    let rings = left.pins().ring_ids().unwrap_or_default();
    let Some(journal) = journal.filter(|journal| {
        journal.is_of(&host.boot_id, &rings) && left.pins().hold(&journal.handover().marks)
    }) else {
        return Ok(());
    };
    let handover = journal.handover();
    let batch = match left.drain(&options, &handover) {
        Ok(batch) => batch,
        Err(error) => {
            tracing::error!(%error, "what an agent before has left in its rings cannot be read: it is declared as a gap");
            return Ok(());
        }
    };
    let spool_options = spool_options(config, host);
    let (mut spool, open) = Spool::open(spool_options, Arc::clone(store), Some(&journal))
        .context("opening the spool")?;
    let restart = Restart::Pinned(open, journal.connections());
    spool
        .begin_journal(Some(&rings), Some(journal))
        .context("beginning the journal")?;
    tracing::info!(
        events = batch.events.len(),
        "an agent with another layout has left its programs: what they have captured is recorded"
    );
    let (sender, batches) = queue();
    sender.send(batch);
    drop(sender);
    let state = config.host().state_directory();
    let grants = (config.grants(), kept_grants(&state.join(COLLECTOR_GRANTS)));
    Recorder::new(host.clone(), grants, spool, batches, handover.marks, state).catch_up(restart);
    left.remove().context("removing rings that are recorded")
}

/// What an agent before has left in the kernel, and where it stood there.
struct Takeover {
    pins: Option<Pins>,
    journal: Option<Journaled>,
}

impl Takeover {
    /// Looks for both. One without the other is of no use.
    fn prepare(config: &Config, host: &Host) -> Result<Self> {
        let failed = "looking for programs of an agent before";
        let mut pins = Pins::open(&capture_options(config), now_boot_ns()).context(failed)?;
        let mut journal = None;
        if let Some(pins) = &mut pins
            && let Some(rings) = pins.rings()
        {
            journal = Journaled::read(config.spool().directory()).filter(|journal| {
                journal.is_of(&host.boot_id, &rings) && pins.hold(&journal.handover().marks)
            });
            if journal.is_none() {
                tracing::warn!(
                    "the programs that an agent before has left belong to another spool: they are removed"
                );
                pins.begin_anew().context(failed)?;
            }
        }
        Ok(Self { pins, journal })
    }
}

/// Captures and records until a signal comes or one of the two fails.
fn record(
    runtime: &Runtime,
    config: &Config,
    host: &Host,
    takeover: Takeover,
    mut spool: Spool,
    resumable: Vec<SessionRecord>,
    shared: Shared,
) -> Result<()> {
    if config.capture().input() == config::Input::Full {
        tracing::warn!(
            "capture.input = \"full\": EVERY PASSWORD that is typed in a session will be in its recording, in the clear"
        );
    }
    // From here on what is attached is taken away again, however soon one comes.
    let signals = runtime.block_on(async { Signals::handle() })?;
    let Takeover { pins, journal } = takeover;
    let handover = journal.as_ref().map(Journaled::handover);
    let capture = Capture::start(&capture_options(config), pins, handover.as_ref())
        .context("starting the capture")?;
    let host = &Host {
        capture_mode: capture.mode().name().to_owned(),
        ..host.clone()
    };
    shared.host.send_replace(Some(HostReport {
        host: Some(host.into()),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        configuration_sha256: configuration(config).to_string(),
        stopped_hooks: Vec::new(),
        unrecorded: None,
    }));
    let open = resumable.len();
    let restart = match &journal {
        Some(journal) => Restart::Pinned(resumable, journal.connections()),
        None => Restart::Unpinned(resumable),
    };
    let rings = capture.rings();
    spool
        .begin_journal(rings.as_deref(), journal)
        .context("beginning the journal")?;
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, batches) = queue();
    let goes_on = rings.is_some();
    let marks = handover.map(|handover| handover.marks).unwrap_or_default();
    let state = config.host().state_directory();
    let recorder = Recorder::new(
        host.clone(),
        (config.grants(), shared.followed),
        spool,
        batches,
        marks,
        state,
    )
    .telling(Told::new(shared.host, jiff::Timestamp::now()));
    let (begin, begun) = oneshot::channel();
    let recorder = spawn("recorder", move || recorder.run(restart, goes_on, begin))?;
    let (running, capture_ended) = oneshot::channel::<()>();
    let capture = {
        let stop = Arc::clone(&stop);
        spawn("capture", move || {
            // Gone with the thread, however that ends.
            let _running = running;
            capture.run(&sender, &stop)
        })?
    };
    // Only then the next agent could go on where this one dies. A recorder that died
    // ends the capture.
    let _ = begun.blocking_recv();
    tracing::info!(
        host = host.host_id,
        store = %config.store().url,
        spool = %config.spool().directory().display(),
        mode = host.capture_mode,
        resumed_sessions = open,
        "auditty-agent {} records the SSH sessions of {}",
        env!("CARGO_PKG_VERSION"),
        host.hostname,
    );
    notify::ready();
    runtime.spawn(async {
        tokio::time::sleep(START).await;
        crate::memory::forget_start();
    });
    let signalled = runtime.block_on(signals.or(capture_ended));
    if let Some(name) = signalled {
        tracing::info!("{name}: sealing and delivering what is open");
    }
    notify::stopping();
    stop.store(true, Ordering::Relaxed);
    let captured = join(capture, "capture")?;
    join(recorder, "recorder")?;
    captured.context("the capture ended")
}

/// What ends the agent from outside.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they wait here.
    fn handle() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("handling SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("handling SIGINT")?,
        })
    }

    /// Waits for one, and says which; `None` when the capture ended.
    async fn or(mut self, capture_ended: oneshot::Receiver<()>) -> Option<&'static str> {
        tokio::select! {
            _ = self.terminate.recv() => Some("SIGTERM"),
            _ = self.interrupt.recv() => Some("SIGINT"),
            _ = capture_ended => None,
        }
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.with_context(|| format!("starting the thread {name}"))
}

fn join<T>(thread: JoinHandle<T>, name: &str) -> Result<T> {
    thread.join().map_err(|_| anyhow!("the thread {name} died"))
}

/// What runs beside the two threads.
struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    collector: Option<EmbeddedCollector>,
}

impl Tasks {
    fn start(
        runtime: &Runtime,
        config: &Config,
        host: &Host,
        spool: &Spool,
        store: AnyStore,
        shared: &Shared,
    ) -> Result<Self> {
        let _inside = runtime.enter();
        let (collector, address) = runtime
            .block_on(collector::start(config.collector()))
            .context("starting the collector")?;
        let channel = dial(&address).context("the collector's address")?;
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let kept = config.host().state_directory().join(COLLECTOR_GRANTS);
        let follower = Follower::new(
            channel.clone(),
            &host.host_id,
            &kept,
            shared.followed.clone(),
        );
        tracker.spawn(follower.run(stop.clone()));
        let reporter = Reporter::new(spool.outbox(), channel).saying(shared.host.subscribe());
        tracker.spawn(reporter.run(stop.clone()));
        // A folder has no settings that could change behind the agent's back.
        if matches!(config.store().url, StoreUrl::S3 { .. }) {
            let watch = Watch::new(spool.uploads(), Arc::clone(&store), host.host_id.clone());
            tracker.spawn(watch.run(stop.clone()));
        }
        tracker.spawn(Uploader::new(spool.uploads(), Arc::clone(&store)).run(stop.clone()));
        let (host_objects, stopped) = (spool.host_objects(), stop.clone());
        let store_for_host = Arc::clone(&store);
        tracker.spawn(async move { host_objects.upload(store_for_host, stopped).await });
        let state_directory = config.host().state_directory().to_owned();
        let host_id = host.host_id.clone();
        let notes = break_glass::deliver(state_directory, store, host_id, stop.clone());
        tracker.spawn(notes);
        tracker.close();
        Ok(Self {
            tracker,
            stop,
            collector,
        })
    }

    /// Stops the tasks, and the collector after those who use it.
    async fn stop(self) {
        self.stop.cancel();
        if tokio::time::timeout(STOP_DEADLINE, self.tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!("a delivery did not stop in time; the next start repeats it");
        }
        if let Some(collector) = self.collector {
            collector.stop().await;
        }
    }
}
