//! The units in `deploy/systemd` under a real systemd: a guest whose first process
//! it is, installed as `deploy/README.md` says.
//!
//! `init.sh` hands over to systemd, which starts the capture suite as a unit of its
//! own once the machine is up. The suite then speaks to `systemctl`.

use anyhow::{Error, Result};

use super::{
    guest::{self, Over},
    kernels,
    machine::{self, Plan},
    results::Results,
    userland::SYSTEMD,
};
use crate::{build, report::Report, setup};

/// The kernel that boots: one that is in use, and pins programs.
const KERNEL: &str = "6.12";

const UNITS: &str = "/etc/systemd/system";

/// Runs the suite, and powers off.
const SUITE: &str = "\
[Unit]
After=multi-user.target
[Service]
Type=oneshot
Environment=AUDITTY_BINARIES=/usr/bin AUDITTY_PATIENCE=5 HOME=/root TERM=xterm vm_modes=systemd
ExecStart=/usr/bin/auditty-capture-suite
ExecStopPost=/bin/sh -c 'sync; sleep 0.3; echo o >/proc/sysrq-trigger'
StandardInput=tty
StandardOutput=tty
TTYPath=/dev/console
TimeoutStartSec=infinity
";

const AGENT: &str = include_str!("../../../deploy/systemd/auditty-agent.service");
const GUARD: &str = include_str!("../../../deploy/systemd/auditty-guard.service");
const COLLECTOR: &str = include_str!("../../../deploy/systemd/auditty-collector.service");
const COLLECTOR_CONFIG: &str = include_str!("../../../deploy/collector.toml");

/// Nobody logs in on the console, and no time is spent on what nobody uses.
const LEFT_OUT: [&str; 6] = [
    "e2scrub_reap.service",
    "getty.target",
    "ssh.service",
    "systemd-udev-trigger.service",
    "systemd-udevd.service",
    "timers.target",
];

/// A stuck agent is noticed sooner than on a host, so that the test is short.
const IMPATIENT: &str = "[Service]\nWatchdogSec=5\n";

/// Boots one guest and runs every test of the units in it.
pub fn run(report: &mut Report) {
    let name = "systemd";
    println!("\n== {name}: the units under a real systemd");
    if !setup::emulator_present() {
        return report.skip(name, setup::NO_EMULATOR);
    }
    match boot() {
        Ok(results) => {
            println!("\n{}", results.report());
            results.count_in(report);
        }
        Err(error) => report.fail(name, &error),
    }
}

fn boot() -> Result<Results> {
    build::rig()?;
    let kernel = kernels::parse(KERNEL).map_err(Error::msg)?;
    let initramfs = guest::build(&SYSTEMD, &over())?;
    let plan = Plan {
        mode: "systemd".to_owned(),
        tests: Vec::new(),
    };
    let console = machine::boot(kernel, &kernel.image()?, &initramfs, &plan)?;
    let _ = std::fs::remove_file(initramfs);
    Ok(Results {
        columns: console.columns(kernel.name, kernel.preempt),
        ..Results::default()
    })
}

/// What an administrator installs, and what starts the suite.
fn over() -> Over {
    let mut over = Over {
        binaries: &["auditty-collector", "auditty"],
        ..Over::default()
    };
    let mut file = |path: String, text: &str| over.files.push((path, text.to_owned()));
    for (name, text) in [
        ("auditty-agent.service", AGENT),
        ("auditty-agent.service.d/impatient.conf", IMPATIENT),
        ("auditty-guard.service", GUARD),
        ("auditty-collector.service", COLLECTOR),
        ("auditty-suite.service", SUITE),
    ] {
        file(format!("{UNITS}/{name}"), text);
    }
    file("/etc/auditty/collector.toml".to_owned(), COLLECTOR_CONFIG);
    file(
        "/etc/machine-id".to_owned(),
        "0123456789abcdef0123456789abcdef\n",
    );
    let mut link = |name: &str, target: &str| {
        over.links
            .push((format!("{UNITS}/{name}"), target.to_owned()));
    };
    for unit in LEFT_OUT {
        link(unit, "/dev/null");
    }
    link("default.target", "/lib/systemd/system/multi-user.target");
    link(
        "multi-user.target.wants/auditty-suite.service",
        "../auditty-suite.service",
    );
    over
}
