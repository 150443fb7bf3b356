//! What came out: test × machine × way of capture.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use crate::report::Report;

/// How a test went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a remark or without.
    Pass(String),
    /// What is missing is declared: how.
    Limit(String),
    /// Why.
    Fail(String),
    /// Why.
    Skip(String),
}

impl Outcome {
    /// `PASS|LIMIT|FAIL|SKIP [<text>]`.
    pub fn parse(text: &str) -> Option<Self> {
        let (word, text) = text.split_once(' ').unwrap_or((text, ""));
        let text = text.to_owned();
        match word {
            "PASS" => Some(Self::Pass(text)),
            "LIMIT" => Some(Self::Limit(text)),
            "FAIL" => Some(Self::Fail(text)),
            "SKIP" => Some(Self::Skip(text)),
            _ => None,
        }
    }

    /// As it stands in a table.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pass(_) => "pass",
            Self::Limit(_) => "limit",
            Self::Fail(_) => "FAIL",
            Self::Skip(_) => "skip",
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Pass(text) | Self::Limit(text) | Self::Fail(text) | Self::Skip(text) => text,
        }
    }
}

/// One machine's outcomes in one way of capture, in the order of the tests.
pub struct Column {
    /// Name of the kernel in the matrix.
    pub machine: String,
    /// The way of capture.
    pub mode: String,
    /// By test.
    pub outcomes: Vec<(String, Outcome)>,
    /// Verified instructions by kernel program.
    pub programs: BTreeMap<String, u64>,
}

/// All of them.
#[derive(Default)]
pub struct Results {
    /// Of machines that ran.
    pub columns: Vec<Column>,
    /// Machines that did not, and why.
    pub skipped: Vec<(String, String)>,
}

impl Results {
    /// Machines in this order, ways of capture in theirs.
    pub fn sort(&mut self, machines: &[&str]) {
        let place = |name: &str| machines.iter().position(|machine| *machine == name);
        self.columns.sort_by_key(|column| place(&column.machine));
        self.skipped.sort_by_key(|(machine, _)| place(machine));
    }

    /// How many tests failed.
    pub fn failures(&self) -> usize {
        let outcomes = self.columns.iter().flat_map(|column| &column.outcomes);
        outcomes
            .filter(|(_, outcome)| matches!(outcome, Outcome::Fail(_)))
            .count()
    }

    /// Adds one count for each machine, way of capture and test. A declared
    /// limit is a pass: the agent said so.
    pub fn count_in(&self, report: &mut Report) {
        for column in &self.columns {
            let mut passed = 0;
            let (mut failed, mut skipped) = (Vec::new(), Vec::new());
            for (test, outcome) in &column.outcomes {
                match outcome {
                    Outcome::Pass(_) | Outcome::Limit(_) => passed += 1,
                    Outcome::Fail(why) => failed.push(format!("{test}: {why}")),
                    Outcome::Skip(why) => skipped.push(format!("{test}: {why}")),
                }
            }
            let name = format!("capture {} {}", column.machine, column.mode);
            report.counted(&name, passed, failed, skipped);
        }
        for (machine, why) in &self.skipped {
            report.skip(&format!("capture {machine}"), why);
        }
    }

    /// The ways of capture, as they were first tested.
    pub fn modes(&self) -> Vec<&str> {
        let mut modes = Vec::new();
        for column in &self.columns {
            if !modes.contains(&column.mode.as_str()) {
                modes.push(&column.mode);
            }
        }
        modes
    }

    /// Test × machine in Markdown for one way of capture.
    pub fn table(&self, mode: &str) -> String {
        let columns: Vec<_> = self
            .columns
            .iter()
            .filter(|column| column.mode == mode)
            .collect();
        let mut tests: Vec<&str> = Vec::new();
        for (test, _) in columns.iter().flat_map(|column| &column.outcomes) {
            if !tests.contains(&test.as_str()) {
                tests.push(test);
            }
        }
        let heads = columns.iter().map(|column| column.machine.as_str());
        let rows = tests.iter().map(|test| {
            let cells = columns.iter().map(|column| {
                let found = column.outcomes.iter().find(|(name, _)| name == test);
                found.map_or("", |(_, outcome)| outcome.word()).to_owned()
            });
            ((*test).to_owned(), cells.collect())
        });
        markdown("test", heads, rows)
    }

    /// Verified instructions, kernel program × machine; the most of all ways of
    /// capture.
    pub fn programs(&self) -> String {
        let mut machines: Vec<&str> = Vec::new();
        let mut names = BTreeSet::new();
        for column in &self.columns {
            if !machines.contains(&column.machine.as_str()) {
                machines.push(&column.machine);
            }
            names.extend(column.programs.keys());
        }
        let most = |name: &str, machine: &str| {
            let columns = self
                .columns
                .iter()
                .filter(|column| column.machine == machine);
            let counts = columns.filter_map(|column| column.programs.get(name));
            counts.max().map_or_else(String::new, u64::to_string)
        };
        let rows = names.into_iter().map(|name| {
            let cells = machines.iter().map(|machine| most(name, machine));
            (name.clone(), cells.collect())
        });
        markdown("kernel program", machines.iter().copied(), rows)
    }

    /// What there is to say about outcomes of one kind: each text once, with
    /// where it was said.
    pub fn remarks(&self, word: &str) -> String {
        let mut remarks: Vec<(&str, Vec<String>)> = Vec::new();
        for column in &self.columns {
            for (test, outcome) in &column.outcomes {
                if outcome.word() != word || outcome.text().is_empty() {
                    continue;
                }
                let place = format!("{test} ({} {})", column.machine, column.mode);
                match remarks.iter_mut().find(|(text, _)| *text == outcome.text()) {
                    Some((_, places)) => places.push(place),
                    None => remarks.push((outcome.text(), vec![place])),
                }
            }
        }
        let mut text = String::new();
        for (remark, places) in remarks {
            let _ = writeln!(text, "- {remark}: {}", places.join(", "));
        }
        text
    }

    /// Everything, for a terminal and for `report.md`.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for mode in self.modes() {
            let _ = writeln!(text, "## {mode}\n\n{}", self.table(mode));
        }
        let _ = writeln!(text, "## verified instructions\n\n{}", self.programs());
        for word in ["FAIL", "limit", "skip"] {
            let remarks = self.remarks(word);
            if !remarks.is_empty() {
                let _ = writeln!(text, "## {word}\n\n{remarks}");
            }
        }
        for (machine, why) in &self.skipped {
            let _ = writeln!(text, "- {machine}: skipped: {why}");
        }
        text
    }
}

/// A table whose columns are as wide as what is in them.
fn markdown<'a>(
    corner: &str,
    heads: impl Iterator<Item = &'a str>,
    rows: impl Iterator<Item = (String, Vec<String>)>,
) -> String {
    let mut lines: Vec<Vec<String>> = Vec::new();
    lines.push(
        [corner.to_owned()]
            .into_iter()
            .chain(heads.map(str::to_owned))
            .collect(),
    );
    lines.extend(rows.map(|(name, cells)| [name].into_iter().chain(cells).collect()));
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            for width in &widths {
                let _ = write!(text, "|{:-<1$}", "", width + 2);
            }
            text.push_str("|\n");
        }
    }
    text
}
