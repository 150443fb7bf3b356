//! `cargo xtask soak`.

use anyhow::Result;

use crate::{build, report::Report, setup, workspace};

/// Runs the spool's failure tests for long
///
/// The same tests as in `cargo xtask test`, which runs them for seconds: `kill -9`
/// while sessions are busy; a store that is away for weeks.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many times the agent's side is killed
    #[arg(long, default_value_t = 1000)]
    kills: u32,
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
    test.env("AUDITTY_TEST_KILLS", arguments.kills.to_string())
        .env(
            "AUDITTY_TEST_OUTAGE_HOURS",
            arguments.outage_hours.to_string(),
        );
    report.tests("soak", &mut test)?;
    report.finish()
}
