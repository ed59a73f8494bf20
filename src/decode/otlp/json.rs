//! OTLP's JSON mapping, read as leniently as receivers read it.
//!
//! Integers are decimal strings or numbers, IDs are hex of any case, doubles may be `"NaN"` and the infinities, enums are
//! integers, `null` is the default, unknown keys are passed over. An ID that is not hex is an ID of a wrong length: the
//! record, not the request, bears it. Another wrong type makes the request malformed, and the message names the place.
//! Nesting is bounded by the parser (128 levels of JSON).

use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::{common::v1 as common, logs::v1 as logs, metrics::v1 as metrics, resource::v1 as resource, trace::v1 as trace};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::decode::Error;

/// Bytes of an item of a list that grows by doubling, and of what it is turned into.
const fn both<J, M>() -> usize {
    size_of::<Object<J>>() + size_of::<M>()
}
const fn most(sizes: &[usize]) -> usize {
    let (mut most, mut i) = (0, 0);
    while i < sizes.len() {
        if sizes[i] > most {
            most = sizes[i];
        }
        i += 1;
    }
    most
}
/// Bytes of a log record in structs of both forms.
pub(super) const LOG_RECORD_BYTES: usize = both::<LogRecord, logs::LogRecord>();
/// Bytes of a span.
pub(super) const SPAN_BYTES: usize = both::<Span, trace::Span>();
/// Bytes of a metric or of a point of the largest kind.
pub(super) const POINT_BYTES: usize = most(&[
    both::<Metric, metrics::Metric>(),
    both::<NumberPoint, metrics::NumberDataPoint>(),
    both::<HistogramPoint, metrics::HistogramDataPoint>(),
    both::<ExponentialHistogramPoint, metrics::ExponentialHistogramDataPoint>(),
    both::<SummaryPoint, metrics::SummaryDataPoint>(),
]);
/// Bytes of the largest item of any other list.
pub(super) const PART_BYTES: usize = most(&[
    both::<ResourceLogs, logs::ResourceLogs>(),
    both::<ScopeLogs, logs::ScopeLogs>(),
    both::<KeyValue, common::KeyValue>(),
    both::<AnyValue, common::AnyValue>(),
    both::<Event, trace::span::Event>(),
    both::<Link, trace::span::Link>(),
    both::<Exemplar, metrics::Exemplar>(),
    both::<Quantile, metrics::summary_data_point::ValueAtQuantile>(),
]);

/// Reads a body as `J` and turns it into prost's struct.
pub(super) fn parse<J: DeserializeOwned, M: From<J>>(body: &[u8]) -> Result<M, Error> {
    let text = String::from_utf8_lossy(body);
    match serde_json::from_str::<Object<J>>(&text) {
        Ok(object) => Ok(object.0.into()),
        // slower, and knows the path
        Err(error) => {
            let mut json = serde_json::Deserializer::from_str(&text);
            match serde_path_to_error::deserialize::<_, Object<J>>(&mut json) {
                Err(located) if located.path().iter().next().is_some() => {
                    let message = format!("{}: {}", located.path(), located.inner());
                    Err(Error::Json(serde_json::Error::custom(message)))
                }
                _ => Err(Error::Json(error)),
            }
        }
    }
}

/// A JSON object; serde's own structs would take an array in its place.
#[derive(Default)]
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Of<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Of<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Of(PhantomData))
    }
}

type List<T> = Option<Vec<Object<T>>>;

fn list<J, M: From<J>>(list: List<J>) -> Vec<M> {
    list.unwrap_or_default().into_iter().map(|object| object.0.into()).collect()
}

fn one<J, M: From<J>>(object: Option<Object<J>>) -> Option<M> {
    object.map(|object| object.0.into())
}

/// An integer, as a number or a decimal string; 0 by default.
#[derive(Clone, Copy, Default)]
struct Int<T>(T);

impl<'de, T: TryFrom<i128>> Deserialize<'de> for Int<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Of<T>(PhantomData<T>);
        impl<T: TryFrom<i128>> Of<T> {
            fn fit<E: serde::de::Error>(number: i128) -> Result<Int<T>, E> {
                T::try_from(number)
                    .map(Int)
                    .map_err(|_| E::custom(format_args!("{number} is out of the field's range")))
            }
        }
        impl<T: TryFrom<i128>> Visitor<'_> for Of<T> {
            type Value = Int<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer, as a number or a decimal string")
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
                Self::fit(number.into())
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Self::fit(number.into())
            }
            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Self::Value, E> {
                // a cast of what is too large saturates, and then does not fit
                match number.fract() == 0.0 {
                    true => Self::fit(number as i128),
                    false => Err(E::invalid_value(serde::de::Unexpected::Float(number), &self)),
                }
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                match (text.parse::<i128>(), text.parse::<f64>()) {
                    (Ok(number), _) => Self::fit(number),
                    (_, Ok(number)) => self.visit_f64(number),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Of(PhantomData))
    }
}

fn int<T: Default>(number: Option<Int<T>>) -> T {
    number.map_or_else(T::default, |number| number.0)
}

/// A double, as a number or a string.
#[derive(Clone, Copy)]
struct Double(f64);

impl<'de> Deserialize<'de> for Double {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde_json's own reading of a double may be off by its last bit, so its text is read here
        let json = <&RawValue>::deserialize(deserializer)?.get();
        let text = json.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(json);
        // Rust reads all the spellings that proto3 has
        text.parse().map(Double).map_err(|_| {
            let start: String = json.chars().take(40).collect();
            D::Error::custom(format_args!("{start} is not a number, \"NaN\", \"Infinity\" or \"-Infinity\""))
        })
    }
}

fn double(number: Option<Double>) -> f64 {
    number.map_or(0.0, |number| number.0)
}

fn doubles(numbers: Option<Vec<Double>>) -> Vec<f64> {
    numbers.unwrap_or_default().into_iter().map(|number| number.0).collect()
}

fn counts(numbers: Option<Vec<Int<u64>>>) -> Vec<u64> {
    numbers.unwrap_or_default().into_iter().map(|number| number.0).collect()
}

/// The bytes of an ID in hex. What is not hex becomes one byte: an ID of a wrong length.
fn id(text: Option<String>) -> Vec<u8> {
    let text = text.unwrap_or_default();
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    match digits {
        Some(digits) if digits.len().is_multiple_of(2) => digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect(),
        _ => vec![0],
    }
}

/// Bytes in base64 of either alphabet, padded or not.
struct Base64(Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let text = String::deserialize(deserializer)?;
        let alphabet = if text.contains(['-', '_']) { alphabet::URL_SAFE } else { alphabet::STANDARD };
        let bytes = GeneralPurpose::new(&alphabet, CONFIG).decode(&text);
        bytes.map(Base64).map_err(|error| D::Error::custom(format_args!("not base64: {error}")))
    }
}

/// Declares a JSON object with optional fields and how it becomes prost's struct.
macro_rules! objects {
    ($($(#[$doc:meta])* $visibility:vis $name:ident => $message:ty { $($field:ident: $kind:ty),* $(,)? } |$from:ident| $into:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Deserialize)]
            #[serde(rename_all = "camelCase")]
            $visibility struct $name { $($field: Option<$kind>),* }
            impl From<$name> for $message {
                fn from($from: $name) -> Self { $into }
            }
        )*
    };
}

objects! {
    /// `ExportLogsServiceRequest`.
    pub(super) Logs => ExportLogsServiceRequest { resource_logs: Vec<Object<ResourceLogs>> }
        |j| Self { resource_logs: list(j.resource_logs) };
    ResourceLogs => logs::ResourceLogs { resource: Object<Resource>, scope_logs: Vec<Object<ScopeLogs>>, schema_url: String }
        |j| Self { resource: one(j.resource), scope_logs: list(j.scope_logs), schema_url: j.schema_url.unwrap_or_default() };
    ScopeLogs => logs::ScopeLogs { scope: Object<Scope>, log_records: Vec<Object<LogRecord>>, schema_url: String }
        |j| Self { scope: one(j.scope), log_records: list(j.log_records), schema_url: j.schema_url.unwrap_or_default() };
    LogRecord => logs::LogRecord {
        time_unix_nano: Int<u64>, observed_time_unix_nano: Int<u64>, severity_number: Int<i32>, severity_text: String, body: Object<AnyValue>,
        attributes: Vec<Object<KeyValue>>, dropped_attributes_count: Int<u32>, flags: Int<u32>, trace_id: String, span_id: String, event_name: String,
    } |j| Self {
        time_unix_nano: int(j.time_unix_nano),
        observed_time_unix_nano: int(j.observed_time_unix_nano),
        severity_number: int(j.severity_number),
        severity_text: j.severity_text.unwrap_or_default(),
        body: one(j.body),
        attributes: list(j.attributes),
        dropped_attributes_count: int(j.dropped_attributes_count),
        flags: int(j.flags),
        trace_id: id(j.trace_id),
        span_id: id(j.span_id),
        event_name: j.event_name.unwrap_or_default(),
    };

    /// `ExportTraceServiceRequest`.
    pub(super) Traces => ExportTraceServiceRequest { resource_spans: Vec<Object<ResourceSpans>> }
        |j| Self { resource_spans: list(j.resource_spans) };
    ResourceSpans => trace::ResourceSpans { resource: Object<Resource>, scope_spans: Vec<Object<ScopeSpans>>, schema_url: String }
        |j| Self { resource: one(j.resource), scope_spans: list(j.scope_spans), schema_url: j.schema_url.unwrap_or_default() };
    ScopeSpans => trace::ScopeSpans { scope: Object<Scope>, spans: Vec<Object<Span>>, schema_url: String }
        |j| Self { scope: one(j.scope), spans: list(j.spans), schema_url: j.schema_url.unwrap_or_default() };
    Span => trace::Span {
        trace_id: String, span_id: String, trace_state: String, parent_span_id: String, flags: Int<u32>, name: String, kind: Int<i32>,
        start_time_unix_nano: Int<u64>, end_time_unix_nano: Int<u64>, attributes: Vec<Object<KeyValue>>, dropped_attributes_count: Int<u32>,
        events: Vec<Object<Event>>, dropped_events_count: Int<u32>, links: Vec<Object<Link>>, dropped_links_count: Int<u32>, status: Object<Status>,
    } |j| Self {
        trace_id: id(j.trace_id),
        span_id: id(j.span_id),
        trace_state: j.trace_state.unwrap_or_default(),
        parent_span_id: id(j.parent_span_id),
        flags: int(j.flags),
        name: j.name.unwrap_or_default(),
        kind: int(j.kind),
        start_time_unix_nano: int(j.start_time_unix_nano),
        end_time_unix_nano: int(j.end_time_unix_nano),
        attributes: list(j.attributes),
        dropped_attributes_count: int(j.dropped_attributes_count),
        events: list(j.events),
        dropped_events_count: int(j.dropped_events_count),
        links: list(j.links),
        dropped_links_count: int(j.dropped_links_count),
        status: one(j.status),
    };
    Event => trace::span::Event { time_unix_nano: Int<u64>, name: String, attributes: Vec<Object<KeyValue>>, dropped_attributes_count: Int<u32> }
        |j| Self {
            time_unix_nano: int(j.time_unix_nano),
            name: j.name.unwrap_or_default(),
            attributes: list(j.attributes),
            dropped_attributes_count: int(j.dropped_attributes_count),
        };
    Link => trace::span::Link {
        trace_id: String, span_id: String, trace_state: String, attributes: Vec<Object<KeyValue>>, dropped_attributes_count: Int<u32>, flags: Int<u32>,
    } |j| Self {
        trace_id: id(j.trace_id),
        span_id: id(j.span_id),
        trace_state: j.trace_state.unwrap_or_default(),
        attributes: list(j.attributes),
        dropped_attributes_count: int(j.dropped_attributes_count),
        flags: int(j.flags),
    };
    Status => trace::Status { message: String, code: Int<i32> }
        |j| Self { message: j.message.unwrap_or_default(), code: int(j.code) };

    /// `ExportMetricsServiceRequest`.
    pub(super) Metrics => ExportMetricsServiceRequest { resource_metrics: Vec<Object<ResourceMetrics>> }
        |j| Self { resource_metrics: list(j.resource_metrics) };
    ResourceMetrics => metrics::ResourceMetrics { resource: Object<Resource>, scope_metrics: Vec<Object<ScopeMetrics>>, schema_url: String }
        |j| Self { resource: one(j.resource), scope_metrics: list(j.scope_metrics), schema_url: j.schema_url.unwrap_or_default() };
    ScopeMetrics => metrics::ScopeMetrics { scope: Object<Scope>, metrics: Vec<Object<Metric>>, schema_url: String }
        |j| Self { scope: one(j.scope), metrics: list(j.metrics), schema_url: j.schema_url.unwrap_or_default() };
    Metric => metrics::Metric {
        name: String, description: String, unit: String, gauge: Object<Gauge>, sum: Object<Sum>, histogram: Object<Histogram>,
        exponential_histogram: Object<ExponentialHistogram>, summary: Object<Summary>,
    } |j| {
        use metrics::metric::Data;
        Self {
            name: j.name.unwrap_or_default(),
            description: j.description.unwrap_or_default(),
            unit: j.unit.unwrap_or_default(),
            metadata: vec![],
            data: one(j.gauge)
                .map(Data::Gauge)
                .or_else(|| one(j.sum).map(Data::Sum))
                .or_else(|| one(j.histogram).map(Data::Histogram))
                .or_else(|| one(j.exponential_histogram).map(Data::ExponentialHistogram))
                .or_else(|| one(j.summary).map(Data::Summary)),
        }
    };
    Gauge => metrics::Gauge { data_points: Vec<Object<NumberPoint>> }
        |j| Self { data_points: list(j.data_points) };
    Sum => metrics::Sum { data_points: Vec<Object<NumberPoint>>, aggregation_temporality: Int<i32>, is_monotonic: bool }
        |j| Self {
            data_points: list(j.data_points),
            aggregation_temporality: int(j.aggregation_temporality),
            is_monotonic: j.is_monotonic.unwrap_or_default(),
        };
    Histogram => metrics::Histogram { data_points: Vec<Object<HistogramPoint>>, aggregation_temporality: Int<i32> }
        |j| Self { data_points: list(j.data_points), aggregation_temporality: int(j.aggregation_temporality) };
    ExponentialHistogram => metrics::ExponentialHistogram { data_points: Vec<Object<ExponentialHistogramPoint>>, aggregation_temporality: Int<i32> }
        |j| Self { data_points: list(j.data_points), aggregation_temporality: int(j.aggregation_temporality) };
    Summary => metrics::Summary { data_points: Vec<Object<SummaryPoint>> }
        |j| Self { data_points: list(j.data_points) };
    NumberPoint => metrics::NumberDataPoint {
        attributes: Vec<Object<KeyValue>>, start_time_unix_nano: Int<u64>, time_unix_nano: Int<u64>, exemplars: Vec<Object<Exemplar>>, flags: Int<u32>,
        as_double: Double, as_int: Int<i64>,
    } |j| {
        use metrics::number_data_point::Value;
        Self {
            attributes: list(j.attributes),
            start_time_unix_nano: int(j.start_time_unix_nano),
            time_unix_nano: int(j.time_unix_nano),
            exemplars: list(j.exemplars),
            flags: int(j.flags),
            value: j.as_double.map(|value| Value::AsDouble(value.0)).or(j.as_int.map(|value| Value::AsInt(value.0))),
        }
    };
    HistogramPoint => metrics::HistogramDataPoint {
        attributes: Vec<Object<KeyValue>>, start_time_unix_nano: Int<u64>, time_unix_nano: Int<u64>, count: Int<u64>, sum: Double,
        bucket_counts: Vec<Int<u64>>, explicit_bounds: Vec<Double>, exemplars: Vec<Object<Exemplar>>, flags: Int<u32>, min: Double, max: Double,
    } |j| Self {
        attributes: list(j.attributes),
        start_time_unix_nano: int(j.start_time_unix_nano),
        time_unix_nano: int(j.time_unix_nano),
        count: int(j.count),
        sum: j.sum.map(|sum| sum.0),
        bucket_counts: counts(j.bucket_counts),
        explicit_bounds: doubles(j.explicit_bounds),
        exemplars: list(j.exemplars),
        flags: int(j.flags),
        min: j.min.map(|min| min.0),
        max: j.max.map(|max| max.0),
    };
    ExponentialHistogramPoint => metrics::ExponentialHistogramDataPoint {
        attributes: Vec<Object<KeyValue>>, start_time_unix_nano: Int<u64>, time_unix_nano: Int<u64>, count: Int<u64>, sum: Double, scale: Int<i32>,
        zero_count: Int<u64>, positive: Object<Buckets>, negative: Object<Buckets>, flags: Int<u32>, exemplars: Vec<Object<Exemplar>>, min: Double,
        max: Double, zero_threshold: Double,
    } |j| Self {
        attributes: list(j.attributes),
        start_time_unix_nano: int(j.start_time_unix_nano),
        time_unix_nano: int(j.time_unix_nano),
        count: int(j.count),
        sum: j.sum.map(|sum| sum.0),
        scale: int(j.scale),
        zero_count: int(j.zero_count),
        positive: one(j.positive),
        negative: one(j.negative),
        flags: int(j.flags),
        exemplars: list(j.exemplars),
        min: j.min.map(|min| min.0),
        max: j.max.map(|max| max.0),
        zero_threshold: double(j.zero_threshold),
    };
    Buckets => metrics::exponential_histogram_data_point::Buckets { offset: Int<i32>, bucket_counts: Vec<Int<u64>> }
        |j| Self { offset: int(j.offset), bucket_counts: counts(j.bucket_counts) };
    SummaryPoint => metrics::SummaryDataPoint {
        attributes: Vec<Object<KeyValue>>, start_time_unix_nano: Int<u64>, time_unix_nano: Int<u64>, count: Int<u64>, sum: Double,
        quantile_values: Vec<Object<Quantile>>, flags: Int<u32>,
    } |j| Self {
        attributes: list(j.attributes),
        start_time_unix_nano: int(j.start_time_unix_nano),
        time_unix_nano: int(j.time_unix_nano),
        count: int(j.count),
        sum: double(j.sum),
        quantile_values: list(j.quantile_values),
        flags: int(j.flags),
    };
    Quantile => metrics::summary_data_point::ValueAtQuantile { quantile: Double, value: Double }
        |j| Self { quantile: double(j.quantile), value: double(j.value) };
    Exemplar => metrics::Exemplar {
        filtered_attributes: Vec<Object<KeyValue>>, time_unix_nano: Int<u64>, span_id: String, trace_id: String, as_double: Double, as_int: Int<i64>,
    } |j| {
        use metrics::exemplar::Value;
        Self {
            filtered_attributes: list(j.filtered_attributes),
            time_unix_nano: int(j.time_unix_nano),
            span_id: id(j.span_id),
            trace_id: id(j.trace_id),
            value: j.as_double.map(|value| Value::AsDouble(value.0)).or(j.as_int.map(|value| Value::AsInt(value.0))),
        }
    };

    Resource => resource::Resource { attributes: Vec<Object<KeyValue>>, dropped_attributes_count: Int<u32> }
        |j| Self { attributes: list(j.attributes), dropped_attributes_count: int(j.dropped_attributes_count), entity_refs: vec![] };
    Scope => common::InstrumentationScope { name: String, version: String, attributes: Vec<Object<KeyValue>>, dropped_attributes_count: Int<u32> }
        |j| Self {
            name: j.name.unwrap_or_default(),
            version: j.version.unwrap_or_default(),
            attributes: list(j.attributes),
            dropped_attributes_count: int(j.dropped_attributes_count),
        };
    KeyValue => common::KeyValue { key: String, value: Object<AnyValue> }
        |j| Self { key: j.key.unwrap_or_default(), value: one(j.value), key_strindex: 0 };
    AnyValue => common::AnyValue {
        string_value: String, bool_value: bool, int_value: Int<i64>, double_value: Double, array_value: Object<ArrayValue>, kvlist_value: Object<KeyValueList>,
        bytes_value: Base64,
    } |j| {
        use common::any_value::Value;
        Self {
            value: j
                .string_value
                .map(Value::StringValue)
                .or(j.bool_value.map(Value::BoolValue))
                .or(j.int_value.map(|value| Value::IntValue(value.0)))
                .or(j.double_value.map(|value| Value::DoubleValue(value.0)))
                .or_else(|| one(j.array_value).map(Value::ArrayValue))
                .or_else(|| one(j.kvlist_value).map(Value::KvlistValue))
                .or(j.bytes_value.map(|value| Value::BytesValue(value.0))),
        }
    };
    ArrayValue => common::ArrayValue { values: Vec<Object<AnyValue>> }
        |j| Self { values: list(j.values) };
    KeyValueList => common::KeyValueList { values: Vec<Object<KeyValue>> }
        |j| Self { values: list(j.values) };
}
