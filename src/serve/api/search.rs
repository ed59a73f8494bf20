//! Search, count, histogram, facets, one record, SQL.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Json, Response};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{ApiError, Params, Question};
use crate::model::{Table, parse_duration_nanos};
use crate::query::{CountRequest, DEFAULT_MAX_BODY, FacetsRequest, HistogramRequest, SearchRequest, SqlRequest};
use crate::serve::Server;

/// Rows of a page unless the client asks otherwise.
const DEFAULT_LIMIT: usize = 100;
/// Bars of a histogram unless the client asks otherwise.
const DEFAULT_BUCKETS: usize = 60;
/// Groups of a count unless the client asks otherwise.
const DEFAULT_GROUPS: usize = 1_000;
/// Values of a facet unless the client asks otherwise.
const DEFAULT_FACET_VALUES: usize = 10;
/// Rows of a SQL answer unless the client asks otherwise.
const DEFAULT_SQL_ROWS: usize = 1_000;

#[derive(Debug, serde::Deserialize)]
pub(super) struct Page {
    limit: Option<usize>,
    cursor: Option<String>,
    max_body: Option<usize>,
}

pub(super) async fn search(
    State(server): State<Arc<Server>>,
    Params(question): Params<Question>,
    Params(page): Params<Page>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let cursor = page.cursor.as_deref().filter(|text| !text.is_empty()).map(str::parse).transpose()?;
    let request = SearchRequest {
        table: question.table()?,
        query: question.query()?,
        range: question.range(server.clock.now_nanos())?,
        limit: page.limit.unwrap_or(DEFAULT_LIMIT),
        cursor,
        order: crate::query::Order::NewestFirst,
    };
    let answer = server.engine.search(&request).await?;
    let max_body = page.max_body.unwrap_or(DEFAULT_MAX_BODY);
    let hits: Vec<_> = answer.hits.iter().map(|hit| hit.with_max_body(max_body)).collect();
    let took_ms = answer.took.as_secs_f64() * 1e3;
    if headers.get(ACCEPT).is_some_and(|value| value.as_bytes().starts_with(b"application/x-ndjson")) {
        let mut out = Vec::new();
        for hit in &hits {
            serde_json::to_writer(&mut out, hit).map_err(internal)?;
            out.push(b'\n');
        }
        let trailer = json!({ "trailer": { "next_cursor": answer.next_cursor, "coverage": answer.coverage, "took_ms": took_ms } });
        serde_json::to_writer(&mut out, &trailer).map_err(internal)?;
        out.push(b'\n');
        return Ok(([(CONTENT_TYPE, "application/x-ndjson")], out).into_response());
    }
    #[derive(serde::Serialize)]
    struct Answer<'a, H: serde::Serialize> {
        hits: Vec<H>,
        next_cursor: &'a Option<crate::query::Cursor>,
        coverage: &'a crate::query::Coverage,
        took_ms: f64,
    }
    Ok(Json(Answer {
        hits,
        next_cursor: &answer.next_cursor,
        coverage: &answer.coverage,
        took_ms,
    })
    .into_response())
}

fn internal(error: serde_json::Error) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())
}

#[derive(Debug, serde::Deserialize)]
pub(super) struct Buckets {
    buckets: Option<usize>,
}

pub(super) async fn histogram(
    State(server): State<Arc<Server>>,
    Params(question): Params<Question>,
    Params(buckets): Params<Buckets>,
) -> Result<Response, ApiError> {
    let request = HistogramRequest {
        table: question.table()?,
        query: question.query()?,
        range: question.range(server.clock.now_nanos())?,
        buckets: buckets.buckets.unwrap_or(DEFAULT_BUCKETS),
    };
    Ok(Json(server.engine.histogram(&request).await?).into_response())
}

#[derive(Debug, serde::Deserialize)]
pub(super) struct Groups {
    by: Option<String>,
    bucket: Option<String>,
    limit: Option<usize>,
}

impl Groups {
    fn bucket_nanos(&self) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.bucket.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        match parse_duration_nanos(text).filter(|nanos| *nanos > 0) {
            Some(nanos) => Ok(Some(nanos)),
            None => Err(ApiError::bad("bad_bucket", format!("bucket: {text:?} is not a length of time")).hint("give it a unit: 30s, 5m, 1h, 1d")),
        }
    }
}

pub(super) async fn count(State(server): State<Arc<Server>>, Params(question): Params<Question>, Params(groups): Params<Groups>) -> Result<Response, ApiError> {
    let request = CountRequest {
        table: question.table()?,
        query: question.query()?,
        range: question.range(server.clock.now_nanos())?,
        by: names(groups.by.as_deref().unwrap_or_default()),
        bucket_nanos: groups.bucket_nanos()?,
        limit: groups.limit.unwrap_or(DEFAULT_GROUPS),
    };
    Ok(Json(server.engine.count_groups(&request).await?).into_response())
}

/// Names apart by commas.
fn names(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_string).collect()
}

#[derive(Debug, serde::Deserialize)]
pub(super) struct Fields {
    fields: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn facets(
    State(server): State<Arc<Server>>,
    Params(question): Params<Question>,
    Params(fields): Params<Fields>,
) -> Result<Response, ApiError> {
    let request = FacetsRequest {
        table: question.table()?,
        query: question.query()?,
        range: question.range(server.clock.now_nanos())?,
        fields: names(fields.fields.as_deref().unwrap_or("severity,service_name,aws_log_group")),
        limit: fields.limit.unwrap_or(DEFAULT_FACET_VALUES),
    };
    Ok(Json(server.engine.facets(&request).await?).into_response())
}

#[derive(Debug, serde::Deserialize)]
pub(super) struct When {
    time: i64,
    table: Option<String>,
}

pub(super) async fn record(State(server): State<Arc<Server>>, Path(id): Path<String>, Params(when): Params<When>) -> Result<Response, ApiError> {
    let id: i64 = id
        .parse()
        .map_err(|_| ApiError::bad("bad_id", format!("{id:?} is not a record's id")).hint("take `id` and `time_unix_nano` of a hit"))?;
    let table = match when.table.as_deref() {
        None | Some("logs") => Table::Logs,
        Some("spans") => Table::Spans,
        Some(other) => return Err(ApiError::bad("bad_table", format!("table {other:?} has no records to show"))),
    };
    match server.engine.record(table, id, when.time).await? {
        Some(record) => {
            let mut out = serde_json::to_value(record.hit.with_max_body(0)).map_err(internal)?;
            out["coverage"] = json!(record.coverage);
            Ok(Json(out).into_response())
        }
        None => Err(ApiError::new(StatusCode::NOT_FOUND, "record_not_found", "there is no such record").hint("it may have expired")),
    }
}

#[derive(Debug, serde::Deserialize)]
struct Statement {
    query: String,
    limit: Option<usize>,
}

pub(super) async fn sql(State(server): State<Arc<Server>>, body: bytes::Bytes) -> Result<Json<Value>, ApiError> {
    let statement: Statement =
        serde_json::from_slice(&body).map_err(|error| ApiError::bad("bad_body", error.to_string()).hint("send {\"query\": \"SELECT …\", \"limit\": 1000}"))?;
    let request = SqlRequest {
        query: statement.query,
        limit: statement.limit.unwrap_or(DEFAULT_SQL_ROWS),
    };
    let answer = server.engine.sql(&request).await?;
    serde_json::to_value(answer).map(Json).map_err(internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_a_length_of_time_or_refused() {
        let groups = |bucket: &str| Groups {
            by: None,
            bucket: Some(bucket.into()),
            limit: None,
        };
        assert_eq!(groups("1h").bucket_nanos().ok(), Some(Some(3_600_000_000_000)));
        assert_eq!(groups("").bucket_nanos().ok(), Some(None));
        for bad in ["0s", "1", "hour", "-1h"] {
            assert!(groups(bad).bucket_nanos().is_err(), "{bad}");
        }
        assert_eq!(names(" service_name, severity,,"), ["service_name", "severity"]);
    }
}
