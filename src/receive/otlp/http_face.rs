//! OTLP/HTTP: `POST /v1/logs`, `/v1/traces`, `/v1/metrics`.
//!
//! Where access keys are configured, a request may be signed (SigV4 for `logs`, `xray` or `monitoring`, right `write`)
//! in place of bringing a token, as exporters do that know AWS' own OTLP endpoints. Those are HTTP only: AWS has no OTLP/gRPC, and so
//! here gRPC takes tokens and no signatures.
//!
//! Logs whose headers `x-aws-log-group` and `x-aws-log-stream` name a log stream are of that, as at AWS' `/v1/logs`, whatever their
//! resources say; it must exist (404) and be open to the caller (403). Then the bounds are those of `PutLogEvents`: 10,000 records,
//! 1,048,576 bytes of bodies with 26 more each (413), no more than 14 days old. Without the headers a resource may name its group.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use prost::Message;
use tonic::Code;

use super::super::answer::{BUSY_RETRY_AFTER, BodyFault, Failure as GateFailure};
use super::super::signed::{Face, Gate, guarded_if_signed};
use super::{Export, Failure, Form, RECEIVER, Receiver, response, response_json};
use crate::access::{Asked, Caller};
use crate::decode::Reason;
use crate::decode::awslogs::Validation;
use crate::decode::http_events::Head;
use crate::model::Signal;
use crate::net::body;

/// Headers that name a log stream.
const LOG_GROUP: &str = "x-aws-log-group";
const LOG_STREAM: &str = "x-aws-log-stream";

/// The three paths.
pub fn router(receiver: Arc<Receiver>) -> Router {
    let route = |signal: Signal| post(move |State(receiver): State<Arc<Receiver>>, request: Request| async move { export(&receiver, signal, request).await });
    Router::new()
        .route("/v1/logs", route(Signal::Logs))
        .route("/v1/traces", route(Signal::Traces))
        .route("/v1/metrics", route(Signal::Metrics))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(receiver)
}

/// Puts the gate for signed requests before the face; what is not signed is judged by who stands behind it.
pub fn or_signed(router: Router, receiver: &Receiver, gate: Arc<Gate>) -> Router {
    let face = Face {
        receiver: RECEIVER,
        services: &["logs", "xray", "monitoring"],
        refused_status: StatusCode::FORBIDDEN,
        failure: refused_at_the_gate,
        unread: |fault| {
            let (status, message, retry_after) = match fault {
                BodyFault::TooLarge(message) => (StatusCode::PAYLOAD_TOO_LARGE, message, None),
                BodyFault::Unreadable(message) => (StatusCode::BAD_REQUEST, message, None),
                BodyFault::Interrupted(message) | BodyFault::Busy(message) => (StatusCode::SERVICE_UNAVAILABLE, message, Some(BUSY_RETRY_AFTER)),
            };
            let mut failure = GateFailure::new(status, "", message);
            failure.retry_after = retry_after;
            failure
        },
        records: |asked: &Asked| match asked.service {
            Some("logs") => Some(Signal::Logs),
            Some("xray") => Some(Signal::Traces),
            Some("monitoring") => Some(Signal::Metrics),
            _ => None,
        },
        checks_groups: false,
        unsigned: &[],
        max_body_bytes: receiver.config.max_body_bytes,
    };
    guarded_if_signed(router, gate, face)
}

/// A refusal of the gate in OTLP's words.
fn refused_at_the_gate(headers: &HeaderMap, told: &GateFailure) -> Response {
    let code = match (told.status, told.name) {
        (StatusCode::PAYLOAD_TOO_LARGE, _) => Code::ResourceExhausted,
        (StatusCode::SERVICE_UNAVAILABLE, _) => Code::Unavailable,
        (StatusCode::BAD_REQUEST, _) => Code::InvalidArgument,
        (_, "AccessDeniedException") => Code::PermissionDenied,
        _ => Code::Unauthenticated,
    };
    let message = match told.name {
        "" => told.message.clone(),
        name => format!("{name}: {}", told.message),
    };
    let mut answer = failure(form_of(headers).unwrap_or(Form::Json), told.status, code, &message);
    if let Some(wait) = told.retry_after {
        answer.headers_mut().insert(RETRY_AFTER, wait.as_secs().max(1).into());
    }
    answer
}

async fn export(receiver: &Receiver, signal: Signal, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let Some(form) = form_of(&parts.headers) else {
        receiver.reject(signal, Reason::Malformed);
        let message = "content type must be application/x-protobuf or application/json";
        return failure(Form::Json, StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, message);
    };
    let body = match read(receiver, &parts.headers, body).await {
        Ok(body) => body,
        Err(error) => {
            return match receiver.unread(signal, &error) {
                Some(told) => refusal(form, told),
                None => {
                    let (status, code) = match &error {
                        body::Error::UnknownEncoding(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented),
                        _ => (StatusCode::BAD_REQUEST, Code::InvalidArgument),
                    };
                    failure(form, status, code, &error.to_string())
                }
            };
        }
    };
    let stream = match signal {
        Signal::Logs => match stream_of(&parts.headers) {
            Ok(Some(head)) => match receiver.token_refusal(&head, &parts.headers) {
                None => Some((head, Caller::of(&parts.extensions))),
                Some(message) => {
                    receiver.reject(signal, Reason::Unauthorized);
                    return failure(form, StatusCode::FORBIDDEN, Code::PermissionDenied, &message);
                }
            },
            Ok(None) => None,
            Err(message) => {
                receiver.reject(signal, Reason::Malformed);
                return failure(form, StatusCode::BAD_REQUEST, Code::InvalidArgument, &message);
            }
        },
        Signal::Traces | Signal::Metrics => None,
    };
    let export = Export { signal, form, body, stream };
    match receiver.export(export).await {
        Ok(partial) => match form {
            Form::Protobuf => ([(CONTENT_TYPE, "application/x-protobuf")], response(signal, &partial)).into_response(),
            Form::Json => ([(CONTENT_TYPE, "application/json")], response_json(signal, &partial).to_string()).into_response(),
        },
        Err(told) => refusal(form, told),
    }
}

/// The log stream that a request's headers name, if they do.
fn stream_of(headers: &HeaderMap) -> Result<Option<Head>, String> {
    let value = |name: &str| match headers.get(name).map(|value| value.to_str()) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value.to_string())),
        Some(Err(_)) => Err(format!("{name} is no plain text")),
    };
    match (value(LOG_GROUP)?, value(LOG_STREAM)?) {
        (None, None) => Ok(None),
        (Some(log_group), Some(log_stream)) => {
            let mut validation = Validation::new();
            validation.log_group_name(&log_group, LOG_GROUP);
            validation.log_stream_name(&log_stream, LOG_STREAM);
            validation.finish()?;
            Ok(Some(Head { log_group, log_stream }))
        }
        _ => Err(format!("{LOG_GROUP} and {LOG_STREAM} stand together")),
    }
}

async fn read(receiver: &Receiver, headers: &HeaderMap, body: Body) -> Result<body::Body, body::Error> {
    let encoding = body::encoding(headers)?;
    body::read(headers, body, encoding, receiver.caps(), receiver.share()).await
}

fn refusal(form: Form, told: Failure) -> Response {
    match told {
        Failure::Bad(message) => failure(form, StatusCode::BAD_REQUEST, Code::InvalidArgument, &message),
        Failure::TooLarge(message) => failure(form, StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, &message),
        Failure::Unplaced(status, message) => {
            let code = match status {
                StatusCode::NOT_FOUND => Code::NotFound,
                _ => Code::PermissionDenied,
            };
            failure(form, status, code, &message)
        }
        Failure::Overloaded { retry_after, message } => {
            let mut answer = failure(form, StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, &message);
            answer.headers_mut().insert(RETRY_AFTER, retry_after.as_secs().max(1).into());
            answer
        }
    }
}

fn form_of(headers: &HeaderMap) -> Option<Form> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    match value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/x-protobuf" | "application/protobuf" => Some(Form::Protobuf),
        "application/json" => Some(Form::Json),
        _ => None,
    }
}

/// An error is a `google.rpc.Status` in the request's own form.
fn failure(form: Form, status: StatusCode, code: Code, message: &str) -> Response {
    match form {
        Form::Protobuf => {
            let body = tonic_types::Status {
                code: code as i32,
                message: message.to_string(),
                details: vec![],
            };
            (status, [(CONTENT_TYPE, "application/x-protobuf")], body.encode_to_vec()).into_response()
        }
        Form::Json => {
            let body = serde_json::json!({ "code": code as i32, "message": message });
            (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
        }
    }
}
