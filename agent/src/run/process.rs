//! The agent as a process: rights, limits, log, identity.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use auditty_recording::session::Host;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

use crate::config::{self, Log, LogFormat};

/// Delivery waits more than it computes.
const WORKERS: usize = 2;

/// Writes the log to standard error.
pub(super) fn start_logging(log: &Log) -> Result<()> {
    let filter = match EnvFilter::try_from_default_env() {
        Ok(filter) => filter,
        Err(_) => EnvFilter::try_new(log.level()).context("log.level")?,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match log.format() {
        LogFormat::Text => subscriber.with_target(false).with_ansi(false).try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
    started.map_err(|error| anyhow!("starting the log: {error}"))
}

/// Loading programs into the kernel needs root.
pub(super) fn require_root() -> Result<()> {
    match nix::unistd::geteuid().is_root() {
        true => Ok(()),
        false => bail!(
            "loading programs into the kernel needs root: start it with sudo or as a system service"
        ),
    }
}

/// Nobody else reads what the agent writes. Maps in the kernel are not counted
/// against a limit: only kernels before 5.11 do that, so that a refusal is no
/// reason to stop; there, loading then fails and says so. Every open session has
/// a file open: more than the 1024 that a service may have by default.
pub(super) fn prepare() {
    umask(Mode::from_bits_truncate(0o077));
    crate::memory::separate();
    if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        tracing::debug!(%error, "RLIMIT_MEMLOCK stays as it is (raising it needs CAP_SYS_RESOURCE); kernels before 5.11 need it");
    }
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "RLIMIT_NOFILE stays as it is: it bounds the number of open sessions");
    }
}

/// Held by the one agent that records this host: two would record everything
/// twice. Kept where a host's services, also those in containers, can meet.
pub(super) fn lock_file() -> Result<PathBuf> {
    let folder = Path::new("/run/auditty");
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    Ok(folder.join("agent.lock"))
}

/// This machine.
pub(super) fn host(config: &config::Host) -> Result<Host> {
    let hostname = nix::unistd::gethostname().context("asking for the host's name")?;
    let boot_id =
        fs::read_to_string("/proc/sys/kernel/random/boot_id").context("reading the boot id")?;
    Ok(Host {
        host_id: config.id()?,
        hostname: hostname.to_string_lossy().into_owned(),
        boot_id: boot_id.trim().to_owned(),
        capture_mode: String::new(),
        labels: config.labels().clone(),
    })
}

/// Runs the tasks.
pub(super) fn runtime() -> Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("starting the runtime")
}
