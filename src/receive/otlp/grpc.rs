//! OTLP/gRPC: the `Export` call of the three collector services.
//!
//! A unary call's body is one message behind a prefix of five bytes: compressed or not, and its length, big endian.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Full};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{Export, Failure, Form, Receiver, response};
use crate::decode::Reason;
use crate::model::Signal;
use crate::net::Encoding;
use crate::net::body::{self, Caps};

const PREFIX_BYTES: usize = 5;
const ACCEPT_ENCODING: &str = "identity,gzip,zstd,deflate";

/// The three services; any other method is `UNIMPLEMENTED`.
pub fn router(receiver: Arc<Receiver>) -> Router {
    let route = |signal: Signal| post(move |State(receiver): State<Arc<Receiver>>, request: Request| async move { call(&receiver, signal, request).await });
    Router::new()
        .route("/opentelemetry.proto.collector.logs.v1.LogsService/Export", route(Signal::Logs))
        .route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", route(Signal::Traces))
        .route("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", route(Signal::Metrics))
        .fallback(|request: Request| async move { failure(Status::unimplemented(format!("there is no method {}", request.uri().path()))) })
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(receiver)
}

async fn call(receiver: &Receiver, signal: Signal, request: Request<Body>) -> Response {
    let body = match read(receiver, signal, request).await {
        Ok(body) => body,
        Err(status) => return failure(status),
    };
    let form = Form::Protobuf;
    match receiver
        .export(Export {
            signal,
            form,
            body,
            stream: None,
        })
        .await
    {
        Ok(partial) => success(&response(signal, &partial)),
        Err(told) => failure(status_of(told)),
    }
}

fn status_of(told: Failure) -> Status {
    match told {
        Failure::Bad(message) => Status::invalid_argument(message),
        Failure::TooLarge(message) => Status::resource_exhausted(message),
        Failure::Unplaced(_, message) => Status::permission_denied(message),
        Failure::Overloaded { retry_after, message } => {
            let details = ErrorDetails::with_retry_info(Some(retry_after));
            Status::with_error_details(Code::Unavailable, message, details)
        }
    }
}

/// The message as it came; a call that has none is counted.
async fn read(receiver: &Receiver, signal: Signal, request: Request<Body>) -> Result<body::Body, Status> {
    let malformed = |status: Status| {
        receiver.reject(signal, Reason::Malformed);
        status
    };
    let (parts, body) = request.into_parts();
    let content_type = parts
        .headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !content_type.starts_with("application/grpc") {
        let said = format!("content type {content_type:?} is not application/grpc");
        return Err(malformed(Status::invalid_argument(said)));
    }
    let encoding = match parts.headers.get("grpc-encoding").map(|value| value.to_str().unwrap_or("?")) {
        None => Encoding::Identity,
        Some(name) => Encoding::from_header(name)
            .ok_or_else(|| malformed(Status::unimplemented(format!("grpc-encoding {name:?} is not supported: {ACCEPT_ENCODING}"))))?,
    };
    let caps = receiver.caps();
    let wire = Caps {
        max_body_bytes: caps.max_body_bytes + PREFIX_BYTES,
        ..caps
    };
    // gRPC encodes messages, not bodies: what the message is, its prefix says
    let body = body::read(&parts.headers, body, Encoding::Identity, wire, receiver.share()).await;
    let mut body = body.map_err(|error| match receiver.unread(signal, &error) {
        Some(Failure::TooLarge(_)) => Status::resource_exhausted(format!("the message is larger than {} bytes", caps.max_body_bytes)),
        Some(told) => status_of(told),
        None => Status::invalid_argument(error.to_string()),
    })?;
    let framed = body.raw;
    if framed.len() < PREFIX_BYTES {
        return Err(malformed(Status::invalid_argument("the call has no message")));
    }
    let is_compressed = match framed[0] {
        0 => false,
        1 => true,
        other => return Err(malformed(Status::internal(format!("the message's compression flag is {other}")))),
    };
    let length = u32::from_be_bytes([framed[1], framed[2], framed[3], framed[4]]) as usize;
    let found = framed.len() - PREFIX_BYTES;
    if found != length {
        let said = format!("the message's length is {length}, {found} bytes follow");
        return Err(malformed(Status::invalid_argument(said)));
    }
    body.encoding = match (is_compressed, encoding) {
        (false, _) => Encoding::Identity,
        (true, Encoding::Identity) => return Err(malformed(Status::internal("a compressed message without grpc-encoding"))),
        (true, encoding) => encoding,
    };
    body.raw = framed.slice(PREFIX_BYTES..);
    Ok(body)
}

fn success(message: &[u8]) -> Response {
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    framed.put_u8(0);
    // a response is a few hundred bytes
    framed.put_u32(message.len() as u32);
    framed.put_slice(message);
    let trailers = async {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Some(Ok(trailers))
    };
    let mut answer = Response::new(Body::new(Full::new(framed.freeze()).with_trailers(trailers)));
    answer
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    answer
}

fn failure(status: Status) -> Response {
    let mut answer: Response = status.into_http::<Body>();
    answer.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static(ACCEPT_ENCODING));
    answer
}
