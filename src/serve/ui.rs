//! The pages: `dashboards/ui/dist`, built into the binary.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{HeaderMap, StatusCode};

/// The built pages. A debug build reads the folder at run time.
#[derive(rust_embed::RustEmbed)]
#[folder = "dashboards/ui/dist"]
struct Dist;

/// Nothing but our own files may run, and nobody may frame us.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; \
    connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Bytes below which compression costs more than it saves.
const MIN_COMPRESSED_BYTES: usize = 1_024;

type Compressed = Arc<OnceLock<HashMap<String, Bytes>>>;

/// Routes of the pages; `/` leads to the search page.
pub(super) fn router() -> axum::Router {
    let compressed: Compressed = Arc::default();
    let filling = compressed.clone();
    // 0.4 s once, aside, so that start-up does not wait for it
    std::thread::spawn(move || drop(filling.set(compress_all())));
    axum::Router::new()
        .route("/", get(|| async { Redirect::to("/ui/search") }))
        .route("/ui", get(|| async { Redirect::to("/ui/search") }))
        .route("/ui/", get(|| async { Redirect::to("/ui/search") }))
        .route("/ui/{*path}", get(file))
        .with_state(compressed)
}

fn compress_all() -> HashMap<String, Bytes> {
    let mut out = HashMap::new();
    for name in Dist::iter().filter(|name| !name.ends_with(".woff2") && !name.ends_with(".png")) {
        let Some(file) = Dist::get(&name) else { continue };
        if file.data.len() < MIN_COMPRESSED_BYTES {
            continue;
        }
        let parameters = brotli::enc::BrotliEncoderParams {
            quality: 9,
            ..Default::default()
        };
        let mut small = Vec::new();
        if brotli::BrotliCompress(&mut file.data.as_ref(), &mut small, &parameters).is_ok() {
            out.insert(name.to_string(), small.into());
        }
    }
    out
}

async fn file(Path(path): Path<String>, State(compressed): State<Compressed>, headers: HeaderMap) -> Response {
    let is_asset = path.starts_with("assets/");
    let (name, file) = match Dist::get(&path) {
        Some(file) => (path, file),
        // an asset that is not there is an error; a page is drawn by the one document
        None if is_asset => return (StatusCode::NOT_FOUND, "no such asset").into_response(),
        None => match Dist::get("index.html") {
            Some(file) => ("index.html".to_string(), file),
            None => return (StatusCode::NOT_FOUND, "this build has no pages: run `npm ci && npm run build` in dashboards/ui").into_response(),
        },
    };
    let etag = format!("\"{}\"", hex(&file.metadata.sha256_hash()[..16]));
    let is_known = headers.get(IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == etag.as_bytes());
    let takes_brotli = headers
        .get(ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("br"));
    let small = compressed.get().and_then(|files| files.get(&name)).filter(|_| takes_brotli).cloned();
    let mut response = Response::builder().status(if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    if small.is_some() {
        response = response.header(CONTENT_ENCODING, "br");
    }
    let body = match (is_known, small) {
        (true, _) => Body::empty(),
        (false, Some(small)) => Body::from(small),
        (false, None) => Body::from(file.data.into_owned()),
    };
    let cache = if is_asset { "public, max-age=31536000, immutable" } else { "no-cache" };
    response
        .header(CONTENT_TYPE, mime_guess::from_path(&name).first_or_octet_stream().as_ref())
        .header(CACHE_CONTROL, cache)
        .header(VARY, "accept-encoding")
        .header(ETAG, etag)
        .header("content-security-policy", HeaderValue::from_static(CONTENT_SECURITY_POLICY))
        .header("x-content-type-options", "nosniff")
        .header("referrer-policy", "same-origin")
        .body(body)
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
