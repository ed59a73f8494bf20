//! Calls between services: spans whose parent is of another service.
//!
//! `endTs` (now) and `lookback` (a day) are milliseconds. Counted are spans that are complete, each once, by SQL over the spans of that time;
//! a parent that began before it is not seen.

use std::sync::Arc;

use axum::extract::{Query as QueryString, State};
use axum::response::Json;
use serde_json::{Value, json};

use super::{Asked, Params, Result, answer};
use crate::query::SqlRequest;
use crate::serve::Server;

const DAY_MILLIS: i64 = 86_400_000;
/// Pairs of services.
const MAX_PAIRS: usize = 10_000;

pub(super) async fn dependencies(State(server): State<Arc<Server>>, QueryString(asked): Asked) -> Result<Json<Value>> {
    let asked = Params(asked);
    let now_millis = server.clock.now_nanos().div_euclid(1_000_000);
    let end = asked.number("endTs")?.unwrap_or(now_millis);
    let start = end.saturating_sub(asked.number("lookback")?.unwrap_or(DAY_MILLIS).max(0));
    let request = SqlRequest {
        query: statement(start, end),
        limit: MAX_PAIRS,
    };
    let found = server.engine.sql(&request).await?;
    let pair = |row: &Vec<Value>| {
        let count = row[2].as_str().and_then(|text| text.parse::<u64>().ok()).or_else(|| row[2].as_u64());
        json!({ "parent": row[0], "child": row[1], "callCount": count.unwrap_or_default() })
    };
    Ok(answer(found.rows.iter().map(pair).collect()))
}

fn statement(start_millis: i64, end_millis: i64) -> String {
    let (start, end) = (start_millis.saturating_mul(1_000_000), end_millis.saturating_mul(1_000_000));
    let within = |table: &str| format!("{table}.start_time_unix_nano >= {start} AND {table}.start_time_unix_nano <= {end}");
    format!(
        "SELECT caller.service_name AS parent, called.service_name AS child, count(DISTINCT called.trace_id || called.span_id) AS calls \
         FROM spans AS called JOIN spans AS caller ON called.trace_id = caller.trace_id AND called.parent_span_id = caller.span_id \
         WHERE called.service_name <> caller.service_name AND NOT called.in_progress AND {} AND {} \
         GROUP BY 1, 2 ORDER BY 1, 2",
        within("called"),
        within("caller"),
    )
}
