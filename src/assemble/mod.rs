//! Traces put together: a summary of each, and who called whom, how often, how long and how well.
//!
//! ```text
//!  spans and logs that came ─▶ open: which traces have got something new ─▶ quiet for a while ─▶ read whole, from head and blocks
//!   (positions of our log)      40 bytes a trace, not its spans                                        │
//!                                                                                                      ▼
//!  service graphs ◀── service_edges: sums ◀── one frame of the log: all or nothing ◀── what differs from the trace's newest row
//!  SQL, Athena    ◀── traces: newest revision ◀──┘
//! ```
//!
//! In: spans as queries see them, by way of [`crate::query::xray::TraceFacts`], which tell what in a trace is a segment, whose it is,
//! and whom it calls. Out: rows of `traces` and `service_edges`, which lie in the lake like any; [`Calls`], sums that many traces add up
//! to; of them a [`ServiceGraph`], and figures by service and operation.
//!
//! # Nothing is kept but what is in the lake
//!
//! A trace that has got something new is marked, and once nothing more comes for a while it is read whole and compared with the row
//! that was last written of it ([`Assembler`]). That row holds what the trace had added to the edges (`calls`), so that the difference
//! is exact: what was wrong is taken back, what is right is added, and both rows go into the log in one frame. So it makes no
//! difference whether a span is late, comes twice or completes one in progress, whether a trace is looked at once or ten times, or
//! where the process dies: the next look finds the same spans and the same row, and the difference that is left. All that must survive
//! is up to which position everything is written, and that may fall back. Queues and windows of spans, with a log of their own, would
//! have to agree with the log ahead after each crash.
//!
//! # Promises
//!
//! - The sums of `service_edges` are what the spans say, and a trace's row of the greatest `revision` is its summary: a test compares
//!   both with a computation anew, over random traces with all of the above. Whoever asked for a graph may hang up: what was begun is done
//!   and noted.
//! - A graph that is asked for is as fresh as a search: traces that wait are written first ([`Assembler::freshen`]).
//! - The parts of a trace are looked for up to an hour around those that came, from the first start to the last end, and around all that its rows
//!   tell of, if this process wrote them or they start within the day before it began (of that day the newest whole hours that have no more than
//!   500,000 traces together). Others that come more than an hour apart from all that is known make it two, as long as they do.
//! - Bounds: [`Config::max_open_traces`] (then the quietest are written early, and corrected later); a trace is cut at the bounds of an
//!   answer (`is_partial`); a summary that is too large for the log is left out, told and counted.
//! - Each node assembles what it was sent. Of a trace of which several nodes were sent parts, the same holds once each sees the others' rows:
//!   each row tells what its node's rows have added to the edges (`compare`), so that each look takes all rows that it sees together, and
//!   where two have looked before they saw each other, one of them looks once more (`others`). While others live a node waits until it
//!   sees what those before it wrote. Until then such a trace may be counted twice, and two rows may have the greatest revision; in ordinary times
//!   that is for a minute. A test compares random orders of arrivals, looks, sights and restarts. If the node that is to look once more never comes
//!   back, what it would have put right of its last minute stays.
//! - Of traces that lose spans to a delete ([`crate::ingest::Lost`]) the row is written anew from what is left, the edges are corrected, and
//!   the rows before it are deleted, all of them where no span is left; through crashes, and on the node whose work the delete was. The
//!   rest of such a trace, and its row, are looked for up to a day around the spans that went.
//!   Where another node writes a row of that trace in the same seconds, the edges may stay wrong by that trace.
//! - What spans said that have expired stays in these tables until they expire themselves.
//! - `log_count` and `worst_severity` are as of the row; later records correct those of traces that this process wrote.
//!
//! Start at [`Graphs`], or [`Assembler`].

mod latency;
mod calls;
mod graph;
mod summary;
mod rows;
mod known;
mod compare;
mod others;
mod reread;
mod table;
mod metrics;
mod lake;
mod assembler;
mod draw;
#[cfg(test)]
mod tests;

pub use assembler::{Assembler, Report};
pub use calls::{CLIENT, CallKey, Calls, Figures, MINUTE_NANOS, minute_of};
pub use draw::{Graphs, Series, Told};
pub use graph::{Edge, Node, ServiceGraph, Statistics};
pub use latency::{Histogram, middle_of, quantile};
pub use summary::summary_json;
pub use table::Entity;

/// `[assemble]`: the tables `traces` and `service_edges`; each setting with its default.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether traces are assembled (true). Without, service graphs are read from the spans, each time.
    pub enabled: bool,
    /// Milliseconds between two looks for new spans (1,000).
    pub every_millis: u64,
    /// Seconds without a new span after which a trace is written (10). What comes later corrects it.
    pub quiet_seconds: u64,
    /// Traces that may wait to be quiet (200,000, about 20 MB); then those that have been quiet longest are written early.
    pub max_open_traces: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            every_millis: 1_000,
            quiet_seconds: 10,
            max_open_traces: 200_000,
        }
    }
}

impl Config {
    /// What is wrong with the settings, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.every_millis == 0 {
            problems.push("[assemble] every_millis must be positive".into());
        }
        if self.max_open_traces < 1_000 {
            problems.push(format!("[assemble] max_open_traces: {} is below 1,000", self.max_open_traces));
        }
        problems
    }
}
