//! What a trace says of itself, and how two sets of rows differ.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, State};
use axum::response::Json;
use serde_json::{Value, json};

use super::traces::find;
use super::{ApiError, Params, Question};
use crate::model::{Table, TimeRange, parse_duration_nanos};
use crate::query::analysis::OperationTime;
use crate::query::{self, Bound, Coverage, Hit, ProblemKind, Query, SearchRequest, Test, Trace};
use crate::serve::Server;

/// How long before a trace the others are that it is compared with, unless the client asks otherwise.
const DEFAULT_USUAL: &str = "1h";
/// Operations of a trace that are compared with others of their kind.
const MAX_USUAL: usize = 5;
/// Rows of each set that are compared, unless the client asks otherwise; at most as many as a page has.
const DEFAULT_SAMPLE: usize = 2_000;
/// Fields that differ, unless the client asks otherwise.
const DEFAULT_FIELDS: usize = 20;

#[derive(Debug, serde::Deserialize)]
pub(super) struct Usual {
    usual: Option<String>,
}

pub(super) async fn trace(State(server): State<Arc<Server>>, Path(id): Path<String>, Params(usual): Params<Usual>) -> Result<Json<Value>, ApiError> {
    let begun = Instant::now();
    let text = usual.usual.as_deref().unwrap_or(DEFAULT_USUAL);
    let before = parse_duration_nanos(text)
        .filter(|nanos| *nanos > 0)
        .ok_or_else(|| ApiError::bad("bad_usual", format!("usual: {text:?} is not a length of time")).hint("give it a unit: 15m, 1h, 1d"))?;
    let trace = find(&server, &id).await?;
    let (trace, analysis, mut out) = server.engine.analyze(trace).await?;
    let mut coverage = trace.coverage.clone();
    let range = TimeRange::new(trace.start_unix_nano.saturating_sub(before), trace.start_unix_nano);
    let mut places = Vec::new();
    for operation in analysis.operations.iter().filter(|operation| operation.critical_nano > 0).take(MAX_USUAL) {
        places.extend(place(&server, &trace, operation, range, &mut coverage).await?);
    }
    out["usual"] = places.into();
    out["coverage"] = json!(coverage);
    out["took_ms"] = took_ms(begun).into();
    Ok(Json(out))
}

fn took_ms(begun: Instant) -> f64 {
    (begun.elapsed().as_secs_f64() * 1e6).round() / 1e3
}

/// Where the longest span of an operation stands among those of others in a range of time.
async fn place(server: &Server, trace: &Trace, operation: &OperationTime, range: TimeRange, coverage: &mut Coverage) -> Result<Option<Value>, ApiError> {
    let is_of_it = |span: &&query::TraceSpan| span.span.name == operation.name && span.service() == operation.service;
    let Some(longest) = trace.spans.iter().filter(is_of_it).max_by_key(|span| span.span.duration_nano) else {
        return Ok(None);
    };
    let mut of_it = Query::equals("name", &operation.name);
    if !operation.service.is_empty() {
        of_it = of_it.and(Query::equals("service", &operation.service));
    }
    let faster = of_it.clone().and(Query::Field {
        name: "duration_nano".into(),
        test: Test::Range {
            from: Bound::Open,
            to: Bound::Excluded(longest.span.duration_nano.to_string()),
        },
    });
    let all = server.engine.count(Table::Spans, &of_it, range).await?;
    let faster = server.engine.count(Table::Spans, &faster, range).await?;
    let counts = (all.count, faster.count);
    coverage.merge(all.coverage);
    coverage.merge(faster.coverage);
    Ok(Some(json!({
        "service": operation.service,
        "name": operation.name,
        "span_id": longest.span.span_id,
        "duration_nano": longest.span.duration_nano,
        "spans": counts.0,
        "faster": counts.1,
        // nothing to compare with says nothing
        "slower_than": (counts.0 > 0).then(|| counts.1 as f64 / counts.0 as f64),
    })))
}

/// The set that the selection is compared with; what is not given is the selection's.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Baseline {
    baseline: Option<String>,
    baseline_start: Option<String>,
    baseline_end: Option<String>,
    sample: Option<usize>,
    limit: Option<usize>,
}

pub(super) async fn difference(
    State(server): State<Arc<Server>>,
    Params(question): Params<Question>,
    Params(baseline): Params<Baseline>,
) -> Result<Json<Value>, ApiError> {
    let begun = Instant::now();
    let now_nanos = server.clock.now_nanos();
    let (table, range) = (question.table()?, question.range(now_nanos)?);
    let other_range = match (&baseline.baseline_start, &baseline.baseline_end) {
        (None, None) => range,
        _ => question.at(baseline.baseline_start.clone(), baseline.baseline_end.clone()).range(now_nanos)?,
    };
    let selected = question.query()?;
    let other = match &baseline.baseline {
        Some(text) => query::parse(text, table).map_err(query::Error::from)?,
        // the same at another time; at the same time, all else
        None if other_range != range => selected.clone(),
        None => !selected.clone(),
    };
    let limit = baseline.sample.unwrap_or(DEFAULT_SAMPLE);
    let mut coverage = Coverage::new(range);
    let selection = sample(&server, table, selected, range, limit, &mut coverage).await?;
    let others = sample(&server, table, other, other_range, limit, &mut coverage).await?;
    let comparison = server
        .engine
        .compare(selection.hits, others.hits, baseline.limit.unwrap_or(DEFAULT_FIELDS))
        .await?;
    for (what, message) in comparison.bounds {
        coverage.note(ProblemKind::Limit, what, message);
    }
    Ok(Json(json!({
        "selection": { "rows": selection.rows, "sampled": comparison.compared[0] },
        "baseline": { "rows": others.rows, "sampled": comparison.compared[1] },
        "fields": comparison.fields.iter().map(|field| json!({
            "field": field.field,
            "difference": field.difference,
            "values": field.values.iter().map(|(value, selection, baseline)| json!({
                "value": value, "selection": selection, "baseline": baseline,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "identifiers": comparison.identifiers,
        "coverage": coverage,
        "took_ms": took_ms(begun),
    })))
}

/// Parts of a time out of which a sample is taken.
const SAMPLE_PARTS: usize = 16;

/// Rows of a set, and how many there are.
struct Sample {
    rows: u64,
    hits: Vec<Hit>,
}

async fn sample(server: &Server, table: Table, query: Query, range: TimeRange, limit: usize, coverage: &mut Coverage) -> Result<Sample, ApiError> {
    let counted = server.engine.count(table, &query, range).await?;
    coverage.merge(counted.coverage);
    let rows = counted.count;
    // the newest rows of two sets may well be of two different hours, by which they would then differ most
    let (parts, limit) = match usize::try_from(rows) {
        Ok(rows) if rows <= limit => (vec![range], limit),
        _ => (parts_of(range), limit.div_ceil(SAMPLE_PARTS)),
    };
    let mut hits = Vec::new();
    for range in parts {
        let request = SearchRequest {
            table,
            query: query.clone(),
            range,
            limit,
            cursor: None,
            order: query::Order::NewestFirst,
        };
        let page = server.engine.search(&request).await?;
        coverage.merge(page.coverage);
        hits.extend(page.hits);
    }
    Ok(Sample { rows, hits })
}

/// A time in parts of one length, newest first.
fn parts_of(range: TimeRange) -> Vec<TimeRange> {
    let length = i128::from(range.end_nanos) - i128::from(range.start_nanos);
    let border = |number: usize| {
        let behind = length * number as i128 / SAMPLE_PARTS as i128;
        // within the range, so within 64 bits
        i64::try_from(i128::from(range.start_nanos) + behind).unwrap_or(range.end_nanos)
    };
    (0..SAMPLE_PARTS)
        .rev()
        .map(|number| TimeRange::new(border(number), border(number + 1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_time_are_all_of_it() {
        for (start, end) in [(0, 160), (-7, 5), (i64::MIN, i64::MAX), (3, 3)] {
            let parts = parts_of(TimeRange::new(start, end));
            assert_eq!(
                (parts.len(), parts[0].end_nanos, parts[SAMPLE_PARTS - 1].start_nanos),
                (SAMPLE_PARTS, end, start)
            );
            assert!(parts.windows(2).all(|pair| pair[0].start_nanos == pair[1].end_nanos));
        }
    }
}
