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

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};

use super::Event;
use super::value::Value;
use crate::block::Pairs;
use crate::model::schema::RESOURCE_COLUMNS;
use crate::query::{Error, Result};

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

    /// In `logs`.
    fn name(self) -> &'static str {
        match self {
            Column::TraceId => "trace_id",
            Column::SpanId => "span_id",
            Column::SeverityText => "severity_text",
            Column::SeverityNumber => "severity_number",
            Column::EventName => "event_name",
            Column::TraceIdSource => "trace_id_source",
            Column::PatternId => "pattern_id",
        }
    }
}

/// Names that may mean something of a record, and where that lies: of a record, no more is read than can hold them.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) names: Vec<Arc<str>>,
    /// Columns of `logs`.
    pub(super) columns: BTreeSet<&'static str>,
    /// Attributes by their own names.
    attributes: HashSet<String>,
}

impl Named {
    /// Those among names; `None` if there are none.
    pub(super) fn of<'n>(names: impl IntoIterator<Item = &'n Arc<str>>) -> Option<Named> {
        let mut named = Named {
            names: Vec::new(),
            columns: BTreeSet::new(),
            attributes: HashSet::new(),
        };
        for name in names.into_iter().filter(|name| !name.starts_with('@')) {
            if let Some(column) = Column::of(name) {
                named.columns.insert(column.name());
            } else if name.contains('.') {
                named.columns.extend(["attributes", "resource_attributes"]);
                for attribute in attribute_names(name) {
                    let promoted = RESOURCE_COLUMNS.iter().filter(|(of, _)| *of == attribute);
                    named.columns.extend(promoted.map(|(_, column)| *column));
                    named.attributes.insert(attribute.to_string());
                }
            } else {
                continue;
            }
            named.names.push(Arc::clone(name));
        }
        (!named.names.is_empty()).then_some(named)
    }

    /// Whether a trace's ID is among them, or a span's.
    pub(super) fn has_trace(&self) -> bool {
        self.columns.contains(Column::TraceId.name()) || self.columns.contains(Column::SpanId.name())
    }

    /// The records of rows, as far as they are named; `column` gives a column of theirs.
    pub(super) fn records<'a>(&'a self, column: impl Fn(&str) -> Option<&'a ArrayRef>) -> Result<Records<'a>> {
        let wanted = |name: &str| match self.columns.contains(name) {
            false => Ok(None),
            true => column(name).map(Some).ok_or_else(|| Error::internal(format!("column {name} was not read"))),
        };
        let text = |name: &str| Ok::<_, Error>(wanted(name)?.and_then(|column| column.as_string_opt::<i32>()));
        let pairs = |name: &str| Ok::<_, Error>(wanted(name)?.and_then(Pairs::new));
        let mut promoted = Vec::new();
        for (attribute, column) in RESOURCE_COLUMNS {
            promoted.extend(text(column)?.map(|column| (attribute, column)));
        }
        Ok(Records {
            named: self,
            attributes: pairs("attributes")?,
            resource: pairs("resource_attributes")?,
            promoted,
            severity_number: wanted("severity_number")?.and_then(|column| column.as_primitive_opt::<Int32Type>()),
            severity_text: text("severity_text")?,
            event_name: text("event_name")?,
            trace_id_source: text("trace_id_source")?,
            pattern_id: wanted("pattern_id")?.and_then(|column| column.as_primitive_opt::<Int64Type>()),
        })
    }
}

/// Columns of rows that hold what of their records is named.
pub(super) struct Records<'a> {
    named: &'a Named,
    attributes: Option<Pairs<'a>>,
    resource: Option<Pairs<'a>>,
    promoted: Vec<(&'static str, &'a StringArray)>,
    severity_number: Option<&'a Int32Array>,
    severity_text: Option<&'a StringArray>,
    event_name: Option<&'a StringArray>,
    trace_id_source: Option<&'a StringArray>,
    pattern_id: Option<&'a Int64Array>,
}

impl Records<'_> {
    pub(super) fn of_row(&self, row: usize) -> Record {
        let text = |column: Option<&StringArray>| column.filter(|column| column.is_valid(row)).map(|column| column.value(row).to_string());
        let named = |pairs: &Option<Pairs<'_>>| -> Vec<(String, String)> {
            let pairs = pairs.iter().flat_map(|pairs| pairs.of_row(row));
            let wanted = pairs.filter(|(name, _)| self.named.attributes.contains(*name));
            wanted.map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let promoted = self.promoted.iter().filter_map(|(name, column)| Some((name.to_string(), text(Some(*column))?)));
        Record {
            attributes: named(&self.attributes),
            resource_attributes: promoted.chain(named(&self.resource)).collect(),
            severity_number: self.severity_number.filter(|column| column.is_valid(row)).map_or(0, |column| column.value(row)),
            severity_text: text(self.severity_text),
            event_name: text(self.event_name),
            trace_id_source: text(self.trace_id_source),
            pattern_id: self.pattern_id.filter(|column| column.is_valid(row)).map(|column| column.value(row)),
        }
    }
}

/// Whether a script that may ask for these names may ask for something of the record; `None`: for any.
pub(super) fn may_be_named(names: Option<&HashSet<Arc<str>>>) -> bool {
    names.is_none_or(|names| Named::of(names).is_some())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_of_records_lies_in_few_columns() {
        let named = |names: &[&str]| {
            let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
            Named::of(&names).map(|named| named.columns.into_iter().collect::<Vec<_>>().join(" "))
        };
        let maps = "attributes resource_attributes";
        assert_eq!(named(&["user", "@message", "@entity.KeyAttributes.Name", "level"]), None);
        assert_eq!(named(&["http.route", "attributes.user"]).as_deref(), Some(maps));
        assert_eq!(named(&["service.name"]), Some(format!("{maps} service_name")));
        assert_eq!(
            named(&["resource.attributes.host.name", "a.b"]),
            Some("attributes host_name resource_attributes".into())
        );
        assert_eq!(
            named(&["traceId", "severity_text", "patternId", "pattern_id"]).as_deref(),
            Some("pattern_id severity_text trace_id")
        );
    }
}
