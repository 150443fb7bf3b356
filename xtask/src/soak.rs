//! `cargo xtask soak`.

use anyhow::Result;

use crate::{build, report::Report, setup, vm, workspace};

/// Runs the spool's failure tests for long
///
/// The same tests as in `cargo xtask test`, which runs them for seconds: power loss
/// at every point of a spool's life, with every kind of loss; power loss of guests
/// that record real logins; `kill -9` while sessions are busy; a store that is away
/// for weeks.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many times the agent's side is killed
    #[arg(long, default_value_t = 1000)]
    kills: u32,
    /// How many guests lose their power, one boot behind the other on the same disk
    #[arg(long, default_value_t = 10)]
    power_boots: u32,
    /// How often each loses it
    #[arg(long, default_value_t = 30)]
    power_cuts: u32,
    /// How many recordings nobody has tampered with are verified
    #[arg(long, default_value_t = 10_000)]
    recordings: u32,
    /// How long the store is away, hours of a clock that runs fast
    #[arg(long, default_value_t = 24 * 21)]
    outage_hours: u32,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::ready()?;
    build::rig()?;
    let mut report = Report::default();
    let with_s3 = workspace::root()?.join("target/release/with-s3");
    let mut test = workspace::command(with_s3)?;
    test.args(["cargo", "test", "--release", "--locked", "--no-fail-fast"]);
    test.args(["--test", "spool", "--", "--nocapture"]);
    test.env("AUDITTY_TEST_ALL_CRASH_POINTS", "1");
    test.env("AUDITTY_TEST_KILL_SESSIONS", "50")
        .env("AUDITTY_TEST_KILLS", arguments.kills.to_string())
        .env(
            "AUDITTY_TEST_OUTAGE_HOURS",
            arguments.outage_hours.to_string(),
        );
    report.tests("soak", &mut test)?;
    let mut verify = workspace::cargo()?;
    verify.args(["test", "--release", "--locked", "--test", "verify"]);
    verify.args(["--", "--nocapture", "clean"]);
    let recordings = arguments.recordings.to_string();
    verify.env("AUDITTY_TEST_CLEAN_RECORDINGS", recordings);
    report.tests("soak: verify", &mut verify)?;
    vm::power::run(&mut report, arguments.power_boots, arguments.power_cuts);
    report.finish()
}
