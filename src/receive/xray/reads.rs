//! What X-Ray's clients read: traces as documents, and summaries of traces.
//!
//! `GetTraceSummaries` goes through the spans of the time frame, newest first, [`SPANS_A_PAGE`] a page. A trace is told on the page on which
//! its newest span of that time lies, so that no page need remember what the others told. `TimeRangeType`: `TraceId` takes traces that
//! start in the time frame, `Event` those of which a span began or ended in it, `Service` those of which a segment ended in it.

use axum::body::Body;
use axum::http::Request;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Error, Receiver, Result, missing};
use crate::decode::AtMost;
use crate::model::{Table, TimeRange, TraceId};
use crate::query::xray::{Expression, TraceFacts, documents, facts};
use crate::query::{self, Cursor, Hit, Order, ProblemKind, Query, SearchRequest, Trace};

/// Traces of one `BatchGetTraces`, as the service has it.
const MAX_TRACE_IDS: usize = 5;
/// Spans looked at for one page of summaries.
const SPANS_A_PAGE: usize = 2_000;
/// Traces whose spans are read in one go.
const TRACES_AT_ONCE: usize = 50;
/// Bytes of the documents of one answer, about: what the service gives of one trace, for each of five.
const MAX_DOCUMENT_BYTES: usize = 32 << 20;
/// Work on a trace of more spans than this is done aside, so as not to hold up others.
const SPANS_INLINE: usize = 500;
const NANOS_A_SECOND: f64 = 1e9;
/// Segments that ended in a time frame may have begun so long before it.
const LONGEST_SEGMENT_NANOS: i64 = 86_400_000_000_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BatchGetTraces {
    trace_ids: Option<AtMost<String, 100>>,
    next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetTraceSummaries {
    start_time: Option<f64>,
    end_time: Option<f64>,
    #[serde(default)]
    time_range_type: TimeRangeType,
    filter_expression: Option<String>,
    sampling_strategy: Option<SamplingStrategy>,
    next_token: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
enum TimeRangeType {
    #[default]
    TraceId,
    Event,
    Service,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SamplingStrategy {
    name: Option<String>,
    value: Option<f64>,
}

impl From<query::Error> for Error {
    fn from(error: query::Error) -> Self {
        match error.kind() {
            query::ErrorKind::BadQuery | query::ErrorKind::NotFound => Error::InvalidRequest(error.to_string()),
            query::ErrorKind::Busy | query::ErrorKind::Timeout | query::ErrorKind::Unavailable => Error::Throttled {
                message: error.to_string(),
                retry_after: super::BUSY_RETRY_AFTER,
            },
            query::ErrorKind::Internal => Error::Internal(error.to_string()),
        }
    }
}

pub(super) fn nanos(seconds: Option<f64>, member: &str) -> Result<i64> {
    let seconds = seconds.ok_or_else(|| missing(member))?;
    // i64 saturates
    Ok((seconds * NANOS_A_SECOND) as i64)
}

impl Receiver {
    /// `BatchGetTraces`.
    pub(super) async fn batch_get_traces(&self, request: Request<Body>) -> Result<Value> {
        let call: BatchGetTraces = self.call(request).await?;
        let ids = call.trace_ids.ok_or_else(|| missing("traceIds"))?;
        let ids = ids.all().map_err(|_| too_many_ids())?;
        if ids.len() > MAX_TRACE_IDS {
            return Err(too_many_ids());
        }
        super::one_page(call.next_token.as_deref())?;
        let (mut traces, mut unprocessed) = (Vec::new(), Vec::new());
        let mut bytes_left = MAX_DOCUMENT_BYTES;
        for text in ids {
            let found = match facts::trace_id(&text) {
                Some(id) => self.engine()?.spans_of_trace(id).await?.map(readable).transpose()?,
                None => None,
            };
            let Some(trace) = found else {
                unprocessed.push(Value::from(text));
                continue;
            };
            let (value, n_bytes) = aside(trace, move |trace| batch_trace(trace, bytes_left)).await?;
            bytes_left = bytes_left.saturating_sub(n_bytes);
            traces.push(value);
        }
        Ok(json!({ "Traces": traces, "UnprocessedTraceIds": unprocessed }))
    }

    /// `GetTraceSummaries`.
    pub(super) async fn get_trace_summaries(&self, request: Request<Body>) -> Result<Value> {
        let call: GetTraceSummaries = self.call(request).await?;
        let (start, end) = (nanos(call.start_time, "startTime")?, nanos(call.end_time, "endTime")?);
        if start >= end {
            return Err(Error::InvalidRequest("StartTime must be before EndTime".into()));
        }
        let range = TimeRange::new(start, end);
        let filter = Expression::parse(call.filter_expression.as_deref().unwrap_or_default()).map_err(|error| Error::InvalidRequest(error.to_string()))?;
        let filter = if filter.names_groups() {
            filter.with_groups(&self.groups.expressions())
        } else {
            filter
        };
        let keep = sampled(call.sampling_strategy.as_ref())?;
        let cursor = call.next_token.as_deref().map(str::parse::<Cursor>).transpose();
        let cursor = cursor.map_err(|_| Error::InvalidRequest("NextToken is not one of this call's".into()))?;
        let looked_at = match call.time_range_type {
            TimeRangeType::TraceId => range,
            TimeRangeType::Event | TimeRangeType::Service => TimeRange::new(start.saturating_sub(LONGEST_SEGMENT_NANOS), end),
        };
        let engine = self.engine()?;
        let page = SearchRequest {
            table: Table::Spans,
            query: Query::All,
            range: looked_at,
            limit: SPANS_A_PAGE,
            cursor,
            order: Order::NewestFirst,
        };
        let page = engine.search(&page).await?;
        if !page.coverage.complete {
            return Err(unreadable());
        }
        // the rows themselves are not needed any more
        let (begun, next) = (page.hits.last().map_or(start, Hit::time_unix_nano), page.next_cursor);
        let mut ids: Vec<TraceId> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for id in page.hits.into_iter().filter_map(|hit| TraceId::from_hex(hit.trace_id()?)) {
            if seen.insert(id) {
                ids.push(id);
            }
        }
        let (mut summaries, mut n_processed) = (Vec::new(), 0);
        let mut waiting = &ids[..];
        let mut at_once = TRACES_AT_ONCE;
        while !waiting.is_empty() {
            let (some, others) = waiting.split_at(at_once.min(waiting.len()));
            let read = match some {
                // a large one, within the bounds of an answer
                [id] => engine.spans_of_trace(*id).await?.map(readable).transpose()?.into_iter().collect(),
                _ => match engine.spans_of_traces(some).await? {
                    Some(traces) => traces,
                    None => {
                        at_once = (some.len() / 8).max(1);
                        continue;
                    }
                },
            };
            waiting = others;
            for trace in read {
                let id = trace.trace_id;
                if !is_of_page(&trace, looked_at, cursor) {
                    continue;
                }
                n_processed += 1;
                if !keep(id) || !is_asked_for(&trace, range, call.time_range_type) {
                    continue;
                }
                let filter = filter.clone();
                let summary = aside(trace, move |trace| {
                    let facts = TraceFacts::of(trace);
                    filter.holds(&facts).then(|| facts.summary())
                });
                summaries.extend(summary.await?);
            }
        }
        let mut out = json!({
            "TraceSummaries": summaries,
            "ApproximateTime": facts::seconds(begun),
            "TracesProcessedCount": n_processed,
        });
        if let Some(next) = next {
            out["NextToken"] = next.to_string().into();
        }
        Ok(out)
    }
}

pub(super) fn unreadable() -> Error {
    Error::Throttled {
        message: "not all spans of that time can be read at the moment".into(),
        retry_after: super::BUSY_RETRY_AFTER,
    }
}

/// A trace all of which was read, or as much as an answer may hold; of another nothing is said.
fn readable(trace: Trace) -> Result<Trace> {
    let coverage = &trace.coverage;
    let is_cut = coverage.further_problems == 0 && coverage.problems.iter().all(|problem| problem.kind == ProblemKind::Limit);
    match coverage.complete || is_cut {
        true => Ok(trace),
        false => Err(unreadable()),
    }
}

/// Does what looks at a whole trace; of a large one on another thread.
async fn aside<T: Send + 'static>(trace: Trace, work: impl FnOnce(&Trace) -> T + Send + 'static) -> Result<T> {
    if trace.spans.len() <= SPANS_INLINE {
        return Ok(work(&trace));
    }
    let worked = tokio::task::spawn_blocking(move || work(&trace)).await;
    worked.map_err(|ended| Error::Internal(format!("the work on a trace ended: {ended}")))
}

fn too_many_ids() -> Error {
    Error::InvalidRequest(format!("Exceeding maximum query size: {MAX_TRACE_IDS}"))
}

/// A trace of `BatchGetTraces` with as many documents as there is room for, and their bytes.
fn batch_trace(trace: &Trace, max_bytes: usize) -> (Value, usize) {
    let facts = TraceFacts::of(trace);
    let (mut segments, mut n_bytes, mut is_cut) = (Vec::new(), 0, !trace.coverage.complete);
    for document in documents::documents(&facts) {
        let body = document.body.to_string();
        if n_bytes + body.len() > max_bytes {
            is_cut = true;
            break;
        }
        n_bytes += body.len();
        segments.push(json!({ "Id": document.id, "Document": body }));
    }
    let value = json!({
        "Id": trace.trace_id.to_xray(),
        "Duration": facts.duration(),
        "LimitExceeded": is_cut,
        "Segments": segments,
    });
    (value, n_bytes)
}

/// Which traces a sampled answer has: the same ones each time.
fn sampled(strategy: Option<&SamplingStrategy>) -> Result<impl Fn(TraceId) -> bool> {
    let share = match strategy {
        None => 1.0,
        Some(SamplingStrategy { name, value }) => match (name.as_deref(), value) {
            (Some("FixedRate"), Some(value)) if (0.0..=1.0).contains(value) => *value,
            (Some("FixedRate"), _) => return Err(Error::InvalidRequest("SamplingStrategy.Value of FixedRate is from 0 to 1".into())),
            // a page is what a partial scan gives
            (Some("PartialScan"), _) => 1.0,
            _ => return Err(Error::InvalidRequest("SamplingStrategy.Name is PartialScan or FixedRate".into())),
        },
    };
    Ok(move |id: TraceId| {
        let hash = xxhash_rust::xxh3::xxh3_64(id.as_bytes());
        share >= 1.0 || (hash as f64) < share * u64::MAX as f64
    })
}

/// Whether the trace's newest span of that time stands behind where the page began, and so was not told before.
fn is_of_page(trace: &Trace, looked_at: TimeRange, cursor: Option<Cursor>) -> bool {
    let Some(cursor) = cursor else { return true };
    let times = trace.spans.iter().map(|placed| (placed.span.start_time_unix_nano, placed.span.ingest_id));
    let newest = times.filter(|(time, _)| looked_at.contains(*time)).max();
    newest.is_none_or(|newest| newest < (cursor.time_unix_nano, cursor.ingest_id))
}

fn is_asked_for(trace: &Trace, range: TimeRange, by: TimeRangeType) -> bool {
    let end = |span: &query::SpanHit| span.start_time_unix_nano.saturating_add(span.duration_nano.max(0));
    let mut spans = trace.spans.iter().map(|placed| &placed.span);
    match by {
        TimeRangeType::TraceId => range.contains(trace.start_unix_nano),
        TimeRangeType::Event => spans.any(|span| range.contains(span.start_time_unix_nano) || range.contains(end(span))),
        TimeRangeType::Service => {
            let facts = TraceFacts::of(trace);
            let mut segments = facts.segments.iter().filter(|segment| !segment.is_inferred);
            segments.any(|segment| range.contains(end(facts.span(segment))))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::query::{Coverage, Problem};

    #[test]
    fn a_trace_that_cannot_be_read_is_no_answer_and_one_that_is_cut_is() {
        let with = |kinds: &[ProblemKind]| {
            let mut coverage = Coverage::new(TimeRange::ALL);
            coverage.complete = kinds.is_empty();
            let problem = |kind: &ProblemKind| Problem {
                kind: *kind,
                what: String::new(),
                message: String::new(),
            };
            coverage.problems = kinds.iter().map(problem).collect();
            readable(Trace {
                trace_id: TraceId::from_bytes(&[1; 16]).expect("16 bytes"),
                start_unix_nano: 0,
                duration_nano: 0,
                services: vec![],
                spans: vec![],
                logs: vec![],
                n_errors: 0,
                coverage,
                took: Duration::ZERO,
            })
        };
        assert!(with(&[]).is_ok());
        assert!(with(&[ProblemKind::Limit]).is_ok());
        for kind in [ProblemKind::Unreachable, ProblemKind::Corrupt, ProblemKind::Timeout] {
            assert!(matches!(with(&[ProblemKind::Limit, kind]), Err(Error::Throttled { .. })), "{kind:?}");
        }
    }
}
