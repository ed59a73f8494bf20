//! Firehose's HTTP endpoint destination: `POST /firehose`.
//!
//! One request is one delivery ([`crate::decode::firehose`] says what becomes of its records). It is answered once its rows are
//! durable, with its own request ID, in the one form that Firehose takes for a success; everything else it takes for a
//! failure and tries again until the stream's retry duration ends, then it puts the records into the stream's backup bucket.
//! Therefore no answer is ever 413: Firehose would throw the batch away without a trace.
//!
//! | what | status |
//! |---|---|
//! | rows are durable; records that no retry can mend are counted, and logged once a delivery | 200 |
//! | the same request ID with the same records again, within the window that [`crate::ingest`] remembers | 200, nothing is stored twice |
//! | events of subscriptions that this lake's own subscription filters sent out: they are here already; counted as `repeated`, and logged | 200, nothing is stored twice |
//! | no `X-Amz-Firehose-Request-Id`, or another than the body's; a body or header that is not of its form, or above a cap | 400 |
//! | a wrong access key, or none where one is needed | 401 |
//! | the write path is full or draining; no memory | 503 |
//!
//! Log groups and streams that a subscription's records name are made where they are not there ([`super::awslogs`]): the calls that
//! read CloudWatch Logs show the events, as search does.
//!
//! Every answer is `{"requestId","timestamp"}`, failures with `errorMessage`, which Firehose copies into its error logs.
//!
//! Who may deliver: whoever brings one of `access_keys`, or a bearer token, as `X-Amz-Firehose-Access-Key`. Where neither
//! keys of Firehose nor tokens nor keys of AWS faces are configured, everyone: such a server is reached over loopback alone.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use serde_json::json;
use tracing::Instrument;

use super::answer::{BUSY_RETRY_AFTER, Refusal};
use super::awslogs::{Registry, arrived};
use super::signed::{Gate, discard};
use super::{Intake, Undecoded, inflate_aside, metrics};
use crate::decode::envelope::{self, Sealed};
use crate::decode::firehose::{self, Tally};
use crate::decode::{self, Context, Decoded, Kind, Reason};
use crate::ingest::Received;
use crate::model::{Clock, Rows, Signal, Table};
use crate::net::auth::is_equal;
use crate::net::body::{self, Caps};
use crate::net::{Budget, Share};
use crate::storage::Secret;

/// The receiver's name in the ledger and in metrics.
pub const RECEIVER: &str = "firehose";
/// The one operation, in metrics.
const OPERATION: &str = "Deliver";

const REQUEST_ID: &str = "x-amz-firehose-request-id";
const ACCESS_KEY: &str = "x-amz-firehose-access-key";
const SOURCE_ARN: &str = "x-amz-firehose-source-arn";
const COMMON_ATTRIBUTES: &str = "x-amz-firehose-common-attributes";
/// Longer request IDs are nobody's.
const MAX_REQUEST_ID_BYTES: usize = 1_024;
/// Bytes that Firehose takes of an access key.
const MAX_ACCESS_KEY_BYTES: usize = 4_096;
/// Characters that Firehose takes of an error message.
const MAX_ERROR_CHARS: usize = 8_192;

/// Settings; each with its default.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Access keys that delivery streams bring; none: a bearer token of `[auth]` must be one, and without those either
    /// everyone may deliver over loopback.
    pub access_keys: Vec<Secret>,
    /// Bytes of a delivery, on the wire and inflated (64 MiB, the most that Firehose sends).
    pub max_body_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            access_keys: vec![],
            max_body_bytes: 64 << 20,
        }
    }
}

impl Config {
    /// What is wrong with the settings, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.access_keys.iter().any(|key| !(8..=MAX_ACCESS_KEY_BYTES).contains(&key.expose().len())) {
            problems.push(format!(
                "[firehose] access_keys: each key needs 8 to {MAX_ACCESS_KEY_BYTES} bytes, the most that Firehose sends"
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
    gate: Arc<Gate>,
    log_groups: Arc<Registry>,
}

/// Why a delivery is not taken.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    message: String,
    retry_after: Option<Duration>,
}

impl Failure {
    fn new(status: StatusCode, message: impl Into<String>) -> Failure {
        Failure {
            status,
            message: message.into(),
            retry_after: None,
        }
    }

    fn busy(message: impl Into<String>, retry_after: Duration) -> Failure {
        Failure {
            retry_after: Some(retry_after),
            ..Failure::new(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }
}

/// What is made of a body before it is handed over.
struct Prepared {
    sealed: Sealed,
    decoded: Decoded,
    tally: Tally,
}

/// Why nothing is made of it.
enum Unfit {
    Undecoded(Undecoded),
    /// The request ID is not the header's.
    OtherId,
}

impl<E: Into<Undecoded>> From<E> for Unfit {
    fn from(error: E) -> Self {
        Unfit::Undecoded(error.into())
    }
}

impl Receiver {
    /// A receiver that hands over to `intake` and tells `log_groups` of streams; requests hold memory out of `budget`, and `gate` knows
    /// what else is configured.
    pub fn new(config: Config, intake: Arc<dyn Intake>, clock: Arc<dyn Clock>, budget: Arc<Budget>, gate: Arc<Gate>, log_groups: Arc<Registry>) -> Arc<Self> {
        Arc::new(Self {
            config,
            intake,
            clock,
            budget,
            gate,
            log_groups,
        })
    }

    fn is_allowed(&self, headers: &HeaderMap) -> bool {
        let tokens = &self.gate.tokens.bearer_tokens;
        let is_open = self.config.access_keys.is_empty() && tokens.is_empty() && !self.gate.verifier.is_required();
        let given = headers.get(ACCESS_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
        let known = self.config.access_keys.iter().map(Secret::expose).chain(tokens.iter().map(String::as_str));
        // all are compared, whichever it is
        let is_known = known.fold(false, |found, known| found | is_equal(known.as_bytes(), given));
        is_open || is_known
    }

    async fn deliver(self: &Arc<Self>, request_id: &str, headers: HeaderMap, body: Body) -> Result<(), Failure> {
        let mut head = head_of(&headers).map_err(|message| self.malformed(Reason::Malformed, message))?;
        head.own_nodes = self.intake.nodes();
        let caps = Caps {
            max_body_bytes: self.config.max_body_bytes,
            max_inflated_bytes: self.config.max_body_bytes,
        };
        let encoding = body::encoding(&headers).map_err(|error| self.unread(&error))?;
        let read = body::read(&headers, body, encoding, caps, self.budget.share()).await;
        let body = read.map_err(|error| self.unread(&error))?;
        let raw = body.raw.clone();
        let context = Context {
            received_at_nanos: self.clock.now_nanos(),
            retention_days: self.intake.max_age_days(),
        };
        let expected_id = request_id.to_string();
        let prepare = move |inflated: Bytes, share: &mut Share| prepare(&head, &expected_id, &raw, &inflated, encoding, &context, share);
        let prepared = inflate_aside(body, prepare).await;
        let (prepared, share) = prepared.map_err(|unfit| match unfit {
            Unfit::Undecoded(Undecoded::Body(error)) => self.unread(&error),
            Unfit::Undecoded(Undecoded::Decode(decode::Error::Exhausted(exhausted))) => self.unread(&exhausted.into()),
            Unfit::Undecoded(Undecoded::Decode(error)) => self.malformed(error.reason(), error.to_string()),
            Unfit::OtherId => self.malformed(
                Reason::Malformed,
                format!("the body's requestId is not the one of the header X-Amz-Firehose-Request-Id, {request_id}"),
            ),
        })?;
        let Prepared { sealed, decoded, tally } = prepared;
        let received = Received {
            receiver: RECEIVER,
            signal: Signal::Logs,
            kind: Kind::Firehose,
            context,
            body: sealed.stored,
            encoding: sealed.encoding,
            repeats_since_nanos: i64::MIN,
            share: Some(share),
        };
        let receiver = self.clone();
        let request_id = request_id.to_string();
        // to its end even if the client hangs up: what becomes of its records is counted
        let task = tokio::spawn(async move { receiver.take(&request_id, received, decoded, &tally).await }.in_current_span());
        task.await
            .unwrap_or_else(|panic| Err(Failure::busy(format!("internal error: {panic}"), BUSY_RETRY_AFTER)))
    }

    /// Makes the streams that a delivery names, and its records durable.
    async fn take(&self, request_id: &str, received: Received, decoded: Decoded, tally: &Tally) -> Result<(), Failure> {
        let rejected: Vec<_> = decoded.rejected.iter().chain(&decoded.rejected_points).cloned().collect();
        let received_millis = received.context.received_at_nanos.div_euclid(1_000_000);
        let streams = arrived(&decoded.batch, received_millis);
        // first: if we die between the two, the delivery comes again, and finds streams without events rather than events without streams
        self.log_groups.make_streams_of(&streams, received_millis).await.map_err(|error| {
            let n_records = decoded
                .batch
                .rows
                .iter()
                .filter(|rows| rows.table() == Table::Logs)
                .map(Rows::len)
                .sum::<usize>();
            self.intake.ledger().refused(RECEIVER, Signal::Logs, n_records as u64);
            Failure::busy(error.to_string(), BUSY_RETRY_AFTER)
        })?;
        let accepted = self.log_groups.accept(received, decoded, streams).await;
        let ack = accepted.map_err(|refused| match Refusal::from(refused) {
            Refusal::Busy { message, retry_after } => Failure::busy(message, retry_after),
            // in the stream's backup bucket it is safe; 413 would lose it
            Refusal::TooLarge(message) => Failure::new(StatusCode::BAD_REQUEST, message),
        })?;
        if ack.is_repeat {
            return Ok(());
        }
        metrics::firehose(tally);
        if tally.own_copies > 0 {
            self.intake.ledger().repeated(RECEIVER, Signal::Logs, tally.own_copies);
            tracing::warn!(
                receiver = RECEIVER,
                request_id,
                events = tally.own_copies,
                "a delivery stream brought back what a subscription filter of this lake sent: the events are not stored again. Let the stream deliver elsewhere, or delete the filter"
            );
        }
        if let Some(first) = rejected.first() {
            let n: u64 = rejected.iter().map(|rejected| rejected.count).sum();
            tracing::warn!(
                receiver = RECEIVER,
                request_id,
                rejected = n,
                first = first.message,
                "records of a delivery were rejected"
            );
        }
        Ok(())
    }

    fn malformed(&self, reason: Reason, message: impl Into<String>) -> Failure {
        self.intake.ledger().rejected(RECEIVER, Signal::Logs, reason, 1);
        Failure::new(StatusCode::BAD_REQUEST, message)
    }

    fn unread(&self, error: &body::Error) -> Failure {
        if error.is_busy() || error.is_interrupted() {
            self.intake.ledger().refused(RECEIVER, Signal::Logs, 1);
            return Failure::busy(error.to_string(), BUSY_RETRY_AFTER);
        }
        let reason = if error.is_too_large() { Reason::TooLarge } else { Reason::Malformed };
        self.malformed(reason, error.to_string())
    }
}

fn prepare(
    head: &firehose::Head,
    expected_id: &str,
    raw: &Bytes,
    inflated: &Bytes,
    encoding: crate::net::Encoding,
    context: &Context,
    share: &mut Share,
) -> Result<Prepared, Unfit> {
    if firehose::request_id(inflated)?.as_deref() != Some(expected_id) {
        return Err(Unfit::OtherId);
    }
    let before = share.bytes();
    // a copy behind the head's line, and one for the log where the body is compressed
    share.hold_also(2 * inflated.len()).map_err(body::Error::from)?;
    let sealed = envelope::seal(head, raw, inflated, encoding)?;
    let weighed = decode::weigh(Kind::Firehose, &sealed.plain)?;
    share.hold_also(weighed.memory_bytes()).map_err(body::Error::from)?;
    // what gzip records say of themselves need not be so: the rows are charged for as they are made
    let (weighed_at, weight) = (share.bytes() - weighed.memory_bytes(), weighed.memory_bytes());
    let hold = &mut |bytes: usize| share.hold(weighed_at.saturating_add(bytes.max(weight)));
    let (decoded, tally) = firehose::deliveries(&sealed.plain, context, hold)?;
    let after = before.saturating_add(sealed.stored.len()).saturating_add(decoded.batch.memory_bytes());
    share.hold(after).map_err(body::Error::from)?;
    Ok(Prepared { sealed, decoded, tally })
}

fn head_of(headers: &HeaderMap) -> Result<firehose::Head, String> {
    let text = |name: &str| match headers.get(name).map(HeaderValue::to_str) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        // attribute values may be any text
        Some(Err(_)) => std::str::from_utf8(headers[name].as_bytes())
            .map(Some)
            .map_err(|_| format!("the header {name} is not text")),
    };
    firehose::head(text(SOURCE_ARN)?, text(COMMON_ATTRIBUTES)?).map_err(|error| format!("the header {COMMON_ATTRIBUTES}: {error}"))
}

/// `POST /firehose`; who may use it, it says itself.
pub fn router(receiver: Arc<Receiver>) -> Router {
    Router::new()
        .route("/firehose", post(handle))
        .layer(DefaultBodyLimit::disable())
        .with_state(receiver)
}

async fn handle(State(receiver): State<Arc<Receiver>>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let id = parts.headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default().to_string();
    let result = if !receiver.is_allowed(&parts.headers) {
        discard(body, receiver.config.max_body_bytes).await;
        let help = "the access key is not one of [firehose] access_keys";
        Err(Failure::new(StatusCode::UNAUTHORIZED, help))
    } else if id.is_empty() || id.len() > MAX_REQUEST_ID_BYTES {
        discard(body, receiver.config.max_body_bytes).await;
        Err(receiver.malformed(Reason::Malformed, "the header X-Amz-Firehose-Request-Id is missing"))
    } else {
        receiver.deliver(&id, parts.headers, body).await
    };
    let status = result.as_ref().map_or_else(|failure| failure.status, |()| StatusCode::OK);
    metrics::answered(RECEIVER, OPERATION, status.as_u16());
    answer(&id, receiver.clock.now_nanos().div_euclid(1_000_000), result)
}

fn answer(request_id: &str, now_millis: i64, result: Result<(), Failure>) -> Response<Body> {
    let mut body = json!({ "requestId": request_id, "timestamp": now_millis });
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Err(failure) = result {
        let message: String = failure.message.chars().take(MAX_ERROR_CHARS).collect();
        body["errorMessage"] = message.into();
        if let Some(wait) = failure.retry_after {
            headers.insert(RETRY_AFTER, wait.as_secs().max(1).into());
        }
        *response.status_mut() = failure.status;
    }
    // in one piece: its length is told
    *response.body_mut() = Body::from(body.to_string());
    response
}

#[cfg(test)]
mod tests;
