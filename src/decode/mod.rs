//! Bytes of a protocol to a [`Batch`], pure: no I/O, no clock, no await.
//!
//! In: the body of one request, inflated, and when it was received. Out: [`Decoded`], the rows that were understood and
//! a list of what was not, each with its reason; or [`Error`] when the bytes as a whole are not what they claim to be.
//! The same bytes with the same [`Context`] always give the same rows: the log keeps requests as they came, and replay
//! after a crash decodes them again. Times that a record lacks are filled from `received_at`.
//!
//! Decoding has two steps. [`weigh`] looks at the bytes and tells what decoding them will take in memory, or refuses
//! what holds more than a request may; [`Weighed::decode`] does it. Between the two a receiver sets the memory aside.

mod at_most;
pub mod awslogs;
pub mod cloudwatch;
pub mod collected;
pub mod envelope;
pub mod firehose;
pub mod http_events;
mod identity;
pub mod otlp;
pub mod put_metric_data;
mod text;
mod window;
pub mod xray;

pub use window::MAX_AHEAD_NANOS;

use std::collections::HashMap;

use arrow::array::Array;

use crate::model::{self, Batch, Rows, Signal};

pub use at_most::AtMost;
pub use identity::{Identity, IdentityBuilder};

/// Records of one request: log records, spans, metric points.
pub const MAX_RECORDS: usize = (1 << 20) - 1;
/// Other parts of one OTLP request that take memory of their own: resources, scopes, metrics, attributes, items of
/// array values, events, links, exemplars, quantiles. One for each 16 bytes of a body of 64 MiB.
pub const MAX_PARTS: usize = 4 << 20;

/// The attribute of a span that lists which of its others are annotations to X-Ray: a JSON array of keys.
pub const ANNOTATIONS: &str = "aws.xray.annotations";
/// The attribute that lists those annotations which came as text and read otherwise (`"007"`, `"true"`): the store keeps text alone.
pub const TEXT_ANNOTATIONS: &str = "aws.xray.annotations.text";

/// Whether a text would be taken for a value of another type.
fn reads_otherwise(text: &str) -> bool {
    !matches!(serde_json::from_str::<serde_json::Value>(text), Err(_) | Ok(serde_json::Value::Null))
}

/// What a body is; stored in the log as a number, so values are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// `ExportLogsServiceRequest`, protobuf.
    OtlpLogs = 1,
    /// `ExportTraceServiceRequest`, protobuf.
    OtlpTraces = 2,
    /// `ExportMetricsServiceRequest`, protobuf.
    OtlpMetrics = 3,
    /// `ExportLogsServiceRequest`, JSON.
    OtlpLogsJson = 4,
    /// `ExportTraceServiceRequest`, JSON.
    OtlpTracesJson = 5,
    /// `ExportMetricsServiceRequest`, JSON.
    OtlpMetricsJson = 6,
    /// CloudWatch Logs `PutLogEvents`, JSON.
    PutLogEvents = 7,
    /// X-Ray segment documents: a JSON array of strings, each one document (as in `TraceSegmentDocuments`).
    XraySegments = 8,
    /// Rows that tracelake writes itself (alert evaluations): an Arrow IPC stream of one table.
    Own = 9,
    /// Our own log lines: `ExportLogsServiceRequest`, protobuf.
    SelfLogs = 10,
    /// Our own spans: `ExportTraceServiceRequest`, protobuf.
    SelfTraces = 11,
    /// Our own metrics: `ExportMetricsServiceRequest`, protobuf.
    SelfMetrics = 12,
    /// A delivery of Firehose to an HTTP endpoint, JSON, behind the line that [`mod@firehose`] puts before it.
    Firehose = 13,
    /// CloudWatch `PutMetricData`, query form.
    PutMetricDataQuery = 14,
    /// The same, JSON.
    PutMetricDataJson = 15,
    /// The same, CBOR.
    PutMetricDataCbor = 16,
    /// `/services/collector/event` of CloudWatch Logs, JSON, behind the line that [`mod@http_events`] puts before it.
    HttpCollector = 17,
    /// `/ingest/bulk`, the same.
    HttpLines = 18,
    /// `/ingest/json`, the same.
    HttpJson = 19,
    /// Events pulled out of CloudWatch Logs, JSON of our own ([`mod@collected`]).
    Collected = 20,
    /// `ExportLogsServiceRequest`, protobuf, for one log stream, behind the line that names it ([`otlp::logs_of_stream`]).
    OtlpLogsOfStream = 21,
    /// The same, JSON.
    OtlpLogsOfStreamJson = 22,
}

impl Kind {
    /// Whether it brings events into log streams by name: what is known of those is told by its frames.
    pub fn writes_streams(self) -> bool {
        use Kind::*;
        matches!(
            self,
            PutLogEvents | Firehose | HttpCollector | HttpLines | HttpJson | Collected | OtlpLogsOfStream | OtlpLogsOfStreamJson
        )
    }

    /// Reads the number back.
    pub fn from_u8(number: u8) -> Option<Kind> {
        use Kind::*;
        [
            OtlpLogs,
            OtlpTraces,
            OtlpMetrics,
            OtlpLogsJson,
            OtlpTracesJson,
            OtlpMetricsJson,
            PutLogEvents,
            XraySegments,
            Own,
            SelfLogs,
            SelfTraces,
            SelfMetrics,
            Firehose,
            PutMetricDataQuery,
            PutMetricDataJson,
            PutMetricDataCbor,
            HttpCollector,
            HttpLines,
            HttpJson,
            Collected,
            OtlpLogsOfStream,
            OtlpLogsOfStreamJson,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == number)
    }

    /// The receiver that takes this kind, and what it carries, if that is not told by its rows.
    pub fn origin(self) -> (&'static str, Signal) {
        match self {
            Kind::OtlpLogs | Kind::OtlpLogsJson | Kind::OtlpLogsOfStream | Kind::OtlpLogsOfStreamJson => ("otlp", Signal::Logs),
            Kind::OtlpTraces | Kind::OtlpTracesJson => ("otlp", Signal::Traces),
            Kind::OtlpMetrics | Kind::OtlpMetricsJson => ("otlp", Signal::Metrics),
            Kind::PutLogEvents | Kind::HttpCollector | Kind::HttpLines | Kind::HttpJson => ("awslogs", Signal::Logs),
            Kind::Collected => ("collect", Signal::Logs),
            Kind::XraySegments => ("xray", Signal::Traces),
            Kind::Own => ("own", Signal::Logs),
            Kind::SelfLogs => ("self", Signal::Logs),
            Kind::SelfTraces => ("self", Signal::Traces),
            Kind::SelfMetrics => ("self", Signal::Metrics),
            Kind::Firehose => ("firehose", Signal::Logs),
            Kind::PutMetricDataQuery | Kind::PutMetricDataJson | Kind::PutMetricDataCbor => ("awsmetrics", Signal::Metrics),
        }
    }
}

/// What a decoder may know besides the bytes. Kept in the log beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// When the request arrived, nanoseconds since the epoch.
    pub received_at_nanos: i64,
    /// `PutLogEvents`: the group's retention; 0 = never expires. OTLP, X-Ray and Firehose: records older than so many days, or more
    /// than [`MAX_AHEAD_NANOS`] in the future, are rejected; 0 = any time is taken. Own rows: 0.
    pub retention_days: i32,
}

/// What was read and what was not.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The rows.
    pub batch: Batch,
    /// What was refused for good, one entry a reason (and, where the protocol answers per item, one an item).
    pub rejected: Vec<Rejected>,
    /// The same of metric points, where a request may carry those beside records of the signal that its protocol is for.
    pub rejected_points: Vec<Rejected>,
    /// What a repetition of the request has too; none where the protocol's requests cannot be told apart.
    pub identity: Option<Identity>,
}

/// Records that retrying will not help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// How many.
    pub count: u64,
    /// Why, from a closed list: the `reason` label in metrics and the ledger.
    pub reason: Reason,
    /// For the client: names the field and what was expected.
    pub message: String,
    /// The item's position in the request, where the protocol answers per item.
    pub index: Option<usize>,
    /// Whose they were, where that was read before they were rejected.
    pub sender: Option<Sender>,
}

/// Senders of one request whose rejected records are told apart; those of others have none.
const MAX_SENDERS: usize = 100;

/// Rejected records of one request, gathered by sender and reason; the message is that of the first.
#[derive(Debug, Default)]
pub(crate) struct Rejections {
    rejected: Vec<Rejected>,
    /// Where each is.
    places: HashMap<(Option<Sender>, Reason), usize>,
}

impl Rejections {
    /// `count` more.
    pub(crate) fn add(&mut self, sender: Option<&Sender>, count: u64, reason: Reason, message: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        let mut key = (sender.cloned(), reason);
        if !self.places.contains_key(&key) && self.places.len() >= MAX_SENDERS {
            key.0 = None;
        }
        match self.places.get(&key) {
            Some(place) => self.rejected[*place].count += count,
            None => {
                self.rejected.push(Rejected {
                    count,
                    reason,
                    message: message(),
                    index: None,
                    sender: key.0.clone(),
                });
                self.places.insert(key, self.rejected.len() - 1);
            }
        }
    }

    /// In order of the first of each.
    pub(crate) fn finish(self) -> Vec<Rejected> {
        self.rejected
    }
}

/// What records call their sender; with the receiver and the signal a source of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sender {
    /// `service.name`; empty where they name none.
    pub service: String,
    /// The log group; empty where they name none.
    pub log_group: String,
}

impl Sender {
    /// Of the records under a context.
    pub fn of(context: &model::Context) -> Sender {
        Sender {
            service: context.service_name().unwrap_or_default().into(),
            log_group: context.column("aws_log_group").unwrap_or_default().into(),
        }
    }

    /// Of one row; rows without contexts name their service each.
    pub fn of_row(rows: &Rows, row: usize) -> Sender {
        if let Some(context) = rows.context(row) {
            return Sender::of(context);
        }
        let services = rows.services().filter(|services| services.is_valid(row));
        let service = services.map(|services| services.value(row).to_string());
        Sender {
            service: service.unwrap_or_default(),
            log_group: String::new(),
        }
    }
}

/// Why a record was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The request as a whole was not decodable or broke a rule of its protocol.
    Malformed,
    /// The body or the batch was above its cap.
    TooLarge,
    /// Older than the protocol takes.
    TooOld,
    /// Older than its log group's retention.
    Expired,
    /// Further in the future than the protocol takes.
    TooNew,
    /// A trace ID that is missing, of a wrong length or zero.
    InvalidTraceId,
    /// A span ID that is missing, of a wrong length or zero.
    InvalidSpanId,
    /// A time that is missing or outside what nanoseconds since the epoch can hold.
    InvalidTime,
    /// A document or record that lacks a required field or has one of a wrong type.
    InvalidField,
    /// The caller may not do this.
    Unauthorized,
    /// The named log group or stream does not exist.
    NotFound,
}

impl Reason {
    /// The label.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::TooLarge => "too_large",
            Reason::TooOld => "too_old",
            Reason::Expired => "expired",
            Reason::TooNew => "too_new",
            Reason::InvalidTraceId => "invalid_trace_id",
            Reason::InvalidSpanId => "invalid_span_id",
            Reason::InvalidTime => "invalid_time",
            Reason::InvalidField => "invalid_field",
            Reason::Unauthorized => "unauthorized",
            Reason::NotFound => "not_found",
        }
    }
}

/// The bytes as a whole are not what they claim to be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Protobuf that ends early or has a wrong wire type.
    #[error("invalid protobuf in {message}: {detail} at byte {offset}")]
    Protobuf {
        /// The message being read.
        message: &'static str,
        /// What is wrong.
        detail: String,
        /// Where.
        offset: usize,
    },
    /// Text that is not JSON, or JSON of another shape.
    #[error("invalid JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A rule of the protocol that makes the whole request invalid; the message is for the client.
    #[error("{0}")]
    Invalid(String),
    /// More of something than one request may hold.
    #[error("the request has more than {max} {what}, which is the most that one request may have")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// There is no memory for what is being made of the request.
    #[error(transparent)]
    Exhausted(#[from] crate::net::Exhausted),
    /// A column overflowed or a builder was misused.
    #[error("cannot build columns: {0}")]
    Columns(#[from] arrow::error::ArrowError),
}

impl Error {
    /// Why a request with this error is rejected.
    pub fn reason(&self) -> Reason {
        match self {
            Error::TooMany { .. } => Reason::TooLarge,
            _ => Reason::Malformed,
        }
    }
}

/// A body that may be decoded, and what that takes.
#[derive(Clone, Copy, Debug)]
pub struct Weighed<'a> {
    kind: Kind,
    body: &'a [u8],
    memory_bytes: usize,
}

/// Looks at a body before anything is made of it. [`Error::TooMany`] when it holds more than a request may.
pub fn weigh(kind: Kind, body: &[u8]) -> Result<Weighed<'_>, Error> {
    // the lists of the other protocols are bounded as they are read, and each of their bytes makes a few at the most
    let memory_bytes = match kind {
        Kind::Firehose => firehose::weigh(body)?,
        Kind::PutMetricDataQuery | Kind::PutMetricDataJson | Kind::PutMetricDataCbor => put_metric_data::weigh(kind, body),
        Kind::OtlpLogsOfStream | Kind::OtlpLogsOfStreamJson => otlp::weigh_of_stream(kind, body)?,
        // documents are in memory as rows and once more as the texts that are kept, which double as they grow
        Kind::XraySegments => 11 * body.len(),
        kind => otlp::weigh(kind, body)?.unwrap_or(8 * body.len()),
    };
    Ok(Weighed { kind, body, memory_bytes })
}

impl Weighed<'_> {
    /// About how many bytes of memory decoding takes beside the body.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// The rows.
    pub fn decode(self, context: &Context) -> Result<Decoded, Error> {
        let body = self.body;
        let decoded = match self.kind {
            Kind::OtlpLogs | Kind::SelfLogs => otlp::logs(body, context),
            Kind::OtlpLogsOfStream | Kind::OtlpLogsOfStreamJson => otlp::logs_of_stream(self.kind, body, context),
            Kind::OtlpTraces | Kind::SelfTraces => otlp::traces(body, context),
            Kind::OtlpMetrics | Kind::SelfMetrics => otlp::metrics(body, context),
            Kind::OtlpLogsJson => otlp::logs_json(body, context),
            Kind::OtlpTracesJson => otlp::traces_json(body, context),
            Kind::OtlpMetricsJson => otlp::metrics_json(body, context),
            // these two know their windows, and tell which item lies outside
            Kind::PutLogEvents => return awslogs::put_log_events(body, context),
            Kind::XraySegments => return xray::segments(body, context),
            Kind::Firehose => return firehose::deliveries(body, context, &mut |_| Ok(())).map(|(decoded, _)| decoded),
            kind @ (Kind::HttpCollector | Kind::HttpLines | Kind::HttpJson) => {
                return http_events::http_events(kind, body, context).map(|(decoded, _)| decoded);
            }
            kind @ (Kind::PutMetricDataQuery | Kind::PutMetricDataJson | Kind::PutMetricDataCbor) => {
                return put_metric_data::put_metric_data(kind, body, context);
            }
            Kind::Collected => return collected::collected(body, context),
            Kind::Own => return own(body),
        };
        Ok(window::keep_inside(decoded?, context)?)
    }
}

/// Both steps at once, for any kind of body; what replay does again.
pub fn decode(kind: Kind, body: &[u8], context: &Context) -> Result<Decoded, Error> {
    weigh(kind, body)?.decode(context)
}

/// Rows that tracelake wrote itself: see [`Kind::Own`].
fn own(body: &[u8]) -> Result<Decoded, Error> {
    let (mut rest, mut rows) = (body, Vec::new());
    // one stream a table
    while rows.is_empty() || !rest.is_empty() {
        let reader = arrow::ipc::reader::StreamReader::try_new(&mut rest, None)?;
        let table = reader.schema().metadata().get("table").and_then(|name| model::Table::from_name(name));
        let table = table.ok_or_else(|| Error::Invalid("own rows name no table".into()))?;
        let parts = reader.map(|batch| model::from_stored(table, &batch?)).collect::<Result<Vec<_>, _>>()?;
        rows.push(Rows::concat(table, &parts)?);
    }
    Ok(Decoded {
        batch: Batch { rows },
        ..Decoded::default()
    })
}
