//! Frames of the log that were lost, and the word of a person that this is known.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Json;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{ApiError, check_is_json};
use crate::catalog::NodeId;
use crate::ingest::LostFrames;
use crate::serve::Server;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledgement {
    /// Names the frames: a list that has grown since it was looked at has others.
    acknowledge: String,
}

pub(super) async fn acknowledge(State(server): State<Arc<Server>>, headers: HeaderMap, body: bytes::Bytes) -> Result<Json<Value>, ApiError> {
    check_is_json(&headers, "an acknowledgement")?;
    let request: Acknowledgement = serde_json::from_slice(&body).map_err(|error| {
        ApiError::bad("bad_body", error.to_string()).hint("send {\"acknowledge\": \"1234-1240\"}, with the id that lost_frames in GET /api/v1/status gives")
    })?;
    let lost = server.ingest.acknowledge_lost_frames(&request.acknowledge).await;
    let lost = lost.map_err(|refused| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "refused", refused.to_string()).hint("try again"))?;
    let lost = lost.ok_or_else(|| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "no_such_frames",
            format!("no frames {:?} are lost, or they are acknowledged already", request.acknowledge),
        )
        .hint("GET /api/v1/status lists lost_frames, each with its id")
    })?;
    Ok(Json(json!({ "acknowledged": one(&lost, server.ingest.catalog().node()) })))
}

/// As the status of node `us` shows them.
pub(super) fn one(lost: &LostFrames, us: &NodeId) -> Value {
    let bounded = |nanos: i64| (nanos != i64::MIN && nanos != i64::MAX).then(|| nanos.to_string());
    json!({
        "id": lost.id(),
        "node": lost.node.as_ref().unwrap_or(us),
        "first_lsn": lost.first_lsn,
        "last_lsn": lost.last_lsn,
        "frames": lost.frames,
        "received_from_unix_nano": lost.received_from_nanos.map(|nanos| nanos.to_string()),
        "received_to_unix_nano": lost.received_to_nanos.to_string(),
        "events_from_unix_nano": bounded(lost.events.0),
        "events_to_unix_nano": bounded(lost.events.1),
        "why": lost.why,
        "copy": lost.copy,
    })
}
