//! The recorders that the agent is compared with, put where the benchmark finds
//! them.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    setup,
    vm::apt::{self, Apt},
    workspace,
};

/// Recorder, package, reason.
const PACKAGES: [(&str, &str, &str); 4] = [
    ("tlog", "tlog", "records terminals, as Red Hat's systems do"),
    ("asciinema", "asciinema", "records terminals"),
    ("script", "bsdutils", "records terminals on any system"),
    ("sudo", "sudo", "records terminals of those who use it"),
];

/// Installs or unpacks what is missing; a line of the sheet for each that cannot
/// be had.
pub fn ensure() -> Result<String> {
    let mut absent = String::new();
    let mut note = |recorder: &str, error: &anyhow::Error| {
        let reason = format!("{error:#}").replace(['\t', '\n'], " ");
        absent += &format!("absent\t{recorder}\t{reason}\n");
    };
    for (recorder, package, reason) in PACKAGES {
        if let Err(error) = setup::install(package, reason) {
            note(recorder, &error);
        }
    }
    if let Err(error) = unpack_auditd() {
        note("auditd", &error);
    }
    let utmp = Path::new("/run/utmp");
    if !utmp.exists() {
        eprintln!("bench: create /run/utmp: tlog does not start without; systemd has it anyway");
        let mut create = workspace::command("install")?;
        create
            .args(["-m", "664", "-g", "utmp", "/dev/null"])
            .arg(utmp);
        workspace::run(&mut create, "create /run/utmp")?;
    }
    Ok(absent)
}

/// Unpacks auditd beside the other tools: where it is installed it is started,
/// and at every boot.
fn unpack_auditd() -> Result<()> {
    let folder = workspace::tools()?.join("auditd");
    if apt::intact(&folder) {
        return Ok(());
    }
    eprintln!("bench: unpack auditd: records execs, and installed it would stay on");
    let release = fs::read_to_string("/etc/os-release").context("no /etc/os-release")?;
    let mut words = release.lines();
    let suite = words.find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let suite = suite.context("/etc/os-release names no suite")?;
    let _ = fs::remove_dir_all(&folder);
    let work = folder.join("download");
    fs::create_dir_all(&work).with_context(|| format!("could not create {}", work.display()))?;
    let apt = Apt::new(suite, &work)?;
    for package in ["auditd", "libaudit1", "libauparse0"] {
        // The same name may be there already, from the package before.
        let archive = apt.download_alone(package)?;
        apt::unpack(&archive, &folder)?;
        let _ = fs::remove_file(archive);
    }
    fs::remove_dir_all(&work).with_context(|| format!("could not remove {}", work.display()))?;
    apt::seal(&folder, &["sbin/auditd", "sbin/auditctl"])
}
