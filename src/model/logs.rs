//! Builds rows of `logs`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Builder, Int64Builder, MapBuilder, RecordBatch, StringBuilder, TimestampMicrosecondArray, new_null_array};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::rows::{conform, string_map_builder};
use super::schema::memory_schema;
use super::{Context, Rows, SpanId, Table, TraceId, Value};

/// The fixed fields of one log record; its attributes are added to the builder before it.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogRecord<'a> {
    /// Event time, nanoseconds since the epoch; the decoder has filled it from observed or received time if unset.
    pub time_unix_nano: i64,
    /// When the sender saw it, if it says so.
    pub observed_time_unix_nano: Option<i64>,
    /// Trace, if the record names one.
    pub trace_id: Option<TraceId>,
    /// Span, if the record names one.
    pub span_id: Option<SpanId>,
    /// W3C flags, if there is a trace.
    pub trace_flags: Option<i32>,
    /// OpenTelemetry number, 0 = unknown (correlation may find it in the body).
    pub severity_number: i32,
    /// As sent.
    pub severity_text: Option<&'a str>,
    /// OpenTelemetry event name.
    pub event_name: Option<&'a str>,
    /// Text, or JSON text of a structured body.
    pub body: Option<&'a str>,
    /// The `AnyValue` field number of the body on the OTLP wire: 1 string (default), 2 bool, 3 int, 4 double, 5 array,
    /// 6 kvlist, 7 bytes.
    pub body_type: i32,
    /// Attributes the sender left out.
    pub dropped_attributes_count: i32,
}

/// Columns of `logs` being filled. For each record: [`LogsBuilder::attribute`] for each attribute, then
/// [`LogsBuilder::push`].
#[derive(Debug)]
pub struct LogsBuilder {
    time: Int64Builder,
    observed: Int64Builder,
    trace_id: StringBuilder,
    span_id: StringBuilder,
    trace_flags: Int32Builder,
    severity_number: Int32Builder,
    severity_text: StringBuilder,
    event_name: StringBuilder,
    body: StringBuilder,
    body_type: Int32Builder,
    attributes: AttributesBuilder,
    dropped: Int32Builder,
    context: Int32Builder,
    contexts: Vec<Arc<Context>>,
}

impl Default for LogsBuilder {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl LogsBuilder {
    /// An empty builder with room for `rows`.
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            time: Int64Builder::with_capacity(rows),
            observed: Int64Builder::with_capacity(rows),
            trace_id: StringBuilder::with_capacity(rows, rows * 32),
            span_id: StringBuilder::with_capacity(rows, rows * 16),
            trace_flags: Int32Builder::with_capacity(rows),
            severity_number: Int32Builder::with_capacity(rows),
            severity_text: StringBuilder::with_capacity(rows, rows * 4),
            event_name: StringBuilder::with_capacity(rows, 0),
            body: StringBuilder::with_capacity(rows, rows * 100),
            body_type: Int32Builder::with_capacity(rows),
            attributes: AttributesBuilder::default(),
            dropped: Int32Builder::with_capacity(rows),
            context: Int32Builder::with_capacity(rows),
            contexts: Vec::new(),
        }
    }

    /// Rows pushed so far.
    pub fn len(&self) -> usize {
        self.time.values_slice().len()
    }
    /// Whether no row has been pushed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a context and gives its number for [`LogsBuilder::push`].
    pub fn context(&mut self, context: Arc<Context>) -> i32 {
        self.contexts.push(context);
        self.contexts.len() as i32 - 1
    }

    /// Adds an attribute to the record that the next [`LogsBuilder::push`] completes; the last value of a key wins.
    pub fn attribute(&mut self, key: &str, value: Value<'_>) {
        self.attributes.add(key, value);
    }

    /// Forgets the attributes added since the last push: the record turned out to be bad.
    pub fn abandon(&mut self) {
        self.attributes.abandon();
    }

    /// Completes a record under a context number from [`LogsBuilder::context`].
    pub fn push(&mut self, context: i32, record: &LogRecord<'_>) {
        self.time.append_value(record.time_unix_nano);
        self.observed.append_option(record.observed_time_unix_nano);
        append_trace_id(&mut self.trace_id, record.trace_id);
        append_span_id(&mut self.span_id, record.span_id);
        self.trace_flags.append_option(record.trace_flags);
        self.severity_number.append_value(record.severity_number);
        self.severity_text.append_option(record.severity_text.filter(|text| !text.is_empty()));
        self.event_name.append_option(record.event_name.filter(|text| !text.is_empty()));
        self.body.append_option(record.body);
        self.body_type.append_value(if record.body_type == 0 { 1 } else { record.body_type });
        self.attributes.finish_row();
        self.dropped.append_value(record.dropped_attributes_count);
        self.context.append_value(context);
    }

    /// The rows pushed so far; `ingest_id` is 0 everywhere.
    pub fn finish(&mut self) -> Result<Rows, ArrowError> {
        let schema = memory_schema(Table::Logs);
        let n_rows = self.len();
        let time = self.time.finish();
        let columns: Vec<ArrayRef> = vec![
            micros(&time),
            Arc::new(time),
            micros(&self.observed.finish()),
            Arc::new(self.trace_id.finish()),
            Arc::new(self.span_id.finish()),
            Arc::new(self.trace_flags.finish()),
            Arc::new(self.severity_number.finish()),
            Arc::new(self.severity_text.finish()),
            Arc::new(self.event_name.finish()),
            Arc::new(self.body.finish()),
            Arc::new(self.body_type.finish()),
            self.attributes.finish(schema.field_with_name("attributes")?.data_type())?,
            Arc::new(self.dropped.finish()),
            Arc::new(arrow::array::Int64Array::from(vec![0i64; n_rows])),
            // correlation fills these
            new_null_array(&DataType::Utf8, n_rows),
            new_null_array(&DataType::Int64, n_rows),
            Arc::new(self.context.finish()),
        ];
        Rows::try_new(Table::Logs, RecordBatch::try_new(schema, columns)?, std::mem::take(&mut self.contexts).into())
    }
}

/// Microseconds UTC from exact nanoseconds, rounded down; nulls stay null.
pub(super) fn micros(nanos: &arrow::array::Int64Array) -> ArrayRef {
    let micros: TimestampMicrosecondArray = nanos.unary(|t| t.div_euclid(1_000));
    Arc::new(micros.with_timezone("UTC"))
}

pub(super) fn append_trace_id(column: &mut StringBuilder, id: Option<TraceId>) {
    match id {
        Some(id) => column.append_value(id.hex(&mut [0; 32])),
        None => column.append_null(),
    }
}

pub(super) fn append_span_id(column: &mut StringBuilder, id: Option<SpanId>) {
    match id {
        Some(id) => column.append_value(id.hex(&mut [0; 16])),
        None => column.append_null(),
    }
}

/// Rows with more attributes than this find a key's last value by hashing.
const MAX_PAIRWISE_KEYS: usize = 24;

/// A `MAP<string, string>` column in which each key of a row stands once, with its last value.
#[derive(Debug)]
pub(super) struct AttributesBuilder {
    map: MapBuilder<StringBuilder, StringBuilder>,
    /// Byte ranges of the current row's keys and values in `text`.
    row: Vec<(std::ops::Range<usize>, std::ops::Range<usize>)>,
    text: String,
    scratch: String,
}

impl Default for AttributesBuilder {
    fn default() -> Self {
        Self {
            map: string_map_builder(),
            row: Vec::new(),
            text: String::new(),
            scratch: String::new(),
        }
    }
}

impl AttributesBuilder {
    pub(super) fn add(&mut self, key: &str, value: Value<'_>) {
        let start = self.text.len();
        self.text.push_str(key);
        let middle = self.text.len();
        self.text.push_str(value.text(&mut self.scratch));
        let entry = (start..middle, middle..self.text.len());
        self.row.push(entry);
    }

    pub(super) fn abandon(&mut self) {
        self.row.clear();
        self.text.clear();
    }

    pub(super) fn finish_row(&mut self) {
        let key_at = |i: usize| &self.text[self.row[i].0.clone()];
        let n = self.row.len();
        // comparing all pairs of a few keys is cheaper than hashing them, and allocates nothing
        let last: Option<std::collections::HashMap<&str, usize>> = (n > MAX_PAIRWISE_KEYS).then(|| (0..n).map(|i| (key_at(i), i)).collect());
        for (i, (key, value)) in self.row.iter().enumerate() {
            let is_last = match &last {
                Some(last) => last.get(key_at(i)) == Some(&i),
                None => (i + 1..n).all(|later| key_at(later) != key_at(i)),
            };
            if is_last {
                self.map.keys().append_value(&self.text[key.clone()]);
                self.map.values().append_value(&self.text[value.clone()]);
            }
        }
        // keys and values were appended in step, the one way this can fail
        self.map.append(true).expect("as many keys as values");
        self.abandon();
    }

    pub(super) fn finish(&mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        conform(&self.map.finish(), data_type)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Int32Type;

    use super::super::ContextBuilder;
    use super::*;

    #[test]
    fn a_record_becomes_a_row_in_the_stored_schema() {
        let mut builder = LogsBuilder::default();
        let context = builder.context(
            ContextBuilder::new()
                .attribute("service.name", Value::Str("api"))
                .attribute("k", Value::Int(1))
                .build(),
        );
        builder.attribute("a", Value::Int(1));
        builder.attribute("b", Value::Str(""));
        builder.attribute("a", Value::Int(2));
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: 1_999,
                body: Some("hi"),
                trace_id: TraceId::from_bytes(&[1; 16]),
                ..Default::default()
            },
        );
        builder.attribute("lost", Value::Int(0));
        builder.abandon();
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: -1,
                ..Default::default()
            },
        );
        let rows = builder.finish().expect("rows").with_ingest_ids(7);
        let stored = rows.to_batch(None).expect("stored");
        assert_eq!(stored.schema(), Table::Logs.schema());
        let column = |name: &str| stored.column_by_name(name).expect("column").clone();
        assert_eq!(column("service_name").as_string::<i32>().value(1), "api");
        assert_eq!(column("trace_id").as_string::<i32>().value(0), "01".repeat(16));
        assert!(column("trace_id").is_null(1));
        assert_eq!(column("body_type").as_primitive::<Int32Type>().value(0), 1);
        let attributes = column("attributes");
        let first = attributes.as_map().value(0);
        assert_eq!(
            (first.column(0).as_string::<i32>().value(0), first.column(0).as_string::<i32>().value(1)),
            ("b", "a")
        );
        assert_eq!(first.column(1).as_string::<i32>().value(1), "2");
        assert_eq!(attributes.as_map().value(1).len(), 0);
        assert_eq!(rows.time_bounds(), Some((-1, 1_999)));

        let back = super::super::rows::from_stored(Table::Logs, &stored).expect("rows again");
        assert_eq!(back.to_batch(None).expect("stored"), stored);
        let twice = Rows::concat(Table::Logs, &[rows.clone(), back]).expect("concat");
        assert_eq!((twice.len(), twice.contexts().len()), (4, 1));
    }
}
