//! Points in time and durations, as people type and read them.

use std::time::Duration;

use jiff::{
    SignedDuration, Span, SpanRelativeTo, Timestamp,
    civil::{Date, DateTime},
    tz::TimeZone,
};

/// In which zone times are read and shown.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

impl Zone {
    /// UTC when asked for, else the viewer's own zone.
    pub fn new(utc: bool) -> Self {
        Self(if utc {
            TimeZone::UTC
        } else {
            TimeZone::system()
        })
    }

    /// A point in time typed by a person: RFC 3339, a date with or without a
    /// time in this zone, or how long ago (`2h`, `1d12h`, `30m`).
    ///
    /// # Errors
    /// A sentence that names the accepted forms.
    pub fn parse(&self, text: &str, now: Timestamp) -> Result<Timestamp, String> {
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(at);
        }
        if let Some(ago) = signed_duration(text) {
            return now
                .checked_sub(ago)
                .map_err(|_| format!("`{text}` is too long ago"));
        }
        self.civil(text).ok_or_else(|| {
            format!("`{text}` is not a time: give `2h` (ago), `2026-01-31`, `2026-01-31 12:00` or RFC 3339")
        })
    }

    fn civil(&self, text: &str) -> Option<Timestamp> {
        let at = match text.parse::<DateTime>() {
            Ok(at) => at,
            Err(_) => text
                .parse::<Date>()
                .ok()?
                .to_datetime(jiff::civil::Time::midnight()),
        };
        self.0.to_ambiguous_timestamp(at).compatible().ok()
    }

    /// `2026-01-31 12:00:05`.
    pub fn seconds(&self, at: Timestamp) -> String {
        self.format(at, "%Y-%m-%d %H:%M:%S")
    }

    /// `2026-01-31 12:00:05.123 +01:00`.
    pub fn full(&self, at: Timestamp) -> String {
        self.format(at, "%Y-%m-%d %H:%M:%S%.3f %:z")
    }

    /// `12:00:05.123`.
    pub fn time_of_day(&self, at: Timestamp) -> String {
        self.format(at, "%H:%M:%S%.3f")
    }

    fn format(&self, at: Timestamp, format: &str) -> String {
        at.to_zoned(self.0.clone()).strftime(format).to_string()
    }
}

/// A protobuf timestamp; `None` when it is unset or out of range.
pub fn from_proto(at: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    let at = at?;
    Timestamp::new(at.seconds, at.nanos).ok()
}

/// A length of time typed by a person: `90s`, `1m30s`, `1.5s`, or seconds.
///
/// # Errors
/// A sentence that names the accepted forms.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration: give `90s`, `1m30s`, `500ms` or seconds");
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| wrong());
    }
    signed_duration(text)
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(wrong)
}

fn signed_duration(text: &str) -> Option<SignedDuration> {
    if let Ok(duration) = text.parse::<SignedDuration>() {
        return Some(duration);
    }
    let span: Span = text.parse().ok()?;
    span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()
}

/// A length of time for a table: `0.4s`, `59s`, `12m05s`, `3h07m`, `2d04h`.
pub fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..=9 => format!("{:.1}s", duration.as_secs_f64()),
        10..=59 => format!("{seconds}s"),
        60..=3599 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A position in a recording: `1:02:03` or `02:03`.
pub fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes:02}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// The time from `start` to `end`, zero where the clock was set back.
pub fn between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Zone, clock, duration, short};

    #[test]
    fn times_are_read_in_every_form() {
        let zone = Zone::new(true);
        let now = "2026-02-01T12:00:00Z".parse().unwrap();
        let parse = |text: &str| zone.parse(text, now).unwrap().to_string();
        assert_eq!(parse("2h"), "2026-02-01T10:00:00Z");
        assert_eq!(parse("1d12h"), "2026-01-31T00:00:00Z");
        assert_eq!(parse("2026-01-31"), "2026-01-31T00:00:00Z");
        assert_eq!(parse("2026-01-31 08:30"), "2026-01-31T08:30:00Z");
        assert_eq!(parse("2026-01-31T08:30:00+02:00"), "2026-01-31T06:30:00Z");
        assert!(zone.parse("yesteryear", now).is_err());
        assert!(zone.parse("900000000h", now).is_err());
    }

    #[test]
    fn durations_are_read_and_shown() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("-1").is_err());
        assert!(duration("soon").is_err());
        assert_eq!(short(Duration::from_millis(420)), "0.4s");
        assert_eq!(short(Duration::from_secs(725)), "12m05s");
        assert_eq!(short(Duration::from_secs(187_200)), "2d04h");
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
    }
}
