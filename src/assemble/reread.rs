//! Calls, read from spans: of a time and a filter, or of some traces.
//!
//! A trace belongs to a time by the segments that began in it; its other parts are looked for up to [`REACH_NANOS`] before and after.
//! Times are whole minutes: those that a time frame touches.

use crate::model::{TimeRange, TraceId};
use crate::query::xray::walk::{self, AtOnce};
use crate::query::xray::{Expression, TraceFacts};
use crate::query::{self, Engine, Trace};

use super::calls::{Calls, MINUTE_NANOS, minute_of};
use super::draw::Told;

/// How far the parts of a trace are looked for around those that are known, an hour.
pub(super) const REACH_NANOS: i64 = 3_600_000_000_000;
/// Traces of one graph that is read from spans; of a longer time the answer says that it is cut.
const MAX_TRACES: usize = 100_000;
/// Traces whose spans are read in one go.
const TRACES_AT_ONCE: usize = 500;

/// The whole minutes that a time touches.
pub(super) fn whole_minutes(range: TimeRange) -> TimeRange {
    let end = match range.end_nanos.rem_euclid(MINUTE_NANOS) {
        0 => range.end_nanos,
        _ => minute_of(range.end_nanos).saturating_add(MINUTE_NANOS),
    };
    TimeRange::new(minute_of(range.start_nanos), end)
}

/// Where the spans of a time's traces are looked for.
pub(super) fn around_of(range: TimeRange) -> TimeRange {
    TimeRange::new(range.start_nanos.saturating_sub(REACH_NANOS), range.end_nanos.saturating_add(REACH_NANOS))
}

/// The calls, in a time, of traces that a filter lets through; of others, where `asked_of` does not let them through, they may be left out.
/// Traces of which no span may be what `asked_of` needs are not read: of a group of few traces few are.
pub(super) async fn calls_of_spans(engine: &Engine, range: TimeRange, asked_of: &Expression, filter: &Expression) -> query::Result<Told<Calls>> {
    let range = whole_minutes(range);
    let around = around_of(range);
    let found = walk::traces_that_may_pass(engine, asked_of, range, around, MAX_TRACES).await?;
    let mut told = Told {
        found: Calls::default(),
        range,
        coverage: found.coverage,
    };
    let mut ids = found.ids;
    // what lies together is read together
    ids.sort_by_key(|(_, arrived)| arrived.first_nanos);
    let ids: Vec<TraceId> = ids.into_iter().map(|(id, _)| id).collect();
    let mut waiting = &ids[..];
    let mut at_once = AtOnce::most(TRACES_AT_ONCE);
    while !waiting.is_empty() {
        let (some, others) = waiting.split_at(at_once.get().min(waiting.len()));
        let Some(traces) = together(engine, some, around).await? else {
            at_once.too_many(some.len());
            continue;
        };
        at_once.done();
        waiting = others;
        // all were read by one question
        if let Some(trace) = traces.first().filter(|trace| !trace.coverage.complete) {
            told.coverage.merge(trace.coverage.clone());
        }
        let filter = filter.clone();
        let counted = aside(move || sum_of(&traces, &filter)).await?;
        told.found.add(&counted);
    }
    told.found.retain(|key| range.contains(key.minute_nanos));
    Ok(told)
}

/// The calls of some traces, whole; `None` if there is nothing of any.
pub(super) async fn calls_of_traces(engine: &Engine, ids: &[TraceId]) -> query::Result<Option<Told<Calls>>> {
    let mut told: Option<Told<Calls>> = None;
    for id in ids {
        let Some(trace) = engine.spans_of_trace(*id).await? else { continue };
        let range = whole_minutes(TimeRange::new(
            trace.start_unix_nano,
            trace.start_unix_nano.saturating_add(trace.duration_nano).saturating_add(1),
        ));
        let coverage = trace.coverage.clone();
        let calls = aside(move || sum_of(&[trace], &Expression::All)).await?;
        match &mut told {
            None => {
                told = Some(Told { found: calls, range, coverage });
            }
            Some(told) => {
                told.found.add(&calls);
                told.coverage.merge(coverage);
                told.range = TimeRange::new(told.range.start_nanos.min(range.start_nanos), told.range.end_nanos.max(range.end_nanos));
            }
        }
    }
    Ok(told)
}

/// The spans of some traces; `None` if there are too many to read together. One trace alone is cut at the bounds of an answer.
pub(super) async fn together(engine: &Engine, ids: &[TraceId], range: TimeRange) -> query::Result<Option<Vec<Trace>>> {
    match (engine.spans_of_traces_for_report(ids, range).await?, ids) {
        (None, [id]) => Ok(Some(engine.spans_of_trace(*id).await?.into_iter().collect())),
        (read, _) => Ok(read),
    }
}

fn sum_of(traces: &[Trace], filter: &Expression) -> Calls {
    let mut sum = Calls::default();
    for trace in traces {
        let facts = TraceFacts::of(trace);
        if filter.holds(&facts) {
            sum.add(&Calls::of(&facts));
        }
    }
    sum
}

/// Computes where that keeps nobody waiting.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> query::Result<T> {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.map_err(|ended| query::Error::Internal(format!("the work on traces ended: {ended}")))
}
