//! One trace by its ID: its spans, and beside them its log records ([`linked`] ones too) or what is kept of its documents.

use std::sync::Arc;

use super::conditions::ValueTest;
use super::engine::{Engine, MAX_ANSWER_BYTES};
use super::filter::{Filter, Leaf};
use super::hit::Hit;
use super::job::Job;
use super::pool::Priority;
use super::xray::kept;
use super::{Coverage, Error, Order, ProblemKind, Result, Trace, linked, report, search};
use crate::model::{Table, TimeRange, TraceId};

/// What is read beside the spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nothing,
    Logs,
    Documents,
}

/// When the spans began, if any came as an X-Ray document.
fn range_of_documents(spans: &[Hit]) -> Option<TimeRange> {
    let is_of_xray = |hit: &Hit| hit.attributes().iter().any(|(key, _)| key == "aws.xray.type");
    let starts = spans.iter().filter(|hit| is_of_xray(hit)).map(Hit::time_unix_nano);
    let (first, last) = starts.fold((i64::MAX, i64::MIN), |(first, last), time| (first.min(time), last.max(time)));
    (first <= last).then(|| TimeRange::new(first, last.saturating_add(1)))
}

impl Engine {
    /// One trace; `None` if there is nothing of it, [`Error::Unread`] if that cannot be said.
    pub async fn trace(&self, id: TraceId) -> Result<Option<Trace>> {
        self.trace_with(id, Beside::Logs).await
    }

    /// [`Self::trace`] without its log records.
    pub async fn spans_of_trace(&self, id: TraceId) -> Result<Option<Trace>> {
        self.trace_with(id, Beside::Nothing).await
    }

    /// The same with what is kept of X-Ray documents: a column that no other question reads.
    pub async fn documents_of_trace(&self, id: TraceId) -> Result<Option<Trace>> {
        self.trace_with(id, Beside::Documents).await
    }

    async fn trace_with(&self, id: TraceId, beside: Beside) -> Result<Option<Trace>> {
        let none = Coverage::new(TimeRange::ALL);
        let coverage_of = |answer: &Option<Trace>| answer.as_ref().map_or(none.clone(), |trace| trace.coverage.clone());
        self.timed_by(
            "trace",
            Priority::Interactive,
            |answer| coverage_of(answer).complete,
            async |begun, stop| {
                let filter = Filter::leaf(Leaf::Column("trace_id", ValueTest::Is(id.to_string())));
                // one view for both tables: a span and its logs are seen together
                let view = self.view();
                let mut coverage: Option<Coverage> = None;
                let (mut spans, mut of_logs) = (Vec::new(), Vec::new());
                let logs = (Table::Logs, self.config().max_trace_logs, "log records of a trace");
                let spans_bound = (Table::Spans, self.config().max_trace_spans, "spans of a trace");
                let bounds = [Some(spans_bound), Some(logs).filter(|_| beside == Beside::Logs)];
                // spans come first, and leave the logs at least a quarter
                let max_bytes = self.config().max_answer_bytes;
                let mut bytes = max_bytes / 4 * 3;
                for (table, rows, what) in bounds.into_iter().flatten() {
                    let mut job = Job::new(&view, table, filter.clone(), TimeRange::ALL, stop.clone(), self.workers(Priority::Interactive));
                    let bound = search::Bounds { rows, bytes };
                    let mut page = search::page(&mut job, self.blocks(), Order::NewestFirst, bound, None).await?;
                    let mut shown = "newest";
                    if page.next.is_some() && table == Table::Spans {
                        // of a tree the trunk: without its root a trace says neither what was asked for nor how that went
                        shown = "oldest";
                        job = Job::new(&view, table, filter.clone(), TimeRange::ALL, stop.clone(), self.workers(Priority::Interactive));
                        page = search::page(&mut job, self.blocks(), Order::OldestFirst, bound, None).await?;
                    }
                    bytes = max_bytes.saturating_sub(page.bytes);
                    if page.next.is_some() {
                        let message = format!("the trace has more; the {shown} {} are shown", page.hits.len());
                        let what = if page.is_cut { MAX_ANSWER_BYTES } else { what };
                        job.coverage.incomplete(ProblemKind::Limit, what, message);
                    }
                    match table {
                        Table::Spans => spans = page.hits,
                        _ => of_logs = page.hits,
                    }
                    match &mut coverage {
                        None => coverage = Some(job.coverage),
                        Some(coverage) => coverage.merge(job.coverage),
                    }
                }
                let mut coverage = coverage.unwrap_or(Coverage::new(TimeRange::ALL));
                let mut pieces = Vec::new();
                if beside == Beside::Documents
                    && let Some(range) = range_of_documents(&spans)
                {
                    let workers = self.workers(Priority::Interactive);
                    let mut job = Job::new(&view, Table::Spans, filter.clone(), range, stop.clone(), workers);
                    let columns: Arc<[&'static str]> = Arc::from(kept::COLUMNS);
                    let n_bytes = Arc::default();
                    let taker = || kept::TakePieces::of(id.to_string(), Arc::clone(&n_bytes));
                    let takers = report::share(&mut job, self.blocks(), &columns, taker).await?;
                    pieces = takers.into_iter().flat_map(|taker| taker.pieces).collect();
                    coverage.merge(job.coverage);
                }
                let is_empty = spans.is_empty() && of_logs.is_empty();
                let first_and_last = spans.iter().chain(&of_logs).map(Hit::time_unix_nano);
                if let Some((first, last)) = first_and_last.fold(None, |bounds: Option<(i64, i64)>, time| {
                    Some(bounds.map_or((time, time), |(first, last)| (first.min(time), last.max(time))))
                }) {
                    coverage.range = TimeRange::new(first, last.saturating_add(1));
                }
                let mut linked = Vec::new();
                let wanted = linked::Wanted::of(&spans, &of_logs);
                if beside == Beside::Logs && wanted != linked::Wanted::default() {
                    let (range, own) = (linked::around(coverage.range), coverage.range);
                    let job = |filter: Filter, part: Option<TimeRange>| {
                        let workers = self.workers(Priority::Interactive);
                        Job::new(&view, Table::Logs, filter, part.unwrap_or(range), stop.clone(), workers)
                    };
                    let (found, of_linked) = linked::find(wanted, job, self.blocks(), bytes).await?;
                    coverage.merge(of_linked);
                    coverage.range = own;
                    linked = found;
                }
                let unread = (!coverage.complete && is_empty).then(|| coverage.clone());
                let trace = Trace::assemble(id, spans, of_logs, coverage, begun.elapsed());
                match (trace, unread) {
                    (None, Some(coverage)) => Err(Error::Unread {
                        what: format!("trace {id}"),
                        coverage: Box::new(coverage),
                    }),
                    (trace, _) => Ok(trace.map(|trace| Trace { pieces, ..trace }.with_linked(linked))),
                }
            },
        )
        .await
    }
}
