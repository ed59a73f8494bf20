//! What traces and rows say of themselves: where a trace's time went, where its error began, and how two sets of rows differ.
//!
//! In: an assembled [`Trace`](super::Trace), or two samples of [`Hit`](super::Hit)s. Out: plain figures; nothing is asked of the store.

mod compare;
mod path;

pub use compare::{Comparison, Difference};
pub use path::{Analysis, OperationTime, Section};
