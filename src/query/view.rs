//! What a query reads: see [`crate::ingest::View`].

pub use crate::ingest::{Source, View};
