//! Turns away requests without a token, in the words of the face they came to.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::WWW_AUTHENTICATE;

use super::api::error_body;
use crate::access::Caller;
use crate::net::auth::Config;

/// For pages, API and OTLP: a bearer token, or (browsers) HTTP Basic with a token as the password; who signed with an
/// access key has been let in before ([`crate::receive::signed`]). `/healthz` and
/// `/readyz` stay open: orchestrators have no token, and they tell nothing.
pub async fn require_bearer(State(config): State<Arc<Config>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path == "/healthz" || path == "/readyz" || config.allows(request.headers()) || Caller::of(request.extensions()).key().is_some() {
        return next.run(request).await;
    }
    let body = error_body(
        "unauthorized",
        "this server asks for a token",
        Some("send `Authorization: Bearer TOKEN`; browsers: any user name, the token as password"),
        None,
    );
    (
        StatusCode::UNAUTHORIZED,
        [(WWW_AUTHENTICATE, "Basic realm=\"tracelake\", charset=\"UTF-8\"")],
        axum::Json(body),
    )
        .into_response()
}
