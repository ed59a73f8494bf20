//! `GetTraceSummaries`.
//!
//! Its pages are those of a [`Walk`] through the traces of the time frame. `TimeRangeType`: `TraceId` takes traces that start in the time frame, `Event` those of which a span began or ended in it, with the
//! time of the last such event as `MatchedEventTime`, `Service` those of which a segment ended in it.

use axum::body::Body;
use axum::http::Request;
use serde::Deserialize;
use serde_json::{Value, json};

use super::reads::{nanos, unreadable};
use super::{Error, Receiver, Result};
use crate::model::{TimeRange, TraceId};
use crate::query::xray::walk::LookedAt;
use crate::query::xray::{Expression, TraceFacts, Walk, aside, facts};
use crate::query::{self, Query, Trace};

/// Traces whose spans are read in one go.
const TRACES_AT_ONCE: usize = 50;

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
            TimeRangeType::TraceId => range.into(),
            TimeRangeType::Event | TimeRangeType::Service => LookedAt::events(range),
        };
        let engine = self.engine()?;
        let mut walk = match call.next_token.as_deref() {
            None => Walk::begin(engine, &filter, &Query::All, looked_at).await?,
            Some(token) => {
                let walk = Walk::resume(&filter, &Query::All, looked_at, token);
                walk.ok_or_else(|| Error::InvalidRequest("NextToken is not one of this call's".into()))?
            }
        };
        let mut page = walk.page(engine, TRACES_AT_ONCE).await?;
        if !page.coverage.complete {
            return Err(unreadable());
        }
        let (mut summaries, mut n_processed) = (Vec::new(), 0);
        while let Some(traces) = walk.read(engine, &mut page).await? {
            for trace in traces {
                n_processed += 1;
                if !keep(trace.trace_id) {
                    continue;
                }
                let (filter, by) = (filter.clone(), call.time_range_type);
                let summary = aside(trace, move |trace| {
                    // of most that are read in vain this is said at once
                    if by == TimeRangeType::TraceId && !range.contains(trace.start_unix_nano) {
                        return None;
                    }
                    let facts = TraceFacts::of(trace);
                    let is_told = is_asked_for(&facts, range, by) && filter.holds(&facts);
                    let mut summary = is_told.then(|| facts.summary())?;
                    if let Some(matched) = last_event(trace, range).filter(|_| by == TimeRangeType::Event) {
                        summary["MatchedEventTime"] = facts::seconds(matched).into();
                    }
                    Some(summary)
                });
                summaries.extend(summary.await?);
            }
        }
        walk.go_behind(engine, &page, None);
        let mut out = json!({
            "TraceSummaries": summaries,
            "ApproximateTime": facts::seconds(page.begun_nanos.unwrap_or(start)),
            "TracesProcessedCount": n_processed,
        });
        if let Some(next) = walk.token() {
            out["NextToken"] = next.into();
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

fn is_asked_for(facts: &TraceFacts<'_>, range: TimeRange, by: TimeRangeType) -> bool {
    let end = |span: &query::SpanHit| span.start_time_unix_nano.saturating_add(span.duration_nano.max(0));
    let trace = facts.trace;
    let mut spans = trace.spans.iter().map(|placed| &placed.span);
    match by {
        TimeRangeType::TraceId => range.contains(trace.start_unix_nano),
        TimeRangeType::Event => spans.any(|span| range.contains(span.start_time_unix_nano) || range.contains(end(span))),
        TimeRangeType::Service => {
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
