//! `AnyValue` to the text that columns hold.
//!
//! Inside arrays and key-value lists a value is plain JSON: numbers as numbers (`NaN` and the infinities as strings),
//! bytes as a base64 string, a missing value as `null`.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;

use super::{CUT, MAX_NESTING};
use crate::model::Value;

/// A value as prost has it; a missing one is empty text. JSON is written into `json`.
pub(super) fn value<'t>(any: Option<&'t AnyValue>, json: &'t mut String) -> Value<'t> {
    match any.and_then(|any| any.value.as_ref()) {
        None | Some(Any::StringValueStrindex(_)) => Value::Str(""),
        Some(Any::StringValue(text)) => Value::Str(text),
        Some(Any::BoolValue(value)) => Value::Bool(*value),
        Some(Any::IntValue(number)) => Value::Int(*number),
        Some(Any::DoubleValue(number)) => Value::Double(*number),
        Some(Any::BytesValue(bytes)) => {
            json.clear();
            STANDARD.encode_string(bytes, json);
            Value::Json(json)
        }
        Some(nested @ (Any::ArrayValue(_) | Any::KvlistValue(_))) => {
            json.clear();
            push_nested(json, Some(nested), 1);
            Value::Json(json)
        }
    }
}

/// Appends a value in JSON; `depth` is the level that the value would open, from 1.
fn push_nested(out: &mut String, any: Option<&Any>, depth: usize) {
    match any {
        None | Some(Any::StringValueStrindex(_)) => out.push_str("null"),
        Some(Any::StringValue(text)) => push_string(out, text),
        Some(Any::BoolValue(value)) => out.push_str(if *value { "true" } else { "false" }),
        Some(Any::IntValue(number)) => out.push_str(itoa::Buffer::new().format(*number)),
        Some(Any::DoubleValue(number)) => push_double(out, *number),
        Some(Any::BytesValue(bytes)) => push_bytes(out, bytes),
        Some(Any::ArrayValue(_) | Any::KvlistValue(_)) if depth > MAX_NESTING => out.push_str(CUT),
        Some(Any::ArrayValue(array)) => {
            out.push('[');
            for (i, item) in array.values.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                push_nested(out, item.value.as_ref(), depth + 1);
            }
            out.push(']');
        }
        Some(Any::KvlistValue(list)) => {
            out.push('{');
            for (i, entry) in list.values.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                push_string(out, &entry.key);
                out.push(':');
                push_nested(out, entry.value.as_ref().and_then(|value| value.value.as_ref()), depth + 1);
            }
            out.push('}');
        }
    }
}

/// Appends a JSON number, or a string for what JSON has no number for.
pub(super) fn push_double(out: &mut String, number: f64) {
    let quoted = !number.is_finite();
    if quoted {
        out.push('"');
    }
    out.push_str(Value::Double(number).text(&mut String::new()));
    if quoted {
        out.push('"');
    }
}

/// Appends a JSON string of base64.
pub(super) fn push_bytes(out: &mut String, bytes: &[u8]) {
    out.push('"');
    STANDARD.encode_string(bytes, out);
    out.push('"');
}

/// Appends a JSON string.
pub(super) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut copied = 0;
    for (i, byte) in text.bytes().enumerate() {
        // only ASCII is ever escaped, so `i` is a character boundary there
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[copied..i]);
        copied = i + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            // writing to a String cannot fail
            _ => _ = write!(out, "\\u{byte:04x}"),
        }
    }
    out.push_str(&text[copied..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn strings_read_back(text in proptest::string::string_regex("(?s).*").unwrap()) {
            let mut out = String::new();
            push_string(&mut out, &text);
            proptest::prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn numbers_that_json_lacks_are_strings() {
        let mut out = String::new();
        for number in [1.5, f64::NAN, f64::NEG_INFINITY] {
            push_double(&mut out, number);
            out.push(' ');
        }
        assert_eq!(out, r#"1.5 "NaN" "-Infinity" "#);
    }
}
