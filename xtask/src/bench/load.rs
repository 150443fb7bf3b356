//! `cargo xtask load`, and the benchmark's part of it: a collector with the commands
//! of a fleet. What is measured is a test, `collector/tests/service/load.rs`.

use anyhow::{Result, bail};

use super::{listen, sheet::Sheet, table};
use crate::{setup, workspace};

/// Loads a collector with the reports of a fleet, and asks it questions
///
/// A real collector process takes in what simulated agents report over gRPC, as fast
/// as it can, into SQLite and then into a PostgreSQL of its own, both durably; then
/// typical questions are asked one after the other. Printed are rates, latencies and
/// memory. `cargo xtask bench` has it with other numbers of commands, and
/// `cargo xtask test` runs the same with a few thousand.
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
    let mut sheet = Sheet::default();
    sheet.read(&measure(arguments)?);
    if sheet.is_empty() {
        bail!("nothing was measured");
    }
    println!("{}", table::render(&sheet));
    Ok(())
}

/// The same fleet with one number of commands after the other.
pub fn growth(commands: &[u64]) -> Result<String> {
    let each = commands.iter().map(|commands| {
        measure(&Arguments {
            agents: 2000,
            commands: *commands,
            questions: 200,
            database: None,
        })
    });
    each.collect()
}

/// What the test says, one database after the other.
fn measure(arguments: &Arguments) -> Result<String> {
    let database = arguments.database.as_deref().unwrap_or_default();
    let mut test = workspace::cargo()?;
    test.args(["test", "--release", "--locked", "--test", "service", "--"]);
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
    eprintln!("{}", workspace::show(&test));
    listen(&mut test)
}
