//! The protocols: reads requests under their caps, hands them to [`crate::ingest`], answers in the protocol's own words.
//!
//! A receiver authenticates, caps and inflates the body ([`crate::net`]), decodes it ([`crate::decode`]), hands bytes
//! and rows over together, and only then says yes. What it may hand over to is an [`Intake`]: the write path in the
//! server, memory in tests. It never names the log, blocks or the store.
//!
//! | receiver | speaks | answers overload with |
//! |---|---|---|
//! | [`otlp`] | OTLP over gRPC and HTTP, protobuf and JSON | `UNAVAILABLE` with `RetryInfo`; 503 with `Retry-After` |
//! | [`awslogs`] | CloudWatch Logs, AWS JSON 1.1 on `POST /` | 503 `ServiceUnavailableException` |
//! | [`xray`] | X-Ray, REST-JSON on `POST /TraceSegments` and others; the daemon's datagrams | 429 `ThrottledException`; datagrams: waits, then counts |

mod intake;
mod metrics;
mod answer;
pub mod otlp;
pub mod awslogs;
pub mod xray;
#[cfg(test)]
mod testing;

pub use intake::Intake;

use crate::net::body::Caps;

/// Bodies up to this size are decoded where they arrive; larger ones on a thread that may be busy for a while.
const DECODE_INLINE_BYTES: usize = 64 * 1024;

/// Runs `work` on `n_bytes` of input without holding up other requests.
async fn decode_aside<T: Send + 'static>(n_bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if n_bytes <= DECODE_INLINE_BYTES {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // nothing aborts these tasks, so the only error is a panic, which goes on in the request it belongs to
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Both caps of a face in one number: AWS clients that send gzip send no more than those that do not.
fn caps(max_body_bytes: usize) -> Caps {
    Caps {
        max_body_bytes,
        max_inflated_bytes: max_body_bytes,
    }
}
