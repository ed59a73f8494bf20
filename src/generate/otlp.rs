//! OTLP messages, with less ceremony.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
    /// True or false.
    Bool(bool),
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Attribute::Text(text.to_string())
    }
}
impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Attribute::Text(text)
    }
}
impl From<i64> for Attribute {
    fn from(number: i64) -> Self {
        Attribute::Int(number)
    }
}
impl From<f64> for Attribute {
    fn from(number: f64) -> Self {
        Attribute::Double(number)
    }
}
impl From<bool> for Attribute {
    fn from(flag: bool) -> Self {
        Attribute::Bool(flag)
    }
}

/// A value on the wire.
pub fn any(value: impl Into<Attribute>) -> AnyValue {
    let value = match value.into() {
        Attribute::Text(text) => any_value::Value::StringValue(text),
        Attribute::Int(number) => any_value::Value::IntValue(number),
        Attribute::Double(number) => any_value::Value::DoubleValue(number),
        Attribute::Bool(flag) => any_value::Value::BoolValue(flag),
    };
    AnyValue { value: Some(value) }
}

/// An attribute on the wire.
pub fn attribute(key: &str, value: impl Into<Attribute>) -> KeyValue {
    KeyValue {
        key: key.to_string(),
        value: Some(any(value)),
        ..KeyValue::default()
    }
}

/// A resource of these attributes.
pub fn resource(attributes: Vec<KeyValue>) -> Resource {
    Resource {
        attributes,
        ..Resource::default()
    }
}

fn scope(name: &str) -> InstrumentationScope {
    InstrumentationScope {
        name: name.to_string(),
        version: "1.0.0".to_string(),
        ..InstrumentationScope::default()
    }
}

/// Log records by resource, under one scope.
pub fn logs_request(by_resource: Vec<(Resource, Vec<LogRecord>)>, scope_name: &str) -> ExportLogsServiceRequest {
    let resource_logs = by_resource.into_iter().map(|(resource, log_records)| ResourceLogs {
        resource: Some(resource),
        scope_logs: vec![ScopeLogs {
            scope: Some(scope(scope_name)),
            log_records,
            ..ScopeLogs::default()
        }],
        ..ResourceLogs::default()
    });
    ExportLogsServiceRequest {
        resource_logs: resource_logs.collect(),
    }
}

/// Spans by resource, under one scope.
pub fn traces_request(by_resource: Vec<(Resource, Vec<Span>)>, scope_name: &str) -> ExportTraceServiceRequest {
    let resource_spans = by_resource.into_iter().map(|(resource, spans)| ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![ScopeSpans {
            scope: Some(scope(scope_name)),
            spans,
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    });
    ExportTraceServiceRequest {
        resource_spans: resource_spans.collect(),
    }
}

/// Metrics by resource, under one scope.
pub fn metrics_request(by_resource: Vec<(Resource, Vec<Metric>)>, scope_name: &str) -> ExportMetricsServiceRequest {
    let resource_metrics = by_resource.into_iter().map(|(resource, metrics)| ResourceMetrics {
        resource: Some(resource),
        scope_metrics: vec![ScopeMetrics {
            scope: Some(scope(scope_name)),
            metrics,
            ..ScopeMetrics::default()
        }],
        ..ResourceMetrics::default()
    });
    ExportMetricsServiceRequest {
        resource_metrics: resource_metrics.collect(),
    }
}
