//! `GetTraceSummaries`.
//!
//! It goes through spans of the time frame, newest first, [`SPANS_A_PAGE`] a page, and reads of them the trace IDs alone; then the traces are
//! read. Of a filter expression the index is asked what some span of each trace must meet ([`Expression::needs`]): if few enough spans meet
//! that, only those are gone through, within a day before and after the time frame, since they need not be in it themselves. The first page
//! decides; its token says what it decided.
//!
//! A trace is told on the page on which the newest of the spans lies that are gone through, so that no page need remember what the others
//! told. Spans that came since the first page (its token says up to which position) do not count in that: one that begins later would move
//! its trace to a page that is past. `TimeRangeType`: `TraceId` takes traces that start in the time frame, `Event` those of which a span began or ended in it, with the
//! time of the last such event as `MatchedEventTime`, `Service` those of which a segment ended in it.

use std::collections::HashSet;

use axum::body::Body;
use axum::http::Request;
use serde::Deserialize;
use serde_json::{Value, json};

use super::reads::{aside, nanos, readable, unreadable};
use super::{Error, Receiver, Result};
use crate::model::{Table, TimeRange, TraceId};
use crate::query::xray::{Expression, TraceFacts, facts};
use crate::query::{self, Cursor, Engine, Query, Trace};

/// Spans gone through for one page.
const SPANS_A_PAGE: usize = 2_000;
/// Traces whose spans are read in one go.
const TRACES_AT_ONCE: usize = 50;
/// Needs of one expression that are counted.
const MAX_NEEDS: usize = 8;
/// Spans looked at in one go, to find which traces an earlier page told.
const EARLIER_AT_ONCE: usize = 20_000;
/// Segments that ended in a time frame may have begun so long before it, and spans of its traces come so long after it.
const LONGEST_SEGMENT_NANOS: i64 = 86_400_000_000_000;

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

/// Which spans are gone through.
struct Plan {
    /// The number of the need they meet; `None`: all.
    need: Option<usize>,
    query: Query,
    range: TimeRange,
}

/// `NextToken`: the plan, the greatest `ingest_id` when the first page was asked for, and where the next page begins.
fn read_token(text: &str) -> Option<(Option<usize>, i64, Cursor)> {
    let (need, rest) = text.split_once('.')?;
    let (up_to, cursor) = rest.split_once('.')?;
    let need = match need {
        "a" => None,
        number => Some(number.parse().ok()?),
    };
    Some((need, up_to.parse().ok()?, cursor.parse().ok()?))
}

fn write_token(need: Option<usize>, up_to: i64, cursor: Cursor) -> String {
    let need = need.map_or("a".to_string(), |need| need.to_string());
    format!("{need}.{up_to}.{cursor}")
}

impl Plan {
    fn of(filter: &Expression, need: Option<usize>, looked_at: TimeRange) -> Option<Plan> {
        let Some(number) = need else {
            return Some(Plan {
                need,
                query: Query::All,
                range: looked_at,
            });
        };
        let query = filter.needs().into_iter().take(MAX_NEEDS).nth(number)?;
        let range = TimeRange::new(
            looked_at.start_nanos.saturating_sub(LONGEST_SEGMENT_NANOS),
            looked_at.end_nanos.saturating_add(LONGEST_SEGMENT_NANOS),
        );
        Some(Plan { need, query, range })
    }

    /// The one with the fewest spans; all of the time frame, unless another has less than half of them.
    async fn best(engine: &Engine, filter: &Expression, looked_at: TimeRange) -> Result<Option<Plan>> {
        let mut best = Plan::of(filter, None, looked_at);
        let n_needs = filter.needs().len().min(MAX_NEEDS);
        if n_needs == 0 {
            return Ok(best);
        }
        let n_all = engine.count(Table::Spans, &Query::All, looked_at).await?.count;
        if n_all <= SPANS_A_PAGE as u64 {
            return Ok(best);
        }
        let mut fewest = n_all / 2;
        for need in 0..n_needs {
            let Some(plan) = Plan::of(filter, Some(need), looked_at) else { break };
            let n_spans = engine.count(Table::Spans, &plan.query, plan.range).await?.count;
            if n_spans < fewest {
                (best, fewest) = (Some(plan), n_spans);
            }
        }
        Ok(best)
    }

    /// The traces of which a span was gone through on an earlier page, of those that were there when the first was asked for.
    async fn told_earlier(&self, engine: &Engine, ids: &[TraceId], began: Cursor, up_to: i64) -> Result<HashSet<TraceId>> {
        let is_one = Query::Or(ids.iter().map(|id| Query::equals("trace_id", id.to_string())).collect());
        let query = self.query.clone().and(is_one);
        let range = TimeRange::new(began.time_unix_nano.max(self.range.start_nanos), self.range.end_nanos);
        let (mut told, mut cursor) = (HashSet::new(), None);
        loop {
            let page = engine.traces_of_spans(&query, range, EARLIER_AT_ONCE, cursor).await?;
            if !page.coverage.complete {
                return Err(unreadable());
            }
            let is_earlier = |place: &Cursor| place.ingest_id <= up_to && (place.time_unix_nano, place.ingest_id) >= (began.time_unix_nano, began.ingest_id);
            told.extend(page.spans.iter().filter(|(place, _)| is_earlier(place)).map(|(_, id)| *id));
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(told);
            }
        }
    }
}

impl Receiver {
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
        let looked_at = match call.time_range_type {
            TimeRangeType::TraceId => range,
            TimeRangeType::Event | TimeRangeType::Service => TimeRange::new(start.saturating_sub(LONGEST_SEGMENT_NANOS), end),
        };
        let engine = self.engine()?;
        let bad_token = || Error::InvalidRequest("NextToken is not one of this call's".into());
        let (plan, up_to, cursor) = match call.next_token.as_deref() {
            None => {
                let up_to = engine.newest_ingest_id(Table::Spans);
                (Plan::best(engine, &filter, looked_at).await?, up_to, None)
            }
            Some(token) => {
                let (need, up_to, cursor) = read_token(token).ok_or_else(bad_token)?;
                (Plan::of(&filter, need, looked_at), up_to, Some(cursor))
            }
        };
        let plan = plan.ok_or_else(bad_token)?;
        let page = engine.traces_of_spans(&plan.query, plan.range, SPANS_A_PAGE, cursor).await?;
        if !page.coverage.complete {
            return Err(unreadable());
        }
        let begun = page.spans.last().map_or(start, |(place, _)| place.time_unix_nano);
        let mut seen = HashSet::new();
        let mut ids: Vec<TraceId> = page.spans.iter().map(|(_, id)| *id).filter(|id| seen.insert(*id)).collect();
        if let (Some(_), Some(began)) = (plan.need, cursor) {
            let told = plan.told_earlier(engine, &ids, began, up_to).await?;
            ids.retain(|id| !told.contains(id));
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
                if plan.need.is_none() && !is_of_page(&trace, looked_at, cursor, up_to) {
                    continue;
                }
                n_processed += 1;
                if !keep(trace.trace_id) || !is_asked_for(&trace, range, call.time_range_type) {
                    continue;
                }
                let filter = filter.clone();
                let matched = (call.time_range_type == TimeRangeType::Event).then(|| last_event(&trace, range)).flatten();
                let summary = aside(trace, move |trace| {
                    let facts = TraceFacts::of(trace);
                    filter.holds(&facts).then(|| facts.summary())
                });
                let Some(mut summary) = summary.await? else { continue };
                if let Some(matched) = matched {
                    summary["MatchedEventTime"] = facts::seconds(matched).into();
                }
                summaries.push(summary);
            }
        }
        let mut out = json!({
            "TraceSummaries": summaries,
            "ApproximateTime": facts::seconds(begun),
            "TracesProcessedCount": n_processed,
        });
        if let Some(next) = page.next_cursor {
            out["NextToken"] = write_token(plan.need, up_to, next).into();
        }
        Ok(out)
    }
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

/// Whether the trace's newest span of that time stands behind where the page began, and so was not told before: where all spans are
/// looked at. Spans that came since the first page count only where the trace has no others.
fn is_of_page(trace: &Trace, looked_at: TimeRange, cursor: Option<Cursor>, up_to: i64) -> bool {
    let Some(cursor) = cursor else { return true };
    let times = trace.spans.iter().map(|placed| (placed.span.start_time_unix_nano, placed.span.ingest_id));
    let times = times.filter(|(time, _)| looked_at.contains(*time));
    let newest = times.clone().filter(|(_, id)| *id <= up_to).max().or_else(|| times.max());
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

/// When the last span of those that began or ended in a time frame did so.
fn last_event(trace: &Trace, range: TimeRange) -> Option<i64> {
    let times = trace.spans.iter().flat_map(|placed| {
        let start = placed.span.start_time_unix_nano;
        [start, start.saturating_add(placed.span.duration_nano.max(0))]
    });
    times.filter(|time| range.contains(*time)).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_say_what_the_first_page_decided() {
        let cursor = Cursor {
            time_unix_nano: -5,
            ingest_id: 7,
        };
        for need in [None, Some(0), Some(3)] {
            assert_eq!(
                read_token(&write_token(need, -9, cursor)).map(|(need, up_to, at)| (need, up_to, at.time_unix_nano, at.ingest_id)),
                Some((need, -9, -5, 7))
            );
        }
        for bad in ["", "a", "a.", "x.1.1.2", "1.2", "a.1.2", "-1.1.1.2"] {
            assert!(read_token(bad).is_none(), "{bad}");
        }
        let filter = Expression::parse("fault").expect("an expression");
        assert!(Plan::of(&filter, Some(0), TimeRange::ALL).is_some());
        assert!(Plan::of(&filter, Some(1), TimeRange::ALL).is_none(), "a token of another expression");
    }
}
