//! CloudWatch Logs as a server: the calls that agents, log drivers and SDKs make to write, and those that people and tools make to
//! read.
//!
//! AWS JSON 1.1: `POST /`, the operation in `X-Amz-Target`, members in a JSON body (gzip, zstd or deflate are inflated
//! under the cap). `PutLogEvents` is acknowledged once the events are durable and searchable; every change to a group or
//! stream once it is durable ([`registry`]).
//!
//! | calls | |
//! |---|---|
//! | `CreateLogGroup`, `CreateLogStream` | as documented |
//! | `DeleteLogGroup`, `DeleteLogStream` | gone at once for every call; their rows are deleted as by an order of our own API ([`delete`]) |
//! | `PutLogEvents` | every limit of [`crate::decode::awslogs`]; sequence tokens are given, never asked for; a call that comes again within a quarter of an hour is stored once |
//! | `DescribeLogGroups`, `DescribeLogStreams` | as documented, `logGroupIdentifiers` included ([`describe`]) |
//! | `PutRetentionPolicy`, `DeleteRetentionPolicy`, `PutLogGroupDeletionProtection` | as documented |
//! | `PutBearerTokenAuthentication` | switched off, what comes to the HTTP ingestion endpoints with a bearer token is refused; while nobody said anything it is taken, where AWS would not: the tokens are those of `[auth]`, which whoever runs the server gave out |
//! | `TagResource`, `UntagResource`, `ListTagsForResource`, and the older `TagLogGroup`, `UntagLogGroup`, `ListTagsLogGroup` | log groups only |
//! | `FilterLogEvents`, `GetLogEvents` | as documented ([`events`]); the whole language of filter patterns ([`crate::query::filter_pattern`]) |
//! | `GetLogRecord`, `GetLogGroupFields`, `TestMetricFilter`, `ListLogGroups` | as documented ([`records`], [`describe`]); fields are counted over the newest 5,000 events of the time |
//! | `PutMetricFilter`, `DescribeMetricFilters`, `DeleteMetricFilter` | as documented ([`metric_filters`]) |
//! | `StartQuery`, `GetQueryResults`, `StopQuery`, `DescribeQueries` | Logs Insights QL and SQL ([`insights`]); PPL is refused |
//! | `PutSubscriptionFilter`, `DescribeSubscriptionFilters`, `DeleteSubscriptionFilter` | to Kinesis and Firehose ([`subscription_filters`]); delivered by [`crate::deliver`] |
//! | `StartLiveTail` | an event stream ([`live_tail`]); SDKs put `stream-` or `streaming-` before the host name unless told not to |
//!
//! Beside the calls: the HTTP ingestion endpoints, for senders without an SDK ([`mod@http_events`]).
//!
//! A log group's class is kept and shown, and decides over subscription filters and entities; but all classes are stored alike here, so
//! queries, metric filters and live tails do with `INFREQUENT_ACCESS` what they do with `STANDARD`, where AWS refuses some.
//!
//! Reads see what is acknowledged at once, of streams that exist: made by call, or since events came another way ([`mod@arrived`]).
//! `unmask` is passed over; of other accounts there are no groups.
//!
//! Who may call what, [`super::signed`] has checked before; which log groups, [`allowed`] checks here.
//!
//! Everything else is answered with `UnknownOperationException`. At a bound the answer is 503
//! `ServiceUnavailableException`, which every SDK retries.

mod error;
mod arn;
mod wire;
mod allowed;
mod registry;
mod changes;
mod stream_table;
mod arrived;
mod describe;
mod put;
mod delete;
mod events;
mod pages;
mod records;
mod selection;
mod subscription_filters;
mod event_stream;
mod live_tail;
mod http_events;
mod insights;
mod metric_filters;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use serde_json::{Value, json};

pub use arn::Arns;
pub use arrived::{Arrived, arrived};
pub use changes::{MAX_TAGS, RETENTION_DAYS};
pub use error::{Error, Result};
pub use insights::Config as InsightsConfig;
pub use registry::{CLASSES, Limits, Registry, Written};
pub use wire::{
    CreateLogGroup, CreateLogStream, Delete, DeleteMetricFilter, DescribeLogGroups, DescribeLogStreams, DescribeMetricFilters, ListLogGroups,
    MetricTransformation, PutMetricFilter, RetentionPolicy, SubscriptionFilter, TagFilter, TagLogGroup, TagResource, UntagLogGroup,
};

use super::Intake;
use super::answer::{self, BodyFault, JSON_1_1};
use super::signed::{Face, Gate, guarded};
use super::{inflate_aside, metrics, read as read_body};
use crate::access::{Asked, Caller};
use crate::deliver::sink::Sinks;
use crate::metric_filter::Filters;
use crate::model::{Clock, Signal};
use crate::net::{Budget, body};
use crate::query::Engine;

/// The receiver's name in the ledger and in metrics.
pub const RECEIVER: &str = "awslogs";
/// What comes before the operation in `X-Amz-Target`.
const TARGET_PREFIX: &str = "Logs_20140328.";
/// The operations served; the labels of metrics.
const OPERATIONS: [&str; 34] = [
    "CreateLogGroup",
    "CreateLogStream",
    "PutLogEvents",
    "DescribeLogGroups",
    "DescribeLogStreams",
    "PutRetentionPolicy",
    "DeleteRetentionPolicy",
    "PutLogGroupDeletionProtection",
    "PutBearerTokenAuthentication",
    "TagResource",
    "UntagResource",
    "ListTagsForResource",
    "TagLogGroup",
    "UntagLogGroup",
    "ListTagsLogGroup",
    "ListLogGroups",
    "FilterLogEvents",
    "GetLogEvents",
    "GetLogRecord",
    "GetLogGroupFields",
    "TestMetricFilter",
    "PutMetricFilter",
    "DescribeMetricFilters",
    "DeleteMetricFilter",
    "StartLiveTail",
    "DeleteLogGroup",
    "DeleteLogStream",
    "StartQuery",
    "GetQueryResults",
    "StopQuery",
    "DescribeQueries",
    "PutSubscriptionFilter",
    "DescribeSubscriptionFilters",
    "DeleteSubscriptionFilter",
];

/// Those that read rows.
const READS: [&str; 5] = ["FilterLogEvents", "GetLogEvents", "GetLogRecord", "GetLogGroupFields", "GetQueryResults"];

/// Settings; each with its default.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The region in ARNs (`us-east-1`).
    pub region: String,
    /// The account in ARNs, 12 digits (`000000000000`).
    pub account_id: String,
    /// Bytes of a body, on the wire and inflated (8 MiB): a batch of 1 MiB is up to six times as long in JSON escapes.
    pub max_body_bytes: usize,
    /// Log groups (100,000); more are refused with `LimitExceededException`.
    pub max_log_groups: usize,
    /// Log streams in all groups together (500,000); more are refused with `InvalidParameterException`: `CreateLogStream` knows no limit.
    pub max_log_streams: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            region: "us-east-1".into(),
            account_id: "000000000000".into(),
            max_body_bytes: 8 << 20,
            max_log_groups: 100_000,
            max_log_streams: 500_000,
        }
    }
}

impl Config {
    /// What is wrong with the settings, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.account_id.len() != 12 || !self.account_id.bytes().all(|b| b.is_ascii_digit()) {
            problems.push(format!("awslogs.account_id: {:?} is not 12 digits", self.account_id));
        }
        if self.region.is_empty() || !self.region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            problems.push(format!("awslogs.region: {:?} is not a region such as us-east-1", self.region));
        }
        if self.max_body_bytes < 2 << 20 {
            problems.push(format!(
                "awslogs.max_body_bytes: {} is below 2 MiB, which a batch of 1 MiB can need in JSON",
                self.max_body_bytes
            ));
        }
        problems
    }
}

/// The receiver.
#[derive(Debug)]
pub struct Receiver {
    config: Config,
    intake: Arc<dyn Intake>,
    clock: Arc<dyn Clock>,
    budget: Arc<Budget>,
    registry: Arc<Registry>,
    /// Answers reads; set once the server has one.
    engine: OnceLock<Engine>,
    /// Logs Insights' queries; set with the engine.
    queries: OnceLock<Arc<insights::Queries>>,
    /// Reaches the destinations of subscription filters.
    sinks: OnceLock<Arc<dyn Sinks>>,
}

impl Receiver {
    /// A receiver that knows the groups and streams of its earlier life; requests hold memory out of `budget`.
    pub fn new(config: Config, intake: Arc<dyn Intake>, clock: Arc<dyn Clock>, budget: Arc<Budget>) -> Arc<Self> {
        Self::with_filters(config, intake, clock, budget, Arc::default())
    }

    /// The same, which tells `filters` the metric filters of its groups: the write path applies them.
    pub fn with_filters(config: Config, intake: Arc<dyn Intake>, clock: Arc<dyn Clock>, budget: Arc<Budget>, filters: Arc<Filters>) -> Arc<Self> {
        let limits = Limits {
            max_log_groups: config.max_log_groups,
            max_log_streams: config.max_log_streams,
        };
        let arns = Arns::new(&config.region, &config.account_id);
        let registry = Arc::new(Registry::open(intake.clone(), arns, limits, filters));
        Arc::new(Self {
            config,
            intake,
            clock,
            budget,
            registry,
            engine: OnceLock::new(),
            queries: OnceLock::new(),
            sinks: OnceLock::new(),
        })
    }

    /// Answers reads from `engine`, and Logs Insights' queries within these bounds; without one they fail.
    pub fn answer_from(&self, engine: Engine, bounds: InsightsConfig) {
        // a second one sees the same rows
        let _ = self.engine.set(engine);
        let _ = self.queries.set(insights::Queries::new(bounds, self.clock.clone()));
    }

    /// Tries the destinations of subscription filters through these; without them none can be put.
    pub fn deliver_through(&self, sinks: Arc<dyn Sinks>) {
        // a second one reaches the same
        let _ = self.sinks.set(sinks);
    }

    fn queries(&self) -> Result<&Arc<insights::Queries>> {
        self.queries.get().ok_or_else(|| Error::Internal("there is nothing to query".into()))
    }

    fn engine(&self) -> Result<&Engine> {
        self.engine.get().ok_or_else(|| Error::Internal("there is nothing to read from".into()))
    }

    /// The groups and streams.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    fn now_millis(&self) -> i64 {
        self.clock.now_nanos().div_euclid(1_000_000)
    }
}

/// `POST /`, behind the gate.
pub fn router(receiver: Arc<Receiver>, gate: Arc<Gate>) -> Router {
    let face = Face {
        receiver: RECEIVER,
        services: &["logs"],
        refused_status: StatusCode::BAD_REQUEST,
        failure: |_, failure| answer::failure(JSON_1_1, failure),
        unread: |fault| error::failure(&fault.into()),
        records: |asked: &Asked| (asked.action() == "logs:PutLogEvents").then_some(Signal::Logs),
        checks_groups: true,
        unsigned: &[],
        max_body_bytes: receiver.config.max_body_bytes,
    };
    guarded(calls(receiver), gate, face)
}

/// The HTTP ingestion endpoints ([`mod@http_events`]), behind the gate.
pub fn http_router(receiver: Arc<Receiver>, gate: Arc<Gate>) -> Router {
    http_events::router(receiver, gate)
}

fn calls(receiver: Arc<Receiver>) -> Router {
    Router::new().route("/", post(handle)).with_state(receiver)
}

async fn handle(State(receiver): State<Arc<Receiver>>, request: Request<Body>) -> Response<Body> {
    let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = target
        .strip_prefix(TARGET_PREFIX)
        .and_then(|name| OPERATIONS.into_iter().find(|known| *known == name));
    let result = match operation {
        None if target.is_empty() => Err(Error::UnknownOperation("The request has no X-Amz-Target header.".into())),
        None => Err(Error::UnknownOperation(format!("The operation {target:?} is not served here."))),
        Some(operation) => call(&receiver, operation, request).await,
    };
    let response = match result {
        Ok(Reply::Json(value)) => answer::success(JSON_1_1, &value),
        Ok(Reply::Stream(response)) => response,
        Err(error) => {
            if let Error::Internal(message) = &error {
                tracing::error!(receiver = RECEIVER, operation, message, "a call failed");
            }
            answer::failure(JSON_1_1, &error::failure(&error))
        }
    };
    metrics::answered(RECEIVER, operation.unwrap_or("unknown"), response.status().as_u16());
    response
}

/// What a call is answered with.
enum Reply {
    Json(Value),
    /// An event stream, begun.
    Stream(Response<Body>),
}

async fn call(receiver: &Arc<Receiver>, operation: &'static str, request: Request<Body>) -> Result<Reply> {
    let is_put = operation == "PutLogEvents";
    let caller = Caller::of(request.extensions());
    let unread = |error: body::Error| {
        let fault = BodyFault::from(error);
        if is_put {
            fault.count(receiver.intake.ledger(), RECEIVER, Signal::Logs);
        }
        Error::from(fault)
    };
    let body = read_body(request, receiver.config.max_body_bytes, receiver.budget.share())
        .await
        .map_err(unread)?;
    if is_put {
        return receiver.put_log_events(body, caller).await.map(Reply::Json);
    }
    let inflated = inflate_aside(body, |inflated, share| -> Result<_, body::Error> {
        // what is made of it, a few values for each of its bytes at the most
        share.hold_also(8 * inflated.len())?;
        Ok(inflated)
    });
    let (bytes, share) = inflated.await.map_err(unread)?;
    allowed::check(&caller, operation, &bytes, receiver.registry.arns())?;
    if operation == "StartLiveTail" {
        return receiver.start_live_tail(&read(&bytes)?).map(Reply::Stream);
    }
    if READS.contains(&operation) {
        // a client that hangs up waits for nothing
        return receiver.manage(operation, &bytes, &caller).await.map(Reply::Json);
    }
    let receiver = receiver.clone();
    // to its end even if the client hangs up: what is durable and what we answer from must not part
    let task = tokio::spawn(async move {
        let _share = share;
        receiver.manage(operation, &bytes, &caller).await
    });
    let answer = task.await.unwrap_or_else(|panic| Err(Error::Internal(panic.to_string())));
    answer.map(Reply::Json)
}

impl Receiver {
    /// A call about log groups and streams. The groups that it names are open to the caller; what it lists must be too.
    async fn manage(&self, operation: &'static str, bytes: &Bytes, caller: &Caller) -> Result<Value> {
        let registry = &self.registry;
        match operation {
            "CreateLogGroup" => registry.create_log_group(&read(bytes)?, self.now_millis()).await?,
            "DeleteLogGroup" => registry.delete_log_group(&read(bytes)?, self.now_millis()).await?,
            "DeleteLogStream" => registry.delete_log_stream(&read(bytes)?, self.now_millis()).await?,
            "CreateLogStream" => registry.create_log_stream(&read(bytes)?, self.now_millis()).await?,
            "DescribeLogGroups" => return registry.describe_log_groups(&read(bytes)?, caller),
            "ListLogGroups" => return registry.list_log_groups(&read(bytes)?, caller),
            "FilterLogEvents" => return self.filter_log_events(&read(bytes)?).await,
            "GetLogEvents" => return self.get_log_events(&read(bytes)?).await,
            "GetLogRecord" => return self.get_log_record(&read(bytes)?, caller).await,
            "GetLogGroupFields" => return self.get_log_group_fields(&read(bytes)?).await,
            "TestMetricFilter" => return self.test_metric_filter(&read(bytes)?),
            "StartQuery" => return self.start_query(&read(bytes)?, caller).await,
            "GetQueryResults" => return self.get_query_results(&read(bytes)?, caller).await,
            "StopQuery" => return self.stop_query(&read(bytes)?, caller),
            "DescribeQueries" => return self.describe_queries(&read(bytes)?, caller),
            "PutMetricFilter" => registry.put_metric_filter(&read(bytes)?, self.now_millis()).await?,
            "DeleteMetricFilter" => registry.delete_metric_filter(&read(bytes)?).await?,
            "DescribeMetricFilters" => return registry.describe_metric_filters(&read(bytes)?, caller),
            "DescribeLogStreams" => return registry.describe_log_streams(&read(bytes)?),
            "PutRetentionPolicy" => registry.put_retention_policy(&read(bytes)?).await?,
            "DeleteRetentionPolicy" => registry.delete_retention_policy(&read(bytes)?).await?,
            "PutLogGroupDeletionProtection" => registry.put_deletion_protection(&read(bytes)?).await?,
            "PutBearerTokenAuthentication" => registry.put_bearer_tokens(&read(bytes)?).await?,
            "PutSubscriptionFilter" => self.put_subscription_filter(&read(bytes)?).await?,
            "DescribeSubscriptionFilters" => return registry.describe_subscription_filters(&read(bytes)?),
            "DeleteSubscriptionFilter" => registry.delete_subscription_filter(&read(bytes)?).await?,
            "TagResource" => registry.tag_resource(&read(bytes)?).await?,
            "UntagResource" => registry.untag_resource(&read(bytes)?).await?,
            "ListTagsForResource" => return Ok(json!({ "tags": registry.list_tags_for_resource(&read(bytes)?)? })),
            "TagLogGroup" => registry.tag_log_group(&read(bytes)?).await?,
            "UntagLogGroup" => registry.untag_log_group(&read(bytes)?).await?,
            "ListTagsLogGroup" => return Ok(json!({ "tags": registry.list_tags_log_group(&read(bytes)?)? })),
            other => return Err(Error::Internal(format!("{other} is listed but not served"))),
        }
        Ok(json!({}))
    }
}

/// The members of a call; no body at all is no members.
fn read<T: serde::de::DeserializeOwned + Default>(body: &Bytes) -> Result<T> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| Error::Serialization(error.to_string()))
}

#[cfg(test)]
mod tests;
