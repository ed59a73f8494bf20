//! Functions of times. A time is milliseconds since the epoch; formats are Java's, or those of `strftime`.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, Offset, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use super::{Arguments, Function, MAX_TEXT_BYTES, Takes, function, made};
use crate::query::insights::value::Value;

/// Times that are written: 200,000 years around the epoch, which leaves room for every zone.
const MAX_MILLIS: i64 = 200_000 * 365 * 86_400_000;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "datefloor",
        arguments: (2, 2),
        takes: Takes::Period(1),
        call: |arguments| match (arguments.whole(0), arguments.period) {
            (Some(time), Some(period)) => Value::Time(period.floor(time)),
            _ => Value::Null,
        },
    },
    Function {
        name: "dateceil",
        arguments: (2, 2),
        takes: Takes::Period(1),
        call: |arguments| match (arguments.whole(0), arguments.period) {
            (Some(time), Some(period)) => Value::Time(period.ceil(time)),
            _ => Value::Null,
        },
    },
    function("frommillis", 1, 1, |arguments| arguments.whole(0).map_or(Value::Null, Value::Time)),
    function("tomillis", 1, 1, |arguments| arguments.whole(0).map_or(Value::Null, Value::Whole)),
    // seconds, though times are milliseconds: as the service has it
    function("now", 0, 0, |arguments| Value::Whole(arguments.scope.now_millis.div_euclid(1_000))),
    function("parsedate", 2, 3, parse_date),
    function("formatdate", 2, 3, format_date),
    function("strftime", 2, 3, strftime),
];

/// `UTC`, `Z`, `GMT+2`, `+02:00`, `Europe/Berlin`.
fn offset_at(zone: &str, millis: i64) -> Option<FixedOffset> {
    let zone = zone.trim();
    if let Some(offset) = fixed_offset(zone) {
        return Some(offset);
    }
    let zone: Tz = zone.parse().ok()?;
    Some(zone.timestamp_millis_opt(millis).single()?.offset().fix())
}

fn fixed_offset(zone: &str) -> Option<FixedOffset> {
    let rest = ["UTC", "GMT"].into_iter().find_map(|name| zone.strip_prefix(name)).unwrap_or(zone);
    if matches!(rest, "" | "Z" | "z") && !zone.is_empty() {
        return FixedOffset::east_opt(0);
    }
    let (sign, digits) = match rest.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let digits: String = digits.chars().filter(|c| *c != ':').collect();
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = match digits.len() {
        1 | 2 => (digits.parse::<i32>().ok()?, 0),
        4 => (digits[..2].parse::<i32>().ok()?, digits[2..].parse::<i32>().ok()?),
        _ => return None,
    };
    FixedOffset::east_opt(sign * (hours * 3_600 + minutes * 60))
}

fn in_zone(arguments: &Arguments<'_>, place: usize, millis: i64) -> Option<DateTime<FixedOffset>> {
    if !(-MAX_MILLIS..=MAX_MILLIS).contains(&millis) {
        return None;
    }
    let offset = match arguments.values.len() > place {
        true => offset_at(&arguments.text(place)?, millis)?,
        false => Utc.fix(),
    };
    Some(DateTime::from_timestamp_millis(millis)?.with_timezone(&offset))
}

/// Pieces of a Java format.
enum Piece {
    /// A letter, and how many of it.
    Letters(char, usize),
    Literal(String),
}

fn pieces(format: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut characters = format.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\'' => {
                let mut text = String::new();
                if characters.next_if_eq(&'\'').is_some() {
                    text.push('\'');
                } else {
                    while let Some(c) = characters.next() {
                        match c {
                            '\'' if characters.next_if_eq(&'\'').is_some() => text.push('\''),
                            '\'' => break,
                            c => text.push(c),
                        }
                    }
                }
                pieces.push(Piece::Literal(text));
            }
            c if c.is_ascii_alphabetic() => {
                let mut n = 1;
                while characters.next_if_eq(&c).is_some() {
                    n += 1;
                }
                pieces.push(Piece::Letters(c, n));
            }
            c => pieces.push(Piece::Literal(c.to_string())),
        }
    }
    pieces
}

/// Letters that [`java_format`] and [`java_parse`] know.
const FORMATTED: &str = "yuYMLdDHkhKmsSaEeZXxzVQq";
const PARSED: &str = "yuMLdDHkhKmsSaEZXxzV";

/// A letter of a Java format that a function does not know, if this is a function that takes one.
pub(super) fn unknown_letter(function: &str, format: &str) -> Option<char> {
    let known = match function {
        "formatdate" => FORMATTED,
        "parsedate" => PARSED,
        _ => return None,
    };
    pieces(format).iter().find_map(|piece| match piece {
        Piece::Letters(letter, _) if !known.contains(*letter) => Some(*letter),
        _ => None,
    })
}

fn format_date(arguments: &Arguments<'_>) -> Value {
    let formatted = || {
        let time = in_zone(arguments, 2, arguments.whole(0)?)?;
        java_format(&time, &arguments.text(1)?)
    };
    made(formatted())
}

fn java_format(time: &DateTime<FixedOffset>, format: &str) -> Option<String> {
    let mut out = String::new();
    for piece in pieces(format) {
        let (letter, n) = match piece {
            Piece::Literal(text) => {
                out.push_str(&text);
                continue;
            }
            Piece::Letters(letter, n) => (letter, n.min(9)),
        };
        let mut number = |number: i64| {
            let _ = write!(out, "{number:0n$}");
        };
        match letter {
            'y' | 'u' if n == 2 => number(i64::from(time.year().rem_euclid(100))),
            'y' | 'u' | 'Y' => number(i64::from(time.year())),
            'M' | 'L' if n <= 2 => number(i64::from(time.month())),
            'M' | 'L' => {
                let name = MONTHS[time.month0() as usize];
                out.push_str(if n == 3 { &name[..3] } else { name });
            }
            'Q' | 'q' => match (time.month0() / 3 + 1, n) {
                (quarter, 1 | 2) => number(i64::from(quarter)),
                (quarter, 3) => out.push_str(&format!("Q{quarter}")),
                (quarter, _) => out.push_str(&format!("{quarter}{} quarter", ["st", "nd", "rd", "th"][quarter as usize - 1])),
            },
            'd' => number(i64::from(time.day())),
            'D' => number(i64::from(time.ordinal())),
            'H' => number(i64::from(time.hour())),
            'k' => number(i64::from((time.hour() + 23) % 24 + 1)),
            'h' => number(i64::from(time.hour12().1)),
            'K' => number(i64::from(time.hour() % 12)),
            'm' => number(i64::from(time.minute())),
            's' => number(i64::from(time.second())),
            'S' => {
                let nanos = format!("{:09}", time.nanosecond() % 1_000_000_000);
                out.push_str(&nanos[..n]);
            }
            'a' => out.push_str(if time.hour() < 12 { "AM" } else { "PM" }),
            'E' => {
                let name = DAYS[time.weekday().num_days_from_monday() as usize];
                out.push_str(if n <= 3 { &name[..3] } else { name });
            }
            'e' => number(i64::from(time.weekday().number_from_monday())),
            'Z' => out.push_str(&time.format("%z").to_string()),
            'X' | 'x' => match (time.offset().local_minus_utc(), n) {
                (0, _) if letter == 'X' => out.push('Z'),
                (_, 3) => out.push_str(&time.format("%:z").to_string()),
                (_, 2) => out.push_str(&time.format("%z").to_string()),
                _ => out.push_str(&time.format("%z").to_string()[..3]),
            },
            'z' | 'V' => match time.offset().local_minus_utc() {
                0 => out.push_str("UTC"),
                _ => out.push_str(&time.format("%:z").to_string()),
            },
            _ => return None,
        }
        if out.len() > MAX_TEXT_BYTES {
            return None;
        }
    }
    Some(out)
}

/// Milliseconds of a text in a Java format.
fn parse_date(arguments: &Arguments<'_>) -> Value {
    let parsed = || {
        let zone = match arguments.values.len() > 2 {
            true => Some(arguments.text(2)?),
            false => None,
        };
        java_parse(&arguments.text(0)?, &arguments.text(1)?, zone.as_deref())
    };
    parsed().map_or(Value::Null, Value::Whole)
}

#[derive(Default)]
struct Parsed {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    ordinal: Option<i64>,
    hour: Option<i64>,
    half_hour: Option<i64>,
    is_afternoon: Option<bool>,
    minute: i64,
    second: i64,
    nanos: i64,
    zone: Option<String>,
}

fn java_parse(text: &str, format: &str, zone: Option<&str>) -> Option<i64> {
    let pieces = pieces(format);
    let mut parsed = Parsed::default();
    let mut rest = text.trim();
    for (place, piece) in pieces.iter().enumerate() {
        let (letter, n) = match piece {
            Piece::Literal(literal) => {
                rest = rest.strip_prefix(literal.as_str())?;
                continue;
            }
            Piece::Letters(letter, n) => (*letter, *n),
        };
        // letters right behind take their own digits
        let is_followed = matches!(pieces.get(place + 1), Some(Piece::Letters('y' | 'M' | 'd' | 'H' | 'h' | 'm' | 's' | 'S', _)));
        let mut number = |most: usize| -> Option<i64> {
            let most = if is_followed { n } else { most.max(n) };
            let digits = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
            let (taken, left) = rest.split_at(digits);
            rest = left;
            taken.parse().ok()
        };
        match letter {
            'y' | 'u' if n == 2 => parsed.year = Some(2_000 + number(2)?),
            'y' | 'u' => parsed.year = Some(number(4)?),
            'M' | 'L' if n <= 2 => parsed.month = Some(number(2)?),
            'M' | 'L' => {
                let is_it = |name: &&str| rest.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(&name[..3]));
                let month = MONTHS.iter().position(is_it)?;
                let length = match rest.get(..MONTHS[month].len()) {
                    Some(whole) if whole.eq_ignore_ascii_case(MONTHS[month]) => MONTHS[month].len(),
                    _ => 3,
                };
                rest = &rest[length..];
                parsed.month = Some(month as i64 + 1);
            }
            'd' => parsed.day = Some(number(2)?),
            'D' => parsed.ordinal = Some(number(3)?),
            'H' => parsed.hour = Some(number(2)?),
            'k' => parsed.hour = Some(number(2)? % 24),
            'h' | 'K' => parsed.half_hour = Some(number(2)? % 12),
            'm' => parsed.minute = number(2)?,
            's' => parsed.second = number(2)?,
            'S' => {
                let digits = rest.bytes().take(if is_followed { n } else { 9 }).take_while(u8::is_ascii_digit).count();
                let (taken, left) = rest.split_at(digits);
                rest = left;
                parsed.nanos = format!("{taken:0<9}").parse().ok().filter(|_| digits > 0)?;
            }
            'a' => {
                parsed.is_afternoon = Some(match rest.get(..2)?.to_ascii_uppercase().as_str() {
                    "AM" => false,
                    "PM" => true,
                    _ => return None,
                });
                rest = &rest[2..];
            }
            'E' => {
                let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
                rest = &rest[letters..];
            }
            'Z' | 'X' | 'x' | 'z' | 'V' => {
                let end = rest
                    .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | ':' | '/' | '_')))
                    .unwrap_or(rest.len());
                let (taken, left) = rest.split_at(end);
                rest = left;
                parsed.zone = Some(taken.to_string()).filter(|zone| !zone.is_empty());
                parsed.zone.as_ref()?;
            }
            _ => return None,
        }
    }
    rest.is_empty().then(|| parsed.millis(zone)).flatten()
}

impl Parsed {
    fn millis(&self, zone: Option<&str>) -> Option<i64> {
        let year = i32::try_from(self.year.unwrap_or(1970)).ok()?;
        let small = |number: i64| u32::try_from(number).ok();
        let date = match self.ordinal {
            Some(ordinal) => NaiveDate::from_yo_opt(year, small(ordinal)?)?,
            None => NaiveDate::from_ymd_opt(year, small(self.month.unwrap_or(1))?, small(self.day.unwrap_or(1))?)?,
        };
        let hour = match (self.hour, self.half_hour) {
            (Some(hour), _) => hour,
            (None, Some(hour)) => hour + if self.is_afternoon == Some(true) { 12 } else { 0 },
            (None, None) => 0,
        };
        let time = date.and_hms_nano_opt(small(hour)?, small(self.minute)?, small(self.second)?, small(self.nanos)?)?;
        let zone = self.zone.as_deref().or(zone).unwrap_or("UTC");
        if let Some(offset) = fixed_offset(zone) {
            return Some(offset.from_local_datetime(&time).earliest()?.timestamp_millis());
        }
        let zone: Tz = zone.parse().ok()?;
        Some(zone.from_local_datetime(&time).earliest()?.timestamp_millis())
    }
}

/// In the format of C's `strftime`.
fn strftime(arguments: &Arguments<'_>) -> Value {
    let formatted = || {
        let time = in_zone(arguments, 2, arguments.whole(0)?)?;
        let format = arguments.text(1)?;
        let items: Vec<chrono::format::Item<'_>> = chrono::format::StrftimeItems::new(&format).collect();
        if items.contains(&chrono::format::Item::Error) || format.len() > 1_000 {
            return None;
        }
        let mut out = String::new();
        write!(out, "{}", time.format_with_items(items.into_iter())).ok()?;
        Some(out)
    };
    made(formatted())
}
