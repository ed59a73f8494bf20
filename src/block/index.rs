//! The index of an opened block.
use std::ops::Range;
use std::sync::Arc;

use arrow::buffer::BooleanBuffer;

use super::{IndexQuery, RawField, Result};
use crate::model::Context;

/// The index of one block: answers which rows match an [`IndexQuery`].
///
/// Answers of [`first`](Self::first), [`bitmap`](Self::bitmap) and [`count`](Self::count) are exact where
/// [`is_exact`](Self::is_exact) says so; else they may hold rows too many (never too few), which the caller verifies:
/// attribute terms over 255 bytes are indexed by their beginning only.
#[derive(Debug)]
pub struct BlockIndex {}

impl BlockIndex {
    /// The contexts of the block's rows, by number.
    pub fn contexts(&self) -> &[Arc<Context>] {
        todo!()
    }
    /// Rows of the block.
    pub fn n_rows(&self) -> u32 {
        todo!()
    }
    /// Whether the answers to `query` need no verification of rows.
    pub fn is_exact(&self, _query: &IndexQuery) -> Result<bool> {
        todo!()
    }
    /// The first `k` matching rows of `rows`, ascending (newest first), found without looking at the rest.
    pub fn first(&self, _query: &IndexQuery, _rows: Range<u32>, _k: usize) -> Result<Vec<u32>> {
        todo!()
    }
    /// Matching rows of `rows`, as bits over the whole block.
    pub fn bitmap(&self, _query: &IndexQuery, _rows: Range<u32>) -> Result<BooleanBuffer> {
        todo!()
    }
    /// How many rows of `rows` match; of a single term over the whole block, without reading postings.
    pub fn count(&self, _query: &IndexQuery, _rows: Range<u32>) -> Result<u64> {
        todo!()
    }
    /// Values of an attribute and how many rows have each, by value. Values over the term length are cut; bounded.
    pub fn key_values(&self, _key: &str) -> Result<Vec<(String, u64)>> {
        todo!()
    }
    /// Attribute names in this block, sorted; bounded.
    pub fn keys(&self) -> Result<Vec<String>> {
        todo!()
    }
    /// Values of a field and how many rows have each, by value; bounded.
    pub fn term_values(&self, _field: RawField) -> Result<Vec<(String, u64)>> {
        todo!()
    }
    /// How many rows each context has, by number.
    pub fn context_counts(&self) -> Result<Vec<u64>> {
        todo!()
    }
}
