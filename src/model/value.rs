//! One attribute value on its way from the wire to a string column.

use std::fmt::Write as _;

/// An attribute value as a client sent it; [`Value::text`] is its one canonical spelling.
///
/// Map columns hold strings, and the index holds the very same strings, so an integer 200 and a string `"200"` are
/// equal to a query. Arrays, key-value lists and bytes are JSON text, made by the decoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Text, as sent.
    Str(&'a str),
    /// Decimal digits.
    Int(i64),
    /// Shortest decimal that reads back as the same double, without exponent; `NaN`, `Infinity`, `-Infinity`.
    Double(f64),
    /// `true` or `false`.
    Bool(bool),
    /// JSON text of an array, a key-value list or base64 of bytes.
    Json(&'a str),
}

impl Value<'_> {
    /// The canonical text, written into `scratch` where it is not borrowed from the input.
    pub fn text<'b>(&'b self, scratch: &'b mut String) -> &'b str {
        match self {
            Value::Str(text) | Value::Json(text) => text,
            Value::Bool(true) => "true",
            Value::Bool(false) => "false",
            Value::Int(number) => {
                scratch.clear();
                scratch.push_str(itoa::Buffer::new().format(*number));
                scratch
            }
            Value::Double(number) => {
                scratch.clear();
                push_double(scratch, *number);
                scratch
            }
        }
    }
}

/// Appends the canonical text of a double.
pub(crate) fn push_double(out: &mut String, number: f64) {
    if number.is_nan() {
        out.push_str("NaN");
    } else if number.is_infinite() {
        out.push_str(if number > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        // writing to a String cannot fail
        let _ = write!(out, "{number}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_is_plain() {
        let mut scratch = String::new();
        for (value, text) in [
            (Value::Int(-7), "-7"),
            (Value::Double(1e21), "1000000000000000000000"),
            (Value::Double(0.1), "0.1"),
            (Value::Double(2.0), "2"),
            (Value::Double(f64::NEG_INFINITY), "-Infinity"),
            (Value::Bool(true), "true"),
            (Value::Str(""), ""),
        ] {
            assert_eq!(value.text(&mut scratch), text);
        }
    }
}
