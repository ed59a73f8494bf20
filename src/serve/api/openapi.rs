//! The API's description, for tools and people.

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

/// OpenAPI 3.1.
const DOCUMENT: &str = include_str!("openapi.json");

pub(super) async fn document() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_is_json_and_names_every_route() {
        let document: serde_json::Value = serde_json::from_str(super::DOCUMENT).expect("JSON");
        for path in [
            "/search",
            "/count",
            "/histogram",
            "/facets",
            "/records/{id}",
            "/tail",
            "/traces",
            "/traces/{id}",
            "/traces/{id}/spans/{span_id}",
            "/traces/{id}/analysis",
            "/compare",
            "/patterns",
            "/exemplars",
            "/services",
            "/service-graph",
            "/sql",
            "/delete",
            "/deletes",
            "/nodes/forget",
            "/alerts",
            "/alerts/{id}",
            "/notifications",
            "/status",
            "/lost-frames",
        ] {
            assert!(document["paths"].get(format!("/api/v1{path}")).is_some(), "{path}");
        }
    }
}
