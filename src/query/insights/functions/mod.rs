//! The functions of the language: one table of names and how many arguments each takes; a room a kind.
//!
//! A function of a value that it does not take (a word where it takes a number, something missing) has no value. None fails,
//! and none panics.

mod dates;
mod general;
mod ip;
mod json;
mod numeric;
mod strings;

use std::borrow::Cow;

use regex::Regex;

use super::evaluate::Scope;
use super::periods::Period;
use super::value::Value;

/// Longest text that a function makes, bytes.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// Which argument is not a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Takes {
    Values,
    /// The one at this place is a period.
    Period(usize),
    /// … a regular expression.
    Regex(usize),
}

/// A function.
#[derive(Debug)]
pub(super) struct Function {
    /// In lower case, without `_`.
    pub(super) name: &'static str,
    /// Least and most arguments.
    pub(super) arguments: (usize, usize),
    pub(super) takes: Takes,
    pub(super) call: fn(&Arguments<'_>) -> Value,
}

/// What a function is called with.
#[derive(Debug)]
pub(super) struct Arguments<'a> {
    pub(super) values: &'a [Value],
    pub(super) period: Option<Period>,
    pub(super) regex: Option<&'a Regex>,
    pub(super) scope: &'a Scope,
}

impl Arguments<'_> {
    fn value(&self, place: usize) -> &Value {
        self.values.get(place).unwrap_or(&Value::Null)
    }
    fn text(&self, place: usize) -> Option<Cow<'_, str>> {
        self.value(place).as_text()
    }
    fn number(&self, place: usize) -> Option<f64> {
        self.value(place).as_f64()
    }
    fn whole(&self, place: usize) -> Option<i64> {
        self.value(place).as_f64().map(|number| number as i64)
    }
}

/// By name, in lower case and without `_`.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    [
        numeric::FUNCTIONS,
        strings::FUNCTIONS,
        dates::FUNCTIONS,
        general::FUNCTIONS,
        json::FUNCTIONS,
        ip::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
    .find(|function| function.name == name)
}

/// A letter of a format that a function of times does not know: its answer would have no value, whatever the time.
pub(super) fn unknown_letter(function: &Function, format: &str) -> Option<char> {
    dates::unknown_letter(function.name, format)
}

const fn function(name: &'static str, least: usize, most: usize, call: fn(&Arguments<'_>) -> Value) -> Function {
    Function {
        name,
        arguments: (least, most),
        takes: Takes::Values,
        call,
    }
}

/// A text made from texts, if all are there.
fn made(text: Option<String>) -> Value {
    match text {
        Some(text) if text.len() <= MAX_TEXT_BYTES => Value::text(text),
        _ => Value::Null,
    }
}

/// 1 or 0, as the service's tests give.
fn test(holds: bool) -> Value {
    Value::Flag(holds)
}
