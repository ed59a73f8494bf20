//! Nodes: giving one up whose disk is lost.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Json;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::ApiError;
use crate::ingest::NotGivenUp;
use crate::serve::Server;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Forget {
    node: String,
}

pub(super) async fn forget(State(server): State<Arc<Server>>, headers: HeaderMap, body: bytes::Bytes) -> Result<Json<Value>, ApiError> {
    super::check_is_json(&headers, "what is to be forgotten")?;
    let forget: Forget =
        serde_json::from_slice(&body).map_err(|error| ApiError::bad("bad_body", error.to_string()).hint("send {\"node\": \"26 letters and digits\"}"))?;
    let given_up = server.ingest.give_up(&forget.node).await.map_err(refusal)?;
    let lost = match given_up.had_left {
        true => "nothing: it had stopped in order, with everything flushed",
        false => "what it acknowledged and had not flushed; what it counted until then stays in the ledger",
    };
    let mut answer = json!(given_up);
    answer["lost"] = lost.into();
    Ok(Json(answer))
}

fn refusal(error: NotGivenUp) -> ApiError {
    let (status, code) = match &error {
        NotGivenUp::Itself(_) => (StatusCode::BAD_REQUEST, "bad_node"),
        NotGivenUp::Unknown(_) => (StatusCode::NOT_FOUND, "node_not_found"),
        NotGivenUp::Alive { .. } => (StatusCode::CONFLICT, "node_alive"),
        NotGivenUp::NotListed | NotGivenUp::Catalog(_) => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
    };
    ApiError::new(status, code, error.to_string())
}
