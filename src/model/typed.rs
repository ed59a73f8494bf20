//! The type of an attribute: the store keeps text, and clients of Jaeger and X-Ray want numbers and flags.
//!
//! A text is a number only if that number is stored as this very text: `1.10` is a version, `007` a name. A text that was sent as text and
//! reads as a number is told as one, since nothing says which it was: but never so that the text could not be had back from it.

use serde_json::Value;

use super::push_double;

/// The greatest whole number that JavaScript, and whoever else reads numbers as doubles, has exactly.
pub const MAX_SAFE: u64 = (1 << 53) - 1;
/// Attributes that OpenTelemetry and X-Ray define as text and that often are digits.
const TEXTS: [&str; 8] = [
    "cloud.account.id",
    "host.id",
    "enduser.id",
    "user.id",
    "session.id",
    "messaging.message.id",
    "aws.account_id",
    "aws.request_id",
];

/// What a text reads as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Typed {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Finite.
    Double(f64),
    /// Anything else.
    Text,
}

impl Typed {
    /// Of the attribute `key`. What names a service (`service.name`, `service.version`, …) or is defined as text is text whatever it looks
    /// like.
    pub fn of(key: &str, text: &str) -> Typed {
        if key.starts_with("service.") || TEXTS.contains(&key) {
            return Typed::Text;
        }
        match text {
            "true" => return Typed::Bool(true),
            "false" => return Typed::Bool(false),
            _ => {}
        }
        if let Some(number) = text.parse::<i64>().ok().filter(|number| number.to_string() == text) {
            return Typed::Int(number);
        }
        let is_stored_so = |number: &f64| {
            let mut stored = String::new();
            push_double(&mut stored, *number);
            number.is_finite() && stored == text
        };
        text.parse::<f64>().ok().filter(is_stored_so).map_or(Typed::Text, Typed::Double)
    }

    /// The attribute `key` in JSON. Whole numbers beyond [`MAX_SAFE`] stay text, and so does JSON of an array or object that would be written
    /// in other words.
    pub fn json(key: &str, text: &str) -> Value {
        match Typed::of(key, text) {
            Typed::Bool(flag) => flag.into(),
            Typed::Int(number) if number.unsigned_abs() <= MAX_SAFE => number.into(),
            Typed::Double(number) => number.into(),
            Typed::Int(_) => text.into(),
            Typed::Text if text.starts_with(['[', '{']) => {
                let is_written_so = |nested: &Value| {
                    let written = nested.to_string();
                    written == text
                };
                let nested = serde_json::from_str::<Value>(text).ok().filter(is_written_so);
                nested.unwrap_or_else(|| text.into())
            }
            Typed::Text => text.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_what_is_stored_as_this_very_text() {
        for (text, typed) in [
            ("5", Typed::Int(5)),
            ("-5", Typed::Int(-5)),
            ("0.25", Typed::Double(0.25)),
            ("1000000000000000000000", Typed::Double(1e21)),
            ("true", Typed::Bool(true)),
        ] {
            assert_eq!(Typed::of("a", text), typed, "{text}");
            assert_eq!(Typed::of("service.version", text), Typed::Text, "{text}");
        }
        for text in [
            "",
            "1.10",
            "1.0",
            "007",
            "+5",
            " 5",
            "1e5",
            "18446744073709551615",
            "NaN",
            "Infinity",
            "[1]",
            "null",
            "True",
        ] {
            assert_eq!(Typed::of("a", text), Typed::Text, "{text}");
        }
    }

    #[test]
    fn what_is_told_in_json_is_the_stored_text() {
        use serde_json::json;
        for (text, told) in [
            ("5", json!(5)),
            ("0.25", json!(0.25)),
            ("true", json!(true)),
            ("[1,\"a\",null]", json!([1, "a", null])),
            ("{\"b\":1,\"a\":{\"c\":0.5}}", json!({"b": 1, "a": {"c": 0.5}})),
            ("9007199254740991", json!(9_007_199_254_740_991i64)),
        ] {
            assert_eq!(Typed::json("a", text), told, "{text}");
        }
        for text in [
            "1.10",
            "1e3",
            "123456789012345678901234",
            "9007199254740993",
            "null",
            "[1.10]",
            "[1, 2]",
            "{\"a\":1,\"a\":2}",
            "[1",
            "{\"a\":123456789012345678901234}",
        ] {
            assert_eq!(Typed::json("a", text), json!(text), "{text}");
        }
        assert_eq!(Typed::json("cloud.account.id", "123456789012"), json!("123456789012"));
    }
}
