//! The HTTP ingestion endpoints: `/services/collector/event`, `/ingest/bulk`, `/ingest/json`.
//!
//! For senders without an SDK. The log group and stream are named in the query (`logGroup`, `logStream`) or in headers
//! (`x-aws-log-group`, `x-aws-log-stream`), not in both, and must exist. Rules and limits of bodies: [`crate::decode::http_events`]. Who
//! may send, [`super::super::signed`] has checked before, as for `PutLogEvents`; of bearer tokens those of `[auth]`
//! are good, for groups in which `PutBearerTokenAuthentication` did not switch them off.
//!
//! | what | status |
//! |---|---|
//! | all events are durable | 200 `{}` |
//! | some are outside the times that are taken | 200 with `partialSuccess` |
//! | the body or the destination is not of its form; the body above its cap, too many events | 400 |
//! | nobody is known to have sent it; the caller may not | 401; 403 |
//! | there is no such group or stream | 404 |
//! | full or draining | 429, with `Retry-After` |
//!
//! The statuses are CloudWatch Logs' own ("HTTP endpoints" of its user guide).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use serde_json::json;

use super::super::answer::{self, BodyFault, Dialect, Failure};
use super::super::signed::{Face, Gate, guarded};
use super::super::{inflate_aside, metrics, read as read_body};
use super::describe::{check_identifier, one_group};
use super::error::{Error, Result, failure};
use super::{RECEIVER, Receiver, Registry, Written, allowed, wire};
use crate::access::{Asked, Caller};
use crate::decode::awslogs::Validation;
use crate::decode::envelope::{self, Sealed};
use crate::decode::http_events::{Brought, Head, http_events};
use crate::decode::{self, Context, Decoded, Kind, Reason};
use crate::ingest::Received;
use crate::model::Signal;
use crate::net::auth::brings_token;
use crate::net::body;
use crate::net::{Encoding, Share};

/// Path, name in metrics, kind.
const ENDPOINTS: [(&str, &str, Kind); 3] = [
    ("/services/collector/event", "HttpCollector", Kind::HttpCollector),
    ("/ingest/bulk", "HttpBulk", Kind::HttpLines),
    ("/ingest/json", "HttpJson", Kind::HttpJson),
];
/// Bytes of a body, AWS' own.
const MAX_BODY_BYTES: usize = 1 << 20;

const PLAIN_JSON: Dialect = Dialect {
    content_type: "application/json",
    message_member: "message",
};

/// The three paths, behind the gate.
pub(super) fn router(receiver: Arc<Receiver>, gate: Arc<Gate>) -> Router {
    let face = Face {
        receiver: RECEIVER,
        services: &["logs"],
        refused_status: StatusCode::UNAUTHORIZED,
        failure: |_, failure| answer::failure(PLAIN_JSON, failure),
        unread: |fault| told(&fault.into()),
        records: |_: &Asked| Some(Signal::Logs),
        checks_groups: true,
        unsigned: &[],
        max_body_bytes: MAX_BODY_BYTES,
    };
    let mut router = Router::new();
    for (path, name, kind) in ENDPOINTS {
        let handle = move |State(receiver): State<Arc<Receiver>>, request: Request<Body>| async move {
            let response = match receiver.http_events(kind, request).await {
                Ok(response) => response,
                Err(error) => answer::failure(PLAIN_JSON, &told(&error)),
            };
            metrics::answered(RECEIVER, name, response.status().as_u16());
            response
        };
        router = router.route(path, post(handle));
    }
    guarded(router.layer(axum::extract::DefaultBodyLimit::disable()).with_state(receiver), gate, face)
}

/// The calls' errors with the statuses of these endpoints.
fn told(error: &Error) -> Failure {
    let mut failure = failure(error);
    failure.status = match error {
        Error::NotFound(_) => StatusCode::NOT_FOUND,
        Error::AccessDenied(_) => StatusCode::FORBIDDEN,
        Error::TooLarge(_) => StatusCode::BAD_REQUEST,
        Error::Unavailable { .. } => StatusCode::TOO_MANY_REQUESTS,
        _ => failure.status,
    };
    failure
}

impl Registry {
    /// `PutBearerTokenAuthentication`.
    pub async fn put_bearer_tokens(&self, call: &wire::BearerTokens) -> Result<()> {
        let mut validation = Validation::new();
        if let Some(identifier) = validation.required(&call.log_group_identifier, "logGroupIdentifier") {
            check_identifier(&mut validation, identifier, "logGroupIdentifier");
        }
        let are_good = *validation
            .required(&call.bearer_token_authentication_enabled, "bearerTokenAuthenticationEnabled")
            .unwrap_or(&false);
        validation.finish().map_err(Error::InvalidParameter)?;
        let name = one_group(&None, &call.log_group_identifier)?;
        self.change_group(name, |record| {
            record.bearer_tokens = Some(are_good);
            Ok(())
        })
        .await
    }

    /// Why a request is refused that brings a bearer token into a group where these were switched off. Of groups that are not there it
    /// says nothing.
    pub fn token_refusal(&self, group: &str, headers: &HeaderMap) -> Option<String> {
        let is_off = || self.read().by_name.get(group).is_some_and(|group| group.record.bearer_tokens == Some(false));
        (brings_token(headers) && is_off()).then(|| format!("Bearer token authentication is not enabled for the log group {group}."))
    }

    /// What decoding a request that comes now needs to know of the stream that it names in its headers: when it is received, and the
    /// stream's retention in days (0: for ever); why it is not taken, with the status.
    pub fn place(&self, caller: &Caller, head: &Head, now_nanos: i64) -> Result<Context, (StatusCode, String)> {
        let allowed = allowed::check_groups(caller, "PutLogEvents", &[&head.log_group], self.arns());
        let facts = allowed.and_then(|()| self.facts_of(&head.log_group, &head.log_stream)).map_err(|error| {
            let failure = told(&error);
            (failure.status, failure.message)
        })?;
        Ok(Context {
            received_at_nanos: facts.received_at(now_nanos),
            retention_days: facts.retention_days,
        })
    }
}

/// What is made of a body before it is handed over.
struct Prepared {
    sealed: Sealed,
    context: Context,
    decoded: Decoded,
    brought: Brought,
}

enum Unfit {
    Body(body::Error),
    Call { error: Error, reason: Reason },
}

impl From<body::Error> for Unfit {
    fn from(error: body::Error) -> Self {
        Unfit::Body(error)
    }
}

impl From<decode::Error> for Unfit {
    fn from(error: decode::Error) -> Self {
        Unfit::Call {
            reason: error.reason(),
            error: error.into(),
        }
    }
}

impl Receiver {
    async fn http_events(&self, kind: Kind, request: Request<Body>) -> Result<Response<Body>> {
        let reject = |reason: Reason| self.intake.ledger().rejected(RECEIVER, Signal::Logs, reason, 1);
        let unread = |error: body::Error| {
            let fault = BodyFault::from(error);
            fault.count(self.intake.ledger(), RECEIVER, Signal::Logs);
            Error::from(fault)
        };
        let caller = Caller::of(request.extensions());
        let head = destination(request.uri().query().unwrap_or_default(), request.headers()).inspect_err(|_| reject(Reason::Malformed))?;
        if let Some(message) = self.registry.token_refusal(&head.log_group, request.headers()) {
            reject(Reason::Unauthorized);
            return Err(Error::AccessDenied(message));
        }
        let body = read_body(request, MAX_BODY_BYTES, self.budget.share()).await.map_err(unread)?;
        let (raw, encoding) = (body.raw.clone(), body.encoding);
        let now_nanos = self.clock.now_nanos();
        let registry = self.registry.clone();
        let (its_head, place) = (head.clone(), (kind, encoding, now_nanos));
        let prepare = move |inflated: Bytes, share: &mut Share| prepare(&registry, &caller, &its_head, &raw, &inflated, place, share);
        let (prepared, share) = inflate_aside(body, prepare).await.map_err(|unfit| match unfit {
            Unfit::Body(error) => unread(error),
            Unfit::Call { error, reason } => {
                reject(reason);
                error
            }
        })?;
        let Prepared {
            sealed,
            context,
            decoded,
            brought,
        } = prepared;
        let answer = answered(&decoded);
        let received = Received {
            receiver: RECEIVER,
            signal: Signal::Logs,
            kind,
            context,
            body: sealed.stored,
            encoding: sealed.encoding,
            repeats_since_nanos: i64::MIN,
            share: Some(share),
        };
        let written = brought.times.map(|(first, last)| Written {
            first_event_millis: first.div_euclid(1_000_000),
            last_event_millis: last.div_euclid(1_000_000),
            received_millis: context.received_at_nanos.div_euclid(1_000_000),
            bytes: brought.bytes,
        });
        let written = written.map(|written| ((head.log_group, head.log_stream), written));
        self.registry.accept(received, decoded, written.into_iter().collect()).await?;
        Ok(answer::success(PLAIN_JSON, &answer))
    }
}

fn prepare(
    registry: &Registry,
    caller: &Caller,
    head: &Head,
    raw: &Bytes,
    inflated: &Bytes,
    (kind, encoding, now_nanos): (Kind, Encoding, i64),
    share: &mut Share,
) -> Result<Prepared, Unfit> {
    let refused = |reason: Reason| move |error: Error| Unfit::Call { error, reason };
    allowed::check_groups(caller, "PutLogEvents", &[&head.log_group], registry.arns()).map_err(refused(Reason::Unauthorized))?;
    let facts = registry.facts_of(&head.log_group, &head.log_stream).map_err(refused(Reason::NotFound))?;
    let context = Context {
        received_at_nanos: facts.received_at(now_nanos),
        retention_days: facts.retention_days,
    };
    share.hold_also(2 * inflated.len()).map_err(body::Error::from)?;
    let sealed = envelope::seal(head, raw, inflated, encoding)?;
    let weighed = decode::weigh(kind, &sealed.plain)?;
    share.hold_also(weighed.memory_bytes()).map_err(body::Error::from)?;
    let (decoded, brought) = http_events(kind, &sealed.plain, &context)?;
    Ok(Prepared {
        sealed,
        context,
        decoded,
        brought,
    })
}

/// The log group and stream that a request names, in one way or the other.
fn destination(query: &str, headers: &HeaderMap) -> Result<Head> {
    let in_query: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let in_headers = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_string);
    let by_query = (in_query.get("logGroup").cloned(), in_query.get("logStream").cloned());
    let by_headers = (in_headers("x-aws-log-group"), in_headers("x-aws-log-stream"));
    let is_given = |place: &(Option<String>, Option<String>)| place.0.is_some() || place.1.is_some();
    if is_given(&by_query) && is_given(&by_headers) {
        let message = "The log group and stream must be named in the query or in headers, not in both.";
        return Err(Error::InvalidParameter(message.into()));
    }
    let place = if is_given(&by_query) { by_query } else { by_headers };
    let mut validation = Validation::new();
    if let Some(name) = validation.required(&place.0, "logGroup") {
        validation.log_group_name(name, "logGroup");
    }
    if let Some(name) = validation.required(&place.1, "logStream") {
        validation.log_stream_name(name, "logStream");
    }
    validation.finish().map_err(Error::InvalidParameter)?;
    Ok(Head {
        log_group: place.0.unwrap_or_default(),
        log_stream: place.1.unwrap_or_default(),
    })
}

fn answered(decoded: &Decoded) -> serde_json::Value {
    let n = |reason: Reason| {
        decoded
            .rejected
            .iter()
            .filter(|rejected| rejected.reason == reason)
            .map(|rejected| rejected.count)
            .sum::<u64>()
    };
    let (too_old, too_new, expired) = (n(Reason::TooOld), n(Reason::TooNew), n(Reason::Expired));
    if too_old + too_new + expired == 0 {
        return json!({});
    }
    let counts = json!({"tooOldLogEventCount": too_old, "tooNewLogEventCount": too_new, "expiredLogEventCount": expired});
    json!({"partialSuccess": {"rejectedLogRecords": too_old + too_new + expired, "errorMessage": counts.to_string()}})
}
