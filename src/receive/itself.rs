//! Our own log lines, spans and metrics as records like any other, under `service.name = tracelake`.
//!
//! In: what [`crate::telemetry`] caught, and its metrics. Out: OTLP bodies, handed to the same [`Intake`] as everybody's, counted as
//! receiver `self`. Off unless `[telemetry] self_ingest` is set.
//!
//! No loop: all this happens inside a span of the target [`UNHEARD`], and so does the flush of rows that are only ours, so that
//! keeping records makes none. Bounds: the queue and the rate of [`crate::telemetry::Config`]; a refusal drops the batch
//! and is followed by a pause, from [`FIRST_PAUSE`] to [`LONGEST_PAUSE`].

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, span};
use prost::Message as _;
use tokio::sync::mpsc;
use tracing::Instrument as _;

use super::Intake;
use crate::decode::{self, Context, Kind};
use crate::ingest::Received;
use crate::model::Clock;
use crate::telemetry::{self, Captured, Config, FieldValue, Fields, UNHEARD};

/// Records of one batch.
const BATCH: usize = 512;
/// What a batch waits for others to join it.
const GATHER: Duration = Duration::from_millis(500);
/// Pauses after refusals.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest of them.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The service name of our own records.
const SERVICE: &str = "tracelake";
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: i32 = 2;

/// Keeps what is caught.
#[derive(Debug)]
pub struct Keeper {
    /// What was caught.
    pub captured: mpsc::Receiver<Captured>,
    /// Where it goes.
    pub intake: Arc<dyn Intake>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// `service.instance.id`.
    pub node: String,
    /// When this process started, nanoseconds since the epoch.
    pub started_nanos: i64,
    /// Bounds.
    pub config: Config,
}

impl Keeper {
    /// Keeps until `stop` resolves or nothing can be caught any more.
    pub async fn run(&mut self, stop: impl Future<Output = ()>) {
        let keeping = self.keep().instrument(tracing::info_span!(target: UNHEARD, "keeping"));
        tokio::select! {
            () = stop => {}
            () = keeping => {}
        }
    }

    async fn keep(&mut self) {
        let every = Duration::from_secs(self.config.metrics_every_seconds.max(1));
        let mut metrics = tokio::time::interval(every);
        let mut pause = FIRST_PAUSE;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let taken = tokio::select! {
                n = self.captured.recv_many(&mut batch, BATCH) => match n {
                    0 => return,
                    _ => {
                        tokio::time::sleep(GATHER).await;
                        while batch.len() < BATCH && let Ok(more) = self.captured.try_recv() {
                            batch.push(more);
                        }
                        self.keep_batch(batch.drain(..)).await
                    }
                },
                _ = metrics.tick(), if self.config.metrics_every_seconds > 0 => {
                    let request = self.metrics(&telemetry::render());
                    self.offer(Kind::SelfMetrics, request.encode_to_vec()).await
                }
            };
            if taken {
                pause = FIRST_PAUSE;
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Whether all was taken; what was not is counted as refused.
    async fn keep_batch(&self, batch: impl Iterator<Item = Captured>) -> bool {
        let (mut records, mut spans) = (Vec::new(), Vec::new());
        for captured in batch {
            match captured {
                Captured::Line {
                    at_nanos,
                    level,
                    target,
                    message,
                    fields,
                    place,
                } => {
                    let mut attributes = attributes(fields);
                    attributes.push(attribute("code.namespace", FieldValue::Text(target.into())));
                    records.push(LogRecord {
                        time_unix_nano: at_nanos.unsigned_abs(),
                        severity_number: severity(level),
                        severity_text: level.to_string(),
                        body: Some(any(FieldValue::Text(message))),
                        attributes,
                        trace_id: place.map_or_else(Vec::new, |place| place.trace_id.to_be_bytes().to_vec()),
                        span_id: place.map_or_else(Vec::new, |place| place.span_id.to_be_bytes().to_vec()),
                        ..LogRecord::default()
                    });
                }
                Captured::Span {
                    name,
                    place,
                    parent,
                    start_nanos,
                    end_nanos,
                    fields,
                } => spans.push(Span {
                    name,
                    trace_id: place.trace_id.to_be_bytes().to_vec(),
                    span_id: place.span_id.to_be_bytes().to_vec(),
                    parent_span_id: parent.map_or_else(Vec::new, |parent| parent.to_be_bytes().to_vec()),
                    kind: match fields.iter().any(|(name, _)| *name == "http.request.method") {
                        true => span::SpanKind::Server as i32,
                        false => span::SpanKind::Internal as i32,
                    },
                    start_time_unix_nano: start_nanos.unsigned_abs(),
                    end_time_unix_nano: end_nanos.unsigned_abs(),
                    attributes: attributes(fields),
                    ..Span::default()
                }),
            }
        }
        let mut taken = true;
        if !records.is_empty() {
            let request = ExportLogsServiceRequest {
                resource_logs: vec![ResourceLogs {
                    resource: Some(self.resource()),
                    scope_logs: vec![ScopeLogs {
                        scope: Some(scope()),
                        log_records: records,
                        ..ScopeLogs::default()
                    }],
                    ..ResourceLogs::default()
                }],
            };
            taken &= self.offer(Kind::SelfLogs, request.encode_to_vec()).await;
        }
        if !spans.is_empty() {
            let request = ExportTraceServiceRequest {
                resource_spans: vec![ResourceSpans {
                    resource: Some(self.resource()),
                    scope_spans: vec![ScopeSpans {
                        scope: Some(scope()),
                        spans,
                        ..ScopeSpans::default()
                    }],
                    ..ResourceSpans::default()
                }],
            };
            taken &= self.offer(Kind::SelfTraces, request.encode_to_vec()).await;
        }
        taken
    }

    async fn offer(&self, kind: Kind, body: Vec<u8>) -> bool {
        let context = Context {
            received_at_nanos: self.clock.now_nanos(),
            retention_days: 0,
        };
        let Ok(decoded) = decode::decode(kind, &body, &context) else {
            debug_assert!(false, "our own bytes do not decode");
            return true;
        };
        self.intake.accept(Received::plain(kind, context, body), decoded).await.is_ok()
    }

    fn resource(&self) -> Resource {
        let text = |key: &str, value: &str| attribute(key, FieldValue::Text(value.into()));
        Resource {
            attributes: vec![
                text("service.name", SERVICE),
                text("service.version", env!("CARGO_PKG_VERSION")),
                text("service.instance.id", &self.node),
            ],
            ..Resource::default()
        }
    }

    /// What the metrics' text says, without the buckets of histograms.
    fn metrics(&self, rendered: &str) -> ExportMetricsServiceRequest {
        let now_nanos = self.clock.now_nanos().unsigned_abs();
        let metrics = samples(rendered).map(|(name, labels, value)| {
            let point = NumberDataPoint {
                attributes: labels.into_iter().map(|(key, value)| attribute(&key, FieldValue::Text(value))).collect(),
                start_time_unix_nano: self.started_nanos.unsigned_abs(),
                time_unix_nano: now_nanos,
                value: Some(number_data_point::Value::AsDouble(value)),
                ..NumberDataPoint::default()
            };
            let grows = ["_total", "_sum", "_count"].iter().any(|ending| name.ends_with(ending));
            let data = match grows {
                true => metric::Data::Sum(Sum {
                    data_points: vec![point],
                    aggregation_temporality: CUMULATIVE,
                    is_monotonic: true,
                }),
                false => metric::Data::Gauge(Gauge { data_points: vec![point] }),
            };
            Metric {
                name: name.into(),
                data: Some(data),
                ..Metric::default()
            }
        });
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope()),
                    metrics: metrics.collect(),
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        }
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: SERVICE.into(),
        ..InstrumentationScope::default()
    }
}

fn severity(level: tracing::Level) -> i32 {
    match level {
        tracing::Level::TRACE => 1,
        tracing::Level::DEBUG => 5,
        tracing::Level::INFO => 9,
        tracing::Level::WARN => 13,
        tracing::Level::ERROR => 17,
    }
}

fn any(value: FieldValue) -> AnyValue {
    let value = match value {
        FieldValue::Text(text) => any_value::Value::StringValue(text),
        FieldValue::Int(number) => any_value::Value::IntValue(number),
        FieldValue::Double(number) => any_value::Value::DoubleValue(number),
        FieldValue::Bool(flag) => any_value::Value::BoolValue(flag),
    };
    AnyValue { value: Some(value) }
}

fn attribute(key: &str, value: FieldValue) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(any(value)),
        ..KeyValue::default()
    }
}

fn attributes(fields: Fields) -> Vec<KeyValue> {
    fields.into_iter().map(|(key, value)| attribute(key, value)).collect()
}

type Labels = Vec<(String, String)>;

/// The samples of OpenMetrics text, buckets left out: name, labels, value.
fn samples(text: &str) -> impl Iterator<Item = (&str, Labels, f64)> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let end_of_name = line.find(['{', ' '])?;
        let (name, rest) = line.split_at(end_of_name);
        if name.ends_with("_bucket") {
            return None;
        }
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Labels::new(), rest),
        };
        let value: f64 = value.split_ascii_whitespace().next()?.parse().ok()?;
        value.is_finite().then_some((name, labels, value))
    })
}

/// Labels up to their closing brace, and what follows it.
fn labels(text: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    let mut rest = text;
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        rest = rest.strip_prefix(',').unwrap_or(rest);
        let (key, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        rest = loop {
            match chars.next()? {
                (at, '"') => break &after[at + 1..],
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.push((key.to_string(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Memory;
    use super::*;
    use crate::model::{ManualClock, Table};
    use crate::telemetry::Place;

    fn keeper(memory: Arc<Memory>) -> (mpsc::Sender<Captured>, Keeper) {
        let (queue, captured) = mpsc::channel(100);
        let keeper = Keeper {
            captured,
            intake: memory,
            clock: Arc::new(ManualClock::new(1_795_000_000_000_000_000)),
            node: "n".into(),
            started_nanos: 1_794_000_000_000_000_000,
            config: Config::default(),
        };
        (queue, keeper)
    }

    #[tokio::test]
    async fn what_was_caught_becomes_rows_and_a_refusal_is_counted() {
        let memory = Arc::new(Memory::default());
        let (_queue, keeper) = keeper(memory.clone());
        let place = Place { trace_id: 7, span_id: 8 };
        let line = Captured::Line {
            at_nanos: 1_795_000_000_000_000_000,
            level: tracing::Level::WARN,
            target: "tracelake::wal",
            message: "it rains".into(),
            fields: vec![("n", FieldValue::Int(1))],
            place: Some(place),
        };
        let span = Captured::Span {
            name: "GET /x".into(),
            place,
            parent: None,
            start_nanos: 1_795_000_000_000_000_000,
            end_nanos: 1_795_000_000_000_000_001,
            fields: vec![("http.request.method", FieldValue::Text("GET".into()))],
        };
        assert!(keeper.keep_batch([line.clone(), span].into_iter()).await);
        let accepted = std::mem::take(&mut *memory.accepted.lock());
        let tables: Vec<Table> = accepted
            .iter()
            .flat_map(|(_, decoded)| decoded.batch.rows.iter().map(crate::model::Rows::table))
            .collect();
        assert_eq!(tables, [Table::Logs, Table::Spans]);
        assert!(accepted.iter().all(|(received, _)| received.receiver == "self"));
        memory.refuse(1);
        assert!(!keeper.keep_batch([line].into_iter()).await);
        assert_eq!(memory.outcomes().refused, 1);
    }

    #[test]
    fn metrics_are_read_from_their_text() {
        let text = "# HELP a_total x\n# TYPE a counter\na_total{k=\"v, \\\"w\\\"\\n\",l=\"\"} 3\nb 1.5\nh_bucket{le=\"1\"} 2\nh_count 2\nnan NaN\n# EOF\n";
        let read: Vec<_> = samples(text).collect();
        let labels = vec![("k".to_string(), "v, \"w\"\n".to_string()), ("l".to_string(), String::new())];
        assert_eq!(read, [("a_total", labels, 3.0), ("b", vec![], 1.5), ("h_count", vec![], 2.0)]);
        let (_queue, keeper) = keeper(Arc::new(Memory::default()));
        let request = keeper.metrics(text).encode_to_vec();
        let context = Context {
            received_at_nanos: 1_795_000_000_000_000_000,
            retention_days: 0,
        };
        let decoded = decode::decode(Kind::SelfMetrics, &request, &context).expect("decodes");
        assert!(decoded.rejected.is_empty() && decoded.batch.n_rows() >= 3);
    }
}
