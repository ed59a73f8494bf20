//! Times, ranges of time, and the one door to the clock.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, NaiveDate, NaiveDateTime};

/// The clock, injected so that tests own time.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Nanoseconds since the Unix epoch.
    fn now_nanos(&self) -> i64;
}

/// The machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    fn now_nanos(&self) -> i64 {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
    }
}

/// A clock that a test moves by hand.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `nanos`.
    pub fn new(nanos: i64) -> Self {
        Self(AtomicI64::new(nanos))
    }
    /// Moves the clock to `nanos`.
    pub fn set(&self, nanos: i64) {
        self.0.store(nanos, Ordering::SeqCst);
    }
    /// Moves the clock on by `nanos`.
    pub fn advance(&self, nanos: i64) {
        self.0.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_nanos(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A half-open range of event time, `start_nanos <= t < end_nanos`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TimeRange {
    /// First nanosecond inside.
    pub start_nanos: i64,
    /// First nanosecond after.
    pub end_nanos: i64,
}

impl TimeRange {
    /// All of time.
    pub const ALL: TimeRange = TimeRange {
        start_nanos: i64::MIN,
        end_nanos: i64::MAX,
    };

    /// A range; an end before the start gives an empty range.
    pub fn new(start_nanos: i64, end_nanos: i64) -> Self {
        Self {
            start_nanos,
            end_nanos: end_nanos.max(start_nanos),
        }
    }

    /// Whether `nanos` lies inside.
    pub fn contains(&self, nanos: i64) -> bool {
        self.start_nanos <= nanos && nanos < self.end_nanos
    }

    /// Whether any time from `min` to `max`, both inclusive, lies inside.
    pub fn overlaps(&self, min: i64, max: i64) -> bool {
        self.start_nanos <= max && min < self.end_nanos
    }

    /// The part inside both.
    pub fn intersect(&self, other: &TimeRange) -> TimeRange {
        TimeRange::new(self.start_nanos.max(other.start_nanos), self.end_nanos.min(other.end_nanos))
    }
}

const SECOND: i64 = 1_000_000_000;

/// Reads a point in time as people and tools write it, relative ones against `now_nanos`:
///
/// - `now`, `-15m`, `now-1h`, and a bare duration `1h` (that long ago); units ns, us, ms, s, m, h, d, w
/// - RFC 3339, `2026-11-22T03:12:41.5Z`, also with a space, without zone (then UTC), or a date alone
/// - digits: epoch seconds up to 11 digits, milliseconds up to 14, microseconds up to 17, else nanoseconds
///
/// Returns nanoseconds since the epoch, or a message that says what was expected.
pub fn parse_time(text: &str, now_nanos: i64) -> Result<i64, String> {
    let text = text.trim();
    let bad = || format!("{text:?} is not a time: use RFC 3339, epoch digits, 'now', or a duration such as '-15m'");
    if text == "now" {
        return Ok(now_nanos);
    }
    let relative = text.strip_prefix("now").unwrap_or(text);
    if let Some(ago) = relative.strip_prefix('-').and_then(parse_duration_nanos) {
        return Ok(now_nanos.saturating_sub(ago));
    }
    if let Some(ahead) = relative.strip_prefix('+').and_then(parse_duration_nanos) {
        return Ok(now_nanos.saturating_add(ahead));
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let number: i64 = text.parse().map_err(|_| bad())?;
        let unit = match text.len() {
            0..=11 => SECOND,
            12..=14 => 1_000_000,
            15..=17 => 1_000,
            _ => 1,
        };
        return number.checked_mul(unit).ok_or_else(bad);
    }
    if let Some(ago) = parse_duration_nanos(text) {
        return Ok(now_nanos.saturating_sub(ago));
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return time.timestamp_nanos_opt().ok_or_else(bad);
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text.trim_end_matches('Z'), format) {
            return time.and_utc().timestamp_nanos_opt().ok_or_else(bad);
        }
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return date.and_hms_opt(0, 0, 0).and_then(|time| time.and_utc().timestamp_nanos_opt()).ok_or_else(bad);
    }
    Err(bad())
}

/// Reads `500ms`, `1.5s`, `2h`, `1h30m`; `None` for anything else, a bare number included.
pub fn parse_duration_nanos(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|n| *n > 0)?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "d" => 86_400e9,
            "w" => 604_800e9,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[letters..];
    }
    (total.is_finite() && total <= i64::MAX as f64).then_some(total as i64)
}

/// Writes RFC 3339 with nanoseconds where there are any, in UTC.
pub fn format_time(nanos: i64) -> String {
    DateTime::from_timestamp_nanos(nanos).to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_common_spelling() {
        let now = 1_795_000_000 * SECOND;
        for (text, expected) in [
            ("now", now),
            ("-15m", now - 900 * SECOND),
            ("now-1h30m", now - 5400 * SECOND),
            ("1h", now - 3600 * SECOND),
            ("1700000000", 1_700_000_000 * SECOND),
            ("1700000000123", 1_700_000_000_123_000_000),
            ("1700000000123456789", 1_700_000_000_123_456_789),
            ("2023-11-14T22:13:20Z", 1_700_000_000 * SECOND),
            ("2023-11-14T23:13:20.5+01:00", 1_700_000_000 * SECOND + SECOND / 2),
            ("2023-11-14 22:13:20", 1_700_000_000 * SECOND),
            ("2023-11-14", 1_699_920_000 * SECOND),
        ] {
            assert_eq!(parse_time(text, now), Ok(expected), "{text}");
        }
        for text in ["", "yesterday", "-", "15x", "2023-13-01", "99999999999999999999"] {
            assert!(parse_time(text, now).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = parse_time(&text, 0);
        }
    }
}
