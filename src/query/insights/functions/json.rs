//! Functions of JSON.

use super::{Function, function, made};
use crate::query::insights::value::{Compared, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    function("jsonparse", 1, 1, |arguments| match arguments.text(0) {
        Some(text) => Value::read_json(&text),
        None => Value::Null,
    }),
    function("jsonstringify", 1, 1, |arguments| match arguments.value(0) {
        Value::Null => Value::Null,
        value => made(Some(value.to_json().to_string())),
    }),
    function("jsonarraysize", 1, 1, |arguments| match list(arguments.value(0)) {
        Some(items) => Value::Whole(items.len() as i64),
        None => Value::Null,
    }),
    function("jsonarraycontains", 2, 2, |arguments| match list(arguments.value(0)) {
        Some(items) => {
            let is_it = |item: &Value| item.compare(arguments.value(1)) == Compared::As(std::cmp::Ordering::Equal);
            Value::Flag(items.iter().any(is_it))
        }
        None => Value::Null,
    }),
];

/// The items of a list, or of a text that is a JSON array.
fn list(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::List(items) => Some(items.to_vec()),
        Value::Text(text) if text.trim_start().starts_with('[') => match Value::read_json(text) {
            Value::List(items) => Some(items.to_vec()),
            _ => None,
        },
        _ => None,
    }
}
