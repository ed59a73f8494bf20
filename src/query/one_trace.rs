//! One trace by its ID: its spans, and beside them its log records ([`linked`] ones too) or what is kept of its documents.

use std::sync::Arc;

use super::conditions::ValueTest;
use super::engine::Engine;
use super::filter::{Filter, Leaf};
use super::hit::Hit;
use super::job::Job;
use super::linked::Most;
use super::pool::Priority;
use super::xray::kept;
use super::{Coverage, Error, Result, Trace, linked, report};
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
                // one view for both tables: a span and its logs are seen together
                let view = self.view();
                let make_job =
                    |table: Table, filter: Filter, range: TimeRange| Job::new(&view, table, filter, range, stop.clone(), self.workers(Priority::Interactive));
                let own = linked::own_rows(id, beside == Beside::Logs, Most::of(self.config()), &make_job, self.blocks()).await?;
                let (spans, of_logs, bytes, mut coverage) = (own.spans, own.logs, own.bytes, own.coverage);
                let mut pieces = Vec::new();
                if beside == Beside::Documents
                    && let Some(range) = range_of_documents(&spans)
                {
                    let filter = Filter::leaf(Leaf::Column("trace_id", ValueTest::Is(id.to_string())));
                    let mut job = make_job(Table::Spans, filter, range);
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
                    let job = |table: Table, filter: Filter, part: Option<TimeRange>| make_job(table, filter, part.unwrap_or(range));
                    let (found, of_linked) = linked::find(id, wanted, job, self.blocks(), bytes).await?;
                    coverage.merge(of_linked);
                    coverage.range = own;
                    linked = found;
                }
                let unread = (!coverage.complete && is_empty).then(|| coverage.clone());
                let took = begun.elapsed();
                // a hundred thousand spans and their records hold nobody else up
                let put_together = move || {
                    let trace = Trace::assemble(id, spans, of_logs, coverage, took);
                    Ok(trace.map(|trace| Trace { pieces, ..trace }.with_linked(linked)))
                };
                let trace = self.workers(Priority::Interactive).run(put_together).await?;
                match (trace, unread) {
                    (None, Some(coverage)) => Err(Error::Unread {
                        what: format!("trace {id}"),
                        coverage: Box::new(coverage),
                    }),
                    (trace, _) => Ok(trace),
                }
            },
        )
        .await
    }
}
