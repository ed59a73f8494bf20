//! Turns away requests without a token, in the words of the face they came to.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::WWW_AUTHENTICATE;

use super::api::error_body;
use crate::net::auth::Config;
use crate::receive;

/// For pages, API and OTLP: a bearer token, or (browsers) HTTP Basic with a token as the password. `/healthz` and
/// `/readyz` stay open: orchestrators have no token, and they tell nothing.
pub async fn require_bearer(State(config): State<Arc<Config>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path == "/healthz" || path == "/readyz" || config.allows(request.headers()) {
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

/// For AWS faces where tokens are configured: signatures are not verified yet, so nothing but a token can be let in.
pub async fn require_no_aws_credentials(State(config): State<Arc<Config>>, request: Request, next: Next) -> Response {
    if config.allows(request.headers()) {
        return next.run(request).await;
    }
    let code = "UnrecognizedClientException";
    let message = "This server has bearer tokens configured and does not verify AWS signatures: AWS clients are served on a loopback address without tokens.";
    let body = serde_json::json!({ "__type": code, "message": message, "Message": message });
    (
        StatusCode::BAD_REQUEST,
        [
            ("x-amzn-errortype", code),
            ("content-type", "application/x-amz-json-1.1"),
            (receive::REQUEST_ID.as_str(), &receive::request_id()),
        ],
        body.to_string(),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_refusal_on_an_aws_face_looks_like_any_other_error_there() {
        let config = Arc::new(Config {
            bearer_tokens: vec!["longenough".into()],
        });
        let router: Router = Router::new().layer(from_fn_with_state(config, require_no_aws_credentials));
        let answer = router
            .oneshot(Request::post("/").body(Body::empty()).expect("a request"))
            .await
            .expect("routers do not fail");
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert_eq!(answer.headers()["x-amzn-errortype"], "UnrecognizedClientException");
        assert_eq!(answer.headers()[receive::REQUEST_ID].len(), 36);
    }
}
