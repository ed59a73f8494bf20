//! Sockets, TLS, body caps, capped decompression, and the drain signal.
//!
//! Every inbound byte passes here first: [`body::read`] is the only way a request body gets into memory, bounded before
//! and after inflation. Never knows a protocol.

pub mod body;
pub mod inflate;

pub use inflate::Encoding;
