//! `auditty-agent uninstall`: what a stopped agent leaves on the host for the
//! next one is removed.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::process;
use crate::capture::pins;
use crate::delivery::AgentLock;

/// Where the kernel keeps definitions of dynamic probes.
const PROBES: [&str; 2] = [
    "/sys/kernel/tracing/kprobe_events",
    "/sys/kernel/tracing/uprobe_events",
];

/// Our group of probes.
const GROUP: &str = "auditty";

/// How long the kernel may take to let go of a probe whose program is gone: it does
/// so when every processor has been elsewhere.
const LET_GO: Duration = Duration::from_secs(10);

/// Removes programs and maps from the kernel, definitions of probes, and the
/// folder in `/run`. Refuses while an agent runs.
pub fn uninstall() -> Result<()> {
    process::require_root()?;
    let lock_file = process::lock_file()?;
    let _lock = AgentLock::take(&lock_file)?;
    pins::remove_all().context("removing /sys/fs/bpf/auditty")?;
    for list in PROBES {
        remove_probes(Path::new(list)).with_context(|| format!("removing probes from {list}"))?;
    }
    let folder = lock_file.parent().unwrap_or(Path::new("/run/auditty"));
    fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    println!(
        "removed: programs and maps in the kernel, probes, {}",
        folder.display()
    );
    Ok(())
}

/// Lines are `<type>:<group>/<event> <where> …`.
fn remove_probes(list: &Path) -> io::Result<()> {
    let Ok(lines) = fs::read_to_string(list) else {
        // A kernel without them.
        return Ok(());
    };
    for name in own_probes(&lines) {
        let begin = Instant::now();
        while let Err(error) = remove_probe(list, name) {
            let in_use = error.kind() == io::ErrorKind::ResourceBusy;
            if !in_use || begin.elapsed() > LET_GO {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// Each once: a probe of several functions has a line for each.
fn own_probes(lines: &str) -> BTreeSet<&str> {
    lines.lines().filter_map(own_probe).collect()
}

fn remove_probe(list: &Path, name: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(list)?;
    file.write_all(format!("-:{name}\n").as_bytes())
}

/// Group and event of a probe that is ours.
fn own_probe(line: &str) -> Option<&str> {
    let (_, name) = line.split_whitespace().next()?.split_once(':')?;
    let (group, _) = name.split_once('/')?;
    group.starts_with(GROUP).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::{own_probe, own_probes};

    #[test]
    fn a_probe_of_several_functions_is_removed_once() {
        let lines = "p:auditty/calls __x64_sys_open\np:auditty/calls __x64_sys_close\n\
                     r4096:auditty/receive n_tty_receive_buf2\n";
        let names: Vec<_> = own_probes(lines).into_iter().collect();
        assert_eq!(names, ["auditty/calls", "auditty/receive"]);
    }

    #[test]
    fn only_our_own_probes_are_removed() {
        let ours = "r4096:auditty/receive_return n_tty_receive_buf2";
        assert_eq!(own_probe(ours), Some("auditty/receive_return"));
        for other in [
            "p:kprobes/p_do_exit_0 do_exit",
            "p:mine/auditty do_exit",
            "",
        ] {
            assert_eq!(own_probe(other), None);
        }
    }
}
