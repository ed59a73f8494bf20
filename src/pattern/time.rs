//! Dates and times as logs write them.
//!
//! Their shape is what counts: the 99th of March is a date.

use super::text::CLASS;
use super::text::class::ALNUM;

const MONTHS: [&[u8; 3]; 12] = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
const DAYS: [&[u8; 3]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];

/// Reads ahead; a step that does not fit gives `None`.
#[derive(Clone, Copy)]
struct Cursor<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl Cursor<'_> {
    fn next(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn digits(mut self, count: usize) -> Option<Self> {
        let digits = self.bytes.get(self.at..self.at + count)?;
        self.at += count;
        digits.iter().all(u8::is_ascii_digit).then_some(self)
    }

    /// One digit or two.
    fn day(self) -> Option<Self> {
        self.digits(2).or_else(|| self.digits(1))
    }

    fn sign(mut self, signs: &[u8]) -> Option<Self> {
        self.next().filter(|byte| signs.contains(byte))?;
        self.at += 1;
        Some(self)
    }

    fn month(mut self) -> Option<Self> {
        let name = self.bytes.get(self.at..self.at + 3)?;
        self.at += 3;
        MONTHS.iter().any(|month| *month == name).then_some(self)
    }

    /// `Jan  2`: one space or two.
    fn spaces(self) -> Option<Self> {
        let one = self.sign(b" ")?;
        Some(one.sign(b" ").unwrap_or(one))
    }

    /// `15:04:05`, with what follows of it: a fraction and a zone.
    fn clock(self) -> Option<Self> {
        let mut cursor = self.day()?.sign(b":")?.digits(2)?.sign(b":")?.digits(2)?;
        if let Some(fraction) = cursor.sign(b".,").and_then(|cursor| cursor.digits(1)) {
            cursor = fraction;
            while let Some(next) = cursor.digits(1) {
                cursor = next;
            }
        }
        for half in [&b" AM"[..], b" PM", b"AM", b"PM"] {
            if cursor.bytes[cursor.at..].starts_with(half) {
                cursor.at += half.len();
                break;
            }
        }
        cursor = cursor.zone().unwrap_or(cursor);
        cursor.ends().then_some(cursor)
    }

    /// `15:04`: behind a date it is no ratio.
    fn minutes(self) -> Option<Self> {
        let cursor = self.digits(2)?.sign(b":")?.digits(2)?;
        let cursor = cursor.zone().unwrap_or(cursor);
        (cursor.ends() && cursor.next() != Some(b':')).then_some(cursor)
    }

    fn zone(self) -> Option<Self> {
        let offset = |cursor: Self| {
            let hours = cursor.sign(b"+-")?.digits(2)?;
            hours.sign(b":").unwrap_or(hours).digits(2).filter(Cursor::ends)
        };
        if let Some(cursor) = self.sign(b"Z").or_else(|| offset(self)) {
            return Some(cursor);
        }
        let behind = self.sign(b" ")?;
        for zone in [&b"UTC"[..], b"GMT", b"Z"] {
            let mut named = behind;
            if behind.bytes[behind.at..].starts_with(zone) {
                named.at += zone.len();
                return named.ends().then_some(named);
            }
        }
        offset(behind)
    }

    fn ends(&self) -> bool {
        self.next().is_none_or(|byte| CLASS[byte as usize] & ALNUM == 0)
    }

    /// The clock behind a date, if there is one.
    fn with_clock(self) -> Option<Self> {
        let behind = self.sign(b"T t_");
        let clock = behind.and_then(Cursor::clock).or_else(|| behind.and_then(Cursor::minutes));
        clock.or_else(|| self.ends().then_some(self))
    }
}

/// The end of a time that begins with a digit.
pub(super) fn at(bytes: &[u8], at: usize) -> Option<usize> {
    let start = Cursor { bytes, at };
    let sign = |place: usize| bytes.get(at + place).copied().unwrap_or_default();
    let end = match (sign(1), sign(2), sign(4), sign(8)) {
        (b':', ..) | (_, b':', ..) => start.clock(),
        (_, _, separator @ (b'-' | b'/'), _) => {
            let separator = [separator];
            start.digits(4)?.sign(&separator)?.digits(2)?.sign(&separator)?.digits(2)?.with_clock()
        }
        (_, _, _, b'T') => {
            let seconds = start.digits(8)?.sign(b"T")?.digits(6)?;
            let mut cursor = seconds;
            if let Some(mut fraction) = seconds.sign(b".,").and_then(|cursor| cursor.digits(1)) {
                while let Some(next) = fraction.digits(1) {
                    fraction = next;
                }
                cursor = fraction;
            }
            let cursor = cursor.zone().unwrap_or(cursor);
            cursor.ends().then_some(cursor)
        }
        // 02/Jan/2006:15:04:05
        (b'/', ..) | (_, b'/', ..) => start.day()?.sign(b"/")?.month()?.sign(b"/")?.digits(4)?.sign(b":")?.clock(),
        // 02 Jan 2006 15:04:05
        (b' ', ..) | (_, b' ', ..) => start.day()?.sign(b" ")?.month()?.sign(b" ")?.digits(4)?.sign(b" ")?.clock(),
        _ => None,
    };
    end.map(|cursor| cursor.at)
}

/// The end of a time that begins with the name of a month or a day.
pub(super) fn by_name(bytes: &[u8], start: usize) -> Option<usize> {
    let cursor = Cursor { bytes, at: start };
    let name = bytes.get(start..start + 3)?;
    if DAYS.iter().any(|day| *day == name) {
        let mut behind = cursor;
        behind.at += 3;
        let behind = behind.sign(b",").unwrap_or(behind).sign(b" ")?;
        return match behind.next()?.is_ascii_digit() {
            true => at(bytes, behind.at),
            false => by_month(behind),
        };
    }
    by_month(cursor)
}

fn by_month(cursor: Cursor<'_>) -> Option<usize> {
    let day = cursor.month()?.spaces()?.day()?;
    // Jan 2, 2006, 15:04:05
    let year = day
        .sign(b",")
        .unwrap_or(day)
        .sign(b" ")
        .and_then(|cursor| cursor.digits(4))
        .filter(|cursor| cursor.next() != Some(b':'));
    let date = year.map_or(day, |year| year.sign(b",").unwrap_or(year));
    Some(date.sign(b" ")?.clock()?.at)
}
