//! OTLP/HTTP: `POST /v1/logs`, `/v1/traces`, `/v1/metrics`.

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

use super::{Export, Failure, Form, Receiver, response, response_json};
use crate::decode::Reason;
use crate::model::Signal;
use crate::net::body;

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
    let export = Export { signal, form, body };
    match receiver.export(export).await {
        Ok(partial) => match form {
            Form::Protobuf => ([(CONTENT_TYPE, "application/x-protobuf")], response(signal, &partial)).into_response(),
            Form::Json => ([(CONTENT_TYPE, "application/json")], response_json(signal, &partial).to_string()).into_response(),
        },
        Err(told) => refusal(form, told),
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
