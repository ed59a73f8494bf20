//! X-Ray as a server: what the daemon, the SDKs and exporters call to write, and the daemon's own datagrams.
//!
//! REST-JSON, all `POST`: on the HTTP port, and on TCP 2000, where SDKs expect the daemon's proxy and send unsigned
//! calls ([`super::signed`] says which are taken where access keys are configured). Datagrams on UDP 2000 are in [`udp`].
//!
//! | path | call | answer |
//! |---|---|---|
//! | `/TraceSegments` | `PutTraceSegments` | 200; documents that were rejected in `UnprocessedTraceSegments`, the others are durable |
//! | `/TelemetryRecords` | `PutTelemetryRecords` | counted in metrics |
//! | `/GetSamplingRules`, `/CreateSamplingRule`, … | sampling rules | those of the configuration file, of the API, and `Default` ([`sampling`]) |
//! | `/SamplingTargets` | `GetSamplingTargets` | each client's share ([`sampling`]) |
//! | `/SamplingStatisticSummaries` | `GetSamplingStatisticSummaries` | what clients said in the last hour |
//! | `/StartTraceRetrieval`, `/ListRetrievedTraces`, `/CancelTraceRetrieval` | retrievals | traces by ID, page by page ([`retrieval`]) |
//! | `/Groups`, `/CreateGroup`, … | groups | names for filter expressions ([`groups`]) |
//! | `/TagResource`, … | tags | of groups and sampling rules ([`tags`]) |
//! | `/EncryptionConfig`, `/InsightSummaries`, … | what is asked in passing | as it is here ([`passing`]) |
//! | `/Traces` | `BatchGetTraces` | up to five traces, whatever protocol their spans came by, as segment documents ([`reads`]) |
//! | `/TraceSummaries` | `GetTraceSummaries` | summaries of the traces of a time that a filter expression lets through |
//! | `/ServiceGraph`, `/TraceGraph` | `GetServiceGraph`, `GetTraceGraph` | services, and who calls whom ([`graph`]) |
//! | `/TimeSeriesServiceStatistics` | `GetTimeSeriesServiceStatistics` | figures of a service or an edge, by minute or longer |
//!
//! Errors: `InvalidRequestException` 400 (413 above the body cap), `ThrottledException` 429 at a bound of the write path,
//! which every SDK retries.

mod definitions;
mod drawn;
mod groups;
mod passing;
mod reads;
mod retrieval;
mod graph;
mod sampling;
mod summaries;
mod tags;
pub mod udp;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use drawn::Drawn;
use groups::Groups;
use retrieval::Retrievals;
use sampling::Sampling;
pub use sampling::{DEFAULT_RULE, SamplingRule};

use super::Intake;
use super::answer::{self, BUSY_RETRY_AFTER, BodyFault, Failure, REST_JSON, Refusal};
use super::signed::{Face, Gate, guarded};
use super::{Undecoded, decode_within, inflate_aside, metrics, read};
use crate::access::Asked;
use crate::assemble::Graphs;
use crate::decode::{self, AtMost, Context, Decoded, Kind, Reason, xray};
use crate::ingest::{Facts, Received, Refused};
use crate::model::{Clock, Signal};
use crate::net::{Budget, Share, body};
use crate::query::Engine;

/// The receiver's name in the ledger and in metrics.
pub const RECEIVER: &str = "xray";
/// Telemetry records of one call; a daemon sends one a minute and keeps a few while it cannot.
const MAX_TELEMETRY_RECORDS: usize = 1_000;

/// Settings; each with its default.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Bytes of a body, on the wire and inflated (8 MiB): 50 documents of 64 KiB, each quote escaped.
    pub max_body_bytes: usize,
    /// Bytes of documents from datagrams that may wait for the write path (32 MiB); more are dropped and counted.
    pub udp_queue_bytes: usize,
    /// Bytes the kernel is asked to hold for us (8 MiB); `net.core.rmem_max` may give less.
    pub udp_kernel_buffer_bytes: usize,
    /// Sampling rules beside `Default`, or `Default` itself to change it (none).
    pub sampling_rules: Vec<SamplingRule>,
    /// Sampling rules that the API may define (25, as at AWS); more are refused with `RuleLimitExceededException`.
    pub max_sampling_rules: usize,
    /// Groups (25, as at AWS); more are refused with `InvalidRequestException`.
    pub max_groups: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_body_bytes: 8 << 20,
            udp_queue_bytes: 32 << 20,
            udp_kernel_buffer_bytes: 8 << 20,
            sampling_rules: vec![],
            max_sampling_rules: 25,
            max_groups: 25,
        }
    }
}

impl Config {
    /// What is wrong with the settings, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = sampling::problems(&self.sampling_rules);
        if self.max_body_bytes < 1 << 20 {
            problems.push(format!("xray.max_body_bytes: {} is below 1 MiB", self.max_body_bytes));
        }
        if self.udp_queue_bytes < 1 << 20 {
            problems.push(format!("xray.udp_queue_bytes: {} is below 1 MiB", self.udp_queue_bytes));
        }
        problems
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A member is missing or of a wrong form, or the body is not JSON.
    #[error("{0}")]
    InvalidRequest(String),
    /// The body is above its cap.
    #[error("{0}")]
    TooLarge(String),
    /// The body did not arrive.
    #[error("{0}")]
    Interrupted(String),
    /// The write path is full or draining.
    #[error("{message}")]
    Throttled {
        /// Why.
        message: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// A resource that is named does not exist.
    #[error("{message}")]
    NotFound {
        /// What is missing.
        message: String,
        /// Its name.
        resource: String,
    },
    /// A resource would have more tags than it may.
    #[error("{message}")]
    TooManyTags {
        /// How many.
        message: String,
        /// Its name.
        resource: String,
    },
    /// There are as many sampling rules as there may be.
    #[error("{0}")]
    RuleLimit(String),
    /// The operation is not served.
    #[error("{0}")]
    UnknownOperation(String),
    /// Our fault.
    #[error("{0}")]
    Internal(String),
}
/// This module's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<decode::Error> for Error {
    fn from(error: decode::Error) -> Self {
        match error {
            decode::Error::Json(_) | decode::Error::Invalid(_) => Error::InvalidRequest(error.to_string()),
            decode::Error::TooMany { .. } => Error::TooLarge(error.to_string()),
            other => Error::Internal(other.to_string()),
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match Refusal::from(refused) {
            Refusal::Busy { message, retry_after } => Error::Throttled { message, retry_after },
            Refusal::TooLarge(message) => Error::TooLarge(message),
        }
    }
}

/// The one place that decides status and name.
fn failure(error: &Error) -> Failure {
    let (status, name) = match error {
        Error::InvalidRequest(_) => (StatusCode::BAD_REQUEST, "InvalidRequestException"),
        Error::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "InvalidRequestException"),
        Error::Interrupted(_) => (StatusCode::REQUEST_TIMEOUT, "RequestTimeoutException"),
        Error::Throttled { .. } => (StatusCode::TOO_MANY_REQUESTS, "ThrottledException"),
        Error::NotFound { .. } => (StatusCode::NOT_FOUND, "ResourceNotFoundException"),
        Error::TooManyTags { .. } => (StatusCode::BAD_REQUEST, "TooManyTagsException"),
        Error::RuleLimit(_) => (StatusCode::BAD_REQUEST, "RuleLimitExceededException"),
        Error::UnknownOperation(_) => (StatusCode::NOT_FOUND, "UnknownOperationException"),
        Error::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure"),
    };
    let mut failure = Failure::new(status, name, error.to_string());
    match error {
        Error::Throttled { retry_after, .. } => failure.retry_after = Some(*retry_after),
        Error::NotFound { resource, .. } | Error::TooManyTags { resource, .. } => failure.members = vec![("ResourceName", resource.as_str().into())],
        _ => {}
    }
    failure
}

/// The receiver of calls.
#[derive(Debug)]
pub struct Receiver {
    config: Config,
    intake: Arc<dyn Intake>,
    clock: Arc<dyn Clock>,
    budget: Arc<Budget>,
    sampling: Sampling,
    groups: Groups,
    retrievals: Retrievals,
    drawn: Drawn,
    engine: OnceLock<Engine>,
    graphs: OnceLock<Graphs>,
}

impl Receiver {
    /// A receiver; `arns` holds the region and the account of ARNs. Requests hold memory out of `budget`.
    pub fn new(config: Config, arns: (&str, &str), intake: Arc<dyn Intake>, clock: Arc<dyn Clock>, budget: Arc<Budget>) -> Arc<Self> {
        let (region, account_id) = arns;
        let arn = |kind: &str| format!("arn:aws:xray:{region}:{account_id}:{kind}/");
        Arc::new(Self {
            sampling: Sampling::open(
                &config.sampling_rules,
                config.max_sampling_rules,
                arn("sampling-rule"),
                intake.clone(),
                clock.now_nanos(),
            ),
            groups: Groups::open(config.max_groups, arn("group"), intake.clone()),
            retrievals: Retrievals::default(),
            drawn: Drawn::default(),
            config,
            intake,
            clock,
            budget,
            engine: OnceLock::new(),
            graphs: OnceLock::new(),
        })
    }

    /// Answers reads from `engine`; without one they fail.
    pub fn answer_from(&self, engine: Engine) {
        // a second one sees the same rows
        let _ = self.engine.set(engine);
    }

    /// Draws service graphs from `graphs`; without them those calls fail.
    pub fn draw_from(&self, graphs: Graphs) {
        let _ = self.graphs.set(graphs);
    }

    fn engine(&self) -> Result<&Engine> {
        self.engine.get().ok_or_else(|| Error::Internal("there is nothing to read from".into()))
    }
}

#[async_trait]
impl Facts for Receiver {
    fn prefixes(&self) -> Vec<&'static str> {
        vec![sampling::RULE_KEY, groups::GROUP_KEY]
    }
    async fn learn(&self, key: &str, value: &Bytes) {
        self.sampling.learn(key, value).await;
        self.groups.learn(key, value).await;
    }
}

/// What SDKs ask the daemon that they take the X-Ray port for.
const UNSIGNED: [&str; 2] = ["GetSamplingRules", "GetSamplingTargets"];

/// The paths of X-Ray, behind the gate. `is_daemon`: the router is for the daemon's port, on loopback.
pub fn router(receiver: Arc<Receiver>, gate: Arc<Gate>, is_daemon: bool) -> Router {
    let face = Face {
        receiver: RECEIVER,
        services: &["xray"],
        refused_status: StatusCode::FORBIDDEN,
        failure: |_, failure| answer::failure(REST_JSON, failure),
        unread: |fault| failure(&fault.into()),
        records: |asked: &Asked| (asked.action() == "xray:PutTraceSegments").then_some(Signal::Traces),
        checks_groups: false,
        unsigned: if is_daemon { &UNSIGNED } else { &[] },
        max_body_bytes: receiver.config.max_body_bytes,
    };
    guarded(calls(receiver), gate, face)
}

fn calls(receiver: Arc<Receiver>) -> Router {
    Router::new()
        .route("/TraceSegments", post(put_trace_segments))
        .route("/TelemetryRecords", post(put_telemetry_records))
        .route("/GetSamplingRules", post(get_sampling_rules))
        .route("/SamplingTargets", post(get_sampling_targets))
        .route("/Traces", post(batch_get_traces))
        .route("/TraceSummaries", post(get_trace_summaries))
        .route("/ServiceGraph", post(get_service_graph))
        .route("/TraceGraph", post(get_trace_graph))
        .route("/TimeSeriesServiceStatistics", post(get_time_series_service_statistics))
        .merge(defining_calls())
        .merge(passing_calls())
        .merge(retrieval_calls())
        .with_state(receiver)
}

/// A handler: the operation's name, and the method of [`Receiver`] that answers it.
macro_rules! call {
    ($operation:literal, $method:ident) => {
        post(|State(receiver): State<Arc<Receiver>>, request: Request<Body>| async move { answered($operation, receiver.$method(request).await) })
    };
}

/// What defines sampling rules and groups.
fn defining_calls() -> Router<Arc<Receiver>> {
    Router::new()
        .route("/CreateSamplingRule", call!("CreateSamplingRule", create_sampling_rule))
        .route("/UpdateSamplingRule", call!("UpdateSamplingRule", update_sampling_rule))
        .route("/DeleteSamplingRule", call!("DeleteSamplingRule", delete_sampling_rule))
        .route(
            "/SamplingStatisticSummaries",
            call!("GetSamplingStatisticSummaries", get_sampling_statistic_summaries),
        )
        .route("/CreateGroup", call!("CreateGroup", create_group))
        .route("/UpdateGroup", call!("UpdateGroup", update_group))
        .route("/DeleteGroup", call!("DeleteGroup", delete_group))
        .route("/GetGroup", call!("GetGroup", get_group))
        .route("/Groups", call!("GetGroups", get_groups))
        .route("/TagResource", call!("TagResource", tag_resource))
        .route("/UntagResource", call!("UntagResource", untag_resource))
        .route("/ListTagsForResource", call!("ListTagsForResource", list_tags_for_resource))
}

/// Traces by way of a retrieval.
fn retrieval_calls() -> Router<Arc<Receiver>> {
    Router::new()
        .route("/StartTraceRetrieval", call!("StartTraceRetrieval", start_trace_retrieval))
        .route("/ListRetrievedTraces", call!("ListRetrievedTraces", list_retrieved_traces))
        .route("/CancelTraceRetrieval", call!("CancelTraceRetrieval", cancel_trace_retrieval))
        .route("/GetRetrievedTracesGraph", call!("GetRetrievedTracesGraph", get_retrieved_traces_graph))
}

/// What is asked in passing.
fn passing_calls() -> Router<Arc<Receiver>> {
    Router::new()
        .route("/EncryptionConfig", call!("GetEncryptionConfig", get_encryption_config))
        .route("/PutEncryptionConfig", call!("PutEncryptionConfig", put_encryption_config))
        .route("/InsightSummaries", call!("GetInsightSummaries", get_insight_summaries))
        .route("/Insight", call!("GetInsight", get_insight))
        .route("/InsightEvents", call!("GetInsightEvents", get_insight))
        .route("/InsightImpactGraph", call!("GetInsightImpactGraph", get_insight))
        .route("/GetIndexingRules", call!("GetIndexingRules", get_indexing_rules))
        .route("/UpdateIndexingRule", call!("UpdateIndexingRule", update_indexing_rule))
        .route(
            "/GetTraceSegmentDestination",
            call!("GetTraceSegmentDestination", get_trace_segment_destination),
        )
        .route(
            "/UpdateTraceSegmentDestination",
            call!("UpdateTraceSegmentDestination", update_trace_segment_destination),
        )
        .route("/ListResourcePolicies", call!("ListResourcePolicies", list_resource_policies))
        .route("/PutResourcePolicy", call!("PutResourcePolicy", unserved))
        .route("/DeleteResourcePolicy", call!("DeleteResourcePolicy", unserved))
}

async fn put_trace_segments(State(receiver): State<Arc<Receiver>>, request: Request<Body>) -> Response<Body> {
    answered("PutTraceSegments", receiver.put_trace_segments(request).await)
}

async fn put_telemetry_records(State(receiver): State<Arc<Receiver>>, request: Request<Body>) -> Response<Body> {
    answered("PutTelemetryRecords", receiver.put_telemetry_records(request).await)
}

async fn get_sampling_rules(State(receiver): State<Arc<Receiver>>, request: Request<Body>) -> Response<Body> {
    answered("GetSamplingRules", receiver.get_sampling_rules(request).await)
}

async fn get_sampling_targets(State(receiver): State<Arc<Receiver>>, request: Request<Body>) -> Response<Body> {
    answered("GetSamplingTargets", receiver.get_sampling_targets(request).await)
}

async fn batch_get_traces(State(receiver): State<Arc<Receiver>>, request: Request<Body>) -> Response<Body> {
    answered("BatchGetTraces", receiver.batch_get_traces(request).await)
}

async fn get_trace_summaries(State(receiver): State<Arc<Receiver>>, request: Request<Body>) -> Response<Body> {
    answered("GetTraceSummaries", receiver.get_trace_summaries(request).await)
}

async fn get_service_graph(State(receiver): State<Arc<Receiver>>, request: Request<Body>) -> Response<Body> {
    answered("GetServiceGraph", receiver.get_service_graph(request).await)
}

async fn get_trace_graph(State(receiver): State<Arc<Receiver>>, request: Request<Body>) -> Response<Body> {
    answered("GetTraceGraph", receiver.get_trace_graph(request).await)
}

async fn get_time_series_service_statistics(State(receiver): State<Arc<Receiver>>, request: Request<Body>) -> Response<Body> {
    answered("GetTimeSeriesServiceStatistics", receiver.get_time_series_service_statistics(request).await)
}

fn answered(operation: &'static str, result: Result<Value>) -> Response<Body> {
    let response = match &result {
        Ok(value) => answer::success(REST_JSON, value),
        Err(error) => {
            if let Error::Internal(message) = error {
                tracing::error!(receiver = RECEIVER, operation, message, "a call failed");
            }
            answer::failure(REST_JSON, &failure(error))
        }
    };
    metrics::answered(RECEIVER, operation, response.status().as_u16());
    response
}

/// The members of `PutTelemetryRecords` that are counted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TelemetryRecords {
    telemetry_records: Option<AtMost<TelemetryRecord, MAX_TELEMETRY_RECORDS>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TelemetryRecord {
    timestamp: Option<Value>,
    segments_received_count: Option<u64>,
    segments_sent_count: Option<u64>,
    segments_spillover_count: Option<u64>,
    segments_rejected_count: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SamplingTargets {
    sampling_statistics_documents: Option<AtMost<sampling::Statistics, { sampling::MAX_STATISTICS }>>,
    sampling_boost_statistics_documents: Option<AtMost<sampling::BoostStatistics, { sampling::MAX_STATISTICS }>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Paged {
    next_token: Option<String>,
}

impl Receiver {
    /// The inflated body of a call that is not [`Receiver::put_trace_segments`], and its share.
    async fn body(&self, request: Request<Body>) -> Result<(Bytes, Share), BodyFault> {
        let body = read(request, self.config.max_body_bytes, self.budget.share()).await?;
        inflate_aside(body, |inflated, share| -> Result<_, body::Error> {
            // what is made of it, a few values for each of its bytes at the most
            share.hold_also(8 * inflated.len())?;
            Ok(inflated)
        })
        .await
        .map_err(BodyFault::from)
    }

    async fn put_trace_segments(&self, request: Request<Body>) -> Result<Value> {
        let ledger = self.intake.ledger();
        let unread = |fault: BodyFault| {
            fault.count(ledger, RECEIVER, Signal::Traces);
            Error::from(fault)
        };
        let body = read(request, self.config.max_body_bytes, self.budget.share())
            .await
            .map_err(|error| unread(error.into()))?;
        let context = Context {
            received_at_nanos: self.clock.now_nanos(),
            retention_days: self.intake.max_age_days(),
        };
        let (raw, encoding) = (body.raw.clone(), body.encoding);
        let prepared = inflate_aside(body, move |inflated, share| prepare(&inflated, &context, share)).await;
        let ((decoded, unprocessed), share) = prepared.map_err(|error| match error {
            Undecoded::Body(error) => unread(error.into()),
            Undecoded::Decode(error) => {
                ledger.rejected(RECEIVER, Signal::Traces, error.reason(), 1);
                Error::from(error)
            }
        })?;
        let received = Received {
            receiver: RECEIVER,
            signal: Signal::Traces,
            kind: Kind::XraySegments,
            context,
            body: raw,
            encoding,
            repeats_since_nanos: i64::MIN,
            share: Some(share),
        };
        self.intake.accept(received, decoded).await?;
        Ok(json!({ "UnprocessedTraceSegments": unprocessed }))
    }

    async fn put_telemetry_records(&self, request: Request<Body>) -> Result<Value> {
        let (body, _share) = self.body(request).await?;
        let call: TelemetryRecords = serde_json::from_slice(&body).map_err(|error| Error::InvalidRequest(error.to_string()))?;
        let records = call.telemetry_records.ok_or_else(|| missing("telemetryRecords"))?;
        let records = records.all().map_err(|n| too_many(n, "telemetry records", MAX_TELEMETRY_RECORDS))?;
        if records.iter().any(|record| record.timestamp.is_none()) {
            return Err(missing("telemetryRecords.member.timestamp"));
        }
        for record in &records {
            for (outcome, n) in [
                ("received", record.segments_received_count),
                ("sent", record.segments_sent_count),
                ("spillover", record.segments_spillover_count),
                ("rejected", record.segments_rejected_count),
            ] {
                metrics::daemon_segments(outcome, n.unwrap_or(0));
            }
        }
        Ok(json!({}))
    }

    /// The members of a call; a body without any is as good as none.
    pub(super) async fn call<T: serde::de::DeserializeOwned>(&self, request: Request<Body>) -> Result<T> {
        let (body, _share) = self.body(request).await?;
        let body: &[u8] = if body.trim_ascii().is_empty() { b"{}" } else { &body };
        serde_json::from_slice(body).map_err(|error| Error::InvalidRequest(error.to_string()))
    }

    async fn get_sampling_rules(&self, request: Request<Body>) -> Result<Value> {
        self.body(request).await?;
        Ok(self.sampling.rules())
    }

    async fn get_sampling_targets(&self, request: Request<Body>) -> Result<Value> {
        let call: SamplingTargets = self.call(request).await?;
        let statistics = call.sampling_statistics_documents.ok_or_else(|| missing("samplingStatisticsDocuments"))?;
        let statistics = statistics.all().map_err(|n| too_many(n, "statistics documents", sampling::MAX_STATISTICS))?;
        let boosts = call.sampling_boost_statistics_documents.map_or(Ok(vec![]), AtMost::all);
        let boosts = boosts.map_err(|n| too_many(n, "boost statistics documents", sampling::MAX_STATISTICS))?;
        statistics.iter().try_for_each(sampling::Statistics::check).map_err(Error::InvalidRequest)?;
        boosts.iter().try_for_each(sampling::BoostStatistics::check).map_err(Error::InvalidRequest)?;
        Ok(self.sampling.targets(&statistics, &boosts, self.clock.now_nanos()))
    }

    async fn get_sampling_statistic_summaries(&self, request: Request<Body>) -> Result<Value> {
        let call: Paged = self.call(request).await?;
        self.sampling.statistic_summaries(call.next_token.as_deref(), self.clock.now_nanos())
    }

    async fn create_sampling_rule(&self, request: Request<Body>) -> Result<Value> {
        let call: sampling::CreateSamplingRule = self.call(request).await?;
        self.sampling.create_rule(&call, self.clock.now_nanos()).await
    }

    async fn update_sampling_rule(&self, request: Request<Body>) -> Result<Value> {
        let call: sampling::UpdateSamplingRule = self.call(request).await?;
        self.sampling.update_rule(&call, self.clock.now_nanos()).await
    }

    async fn delete_sampling_rule(&self, request: Request<Body>) -> Result<Value> {
        let call: sampling::DeleteSamplingRule = self.call(request).await?;
        self.sampling.delete_rule(&call, self.clock.now_nanos()).await
    }
}

impl From<BodyFault> for Error {
    fn from(fault: BodyFault) -> Self {
        match fault {
            BodyFault::TooLarge(message) => Error::TooLarge(message),
            BodyFault::Unreadable(message) => Error::InvalidRequest(message),
            BodyFault::Interrupted(message) => Error::Interrupted(message),
            BodyFault::Busy(message) => Error::Throttled {
                message,
                retry_after: BUSY_RETRY_AFTER,
            },
        }
    }
}

fn missing(member: &str) -> Error {
    Error::InvalidRequest(format!(
        "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
    ))
}

/// A call all of whose answer is on one page gives no token, and is given none.
fn one_page(token: Option<&str>) -> Result<()> {
    token.map_or(Ok(()), |_| Err(Error::InvalidRequest("NextToken is not valid: there is one page".into())))
}

fn too_many(n: usize, what: &str, max: usize) -> Error {
    Error::InvalidRequest(format!("{n} {what} in one call, at most {max} are taken"))
}

/// The rows, and the answer's list of documents that gave none.
fn prepare(body: &[u8], context: &Context, share: &mut Share) -> Result<(Decoded, Vec<Value>), Undecoded> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(decode::Error::Invalid("the body is not a JSON object".into()).into());
    }
    let decoded = decode_within(share, Kind::XraySegments, body, context)?;
    if decoded.rejected.is_empty() {
        return Ok((decoded, vec![]));
    }
    let documents = xray::documents(body)?;
    let unprocessed = decoded
        .rejected
        .iter()
        .map(|rejected| {
            let document = rejected.index.and_then(|index| documents.get(index));
            let mut entry = json!({ "ErrorCode": error_code(rejected.reason), "Message": rejected.message });
            if let Some(id) = document.and_then(|document| xray::document_id(document)) {
                entry["Id"] = id.into();
            }
            entry
        })
        .collect();
    Ok((decoded, unprocessed))
}

/// `ErrorCode` of a document.
fn error_code(reason: Reason) -> &'static str {
    match reason {
        Reason::Malformed => "ParseError",
        Reason::TooLarge => "SegmentTooLarge",
        Reason::InvalidTraceId => "InvalidTraceId",
        Reason::InvalidSpanId => "InvalidId",
        Reason::InvalidTime => "InvalidTime",
        _ => "InvalidSegment",
    }
}

#[cfg(test)]
mod tests;
