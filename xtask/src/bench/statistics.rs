//! Medians and the half of the readings that lies around them.

use std::fmt;

/// Where readings lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// As many lie above as below.
    pub median: f64,
    /// A quarter lies below.
    pub low: f64,
    /// A quarter lies above.
    pub high: f64,
    /// How many there are.
    pub count: usize,
}

impl Spread {
    /// Of at least one reading; what is no number is none.
    pub fn of(readings: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<_> = readings.into_iter().filter(|one| one.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: quantile(&sorted, 0.5)?,
            low: quantile(&sorted, 0.25)?,
            high: quantile(&sorted, 0.75)?,
            count: sorted.len(),
        })
    }
}

/// Of sorted readings, with straight lines between them (the usual definition,
/// type 7 of Hyndman and Fan).
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = part * last as f64;
    let below = place.floor();
    let one = sorted.get(below as usize)?;
    let next = sorted.get(place.ceil() as usize)?;
    Some(one + (next - one) * (place - below))
}

/// A part of a whole: `all` is nothing less than that.
pub struct Part(pub f64);

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 1.0 {
            return formatter.pad("all");
        }
        // As many digits as tell it from all.
        let digits = (2..=9).find(|digits| {
            let shown = format!("{:.*}", *digits, self.0);
            !shown.starts_with('1')
        });
        formatter.pad(&format!("{:.*}", digits.unwrap_or(9), self.0))
    }
}

/// Three digits that say something, and no more than three behind the point.
pub struct Short(pub f64);

impl fmt::Display for Short {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        let digits = match size {
            size if size >= 99.5 => 0,
            size if size >= 9.995 => 1,
            size if size >= 0.0995 => 2,
            _ => 3,
        };
        // No minus in front of nothing.
        let rounded = format!("{:.digits$}", self.0);
        let nothing = rounded
            .chars()
            .all(|letter| matches!(letter, '-' | '0' | '.'));
        formatter.pad(if nothing { "0" } else { &rounded })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.count {
            1 => Short(self.median).to_string(),
            _ => format!(
                "{} ({}–{})",
                Short(self.median),
                Short(self.low),
                Short(self.high)
            ),
        };
        formatter.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_half_around_it() {
        let spread = Spread::of([5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (2.0, 3.0, 4.0));
        assert_eq!(spread.count, 5);
    }

    #[test]
    fn between_readings_are_straight_lines() {
        let spread = Spread::of([1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (1.75, 2.5, 3.25));
        let one = Spread::of([7.0]).unwrap();
        assert_eq!((one.low, one.median, one.high), (7.0, 7.0, 7.0));
    }

    #[test]
    fn what_is_no_number_is_no_reading() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN, f64::INFINITY]), None);
        assert_eq!(Spread::of([f64::NAN, 2.0]).unwrap().count, 1);
    }

    #[test]
    fn numbers_are_short() {
        let short = |number| Short(number).to_string();
        assert_eq!(short(0.97834), "0.98");
        assert_eq!(short(12.345), "12.3");
        assert_eq!(short(9.999), "10.0");
        assert_eq!(short(1234.5), "1234");
        assert_eq!(short(0.0123), "0.012");
        assert_eq!(short(-0.0001), "0");
        assert_eq!(short(-2.5), "-2.50");
    }

    #[test]
    fn what_is_not_all_is_told_from_it() {
        let part = |number| Part(number).to_string();
        assert_eq!(part(1.0), "all");
        assert_eq!(part(0.5), "0.50");
        assert_eq!(part(0.9998), "0.9998");
        assert_eq!(part(0.0), "0.00");
    }

    #[test]
    fn a_single_reading_has_no_spread() {
        assert_eq!(Spread::of([2.0]).unwrap().to_string(), "2.00");
        let two = Spread::of([1.0, 2.0]).unwrap();
        assert_eq!(two.to_string(), "1.50 (1.25–1.75)");
    }
}
