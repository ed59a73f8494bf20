//! Sockets, TLS, body caps, capped decompression, and who may talk to us.
//!
//! Every inbound byte passes here first: [`body::read`] is the only way a request body gets into memory, bounded before
//! and after inflation and, over all requests, by one [`budget::Budget`]; [`listen::Listener`] bounds connections, and
//! [`serve`] how long a silent one is kept; [`auth::Config`] says who may pass. Never knows a protocol.

pub mod auth;
pub mod body;
pub mod budget;
pub mod inflate;
pub mod listen;
mod serve;
mod traced;

pub use budget::{Budget, Exhausted, Share};
pub use inflate::Encoding;
pub use listen::Listener;
pub use serve::serve;
pub use traced::traced;
