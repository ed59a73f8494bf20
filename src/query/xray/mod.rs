//! Traces as X-Ray has them: segments and subsegments of services, summaries of traces, and filter expressions over them.
//!
//! In: an assembled [`Trace`](super::Trace), from whatever protocol its spans came. Out: [`TraceFacts`], which say of which services,
//! calls and flags it consists; from them a summary ([`TraceFacts::summary`]), the answer of a filter [`Expression`], and the
//! trace's segment documents ([`documents`]), as they came where they are [`kept`]. All traces of a time are gone through by [`Walk`].
//!
//! # What is a segment
//!
//! A span that came as a segment; of other spans, a `SERVER` or `CONSUMER` span and whatever has no parent here. All others are
//! subsegments of the segment above them. A `CLIENT` or `PRODUCER` subsegment with no segment below it calls somebody who sends no
//! segments: that is an *inferred* service, named as OpenTelemetry's X-Ray exporter names it ([`facts`]). One that has nothing above it here is both, a
//! segment and the call within it.
//!
//! # What is an error, a fault, a throttle
//!
//! What an X-Ray document says, and where it says throttle, an error too; else, from the HTTP status: 429 is a throttle and an error, other 4xx an error, 5xx a fault; else a
//! status of `ERROR` is a fault.

pub mod causes;
pub mod documents;
pub mod expression;
pub mod facts;
pub mod kept;
mod matches;
mod members;
mod naming;
mod needs;
mod summary;
pub mod walk;
#[cfg(test)]
pub(super) mod corpus;

pub use expression::{Expression, ExpressionError};
pub use facts::TraceFacts;
pub use walk::{Walk, aside};
