//! Counts the values of an attribute by a block's index: the matching rows among the rows of each value.
//!
//! Reading an attribute row by row decodes every matching row's attributes and parses its JSON body. Where the values are
//! few and the rows many, one bitmap a value is far less. The numbers are the same, or there are none: values that the
//! index does not know whole are left to be read.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::buffer::BooleanBuffer;

use super::limits::Stop;
use super::values::cut;
use crate::block::{Block, BlockIndex, IndexQuery};

/// With more values than this, reading the rows is no dearer.
const MAX_VALUES: usize = 256;
/// Fewer rows than this are soon read. (Few in tests, which have few rows.)
const MIN_ROWS: usize = if cfg!(test) { 2 } else { 4_096 };

/// What an index says of an attribute.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Counts {
    /// Values and the matching rows that have each.
    pub(super) values: Vec<(String, u64)>,
    /// Matching rows without any.
    pub(super) missing: u64,
}

/// Counts the values of an attribute in the rows of `found` (bits over the block, all of them in `rows`); `None` where
/// the rows must be read.
pub(super) fn counts(block: &Block, key: &str, found: &BooleanBuffer, rows: &Range<u32>, stop: &Stop) -> Option<Counts> {
    let index = block.index()?;
    if found.count_set_bits() < MIN_ROWS {
        return None;
    }
    let mut having = BooleanBuffer::new_unset(found.len());
    let mut values = Vec::new();
    for (value, query) in queries(index, key)? {
        if stop.is_over() {
            break;
        }
        let bits = &index.bitmap(&query, rows.clone()).ok()? & found;
        let n_rows = bits.count_set_bits();
        if n_rows > 0 {
            values.push((value, n_rows as u64));
            having = &having | &bits;
        }
    }
    let missing = (found.count_set_bits() - having.count_set_bits()) as u64;
    Some(Counts { values, missing })
}

/// Each value with the question that finds its rows, on the record, in a JSON body or on the resource.
fn queries(index: &BlockIndex, key: &str) -> Option<Vec<(String, IndexQuery)>> {
    let mut queries: BTreeMap<String, Vec<IndexQuery>> = BTreeMap::new();
    // an index that has too many, or cannot be read, leaves it to the rows
    let of_rows = index.key_values(key).ok()?;
    if of_rows.len() > MAX_VALUES {
        return None;
    }
    for (value, _) in of_rows {
        let query = IndexQuery::KeyValue {
            key: key.to_string(),
            value: value.clone(),
        };
        if cut(&value) != value || !index.is_exact(&query).ok()? {
            return None;
        }
        queries.insert(value, vec![query]);
    }
    let mut contexts: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (number, context) in (0u32..).zip(index.contexts()) {
        if let Some(value) = context.attribute(key) {
            contexts.entry(cut(value)).or_default().push(number);
        }
    }
    for (value, numbers) in contexts {
        queries.entry(value.to_string()).or_default().push(IndexQuery::Contexts(numbers));
    }
    (queries.len() <= MAX_VALUES).then(|| queries.into_iter().map(|(value, any)| (value, IndexQuery::Or(any))).collect())
}
