//! Tables for a terminal, and for a document.

use std::fmt::Write as _;

use super::{
    goals,
    measures::{Against, Measure, SECTIONS, Section},
    sheet::Sheet,
    statistics::Part,
};

/// A heading, what the reader has to know, and lines of cells, the first with
/// the names of the columns.
pub struct Table {
    pub title: &'static str,
    pub remark: &'static str,
    pub rows: Vec<Vec<String>>,
}

/// All tables that have a number in them, the goals last.
pub fn tables(sheet: &Sheet) -> Vec<Table> {
    let mut tables: Vec<_> = SECTIONS
        .iter()
        .filter_map(|section| table(sheet, section))
        .collect();
    let goals = goals::judge(sheet);
    if goals.iter().any(|goal| goal.met.is_some()) {
        let mut rows = vec![["goal", "measured", ""].map(str::to_owned).to_vec()];
        let cells = goals.into_iter();
        rows.extend(cells.map(|goal| vec![goal.text, goal.measured, goal.verdict]));
        tables.push(Table {
            title: "Goals",
            remark: "",
            rows,
        });
    }
    tables
}

fn table(sheet: &Sheet, section: &Section) -> Option<Table> {
    let recorders = sheet.recorders(section);
    let cell = |measure: &Measure, recorder: &str| match measure.against {
        Against::Whole => Some(Part(sheet.least(measure.id, recorder)?).to_string()),
        _ => Some(sheet.cell(section, measure, recorder)?.to_string()),
    };
    let cells = |measure: &Measure| -> Option<Vec<String>> {
        let texts = recorders.iter().map(|recorder| cell(measure, recorder));
        let texts: Vec<_> = texts.collect();
        texts.iter().any(Option::is_some).then(|| {
            let texts = texts.into_iter().map(|text| text.unwrap_or("–".to_owned()));
            std::iter::once(measure.name.to_owned())
                .chain(texts)
                .collect()
        })
    };
    let mut rows: Vec<_> = section.measures.iter().filter_map(cells).collect();
    if rows.is_empty() {
        return None;
    }
    let names = recorders.iter().map(|name| (*name).to_owned());
    rows.insert(0, std::iter::once(String::new()).chain(names).collect());
    Some(Table {
        title: section.title,
        remark: section.remark,
        rows,
    })
}

/// For a terminal.
pub fn render(sheet: &Sheet) -> String {
    let mut text = String::new();
    for table in tables(sheet) {
        let _ = writeln!(text, "\n{}\n", table.title);
        text += &aligned(&table.rows);
    }
    for (recorder, reason) in &sheet.absent {
        let _ = writeln!(text, "\nnot here: {recorder}: {reason}");
    }
    for failure in &sheet.failed {
        let _ = writeln!(text, "\nFAILED: {failure}");
    }
    let _ = writeln!(text, "\nmedian (middle half) of rounds");
    for (name, texts) in &sheet.facts {
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let _ = writeln!(text, "{name}: {}", texts.join("; "));
    }
    text
}

/// Columns as wide as what is in them.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters() {
        let rows = [["", "µs"], ["keys", "1.00 (1–2)"], ["k", "2"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(aligned(&rows), "      µs\nkeys  1.00 (1–2)\nk     2\n");
    }

    #[test]
    fn rows_and_tables_without_a_number_are_left_out() {
        let mut sheet = Sheet::default();
        sheet.read("sample\tkey.p50\tnone\t0\t100\nsample\tkey.p50\tauditty\t0\t150\nabsent\ttlog\tno package");
        let titles = |sheet: &Sheet| tables(sheet).iter().map(|t| t.title).collect::<Vec<_>>();
        assert_eq!(titles(&sheet), ["In a session, through ssh"]);
        assert_eq!(
            tables(&sheet)[0].rows,
            [
                vec!["", "auditty"],
                vec!["keystroke there and back: p50 added, µs", "50.0"]
            ]
        );
        // Something that is meant to be reached.
        sheet.read("sample\tkey.p99\tnone\t0\t100\nsample\tkey.p99\tauditty\t0\t150\n");
        assert_eq!(titles(&sheet), ["In a session, through ssh", "Goals"]);
        assert!(render(&sheet).contains("not here: tlog: no package"));
    }
}
