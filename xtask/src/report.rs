//! What ran, and how it went.

use std::{
    fmt::Display,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// Counts over everything that ran.
pub struct Report {
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
    /// One line per suite.
    ran: Vec<String>,
    /// When the last of them was written.
    last: Instant,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            passed: 0,
            failed: Vec::new(),
            skipped: Vec::new(),
            ran: Vec::new(),
            last: Instant::now(),
        }
    }
}

impl Report {
    /// Runs a command that is one check.
    pub fn check(&mut self, name: &str, command: &mut Command) {
        println!("\n== {name}: {}", workspace::show(command));
        let started = command.status();
        match started {
            Ok(status) if status.success() => {
                self.passed += 1;
                self.ran(&format!("{name}: passed"));
            }
            Ok(status) => self.fail(name, &status),
            Err(error) => self.fail(name, &error),
        }
    }

    /// Notes a check that failed.
    pub fn fail(&mut self, name: &str, why: &dyn Display) {
        self.failed.push(format!("{name}: {why:#}"));
        self.ran(&format!("{name}: FAILED"));
    }

    /// Notes a check that cannot run here.
    pub fn skip(&mut self, name: &str, reason: &str) {
        println!("\n== {name}: skipped: {reason}");
        self.skipped.push(format!("{name}: {reason}"));
        self.ran(&format!("{name}: skipped"));
    }

    /// Adds a suite that was counted elsewhere: how many passed, and what
    /// failed and was skipped, each with its reason.
    pub fn counted(
        &mut self,
        name: &str,
        passed: usize,
        failed: Vec<String>,
        skipped: Vec<String>,
    ) {
        self.add(
            name,
            Suite {
                passed,
                failed,
                skipped,
                ..Suite::default()
            },
        );
    }

    /// Runs `cargo test` and counts what libtest prints.
    pub fn tests(&mut self, name: &str, command: &mut Command) -> Result<()> {
        println!("\n== {name}: {}", workspace::show(command));
        let (reader, writer) = std::io::pipe().context("could not make a pipe")?;
        let errors = writer.try_clone().context("could not make a pipe")?;
        command.stdin(Stdio::null()).stdout(writer).stderr(errors);
        // Errors say what failed; where in libtest they passed through is noise.
        command.env("RUST_LIB_BACKTRACE", "0");
        let mut child = command
            .spawn()
            .with_context(|| format!("{} did not start", workspace::show(command)))?;
        // Our ends of the pipe, or it would never be at its end.
        command.stdout(Stdio::null()).stderr(Stdio::null());

        let mut suite = Suite::default();
        for line in BufReader::new(reader).split(b'\n') {
            let line = line.context("could not read the output of the tests")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            suite.take(&line);
        }
        let status = child.wait().context("could not wait for the tests")?;
        if !status.success() && suite.failed.is_empty() {
            suite
                .failed
                .push(format!("{} ended with {status}", workspace::show(command)));
        }
        self.add(name, suite);
        Ok(())
    }

    /// Notes what ran, with the time since what ran before.
    fn ran(&mut self, line: &str) {
        let seconds = self.last.elapsed().as_secs();
        self.last = Instant::now();
        self.ran.push(match seconds {
            0 => line.to_owned(),
            seconds => format!("{line} ({seconds} s)"),
        });
    }

    fn add(&mut self, name: &str, suite: Suite) {
        // A test that skips itself ends well for libtest.
        let passed = suite.passed.saturating_sub(suite.skipped_itself);
        self.ran(&format!(
            "{name}: {passed} passed, {} failed, {} skipped",
            suite.failed.len(),
            suite.skipped.len()
        ));
        self.passed += passed;
        self.failed.extend(
            suite
                .failed
                .into_iter()
                .map(|test| format!("{name}: {test}")),
        );
        self.skipped.extend(
            suite
                .skipped
                .into_iter()
                .map(|test| format!("{name}: {test}")),
        );
    }

    /// Prints the summary; an error when something failed.
    pub fn finish(self) -> Result<()> {
        println!("\n== what ran");
        for (title, lines) in [
            ("", &self.ran),
            ("skipped", &self.skipped),
            ("FAILED", &self.failed),
        ] {
            if !title.is_empty() && !lines.is_empty() {
                println!("{title}:");
            }
            for line in lines {
                println!("  {line}");
            }
        }
        let failed = self.failed.len();
        println!(
            "{} passed, {failed} failed, {} skipped",
            self.passed,
            self.skipped.len()
        );
        if failed > 0 {
            // The counts are the last line; an error message would follow them.
            std::process::exit(1);
        }
        if self.passed == 0 {
            bail!("no test ran: is the filter right?");
        }
        Ok(())
    }
}

/// What libtest said, over all test programs of one `cargo test`.
#[derive(Default)]
struct Suite {
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
    skipped_itself: usize,
    /// Inside the list of names after `failures:`.
    listing: bool,
}

impl Suite {
    fn take(&mut self, line: &str) {
        if self.listing {
            if let Some(test) = line.strip_prefix("    ") {
                self.failed.push(test.to_owned());
                return;
            }
            self.listing = false;
        }
        if line == "failures:" {
            // libtest prints two such blocks; only the list has indented names.
            self.listing = true;
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += passed_in(counts);
        } else if let Some(skipped) = line.strip_prefix("SKIPPED ") {
            self.skipped.push(skipped.to_owned());
            self.skipped_itself += 1;
        } else if let Some((test, "ignored")) = line.rsplit_once(" ... ").map(without_reason) {
            self.skipped
                .push(test.trim_start_matches("test ").to_owned());
        }
    }
}

/// `ignored, some reason` is `ignored` with its reason moved away.
fn without_reason<'a>((test, outcome): (&'a str, &'a str)) -> (&'a str, &'a str) {
    (
        test,
        outcome
            .split_once(',')
            .map_or(outcome, |(outcome, _)| outcome),
    )
}

/// The count in `ok. 12 passed; 0 failed; …`.
fn passed_in(counts: &str) -> usize {
    let words: Vec<_> = counts.split(' ').collect();
    words
        .windows(2)
        .find_map(|pair| match pair {
            [count, "passed;"] => count.parse().ok(),
            _ => None,
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 4 tests
test a ... ok
test b ... FAILED
test c ... ignored, needs two kernels
SKIPPED d: no npm
test d ... ok

failures:

---- b stdout ----
    indented output of b
failures:
    b

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out

running 1 test
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out
";

    #[test]
    fn libtest_is_counted_over_all_programs() {
        let mut suite = Suite::default();
        for line in OUTPUT.lines() {
            suite.take(line);
        }
        let mut report = Report::default();
        report.add("unit", suite);
        assert_eq!(report.passed, 2, "a and the one of the second program");
        assert_eq!(report.failed, ["unit: b"]);
        assert_eq!(report.skipped, ["unit: c", "unit: d: no npm"]);
    }
}
