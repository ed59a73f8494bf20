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

use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::{logs, metrics, trace};
use prost::Message;

use super::answer::BUSY_RETRY_AFTER;
use super::awslogs::{Arrived, Registry, Written};
use super::{Intake, Undecoded, decode_within, inflate_aside};
use crate::access::Caller;
use crate::decode::http_events::Head;
use crate::decode::otlp::event_bytes;
use crate::decode::{Context, Decoded, Kind, Reason, envelope};
use crate::ingest::{Received, Refused};
use crate::model::{Clock, Signal, Table};
use crate::net::body::{self, Body, Caps};
use crate::net::{Budget, Share};

pub use grpc::router as grpc_router;
pub use http_face::{or_signed, router as http_router};

/// Days that a record for a log stream may be old, as with `PutLogEvents`.
const MAX_EVENT_DAYS: i32 = 14;
/// The receiver's name in the ledger and metrics.
const RECEIVER: &str = "otlp";

/// Settings; each with its default.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Bytes of a request on the wire (64 MiB): as many as after decompression, since not all clients compress.
    pub max_body_bytes: usize,
    /// Bytes of a request after decompression (64 MiB, the specification's recommendation).
    pub max_inflated_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_body_bytes: 64 << 20,
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
    budget: Arc<Budget>,
    /// Where the log streams are that requests may name.
    log_groups: Option<Arc<Registry>>,
}

/// How a message is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Protobuf,
    Json,
}

/// One message as it came.
#[derive(Debug)]
struct Export {
    signal: Signal,
    form: Form,
    body: Body,
    /// The log stream that it is for, where it names one, and who sent it.
    stream: Option<(Head, Caller)>,
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
    /// The log stream is not there, or not open to the caller: no retry.
    Unplaced(StatusCode, String),
    /// A retry helps.
    Overloaded { retry_after: std::time::Duration, message: String },
}

impl Receiver {
    /// A receiver that hands over to `intake`; requests hold memory out of `budget`.
    pub fn new(config: Config, intake: Arc<dyn Intake>, clock: Arc<dyn Clock>, budget: Arc<Budget>) -> Arc<Self> {
        Self::over(config, intake, clock, budget, None)
    }

    /// The same, for requests too that name a log stream of CloudWatch Logs in their headers.
    pub fn with_log_groups(config: Config, intake: Arc<dyn Intake>, clock: Arc<dyn Clock>, budget: Arc<Budget>, log_groups: Arc<Registry>) -> Arc<Self> {
        Self::over(config, intake, clock, budget, Some(log_groups))
    }

    fn over(config: Config, intake: Arc<dyn Intake>, clock: Arc<dyn Clock>, budget: Arc<Budget>, log_groups: Option<Arc<Registry>>) -> Arc<Self> {
        Arc::new(Self {
            config,
            intake,
            clock,
            budget,
            log_groups,
        })
    }

    /// What a request that begins holds.
    fn share(&self) -> Share {
        self.budget.share()
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

    /// Counts a body that could not be had, and says what its client is told, where both transports say the same.
    fn unread(&self, signal: Signal, error: &body::Error) -> Option<Failure> {
        if error.is_busy() || error.is_interrupted() {
            self.intake.ledger().refused(RECEIVER, signal, 1);
            return Some(Failure::Overloaded {
                retry_after: BUSY_RETRY_AFTER,
                message: error.to_string(),
            });
        }
        let is_too_large = error.is_too_large();
        self.reject(signal, if is_too_large { Reason::TooLarge } else { Reason::Malformed });
        is_too_large.then(|| Failure::TooLarge(error.to_string()))
    }

    /// What the client of a request is told that did not become rows.
    fn undecoded(&self, signal: Signal, error: &Undecoded) -> Failure {
        match error {
            Undecoded::Body(error) => self.unread(signal, error).unwrap_or_else(|| Failure::Bad(error.to_string())),
            Undecoded::Decode(error) => {
                self.reject(signal, error.reason());
                match error.reason() {
                    Reason::TooLarge => Failure::TooLarge(error.to_string()),
                    _ => Failure::Bad(error.to_string()),
                }
            }
        }
    }

    /// Decodes, makes durable, and says what was left out.
    async fn export(&self, export: Export) -> Result<PartialSuccess, Failure> {
        let Export { signal, form, body, stream } = export;
        let (raw, encoding) = (body.raw.clone(), body.encoding);
        let kind = match (signal, form) {
            (Signal::Logs, Form::Protobuf) if stream.is_some() => Kind::OtlpLogsOfStream,
            (Signal::Logs, Form::Json) if stream.is_some() => Kind::OtlpLogsOfStreamJson,
            (Signal::Logs, Form::Protobuf) => Kind::OtlpLogs,
            (Signal::Traces, Form::Protobuf) => Kind::OtlpTraces,
            (Signal::Metrics, Form::Protobuf) => Kind::OtlpMetrics,
            (Signal::Logs, Form::Json) => Kind::OtlpLogsJson,
            (Signal::Traces, Form::Json) => Kind::OtlpTracesJson,
            (Signal::Metrics, Form::Json) => Kind::OtlpMetricsJson,
        };
        let now_nanos = self.clock.now_nanos();
        let context = match &stream {
            Some((head, caller)) => self.place(caller, head, now_nanos).inspect_err(|_| self.reject(signal, Reason::NotFound))?,
            None => Context {
                received_at_nanos: now_nanos,
                retention_days: self.intake.max_age_days(),
            },
        };
        let head = stream.map(|(head, _)| head);
        let sealing = head.clone();
        let decoded = inflate_aside(body, move |inflated, share| {
            let Some(head) = sealing else {
                return Ok::<_, Undecoded>((decode_within(share, kind, &inflated, &context)?, raw, encoding));
            };
            share.hold_also(2 * inflated.len()).map_err(body::Error::from)?;
            let sealed = envelope::seal(&head, &raw, &inflated, encoding)?;
            Ok((decode_within(share, kind, &sealed.plain, &context)?, sealed.stored, sealed.encoding))
        });
        let ((decoded, raw, encoding), share) = decoded.await.map_err(|error| self.undecoded(signal, &error))?;
        let partial = partial_success(&decoded);
        let brought = head.and_then(|head| Some((head, written(&decoded, &context)?)));
        let received = Received {
            receiver: RECEIVER,
            signal,
            kind,
            context,
            body: raw,
            encoding,
            repeats_since_nanos: i64::MIN,
            share: Some(share),
        };
        let accepted = match (brought, &self.log_groups) {
            (Some((head, written)), Some(log_groups)) => {
                let streams = Arrived::from([((head.log_group, head.log_stream), written)]);
                log_groups.accept(received, decoded, streams).await
            }
            _ => self.intake.accept(received, decoded).await,
        };
        match accepted {
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

impl Receiver {
    /// See [`Registry::token_refusal`].
    fn token_refusal(&self, head: &Head, headers: &HeaderMap) -> Option<String> {
        self.log_groups.as_ref()?.token_refusal(&head.log_group, headers)
    }

    /// What decoding records of a stream needs to know. They may be as old as their group's retention says, and 14 days at most.
    fn place(&self, caller: &Caller, head: &Head, now_nanos: i64) -> Result<Context, Failure> {
        let Some(log_groups) = &self.log_groups else {
            return Err(Failure::Bad("there are no log groups here".into()));
        };
        let mut context = log_groups
            .place(caller, head, now_nanos)
            .map_err(|(status, message)| Failure::Unplaced(status, message))?;
        context.retention_days = match context.retention_days {
            0 => MAX_EVENT_DAYS,
            days => days.min(MAX_EVENT_DAYS),
        };
        Ok(context)
    }
}

/// What a request brought to its stream, if anything.
fn written(decoded: &Decoded, context: &Context) -> Option<Written> {
    let rows = decoded.batch.rows.iter().find(|rows| rows.table() == Table::Logs)?;
    let (first, last) = rows.time_bounds()?;
    Some(Written {
        first_event_millis: first.div_euclid(1_000_000),
        last_event_millis: last.div_euclid(1_000_000),
        received_millis: context.received_at_nanos.div_euclid(1_000_000),
        bytes: event_bytes(rows) as u64,
    })
}

fn partial_success(decoded: &Decoded) -> PartialSuccess {
    let rejected = decoded.rejected.iter().map(|rejected| rejected.count).sum::<u64>();
    // of all senders together; the words are those for the first
    let mut by_reason: Vec<(Reason, u64, &str)> = Vec::new();
    for rejected in &decoded.rejected {
        match by_reason.iter_mut().find(|(reason, ..)| *reason == rejected.reason) {
            Some((_, count, _)) => *count += rejected.count,
            None => by_reason.push((rejected.reason, rejected.count, &rejected.message)),
        }
    }
    let messages: Vec<String> = by_reason.iter().map(|(_, count, message)| format!("{count} × {message}")).collect();
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
