//! One trace: its spans as a tree, with its log records in it.

use std::time::Duration;

use super::{Coverage, LogHit, SpanHit};
use crate::model::TraceId;

/// A trace, its spans in depth-first display order.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its ID.
    pub trace_id: TraceId,
    /// First start of a span (without spans, first log record).
    pub start_unix_nano: i64,
    /// From there to the last end.
    pub duration_nano: i64,
    /// Services, in order of their first span.
    pub services: Vec<String>,
    /// Spans and subsegments.
    pub spans: Vec<TraceSpan>,
    /// Log records, in order of time.
    pub logs: Vec<TraceLog>,
    /// Spans with status ERROR.
    pub n_errors: usize,
    /// What it rests on.
    pub coverage: Coverage,
    /// How long it took.
    pub took: Duration,
}

/// A span in its place.
#[derive(Clone, Debug)]
pub struct TraceSpan {
    /// The span.
    pub span: SpanHit,
    /// Index of its parent among the trace's spans.
    pub parent: Option<usize>,
    /// Steps from its root.
    pub depth: usize,
    /// Log records of it.
    pub n_logs: usize,
    /// It names a parent that is not here (or that would close a circle).
    pub missing_parent: bool,
    /// It starts before or ends after its parent, which only differing clocks explain.
    pub skewed: bool,
}

/// A log record in its place.
#[derive(Clone, Debug)]
pub struct TraceLog {
    /// The record.
    pub log: LogHit,
    /// Index of its span among the trace's spans.
    pub span: Option<usize>,
}

impl Trace {
    /// The API's answer.
    pub fn to_json(&self, _max_body: usize) -> serde_json::Value {
        todo!()
    }
    /// The API's answer with `format=columns`.
    pub fn to_columns_json(&self) -> serde_json::Value {
        todo!()
    }
}
