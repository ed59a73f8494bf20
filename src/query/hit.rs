//! One row as people and rules see it, owned, and its JSON.

use std::sync::LazyLock;

use arrow::array::{Array, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{Error, Result};
use crate::model::schema::{RESOURCE_COLUMNS, SPAN_COLUMNS};
use crate::model::{Table, TraceId, format_time, json, severity};

/// Bytes of a body that lists show.
pub const DEFAULT_MAX_BODY: usize = 2_048;

/// Attributes in the order they are stored.
pub type Attributes = Vec<(String, String)>;

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub enum Hit {
    /// Of `logs`.
    Log(Box<LogHit>),
    /// Of `spans`.
    Span(Box<SpanHit>),
}

/// A row of `logs`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogHit {
    /// Unique on its node, rising in order of arrival.
    pub ingest_id: i64,
    /// Event time.
    pub time_unix_nano: i64,
    /// When the sender saw it, microseconds.
    pub observed_time_micros: Option<i64>,
    /// 32 hex digits.
    pub trace_id: Option<String>,
    /// How the trace ID was found; `None` where the sender gave it.
    pub trace_id_source: Option<String>,
    /// 16 hex digits.
    pub span_id: Option<String>,
    /// OpenTelemetry's number, 0 = unknown.
    pub severity_number: i32,
    /// As sent.
    pub severity_text: Option<String>,
    /// OpenTelemetry event name.
    pub event_name: Option<String>,
    /// Text, or JSON text.
    pub body: Option<String>,
    /// `AnyValue` field number.
    pub body_type: i32,
    /// What of its text is the same in many records.
    pub pattern_id: Option<i64>,
    /// Instrumentation scope.
    pub scope_name: Option<String>,
    /// Its version.
    pub scope_version: Option<String>,
    /// The record's own.
    pub attributes: Attributes,
    /// The resource's, promoted ones first, under their OpenTelemetry names.
    pub resource_attributes: Attributes,
}

/// A row of `spans`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpanHit {
    /// Unique on its node, rising in order of arrival.
    pub ingest_id: i64,
    /// Start.
    pub start_time_unix_nano: i64,
    /// 0 while in progress.
    pub duration_nano: i64,
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
    /// `None` of a root.
    pub parent_span_id: Option<String>,
    /// W3C tracestate.
    pub trace_state: Option<String>,
    /// Operation.
    pub name: String,
    /// `SERVER`, …
    pub kind: String,
    /// `UNSET`, `OK` or `ERROR`.
    pub status_code: String,
    /// Its description.
    pub status_message: Option<String>,
    /// Without a parent.
    pub is_root: bool,
    /// A later document completes it.
    pub in_progress: bool,
    /// Instrumentation scope.
    pub scope_name: Option<String>,
    /// The span's own, promoted ones first, under their OpenTelemetry names.
    pub attributes: Attributes,
    /// The resource's, promoted ones first, under their OpenTelemetry names.
    pub resource_attributes: Attributes,
    /// In the order sent.
    pub events: Vec<SpanEventHit>,
    /// In the order sent.
    pub links: Vec<SpanLinkHit>,
}

/// An event of a span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpanEventHit {
    /// When.
    pub time_unix_nano: i64,
    /// What.
    pub name: Option<String>,
    /// More.
    pub attributes: Attributes,
}

/// A link of a span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpanLinkHit {
    /// The other trace.
    pub trace_id: Option<String>,
    /// The other span.
    pub span_id: Option<String>,
    /// More.
    pub attributes: Attributes,
}

fn text_bytes(text: &Option<String>) -> usize {
    text.as_ref().map_or(0, String::len)
}

impl SpanHit {
    /// Memory it takes, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        let text = text_bytes;
        let events = self.events.iter();
        let events = events.map(|event| size_of::<SpanEventHit>() + text(&event.name) + attributes_bytes(&event.attributes));
        let links = self.links.iter();
        let links = links.map(|link| size_of::<SpanLinkHit>() + text(&link.trace_id) + text(&link.span_id) + attributes_bytes(&link.attributes));
        size_of::<SpanHit>()
            + [&self.trace_id, &self.span_id, &self.name, &self.kind, &self.status_code]
                .map(String::len)
                .iter()
                .sum::<usize>()
            + text(&self.parent_span_id)
            + text(&self.trace_state)
            + text(&self.status_message)
            + text(&self.scope_name)
            + attributes_bytes(&self.attributes)
            + attributes_bytes(&self.resource_attributes)
            + events.sum::<usize>()
            + links.sum::<usize>()
    }
}

impl Hit {
    /// The table.
    pub fn table(&self) -> Table {
        match self {
            Hit::Log(_) => Table::Logs,
            Hit::Span(_) => Table::Spans,
        }
    }
    /// Event time (of a span, its start), nanoseconds.
    pub fn time_unix_nano(&self) -> i64 {
        match self {
            Hit::Log(log) => log.time_unix_nano,
            Hit::Span(span) => span.start_time_unix_nano,
        }
    }
    /// Unique on its node, rising in order of arrival.
    pub fn ingest_id(&self) -> i64 {
        match self {
            Hit::Log(log) => log.ingest_id,
            Hit::Span(span) => span.ingest_id,
        }
    }
    /// 32 hex digits.
    pub fn trace_id(&self) -> Option<&str> {
        match self {
            Hit::Log(log) => log.trace_id.as_deref(),
            Hit::Span(span) => Some(&span.trace_id),
        }
    }
    /// `service.name`.
    pub fn service_name(&self) -> Option<&str> {
        find(self.resource_attributes(), "service.name")
    }
    /// The row's own attributes.
    pub fn attributes(&self) -> &Attributes {
        match self {
            Hit::Log(log) => &log.attributes,
            Hit::Span(span) => &span.attributes,
        }
    }
    /// The resource's attributes.
    pub fn resource_attributes(&self) -> &Attributes {
        match self {
            Hit::Log(log) => &log.resource_attributes,
            Hit::Span(span) => &span.resource_attributes,
        }
    }
    /// Memory it takes, about.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Hit::Log(log) => {
                let text = text_bytes;
                size_of::<LogHit>()
                    + text(&log.body)
                    + text(&log.trace_id)
                    + text(&log.span_id)
                    + text(&log.severity_text)
                    + text(&log.event_name)
                    + text(&log.scope_name)
                    + text(&log.scope_version)
                    + attributes_bytes(&log.attributes)
                    + attributes_bytes(&log.resource_attributes)
            }
            Hit::Span(span) => span.memory_bytes(),
        }
    }
    /// The columns that [`from_stored`](Self::from_stored) reads; none named stands for all.
    pub(super) fn columns(table: Table) -> &'static [&'static str] {
        static OF_SPANS: LazyLock<Vec<&str>> = LazyLock::new(|| {
            let schema = Table::Spans.schema();
            // as long as all the others together, and written nowhere but in X-Ray's own answers
            let names = schema.fields().iter().map(|field| field.name()).filter(|name| *name != "xray_document");
            names.map(|name| &*name.clone().leak()).collect()
        });
        match table {
            Table::Spans => &OF_SPANS,
            _ => &[],
        }
    }

    /// The row as JSON whose body is cut to `max_body` bytes at a character boundary; 0 = whole.
    pub fn with_max_body(&self, max_body: usize) -> HitJson<'_> {
        HitJson { hit: self, max_body }
    }

    /// Rows of `logs` or `spans` in their stored schema.
    pub fn from_stored(table: Table, batch: &RecordBatch) -> Result<Vec<Hit>> {
        let columns = Columns(batch);
        (0..batch.num_rows())
            .map(|row| match table {
                Table::Logs => columns.log(row).map(|log| Hit::Log(Box::new(log))),
                Table::Spans => columns.span(row).map(|span| Hit::Span(Box::new(span))),
                other => Err(Error::internal(format!("{} has no hits", other.name()))),
            })
            .collect()
    }
}

fn attributes_bytes(attributes: &Attributes) -> usize {
    attributes
        .iter()
        .map(|(key, value)| size_of::<(String, String)>() + key.len() + value.len())
        .sum()
}

fn find<'a>(attributes: &'a Attributes, key: &str) -> Option<&'a str> {
    attributes.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
}

/// Typed access to the columns of a stored batch.
struct Columns<'a>(&'a RecordBatch);

impl Columns<'_> {
    fn column(&self, name: &str) -> Result<&dyn Array> {
        match self.0.column_by_name(name) {
            Some(column) => Ok(column.as_ref()),
            None => Err(Error::internal(format!("column {name} was not read"))),
        }
    }
    fn text(&self, name: &str, row: usize) -> Result<Option<String>> {
        let column = self.column(name)?;
        let values = column.as_string_opt::<i32>().ok_or_else(|| Error::internal(format!("{name} is no text")))?;
        Ok(values.is_valid(row).then(|| values.value(row).to_string()))
    }
    fn long(&self, name: &str, row: usize) -> Result<Option<i64>> {
        let column = self.column(name)?;
        Ok(match column.data_type() {
            DataType::Int64 => column.is_valid(row).then(|| column.as_primitive::<Int64Type>().value(row)),
            DataType::Int32 => column.is_valid(row).then(|| i64::from(column.as_primitive::<Int32Type>().value(row))),
            DataType::Timestamp(..) => column
                .as_primitive_opt::<TimestampMicrosecondType>()
                .and_then(|times| times.is_valid(row).then(|| times.value(row))),
            _ => return Err(Error::internal(format!("{name} is no number"))),
        })
    }
    fn int(&self, name: &str, row: usize) -> Result<i32> {
        Ok(self.long(name, row)?.and_then(|number| i32::try_from(number).ok()).unwrap_or_default())
    }
    fn flag(&self, name: &str, row: usize) -> Result<bool> {
        let column = self.column(name)?;
        Ok(column.as_boolean_opt().is_some_and(|flags| flags.is_valid(row) && flags.value(row)))
    }
    fn map(&self, name: &str, row: usize) -> Result<Attributes> {
        attributes_of(self.column(name)?, row)
    }
    fn resource(&self, row: usize) -> Result<Attributes> {
        let mut out = Vec::new();
        for (attribute, column) in RESOURCE_COLUMNS {
            if let Some(value) = self.text(column, row)? {
                out.push((attribute.to_string(), value));
            }
        }
        out.extend(self.map("resource_attributes", row)?);
        Ok(out)
    }

    fn log(&self, row: usize) -> Result<LogHit> {
        Ok(LogHit {
            ingest_id: self.long("ingest_id", row)?.unwrap_or_default(),
            time_unix_nano: self.long("time_unix_nano", row)?.unwrap_or_default(),
            observed_time_micros: self.long("observed_time", row)?,
            trace_id: self.text("trace_id", row)?,
            trace_id_source: self.text("trace_id_source", row)?,
            span_id: self.text("span_id", row)?,
            severity_number: self.int("severity_number", row)?,
            severity_text: self.text("severity_text", row)?,
            event_name: self.text("event_name", row)?,
            body: self.text("body", row)?,
            body_type: self.int("body_type", row)?,
            pattern_id: self.long("pattern_id", row)?,
            scope_name: self.text("scope_name", row)?,
            scope_version: self.text("scope_version", row)?,
            attributes: self.map("attributes", row)?,
            resource_attributes: self.resource(row)?,
        })
    }

    fn span(&self, row: usize) -> Result<SpanHit> {
        let mut attributes = Vec::new();
        for (attribute, column) in SPAN_COLUMNS {
            let value = if column == "http_response_status_code" {
                self.long(column, row)?.map(|code| code.to_string())
            } else {
                self.text(column, row)?
            };
            if let Some(value) = value {
                attributes.push((attribute.to_string(), value));
            }
        }
        attributes.extend(self.map("attributes", row)?);
        let events = items(self.column("events")?, row)?;
        let events = (0..events.len())
            .map(|i| {
                Ok(SpanEventHit {
                    time_unix_nano: nested(&events, "time_unix_nano")?.as_primitive::<Int64Type>().value(i),
                    name: nested_text(&events, "name", i)?,
                    attributes: attributes_of(nested(&events, "attributes")?, i)?,
                })
            })
            .collect::<Result<_>>()?;
        let links = items(self.column("links")?, row)?;
        let links = (0..links.len())
            .map(|i| {
                Ok(SpanLinkHit {
                    trace_id: nested_text(&links, "trace_id", i)?,
                    span_id: nested_text(&links, "span_id", i)?,
                    attributes: attributes_of(nested(&links, "attributes")?, i)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(SpanHit {
            ingest_id: self.long("ingest_id", row)?.unwrap_or_default(),
            start_time_unix_nano: self.long("start_time_unix_nano", row)?.unwrap_or_default(),
            duration_nano: self.long("duration_nano", row)?.unwrap_or_default(),
            trace_id: self.text("trace_id", row)?.unwrap_or_default(),
            span_id: self.text("span_id", row)?.unwrap_or_default(),
            parent_span_id: self.text("parent_span_id", row)?,
            trace_state: self.text("trace_state", row)?,
            name: self.text("name", row)?.unwrap_or_default(),
            kind: self.text("kind", row)?.unwrap_or_default(),
            status_code: self.text("status_code", row)?.unwrap_or_default(),
            status_message: self.text("status_message", row)?,
            is_root: self.flag("is_root", row)?,
            in_progress: self.flag("in_progress", row)?,
            scope_name: self.text("scope_name", row)?,
            attributes,
            resource_attributes: self.resource(row)?,
            events,
            links,
        })
    }
}

fn attributes_of(column: &dyn Array, row: usize) -> Result<Attributes> {
    let map = column.as_map_opt().ok_or_else(|| Error::internal("attributes are no map"))?;
    let (keys, values) = (map.keys().as_string_opt::<i32>(), map.values().as_string_opt::<i32>());
    let (Some(keys), Some(values)) = (keys, values) else {
        return Err(Error::internal("attributes are no text"));
    };
    let offsets = map.value_offsets();
    Ok((offsets[row] as usize..offsets[row + 1] as usize)
        .filter(|entry| values.is_valid(*entry))
        .map(|entry| (keys.value(entry).to_string(), values.value(entry).to_string()))
        .collect())
}

/// The structs of one row's list.
fn items(column: &dyn Array, row: usize) -> Result<StructArray> {
    let list = column.as_list_opt::<i32>().ok_or_else(|| Error::internal("events and links are lists"))?;
    list.value(row)
        .as_struct_opt()
        .cloned()
        .ok_or_else(|| Error::internal("events and links are lists of structs"))
}

fn nested<'a>(items: &'a StructArray, name: &str) -> Result<&'a dyn Array> {
    match items.column_by_name(name) {
        Some(column) => Ok(column.as_ref()),
        None => Err(Error::internal(format!("no field {name}"))),
    }
}

fn nested_text(items: &StructArray, name: &str, row: usize) -> Result<Option<String>> {
    let column = nested(items, name)?
        .as_string_opt::<i32>()
        .ok_or_else(|| Error::internal(format!("{name} is no text")))?;
    Ok(column.is_valid(row).then(|| column.value(row).to_string()))
}

/// A hit as JSON, its body cut.
#[derive(Clone, Copy, Debug)]
pub struct HitJson<'a> {
    hit: &'a Hit,
    max_body: usize,
}

/// Attributes as one JSON object.
struct AsObject<'a>(&'a Attributes);

impl Serialize for AsObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// The leaves of a JSON body: text, or a list where a name has several values.
fn body_fields(body: Option<&str>) -> serde_json::Map<String, serde_json::Value> {
    use serde_json::Value;
    let mut out = serde_json::Map::new();
    for (name, value) in body.and_then(json::leaves).unwrap_or_default() {
        match out.get_mut(&name) {
            None => {
                out.insert(name, Value::String(value));
            }
            Some(Value::Array(values)) => values.push(Value::String(value)),
            Some(first) => *first = Value::Array(vec![first.take(), Value::String(value)]),
        }
    }
    out
}

fn xray(trace_id: Option<&str>) -> Option<String> {
    trace_id.and_then(TraceId::from_hex).map(|id| id.to_xray())
}

impl Serialize for HitJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        match self.hit {
            Hit::Log(log) => log.entries(self.max_body, &mut out)?,
            Hit::Span(span) => span.entries(&mut out)?,
        }
        out.end()
    }
}

impl Serialize for Hit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_max_body(DEFAULT_MAX_BODY).serialize(serializer)
    }
}

impl LogHit {
    /// Writes the API's members into an object that may hold others.
    pub(super) fn entries<M: SerializeMap>(&self, max_body: usize, out: &mut M) -> Result<(), M::Error> {
        let body = self.body.as_deref();
        let cut = body.map(|body| if max_body == 0 { body } else { &body[..body.floor_char_boundary(max_body)] });
        let resource = |key| find(&self.resource_attributes, key);
        out.serialize_entry("id", &self.ingest_id.to_string())?;
        out.serialize_entry("time", &format_time(self.time_unix_nano))?;
        out.serialize_entry("time_unix_nano", &self.time_unix_nano.to_string())?;
        let observed = self.observed_time_micros.map(|micros| format_time(micros.saturating_mul(1_000)));
        out.serialize_entry("observed_time", &observed)?;
        out.serialize_entry("trace_id", &self.trace_id)?;
        out.serialize_entry("xray_trace_id", &xray(self.trace_id.as_deref()))?;
        out.serialize_entry("trace_id_source", &self.trace_id_source)?;
        out.serialize_entry("span_id", &self.span_id)?;
        out.serialize_entry("severity_number", &self.severity_number)?;
        out.serialize_entry("severity", severity::class(self.severity_number))?;
        out.serialize_entry("severity_text", &self.severity_text)?;
        out.serialize_entry("service_name", &resource("service.name"))?;
        out.serialize_entry("event_name", &self.event_name)?;
        out.serialize_entry("body", cut.unwrap_or_default())?;
        out.serialize_entry("body_truncated", &(cut.map(str::len) != body.map(str::len)))?;
        out.serialize_entry("body_type", &self.body_type)?;
        out.serialize_entry("pattern_id", &self.pattern_id)?;
        out.serialize_entry("scope_name", &self.scope_name)?;
        out.serialize_entry("log_group", &resource("aws.log.group.names"))?;
        out.serialize_entry("log_stream", &resource("aws.log.stream.names"))?;
        out.serialize_entry("attributes", &AsObject(&self.attributes))?;
        out.serialize_entry("resource_attributes", &AsObject(&self.resource_attributes))?;
        out.serialize_entry("fields", &body_fields(body))
    }
}

impl SpanHit {
    /// Writes the API's members into an object that may hold others.
    pub(super) fn entries<M: SerializeMap>(&self, out: &mut M) -> Result<(), M::Error> {
        out.serialize_entry("id", &self.ingest_id.to_string())?;
        out.serialize_entry("time", &format_time(self.start_time_unix_nano))?;
        out.serialize_entry("start_time_unix_nano", &self.start_time_unix_nano.to_string())?;
        out.serialize_entry("duration_nano", &self.duration_nano)?;
        out.serialize_entry("trace_id", &self.trace_id)?;
        out.serialize_entry("xray_trace_id", &xray(Some(&self.trace_id)))?;
        out.serialize_entry("span_id", &self.span_id)?;
        out.serialize_entry("parent_span_id", &self.parent_span_id)?;
        out.serialize_entry("name", &self.name)?;
        out.serialize_entry("kind", &self.kind)?;
        out.serialize_entry("status_code", &self.status_code)?;
        out.serialize_entry("status_message", &self.status_message)?;
        out.serialize_entry("is_root", &self.is_root)?;
        out.serialize_entry("in_progress", &self.in_progress)?;
        out.serialize_entry("service_name", &find(&self.resource_attributes, "service.name"))?;
        out.serialize_entry("scope_name", &self.scope_name)?;
        out.serialize_entry("attributes", &AsObject(&self.attributes))?;
        out.serialize_entry("resource_attributes", &AsObject(&self.resource_attributes))?;
        let events: Vec<serde_json::Value> = self
            .events
            .iter()
            .map(|event| {
                let attributes = serde_json::Map::from_iter(event.attributes.iter().map(|(k, v)| (k.clone(), v.clone().into())));
                serde_json::json!({"time_unix_nano": event.time_unix_nano.to_string(), "name": event.name, "attributes": attributes})
            })
            .collect();
        out.serialize_entry("events", &events)?;
        let links: Vec<serde_json::Value> = self
            .links
            .iter()
            .map(|link| {
                let attributes = serde_json::Map::from_iter(link.attributes.iter().map(|(k, v)| (k.clone(), v.clone().into())));
                serde_json::json!({"trace_id": link.trace_id, "span_id": link.span_id, "attributes": attributes})
            })
            .collect();
        out.serialize_entry("links", &links)
    }
}
