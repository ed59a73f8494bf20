//! A span around each request, for our own traces.

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;

use crate::telemetry::SPANS;

/// Paths that somebody asks all day long, and whose spans nobody misses.
const UNTOLD: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Runs the request in a span of its route. Costs next to nothing where spans are not kept.
pub async fn traced(request: Request<Body>, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_string();
    if UNTOLD.contains(&route.as_str()) {
        return next.run(request).await;
    }
    let method = request.method().as_str();
    let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
    let span = tracing::info_span!(
        target: SPANS,
        "request",
        otel.name = format!("{method} {route}"),
        http.request.method = method,
        http.route = route,
        rpc.method = target,
        http.response.status_code = tracing::field::Empty,
    );
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    response
}
