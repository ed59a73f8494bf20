//! What the messages of OTLP look like: their known fields, and what one takes in memory.

use opentelemetry_proto::tonic::{common::v1 as common, logs::v1 as logs, metrics::v1 as metrics, resource::v1 as resource, trace::v1 as trace};

/// Bytes of a row in columns beside its text.
pub(super) const ROW_BYTES: usize = 256;
/// Bytes of the context that each scope with records makes, beside its text.
const CONTEXT_BYTES: usize = 1_024;
/// Bytes of an attribute in columns beside its text.
const ATTRIBUTE_BYTES: usize = 48;

/// A message: its name and its known fields.
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) role: Role,
    /// Bytes of one in a list, and of what it becomes in columns.
    pub(super) bytes: usize,
    pub(super) fields: &'static [(u32, Part)],
}

/// What a message counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A row.
    Record,
    /// Anything else.
    Other,
    /// Its field 1 is copied for each message of its field 2.
    Resource,
}

/// What a known field is.
pub(super) enum Part {
    Text,
    /// Text that may stand more than once.
    Texts,
    Bytes,
    Varint,
    Fixed64,
    Fixed32,
    /// Numbers, packed or not.
    Numbers,
    /// A message that stands once.
    One(&'static Shape),
    /// A message that may stand more than once.
    Many(&'static Shape),
}

use Part::{Bytes, Fixed32, Fixed64, Numbers, Text, Texts, Varint};
use Role::{Other, Record};

macro_rules! shapes {
    ($($(#[$doc:meta])* $shape:ident = $name:literal $role:path, $bytes:expr, { $($number:literal: $part:expr),* $(,)? })*) => {
        $(
            $(#[$doc])*
            pub(super) static $shape: Shape = Shape { name: $name, role: $role, bytes: $bytes, fields: &[$(($number, $part)),*] };
        )*
    };
}

const fn one(shape: &'static Shape) -> Part {
    Part::One(shape)
}
const fn many(shape: &'static Shape) -> Part {
    Part::Many(shape)
}

shapes! {
    /// Requests of the logs service, as far as the walk of [`super::logs`] makes something of it.
    LOGS = "ExportLogsServiceRequest" Other, 0, { 1: many(&RESOURCE_LOGS) }
    RESOURCE_LOGS = "ResourceLogs" Role::Resource, size_of::<logs::ResourceLogs>(), { 1: one(&RESOURCE), 2: many(&SCOPE_LOGS) }
    SCOPE_LOGS = "ScopeLogs" Other, CONTEXT_BYTES, { 1: one(&SCOPE), 2: many(&LOG_RECORD) }
    LOG_RECORD = "LogRecord" Record, ROW_BYTES, { 6: many(&LOG_ATTRIBUTE) }
    LOG_ATTRIBUTE = "KeyValue" Other, ATTRIBUTE_BYTES, {}

    /// Requests of the trace service.
    TRACES = "ExportTraceServiceRequest" Other, 0, { 1: many(&RESOURCE_SPANS) }
    RESOURCE_SPANS = "ResourceSpans" Role::Resource, size_of::<trace::ResourceSpans>(), { 1: one(&RESOURCE), 2: many(&SCOPE_SPANS), 3: Text }
    SCOPE_SPANS = "ScopeSpans" Other, size_of::<trace::ScopeSpans>() + CONTEXT_BYTES, { 1: one(&SCOPE), 2: many(&SPAN), 3: Text }
    SPAN = "Span" Record, size_of::<trace::Span>() + ROW_BYTES, {
        1: Bytes, 2: Bytes, 3: Text, 4: Bytes, 5: Text, 6: Varint, 7: Fixed64, 8: Fixed64, 9: many(&KEY_VALUE), 10: Varint,
        11: many(&EVENT), 12: Varint, 13: many(&LINK), 14: Varint, 15: one(&STATUS), 16: Fixed32,
    }
    EVENT = "Event" Other, size_of::<trace::span::Event>() + ATTRIBUTE_BYTES, { 1: Fixed64, 2: Text, 3: many(&KEY_VALUE), 4: Varint }
    LINK = "Link" Other, size_of::<trace::span::Link>() + 2 * ATTRIBUTE_BYTES, {
        1: Bytes, 2: Bytes, 3: Text, 4: many(&KEY_VALUE), 5: Varint, 6: Fixed32,
    }
    STATUS = "Status" Other, 0, { 2: Text, 3: Varint }

    /// Requests of the metrics service.
    METRICS = "ExportMetricsServiceRequest" Other, 0, { 1: many(&RESOURCE_METRICS) }
    RESOURCE_METRICS = "ResourceMetrics" Role::Resource, size_of::<metrics::ResourceMetrics>(), { 1: one(&RESOURCE), 2: many(&SCOPE_METRICS), 3: Text }
    SCOPE_METRICS = "ScopeMetrics" Other, size_of::<metrics::ScopeMetrics>(), { 1: one(&SCOPE), 2: many(&METRIC), 3: Text }
    METRIC = "Metric" Other, size_of::<metrics::Metric>(), {
        1: Text, 2: Text, 3: Text, 5: one(&GAUGE), 7: one(&SUM), 9: one(&HISTOGRAM), 10: one(&EXP_HISTOGRAM), 11: one(&SUMMARY),
        12: many(&KEY_VALUE),
    }
    GAUGE = "Gauge" Other, 0, { 1: many(&NUMBER_POINT) }
    SUM = "Sum" Other, 0, { 1: many(&NUMBER_POINT), 2: Varint, 3: Varint }
    HISTOGRAM = "Histogram" Other, 0, { 1: many(&HISTOGRAM_POINT), 2: Varint }
    EXP_HISTOGRAM = "ExponentialHistogram" Other, 0, { 1: many(&EXP_HISTOGRAM_POINT), 2: Varint }
    SUMMARY = "Summary" Other, 0, { 1: many(&SUMMARY_POINT) }
    NUMBER_POINT = "NumberDataPoint" Record, size_of::<metrics::NumberDataPoint>() + ROW_BYTES, {
        2: Fixed64, 3: Fixed64, 4: Fixed64, 5: many(&EXEMPLAR), 6: Fixed64, 7: many(&KEY_VALUE), 8: Varint,
    }
    HISTOGRAM_POINT = "HistogramDataPoint" Record, size_of::<metrics::HistogramDataPoint>() + ROW_BYTES, {
        2: Fixed64, 3: Fixed64, 4: Fixed64, 5: Fixed64, 6: Numbers, 7: Numbers, 8: many(&EXEMPLAR), 9: many(&KEY_VALUE), 10: Varint, 11: Fixed64,
        12: Fixed64,
    }
    EXP_HISTOGRAM_POINT = "ExponentialHistogramDataPoint" Record, size_of::<metrics::ExponentialHistogramDataPoint>() + ROW_BYTES, {
        1: many(&KEY_VALUE), 2: Fixed64, 3: Fixed64, 4: Fixed64, 5: Fixed64, 6: Varint, 7: Fixed64, 8: one(&BUCKETS), 9: one(&BUCKETS),
        10: Varint, 11: many(&EXEMPLAR), 12: Fixed64, 13: Fixed64, 14: Fixed64,
    }
    BUCKETS = "Buckets" Other, 0, { 1: Varint, 2: Numbers }
    SUMMARY_POINT = "SummaryDataPoint" Record, size_of::<metrics::SummaryDataPoint>() + ROW_BYTES, {
        2: Fixed64, 3: Fixed64, 4: Fixed64, 5: Fixed64, 6: many(&QUANTILE), 7: many(&KEY_VALUE), 8: Varint,
    }
    QUANTILE = "ValueAtQuantile" Other, 2 * size_of::<metrics::summary_data_point::ValueAtQuantile>(), { 1: Fixed64, 2: Fixed64 }
    EXEMPLAR = "Exemplar" Other, size_of::<metrics::Exemplar>() + ROW_BYTES, {
        2: Fixed64, 3: Fixed64, 4: Bytes, 5: Bytes, 6: Fixed64, 7: many(&KEY_VALUE),
    }

    RESOURCE = "Resource" Other, 0, { 1: many(&KEY_VALUE), 2: Varint, 3: many(&ENTITY) }
    ENTITY = "EntityRef" Other, size_of::<common::EntityRef>(), { 1: Text, 2: Text, 3: Texts, 4: Texts }
    SCOPE = "InstrumentationScope" Other, 0, { 1: Text, 2: Text, 3: many(&KEY_VALUE), 4: Varint }
    KEY_VALUE = "KeyValue" Other, size_of::<common::KeyValue>() + ATTRIBUTE_BYTES, { 1: Text, 2: one(&ANY_VALUE), 3: Varint }
    ANY_VALUE = "AnyValue" Other, size_of::<common::AnyValue>(), { 1: Text, 2: Varint, 3: Varint, 4: Fixed64, 5: one(&ARRAY), 6: one(&LIST), 7: Bytes, 8: Varint }
    ARRAY = "ArrayValue" Other, 0, { 1: many(&ANY_VALUE) }
    LIST = "KeyValueList" Other, 0, { 1: many(&KEY_VALUE) }
}

const _: () = assert!(size_of::<resource::Resource>() < CONTEXT_BYTES, "a context is charged for with its scope");
