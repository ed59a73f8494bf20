//! Every question, answered: one filter over the head and the blocks, and SQL over the same rows.
//!
//! In: a [`Query`] (from the search language by [`parse()`], or built), a range of time, and a [`View`] that the engine takes
//! from its [`Source`]: every acknowledged row stands in it once. Out: hits newest first, histograms, counts, facets,
//! traces, SQL rows, each with its [`Coverage`]; and live tails.
//!
//! # What a query means
//!
//! Text and values mean the same in the head ([`scan`]), under an index ([`plan`]) and in a scan of a block without one; the
//! table `tests/fixtures/query/semantics.txt` runs all three ways.
//!
//! The whole language stands on the page of [`parse`](mod@parse), with examples that are rows of that table. CloudWatch's filter
//! patterns ([`filter_pattern`]) are matched on their own, and scripts of Logs Insights ([`insights`]) run over events; the engine
//! answers which rows can match.
//!
//! # What a field is
//!
//! | name | values |
//! |---|---|
//! | `body` | the table's text, searched by words |
//! | `severity`, `level` (logs) | a class (`ERROR` = 17–20), one number (`WARN2`, `14`) or `UNSET`; comparisons are between numbers of known severities, a class being its four: `>WARN` starts at ERROR |
//! | `trace_id`, `xray_trace_id`, `span_id`, `parent_span_id` | any spelling of the ID; wildcards over the hex digits |
//! | `time`, `observed_time`, `start_time`, `end_time` | points in time as [`parse_time`](crate::model::parse_time) reads them |
//! | `duration` (spans) | with a unit: `500ms` |
//! | `kind`, `status` (spans) | words of OpenTelemetry, any case |
//! | other columns by name (`severity_text`, `pattern_id`, `name`, `duration_nano`, `scope_name`, …) | that column |
//! | promoted attributes by attribute or column name, and `service`, `host`, `log_group`, `log_stream` | the column; and any attribute or JSON leaf called so |
//! | `@log_group`, `@log_stream` | the column alone |
//! | `$.name` | every attribute, resource attribute and leaf of a JSON body called `name`, and nothing else, also where `name` is a column |
//! | anything else | every attribute, resource attribute and leaf of a JSON body of that name |
//!
//! Counting by a field takes the column of a promoted field, the class of a severity, and else an attribute's values: facets
//! count each, groups take the first (record, resource, body in that order). Counts by service (or whatever else the
//! resource and scope say), severity and status, and by time, come from the index alone.
//!
//! # Promises
//!
//! - Newest first (or oldest first) is a total order: time, then `ingest_id`. Pages in a row are the unpaged answer over one view.
//! - An answer that may lack rows says so: unreachable or damaged blocks, limits and timeouts stand in its coverage. A block
//!   whose index is missing or damaged is scanned and gives the same rows.
//! - Bounds are in [`Config`]: queries at once and waiting (more are [`ErrorKind::Busy`]), time, hits, bytes of an answer,
//!   groups, live tails, SQL memory, disk and rows, open blocks, kept pages. A dropped future stops its work on other threads.
//! - Queries compute on the threads of [`pool`] alone; SQL takes neither a search's threads nor its place.
//! - SQL only reads; statements see the tables of [`Table::ALL`](crate::model::Table::ALL) , the view `metrics`, the
//!   ledger and the list of blocks, and nothing else of the machine.
//!
//! datafusion is named nowhere else. Start at [`Engine`]; the rooms follow a question's way: [`parse`](mod@parse) and
//! [`ast`], [`conditions`], [`filter`] and [`fields`] (tests and names), [`scan`], [`plan`], [`matcher`] and [`blocks`] (matching),
//! [`job`] (the work over a view) on the threads of [`pool`], then one room a kind of answer; SQL has [`sql`], its tables
//! ([`table`], [`inventory`]) and the step of a plan that reads them ([`lake_exec`]).

mod limits;
mod pool;
mod coverage;
mod ast;
mod parse;
pub mod filter_pattern;
pub mod insights;
pub mod xray;
pub mod analysis;
pub mod patterns;
mod addresses;
mod conditions;
mod filter;
mod fields;
mod scan;
mod plan;
mod refine;
mod rows;
mod matcher;
mod blocks;
mod metrics;
mod job;
mod search;
mod report;
mod linked;
mod one_trace;
mod hit;
mod anchor;
mod answer;
mod trace;
mod histogram;
mod typed;
mod values;
mod terms;
mod labels;
mod count;
mod tail;
mod functions;
mod whole_maps;
mod lake_exec;
mod judge;
mod pushdown;
mod table;
mod inventory;
mod sql;
mod told;
mod engine;
mod gather;
mod finder;

pub use crate::ingest::{Source, View};
pub use answer::{
    Bucket, CountGroup, CountRequest, CountResponse, Counted, CountedBy, Cursor, Facet, FacetValue, Facets, FacetsRequest, Histogram, HistogramRequest, Order,
    Record, SearchRequest, SearchResponse, SpanTraces, SqlColumn, SqlRequest, SqlResponse, TailEvent,
};
pub use ast::{Bound, Query, Relation, Spans, Test, Text, Wildcards};
pub use coverage::{Coverage, Problem, ProblemKind};
pub use engine::{Engine, Extent};
pub use finder::SearchLanguage;
pub use gather::{Arrived, Logged, TraceIds};
pub use hit::{Attributes, DEFAULT_MAX_BODY, Hit, HitJson, LogHit, SpanEventHit, SpanHit, SpanLinkHit};
pub use limits::Config;
pub use parse::{ParseError, parse};
pub use tail::Tail;
pub use trace::{Link, Trace, TraceLog, TraceSpan};

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
    /// What was asked for may lie where nothing could be read; a retry may help.
    Unavailable,
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
    /// As many live tails as there may be.
    #[error("there are {max} live tails already")]
    TooManyTails {
        /// The limit.
        max: usize,
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
    /// It was not found, and not all there is could be read.
    #[error("{what} was not found in what could be read; not everything could")]
    Unread {
        /// What was asked for.
        what: String,
        /// What was read, and what was not.
        coverage: Box<Coverage>,
    },
    /// The store did not give a part of a block.
    #[error("{0}")]
    Unreachable(String),
    /// A fault of ours or of the store.
    #[error("internal error: {0}")]
    Internal(String),
}

/// This module's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<fields::Mistake> for Error {
    fn from(mistake: fields::Mistake) -> Self {
        Error::BadRequest {
            message: mistake.message,
            hint: mistake.hint,
        }
    }
}

impl Error {
    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Parse(_) | Error::BadRequest { .. } => ErrorKind::BadQuery,
            Error::Busy { .. } | Error::TooManyTails { .. } => ErrorKind::Busy,
            Error::Timeout { .. } => ErrorKind::Timeout,
            Error::NotFound(_) => ErrorKind::NotFound,
            Error::Unread { .. } | Error::Unreachable(_) => ErrorKind::Unavailable,
            Error::Internal(_) => ErrorKind::Internal,
        }
    }
    /// What to do about it, if there is something to say.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::Parse(error) => error.hint.as_deref(),
            Error::BadRequest { hint, .. } => hint.as_deref(),
            Error::Busy { .. } => Some("try again in a moment"),
            Error::TooManyTails { .. } => Some("end another one, or raise [query] max_tails"),
            Error::Unread { .. } => Some("coverage.problems names what could not be read"),
            _ => None,
        }
    }
    /// What was read before it, where that matters.
    pub fn coverage(&self) -> Option<&Coverage> {
        match self {
            Error::Unread { coverage, .. } => Some(coverage),
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
    /// What it is to an answer that lacks a block because of it.
    pub(super) fn problem(&self) -> ProblemKind {
        match self {
            Error::Unreachable(_) => ProblemKind::Unreachable,
            _ => ProblemKind::Corrupt,
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

#[cfg(test)]
mod tests;
