//! Turns away requests without a token, in the words of the face they came to.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};

use super::api::error_body;
use crate::access::Caller;
use crate::net::auth::Config;

const ASKS: &str = "this server asks for a token";

/// For pages, API and OTLP: a bearer token, or (browsers) HTTP Basic with a token as the password; who signed with an
/// access key has been let in before ([`crate::receive::signed`]). `/healthz` and
/// `/readyz` stay open: orchestrators have no token, and they tell nothing.
pub async fn require_bearer(State(config): State<Arc<Config>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path == "/healthz" || path == "/readyz" || config.allows(request.headers()) || Caller::of(request.extensions()).key().is_some() {
        return next.run(request).await;
    }
    if is_grpc(request.headers()) {
        // a body after the headers would be an unknown error to some clients: gRPC has its status in the headers alone
        return tonic::Status::unauthenticated(format!("{ASKS}: send the metadata `authorization: Bearer TOKEN`")).into_http::<Body>();
    }
    let body = error_body(
        "unauthorized",
        ASKS,
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

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::middleware::from_fn_with_state;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn each_face_is_refused_in_its_own_words() {
        let config = Arc::new(Config {
            bearer_tokens: vec!["s3cret".into()],
        });
        let answer = async |content_type: &str, token: &str| {
            let face = Router::new()
                .fallback(|| async { "in" })
                .layer(from_fn_with_state(config.clone(), require_bearer));
            let asked = http::Request::post("/x")
                .header(CONTENT_TYPE, content_type)
                .header("authorization", format!("Bearer {token}"));
            let answer = face.oneshot(asked.body(Body::empty()).expect("a request")).await.expect("an answer");
            let (head, body) = answer.into_parts();
            (head, body.collect().await.expect("a body").to_bytes())
        };
        for content_type in ["application/grpc", "application/grpc+proto"] {
            let (head, body) = answer(content_type, "wrong").await;
            assert_eq!((head.status, head.headers["grpc-status"].as_bytes()), (StatusCode::OK, &b"16"[..]));
            assert!(body.is_empty(), "the status stands in the headers, which end the answer");
            assert_eq!(answer(content_type, "s3cret").await.1, "in");
        }
        let (head, body) = answer("application/json", "wrong").await;
        assert_eq!(head.status, StatusCode::UNAUTHORIZED);
        assert!(head.headers.contains_key(WWW_AUTHENTICATE) && body.starts_with(b"{"));
    }
}
