//! What a trace says of itself, and how two sets of rows differ.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, State};
use axum::response::Json;
use serde_json::{Value, json};

use super::traces::find;
use super::{ApiError, Params, Question};
use crate::model::{Table, TimeRange, parse_duration_nanos};
use crate::query::analysis::{Analysis, OperationTime, compare};
use crate::query::{self, Bound, Coverage, Hit, Query, SearchRequest, Test, Trace};
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
    let analysis = Analysis::of(&trace);
    let mut coverage = trace.coverage.clone();
    let range = TimeRange::new(trace.start_unix_nano.saturating_sub(before), trace.start_unix_nano);
    let mut places = Vec::new();
    for operation in analysis.operations.iter().filter(|operation| operation.critical_nano > 0).take(MAX_USUAL) {
        places.extend(place(&server, &trace, operation, range, &mut coverage).await?);
    }
    let mut out = analysis.to_json(&trace);
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
    let comparison = compare(&selection.hits, &others.hits, baseline.limit.unwrap_or(DEFAULT_FIELDS));
    Ok(Json(json!({
        "selection": { "rows": selection.rows, "sampled": selection.hits.len() },
        "baseline": { "rows": others.rows, "sampled": others.hits.len() },
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

/// The newest rows of a set, and how many there are.
struct Sample {
    rows: u64,
    hits: Vec<Hit>,
}

async fn sample(server: &Server, table: Table, query: Query, range: TimeRange, limit: usize, coverage: &mut Coverage) -> Result<Sample, ApiError> {
    let counted = server.engine.count(table, &query, range).await?;
    coverage.merge(counted.coverage);
    let request = SearchRequest {
        table,
        query,
        range,
        limit,
        cursor: None,
        order: query::Order::NewestFirst,
    };
    let page = server.engine.search(&request).await?;
    coverage.merge(page.coverage);
    Ok(Sample {
        rows: counted.count,
        hits: page.hits,
    })
}
