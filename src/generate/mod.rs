//! Data out of a seed: the shop that `demo` simulates, and the load generator that benches and tests use.
//!
//! ```text
//!  values (one seeded stream) ─┬▶ shop: eight services, advanced to a time ─▶ Telemetry ─┐
//!                              └▶ load: request bodies, built beforehand ────────────────┴▶ send: real sockets, counted
//! ```
//!
//! Promises: the same seed and times give the same data, byte for byte, whatever the machine. What is sent goes through
//! real sockets in the shape of real clients: OTLP/HTTP protobuf, `PutLogEvents`, X-Ray datagrams. Each record ends counted
//! in [`send::Counters`] as acknowledged, rejected, given up or (UDP, which has no answer) sent.
//!
//! Knows nothing of the server's inside: it could as well send to a collector.

pub mod values;
pub mod otlp;
pub mod send;
pub mod load;
pub mod shop;

/// Why generating ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The client could not be set up.
    #[error("cannot set up the client: {0}")]
    Client(#[from] reqwest::Error),
    /// No UDP socket.
    #[error("cannot open a UDP socket towards {address}: {source}")]
    Socket {
        /// Towards what.
        address: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// Nothing that was sent was acknowledged.
    #[error("nothing was acknowledged: {0}")]
    Refused(String),
}

/// This module's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;
