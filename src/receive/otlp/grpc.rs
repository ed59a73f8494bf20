//! OTLP/gRPC: the `Export` call of the three collector services.
//!
//! A unary call's body is one message behind a prefix of five bytes: compressed or not, and its length, big endian.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Full};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{Export, Failure, Form, Receiver, response};
use crate::decode::Reason;
use crate::model::Signal;
use crate::net::body::{self, Caps};
use crate::net::{Encoding, inflate};

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
    let message = match read(receiver.caps(), request).await {
        Ok(message) => message,
        Err((status, reason)) => {
            receiver.reject(signal, reason);
            return failure(status);
        }
    };
    let (raw, inflated, encoding) = message;
    let export = Export {
        signal,
        form: Form::Protobuf,
        raw,
        inflated,
        encoding,
    };
    match receiver.export(export).await {
        Ok(partial) => success(&response(signal, &partial)),
        Err(Failure::Bad(message)) => failure(Status::invalid_argument(message)),
        Err(Failure::TooLarge(message)) => failure(Status::resource_exhausted(message)),
        Err(Failure::Overloaded { retry_after, message }) => {
            let details = ErrorDetails::with_retry_info(Some(retry_after));
            failure(Status::with_error_details(Code::Unavailable, message, details))
        }
    }
}

/// The message as it came, inflated, and how it is encoded.
async fn read(caps: Caps, request: Request<Body>) -> Result<(Bytes, Bytes, Encoding), (Status, Reason)> {
    let malformed = |status: Status| (status, Reason::Malformed);
    let too_large = |message: String| (Status::resource_exhausted(message), Reason::TooLarge);
    let (mut parts, body) = request.into_parts();
    let content_type = parts
        .headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !content_type.starts_with("application/grpc") {
        return Err(malformed(Status::invalid_argument(format!(
            "content type {content_type:?} is not application/grpc"
        ))));
    }
    let encoding = match parts.headers.get("grpc-encoding").map(|value| value.to_str().unwrap_or("?")) {
        None => Encoding::Identity,
        Some(name) => Encoding::from_header(name)
            .ok_or_else(|| malformed(Status::unimplemented(format!("grpc-encoding {name:?} is not supported: {ACCEPT_ENCODING}"))))?,
    };
    // gRPC encodes messages, not bodies
    parts.headers.remove(http::header::CONTENT_ENCODING);
    let wire = Caps {
        max_body_bytes: caps.max_body_bytes + PREFIX_BYTES,
        max_inflated_bytes: caps.max_body_bytes + PREFIX_BYTES,
    };
    let body = body::read(&parts.headers, body, wire).await.map_err(|error| match error {
        error if error.is_too_large() => too_large(format!("the message is larger than {} bytes", caps.max_body_bytes)),
        error => malformed(Status::invalid_argument(error.to_string())),
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
    if framed.len() - PREFIX_BYTES != length {
        let found = framed.len() - PREFIX_BYTES;
        return Err(malformed(Status::invalid_argument(format!(
            "the message's length is {length}, {found} bytes follow"
        ))));
    }
    let encoding = match (is_compressed, encoding) {
        (false, _) => Encoding::Identity,
        (true, Encoding::Identity) => return Err(malformed(Status::internal("a compressed message without grpc-encoding"))),
        (true, encoding) => encoding,
    };
    let raw = framed.slice(PREFIX_BYTES..);
    let inflated = inflate::inflate(encoding, &raw, caps.max_inflated_bytes).map_err(|error| match error {
        inflate::Error::TooLarge { .. } => too_large(error.to_string()),
        inflate::Error::Corrupt { .. } => malformed(Status::invalid_argument(error.to_string())),
    })?;
    Ok((raw, inflated, encoding))
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
