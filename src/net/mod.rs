//! Sockets, TLS, body caps, capped decompression, and who may talk to us.
//!
//! Every inbound byte passes here first: [`body::read`] is the only way a request body gets into memory, bounded before
//! and after inflation; [`listen::Listener`] bounds connections; [`auth::Config`] says who may pass. Never knows a
//! protocol.

pub mod auth;
pub mod body;
pub mod inflate;
pub mod listen;

pub use inflate::Encoding;
