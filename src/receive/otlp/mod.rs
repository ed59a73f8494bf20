//! OTLP: gRPC and HTTP, protobuf and JSON, logs, traces and metrics.
//!
//! Both transports end in one [`Receiver::export`]: the message's bytes are decoded, handed over and, once durable,
//! answered. The log keeps the message as it came, compressed if it was. What a request rejects is told as partial
//! success; overload is `UNAVAILABLE` with `RetryInfo` (gRPC) or 503 with `Retry-After` (HTTP); a body above its cap is
//! `RESOURCE_EXHAUSTED` without `RetryInfo`, or 413, which clients do not retry.
//!
//! Source: opentelemetry-proto `docs/specification.md`, and gRPC's `PROTOCOL-HTTP2.md` for the framing of unary calls,
//! which is read here by hand so that caps hold before and after decompression and nothing is copied.

mod grpc;
mod http_face;

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::{logs, metrics, trace};
use prost::Message;

use super::{Intake, decode_aside};
use crate::decode::{self, Context, Decoded, Kind, Reason};
use crate::ingest::{Received, Refused};
use crate::model::{Clock, Signal};
use crate::net::Encoding;
use crate::net::body::Caps;

pub use grpc::router as grpc_router;
pub use http_face::router as http_router;

/// The receiver's name in the ledger and metrics.
const RECEIVER: &str = "otlp";

/// Settings; each with its default.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Bytes of a request on the wire (16 MiB).
    pub max_body_bytes: usize,
    /// Bytes of a request after decompression (64 MiB, the specification's recommendation).
    pub max_inflated_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_body_bytes: 16 << 20,
            max_inflated_bytes: 64 << 20,
        }
    }
}

/// What both transports share.
#[derive(Debug)]
pub struct Receiver {
    config: Config,
    intake: Arc<dyn Intake>,
    clock: Arc<dyn Clock>,
}

/// How a message is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Protobuf,
    Json,
}

/// One message as it came and inflated.
#[derive(Debug)]
struct Export {
    signal: Signal,
    form: Form,
    raw: Bytes,
    inflated: Bytes,
    encoding: Encoding,
}

/// What was not taken, for the client.
#[derive(Debug, Default, PartialEq, Eq)]
struct PartialSuccess {
    rejected: i64,
    message: String,
}

/// Why nothing was taken.
#[derive(Debug)]
enum Failure {
    /// The client's mistake: no retry.
    Bad(String),
    /// Above a cap: no retry.
    TooLarge(String),
    /// A retry helps.
    Overloaded { retry_after: std::time::Duration, message: String },
}

impl Receiver {
    /// A receiver that hands over to `intake`.
    pub fn new(config: Config, intake: Arc<dyn Intake>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { config, intake, clock })
    }

    fn caps(&self) -> Caps {
        Caps {
            max_body_bytes: self.config.max_body_bytes,
            max_inflated_bytes: self.config.max_inflated_bytes,
        }
    }

    /// Counts a request that was not even decoded.
    fn reject(&self, signal: Signal, reason: Reason) {
        self.intake.ledger().rejected(RECEIVER, signal, reason, 1);
    }

    /// Decodes, makes durable, and says what was left out.
    async fn export(&self, export: Export) -> Result<PartialSuccess, Failure> {
        let Export {
            signal,
            form,
            raw,
            inflated,
            encoding,
        } = export;
        let kind = match (signal, form) {
            (Signal::Logs, Form::Protobuf) => Kind::OtlpLogs,
            (Signal::Traces, Form::Protobuf) => Kind::OtlpTraces,
            (Signal::Metrics, Form::Protobuf) => Kind::OtlpMetrics,
            (Signal::Logs, Form::Json) => Kind::OtlpLogsJson,
            (Signal::Traces, Form::Json) => Kind::OtlpTracesJson,
            (Signal::Metrics, Form::Json) => Kind::OtlpMetricsJson,
        };
        let context = Context {
            received_at_nanos: self.clock.now_nanos(),
            retention_days: self.intake.max_age_days(),
        };
        let decoded = decode_aside(inflated.len(), move || decode::decode(kind, &inflated, &context)).await;
        let decoded = decoded.map_err(|error| {
            let reason = error.reason();
            self.reject(signal, reason);
            match reason {
                Reason::TooLarge => Failure::TooLarge(error.to_string()),
                _ => Failure::Bad(error.to_string()),
            }
        })?;
        let partial = partial_success(&decoded);
        let received = Received {
            receiver: RECEIVER,
            signal,
            kind,
            context,
            body: raw,
            encoding,
        };
        match self.intake.accept(received, decoded).await {
            Ok(_) => Ok(partial),
            Err(Refused::Overloaded { retry_after, message }) => Err(Failure::Overloaded { retry_after, message }),
            Err(Refused::TooLarge(message)) => Err(Failure::TooLarge(message)),
            Err(Refused::Draining) => Err(Failure::Overloaded {
                retry_after: std::time::Duration::from_secs(5),
                message: "the server is stopping".into(),
            }),
        }
    }
}

fn partial_success(decoded: &Decoded) -> PartialSuccess {
    let rejected = decoded.rejected.iter().map(|rejected| rejected.count).sum::<u64>();
    let messages: Vec<String> = decoded
        .rejected
        .iter()
        .take(10)
        .map(|rejected| format!("{} × {}", rejected.count, rejected.message))
        .collect();
    PartialSuccess {
        rejected: i64::try_from(rejected).unwrap_or(i64::MAX),
        message: messages.join("; "),
    }
}

/// The response message of a signal, protobuf.
fn response(signal: Signal, partial: &PartialSuccess) -> Vec<u8> {
    let is_full = *partial == PartialSuccess::default();
    let error_message = partial.message.clone();
    match signal {
        Signal::Logs => logs::v1::ExportLogsServiceResponse {
            partial_success: (!is_full).then_some(logs::v1::ExportLogsPartialSuccess {
                rejected_log_records: partial.rejected,
                error_message,
            }),
        }
        .encode_to_vec(),
        Signal::Traces => trace::v1::ExportTraceServiceResponse {
            partial_success: (!is_full).then_some(trace::v1::ExportTracePartialSuccess {
                rejected_spans: partial.rejected,
                error_message,
            }),
        }
        .encode_to_vec(),
        Signal::Metrics => metrics::v1::ExportMetricsServiceResponse {
            partial_success: (!is_full).then_some(metrics::v1::ExportMetricsPartialSuccess {
                rejected_data_points: partial.rejected,
                error_message,
            }),
        }
        .encode_to_vec(),
    }
}

/// The same, JSON.
fn response_json(signal: Signal, partial: &PartialSuccess) -> serde_json::Value {
    if *partial == PartialSuccess::default() {
        return serde_json::json!({});
    }
    let member = match signal {
        Signal::Logs => "rejectedLogRecords",
        Signal::Traces => "rejectedSpans",
        Signal::Metrics => "rejectedDataPoints",
    };
    // int64 is a string in proto3 JSON
    serde_json::json!({ "partialSuccess": { member: partial.rejected.to_string(), "errorMessage": partial.message } })
}

#[cfg(test)]
mod tests;
