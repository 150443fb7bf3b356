//! What was measured, and the numbers that come out of it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    measures::{Against, Measure, RECORDERS, Section},
    statistics::Spread,
};

/// Readings by measure, recorder and round.
#[derive(Default)]
pub struct Sheet {
    readings: BTreeMap<String, BTreeMap<String, BTreeMap<u32, f64>>>,
    /// Recorders that could not be had, and why.
    pub absent: BTreeMap<String, String>,
    /// Readings that are missing, and why.
    pub failed: BTreeSet<String>,
    /// What the numbers hold for; a part may say another thing than the one
    /// before.
    pub facts: Vec<(String, BTreeSet<String>)>,
}

impl Sheet {
    /// Takes lines of tab-separated fields, as `auditty-bench` says them; a line
    /// that is none of these is left out.
    pub fn read(&mut self, text: &str) {
        for line in text.lines() {
            let fields: Vec<_> = line.split('\t').collect();
            match *fields {
                ["sample", measure, recorder, round, value] => {
                    if let (Ok(round), Ok(value)) = (round.parse(), value.parse()) {
                        let of_measure = self.readings.entry(measure.to_owned()).or_default();
                        let of_recorder = of_measure.entry(recorder.to_owned()).or_default();
                        of_recorder.insert(round, value);
                    }
                }
                ["absent", recorder, reason] => {
                    self.absent.insert(recorder.to_owned(), reason.to_owned());
                }
                ["failed", recorder, what, reason] => {
                    self.failed.insert(format!("{recorder}: {what}: {reason}"));
                }
                ["fact", name, text] => self.fact(name, text),
                _ => {}
            }
        }
    }

    fn fact(&mut self, name: &str, text: &str) {
        let known = self.facts.iter_mut().find(|(known, _)| known == name);
        match known {
            Some((_, texts)) => {
                texts.insert(text.to_owned());
            }
            None => {
                let texts = BTreeSet::from([text.to_owned()]);
                self.facts.push((name.to_owned(), texts));
            }
        }
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.readings.is_empty()
    }

    /// Recorders with a reading in this table, but the one that the others are
    /// compared with, in the order of the columns.
    pub fn recorders(&self, section: &Section) -> Vec<&str> {
        let of_measures = section
            .measures
            .iter()
            .filter_map(|measure| self.readings.get(measure.id));
        let names: BTreeSet<_> = of_measures
            .flat_map(BTreeMap::keys)
            .map(String::as_str)
            .collect();
        let mut names: Vec<_> = names
            .into_iter()
            .filter(|name| *name != section.baseline)
            .collect();
        let place = |name: &str| RECORDERS.iter().position(|known| *known == name);
        names.sort_by_key(|name| place(name).unwrap_or(usize::MAX));
        names
    }

    /// A number of a table.
    pub fn cell(&self, section: &Section, measure: &Measure, recorder: &str) -> Option<Spread> {
        self.number(measure.id, measure.against, section.baseline, recorder)
    }

    /// The least reading of a recorder.
    pub fn least(&self, id: &str, recorder: &str) -> Option<f64> {
        let readings = self.readings.get(id)?.get(recorder)?;
        readings.values().copied().min_by(f64::total_cmp)
    }

    /// Readings of a recorder, each compared with that of the same round; a round
    /// of which one is missing does not count.
    pub fn number(
        &self,
        id: &str,
        against: Against,
        baseline: &str,
        recorder: &str,
    ) -> Option<Spread> {
        let readings = self.readings.get(id)?;
        let baseline = readings.get(baseline);
        let other = |round: &u32| baseline.and_then(|readings| readings.get(round));
        let own = readings.get(recorder)?.iter();
        Spread::of(own.filter_map(|(round, value)| match against {
            Against::Nothing | Against::Whole => Some(*value),
            Against::Ratio => other(round).map(|other| value / other),
            Against::Difference => other(round).map(|other| value - other),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
sample\tspeed\tnone\t0\t100\n\
sample\tspeed\tnone\t1\t50\n\
sample\tspeed\tnone\t2\t80\n\
sample\tspeed\tours\t0\t90\n\
sample\tspeed\tours\t1\t50\n\
sample\tspeed\tours\t3\t1\n\
absent\ttlog\tno package\n\
failed\tsudo\tstorage\tit ended\n\
fact\tload\t0.5\nfact\tload\t0.7\nfact\tload\t0.5\n\
something else\n";

    fn sheet() -> Sheet {
        let mut sheet = Sheet::default();
        sheet.read(SAID);
        sheet
    }

    #[test]
    fn readings_are_compared_within_their_round() {
        let sheet = sheet();
        let ratio = sheet
            .number("speed", Against::Ratio, "none", "ours")
            .unwrap();
        // Rounds 2 and 3 have only one of the two.
        assert_eq!((ratio.count, ratio.median), (2, 0.95));
        let added = sheet
            .number("speed", Against::Difference, "none", "ours")
            .unwrap();
        assert_eq!((added.low, added.median, added.high), (-7.5, -5.0, -2.5));
        let plain = sheet
            .number("speed", Against::Nothing, "none", "ours")
            .unwrap();
        assert_eq!((plain.count, plain.median), (3, 50.0));
    }

    #[test]
    fn what_is_not_there_has_no_number() {
        let sheet = sheet();
        assert_eq!(
            sheet.number("speed", Against::Ratio, "nobody", "ours"),
            None
        );
        assert_eq!(
            sheet.number("speed", Against::Ratio, "none", "theirs"),
            None
        );
        assert_eq!(sheet.number("size", Against::Ratio, "none", "ours"), None);
    }

    #[test]
    fn who_is_absent_and_what_failed_is_kept() {
        let sheet = sheet();
        assert_eq!(sheet.absent["tlog"], "no package");
        assert!(sheet.failed.contains("sudo: storage: it ended"));
        let (name, texts) = &sheet.facts[0];
        assert_eq!((name.as_str(), texts.len()), ("load", 2));
    }

    #[test]
    fn columns_have_an_order() {
        let mut sheet = Sheet::default();
        for recorder in ["zz", "tlog", "none", "auditty"] {
            sheet.read(&format!("sample\ttext.speed\t{recorder}\t0\t1"));
        }
        let section = &crate::bench::measures::SECTIONS[0];
        assert_eq!(sheet.recorders(section), ["auditty", "tlog", "zz"]);
    }
}
