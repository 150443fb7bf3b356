//! Durations and sizes as people write them.

use std::time::Duration;

/// What a duration looks like, for error texts.
pub(super) const DURATION: &str = "a duration such as \"250ms\", \"10s\", \"5m\" or \"2h\"";

/// What a size looks like, for error texts.
pub(super) const SIZE: &str = "a size such as \"64 KiB\", \"4 MiB\" or \"10 GiB\"";

const DURATION_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

const SIZE_UNITS: [(&str, u64); 5] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A duration; `None` when it is not one.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, &DURATION_UNITS).map(Duration::from_millis)
}

/// A size in bytes; `None` when it is not one.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    parse(text, &SIZE_UNITS)
}

/// A duration in its largest whole unit.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (number, unit) = largest_unit(millis, &DURATION_UNITS);
    format!("{number}{unit}")
}

/// A size in its largest whole unit.
pub(crate) fn show_size(bytes: u64) -> String {
    let (number, unit) = largest_unit(bytes, &SIZE_UNITS);
    format!("{number} {unit}")
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let factor = units
        .iter()
        .find(|(name, _)| *name == unit.trim_start())
        .map(|(_, factor)| *factor)?;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn largest_unit<'a>(amount: u64, units: &[(&'a str, u64)]) -> (u64, &'a str) {
    units
        .iter()
        .rev()
        .find(|(_, factor)| amount >= *factor && amount.is_multiple_of(*factor))
        .map_or((amount, ""), |(unit, factor)| (amount / factor, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_with_their_units() {
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("2 h"), Some(Duration::from_secs(7200)));
        assert_eq!(parse_size("4 MiB"), Some(4 << 20));
        assert_eq!(parse_size("64KiB"), Some(64 << 10));
    }

    #[test]
    fn what_is_not_one_is_refused() {
        for text in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "10 sec",
            "1s2",
            "99999999999999999999h",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for text in ["", "4", "4 MB", "4 mib", "18446744073709551615 TiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for millis in [250, 1_000, 90_000, 3_600_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }
        for bytes in [1, 1536, 4 << 20, 10 << 30] {
            assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
        }
    }
}
