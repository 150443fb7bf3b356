//! The kernel's list of events.

use std::{io, path::Path};

const OWN: &str = "/sys/kernel/tracing";
const IN_DEBUGFS: &str = "/sys/kernel/debug/tracing";

/// Where it is mounted.
pub fn folder() -> &'static Path {
    let own = Path::new(OWN);
    let elsewhere = Path::new(IN_DEBUGFS);
    if !own.join("events").is_dir() && elsewhere.join("events").is_dir() {
        elsewhere
    } else {
        own
    }
}

/// Mounts it where it is not: the ids of tracepoints are read from it.
pub fn ensure() -> io::Result<()> {
    if folder().join("events").is_dir() {
        return Ok(());
    }
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tracefs"), OWN, Some("tracefs"), flags, None::<&str>)?;
    Ok(())
}

/// The id of an event.
pub fn event_id(category: &str, name: &str) -> io::Result<u64> {
    let path = folder().join("events").join(category).join(name).join("id");
    let text = std::fs::read_to_string(path)?;
    text.trim().parse().map_err(io::Error::other)
}
