//! What came out, test by test and kernel by kernel.

use std::fmt::Write as _;

use super::kernels::{Kernel, MATRIX};
use crate::report::Report;

/// The tests of the guest, each of which must say how it went. `kernel` is
/// that the kernel booted, did not complain, and the suite reached its end.
pub const TESTS: [&str; 9] = [
    "kernel", "check", "pty", "exec", "login", "argv", "parallel", "storm", "masked",
];

/// How a test went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a remark or without.
    Passed(String),
    /// Why.
    Failed(String),
    /// Why.
    Skipped(String),
}

/// One kernel's outcomes, in the order of [`TESTS`].
pub type Column = [Outcome; TESTS.len()];

/// All kernels'.
#[derive(Default)]
pub struct Results {
    columns: Vec<(&'static str, Column)>,
}

impl Results {
    /// Takes those of a kernel that was booted.
    pub fn add(&mut self, kernel: &Kernel, column: Column) {
        self.columns.push((kernel.name, column));
    }

    /// Notes a kernel that cannot be had.
    pub fn skip(&mut self, kernel: &Kernel, why: &str) {
        let column = TESTS.map(|test| {
            let why = if test == "kernel" { why } else { "no kernel" };
            Outcome::Skipped(why.to_owned())
        });
        self.add(kernel, column);
    }

    /// In the order of the matrix.
    pub fn sort(&mut self) {
        let place = |name: &str| MATRIX.iter().position(|kernel| kernel.name == name);
        self.columns.sort_by_key(|(name, _)| place(name));
    }

    /// How many tests failed.
    pub fn failures(&self) -> usize {
        let outcomes = self.columns.iter().flat_map(|(_, column)| column);
        outcomes
            .filter(|outcome| matches!(outcome, Outcome::Failed(_)))
            .count()
    }

    /// Adds one count for each kernel and test.
    pub fn count_in(&self, report: &mut Report) {
        for (kernel, column) in &self.columns {
            let mut passed = 0;
            let (mut failed, mut skipped) = (Vec::new(), Vec::new());
            for (test, outcome) in TESTS.iter().zip(column) {
                match outcome {
                    Outcome::Passed(_) => passed += 1,
                    Outcome::Failed(why) => failed.push(format!("{test}: {why}")),
                    Outcome::Skipped(why) => skipped.push(format!("{test}: {why}")),
                }
            }
            report.counted(&format!("vm {kernel}"), passed, failed, skipped);
        }
    }

    /// Test × kernel in Markdown, and below it what there is to say.
    pub fn table(&self) -> String {
        let mut table = format!("| {:<8} |", "test");
        for (kernel, _) in &self.columns {
            let _ = write!(table, " {kernel:<12} |");
        }
        let _ = write!(table, "\n|{:-<10}|", "");
        for _ in &self.columns {
            let _ = write!(table, "{:-<14}|", "");
        }
        let mut remarks = String::new();
        for (row, test) in TESTS.iter().enumerate() {
            let _ = write!(table, "\n| {test:<8} |");
            for (kernel, column) in &self.columns {
                let Some(outcome) = column.get(row) else {
                    continue;
                };
                let (word, remark) = match outcome {
                    Outcome::Passed(remark) => ("ok", remark),
                    Outcome::Failed(why) => ("FAILED", why),
                    Outcome::Skipped(why) => ("skip", why),
                };
                let _ = write!(table, " {word:<12} |");
                if !remark.is_empty() {
                    let _ = writeln!(remarks, "- {kernel} {test}: {word}: {remark}");
                }
            }
        }
        format!("{table}\n\n{remarks}")
    }
}
