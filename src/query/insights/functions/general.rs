//! Functions of any value, and of the query.

use super::{Arguments, Function, function};
use crate::query::insights::value::Value;

/// Branches of `case`, and what else it gives.
const MAX_CASE: usize = 21;

pub(super) const FUNCTIONS: &[Function] = &[
    function("ispresent", 1, 1, |arguments| Value::Flag(!arguments.value(0).is_null())),
    function("coalesce", 1, usize::MAX, |arguments| {
        arguments.values.iter().find(|value| !value.is_null()).cloned().unwrap_or_default()
    }),
    function("if", 2, 3, |arguments| match arguments.value(0).holds() {
        true => arguments.value(1).clone(),
        false => arguments.value(2).clone(),
    }),
    function("case", 2, MAX_CASE, case),
    function("messagesize", 0, 1, |arguments| match arguments.text(0) {
        Some(text) => Value::Whole(text.len() as i64),
        None => Value::Null,
    }),
    function("querystarttime", 0, 0, |arguments| Value::Time(arguments.scope.start_millis)),
    function("queryendtime", 0, 0, |arguments| Value::Time(arguments.scope.end_millis)),
    function("querytimerange", 0, 0, |arguments| {
        Value::Whole(arguments.scope.end_millis.saturating_sub(arguments.scope.start_millis))
    }),
];

/// Conditions and values in turn; one more is what else.
fn case(arguments: &Arguments<'_>) -> Value {
    let mut rest = arguments.values;
    while let [condition, value, more @ ..] = rest {
        if condition.holds() {
            return value.clone();
        }
        rest = more;
    }
    rest.first().cloned().unwrap_or_default()
}
