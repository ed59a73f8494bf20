//! Values: what fields hold and expressions give, how they compare, sort and are shown.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime};

/// Digits of the least whole number that `i64` does not hold.
const LONG_DIGITS: usize = 19;

/// A value.
#[derive(Clone, Debug, Default)]
pub(super) enum Value {
    /// There is none.
    #[default]
    Null,
    /// Shown as 1 and 0.
    Flag(bool),
    /// A whole number.
    Whole(i64),
    /// Any other; never NaN or infinite.
    Double(f64),
    /// Milliseconds since the epoch, shown as a date.
    Time(i64),
    Text(Arc<str>),
    List(Arc<Vec<Value>>),
    /// In the order written.
    Map(Arc<Vec<(Arc<str>, Value)>>),
}

/// A number, exact where it is whole.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Whole(i64),
    Double(f64),
}

impl Number {
    /// A number as people write it: `-1`, `.5`, `1e3`; words such as `inf` are none.
    pub(super) fn read(text: &str) -> Option<Number> {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return None;
        }
        if let Ok(whole) = text.parse::<i64>() {
            return Some(Number::Whole(whole));
        }
        text.parse::<f64>().ok().filter(|double| double.is_finite()).map(Number::Double)
    }

    pub(super) fn as_f64(self) -> f64 {
        match self {
            Number::Whole(whole) => whole as f64,
            Number::Double(double) => double,
        }
    }

    pub(super) fn compare(self, other: Number) -> Ordering {
        match (self, other) {
            (Number::Whole(a), Number::Whole(b)) => a.cmp(&b),
            (Number::Whole(a), Number::Double(b)) => exactly(a, b),
            (Number::Double(a), Number::Whole(b)) => exactly(b, a).reverse(),
            // -0 equals 0
            (Number::Double(a), Number::Double(b)) => (a + 0.0).total_cmp(&(b + 0.0)),
        }
    }
}

/// Doubles do not tell apart whole numbers beyond 2⁵³: sorted through them, numbers would have no order.
fn exactly(whole: i64, double: f64) -> Ordering {
    let floor = double.floor();
    if floor >= -(i64::MIN as f64) {
        return Ordering::Less;
    }
    if floor < i64::MIN as f64 {
        return Ordering::Greater;
    }
    let is_above = double > floor;
    whole.cmp(&(floor as i64)).then(if is_above { Ordering::Less } else { Ordering::Equal })
}

/// Of a whole number that [`Number::Whole`] does not hold, as Kinesis' sequence numbers are: whether it is below 0, and its digits.
fn long_digits(text: &str) -> Option<(bool, &str)> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.len() < LONG_DIGITS || !digits.bytes().all(|b| b.is_ascii_digit()) || text.parse::<i64>().is_ok() {
        return None;
    }
    Some((text.starts_with('-'), digits.trim_start_matches('0')))
}

/// Whether a text is a whole number that only a text holds.
pub(super) fn is_long(text: &str) -> bool {
    long_digits(text).is_some()
}

/// What a whole number is below 0 that only a text holds; the least of 64 bits is one to which it is not so above 0.
pub(super) fn negative_of_long(text: &str) -> Value {
    let negative = match text.strip_prefix('-') {
        Some(digits) => digits.to_string(),
        None => format!("-{}", text.trim_start_matches('+')),
    };
    match Number::read(&negative) {
        Some(number) if !is_long(&negative) => number.into(),
        _ => Value::text(negative.as_str()),
    }
}

/// The order of texts that are the same number to [`Number::compare`]; others stand between long numbers below and above 0.
fn order_of_long(a: &str, b: &str) -> Ordering {
    let place = |long: Option<(bool, _)>| long.map_or(0, |(is_below, _)| if is_below { -1 } else { 1 });
    let (a, b) = (long_digits(a), long_digits(b));
    place(a).cmp(&place(b)).then_with(|| match (a, b) {
        (Some((is_below, a)), Some((_, b))) => {
            let order = a.len().cmp(&b.len()).then_with(|| a.cmp(b));
            if is_below { order.reverse() } else { order }
        }
        _ => Ordering::Equal,
    })
}

/// JSON in which whole numbers beyond `i64` are texts, as they stand: read as doubles, two of them would be one.
pub(super) fn with_long_numbers_as_texts(json: &str) -> Cow<'_, str> {
    let bytes = json.as_bytes();
    // so many digits in a row fill at least one of these pieces
    let has_long = bytes.len() >= LONG_DIGITS && bytes.chunks_exact(LONG_DIGITS / 2).any(|piece| piece.iter().all(u8::is_ascii_digit));
    if !has_long {
        return Cow::Borrowed(json);
    }
    let (mut written, mut taken, mut at) = (String::new(), 0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let is_of_number = |b: &u8| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E');
                let end = at + bytes[at..].iter().position(|b| !is_of_number(b)).unwrap_or(bytes.len() - at);
                let number = &json[at..end];
                // with a zero before it is no JSON, and must stay none
                if long_digits(number).is_some() && !number.trim_start_matches('-').starts_with('0') {
                    written.push_str(&json[taken..at]);
                    written.extend(["\"", number, "\""]);
                    taken = end;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    match taken {
        0 => Cow::Borrowed(json),
        _ => Cow::Owned(written + &json[taken..]),
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Value {
        match number {
            Number::Whole(whole) => Value::Whole(whole),
            Number::Double(double) => Value::double(double),
        }
    }
}

impl Value {
    pub(super) fn text(text: impl Into<Arc<str>>) -> Value {
        Value::Text(text.into())
    }

    /// A double; what is none (NaN, infinite) is no value, and a whole one is a whole number.
    pub(super) fn double(double: f64) -> Value {
        if !double.is_finite() {
            return Value::Null;
        }
        match double.fract() == 0.0 && double.abs() < 9e15 {
            true => Value::Whole(double as i64),
            false => Value::Double(double),
        }
    }

    pub(super) fn list(items: Vec<Value>) -> Value {
        Value::List(Arc::new(items))
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The number that it is, or that its text is.
    pub(super) fn number(&self) -> Option<Number> {
        match self {
            Value::Flag(flag) => Some(Number::Whole(i64::from(*flag))),
            Value::Whole(whole) | Value::Time(whole) => Some(Number::Whole(*whole)),
            Value::Double(double) => Some(Number::Double(*double)),
            Value::Text(text) => Number::read(text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    pub(super) fn as_f64(&self) -> Option<f64> {
        self.number().map(Number::as_f64)
    }

    /// Its whole number, if it has no fraction and is one that fits.
    pub(super) fn whole(&self) -> Option<i64> {
        match self.number()? {
            Number::Whole(whole) => Some(whole),
            Number::Double(double) if double.fract() == 0.0 && double.abs() < 9e15 => Some(double as i64),
            Number::Double(_) => None,
        }
    }

    /// Text as functions of text take it: none of what is missing, a list or a map.
    pub(super) fn as_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Value::Null | Value::List(_) | Value::Map(_) => None,
            Value::Text(text) => Some(Cow::Borrowed(text)),
            other => Some(Cow::Owned(other.to_string())),
        }
    }

    /// Whether a condition that gave it holds.
    pub(super) fn holds(&self) -> bool {
        match self {
            Value::Flag(flag) => *flag,
            Value::Text(text) if text.eq_ignore_ascii_case("true") => true,
            other => other.as_f64().is_some_and(|number| number != 0.0),
        }
    }

    /// How it compares: by number if both are, by their text if neither is; else they are merely not equal. Two texts are equal only if
    /// they are the same: `1.10` is a version, and not `1.1`.
    pub(super) fn compare(&self, other: &Value) -> Compared {
        match (self, other) {
            (Value::Null, _) | (_, Value::Null) => return Compared::Missing,
            (Value::List(_) | Value::Map(_), _) | (_, Value::List(_) | Value::Map(_)) => {
                return match self.to_string() == other.to_string() {
                    true => Compared::As(Ordering::Equal),
                    false => Compared::Differ,
                };
            }
            (Value::Flag(flag), Value::Text(text)) | (Value::Text(text), Value::Flag(flag)) if text.parse() == Ok(*flag) => {
                return Compared::As(Ordering::Equal);
            }
            _ => {}
        }
        if let (Value::Text(a), Value::Text(b)) = (self, other)
            && a == b
        {
            return Compared::As(Ordering::Equal);
        }
        match (self.number(), other.number(), self, other) {
            (Some(a), Some(b), Value::Text(left), Value::Text(right)) => match a.compare(b).then_with(|| order_of_long(left, right)) {
                Ordering::Equal => Compared::Alike,
                order => Compared::As(order),
            },
            (Some(a), Some(b), ..) => Compared::As(a.compare(b)),
            (_, _, Value::Text(a), Value::Text(b)) => Compared::As(a.cmp(b)),
            _ => Compared::Differ,
        }
    }

    /// Natural order, as `sort` has it: what is missing, then texts, then numbers; texts by pieces of digits and others.
    pub(super) fn natural_order(&self, other: &Value) -> Ordering {
        fn class(value: &Value, number: Option<Number>) -> u8 {
            match (value, number) {
                (Value::Null, _) => 0,
                (_, Some(_)) => 2,
                _ => 1,
            }
        }
        let (a, b) = (self.number(), other.number());
        fn digits(value: &Value) -> &str {
            match value {
                Value::Text(text) => text,
                _ => "",
            }
        }
        class(self, a).cmp(&class(other, b)).then_with(|| match (a, b) {
            (Some(a), Some(b)) => a.compare(b).then_with(|| order_of_long(digits(self), digits(other))),
            _ => match (self, other) {
                (Value::Null, Value::Null) => Ordering::Equal,
                (Value::Text(a), Value::Text(b)) => natural_text_order(a, b),
                (a, b) => natural_text_order(&a.to_string(), &b.to_string()),
            },
        })
    }

    /// Memory that it takes behind its own size, about.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Value::Text(text) => text.len() + 16,
            Value::List(items) => items.iter().map(|item| size_of::<Value>() + item.memory_bytes()).sum::<usize>() + 40,
            Value::Map(entries) => {
                entries
                    .iter()
                    .map(|(key, value)| size_of::<(Arc<str>, Value)>() + key.len() + value.memory_bytes())
                    .sum::<usize>()
                    + 40
            }
            _ => 0,
        }
    }

    /// The member of a map, or item of a list, of this name.
    pub(super) fn member(&self, name: &str) -> Value {
        match self {
            Value::Map(entries) => entries.iter().find(|(key, _)| **key == *name).map(|(_, value)| value.clone()),
            Value::List(items) => name.parse::<usize>().ok().and_then(|at| items.get(at).cloned()),
            _ => None,
        }
        .unwrap_or_default()
    }

    /// From the text of JSON; a text that is none has no value.
    pub(super) fn read_json(json: &str) -> Value {
        serde_json::from_str(&with_long_numbers_as_texts(json)).map_or(Value::Null, Value::from_json)
    }

    /// From JSON; numbers beyond doubles, and `null`, have no value.
    fn from_json(json: serde_json::Value) -> Value {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(flag) => Value::Flag(flag),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(whole) => Value::Whole(whole),
                None => number.as_f64().map_or(Value::Null, Value::double),
            },
            serde_json::Value::String(text) => Value::text(text),
            serde_json::Value::Array(items) => Value::list(items.into_iter().map(Value::from_json).collect()),
            serde_json::Value::Object(members) => Value::Map(Arc::new(
                members.into_iter().map(|(key, value)| (key.into(), Value::from_json(value))).collect(),
            )),
        }
    }

    /// As JSON.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Flag(flag) => (*flag).into(),
            Value::Whole(whole) => (*whole).into(),
            Value::Double(double) => (*double).into(),
            Value::Time(_) => self.to_string().into(),
            Value::Text(text) => (**text).into(),
            Value::List(items) => items.iter().map(Value::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|(key, value)| (key.to_string(), value.to_json())).collect(),
        }
    }
}

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Compared {
    As(Ordering),
    /// Two texts of one number, written otherwise: they are not equal, and neither is less.
    Alike,
    /// They are not equal, and neither comes first.
    Differ,
    /// One of them is missing.
    Missing,
}

/// Pieces of digits compare by length without zeros before, then by value; others by their characters.
pub(super) fn natural_text_order(a: &str, b: &str) -> Ordering {
    fn pieces(text: &str) -> impl Iterator<Item = &str> {
        let mut rest = text;
        std::iter::from_fn(move || {
            let is_digit = rest.bytes().next()?.is_ascii_digit();
            let end = rest.bytes().position(|b| b.is_ascii_digit() != is_digit).unwrap_or(rest.len());
            let (piece, left) = rest.split_at(end);
            rest = left;
            Some(piece)
        })
    }
    let mut others = pieces(b);
    for piece in pieces(a) {
        let Some(other) = others.next() else { return Ordering::Greater };
        let both_digits = piece.as_bytes()[0].is_ascii_digit() && other.as_bytes()[0].is_ascii_digit();
        let order = match both_digits {
            true => {
                let (a, b) = (piece.trim_start_matches('0'), other.trim_start_matches('0'));
                a.len().cmp(&b.len()).then_with(|| a.cmp(b))
            }
            false => piece.cmp(other),
        };
        if order.is_ne() {
            return order;
        }
    }
    match others.next() {
        Some(_) => Ordering::Less,
        None => a.cmp(b),
    }
}

/// `YYYY-MM-DD HH:MM:SS.mmm`, UTC.
pub(super) fn format_millis(millis: i64) -> String {
    match DateTime::from_timestamp_millis(millis) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        None => millis.to_string(),
    }
}

/// The time that [`format_millis`] writes so, to the letter.
pub(super) fn read_millis(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    // most texts are told by their length
    if bytes.len() != 23 || (bytes[4], bytes[10], bytes[19]) != (b'-', b' ', b'.') {
        return None;
    }
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.3f").ok()?;
    let millis = time.and_utc().timestamp_millis();
    (format_millis(millis) == text).then_some(millis)
}

/// As results show it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => Ok(()),
            Value::Flag(flag) => write!(f, "{}", u8::from(*flag)),
            Value::Whole(whole) => write!(f, "{whole}"),
            Value::Double(double) => write!(f, "{double}"),
            Value::Time(millis) => f.write_str(&format_millis(*millis)),
            Value::Text(text) => f.write_str(text),
            Value::List(_) | Value::Map(_) => write!(f, "{}", self.to_json()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_order_puts_texts_before_numbers_and_knows_digits_inside() {
        let mut values: Vec<Value> = ["10", "x10", "9", "x9", "", "-1.5", "x09", "X1", "1e1"].into_iter().map(Value::text).collect();
        values.push(Value::Null);
        values.sort_by(Value::natural_order);
        let shown: Vec<String> = values.iter().map(Value::to_string).collect();
        assert_eq!(shown, ["", "", "X1", "x09", "x9", "x10", "-1.5", "9", "10", "1e1"]);
        assert!(values[0].is_null());
    }

    #[test]
    fn numbers_have_one_order_beyond_what_doubles_tell_apart() {
        let ascending = [
            "-9223372036854775810",
            "-9223372036854775809",
            "-9223372036854775808",
            "-1.5",
            "9007199254740992",
            "9007199254740993",
            "9223372036854775806",
            "9223372036854775807",
            "9223372036854775808",
            "9223372036854775809",
            "49590338271490256608559692538361571095921575989136588897",
            "49590338271490256608559692538361571095921575989136588898",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                let (a, b) = (Value::text(*a), Value::text(*b));
                assert_eq!(a.compare(&b), Compared::As(i.cmp(&j)), "{a} {b}");
                assert_eq!(a.natural_order(&b), i.cmp(&j), "{a} {b}");
            }
        }
        let (whole, text) = (Value::Whole(200), Value::text("200.0"));
        assert_eq!(whole.compare(&text), Compared::As(Ordering::Equal));
        assert_eq!(Value::text("200").compare(&text), Compared::Alike);
        assert_eq!(Value::text("1.10").compare(&Value::text("1.1")), Compared::Alike);
        assert_eq!(
            Value::Whole(i64::MAX).compare(&Value::Double(9_223_372_036_854_775_808.0)),
            Compared::As(Ordering::Less)
        );
        assert_eq!(
            Value::Whole(i64::MIN).compare(&Value::Double(-9_223_372_036_854_775_808.0)),
            Compared::As(Ordering::Equal)
        );
        assert_eq!(Value::Whole(2).compare(&Value::Double(2.5)), Compared::As(Ordering::Less));
        assert_eq!(Value::Whole(-2).compare(&Value::Double(-2.5)), Compared::As(Ordering::Greater));
    }

    #[test]
    fn long_numbers_of_json_stay_as_they_are_written() {
        for (json, expected) in [
            (
                r#"{"a":12345678901234567890123,"b":[-98765432109876543210]}"#,
                r#"{"a":"12345678901234567890123","b":["-98765432109876543210"]}"#,
            ),
            (
                r#"{"a":9223372036854775807,"b":9223372036854775808}"#,
                r#"{"a":9223372036854775807,"b":"9223372036854775808"}"#,
            ),
            // no whole numbers, no numbers, no JSON
            (
                r#"{"a":0.12345678901234567890123,"b":12345678901234567890e3}"#,
                r#"{"a":0.12345678901234567890123,"b":12345678901234567890e3}"#,
            ),
            (
                r#"{"a\"12345678901234567890":"\\","b":"é 12345678901234567890"}"#,
                r#"{"a\"12345678901234567890":"\\","b":"é 12345678901234567890"}"#,
            ),
            (r#"{"a":012345678901234567890}"#, r#"{"a":012345678901234567890}"#),
            (r#""12345678901234567890\"#, r#""12345678901234567890\"#),
        ] {
            assert_eq!(with_long_numbers_as_texts(json), expected);
        }
    }

    #[test]
    fn numbers_are_shown_without_zeros_behind() {
        for (value, shown) in [
            (Value::double(5.0), "5"),
            (Value::double(0.1), "0.1"),
            (Value::double(f64::NAN), ""),
            (Value::Whole(-3), "-3"),
            (Value::Flag(true), "1"),
            (Value::Time(1_700_000_000_123), "2023-11-14 22:13:20.123"),
        ] {
            assert_eq!(value.to_string(), shown);
        }
    }
}
