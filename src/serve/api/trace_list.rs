//! `GET /api/v1/traces`: traces of a time, newest first, one summary each.
//!
//! | parameter | traces |
//! |---|---|
//! | `start`, `end` | that begin in this time; the last hour, if nothing is said |
//! | `filter` | of which this X-Ray filter expression holds |
//! | `q` | of which a span of the time meets this query of the search language, `trace:(…)` and `log:(…)` included |
//! | `limit`, `cursor` | so many (100, at most 1,000), behind those of an earlier answer |
//!
//! A summary has the names of the table `traces`; times are text, lengths of time numbers of nanoseconds. An answer that ends before all spans were looked
//! at has a `next_cursor`, even where it has no trace: a condition that no index knows is asked of each trace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::Json;
use serde_json::{Value, json};

use super::graph::expression;
use super::{ApiError, Params, Question};
use crate::assemble;
use crate::model::{Table, TimeRange, TraceId};
use crate::query::xray::{TraceFacts, Walk};
use crate::query::{self, ProblemKind};
use crate::serve::Server;

/// Traces of one answer, unless the client asks otherwise, and at most.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;
/// Traces whose spans are read in one go.
const TRACES_AT_ONCE: usize = 50;
/// Pages of a walk in one answer: 50,000 spans.
const MAX_PAGES: usize = 25;
/// No further page is begun after so long: a condition that few traces meet is asked of each.
const LONGEST: Duration = Duration::from_secs(20);
/// Log records of a trace are counted so far around its spans.
const AROUND_NANOS: i64 = 3_600_000_000_000;

#[derive(Debug, serde::Deserialize)]
pub(super) struct Listed {
    filter: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(server): State<Arc<Server>>,
    Params(question): Params<Question>,
    Params(listed): Params<Listed>,
) -> Result<Json<Value>, ApiError> {
    let begun = Instant::now();
    if question.table()? != Table::Logs {
        return Err(ApiError::bad("bad_table", "this lists traces, whatever the table").hint("leave out `table`; q is asked of spans"));
    }
    let asked = question.query_of(Table::Spans)?;
    let filter = expression(listed.filter.as_deref())?;
    let range = question.range(server.clock.now_nanos())?;
    let limit = listed.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let engine = &server.engine;
    let mut walk = match listed.cursor.as_deref().filter(|text| !text.is_empty()) {
        None => Walk::begin(engine, &filter, &asked, range).await?,
        Some(token) => Walk::resume(&filter, &asked, range, token).ok_or_else(|| {
            ApiError::bad("bad_cursor", format!("cursor: {token:?} is not one of this question's")).hint("take next_cursor of an answer to the same question")
        })?,
    };
    let mut found: Vec<(TraceId, TimeRange, Value)> = Vec::new();
    let mut coverage: Option<query::Coverage> = None;
    let mut n_spans = 0;
    for number in 0..MAX_PAGES {
        if number > 0 && begun.elapsed() > LONGEST {
            break;
        }
        let mut page = walk.page(engine, TRACES_AT_ONCE).await?;
        n_spans += page.n_spans;
        match &mut coverage {
            None => coverage = Some(page.coverage.clone()),
            Some(coverage) => coverage.merge(page.coverage.clone()),
        }
        let mut last = None;
        'page: while let Some(traces) = walk.read(engine, &mut page).await? {
            for trace in traces {
                if !range.contains(trace.start_unix_nano) {
                    continue;
                }
                let cut = (!trace.coverage.complete).then(|| trace.coverage.problems.clone());
                let (id, filter) = (trace.trace_id, filter.clone());
                let end = trace.start_unix_nano.saturating_add(trace.duration_nano);
                let around = TimeRange::new(trace.start_unix_nano.saturating_sub(AROUND_NANOS), end.saturating_add(AROUND_NANOS));
                let summary = query::xray::aside(trace, move |trace| {
                    let facts = TraceFacts::of(trace);
                    filter.holds(&facts).then(|| assemble::summary_json(&facts))
                });
                let Some(summary) = summary.await? else { continue };
                if let (Some(coverage), Some(problems)) = (&mut coverage, cut) {
                    // no row of the list is lacking: one of them says `is_partial`
                    problems
                        .into_iter()
                        .for_each(|problem| coverage.note(problem.kind, problem.what, format!("trace {id}: {}", problem.message)));
                }
                found.push((id, around, summary));
                if found.len() == limit {
                    last = Some(id);
                    break 'page;
                }
            }
        }
        walk.go_behind(engine, &page, last);
        if walk.is_over() || found.len() == limit {
            break;
        }
    }
    let mut coverage = coverage.unwrap_or_else(|| query::Coverage::new(range));
    coverage.range = range;
    let next_cursor = walk.token();
    if next_cursor.is_some() && found.len() < limit {
        coverage.note(
            ProblemKind::Limit,
            "spans looked at for one answer",
            format!("{n_spans} spans were looked at; next_cursor goes on behind them"),
        );
    }
    Ok(Json(json!({
        "traces": with_logs(&server, found).await?,
        "next_cursor": next_cursor,
        "coverage": coverage,
        "took_ms": (begun.elapsed().as_secs_f64() * 1e6).round() / 1e3,
    })))
}

/// The summaries, with what is counted of each trace's log records.
async fn with_logs(server: &Server, found: Vec<(TraceId, TimeRange, Value)>) -> Result<Vec<Value>, ApiError> {
    let Some(around) = found.iter().map(|(_, around, _)| *around).reduce(|all, one| TimeRange {
        start_nanos: all.start_nanos.min(one.start_nanos),
        end_nanos: all.end_nanos.max(one.end_nanos),
    }) else {
        return Ok(Vec::new());
    };
    let ids: Vec<TraceId> = found.iter().map(|(id, ..)| *id).collect();
    let logged = server.engine.logs_of_traces(&ids, around).await?;
    let with = |(id, _, mut summary): (TraceId, TimeRange, Value)| {
        let logged = logged.get(&id).copied().unwrap_or_default();
        summary["log_count"] = logged.records.into();
        summary["worst_severity"] = logged.worst_severity.into();
        summary
    };
    Ok(found.into_iter().map(with).collect())
}
