//! The same as JSON, for programs.

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::{
    goals,
    measures::{Against, SECTIONS},
    sheet::Sheet,
    statistics::Spread,
};

/// One object: `facts`, `absent`, `failed`, `numbers`, `goals`. A ratio has no
/// unit, a difference and a plain number have that of their name.
pub fn render(sheet: &Sheet) -> Result<String> {
    serde_json::to_string_pretty(&object(sheet)).context("could not write JSON")
}

fn object(sheet: &Sheet) -> Value {
    let facts = sheet
        .facts
        .iter()
        .map(|(name, texts)| (name.clone(), json!(texts)));
    let facts: Map<_, _> = facts.collect();
    let mut numbers = Vec::new();
    for section in &SECTIONS {
        for measure in section.measures {
            for recorder in sheet.recorders(section) {
                let Some(spread) = sheet.cell(section, measure, recorder) else {
                    continue;
                };
                let against = match measure.against {
                    Against::Ratio => "ratio",
                    Against::Difference => "difference",
                    Against::Nothing | Against::Whole => "plain",
                };
                let Spread {
                    median,
                    low,
                    high,
                    count,
                } = spread;
                numbers.push(json!({
                    "measure": measure.id, "name": measure.name, "kind": against,
                    "recorder": recorder, "median": median, "first_quartile": low,
                    "third_quartile": high, "rounds": count,
                }));
            }
        }
    }
    let goals = goals::judge(sheet).into_iter().map(|goal| {
        json!({"goal": goal.text, "measured": goal.measured, "verdict": goal.verdict, "met": goal.met})
    });
    json!({
        "facts": facts, "absent": sheet.absent, "failed": sheet.failed,
        "numbers": numbers, "goals": goals.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_absent_recorders_are_in_it() {
        let mut sheet = Sheet::default();
        sheet.read(
            "sample\tkey.p99\tnone\t0\t100\nsample\tkey.p99\tauditty\t0\t150\nabsent\ttlog\tno package\n",
        );
        let object = object(&sheet);
        assert_eq!(object["numbers"][0]["median"], 50.0);
        assert_eq!(object["numbers"][0]["kind"], "difference");
        assert_eq!(object["absent"]["tlog"], "no package");
    }
}
