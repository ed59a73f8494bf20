//! Requests built with prost go through every decoder; what is stored is compared.

mod bombs;
mod json_mapping;
mod log_records;
mod metric_points;
mod properties;
mod spans;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{self as metrics_v1, Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use serde_json::json;

use super::*;
use crate::model::{LogsBuilder, SpanId, Table, TraceId};

const CONTEXT: Context = Context {
    received_at_nanos: 7_000_000_000,
    retention_days: 0,
};
const TIME: u64 = 1_795_000_000_000_000_123;

fn sent(value: Any) -> AnyValue {
    AnyValue { value: Some(value) }
}
fn text(text: &str) -> AnyValue {
    sent(Any::StringValue(text.into()))
}
fn key_value(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(value),
        key_strindex: 0,
    }
}
fn array(values: Vec<AnyValue>) -> AnyValue {
    sent(Any::ArrayValue(ArrayValue { values }))
}
fn kvlist(values: Vec<KeyValue>) -> AnyValue {
    sent(Any::KvlistValue(KeyValueList { values }))
}
fn resource() -> Option<Resource> {
    Some(Resource {
        attributes: vec![key_value("service.name", text("checkout")), key_value("host.cpus", sent(Any::IntValue(8)))],
        ..Default::default()
    })
}
fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "lib".into(),
        version: "1.2".into(),
        attributes: vec![key_value("short", sent(Any::BoolValue(true)))],
        ..Default::default()
    })
}

fn logs_request(log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource(),
            scope_logs: vec![ScopeLogs {
                scope: scope(),
                log_records,
                schema_url: "s".into(),
            }],
            schema_url: "s".into(),
        }],
    }
}
fn spans_request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: resource(),
            scope_spans: vec![ScopeSpans {
                scope: scope(),
                spans,
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}
fn metrics_request(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: resource(),
            scope_metrics: vec![ScopeMetrics {
                scope: scope(),
                metrics,
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}

fn full_record() -> LogRecord {
    LogRecord {
        time_unix_nano: TIME,
        observed_time_unix_nano: TIME + 5_000,
        severity_number: 17,
        severity_text: "ERROR".into(),
        body: Some(text("payment \"refused\"\n")),
        attributes: vec![
            key_value("order", sent(Any::IntValue(-42))),
            key_value("ratio", sent(Any::DoubleValue(0.25))),
            key_value("ok", sent(Any::BoolValue(false))),
            key_value("order", sent(Any::IntValue(43))),
            key_value("raw", sent(Any::BytesValue(vec![0xff, 0, 1]))),
            key_value(
                "list",
                array(vec![text("a\"b"), sent(Any::DoubleValue(f64::NAN)), AnyValue { value: None }, kvlist(vec![])]),
            ),
            key_value(
                "map",
                kvlist(vec![key_value("k", sent(Any::BytesValue(vec![1]))), key_value("é", array(vec![]))]),
            ),
            KeyValue {
                key: "none".into(),
                value: None,
                key_strindex: 0,
            },
        ],
        dropped_attributes_count: 3,
        flags: 0x301,
        trace_id: vec![0xab; 16],
        span_id: vec![0xcd; 8],
        event_name: "payment.refused".into(),
    }
}

/// The one stored table of a result.
fn stored(decoded: &Decoded) -> RecordBatch {
    assert_eq!(decoded.batch.rows.len(), 1, "{:?}", decoded.rejected);
    decoded.batch.rows[0].to_batch(None).unwrap()
}
fn table(decoded: &Decoded, table: Table) -> RecordBatch {
    let rows = decoded.batch.rows.iter().find(|rows| rows.table() == table);
    rows.unwrap().to_batch(None).unwrap()
}
fn all_stored(decoded: &Decoded) -> Vec<RecordBatch> {
    decoded.batch.rows.iter().map(|rows| rows.to_batch(None).unwrap()).collect()
}
fn column(batch: &RecordBatch, name: &str) -> ArrayRef {
    batch.column_by_name(name).unwrap().clone()
}
fn string(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    let column = column(batch, name);
    column.is_valid(row).then(|| column.as_string::<i32>().value(row).to_string())
}
fn int64(batch: &RecordBatch, name: &str, row: usize) -> Option<i64> {
    let column = column(batch, name);
    column.is_valid(row).then(|| column.as_primitive::<Int64Type>().value(row))
}
fn int32(batch: &RecordBatch, name: &str, row: usize) -> Option<i32> {
    let column = column(batch, name);
    column.is_valid(row).then(|| column.as_primitive::<Int32Type>().value(row))
}
fn map(batch: &RecordBatch, name: &str, row: usize) -> Vec<(String, String)> {
    let entries = column(batch, name).as_map().value(row);
    let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
    keys.iter().zip(values).map(|(k, v)| (k.unwrap().into(), v.unwrap().into())).collect()
}
fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}
fn logs_of(records: Vec<LogRecord>) -> RecordBatch {
    stored(&logs(&logs_request(records).encode_to_vec(), &CONTEXT).unwrap())
}

fn full_span() -> Span {
    Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        trace_state: "a=b".into(),
        parent_span_id: vec![3; 8],
        flags: 0x101,
        name: "GET /".into(),
        kind: 2,
        start_time_unix_nano: TIME,
        end_time_unix_nano: TIME + 1_000,
        attributes: vec![key_value("http.route", text("/")), key_value("n", sent(Any::IntValue(1)))],
        dropped_attributes_count: 1,
        events: vec![
            span::Event {
                time_unix_nano: TIME + 10,
                name: "exception".into(),
                attributes: vec![key_value("exception.type", text("Boom"))],
                dropped_attributes_count: 0,
            },
            span::Event {
                name: "timeless".into(),
                ..Default::default()
            },
        ],
        links: vec![span::Link {
            trace_id: vec![9; 16],
            span_id: vec![8; 7],
            trace_state: "c=d".into(),
            attributes: vec![key_value("why", text("batch"))],
            ..Default::default()
        }],
        status: Some(Status { message: "no".into(), code: 2 }),
        ..Default::default()
    }
}

fn gauge(name: &str, value: f64) -> Metric {
    metric(
        name,
        Data::Gauge(metrics_v1::Gauge {
            data_points: vec![number_point(metrics_v1::number_data_point::Value::AsDouble(value))],
        }),
    )
}
fn metric(name: &str, data: Data) -> Metric {
    Metric {
        name: name.into(),
        unit: "ms".into(),
        data: Some(data),
        ..Default::default()
    }
}
fn number_point(value: metrics_v1::number_data_point::Value) -> metrics_v1::NumberDataPoint {
    metrics_v1::NumberDataPoint {
        attributes: vec![key_value("k", text("v"))],
        time_unix_nano: TIME,
        value: Some(value),
        ..Default::default()
    }
}
fn histogram_point() -> metrics_v1::HistogramDataPoint {
    metrics_v1::HistogramDataPoint {
        time_unix_nano: TIME,
        start_time_unix_nano: TIME - 1_000,
        count: u64::MAX,
        sum: Some(2.5),
        bucket_counts: vec![1, u64::MAX],
        explicit_bounds: vec![10.0],
        exemplars: vec![metrics_v1::Exemplar {
            filtered_attributes: vec![key_value("e", text("x"))],
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            value: Some(metrics_v1::exemplar::Value::AsInt(4)),
            ..Default::default()
        }],
        ..Default::default()
    }
}
fn every_kind() -> Vec<Metric> {
    use metrics_v1::number_data_point::Value;
    let mut missing = number_point(Value::AsInt(9));
    missing.flags = 1;
    vec![
        gauge("cpu", f64::NEG_INFINITY),
        metric(
            "requests",
            Data::Sum(metrics_v1::Sum {
                data_points: vec![number_point(Value::AsInt(i64::MAX)), missing],
                aggregation_temporality: 2,
                is_monotonic: true,
            }),
        ),
        metric(
            "latency",
            Data::Histogram(metrics_v1::Histogram {
                data_points: vec![histogram_point()],
                aggregation_temporality: 1,
            }),
        ),
        metric(
            "size",
            Data::ExponentialHistogram(metrics_v1::ExponentialHistogram {
                data_points: vec![metrics_v1::ExponentialHistogramDataPoint {
                    time_unix_nano: TIME,
                    count: 5,
                    scale: -3,
                    zero_count: 1,
                    zero_threshold: 0.5,
                    positive: Some(metrics_v1::exponential_histogram_data_point::Buckets {
                        offset: -2,
                        bucket_counts: vec![1, 3],
                    }),
                    ..Default::default()
                }],
                aggregation_temporality: 0,
            }),
        ),
        metric(
            "old",
            Data::Summary(metrics_v1::Summary {
                data_points: vec![metrics_v1::SummaryDataPoint {
                    time_unix_nano: TIME,
                    count: 2,
                    sum: 3.0,
                    quantile_values: vec![metrics_v1::summary_data_point::ValueAtQuantile { quantile: 0.5, value: 1.5 }],
                    ..Default::default()
                }],
            }),
        ),
    ]
}

/// The JSON mapping, written.
fn to_json(request: &ExportLogsServiceRequest) -> serde_json::Value {
    fn value(any: &AnyValue) -> serde_json::Value {
        use base64::Engine as _;
        match &any.value {
            None | Some(Any::StringValueStrindex(_)) => json!({}),
            Some(Any::StringValue(text)) => json!({"stringValue": text}),
            Some(Any::BoolValue(value)) => json!({"boolValue": value}),
            Some(Any::IntValue(number)) => json!({"intValue": number.to_string()}),
            Some(Any::DoubleValue(number)) if number.is_finite() => json!({"doubleValue": number}),
            Some(Any::DoubleValue(number)) => json!({"doubleValue": if number.is_nan() { "NaN" } else if *number > 0.0 { "Infinity" } else { "-Infinity" }}),
            Some(Any::ArrayValue(array)) => json!({"arrayValue": {"values": array.values.iter().map(value).collect::<Vec<_>>()}}),
            Some(Any::KvlistValue(list)) => json!({"kvlistValue": {"values": pairs(&list.values)}}),
            Some(Any::BytesValue(bytes)) => json!({"bytesValue": base64::engine::general_purpose::STANDARD.encode(bytes)}),
        }
    }
    fn pairs(list: &[KeyValue]) -> Vec<serde_json::Value> {
        list.iter()
            .map(|pair| json!({"key": pair.key, "value": pair.value.as_ref().map(value)}))
            .collect()
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    let records = |scope: &ScopeLogs| -> Vec<serde_json::Value> {
        let record = |r: &LogRecord| {
            json!({
                "timeUnixNano": r.time_unix_nano.to_string(), "observedTimeUnixNano": r.observed_time_unix_nano, "severityNumber": r.severity_number,
                "severityText": r.severity_text, "body": r.body.as_ref().map(value), "attributes": pairs(&r.attributes),
                "droppedAttributesCount": r.dropped_attributes_count, "flags": r.flags, "traceId": hex(&r.trace_id), "spanId": hex(&r.span_id),
                "eventName": r.event_name,
            })
        };
        scope.log_records.iter().map(record).collect()
    };
    let scopes = |resource: &ResourceLogs| -> Vec<serde_json::Value> {
        let scope = |s: &ScopeLogs| {
            let scope = s
                .scope
                .as_ref()
                .map(|scope| json!({"name": scope.name, "version": scope.version, "attributes": pairs(&scope.attributes)}));
            json!({"scope": scope, "logRecords": records(s)})
        };
        resource.scope_logs.iter().map(scope).collect()
    };
    let resource = |r: &ResourceLogs| json!({"resource": r.resource.as_ref().map(|r| json!({"attributes": pairs(&r.attributes)})), "scopeLogs": scopes(r)});
    json!({"resourceLogs": request.resource_logs.iter().map(resource).collect::<Vec<_>>()})
}
