//! docs/kernels.md: the tables of the last full run, made from the logs that it
//! left.

use std::fs;

use anyhow::{Context as _, Result, bail};

use super::{
    console::Console,
    kernels::{MATRIX, MODES},
    machine::Plan,
    native::{self, NATIVE},
    results::{Column, Results},
};
use crate::workspace;

const FILE: &str = "docs/kernels.md";

const HEAD: &str = "\
# Kernels

What the capture suite found, test by test, kernel by kernel, and for each way of
capture (`capture.mode` in the agent's configuration). This file is written by
`cargo xtask vm --docs` from the last `cargo xtask vm --full` and
`cargo xtask vm --native`; do not edit it.

- `pass`: what is recorded is what the client, or another witness, saw.
- `limit`: something is not recorded, and the agent or the recording says so; what
  it says stands below.
- `skip`: the machine lacks what the test needs.

A machine that is not in a table was not in the runs that this file is made from.
";

/// Writes the file.
pub fn write() -> Result<()> {
    let mut results = Results::default();
    let mut machines = String::new();
    let kernels = MATRIX.iter().map(|kernel| {
        let openssh = kernel.userland.openssh;
        (kernel.name, kernel.preempt, openssh, kernel.modes)
    });
    let native = (NATIVE, None, "its own", &native::MODES[..]);
    for (machine, preempt, openssh, modes) in kernels.chain([native]) {
        let mut release = String::new();
        for (mode, _) in modes {
            let plan = Plan {
                mode: (*mode).to_owned(),
                tests: Vec::new(),
            };
            let log = fs::read_to_string(super::log(machine, &plan)?).unwrap_or_default();
            let console = Console::read(&log);
            let columns = console.columns(machine, preempt);
            results.columns.extend(columns);
            if !console.kernel().is_empty() {
                release = console.kernel().to_owned();
            }
        }
        let release = match release.as_str() {
            "" => "not in these runs".to_owned(),
            release => format!("`{release}`"),
        };
        let mode = preempt.unwrap_or("without a choice");
        machines += &format!("| {machine} | {release} | {mode} | {openssh} |\n");
    }
    if results.columns.is_empty() {
        bail!("no log of a whole suite is in target/vm");
    }
    // By way of capture, as they stand in the matrix.
    let place = |column: &Column| MODES.iter().position(|mode| *mode == column.mode);
    results.columns.sort_by_key(place);
    if results.failures() > 0 {
        bail!(
            "{} failed:\n{}",
            results.failures(),
            results.remarks("FAIL")
        );
    }
    let path = workspace::root()?.join(FILE);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("could not create {}", folder.display()))?;
    }
    fs::write(&path, text(&results, &machines))
        .with_context(|| format!("could not write {}", path.display()))
}

fn text(results: &Results, machines: &str) -> String {
    let mut text = format!(
        "{HEAD}\n## Machines\n\n| name | kernel | preemption | OpenSSH |\n|---|---|---|---|\n{machines}"
    );
    for mode in results.modes() {
        text += &format!("\n## Capture mode `{mode}`\n\n{}", results.table(mode));
    }
    text += &format!("\n## Declared limits\n\n{}", results.remarks("limit"));
    let skipped = results.remarks("skip");
    if !skipped.is_empty() {
        text += &format!("\n## Skipped\n\n{skipped}");
    }
    text += &format!(
        "\n## Verified instructions\n\nThe most that the verifier walked, in any way of capture; \
         50,000 are the budget.\nKernels before 5.16 do not tell.\n\n{}",
        results.programs()
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of the first table after a heading, as cells.
    fn table(text: &str, heading: &str) -> Vec<Vec<String>> {
        let (_, rest) = text
            .split_once(heading)
            .unwrap_or_else(|| panic!("no {heading:?}"));
        let lines = rest.lines().skip_while(|line| !line.starts_with('|'));
        let lines = lines.take_while(|line| line.starts_with('|'));
        let cells = |line: &str| {
            line.trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect()
        };
        lines.map(cells).collect()
    }

    /// Not its age: that nobody edited it, and that no machine is missing.
    #[test]
    fn the_committed_file_is_what_the_generator_writes() {
        let text = fs::read_to_string(workspace::root().unwrap().join(FILE)).unwrap();
        assert!(text.starts_with(HEAD));
        let kernels = MATRIX.iter().map(|kernel| kernel.name);
        let machines: Vec<_> = kernels.chain([NATIVE]).collect();
        let listed: Vec<_> = table(&text, "## Machines").into_iter().skip(2).collect();
        assert!(
            listed
                .iter()
                .map(|row| row[0].as_str())
                .eq(machines.iter().copied())
        );
        for mode in MODES {
            let heading = format!("## Capture mode `{mode}`");
            if !text.contains(&heading) {
                continue;
            }
            let rows = table(&text, &heading);
            let known = |machine: &String| machines.contains(&machine.as_str());
            assert!(rows[0].iter().skip(1).all(known), "{mode}");
            assert_eq!(rows[2][0], "boot");
            for row in rows.iter().skip(2) {
                assert_eq!(row.len(), rows[0].len(), "{row:?}");
                let known = |cell: &String| ["pass", "limit", "skip", ""].contains(&cell.as_str());
                assert!(row.iter().skip(1).all(known), "{row:?}");
            }
        }
        for heading in ["## Declared limits", "## Verified instructions"] {
            assert!(text.contains(heading), "{heading}");
        }
    }
}
