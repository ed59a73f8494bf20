//! Many traces at once: which there are, which have got something new, and their spans together.
//!
//! What asks so goes on asking (service graphs, summaries of traces), so all but [`Engine::spans_of_traces`] is a report: it takes the
//! place and the threads of no question that somebody waits for.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Int32Type, Int64Type};

use super::engine::Engine;
use super::filter::{Filter, Leaf};
use super::hit::Hit;
use super::job::Job;
use super::pool::Priority;
use super::report::{self, Taker};
use super::search;
use super::{Coverage, Error, Order, ProblemKind, Query, Result, Trace};
use crate::catalog::NodeId;
use crate::ingest::INGEST_ID_ROW_BITS;
use crate::model::{Rows, Table, TimeRange, TraceId};

/// The bound's name in answers that it cut.
const MAX_TRACES: &str = "traces of a report";

/// The rows of a trace that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// First start of them.
    pub first_nanos: i64,
    /// Last end of them; of those that only have a time, the last one.
    pub last_nanos: i64,
    /// Smallest `ingest_id` of them.
    pub first_ingest_id: i64,
}

impl Arrived {
    /// With others.
    pub fn merge(&mut self, other: Arrived) {
        self.first_nanos = self.first_nanos.min(other.first_nanos);
        self.last_nanos = self.last_nanos.max(other.last_nanos);
        self.first_ingest_id = self.first_ingest_id.min(other.first_ingest_id);
    }
}

/// Log records of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    /// How many.
    pub records: u64,
    /// The worst severity, OpenTelemetry's number.
    pub worst_severity: i32,
}

/// Which traces there are.
#[derive(Clone, Debug)]
pub struct TraceIds {
    /// Each with its spans of the time, in order of ID.
    pub ids: Vec<(TraceId, Arrived)>,
    /// What they rest on.
    pub coverage: Coverage,
}

/// Takes rows, by trace.
struct TakeIds {
    traces: HashMap<TraceId, Arrived>,
    max_traces: usize,
}

impl Taker for TakeIds {
    fn take(&mut self, batch: &RecordBatch, rows: &BooleanBuffer) -> Result<bool> {
        let [ids, starts, ingest_ids] = [batch.column(0), batch.column(1), batch.column(2)];
        let ids = ids.as_string_opt::<i32>().ok_or_else(not_read)?;
        let numbers = |column: &dyn Array| column.as_primitive_opt::<Int64Type>().cloned().ok_or_else(not_read);
        let (starts, ingest_ids) = (numbers(starts)?, numbers(ingest_ids)?);
        let durations = batch.columns().get(3).map(|column| numbers(column)).transpose()?;
        for row in rows.set_indices().filter(|row| ids.is_valid(*row)) {
            let Some(id) = TraceId::from_hex(ids.value(row)) else { continue };
            let duration = durations.as_ref().map_or(0, |durations| durations.value(row).max(0));
            let arrived = Arrived {
                first_nanos: starts.value(row),
                last_nanos: starts.value(row).saturating_add(duration),
                first_ingest_id: ingest_ids.value(row),
            };
            self.traces.entry(id).and_modify(|known| known.merge(arrived)).or_insert(arrived);
        }
        Ok(self.traces.len() <= self.max_traces)
    }
}

/// Counts log records, by trace.
#[derive(Default)]
struct TakeLogs {
    traces: HashMap<TraceId, Logged>,
}

impl Taker for TakeLogs {
    fn take(&mut self, batch: &RecordBatch, rows: &BooleanBuffer) -> Result<bool> {
        let ids = batch.column(0).as_string_opt::<i32>().ok_or_else(not_read)?;
        let severities = batch.column(1).as_primitive_opt::<Int32Type>().ok_or_else(not_read)?;
        for row in rows.set_indices().filter(|row| ids.is_valid(*row)) {
            let Some(id) = TraceId::from_hex(ids.value(row)) else { continue };
            let logged = self.traces.entry(id).or_default();
            logged.records += 1;
            logged.worst_severity = logged.worst_severity.max(severities.value(row));
        }
        Ok(true)
    }
}

fn not_read() -> Error {
    Error::internal("a column is not of its type")
}

fn one_of<'a>(ids: impl IntoIterator<Item = &'a TraceId>) -> Filter {
    Filter::of_traces(Arc::new(ids.into_iter().map(TraceId::to_string).collect()))
}

/// In order, at most so many.
fn trace_ids(traces: HashMap<TraceId, Arrived>, max_traces: usize, mut coverage: Coverage) -> TraceIds {
    let mut ids: Vec<(TraceId, Arrived)> = traces.into_iter().collect();
    ids.sort_unstable_by_key(|(id, _)| *id.as_bytes());
    if ids.len() > max_traces {
        ids.truncate(max_traces);
        coverage.incomplete(
            ProblemKind::Limit,
            MAX_TRACES,
            format!("there are more traces; {max_traces} of them are looked at"),
        );
    }
    TraceIds { ids, coverage }
}

impl Engine {
    /// The traces of which `node` was sent rows of `spans` or `logs` at these positions: a follower's question, as [`Engine::arrived`]. All
    /// could be read, or it is an error.
    pub async fn traces_that_arrived(&self, node: &NodeId, table: Table, positions: RangeInclusive<i64>) -> Result<HashMap<TraceId, Arrived>> {
        let (first, last) = (*positions.start(), *positions.end());
        let came = Filter::leaf(Leaf::Numbers("ingest_id", vec![positions]));
        let found = self.gather_ids(table, came, TimeRange::ALL, usize::MAX, |job, flushed_lsn| {
            let is_flushed = (first >> INGEST_ID_ROW_BITS).cast_unsigned() <= flushed_lsn(node);
            job.metas.retain(|meta| is_flushed && meta.max_ingest_id >= first && meta.min_ingest_id <= last);
            let has_some = |rows: &Rows| rows.ingest_ids().values().iter().any(|id| (first..=last).contains(id));
            job.head = Arc::new(job.head.iter().filter(|rows| has_some(rows)).cloned().collect());
        });
        let (traces, coverage) = found.await?;
        if coverage.lacks_more_than_damage() {
            return Err(unread("rows that arrived", coverage));
        }
        Ok(traces)
    }

    /// The traces with rows in `traces` that start in a time, each with the first start and the last end of them; `None` if they are more than so many.
    /// All could be read, but what damaged blocks held, or it is an error.
    pub async fn traces_with_rows(&self, range: TimeRange, most: usize) -> Result<Option<HashMap<TraceId, Arrived>>> {
        let (traces, coverage) = self.gather_ids(Table::Traces, Filter::All, range, most, |_, _| {}).await?;
        match traces.len() > most {
            true => Ok(None),
            false if coverage.lacks_more_than_damage() => Err(unread("rows of traces", coverage)),
            false => Ok(Some(traces)),
        }
    }

    /// The traces with spans that began in a time: at most so many, then the coverage says so.
    pub async fn trace_ids(&self, range: TimeRange, max_traces: usize) -> Result<TraceIds> {
        let (traces, coverage) = self.gather_ids(Table::Spans, Filter::All, range, max_traces, |_, _| {}).await?;
        Ok(trace_ids(traces, max_traces, coverage))
    }

    /// Those among them of which some span that began in `around` meets a query, which has no conditions on traces; others may be told too.
    pub async fn trace_ids_meeting(&self, need: &Query, around: TimeRange, range: TimeRange, max_traces: usize) -> Result<TraceIds> {
        let need = self.compile(Table::Spans, need)?;
        let (meeting, looked_at) = self.gather_ids(Table::Spans, need, around, max_traces, |_, _| {}).await?;
        if meeting.len() > max_traces {
            return self.trace_ids(range, max_traces).await;
        }
        // whatever lies around it, a trace is told by a span of the time itself
        let (traces, mut coverage) = self.gather_ids(Table::Spans, one_of(meeting.keys()), range, max_traces, |_, _| {}).await?;
        coverage.merge(looked_at);
        coverage.range = range;
        Ok(trace_ids(traces, max_traces, coverage))
    }

    async fn gather_ids(
        &self,
        table: Table,
        filter: Filter,
        range: TimeRange,
        max_traces: usize,
        narrow: impl Fn(&mut Job, &dyn Fn(&NodeId) -> u64),
    ) -> Result<(HashMap<TraceId, Arrived>, Coverage)> {
        self.timed_by(
            "gather_ids",
            Priority::Batch,
            |(_, coverage): &(_, Coverage)| coverage.complete,
            async |_, stop| {
                let view = self.view();
                let mut job = Job::new(&view, table, filter.clone(), range, stop, self.workers(Priority::Batch));
                narrow(&mut job, &|node| view.snapshot.flushed_lsn(node));
                drop(view);
                let columns = match table {
                    Table::Spans | Table::Traces => vec!["trace_id", table.time_column(), "ingest_id", "duration_nano"],
                    _ => vec!["trace_id", table.time_column(), "ingest_id"],
                };
                let columns: Arc<[&'static str]> = Arc::from(columns);
                let taker = || TakeIds {
                    traces: HashMap::new(),
                    max_traces,
                };
                let takers = report::share(&mut job, self.blocks(), &columns, taker).await?;
                let mut traces: HashMap<TraceId, Arrived> = HashMap::new();
                for (id, arrived) in takers.into_iter().flat_map(|taker| taker.traces) {
                    traces.entry(id).and_modify(|known| known.merge(arrived)).or_insert(arrived);
                }
                Ok((traces, job.coverage))
            },
        )
        .await
    }

    /// How many log records of a time some traces have. All could be read, or it is an error.
    pub async fn logs_of_traces(&self, ids: &[TraceId], range: TimeRange) -> Result<HashMap<TraceId, Logged>> {
        let answer = self.timed_by(
            "gather_logs",
            Priority::Batch,
            |(_, coverage): &(_, Coverage)| coverage.complete,
            async |_, stop| {
                let mut job = Job::new(&self.view(), Table::Logs, one_of(ids), range, stop, self.workers(Priority::Batch));
                let columns: Arc<[&'static str]> = Arc::from(["trace_id", "severity_number"]);
                let takers = report::share(&mut job, self.blocks(), &columns, TakeLogs::default).await?;
                let mut traces: HashMap<TraceId, Logged> = HashMap::new();
                for (id, logged) in takers.into_iter().flat_map(|taker| taker.traces) {
                    let sum = traces.entry(id).or_default();
                    sum.records += logged.records;
                    sum.worst_severity = sum.worst_severity.max(logged.worst_severity);
                }
                Ok((traces, job.coverage))
            },
        );
        match answer.await? {
            (traces, coverage) if !coverage.lacks_more_than_damage() => Ok(traces),
            (_, coverage) => Err(unread("log records of traces", coverage)),
        }
    }

    /// The spans of several traces at once, in the order of `ids`; of a trace without any there is none here. One answer's bounds
    /// are for all together: `None` if they have more.
    pub async fn spans_of_traces(&self, ids: &[TraceId]) -> Result<Option<Vec<Trace>>> {
        self.spans_of_traces_at("traces", Priority::Interactive, ids, TimeRange::ALL).await
    }

    /// The same for a report, of spans that began in a time. What damaged blocks held is left out, and each trace's coverage says so.
    pub async fn spans_of_traces_for_report(&self, ids: &[TraceId], range: TimeRange) -> Result<Option<Vec<Trace>>> {
        self.spans_of_traces_at("traces_for_report", Priority::Batch, ids, range).await
    }

    async fn spans_of_traces_at(&self, kind: &'static str, priority: Priority, ids: &[TraceId], range: TimeRange) -> Result<Option<Vec<Trace>>> {
        self.timed_by(
            kind,
            priority,
            |answer: &(Coverage, _)| answer.0.complete,
            async |begun, stop| {
                let mut job = Job::new(&self.view(), Table::Spans, one_of(ids), range, stop, self.workers(priority));
                let bounds = search::Bounds {
                    rows: self.config().max_trace_spans,
                    bytes: self.config().max_answer_bytes,
                };
                let page = search::page(&mut job, self.blocks(), Order::NewestFirst, bounds, None).await?;
                let is_whole = match priority {
                    Priority::Interactive => job.coverage.complete,
                    Priority::Batch => !job.coverage.lacks_more_than_damage(),
                };
                if !is_whole {
                    return Err(unread("spans of traces", job.coverage));
                }
                if page.next.is_some() {
                    return Ok((job.coverage, None));
                }
                let (ids, coverage, took) = (ids.to_vec(), job.coverage.clone(), begun.elapsed());
                let put_together = move || {
                    let mut of_trace: HashMap<String, Vec<Hit>> = HashMap::new();
                    for hit in page.hits {
                        let id = hit.trace_id().unwrap_or_default().to_string();
                        of_trace.entry(id).or_default().push(hit);
                    }
                    let trace = |id: &TraceId| {
                        let spans = of_trace.remove(&id.to_string())?;
                        Trace::assemble(*id, spans, Vec::new(), coverage.clone(), took)
                    };
                    Ok(ids.iter().filter_map(trace).collect())
                };
                let traces: Vec<Trace> = self.workers(priority).run(put_together).await?;
                Ok((job.coverage, Some(traces)))
            },
        )
        .await
        .map(|(_, traces)| traces)
    }
}

fn unread(what: &str, coverage: Coverage) -> Error {
    Error::Unread {
        what: what.into(),
        coverage: Box::new(coverage),
    }
}
