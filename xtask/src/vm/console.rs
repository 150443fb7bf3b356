//! What a guest's console says, or the capture suite on this machine.
//!
//! The lines are specified in `tests/src/bin/capture_suite/main.rs`; `VM init`
//! and `VM preempt` come from the guest's first process, `VM kernel`,
//! `VM modes` and `VM hung` from the listener. Everything else is the
//! kernel's, or evidence after a failure. The log of a console is its lines, so
//! that a report can be made again from what is kept.

use std::collections::{BTreeMap, VecDeque};

use super::results::{Column, Outcome};

/// What the listener writes after a silence that is too long.
pub const HUNG: &str = "VM hung";

/// What a kernel prints when something is wrong with it.
const COMPLAINTS: [&str; 7] = [
    "Kernel panic",
    "Oops:",
    "BUG:",
    "general protection fault",
    "detected stall",
    "soft lockup",
    "blocked for more than",
];

/// Lines that are kept for the tail.
const TAIL: usize = 20;

/// What was said so far.
#[derive(Default)]
pub struct Console {
    reached_init: bool,
    done: bool,
    hung: bool,
    complaint: Option<String>,
    kernel: String,
    asked: Vec<String>,
    preempt: Option<String>,
    modes: Vec<Mode>,
    tail: VecDeque<String>,
}

/// What was said in one way of capture.
#[derive(Default)]
struct Mode {
    name: String,
    /// The tests that will run.
    plan: Vec<String>,
    started: Option<String>,
    outcomes: BTreeMap<String, Outcome>,
    programs: BTreeMap<String, u64>,
}

impl Console {
    /// Takes the lines of a log.
    pub fn read(log: &str) -> Self {
        let mut console = Self::default();
        for line in log.lines() {
            console.take(line);
        }
        console
    }

    /// Whether the first process ran.
    pub fn reached_init(&self) -> bool {
        self.reached_init
    }

    /// Its version, as the listener noted it.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// Whether the suite reached its end.
    pub fn done(&self) -> bool {
        self.done
    }

    /// The last lines.
    pub fn tail(&self) -> impl Iterator<Item = &String> {
        self.tail.iter()
    }

    /// Takes a line; whether it is worth showing.
    pub fn take(&mut self, line: &str) -> bool {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
        let Some(message) = line.strip_prefix("VM ") else {
            return self.other(line);
        };
        let (word, rest) = message.split_once(' ').unwrap_or((message, ""));
        match (word, self.modes.last_mut()) {
            ("init", _) => self.reached_init = true,
            ("done", _) => self.done = true,
            ("hung", _) => self.hung = true,
            ("kernel", _) => self.kernel = rest.to_owned(),
            ("modes", _) => self.asked = rest.split(',').map(str::to_owned).collect(),
            ("preempt", _) => self.preempt = Some(rest.to_owned()),
            ("mode", _) => {
                self.modes.push(Mode {
                    name: rest.to_owned(),
                    ..Mode::default()
                });
                return true;
            }
            ("plan", Some(mode)) => mode.plan = rest.split(',').map(str::to_owned).collect(),
            ("start", Some(mode)) => mode.started = Some(rest.to_owned()),
            ("programs", Some(mode)) => mode.programs = programs(rest),
            (test, Some(mode)) => {
                if let Some(outcome) = Outcome::parse(rest) {
                    mode.outcomes.insert(test.to_owned(), outcome);
                    mode.started = None;
                    return true;
                }
            }
            (_, None) => {}
        }
        false
    }

    fn other(&mut self, line: &str) -> bool {
        let evidence = line.starts_with("| ");
        let complains = !evidence && COMPLAINTS.iter().any(|text| line.contains(text));
        if complains && self.complaint.is_none() {
            self.complaint = Some(line.to_owned());
        }
        evidence || complains || line.starts_with("capture-suite:")
    }

    /// One column for each way of capture that was asked for, with an outcome for
    /// every test that was to run. The first is that the machine itself was well.
    pub fn columns(&self, machine: &str, preempt: Option<&str>) -> Vec<Column> {
        let boot = self.boot(preempt);
        let nothing = Mode::default();
        let column = |name: &String| {
            let mode = self.modes.iter().find(|mode| mode.name == *name);
            let mode = mode.unwrap_or(&nothing);
            let mut outcomes = vec![("boot".to_owned(), boot.clone())];
            let planned = mode.plan.iter().map(|test| {
                let said = mode.outcomes.get(test).cloned();
                (
                    test.clone(),
                    said.unwrap_or_else(|| self.silent(mode, test)),
                )
            });
            outcomes.extend(planned);
            if mode.plan.is_empty() {
                outcomes.push(("check".to_owned(), self.silent(mode, "check")));
            }
            Column {
                machine: machine.to_owned(),
                mode: name.clone(),
                outcomes,
                programs: mode.programs.clone(),
            }
        };
        self.asked.iter().map(column).collect()
    }

    /// A test without an outcome failed.
    fn silent(&self, mode: &Mode, test: &str) -> Outcome {
        let running = mode.started.as_deref() == Some(test);
        let why = match (running, self.hung) {
            (true, true) => format!("it hung; last lines: {}", self.last_words()),
            (true, false) => "the machine ended during it".to_owned(),
            (false, _) => "it was not reached".to_owned(),
        };
        Outcome::Fail(why)
    }

    fn last_words(&self) -> String {
        let lines: Vec<_> = self.tail.iter().rev().skip(1).take(3).cloned().collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }

    fn boot(&self, preempt: Option<&str>) -> Outcome {
        if let Some(complaint) = &self.complaint {
            return Outcome::Fail(complaint.clone());
        }
        let why = match (self.reached_init, self.hung, self.done) {
            (false, ..) => "it never reached its first process",
            (true, true, _) => "it hung",
            (true, false, false) => "it ended before the suite did",
            (true, false, true) if preempt == self.preempt.as_deref() => {
                let remark = preempt.map(|mode| format!("preempt={mode} is in force"));
                return Outcome::Pass(remark.unwrap_or_default());
            }
            (true, false, true) => {
                let found = self.preempt.as_deref().unwrap_or("without a choice");
                return Outcome::Fail(format!("the preemption mode in force is {found}"));
            }
        };
        Outcome::Fail(why.to_owned())
    }
}

/// `<name>=<count> …`
fn programs(list: &str) -> BTreeMap<String, u64> {
    list.split(' ')
        .filter_map(|word| word.split_once('='))
        .filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(lines: &[&str]) -> Vec<Column> {
        let log = format!("VM modes default\n{}", lines.join("\n"));
        Console::read(&log).columns("6.1", None)
    }

    fn fail(why: &str) -> Outcome {
        Outcome::Fail(why.to_owned())
    }

    const BEGIN: [&str; 3] = ["VM init", "VM mode default", "VM plan check,argv"];

    #[test]
    fn every_planned_test_has_an_outcome() {
        let lines = [
            "VM start check",
            "VM programs a=5 b=7",
            "VM check PASS well",
        ];
        let columns = columns(
            &[
                &BEGIN[..],
                &lines,
                &["VM start argv", "VM argv LIMIT x", "VM done"],
            ]
            .concat(),
        );
        let [column] = &columns[..] else { panic!() };
        let outcomes: Vec<_> = column
            .outcomes
            .iter()
            .map(|(_, outcome)| outcome.clone())
            .collect();
        let expected = [
            Outcome::Pass(String::new()),
            Outcome::Pass("well".to_owned()),
            Outcome::Limit("x".to_owned()),
        ];
        assert_eq!(outcomes, expected);
        assert_eq!(column.programs["b"], 7);
    }

    #[test]
    fn a_test_that_hangs_is_named_with_what_was_said_last() {
        let lines = ["VM start check", "[  9.1] something odd", HUNG];
        let columns = columns(&[&BEGIN[..], &lines].concat());
        let outcomes: Vec<_> = columns[0]
            .outcomes
            .iter()
            .map(|(_, outcome)| outcome.clone())
            .collect();
        let hung =
            "it hung; last lines: VM plan check,argv / VM start check / [  9.1] something odd";
        assert_eq!(
            outcomes,
            [fail("it hung"), fail(hung), fail("it was not reached")]
        );
    }

    #[test]
    fn a_kernel_that_complains_failed() {
        let panic = "[    2.1] Kernel panic - not syncing: no init";
        assert_eq!(columns(&[panic])[0].outcomes[0].1, fail(panic));
        let evidence = "| the client saw: BUG: none";
        let column = &columns(&["VM init", evidence, "VM done"])[0];
        assert_eq!(column.outcomes[0].1, Outcome::Pass(String::new()));
    }

    #[test]
    fn another_preemption_mode_than_asked_for_is_a_failure() {
        let console = Console::read("VM modes default\nVM init\nVM preempt full\nVM done");
        let boot = |preempt| console.columns("6.1", preempt)[0].outcomes[0].1.clone();
        assert_eq!(
            boot(Some("full")),
            Outcome::Pass("preempt=full is in force".to_owned())
        );
        assert_eq!(
            boot(Some("none")),
            fail("the preemption mode in force is full")
        );
    }
}
