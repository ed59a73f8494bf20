//! The type of an attribute: the store keeps text, and Jaeger's clients want numbers and flags.
//!
//! A text is a number only if that number is stored as this very text: `1.10` is a version, `007` a name. A text that was sent as text and
//! reads as a number is told as one, since nothing says which it was.

use crate::model::push_double;

/// What a text reads as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Typed {
    Bool(bool),
    Int(i64),
    /// Finite.
    Double(f64),
    Text,
}

impl Typed {
    /// Of the attribute `key`. What names a service (`service.name`, `service.version`, …) is text whatever it looks like.
    pub(super) fn of(key: &str, text: &str) -> Typed {
        if key.starts_with("service.") {
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
}
