//! The protocols: reads requests under their caps, hands them to [`crate::ingest`], answers in the protocol's own words.
//!
//! Who may call the AWS faces, [`signed`] decides; tokens are [`crate::serve`]'s matter.
//!
//! A receiver authenticates, caps and inflates the body ([`crate::net`]), decodes it ([`crate::decode`]), hands bytes
//! and rows over together, and only then says yes. What it may hand over to is an [`Intake`]: the write path in the
//! server, memory in tests. It never names the log, blocks or the store.
//!
//! What requests hold in memory, from the first byte read to the answer, comes out of one [`Budget`]; when it is spent, a
//! request is told to come again ([`Config::max_memory_bytes`]). Bodies are read as they come; inflating and decoding are
//! done aside unless they are known to be little work.
//!
//! | receiver | speaks | answers overload with |
//! |---|---|---|
//! | [`otlp`] | OTLP over gRPC and HTTP, protobuf and JSON | `UNAVAILABLE` with `RetryInfo`; 503 with `Retry-After` |
//! | [`awslogs`] | CloudWatch Logs, AWS JSON 1.1 on `POST /` | 503 `ServiceUnavailableException` |
//! | [`awsmetrics`] | CloudWatch `PutMetricData`: query form, JSON, CBOR | 503 `ServiceUnavailable` |
//! | [`firehose`] | Firehose's HTTP endpoint, `POST /firehose` | 503 |
//! | [`itself`] | nothing: what our own telemetry caught | a pause |
//! | [`xray`] | X-Ray, REST-JSON on `POST /TraceSegments` and others; the daemon's datagrams | 429 `ThrottledException`; datagrams: waits, then counts |

mod intake;
mod metrics;
mod answer;
pub mod signed;
pub mod otlp;
pub mod awslogs;
pub mod awsmetrics;
pub mod xray;
pub mod firehose;
pub mod itself;
#[cfg(test)]
mod testing;

pub use answer::{REQUEST_ID, request_id};
pub use intake::Intake;

use axum::body::Body as HttpBody;
use axum::http::Request;
use bytes::Bytes;

use crate::decode::{self, Context, Decoded, Kind};
use crate::net::body::{self, Body, Caps};
use crate::net::{Budget, Share};

/// Settings of all receivers; each with its default.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Memory that requests may hold at once, over all receivers, from their first byte to their answer (768 MiB): bodies,
    /// what they inflate to, and what is made of them. Then requests are refused for a while.
    pub max_memory_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_memory_bytes: 768 << 20 }
    }
}

impl Config {
    /// The budget that all receivers share.
    pub fn budget(&self) -> std::sync::Arc<Budget> {
        Budget::new(self.max_memory_bytes)
    }
}

/// Bodies that inflate to no more than this are decoded where they arrive; larger ones on a thread that may be busy for
/// a while.
const DECODE_INLINE_BYTES: usize = 64 * 1024;

/// Why a body did not become rows.
#[derive(Debug, thiserror::Error)]
enum Undecoded {
    #[error(transparent)]
    Body(#[from] body::Error),
    #[error(transparent)]
    Decode(#[from] decode::Error),
}

/// Reads the body of a request under one cap, on the wire and inflated: AWS clients that send gzip send no more than
/// those that do not.
async fn read(request: Request<HttpBody>, max_body_bytes: usize, share: Share) -> Result<Body, body::Error> {
    let (head, body) = request.into_parts();
    let caps = Caps {
        max_body_bytes,
        max_inflated_bytes: max_body_bytes,
    };
    let encoding = body::encoding(&head.headers)?;
    body::read(&head.headers, body, encoding, caps, share).await
}

/// Inflates a body and runs `work` on it without holding up other requests. Gives what `work` made, and the share that
/// stands for it.
async fn inflate_aside<T, E>(mut body: Body, work: impl FnOnce(Bytes, &mut Share) -> Result<T, E> + Send + 'static) -> Result<(T, Share), E>
where
    T: Send + 'static,
    E: From<body::Error> + Send + 'static,
{
    if let Some(inflated) = body.inflate_small(DECODE_INLINE_BYTES)? {
        return Ok((work(inflated, &mut body.share)?, body.share));
    }
    aside(move || {
        let inflated = body.inflate()?;
        Ok((work(inflated, &mut body.share)?, body.share))
    })
    .await
}

/// Decodes a body, its memory set aside before. Afterwards `share` holds what the rows take in place of what making
/// them took.
fn decode_within(share: &mut Share, kind: Kind, body: &[u8], context: &Context) -> Result<Decoded, Undecoded> {
    let before = share.bytes();
    let weighed = decode::weigh(kind, body)?;
    share.hold_also(weighed.memory_bytes()).map_err(body::Error::from)?;
    let decoded = weighed.decode(context)?;
    share.hold(before.saturating_add(decoded.batch.memory_bytes())).map_err(body::Error::from)?;
    Ok(decoded)
}

/// Runs `work` on `n_bytes` of input without holding up other requests.
async fn decode_aside<T: Send + 'static>(n_bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if n_bytes <= DECODE_INLINE_BYTES { work() } else { aside(work).await }
}

async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // nothing aborts these tasks, so the only error is a panic, which goes on in the request it belongs to
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
