//! From when to when something of a session was not captured.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Most spans that are told apart: an hour of gaps every two minutes.
const MAX_SPANS: usize = 32;

/// Spans in order, without overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GapTimes(Vec<(Timestamp, Timestamp)>);

impl GapTimes {
    /// The spans, from the first to the last.
    pub fn spans(&self) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        self.0.iter().copied()
    }

    /// A gap from one moment to another. At the bound the two spans that are the
    /// nearest to each other become one.
    pub(super) fn add(&mut self, from: Timestamp, to: Timestamp) {
        self.0.push((from, to.max(from)));
        self.0.sort_unstable();
        self.0.dedup_by(|next, before| {
            let touches = next.0 <= before.1;
            if touches {
                before.1 = before.1.max(next.1);
            }
            touches
        });
        if self.0.len() > MAX_SPANS {
            self.join_nearest();
        }
    }

    fn join_nearest(&mut self) {
        let pairs = self.0.iter().zip(self.0.iter().skip(1));
        let apart = pairs.map(|(before, next)| next.0.duration_since(before.1));
        let nearest = apart.enumerate().min_by_key(|(_, apart)| *apart);
        let Some((index, _)) = nearest else {
            return;
        };
        let next = self.0.remove(index + 1);
        if let Some(before) = self.0.get_mut(index) {
            before.1 = before.1.max(next.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn seconds(times: &GapTimes) -> Vec<(i64, i64)> {
        let spans = times.spans();
        spans
            .map(|(from, to)| (from.as_second(), to.as_second()))
            .collect()
    }

    #[test]
    fn what_overlaps_is_one_span() {
        let mut times = GapTimes::default();
        for (from, to) in [(50, 60), (10, 20), (15, 30), (70, 65), (30, 31)] {
            times.add(at(from), at(to));
        }
        assert_eq!(seconds(&times), [(10, 31), (50, 60), (70, 70)]);
    }

    #[test]
    fn at_the_bound_the_nearest_are_joined() {
        let mut times = GapTimes::default();
        for number in 0..1000 {
            times.add(at(number * 100), at(number * 100 + 1));
        }
        assert_eq!(times.0.len(), MAX_SPANS);
        assert_eq!(times.0.first().unwrap().0, at(0));
        assert_eq!(times.0.last().unwrap().1, at(99_901));
    }
}
