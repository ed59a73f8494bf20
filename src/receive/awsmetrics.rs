//! CloudWatch metrics as a server: `PutMetricData`, which SDKs, agents and scripts call to write.
//!
//! Three wire forms, told by the request, each answered in its own words:
//!
//! | form | request | errors |
//! |---|---|---|
//! | query | `POST /`, `application/x-www-form-urlencoded`, `Action=PutMetricData` | XML, `<Code>InvalidParameterValue</Code>` |
//! | JSON 1.0 | `POST /`, `X-Amz-Target: GraniteServiceVersion20100801.PutMetricData` | `__type`, and `x-amzn-query-error` |
//! | Smithy RPC v2 CBOR | `POST /service/GraniteServiceVersion20100801/operation/PutMetricData` | the same, in CBOR |
//!
//! The path `/` is also CloudWatch Logs': [`router`] hands over what is not for metrics. A call is taken whole or refused whole
//! ([`crate::decode::put_metric_data`]), and answered once its points are durable and found by queries. Bodies may be gzip; 1 MiB on
//! the wire, as at AWS.
//!
//! Who may call, [`super::signed`] has checked before (service `monitoring`). Other operations are answered with
//! `UnknownOperationException` (query: `InvalidAction`).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::routing::post;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tower::ServiceExt;

use super::answer::{self, BUSY_RETRY_AFTER, BodyFault, Dialect, Failure, REQUEST_ID, Refusal, request_id};
use super::signed::{Face, Gate, guarded};
use super::{Intake, inflate_aside, metrics};
use crate::access::{Asked, is_query_form};
use crate::decode::put_metric_data::{Call, Fault, action};
use crate::decode::{self, Context, Decoded, Kind, Reason};
use crate::ingest::Received;
use crate::model::{Clock, Signal};
use crate::net::body::{self, Caps};
use crate::net::{Budget, Share};

/// The receiver's name in the ledger and in metrics.
pub const RECEIVER: &str = "awsmetrics";
/// The one operation.
const OPERATION: &str = "PutMetricData";
/// What comes before it in `X-Amz-Target`.
const TARGET_PREFIX: &str = "GraniteServiceVersion20100801.";
/// Where CBOR goes.
const CBOR_PATH: &str = "/service/GraniteServiceVersion20100801/operation/{operation}";
/// Bytes of a body on the wire, AWS' own.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Bytes of a body after inflation.
const MAX_INFLATED_BYTES: usize = 16 << 20;

const XML_NAMESPACE: &str = "http://monitoring.amazonaws.com/doc/2010-08-01/";
const JSON_1_0: Dialect = Dialect {
    content_type: "application/x-amz-json-1.0",
    message_member: "message",
};

/// Names of errors in JSON and CBOR, and in the query form.
const QUERY_CODES: [(&str, &str); 8] = [
    ("InvalidParameterValueException", "InvalidParameterValue"),
    ("InvalidParameterCombinationException", "InvalidParameterCombination"),
    ("MissingRequiredParameterException", "MissingParameter"),
    ("UnknownOperationException", "InvalidAction"),
    ("InternalServiceFault", "InternalServiceError"),
    ("UnrecognizedClientException", "InvalidClientTokenId"),
    ("InvalidSignatureException", "SignatureDoesNotMatch"),
    ("SerializationException", "MalformedInput"),
];

/// How a request is spelled, and so its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Query,
    Json,
    Cbor,
}

impl Form {
    fn of(headers: &HeaderMap) -> Form {
        if headers.get("smithy-protocol").is_some_and(|value| value == "rpc-v2-cbor") {
            return Form::Cbor;
        }
        if is_query_form(headers) { Form::Query } else { Form::Json }
    }

    fn kind(self) -> Kind {
        match self {
            Form::Query => Kind::PutMetricDataQuery,
            Form::Json => Kind::PutMetricDataJson,
            Form::Cbor => Kind::PutMetricDataCbor,
        }
    }
}

/// The receiver.
#[derive(Debug)]
pub struct Receiver {
    intake: Arc<dyn Intake>,
    clock: Arc<dyn Clock>,
    budget: Arc<Budget>,
}

/// Why a body did not become rows.
enum Unfit {
    Body(body::Error),
    Fault(Fault),
    Decode(decode::Error),
    /// The query form, for another operation.
    OtherAction(String),
}

impl From<body::Error> for Unfit {
    fn from(error: body::Error) -> Self {
        Unfit::Body(error)
    }
}

impl Receiver {
    /// A receiver that hands over to `intake`; requests hold memory out of `budget`.
    pub fn new(intake: Arc<dyn Intake>, clock: Arc<dyn Clock>, budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { intake, clock, budget })
    }

    async fn put_metric_data(&self, form: Form, headers: &HeaderMap, body: Body) -> Result<(), Failure> {
        let caps = Caps {
            max_body_bytes: MAX_BODY_BYTES,
            max_inflated_bytes: MAX_INFLATED_BYTES,
        };
        let encoding = body::encoding(headers).map_err(|error| self.unread(error))?;
        let body = body::read(headers, body, encoding, caps, self.budget.share()).await;
        let body = body.map_err(|error| self.unread(error))?;
        let raw = body.raw.clone();
        let context = Context {
            received_at_nanos: self.clock.now_nanos(),
            retention_days: self.intake.max_age_days(),
        };
        let prepared = inflate_aside(body, move |inflated, share| prepare(form, &inflated, &context, share)).await;
        let (decoded, share) = prepared.map_err(|unfit| self.unfit(unfit))?;
        let received = Received {
            receiver: RECEIVER,
            signal: Signal::Metrics,
            kind: form.kind(),
            context,
            body: raw,
            encoding,
            repeats_since_nanos: i64::MIN,
            share: Some(share),
        };
        match self.intake.accept(received, decoded).await.map_err(Refusal::from) {
            Ok(_) => Ok(()),
            Err(Refusal::Busy { message, retry_after }) => Err(busy(message, retry_after)),
            Err(Refusal::TooLarge(message)) => Err(too_large(message)),
        }
    }

    fn unread(&self, error: body::Error) -> Failure {
        let fault = BodyFault::from(error);
        fault.count(self.intake.ledger(), RECEIVER, Signal::Metrics);
        unread(fault)
    }

    fn unfit(&self, unfit: Unfit) -> Failure {
        let (reason, failure) = match unfit {
            Unfit::Body(error) => return self.unread(error),
            Unfit::OtherAction(action) => return unknown_operation(&action),
            Unfit::Fault(fault) => {
                let name = match &fault {
                    Fault::Serialization(_) => "SerializationException",
                    Fault::Missing(_) => "MissingRequiredParameterException",
                    Fault::Value(_) => "InvalidParameterValueException",
                    Fault::Combination(_) => "InvalidParameterCombinationException",
                };
                (Reason::Malformed, Failure::new(StatusCode::BAD_REQUEST, name, fault.to_string()))
            }
            Unfit::Decode(error) => {
                let name = "InvalidParameterValueException";
                (error.reason(), Failure::new(StatusCode::BAD_REQUEST, name, error.to_string()))
            }
        };
        self.intake.ledger().rejected(RECEIVER, Signal::Metrics, reason, 1);
        failure
    }
}

fn prepare(form: Form, body: &Bytes, context: &Context, share: &mut Share) -> Result<Decoded, Unfit> {
    if form == Form::Query {
        let action = action(body).unwrap_or_default();
        if action != OPERATION {
            return Err(Unfit::OtherAction(action));
        }
    }
    let before = share.bytes();
    let weighed = decode::weigh(form.kind(), body).map_err(Unfit::Decode)?;
    share.hold_also(weighed.memory_bytes()).map_err(body::Error::from)?;
    let call = Call::read(form.kind(), body).map_err(Unfit::Fault)?;
    let decoded = call.decode(context).map_err(Unfit::Decode)?;
    share.hold(before.saturating_add(decoded.batch.memory_bytes())).map_err(body::Error::from)?;
    Ok(decoded)
}

fn busy(message: String, retry_after: Duration) -> Failure {
    Failure {
        retry_after: Some(retry_after),
        ..Failure::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException", message)
    }
}

fn too_large(message: String) -> Failure {
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLargeException", message)
}

fn unknown_operation(name: &str) -> Failure {
    let name: String = name.chars().take(64).collect();
    let message = format!("The operation {name:?} is not served here.");
    Failure::new(StatusCode::BAD_REQUEST, "UnknownOperationException", message)
}

fn unread(fault: BodyFault) -> Failure {
    match fault {
        BodyFault::TooLarge(message) => too_large(message),
        BodyFault::Unreadable(message) => Failure::new(StatusCode::BAD_REQUEST, "SerializationException", message),
        BodyFault::Interrupted(message) | BodyFault::Busy(message) => busy(message, BUSY_RETRY_AFTER),
    }
}

/// `POST /` for metrics and, for everything else, `logs`' own; CBOR's path. Behind the gate.
pub fn router(receiver: Arc<Receiver>, logs: Router, gate: Arc<Gate>) -> Router {
    let face = Face {
        receiver: RECEIVER,
        services: &["monitoring"],
        refused_status: StatusCode::FORBIDDEN,
        failure: |headers, failure| written(Form::of(headers), failure),
        unread,
        records: |asked: &Asked| (asked.action() == "monitoring:PutMetricData").then_some(Signal::Metrics),
        checks_groups: false,
        unsigned: &[],
        max_body_bytes: MAX_BODY_BYTES,
    };
    let calls = Router::new().route("/", post(by_target)).with_state(receiver.clone());
    let by_path = Router::new().route(CBOR_PATH, post(by_path)).with_state(receiver);
    let calls = guarded(calls, gate.clone(), face);
    Router::new()
        .route("/", post(choose))
        .with_state(Arc::new((calls, logs)))
        .merge(guarded(by_path, gate, face))
}

async fn choose(State(faces): State<Arc<(Router, Router)>>, request: Request<Body>) -> Response<Body> {
    let (metrics, logs) = &*faces;
    let is_target = target(request.headers()).starts_with(TARGET_PREFIX);
    let face = if is_target || is_query_form(request.headers()) { metrics } else { logs };
    match face.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn target(headers: &HeaderMap) -> &str {
    headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn by_target(State(receiver): State<Arc<Receiver>>, request: Request<Body>) -> Response<Body> {
    let target = target(request.headers());
    let operation = match target.strip_prefix(TARGET_PREFIX) {
        Some(operation) => operation.to_string(),
        // the query form has it in its body
        None => OPERATION.to_string(),
    };
    call(&receiver, &operation, request).await
}

async fn by_path(State(receiver): State<Arc<Receiver>>, Path(operation): Path<String>, request: Request<Body>) -> Response<Body> {
    call(&receiver, &operation, request).await
}

async fn call(receiver: &Receiver, operation: &str, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let is_by_path = parts.uri.path() != "/";
    let form = if is_by_path { Form::Cbor } else { Form::of(&parts.headers) };
    // what has a target is JSON whatever its content type says
    let form = if form == Form::Query && !target(&parts.headers).is_empty() {
        Form::Json
    } else {
        form
    };
    let (label, result) = match operation {
        OPERATION => (OPERATION, receiver.put_metric_data(form, &parts.headers, body).await),
        other => ("unknown", Err(unknown_operation(other))),
    };
    let response = match result {
        Ok(()) => success(form),
        Err(failure) => written(form, &failure),
    };
    metrics::answered(RECEIVER, label, response.status().as_u16());
    response
}

fn success(form: Form) -> Response<Body> {
    match form {
        Form::Json => answer::success(JSON_1_0, &serde_json::json!({})),
        Form::Query => {
            let id = request_id();
            let xml = format!(
                "<PutMetricDataResponse xmlns=\"{XML_NAMESPACE}\"><ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></PutMetricDataResponse>"
            );
            respond(form, StatusCode::OK, xml.into(), &id)
        }
        // an empty map
        Form::Cbor => respond(form, StatusCode::OK, Bytes::from_static(&[0xa0]), &request_id()),
    }
}

fn written(form: Form, failure: &Failure) -> Response<Body> {
    let known = QUERY_CODES.iter().find(|(name, _)| *name == failure.name);
    let code = known.map_or_else(|| failure.name.trim_end_matches("Exception"), |(_, code)| code);
    let fault = if failure.status.is_server_error() { "Receiver" } else { "Sender" };
    let mut response = match form {
        Form::Json => answer::failure(JSON_1_0, failure),
        Form::Query => {
            let (id, message) = (request_id(), escaped(&failure.message));
            let xml = format!(
                "<ErrorResponse xmlns=\"{XML_NAMESPACE}\"><Error><Type>{fault}</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>{id}</RequestId></ErrorResponse>"
            );
            respond(form, failure.status, xml.into(), &id)
        }
        Form::Cbor => {
            let mut cbor = minicbor::Encoder::new(Vec::new());
            let written = cbor
                .map(2)
                .and_then(|cbor| cbor.str("__type")?.str(failure.name)?.str("message")?.str(&failure.message));
            debug_assert!(written.is_ok(), "writing to memory cannot fail");
            respond(form, failure.status, cbor.into_writer().into(), &request_id())
        }
    };
    let headers = response.headers_mut();
    if form != Form::Query
        && let Ok(error) = HeaderValue::from_str(&format!("{code};{fault}"))
    {
        headers.insert("x-amzn-query-error", error);
    }
    if let Some(wait) = failure.retry_after {
        headers.insert(RETRY_AFTER, wait.as_secs().max(1).into());
    }
    response
}

fn respond(form: Form, status: StatusCode, body: Bytes, id: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let content_type = match form {
        Form::Query => "text/xml",
        Form::Json => JSON_1_0.content_type,
        Form::Cbor => "application/cbor",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if form == Form::Cbor {
        headers.insert("smithy-protocol", HeaderValue::from_static("rpc-v2-cbor"));
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// Text in XML; what XML cannot hold is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push(character),
            character if character < ' ' || matches!(character, '\u{fffe}' | '\u{ffff}') => {}
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests;
