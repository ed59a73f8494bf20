//! Traces put together: who called whom, how often, how long and how well.
//!
//! In: spans as queries see them, by way of [`crate::query::xray::TraceFacts`], which tell what in a trace is a segment, whose it is,
//! and whom it calls. Out: [`Calls`], sums that many traces add up to; of them a [`ServiceGraph`], and figures by service and operation.
//!
//! Start at [`Graphs`].

mod latency;
mod calls;
mod graph;
mod reread;
#[cfg(test)]
mod tests;

pub use calls::{CLIENT, CallKey, Calls, Figures, MINUTE_NANOS, minute_of};
pub use graph::{Edge, Node, ServiceGraph, Statistics};
pub use latency::{Histogram, middle_of, quantile};
pub use reread::{Graphs, Told};
