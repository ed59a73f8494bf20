//! Deletes by query: the order, and how far each has come.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Json, Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{ApiError, Question, check_is_json};
use crate::catalog::{CommitId, Delete, Snapshot};
use crate::ingest::{DeleteError, DeleteRequest};
use crate::serve::Server;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    #[serde(default)]
    table: Option<String>,
    query: String,
    from: String,
    to: String,
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn order(State(server): State<Arc<Server>>, headers: HeaderMap, body: bytes::Bytes) -> Result<Response, ApiError> {
    check_is_json(&headers, "a delete")?;
    let order: Order = serde_json::from_slice(&body).map_err(|error| {
        ApiError::bad("bad_body", error.to_string())
            .hint("send {\"table\": \"logs\", \"query\": \"user.email:a@b.example\", \"from\": \"2026-01-01\", \"to\": \"now\", \"dry_run\": true}")
    })?;
    if let Some(other) = order.table.as_deref().filter(|table| !["logs", "spans"].contains(table)) {
        return Err(ApiError::bad(
            "bad_table",
            format!("rows of {other:?} cannot be deleted by a query, only those of logs and spans"),
        )
        .hint("traces and service_edges follow a delete of spans; metrics go by age, [retention]"));
    }
    if order.query.trim().is_empty() {
        return Err(ApiError::bad("bad_query", "an empty query would delete every row of the range").hint("write * if that is meant"));
    }
    let question = Question {
        q: order.query.clone(),
        start: Some(order.from),
        end: Some(order.to),
        table: order.table,
    };
    let (table, query) = (question.table()?, question.query()?);
    let range = question.range(server.clock.now_nanos())?;
    let counted = server.engine.count(table, &query, range).await?;
    let mut answer = json!({
        "dry_run": order.dry_run,
        "table": table.name(),
        "from_unix_nano": range.start_nanos.to_string(),
        "to_unix_nano": range.end_nanos.to_string(),
        "rows": counted.count,
        "coverage": counted.coverage,
    });
    if order.dry_run {
        return Ok(Json(answer).into_response());
    }
    let request = DeleteRequest {
        table,
        query: order.query,
        range,
    };
    let id = server.ingest.delete(&request).await.map_err(refusal)?;
    answer["id"] = id.as_str().into();
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

fn refusal(error: DeleteError) -> ApiError {
    match error {
        DeleteError::Query(message) => ApiError::bad("bad_query", message),
        DeleteError::Table(_) => ApiError::bad("bad_table", error.to_string()),
        DeleteError::TooMany(_) => ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_deletes", error.to_string()),
        DeleteError::Catalog(_) => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", error.to_string()).hint("GET /api/v1/deletes tells whether it was taken")
        }
    }
}

pub(super) async fn list(State(server): State<Arc<Server>>) -> Json<Value> {
    let catalog = server.ingest.catalog();
    let snapshot = catalog.snapshot();
    let mut all: Vec<(&CommitId, &Delete)> = snapshot.deletes().iter().collect();
    all.sort_by_key(|(id, delete)| (std::cmp::Reverse(delete.at_nanos), *id));
    let mut deletes = Vec::with_capacity(all.len());
    for (id, delete) in all {
        let query = match delete.ended_at_nanos {
            // what follows a delete of spans names nothing but traces
            None if delete.order.table.is_searchable() => catalog.query_of(delete).await.ok(),
            _ => None,
        };
        deletes.push(one(&snapshot, id, delete, query));
    }
    Json(json!({ "deletes": deletes }))
}

/// `done`: on every node; `waiting`: only logs of other nodes may still hold rows; else `running`.
fn one(snapshot: &Snapshot, id: &CommitId, delete: &Delete, query: Option<String>) -> Value {
    let behind: Vec<&str> = match delete.ended_at_nanos {
        Some(_) => vec![],
        None => snapshot.nodes_behind(delete).map(|node| node.as_str()).collect(),
    };
    let state = match delete.ended_at_nanos {
        Some(_) => "done",
        None if delete.todo.is_empty() && !behind.contains(&delete.node.as_str()) => "waiting",
        None => "running",
    };
    json!({
        "id": id.as_str(),
        "state": state,
        "table": delete.order.table.name(),
        "query": query,
        "from_unix_nano": delete.order.start_nanos.to_string(),
        "to_unix_nano": delete.order.end_nanos.to_string(),
        "ordered_unix_nano": delete.at_nanos.to_string(),
        "ended_unix_nano": delete.ended_at_nanos.map(|at| at.to_string()),
        "rows_deleted": delete.n_rows,
        "blocks_done": delete.n_blocks,
        "blocks_left": delete.todo.len(),
        "nodes_behind": behind,
    })
}
