//! OTLP: logs, traces and metrics, protobuf and JSON (OTLP 1.x, collector services `Export`).
//!
//! In: an inflated request body. Out: rows of `logs`, of `spans`, or of the metric tables. Logs, the hottest path of the
//! product, are walked on the wire straight into column builders ([`mod@logs`]); traces and metrics go through prost's structs.
//! JSON becomes the same structs ([`json`]), logs then the same bytes, so that each signal has one meaning.
//!
//! What becomes of input that is not as the specification has it:
//!
//! | input | outcome |
//! |---|---|
//! | truncated bytes, wrong wire type, over-long varint, group | the request is malformed: [`Error::Protobuf`] with message and offset |
//! | unknown field or key | passed over |
//! | invalid UTF-8 in text | the bad bytes become U+FFFD, nothing is lost over it |
//! | `AnyValue` nested deeper than [`MAX_NESTING`] | the part beneath is [`CUT`], which says so |
//! | log record: bad or missing IDs, times, severity | kept; ID null, time observed or received, severity 0 |
//! | span: trace, span or parent ID, or a time not usable | that span is rejected, the reason names the field |
//! | span that ends before it starts | kept, ends at its start: clocks were set, and no reader meets a negative duration |
//! | metric point: no time, buckets that do not fit their bounds, metric without a name | that point is rejected |
//! | counts beyond `i64` | capped |
//! | more than [`super::MAX_RECORDS`] records or [`super::MAX_PARTS`] other parts | the request is refused: [`Error::TooMany`] |
//! | attributes of a scope | kept with the resource's, as `otel.scope.NAME` |
//!
//! Before anything is made of a larger body it is weighed ([`mod@weigh`]): a small body can ask for much memory.
//!
//! Values that are not text: numbers and booleans in their canonical spelling, arrays and key-value lists as plain JSON,
//! bytes as base64.

mod json;
mod logs;
mod metrics;
mod repair;
mod shapes;
mod traces;
mod values;
mod weigh;
mod wire;

use std::sync::Arc;

use arrow::array::AsArray;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use super::awslogs::{EVENT_OVERHEAD_BYTES, MAX_BATCH_BYTES, MAX_EVENTS};
use super::http_events::Head;
use super::{Context, Decoded, Error, Kind, Reason, Sender, envelope};
use crate::model::{self, ContextBuilder, Rows, Table};

/// Levels of arrays and key-value lists in one value that are kept; what lies deeper becomes [`CUT`]: nobody reads it,
/// and one record's shape must not cost the request its other records.
pub const MAX_NESTING: usize = 32;
/// What stands for a part of a value that was nested too deep, in JSON: the record itself tells that it is not whole.
pub const CUT: &str = "\"[cut: nested deeper than 32 levels]\"";

/// Scope attributes stand among the resource's under this prefix.
const SCOPE_PREFIX: &str = "otel.scope.";

/// Bodies up to here are not walked before they are decoded: whatever they hold, it is little.
const UNWALKED_BYTES: usize = 64 * 1024;
/// Memory of the resources and scopes of one request: each scope has a copy of its resource.
const MAX_CONTEXT_BYTES: usize = 128 << 20;

/// About how many bytes of memory decoding takes beside the body; [`Error::TooMany`] for a body of more records or parts
/// than are taken. `None` when `kind` is not OTLP.
pub(super) fn weigh(kind: Kind, body: &[u8]) -> Result<Option<usize>, Error> {
    let bytes = match kind {
        Kind::OtlpLogs | Kind::OtlpTraces | Kind::OtlpMetrics | Kind::OtlpLogsJson | Kind::OtlpTracesJson | Kind::OtlpMetricsJson
            if body.len() <= UNWALKED_BYTES =>
        {
            8 * body.len()
        }
        Kind::OtlpLogs | Kind::SelfLogs => weigh::protobuf(body, &shapes::LOGS)?,
        Kind::OtlpTraces | Kind::SelfTraces => weigh::protobuf(body, &shapes::TRACES)?,
        Kind::OtlpMetrics | Kind::SelfMetrics => weigh::protobuf(body, &shapes::METRICS)?,
        Kind::OtlpLogsJson => weigh::json(body, &weigh::LOGS_JSON)?,
        Kind::OtlpTracesJson => weigh::json(body, &weigh::TRACES_JSON)?,
        Kind::OtlpMetricsJson => weigh::json(body, &weigh::METRICS_JSON)?,
        _ => return Ok(None),
    };
    Ok(Some(bytes))
}

/// The same of `ExportMetricsServiceRequest`, protobuf, of any size: one of many in a larger body.
pub(super) fn weigh_metrics(message: &[u8]) -> Result<usize, Error> {
    weigh::protobuf(message, &shapes::METRICS)
}

/// `ExportLogsServiceRequest`, protobuf.
pub fn logs(body: &[u8], context: &Context) -> Result<Decoded, Error> {
    logs::logs(body, context)
}

/// Log records for one log stream of CloudWatch Logs, as AWS' own endpoint takes them: the request stands behind a line of
/// [`Head`](super::http_events::Head), which its headers named. Whatever their resources say, the records are of that group and
/// stream. Bounds are those of `PutLogEvents`.
pub fn logs_of_stream(kind: Kind, body: &[u8], context: &Context) -> Result<Decoded, Error> {
    let (head, message) = envelope::open::<Head>(body)?;
    let mut decoded = match kind {
        Kind::OtlpLogsOfStreamJson => logs_json(message, context),
        _ => logs(message, context),
    }?;
    let (mut n_records, mut n_bytes) = (0, 0);
    for rows in decoded.batch.rows.iter_mut().filter(|rows| rows.table() == Table::Logs) {
        n_records += rows.len();
        n_bytes += event_bytes(rows);
        let of_stream = |of: &Arc<model::Context>| {
            let group = of.with("aws.log.group.names", &head.log_group);
            Arc::new(group.with("aws.log.stream.names", &head.log_stream))
        };
        *rows = Rows::try_new(Table::Logs, rows.batch().clone(), rows.contexts().iter().map(of_stream).collect())?;
    }
    if n_records > MAX_EVENTS {
        return Err(Error::TooMany {
            what: "log records",
            max: MAX_EVENTS,
        });
    }
    if n_bytes > MAX_BATCH_BYTES {
        return Err(Error::TooMany {
            what: "bytes of log records",
            max: MAX_BATCH_BYTES,
        });
    }
    Ok(decoded)
}

/// Bytes of log records as the service counts them.
pub fn event_bytes(rows: &Rows) -> usize {
    let bodies = rows.batch().column_by_name("body").and_then(|bodies| bodies.as_string_opt::<i32>());
    let text = bodies.map_or(0, |bodies| bodies.iter().flatten().map(str::len).sum());
    text + EVENT_OVERHEAD_BYTES * rows.len()
}

/// What decoding [`logs_of_stream`] takes in memory.
pub(super) fn weigh_of_stream(kind: Kind, body: &[u8]) -> Result<usize, Error> {
    let (_, message) = envelope::open::<Head>(body)?;
    let kind = match kind {
        Kind::OtlpLogsOfStreamJson => Kind::OtlpLogsJson,
        _ => Kind::OtlpLogs,
    };
    Ok(weigh(kind, message)?.unwrap_or(8 * message.len()))
}

/// `ExportTraceServiceRequest`, protobuf.
pub fn traces(body: &[u8], _context: &Context) -> Result<Decoded, Error> {
    traces::traces(&prost_message::<ExportTraceServiceRequest>(body, &shapes::TRACES)?)
}

/// `ExportMetricsServiceRequest`, protobuf.
pub fn metrics(body: &[u8], _context: &Context) -> Result<Decoded, Error> {
    metrics::metrics(&prost_message::<ExportMetricsServiceRequest>(body, &shapes::METRICS)?)
}

/// `ExportLogsServiceRequest`, JSON.
pub fn logs_json(body: &[u8], context: &Context) -> Result<Decoded, Error> {
    let request: ExportLogsServiceRequest = json::parse::<json::Logs, _>(body)?;
    logs::logs(&request.encode_to_vec(), context)
}

/// `ExportTraceServiceRequest`, JSON.
pub fn traces_json(body: &[u8], _context: &Context) -> Result<Decoded, Error> {
    traces::traces(&json::parse::<json::Traces, _>(body)?)
}

/// `ExportMetricsServiceRequest`, JSON.
pub fn metrics_json(body: &[u8], _context: &Context) -> Result<Decoded, Error> {
    metrics::metrics(&json::parse::<json::Metrics, _>(body)?)
}

/// Reads prost's structs. What prost refuses is walked once more: that finds the place of the fault, or mends what is
/// no fault here (invalid UTF-8, deep nesting).
fn prost_message<M: prost::Message + Default>(body: &[u8], shape: &'static shapes::Shape) -> Result<M, Error> {
    M::decode(body).or_else(|_| {
        let mended = repair::repair(body, shape)?;
        M::decode(mended.as_slice()).map_err(|error| Error::Protobuf {
            message: shape.name,
            detail: error.to_string(),
            offset: 0,
        })
    })
}

/// The context of the records that follow under a resource and a scope.
fn context_of(resource: Option<&Resource>, scope: Option<&InstrumentationScope>) -> Arc<model::Context> {
    let mut builder = ContextBuilder::new();
    let mut scratch = String::new();
    for attribute in resource.iter().flat_map(|resource| &resource.attributes) {
        builder.attribute(&attribute.key, values::value(attribute.value.as_ref(), &mut scratch));
    }
    if let Some(scope) = scope {
        builder.scope(&scope.name, &scope.version);
        for attribute in &scope.attributes {
            let key = format!("{SCOPE_PREFIX}{}", attribute.key);
            builder.attribute(&key, values::value(attribute.value.as_ref(), &mut scratch));
        }
    }
    builder.build()
}

/// The memory of a request's contexts so far.
#[derive(Debug, Default)]
struct ContextMemory(usize);

impl ContextMemory {
    fn add(&mut self, context: &model::Context) -> Result<(), Error> {
        self.0 += context.memory_bytes();
        if self.0 > MAX_CONTEXT_BYTES {
            return Err(Error::TooMany {
                what: "bytes of resource and scope attributes",
                max: MAX_CONTEXT_BYTES,
            });
        }
        Ok(())
    }
}

/// A point in time as OTLP sends it; `None` when unset or beyond what `i64` nanoseconds hold (the year 2262).
fn time(unix_nano: u64) -> Option<i64> {
    i64::try_from(unix_nano).ok().filter(|nanos| *nanos > 0)
}

/// A count, capped.
fn capped(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count, capped.
fn capped_32(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Rejected records, and whose those at hand are.
#[derive(Debug, Default)]
struct Rejections {
    all: super::Rejections,
    sender: Option<Sender>,
}

impl Rejections {
    /// The records that follow are under `context`.
    fn come_from(&mut self, context: &model::Context) {
        self.sender = Some(Sender::of(context));
    }

    fn add(&mut self, count: u64, reason: Reason, message: impl FnOnce() -> String) {
        self.all.add(self.sender.as_ref(), count, reason, message);
    }
}

/// What a decoder hands back: tables without rows are left out.
fn decoded(rows: Vec<Rows>, rejections: Rejections) -> Decoded {
    Decoded {
        batch: model::Batch {
            rows: rows.into_iter().filter(|rows| !rows.is_empty()).collect(),
        },
        rejected: rejections.all.finish(),
        ..Decoded::default()
    }
}

#[cfg(test)]
mod tests;
