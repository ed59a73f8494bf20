//! Every question, answered: one filter over the head and the blocks, and SQL over the same rows.

mod limits;
mod coverage;
mod ast;
mod parse;
mod fields;
mod scan;
mod plan;
mod blocks;
mod metrics;
mod job;
mod search;
mod view;
mod hit;
mod answer;
mod trace;
mod histogram;
mod values;
mod count;
mod tail;
mod functions;
mod table;
mod sql;
mod engine;

pub use answer::{
    Bucket, Counted, CountedBy, Cursor, Facet, FacetValue, Facets, FacetsRequest, Histogram, HistogramRequest, SearchRequest, SearchResponse, SqlColumn,
    SqlRequest, SqlResponse, TailEvent,
};
pub use ast::{Bound, Query, Test, Text, Wildcards};
pub use coverage::{Coverage, Problem, ProblemKind};
pub use engine::Engine;
pub use hit::{Attributes, DEFAULT_MAX_BODY, Hit, HitJson, LogHit, SpanEventHit, SpanHit, SpanLinkHit};
pub use limits::Config;
pub use parse::{ParseError, parse};
pub use tail::Tail;
pub use trace::{Trace, TraceLog, TraceSpan};
pub use view::{Source, View};

/// Whose fault an [`Error`] is and whether a retry helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The question is wrong; a retry does not help.
    BadQuery,
    /// Too many queries at once; a retry helps.
    Busy,
    /// There was no time for any answer.
    Timeout,
    /// There is no such thing.
    NotFound,
    /// A fault of ours or of the store.
    Internal,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not a query.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The request is not one that can be answered.
    #[error("{message}")]
    BadRequest {
        /// What is wrong.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The queue of queries is full.
    #[error("too many queries: {queued} are waiting")]
    Busy {
        /// How many wait.
        queued: usize,
    },
    /// Time was up before there was anything to answer.
    #[error("the query took longer than {seconds} s")]
    Timeout {
        /// The limit.
        seconds: u64,
    },
    /// There is no such record or trace.
    #[error("{0} not found")]
    NotFound(String),
    /// A fault of ours or of the store.
    #[error("internal error: {0}")]
    Internal(String),
}

/// This module's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Parse(_) | Error::BadRequest { .. } => ErrorKind::BadQuery,
            Error::Busy { .. } => ErrorKind::Busy,
            Error::Timeout { .. } => ErrorKind::Timeout,
            Error::NotFound(_) => ErrorKind::NotFound,
            Error::Internal(_) => ErrorKind::Internal,
        }
    }
    /// What to do about it, if there is something to say.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::Parse(error) => error.hint.as_deref(),
            Error::BadRequest { hint, .. } => hint.as_deref(),
            Error::Busy { .. } => Some("try again in a moment"),
            _ => None,
        }
    }
    /// Where in the query text it is, in characters.
    pub fn position(&self) -> Option<usize> {
        match self {
            Error::Parse(error) => Some(error.position),
            _ => None,
        }
    }
    pub(super) fn internal(message: impl std::fmt::Display) -> Self {
        Error::Internal(message.to_string())
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Error::internal(error)
    }
}
