//! Rows become the two objects of a block.
use bytes::Bytes;

use super::{BlockMeta, Level, Result, Settings};
use crate::model::{Rows, Table};

/// A block just made, not yet stored.
#[derive(Clone, Debug)]
pub struct BuiltBlock {
    /// What the catalog will say of it.
    pub meta: BlockMeta,
    /// The Parquet object.
    pub parquet: Bytes,
    /// The index object, for searchable tables.
    pub index: Option<Bytes>,
}

/// Builds one block of all rows of `parts`, which are of `table`, in any order, and lie in the partition that starts at
/// `partition_nanos` (the caller splits). Takes two threads for its time; the block is named after `now_nanos`.
pub fn build(_table: Table, _partition_nanos: i64, _level: Level, _parts: &[Rows], _settings: &Settings, _now_nanos: i64) -> Result<BuiltBlock> {
    todo!()
}
