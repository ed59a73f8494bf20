//! `GET /api/v1/exemplars`: measured values that name the trace in which they were measured, newest first.
//!
//! | parameter | exemplars |
//! |---|---|
//! | `metric`, `service` | of a metric and a service of these names |
//! | `trace` | of this trace, in any spelling of its ID |
//! | `start`, `end` | of this time; the last hour, if nothing is said |
//! | `limit` | so many (100, at most 10,000) |

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Json;
use serde_json::{Map, Value, json};

use super::traces::trace_id;
use super::{ApiError, Params, Question};
use crate::model::{TimeRange, TraceId};
use crate::query::SqlRequest;
use crate::serve::Server;

/// Exemplars of one answer, unless the client asks otherwise, and at most.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 10_000;

#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Asked {
    metric: Option<String>,
    service: Option<String>,
    trace: Option<String>,
    limit: Option<usize>,
}

impl Asked {
    /// The statement that finds them, and one more than asked for.
    fn statement(&self, range: TimeRange, limit: usize) -> Result<String, ApiError> {
        let mut statement = format!(
            "SELECT time, time_unix_nano, metric_name, service_name, series_id, coalesce(value, CAST(value_int AS DOUBLE)) AS value, \
             trace_id, span_id, attributes FROM metric_exemplars \
             WHERE trace_id IS NOT NULL AND time_unix_nano >= {} AND time_unix_nano < {}",
            range.start_nanos, range.end_nanos
        );
        let trace = self.trace.as_deref().map(trace_id).transpose()?.map(|id| id.to_string());
        for (column, value) in [("metric_name", &self.metric), ("service_name", &self.service), ("trace_id", &trace)] {
            if let Some(value) = value {
                // writing to a string does not fail
                let _ = write!(statement, " AND {column} = '{}'", value.replace('\'', "''"));
            }
        }
        let _ = write!(statement, " ORDER BY time_unix_nano DESC, ingest_id DESC LIMIT {}", limit + 1);
        Ok(statement)
    }
}

pub(super) async fn list(State(server): State<Arc<Server>>, Params(question): Params<Question>, Params(asked): Params<Asked>) -> Result<Json<Value>, ApiError> {
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let range = question.range(server.clock.now_nanos())?;
    let request = SqlRequest {
        query: asked.statement(range, limit)?,
        limit: limit + 1,
    };
    let mut answer = server.engine.sql(&request).await?;
    let is_cut = answer.rows.len() > limit || answer.truncated;
    answer.rows.truncate(limit);
    let names: Vec<&str> = answer.columns.iter().map(|column| column.name.as_str()).collect();
    let exemplar = |row: Vec<Value>| {
        let mut out: Map<String, Value> = names.iter().map(|name| (*name).to_string()).zip(row).collect();
        let trace = out.get("trace_id").and_then(Value::as_str).and_then(TraceId::from_hex);
        out.insert("xray_trace_id".into(), trace.map(|id| id.to_xray()).into());
        Value::Object(out)
    };
    Ok(Json(json!({
        "exemplars": answer.rows.into_iter().map(exemplar).collect::<Vec<_>>(),
        "truncated": is_cut,
        "coverage": answer.coverage,
        "took_ms": (answer.took.as_secs_f64() * 1e6).round() / 1e3,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_texts_whatever_they_hold() {
        let asked = Asked {
            metric: Some("it's' OR 1=1 --".into()),
            trace: Some("1-5759e988-bd862e3fe1be46a994272793".into()),
            ..Asked::default()
        };
        let statement = asked.statement(TimeRange::new(5, 9), 3).expect("a statement");
        let behind = statement.split_once("WHERE").expect("conditions").1;
        assert_eq!(
            behind,
            " trace_id IS NOT NULL AND time_unix_nano >= 5 AND time_unix_nano < 9 AND metric_name = 'it''s'' OR 1=1 --' \
             AND trace_id = '5759e988bd862e3fe1be46a994272793' ORDER BY time_unix_nano DESC, ingest_id DESC LIMIT 4"
        );
        let bad = Asked {
            trace: Some("what".into()),
            ..Asked::default()
        };
        assert!(bad.statement(TimeRange::ALL, 1).is_err());
    }
}
