//! Fields that log events have without being asked: of JSON, and of the lines that Lambda writes.
//!
//! JSON: a message that is one object; in a Lambda group (`/aws/lambda/…`) also the first object inside a line. Leaves are
//! named by their path, items of arrays by their number: `items.0.id`. `null` and empty containers have no field. Of names
//! that begin with `@` another `@` stands before. At most [`MAX_FIELDS`] leaves and [`MAX_DEPTH`] levels of one event.

use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Event;
use super::value::{Value, with_long_numbers_as_texts};
use crate::model::json::looks_like_object;

/// Leaves of one event, as the service has it.
const MAX_FIELDS: usize = 200;
/// Levels of nesting, less than the index walks.
const MAX_DEPTH: usize = 30;
/// Braces in a line at which an object may begin.
const MAX_BEGINNINGS: usize = 8;
/// Beginning of the names of Lambda's groups.
pub(super) const LAMBDA_GROUPS: &str = "/aws/lambda/";
/// Bytes of a megabyte, as Lambda's reports have them.
const MEGABYTE: f64 = 1e6;

/// All fields of an event but the system's own, of which `is_wanted`.
pub(super) fn fields(event: &Event, is_wanted: &dyn Fn(&str) -> bool) -> Vec<(Arc<str>, Value)> {
    let mut found = Vec::new();
    let is_lambda = event.group.starts_with(LAMBDA_GROUPS);
    let message: &str = &event.message;
    if looks_like_object(message) {
        if let Some(leaves) = leaves(message.trim_ascii(), true, is_wanted) {
            found = leaves;
        }
    } else if is_lambda {
        let beginnings = message.match_indices('{').take(MAX_BEGINNINGS);
        found = beginnings
            .map(|(at, _)| &message[at..])
            .find_map(|rest| leaves(rest, false, is_wanted))
            .unwrap_or_default();
    }
    let mut add = |name: &str, value: Value| {
        if !value.is_null() && is_wanted(name) && !found.iter().any(|(other, _)| **other == *name) {
            found.push((name.into(), value));
        }
    };
    lambda_line(message, is_lambda, &mut add);
    if let Some(trace_id) = event.trace_id.as_deref().filter(|id| id.len() == 32 && id.is_ascii()) {
        add("@xrayTraceId", Value::text(format!("1-{}-{}", &trace_id[..8], &trace_id[8..])));
    }
    if let Some(span_id) = event.span_id.as_deref() {
        add("@xraySegmentId", Value::text(span_id));
    }
    found
}

/// `START`, `END`, `REPORT` and what the runtimes write for `console.log`.
fn lambda_line(message: &str, is_lambda: bool, add: &mut dyn FnMut(&str, Value)) {
    let line = message.trim_end();
    let kind = ["REPORT", "START", "END"]
        .into_iter()
        .find(|kind| line.strip_prefix(kind).is_some_and(|rest| rest.starts_with(" RequestId: ")));
    let Some(kind) = kind else {
        // time, request ID, level, text
        let id = line.split('\t').nth(1).filter(|id| is_lambda && is_uuid(id));
        if let Some(id) = id {
            add("@requestId", Value::text(id));
        }
        return;
    };
    add("@type", Value::text(kind));
    let after = |label: &str| {
        let at = line.find(label)? + label.len();
        line[at..].split_whitespace().next()
    };
    if let Some(id) = after("RequestId: ") {
        add("@requestId", Value::text(id));
    }
    // a label begins a line's field, so that `Billed Duration` is no `Duration`
    let number = |label: &str, unit: f64| {
        let field = line.split('\t').find_map(|field| field.trim_start().strip_prefix(label))?;
        let number: f64 = field.split_whitespace().next()?.parse().ok()?;
        Some(Value::double(number * unit))
    };
    for (name, label, unit) in [
        ("@duration", "Duration: ", 1.0),
        ("@billedDuration", "Billed Duration: ", 1.0),
        ("@initDuration", "Init Duration: ", 1.0),
        ("@memorySize", "Memory Size: ", MEGABYTE),
        ("@maxMemoryUsed", "Max Memory Used: ", MEGABYTE),
    ] {
        add(name, number(label, unit).unwrap_or_default());
    }
    for (name, label) in [("@xrayTraceId", "XRAY TraceId: "), ("@xraySegmentId", "SegmentId: ")] {
        if let Some(id) = after(label) {
            add(name, Value::text(id));
        }
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// The leaves of the object that a text begins with; `whole`: and is.
fn leaves(text: &str, whole: bool, is_wanted: &dyn Fn(&str) -> bool) -> Option<Vec<(Arc<str>, Value)>> {
    let mut walk = Walk {
        path: String::new(),
        depth: 0,
        n_leaves: 0,
        is_wanted,
        found: Vec::new(),
    };
    let text = with_long_numbers_as_texts(text);
    let mut json = serde_json::Deserializer::from_str(&text);
    Node(&mut walk).deserialize(&mut json).ok()?;
    if whole {
        json.end().ok()?;
    }
    Some(walk.found)
}

struct Walk<'f> {
    path: String,
    depth: usize,
    n_leaves: usize,
    is_wanted: &'f dyn Fn(&str) -> bool,
    found: Vec<(Arc<str>, Value)>,
}

impl Walk<'_> {
    fn emit(&mut self, value: impl FnOnce() -> Value) {
        if self.n_leaves >= MAX_FIELDS || self.path.is_empty() {
            return;
        }
        self.n_leaves += 1;
        if (self.is_wanted)(&self.path) {
            self.found.push((self.path.as_str().into(), value()));
        }
    }

    fn is_full(&self) -> bool {
        self.depth >= MAX_DEPTH || self.n_leaves >= MAX_FIELDS
    }
}

struct Node<'a, 'f>(&'a mut Walk<'f>);

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.emit(|| Value::Flag(value));
        Ok(())
    }
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0.emit(|| Value::Whole(value));
        Ok(())
    }
    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        // beyond whole numbers it stays as it is written
        self.0
            .emit(|| i64::try_from(value).map_or_else(|_| Value::text(value.to_string()), Value::Whole));
        Ok(())
    }
    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.0.emit(|| Value::double(value));
        Ok(())
    }
    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.0.emit(|| Value::text(value));
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let walk = self.0;
        let parent = walk.path.len();
        walk.depth += 1;
        for number in 0.. {
            if walk.is_full() {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                break;
            }
            walk.path.push('.');
            walk.path.push_str(itoa::Buffer::new().format(number));
            let next = items.next_element_seed(Node(walk))?;
            walk.path.truncate(parent);
            if next.is_none() {
                break;
            }
        }
        walk.depth -= 1;
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let walk = self.0;
        let parent = walk.path.len();
        walk.depth += 1;
        loop {
            if walk.is_full() {
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                break;
            }
            let Some(key) = entries.next_key::<String>()? else { break };
            if parent > 0 {
                walk.path.push('.');
            } else if key.starts_with('@') {
                walk.path.push('@');
            }
            walk.path.push_str(&key);
            entries.next_value_seed(Node(walk))?;
            walk.path.truncate(parent);
        }
        walk.depth -= 1;
        Ok(())
    }
}
