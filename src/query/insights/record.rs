//! Fields of what a log record says beside its message: attributes, those of its resource, and columns.
//!
//! | name | is |
//! |---|---|
//! | `attributes.http.route` | an attribute of the record |
//! | `resource.attributes.service.name` | an attribute of its resource |
//! | `http.route`, `service.name` | either, if the name has a dot: OpenTelemetry's names have; one of the record comes first |
//! | `trace_id`, `traceId`, `span_id`, `spanId` | 32 and 16 hex digits |
//! | `severity_text`, `severityText`, `severity_number`, `severityNumber`, `event_name`, `eventName` | as sent, or as found in the text |
//! | `trace_id_source`, `pattern_id` | how the trace ID was found; what the text is the same in as others |
//!
//! What commands give, and fields of the message's JSON, hide them: a script means the same over events of `PutLogEvents` as at AWS.

use std::collections::HashSet;
use std::sync::Arc;

use super::Event;
use super::value::Value;

/// What attributes of the record begin with, and those of the resource.
const OWN: &str = "attributes.";
const RESOURCE: &str = "resource.attributes.";

/// A record beside its message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Its attributes.
    pub attributes: Vec<(String, String)>,
    /// Those of its resource, under their OpenTelemetry names.
    pub resource_attributes: Vec<(String, String)>,
    /// OpenTelemetry's number, 0 = unknown.
    pub severity_number: i32,
    /// As sent.
    pub severity_text: Option<String>,
    /// OpenTelemetry's event name.
    pub event_name: Option<String>,
    /// How the trace ID was found; `None` where the sender gave it.
    pub trace_id_source: Option<String>,
    /// What of its text is the same in many records.
    pub pattern_id: Option<i64>,
}

/// A column under its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    TraceId,
    SpanId,
    SeverityText,
    SeverityNumber,
    EventName,
    TraceIdSource,
    PatternId,
}

impl Column {
    pub(super) fn of(name: &str) -> Option<Column> {
        Some(match name {
            "trace_id" | "traceId" => Column::TraceId,
            "span_id" | "spanId" => Column::SpanId,
            "severity_text" | "severityText" => Column::SeverityText,
            "severity_number" | "severityNumber" => Column::SeverityNumber,
            "event_name" | "eventName" => Column::EventName,
            "trace_id_source" => Column::TraceIdSource,
            "pattern_id" => Column::PatternId,
            _ => return None,
        })
    }
}

/// Whether a script that may ask for these names may ask for something of the record; `None`: for any.
pub(super) fn may_be_named(names: Option<&HashSet<Arc<str>>>) -> bool {
    names.is_none_or(|names| {
        names
            .iter()
            .any(|name| !name.starts_with('@') && (name.contains('.') || Column::of(name).is_some()))
    })
}

/// The attributes that a name may mean, by their own names.
pub(super) fn attribute_names(name: &str) -> impl Iterator<Item = &str> {
    let named = name.strip_prefix(OWN).or_else(|| name.strip_prefix(RESOURCE)).filter(|rest| !rest.is_empty());
    let itself = name.contains('.').then_some(name);
    named.into_iter().chain(itself)
}

/// A field of an event's record.
pub(super) fn field(event: &Event, name: &str) -> Value {
    let Some(record) = event.record.as_deref() else { return Value::Null };
    if let Some(column) = Column::of(name) {
        let text = |value: Option<&str>| value.map_or(Value::Null, Value::text);
        return match column {
            Column::TraceId => text(event.trace_id.as_deref()),
            Column::SpanId => text(event.span_id.as_deref()),
            Column::SeverityText => text(record.severity_text.as_deref()),
            Column::SeverityNumber if record.severity_number == 0 => Value::Null,
            Column::SeverityNumber => Value::Whole(i64::from(record.severity_number)),
            Column::EventName => text(record.event_name.as_deref()),
            Column::TraceIdSource => text(record.trace_id_source.as_deref()),
            Column::PatternId => record.pattern_id.map_or(Value::Null, Value::Whole),
        };
    }
    let find = |attributes: &[(String, String)], name: &str| attributes.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
    let (own, resource) = (&record.attributes, &record.resource_attributes);
    let named = name.strip_prefix(RESOURCE).and_then(|rest| find(resource, rest));
    let named = named.or_else(|| name.strip_prefix(OWN).and_then(|rest| find(own, rest)));
    let itself = || name.contains('.').then(|| find(own, name).or_else(|| find(resource, name))).flatten();
    named.or_else(itself).map_or(Value::Null, Value::text)
}

/// The record's own attributes, by the names that are sure to mean them.
pub(super) fn own_fields(event: &Event) -> impl Iterator<Item = (Arc<str>, String)> {
    let attributes = event.record.as_deref().map(|record| record.attributes.as_slice()).unwrap_or_default();
    attributes.iter().map(|(name, value)| (format!("{OWN}{name}").into(), value.clone()))
}

impl Record {
    pub(super) fn memory_bytes(&self) -> usize {
        let of = |attributes: &[(String, String)]| -> usize { attributes.iter().map(|(name, value)| 48 + name.len() + value.len()).sum() };
        size_of::<Record>() + of(&self.attributes) + of(&self.resource_attributes)
    }
}
