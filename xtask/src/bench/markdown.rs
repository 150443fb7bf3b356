//! docs/benchmarks.md.

use std::{fmt::Write as _, fs};

use anyhow::{Context as _, Result};

use super::{
    sheet::Sheet,
    table::{Table, tables},
};
use crate::workspace;

const FILE: &str = "docs/benchmarks.md";

const HEAD: &str = "\
# Benchmarks

The agent against no recorder and against the recorders a user would pick instead:
the same work, through the stock ssh and a real sshd, on one machine, in rounds in
which everybody takes a turn. This file is written by `cargo xtask bench --docs`; do
not edit it.

A ratio or difference is taken within a round. What stands here is the median of the
rounds, and in parentheses the half of them that lies in the middle; a number without
is a single reading. Absolute times are left out: they are the machine's. A recorder
that wraps the command (script, tlog, sudo, asciinema) puts a terminal of its own
inside that of ssh, as it does in use. Where the load at the start is not near 0, others
used the machine: ratios hold then within their spread, and the slowest hundredth of
keystrokes tells more of the others than of the recorder.
";

/// Writes the file.
pub fn write(sheet: &Sheet) -> Result<()> {
    let path = workspace::root()?.join(FILE);
    fs::write(&path, text(sheet)).with_context(|| format!("could not write {}", path.display()))
}

fn text(sheet: &Sheet) -> String {
    let mut text = HEAD.to_owned();
    let _ = writeln!(text, "\n| | |\n|---|---|");
    for (name, texts) in &sheet.facts {
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let _ = writeln!(text, "| {name} | {} |", escaped(&texts.join("; ")));
    }
    for table in tables(sheet) {
        text += &section(&table);
    }
    if !sheet.absent.is_empty() {
        let _ = writeln!(text, "\n## Not compared\n");
        for (recorder, reason) in &sheet.absent {
            let _ = writeln!(text, "- {recorder}: {reason}");
        }
    }
    if !sheet.failed.is_empty() {
        let _ = writeln!(text, "\n## Failed\n");
        for failure in &sheet.failed {
            let _ = writeln!(text, "- {failure}");
        }
    }
    text
}

fn section(table: &Table) -> String {
    let mut text = format!("\n## {}\n\n", table.title);
    if !table.remark.is_empty() {
        let _ = writeln!(text, "{}\n", table.remark);
    }
    for (number, row) in table.rows.iter().enumerate() {
        let cells: Vec<_> = row.iter().map(|cell| escaped(cell)).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
        if number == 0 {
            let _ = writeln!(text, "|{}", "---|".repeat(row.len()));
        }
    }
    text
}

fn escaped(cell: &str) -> String {
    cell.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_absent_recorders_and_failures_are_in_the_text() {
        let mut sheet = Sheet::default();
        sheet.read(
            "fact\tkernel\t6.1\nabsent\tauditd\tin use | here\nfailed\tsudo\tkeys\tit ended\n\
             sample\ttext.stored\tauditty\t0\t0.5\n",
        );
        let text = text(&sheet);
        assert!(text.contains("| kernel | 6.1 |"));
        assert!(
            text.contains(
                "|  | auditty |\n|---|---|\n| text: bytes stored per byte shown | 0.50 |\n"
            )
        );
        assert!(text.contains("- auditd: in use | here"));
        assert!(text.contains("- sudo: keys: it ended"));
    }
}
