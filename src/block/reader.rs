//! A block opened for reading.
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;

use super::{BlockIndex, BlockMeta, Result};
use crate::model::TimeRange;

/// An opened block: immutable, cheap to clone, shared by threads.
#[derive(Clone, Debug)]
pub struct Block {
    meta: Arc<BlockMeta>,
}

/// Batches of a scan, in row order.
#[derive(Debug)]
pub struct Scan {}

impl Iterator for Scan {
    type Item = Result<RecordBatch>;
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

impl Block {
    /// Opens a block over its objects (held as long as the block lives; mapped files by `Bytes::from_owner`). Checks both
    /// footers, and that both tell of the same rows as `meta`.
    ///
    /// An index that is damaged, or not of these rows, is [`Error::Index`](super::Error::Index): open again with `None`.
    pub fn open(_meta: Arc<BlockMeta>, _parquet: Bytes, _index: Option<Bytes>) -> Result<Block> {
        todo!()
    }
    /// What the catalog says of it.
    pub fn meta(&self) -> &Arc<BlockMeta> {
        &self.meta
    }
    /// The Parquet object.
    pub fn parquet(&self) -> &Bytes {
        todo!()
    }
    /// Bytes of heap that stay taken while it is open (the objects themselves not counted).
    pub fn memory_bytes(&self) -> usize {
        todo!()
    }
    /// Rows inside `range`, exactly, for tables sorted by time; all rows for the metric point tables.
    pub fn rows_in(&self, _range: &TimeRange) -> Result<Range<u32>> {
        todo!()
    }
    /// The rows with these numbers (ascending, each once), in that order: columns as stored, in the order of `columns`;
    /// none named = all.
    pub fn read(&self, _rows: &[u32], _columns: &[&str]) -> Result<RecordBatch> {
        todo!()
    }
    /// Rows of a range in batches of a few thousand, in row order.
    pub fn scan(&self, _rows: Range<u32>, _columns: &[&str]) -> Result<Scan> {
        todo!()
    }
    /// Its index, if it was opened with one.
    pub fn index(&self) -> Option<&BlockIndex> {
        todo!()
    }
    /// Estimate of the bytes that reading `n_rows` rows of `columns` (none = all) takes from the Parquet object.
    pub fn bytes_of(&self, _n_rows: usize, _columns: &[&str]) -> u64 {
        todo!()
    }
}
