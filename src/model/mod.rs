//! What flows through the house: IDs, times, attribute values, the tables' schemas, and rows on their way into them.
//!
//! In: what decoders read from the wire, pushed field by field into a builder ([`LogsBuilder`], [`SpansBuilder`],
//! [`MetricsBuilder`]). Out: [`Rows`], Arrow columns of one table in which everything that a resource and scope say once
//! is kept once, as a [`Context`], and every row names its context by number.
//!
//! Promises: a row is kept whole whatever its attributes are called and however many it has; a value has one canonical
//! text form ([`Value`]) in memory, in Parquet and in the index, so that all three agree. Times are nanoseconds since
//! the Unix epoch, UTC. Never does I/O, never reads the clock except through [`Clock`].

mod context;
mod event_id;
mod ids;
pub mod json;
mod logs;
mod metrics;
mod rows;
pub mod schema;
pub mod severity;
mod spans;
mod time;
mod typed;
mod value;

pub use context::{Context, ContextBuilder};
pub use event_id::EventId;
pub use ids::{SpanId, TraceId};
pub use logs::{LogRecord, LogsBuilder};
pub use metrics::{MetricsBuilder, Point, PointKind, SeriesKey};
pub use rows::{Batch, Column, Rows, context_values, from_stored, unify_contexts};
pub(crate) use rows::{conform, string_map_builder};
pub use schema::Table;
pub use spans::{SPAN_KINDS, STATUS_CODES, SpanEvent, SpanLink, SpanRecord, SpansBuilder};
pub use time::{Clock, ManualClock, SystemClock, TimeRange, format_time, parse_duration_nanos, parse_time};
pub use typed::{MAX_SAFE, Typed};
pub use value::Value;
pub(crate) use value::push_double;

/// The kind of data a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// Log records.
    Logs,
    /// Spans, X-Ray segments and subsegments.
    Traces,
    /// Metric data points.
    Metrics,
}

impl Signal {
    /// The name in metrics, the API and the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Logs => "logs",
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
        }
    }
}
