//! Answers as AWS services give them: a request ID on each, and an error named in a header and in the body alike, since
//! some clients read only the one and some only the other.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use rand::RngCore;

use crate::decode::Reason;
use crate::ingest::{Ledger, Refused};
use crate::model::Signal;
use crate::net::body;

/// fluent-bit takes a success without it for a failure and sends the batch again.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// The error's bare name.
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// What differs between the wire formats.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    pub(super) content_type: &'static str,
    /// The error member that holds the message.
    pub(super) message_member: &'static str,
}

/// AWS JSON 1.1.
pub(super) const JSON_1_1: Dialect = Dialect {
    content_type: "application/x-amz-json-1.1",
    message_member: "message",
};
/// X-Ray's REST-JSON.
pub(super) const REST_JSON: Dialect = Dialect {
    content_type: "application/json",
    message_member: "Message",
};

/// An error as a client sees it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    /// Without namespace: fluent-bit compares it byte for byte.
    pub(super) name: &'static str,
    pub(super) message: String,
    /// Members beside the message.
    pub(super) members: Vec<(&'static str, serde_json::Value)>,
    pub(super) retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, name: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            name,
            message: message.into(),
            members: vec![],
            retry_after: None,
        }
    }
}

/// A success with a JSON body.
pub(super) fn success(dialect: Dialect, value: &serde_json::Value) -> Response<Body> {
    respond(dialect, StatusCode::OK, HeaderMap::new(), value)
}

/// An error.
pub(super) fn failure(dialect: Dialect, failure: &Failure) -> Response<Body> {
    let mut value = serde_json::json!({ "__type": failure.name, dialect.message_member: failure.message });
    for (member, told) in &failure.members {
        value[member] = told.clone();
    }
    let mut headers = HeaderMap::new();
    headers.insert(ERROR_TYPE, HeaderValue::from_static(failure.name));
    if let Some(wait) = failure.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    respond(dialect, failure.status, headers, &value)
}

fn respond(dialect: Dialect, status: StatusCode, headers: HeaderMap, value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(dialect.content_type));
    if let Ok(id) = HeaderValue::from_str(&request_id()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// A random UUID, for [`REQUEST_ID`].
pub fn request_id() -> String {
    let mut bytes = [0u8; 16];
    rand::rng().fill_bytes(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let n = u128::from_be_bytes(bytes);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        n >> 96,
        n >> 80 & 0xffff,
        n >> 64 & 0xffff,
        n >> 48 & 0xffff,
        n & 0xffff_ffff_ffff
    )
}

/// Why a body was not read, by what a client can do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyFault {
    /// Above a cap: sending it again will not help.
    TooLarge(String),
    /// Not readable as what it claims to be: sending it again will not help.
    Unreadable(String),
    /// The connection was slow or broke: sending it again may help.
    Interrupted(String),
    /// There is no memory for it now: sending it again will help.
    Busy(String),
}

impl BodyFault {
    /// Counts the request that had it.
    pub(super) fn count(&self, ledger: &Ledger, receiver: &'static str, signal: Signal) {
        match self {
            BodyFault::TooLarge(_) => ledger.rejected(receiver, signal, Reason::TooLarge, 1),
            BodyFault::Unreadable(_) => ledger.rejected(receiver, signal, Reason::Malformed, 1),
            BodyFault::Interrupted(_) | BodyFault::Busy(_) => ledger.refused(receiver, signal, 1),
        }
    }
}

/// How long a client waits when requests in flight hold all memory.
pub(super) const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);

impl From<body::Error> for BodyFault {
    fn from(error: body::Error) -> Self {
        let message = error.to_string();
        match error {
            error if error.is_too_large() => BodyFault::TooLarge(message),
            error if error.is_busy() => BodyFault::Busy(message),
            error if error.is_interrupted() => BodyFault::Interrupted(message),
            _ => BodyFault::Unreadable(message),
        }
    }
}

/// Why the write path refused, by what a client can do about it.
#[derive(Debug)]
pub(super) enum Refusal {
    /// A retry helps.
    Busy { message: String, retry_after: Duration },
    /// A retry does not.
    TooLarge(String),
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::Overloaded { retry_after, .. } => Refusal::Busy { message, retry_after },
            Refused::Draining => Refusal::Busy {
                message,
                retry_after: Duration::from_secs(1),
            },
            Refused::TooLarge(_) => Refusal::TooLarge(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_random_uuids() {
        let (one, other) = (request_id(), request_id());
        assert_ne!(one, other);
        let lengths: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(one.as_bytes()[14], b'4');
    }

    #[test]
    fn an_error_is_named_in_header_and_body() {
        let mut error = Failure::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException", "later");
        error.retry_after = Some(Duration::from_millis(1));
        let response = failure(JSON_1_1, &error);
        assert_eq!(response.headers()["x-amzn-errortype"], "ServiceUnavailableException");
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["content-type"], "application/x-amz-json-1.1");
        assert!(response.headers().contains_key("x-amzn-requestid"));
    }
}
