//! A batch becomes immutable: one Parquet file and, for searchable tables, one tantivy bundle beside it.
//!
//! Row n of the Parquet file is document n of the index. Rows of `logs` and `spans` stand newest first
//! (time descending, then `ingest_id` descending: a total order); metric points by name, series and time.

mod meta;

pub use meta::{BlockId, BlockMeta, Level};
