//! Periods of time, `5m`, `1mo`, and the times that are multiples of them.

use chrono::{DateTime, Datelike, NaiveDate};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Period {
    /// Milliseconds, at least one.
    Millis(i64),
    /// Months of the calendar, at least one.
    Months(i64),
}

impl Period {
    /// Reads `5m`, `2hrs`, `1quarter`. Numbers are capped by unit as the service does: `300s` is `60s`.
    pub(super) fn read(text: &str) -> Result<Period, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let bad = || format!("'{text}' is no period of time; write a whole number and one of ms, s, m, h, d, w, mo, q, y");
        let number: i64 = number.parse().map_err(|_| bad())?;
        if number < 1 {
            return Err(bad());
        }
        let unit = unit.to_ascii_lowercase();
        let singular = match unit.len() > 1 && unit != "ms" {
            true => unit.strip_suffix('s').unwrap_or(&unit),
            false => &unit,
        };
        let millis = |cap: i64, unit: i64| number.min(cap).checked_mul(unit).map(Period::Millis).ok_or_else(bad);
        let months = |unit: i64| number.checked_mul(unit).filter(|months| *months <= 120_000).map(Period::Months).ok_or_else(bad);
        match singular {
            "ms" | "msec" | "millisecond" => millis(1_000, 1),
            "s" | "sec" | "second" => millis(60, SECOND),
            "m" | "min" | "minute" => millis(60, MINUTE),
            "h" | "hr" | "hour" => millis(24, HOUR),
            "d" | "day" => millis(36_500, DAY),
            "w" | "week" => millis(5_200, 7 * DAY),
            "mo" | "mon" | "month" => months(1),
            "q" | "qtr" | "quarter" => months(3),
            "y" | "yr" | "year" => months(12),
            _ => Err(bad()),
        }
    }

    /// The latest multiple of it since the epoch that is not after a time. Weeks begin with the epoch, a Thursday.
    pub(super) fn floor(self, millis: i64) -> i64 {
        match self {
            Period::Millis(length) => millis.saturating_sub(millis.rem_euclid(length)),
            Period::Months(length) => match month_of(millis) {
                Some(month) => start_of_month(month.div_euclid(length) * length).unwrap_or(millis),
                None => millis,
            },
        }
    }

    /// The earliest multiple of it that is not before a time.
    pub(super) fn ceil(self, millis: i64) -> i64 {
        let floor = self.floor(millis);
        match floor == millis {
            true => millis,
            false => self.after(floor),
        }
    }

    /// So much later; of months, the start of the month.
    pub(super) fn after(self, millis: i64) -> i64 {
        match self {
            Period::Millis(length) => millis.saturating_add(length),
            Period::Months(length) => month_of(millis).and_then(|month| start_of_month(month + length)).unwrap_or(i64::MAX),
        }
    }

    /// Milliseconds; a month has 30 days.
    pub(super) fn millis(self) -> i64 {
        match self {
            Period::Millis(length) => length,
            Period::Months(length) => length.saturating_mul(30 * DAY),
        }
    }
}

/// Months since January 1970.
fn month_of(millis: i64) -> Option<i64> {
    let time = DateTime::from_timestamp_millis(millis)?;
    Some((i64::from(time.year()) - 1970) * 12 + i64::from(time.month0()))
}

fn start_of_month(month: i64) -> Option<i64> {
    let year = i32::try_from(1970 + month.div_euclid(12)).ok()?;
    let date = NaiveDate::from_ymd_opt(year, month.rem_euclid(12) as u32 + 1, 1)?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_capped_by_unit() {
        for (text, expected) in [
            ("300s", Period::Millis(60_000)),
            ("5m", Period::Millis(300_000)),
            ("2hrs", Period::Millis(7_200_000)),
            ("30h", Period::Millis(24 * 3_600_000)),
            ("1qtr", Period::Months(3)),
            ("5000ms", Period::Millis(1_000)),
        ] {
            assert_eq!(Period::read(text), Ok(expected), "{text}");
        }
        for text in ["0m", "5", "m", "5x", "99999999999999999999d"] {
            assert!(Period::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn months_begin_where_the_calendar_has_them() {
        let at = |text: &str| DateTime::parse_from_rfc3339(text).expect("a time").timestamp_millis();
        let time = at("2026-11-22T17:00:00Z");
        assert_eq!(Period::Months(1).floor(time), at("2026-11-01T00:00:00Z"));
        assert_eq!(Period::Months(3).floor(time), at("2026-10-01T00:00:00Z"));
        assert_eq!(Period::Months(12).ceil(time), at("2027-01-01T00:00:00Z"));
        assert_eq!(Period::Months(1).floor(at("1969-12-31T00:00:00Z")), at("1969-12-01T00:00:00Z"));
    }
}
