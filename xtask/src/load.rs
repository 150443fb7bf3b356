//! `cargo xtask load`.

use anyhow::Result;

use crate::{report::Report, setup, workspace};

/// Loads a collector with the reports of a fleet, and asks it questions
///
/// A real collector process takes in what simulated agents report over gRPC, as fast
/// as it can, into SQLite and then into a PostgreSQL of its own, both durably; then
/// typical questions are asked one after the other. Printed are rates, latencies and
/// memory. `cargo xtask test` runs the same with a few thousand commands.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many agents report
    #[arg(long, default_value_t = 2000)]
    agents: u32,
    /// How many commands they report in all, 50 a session
    #[arg(long, default_value_t = 10_000_000)]
    commands: u64,
    /// How often each question is asked
    #[arg(long, default_value_t = 200)]
    questions: u32,
    /// Only this database
    #[arg(long, value_parser = ["sqlite", "postgres"])]
    database: Option<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::ready()?;
    let mut report = Report::default();
    let database = arguments.database.as_deref().unwrap_or("");
    let mut test = workspace::cargo()?;
    test.args(["test", "--release", "--locked", "--test", "service", "--"]);
    // One database after the other.
    test.args(["--nocapture", "--test-threads=1"]);
    test.arg(format!("load::a_fleet_reports_and_is_asked::{database}"));
    for (name, number) in [
        ("AGENTS", u64::from(arguments.agents)),
        ("COMMANDS", arguments.commands),
        ("QUESTIONS", u64::from(arguments.questions)),
    ] {
        test.env(format!("AUDITTY_TEST_LOAD_{name}"), number.to_string());
    }
    test.env("AUDITTY_TEST_PG_FSYNC", "on");
    report.tests("load", &mut test)?;
    report.finish()
}
