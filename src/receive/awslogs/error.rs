//! What can go wrong with a call, in the service's own words.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;

use super::super::answer::{BUSY_RETRY_AFTER, BodyFault, Failure, Refusal};
use crate::decode;
use crate::ingest::Refused;
use crate::query::{self, insights::Malformed};

/// Why a call failed. The messages are the service's: clients and people know them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A member is missing or of a wrong form, or members contradict each other.
    #[error("{0}")]
    InvalidParameter(String),
    /// The body is not JSON of the call's shape.
    #[error("{0}")]
    Serialization(String),
    /// The log group or stream exists.
    #[error("The specified log {0} already exists")]
    AlreadyExists(&'static str),
    /// There is no such log group, stream or record.
    #[error("The specified log {0} does not exist.")]
    NotFound(&'static str),
    /// The group has no filter of this name; which kind.
    #[error("The specified {0} filter does not exist.")]
    NoSuchFilter(&'static str),
    /// It cannot be done to a group of this class.
    #[error("{0}")]
    InvalidOperation(String),
    /// No more log groups or streams are taken.
    #[error("{0}")]
    LimitExceeded(String),
    /// The query's text is none.
    #[error("{0}")]
    MalformedQuery(Malformed),
    /// There is no such query, or not any more.
    #[error("The specified query does not exist.")]
    QueryNotFound,
    /// It may not be done to this group.
    #[error("{0}")]
    Refused(String),
    /// More tags than a resource can have.
    #[error("The resource {resource} would have {n_tags} tags, {max_tags} are allowed")]
    TooManyTags {
        /// Its ARN.
        resource: String,
        /// Asked for.
        n_tags: usize,
        /// Allowed.
        max_tags: usize,
    },
    /// The caller's key is not for this.
    #[error("{0}")]
    AccessDenied(String),
    /// No target, or one that is not served.
    #[error("{0}")]
    UnknownOperation(String),
    /// The body is above its cap.
    #[error("{0}")]
    TooLarge(String),
    /// The body did not arrive.
    #[error("{0}")]
    Interrupted(String),
    /// The write path is full or draining.
    #[error("{message}")]
    Unavailable {
        /// Why.
        message: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// Our fault.
    #[error("{0}")]
    Internal(String),
}
/// This module's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<decode::Error> for Error {
    fn from(error: decode::Error) -> Self {
        match error {
            decode::Error::Json(error) => Error::Serialization(error.to_string()),
            decode::Error::Invalid(message) => Error::InvalidParameter(message),
            decode::Error::TooMany { .. } => Error::TooLarge(error.to_string()),
            other => Error::Internal(other.to_string()),
        }
    }
}

impl From<BodyFault> for Error {
    fn from(fault: BodyFault) -> Self {
        match fault {
            BodyFault::TooLarge(message) => Error::TooLarge(message),
            BodyFault::Unreadable(message) => Error::Serialization(message),
            BodyFault::Interrupted(message) => Error::Interrupted(message),
            BodyFault::Busy(message) => Error::Unavailable {
                message,
                retry_after: BUSY_RETRY_AFTER,
            },
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match Refusal::from(refused) {
            Refusal::Busy { message, retry_after } => Error::Unavailable { message, retry_after },
            Refusal::TooLarge(message) => Error::TooLarge(message),
        }
    }
}

impl From<query::Error> for Error {
    fn from(error: query::Error) -> Self {
        let message = error.to_string();
        match error.kind() {
            query::ErrorKind::BadQuery => Error::InvalidParameter(message),
            query::ErrorKind::NotFound => Error::NotFound("record"),
            query::ErrorKind::Busy | query::ErrorKind::Timeout | query::ErrorKind::Unavailable => Error::Unavailable {
                message,
                retry_after: BUSY_RETRY_AFTER,
            },
            query::ErrorKind::Internal => Error::Internal(message),
        }
    }
}

/// The one place that decides status and name.
///
/// What no retry can mend has a name that no SDK retries, but where the model has its own (`LimitExceededException`); `InvalidParameterException` makes the CloudWatch agent drop
/// the batch instead of trying for days, so a body above the cap has it too, at status 413.
pub(super) fn failure(error: &Error) -> Failure {
    let (status, name) = match error {
        Error::InvalidParameter(_) => (StatusCode::BAD_REQUEST, "InvalidParameterException"),
        Error::Serialization(_) => (StatusCode::BAD_REQUEST, "SerializationException"),
        Error::AlreadyExists(_) => (StatusCode::BAD_REQUEST, "ResourceAlreadyExistsException"),
        Error::NotFound(_) | Error::NoSuchFilter(_) => (StatusCode::BAD_REQUEST, "ResourceNotFoundException"),
        Error::InvalidOperation(_) => (StatusCode::BAD_REQUEST, "InvalidOperationException"),
        Error::LimitExceeded(_) => (StatusCode::BAD_REQUEST, "LimitExceededException"),
        Error::MalformedQuery(_) => (StatusCode::BAD_REQUEST, "MalformedQueryException"),
        Error::QueryNotFound => (StatusCode::BAD_REQUEST, "ResourceNotFoundException"),
        Error::Refused(_) => (StatusCode::BAD_REQUEST, "ValidationException"),
        Error::TooManyTags { .. } => (StatusCode::BAD_REQUEST, "TooManyTagsException"),
        Error::AccessDenied(_) => (StatusCode::BAD_REQUEST, "AccessDeniedException"),
        Error::UnknownOperation(_) => (StatusCode::BAD_REQUEST, "UnknownOperationException"),
        Error::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "InvalidParameterException"),
        Error::Interrupted(_) => (StatusCode::REQUEST_TIMEOUT, "RequestTimeoutException"),
        Error::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException"),
        Error::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerException"),
    };
    let mut failure = Failure::new(status, name, error.to_string());
    match error {
        Error::Unavailable { retry_after, .. } => failure.retry_after = Some(*retry_after),
        Error::TooManyTags { resource, .. } => failure.members.push(("resourceName", resource.as_str().into())),
        Error::MalformedQuery(Malformed { message, start, end }) => {
            let location = json!({ "startCharOffset": start, "endCharOffset": end });
            failure.members.push(("queryCompileError", json!({ "location": location, "message": message })));
        }
        _ => {}
    }
    failure
}
