//! Builds rows of `spans`.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, Int32Builder, Int64Array, Int64Builder, ListArray, RecordBatch, StringBuilder, StructArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;

use super::logs::{AttributesBuilder, append_span_id, append_trace_id, micros};
use super::schema::{LEGACY_SPAN_COLUMNS, SPAN_COLUMNS, memory_schema};
use super::{Context, Rows, SpanId, Table, TraceId, Value};

/// The fixed fields of one span; attributes, events and links are added to the builder before it.
#[derive(Clone, Copy, Debug)]
pub struct SpanRecord<'a> {
    /// Start, nanoseconds since the epoch.
    pub start_time_unix_nano: i64,
    /// End; `None` while in progress.
    pub end_time_unix_nano: Option<i64>,
    /// The trace.
    pub trace_id: TraceId,
    /// The span's own ID.
    pub span_id: SpanId,
    /// Its parent; `None` makes it a root.
    pub parent_span_id: Option<SpanId>,
    /// W3C `tracestate`, as sent.
    pub trace_state: Option<&'a str>,
    /// W3C flags.
    pub trace_flags: Option<i32>,
    /// Operation name.
    pub name: &'a str,
    /// `UNSPECIFIED`, `INTERNAL`, `SERVER`, `CLIENT`, `PRODUCER` or `CONSUMER`.
    pub kind: &'static str,
    /// `UNSET`, `OK` or `ERROR`.
    pub status_code: &'static str,
    /// The status' description.
    pub status_message: Option<&'a str>,
    /// An X-Ray document that a later one with the same ID completes.
    pub in_progress: bool,
    /// Attributes the sender left out.
    pub dropped_attributes_count: i32,
}

/// Names of OTLP's `SpanKind` by number.
pub const SPAN_KINDS: [&str; 6] = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];
/// Names of OTLP's `StatusCode` by number.
pub const STATUS_CODES: [&str; 3] = ["UNSET", "OK", "ERROR"];

/// An event of the span being built; its attributes are added with [`SpansBuilder::event_attribute`] before it.
#[derive(Clone, Copy, Debug)]
pub struct SpanEvent<'a> {
    /// When, nanoseconds since the epoch.
    pub time_unix_nano: i64,
    /// `exception` and the like.
    pub name: &'a str,
}

/// A link of the span being built; its attributes are added with [`SpansBuilder::link_attribute`] before it.
#[derive(Clone, Copy, Debug)]
pub struct SpanLink<'a> {
    /// The other trace.
    pub trace_id: Option<TraceId>,
    /// The other span.
    pub span_id: Option<SpanId>,
    /// W3C `tracestate`.
    pub trace_state: Option<&'a str>,
}

/// Columns of `spans` being filled. For each span: attributes, events and links in any order, then
/// [`SpansBuilder::push`].
#[derive(Debug, Default)]
pub struct SpansBuilder {
    start: Int64Builder,
    end: Int64Builder,
    duration: Int64Builder,
    trace_id: StringBuilder,
    span_id: StringBuilder,
    parent: StringBuilder,
    trace_state: StringBuilder,
    trace_flags: Int32Builder,
    name: StringBuilder,
    kind: StringBuilder,
    status_code: StringBuilder,
    status_message: StringBuilder,
    is_root: BooleanBuilder,
    in_progress: BooleanBuilder,
    promoted: [StringBuilder; SPAN_COLUMNS.len()],
    http_status: Int32Builder,
    exception_type: StringBuilder,
    attributes: AttributesBuilder,
    events: Nested,
    event_name: StringBuilder,
    event_time: Int64Builder,
    links: Nested,
    link_trace_id: StringBuilder,
    link_span_id: StringBuilder,
    link_trace_state: StringBuilder,
    dropped: Int32Builder,
    xray_document: StringBuilder,
    context: Int32Builder,
    contexts: Vec<Arc<Context>>,
    /// Promoted values of the span being built.
    current: [Option<String>; SPAN_COLUMNS.len()],
    /// Whether `current` came from the attribute's present name, which beats a legacy one.
    current_is_exact: [bool; SPAN_COLUMNS.len()],
    current_exception: Option<String>,
    current_document: Option<String>,
}

/// A list column of structs that hold a map: item counts a row, and the map.
#[derive(Debug, Default)]
struct Nested {
    attributes: AttributesBuilder,
    items: i32,
    offsets: Vec<i32>,
}

impl Nested {
    fn end_item(&mut self) {
        self.attributes.finish_row();
        self.items += 1;
    }
    fn end_row(&mut self) {
        self.offsets.push(self.items);
    }
    fn finish(&mut self, list: &DataType, columns: Vec<(&str, ArrayRef)>) -> Result<ArrayRef, ArrowError> {
        let DataType::List(element) = list else {
            return Err(ArrowError::SchemaError("events and links are lists".into()));
        };
        let DataType::Struct(fields) = element.data_type() else {
            return Err(ArrowError::SchemaError("events and links are lists of structs".into()));
        };
        let attributes_type = fields.iter().find(|field| field.name() == "attributes").map(|field| field.data_type().clone());
        let attributes = self
            .attributes
            .finish(&attributes_type.ok_or_else(|| ArrowError::SchemaError("no attributes".into()))?)?;
        let children: Vec<ArrayRef> = columns.into_iter().map(|(_, column)| column).chain([attributes]).collect();
        let items = StructArray::try_new(fields.clone(), children, None)?;
        let mut offsets = vec![0];
        offsets.append(&mut self.offsets);
        self.items = 0;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let field: &Arc<Field> = element;
        Ok(Arc::new(ListArray::try_new(field.clone(), offsets, Arc::new(items), None)?))
    }
}

const HTTP_STATUS: &str = "http_response_status_code";

impl SpansBuilder {
    /// Rows pushed so far.
    pub fn len(&self) -> usize {
        self.start.values_slice().len()
    }
    /// Whether no row has been pushed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a context and gives its number for [`SpansBuilder::push`].
    pub fn context(&mut self, context: Arc<Context>) -> i32 {
        self.contexts.push(context);
        self.contexts.len() as i32 - 1
    }

    /// Adds an attribute to the span being built; the last value of a key wins. Promoted names go to their column.
    pub fn attribute(&mut self, key: &str, value: Value<'_>) {
        let exact = SPAN_COLUMNS.iter().position(|(attribute, _)| *attribute == key);
        let legacy = || {
            let (_, column) = LEGACY_SPAN_COLUMNS.iter().find(|(attribute, _)| *attribute == key)?;
            SPAN_COLUMNS.iter().position(|(_, c)| c == column)
        };
        if let Some(index) = exact.or_else(legacy) {
            let text = match (SPAN_COLUMNS[index].1 == HTTP_STATUS, value) {
                (false, Value::Str(text)) => Some(text.to_string()),
                (true, Value::Int(number)) => i32::try_from(number).ok().map(|number| number.to_string()),
                _ => None,
            };
            if text.is_some() && (exact.is_some() || !self.current_is_exact[index]) {
                self.current[index] = text.clone();
                self.current_is_exact[index] = exact.is_some();
            }
            if text.is_some() && exact.is_some() {
                return;
            }
        }
        self.attributes.add(key, value);
    }

    /// Adds an attribute to the event that the next [`SpansBuilder::event`] completes.
    pub fn event_attribute(&mut self, key: &str, value: Value<'_>) {
        if key == "exception.type"
            && let Value::Str(text) = value
        {
            self.current_exception.get_or_insert_with(|| text.to_string());
        }
        self.events.attributes.add(key, value);
    }

    /// Completes an event of the span being built.
    pub fn event(&mut self, event: &SpanEvent<'_>) {
        self.event_time.append_value(event.time_unix_nano);
        self.event_name.append_value(event.name);
        self.events.end_item();
    }

    /// Adds an attribute to the link that the next [`SpansBuilder::link`] completes.
    pub fn link_attribute(&mut self, key: &str, value: Value<'_>) {
        self.links.attributes.add(key, value);
    }

    /// Completes a link of the span being built.
    pub fn link(&mut self, link: &SpanLink<'_>) {
        append_trace_id(&mut self.link_trace_id, link.trace_id);
        append_span_id(&mut self.link_span_id, link.span_id);
        self.link_trace_state.append_option(link.trace_state.filter(|text| !text.is_empty()));
        self.links.end_item();
    }

    /// Sets the span's own text in the X-Ray document that it was sent in ([`crate::decode::xray::kept`]).
    pub fn xray_document(&mut self, text: &str) {
        self.current_document = Some(text.to_string());
    }

    /// Completes a span under a context number from [`SpansBuilder::context`]. Validate before adding attributes,
    /// events or links: a span once begun is pushed.
    pub fn push(&mut self, context: i32, span: &SpanRecord<'_>) {
        self.start.append_value(span.start_time_unix_nano);
        self.end.append_option(span.end_time_unix_nano);
        self.duration
            .append_value(span.end_time_unix_nano.map_or(0, |end| end.saturating_sub(span.start_time_unix_nano)));
        append_trace_id(&mut self.trace_id, Some(span.trace_id));
        append_span_id(&mut self.span_id, Some(span.span_id));
        append_span_id(&mut self.parent, span.parent_span_id);
        self.trace_state.append_option(span.trace_state.filter(|text| !text.is_empty()));
        self.trace_flags.append_option(span.trace_flags);
        self.name.append_value(span.name);
        self.kind.append_value(span.kind);
        self.status_code.append_value(span.status_code);
        self.status_message.append_option(span.status_message.filter(|text| !text.is_empty()));
        self.is_root.append_value(span.parent_span_id.is_none());
        self.in_progress.append_value(span.in_progress);
        for (index, (_, column)) in SPAN_COLUMNS.iter().enumerate() {
            let value = self.current[index].take();
            if *column == HTTP_STATUS {
                self.http_status.append_option(value.and_then(|text| text.parse().ok()));
            } else {
                self.promoted[index].append_option(value);
            }
        }
        self.current_is_exact = Default::default();
        self.exception_type.append_option(self.current_exception.take());
        self.attributes.finish_row();
        self.events.end_row();
        self.links.end_row();
        self.dropped.append_value(span.dropped_attributes_count);
        self.xray_document.append_option(self.current_document.take());
        self.context.append_value(context);
    }

    /// The rows pushed so far; `ingest_id` is 0 everywhere.
    pub fn finish(&mut self) -> Result<Rows, ArrowError> {
        let schema = memory_schema(Table::Spans);
        let n_rows = self.len();
        let type_of = |name: &str| schema.field_with_name(name).map(|field| field.data_type().clone());
        let start = self.start.finish();
        let mut columns: Vec<ArrayRef> = vec![
            micros(&start),
            Arc::new(start),
            micros(&self.end.finish()),
            Arc::new(self.duration.finish()),
            Arc::new(self.trace_id.finish()),
            Arc::new(self.span_id.finish()),
            Arc::new(self.parent.finish()),
            Arc::new(self.trace_state.finish()),
            Arc::new(self.trace_flags.finish()),
            Arc::new(self.name.finish()),
            Arc::new(self.kind.finish()),
            Arc::new(self.status_code.finish()),
            Arc::new(self.status_message.finish()),
            Arc::new(self.is_root.finish()),
            Arc::new(self.in_progress.finish()),
        ];
        for (index, (_, column)) in SPAN_COLUMNS.iter().enumerate() {
            columns.push(if *column == HTTP_STATUS {
                Arc::new(self.http_status.finish())
            } else {
                Arc::new(self.promoted[index].finish())
            });
        }
        let event_time = self.event_time.finish();
        let events = vec![
            ("time", micros(&event_time)),
            ("time_unix_nano", Arc::new(event_time) as ArrayRef),
            ("name", Arc::new(self.event_name.finish())),
        ];
        let links: Vec<(&str, ArrayRef)> = vec![
            ("trace_id", Arc::new(self.link_trace_id.finish())),
            ("span_id", Arc::new(self.link_span_id.finish())),
            ("trace_state", Arc::new(self.link_trace_state.finish())),
        ];
        columns.extend([
            Arc::new(self.exception_type.finish()) as ArrayRef,
            self.attributes.finish(&type_of("attributes")?)?,
            self.events.finish(&type_of("events")?, events)?,
            self.links.finish(&type_of("links")?, links)?,
            Arc::new(self.dropped.finish()),
            Arc::new(Int64Array::from(vec![0i64; n_rows])),
            Arc::new(self.xray_document.finish()),
            Arc::new(self.context.finish()),
        ]);
        Rows::try_new(Table::Spans, RecordBatch::try_new(schema, columns)?, std::mem::take(&mut self.contexts).into())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Int32Type;

    use super::super::ContextBuilder;
    use super::*;

    #[test]
    fn a_span_keeps_its_events_links_and_promoted_attributes() {
        let mut builder = SpansBuilder::default();
        let context = builder.context(ContextBuilder::new().attribute("service.name", Value::Str("api")).build());
        let (trace_id, span_id) = (TraceId::from_bytes(&[1; 16]).expect("id"), SpanId::from_bytes(&[2; 8]).expect("id"));
        let mut span = SpanRecord {
            start_time_unix_nano: 1_000_000,
            end_time_unix_nano: Some(3_000_000),
            trace_id,
            span_id,
            parent_span_id: None,
            trace_state: None,
            trace_flags: Some(1),
            name: "GET /",
            kind: "SERVER",
            status_code: "ERROR",
            status_message: Some(""),
            in_progress: false,
            dropped_attributes_count: 0,
        };
        builder.attribute("http.response.status_code", Value::Int(502));
        builder.attribute("http.status_code", Value::Int(1));
        builder.attribute("http.route", Value::Int(7));
        builder.event_attribute("exception.type", Value::Str("Boom"));
        builder.event(&SpanEvent {
            time_unix_nano: 2_000_000,
            name: "exception",
        });
        builder.link(&SpanLink {
            trace_id: Some(trace_id),
            span_id: None,
            trace_state: None,
        });
        builder.push(context, &span);
        span.parent_span_id = Some(span_id);
        span.end_time_unix_nano = None;
        builder.push(context, &span);
        let rows = builder.finish().expect("rows");
        let stored = rows.to_batch(None).expect("stored");
        assert_eq!(stored.schema(), Table::Spans.schema());
        let column = |name: &str| stored.column_by_name(name).expect("column").clone();
        assert_eq!(column("http_response_status_code").as_primitive::<Int32Type>().value(0), 502);
        assert!(column("http_route").is_null(0), "a number is not a route: it stays in the map");
        assert_eq!(column("attributes").as_map().value(0).len(), 2);
        assert_eq!(column("attributes").as_map().value(1).len(), 0);
        assert_eq!(column("exception_type").as_string::<i32>().value(0), "Boom");
        assert!(column("exception_type").is_null(1) && column("end_time").is_null(1));
        assert_eq!(
            (
                column("events").as_list::<i32>().value(0).len(),
                column("links").as_list::<i32>().value(1).len()
            ),
            (1, 0)
        );
        let back = super::super::from_stored(Table::Spans, &stored).expect("rows again");
        assert_eq!(back.to_batch(None).expect("stored"), stored);
    }
}
