//! Rows of blocks as they were answered, kept for whoever asks for them again.
//!
//! People ask for the same rows again and again: a page that refreshes, an alert's evidence, the trace behind a line. A row
//! of a block never changes and a block's name is never given twice, so a kept row stays right for ever; whether it is in an
//! answer (it may be deleted since) is settled before anybody looks here. Bounded in bytes, the least lately used go first.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use super::Hit;
use super::metrics::METRICS;
use crate::block::{BlockId, Recent};

/// What a kept row costs besides its bytes, about.
const ENTRY_BYTES: usize = 128;
/// A row larger than one part in this many of the bound is not kept.
const LARGEST_PART: usize = 16;

/// Answered rows of any number of blocks.
#[derive(Debug)]
pub(super) struct RowCache {
    kept: Recent<RowKey, Arc<Hit>>,
}

/// A row of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RowKey {
    block: u128,
    row: u32,
}

impl RowKey {
    /// The rows of a block with these numbers.
    pub(super) fn of_block(block: &BlockId) -> impl Fn(u32) -> RowKey + use<> {
        let block = xxh3_128(block.as_str().as_bytes());
        move |row| RowKey { block, row }
    }
}

fn kept_bytes(hit: &Hit) -> usize {
    hit.memory_bytes() + ENTRY_BYTES
}

impl RowCache {
    /// An empty one; with a bound of 0 it stays empty.
    pub(super) fn new(max_bytes: usize) -> Arc<RowCache> {
        Arc::new(RowCache {
            kept: Recent::new(max_bytes, LARGEST_PART),
        })
    }

    pub(super) fn get(&self, key: RowKey) -> Option<Hit> {
        // copied outside the lock
        let found = self.kept.get(&key);
        let counter = if found.is_some() {
            &METRICS.row_cache_hits
        } else {
            &METRICS.row_cache_misses
        };
        counter.inc();
        found.map(|hit| Hit::clone(&hit))
    }

    /// A row for whoever only looks at it: no answer, so it is not counted as one that was spared.
    pub(super) fn peek(&self, key: RowKey) -> Option<Arc<Hit>> {
        self.kept.get(&key)
    }

    pub(super) fn keep(&self, key: RowKey, hit: &Hit) {
        let n_bytes = kept_bytes(hit);
        if self.kept.takes(n_bytes) {
            let n_bytes = self.kept.keep(key, Arc::new(hit.clone()), n_bytes);
            METRICS.row_cache_bytes.set(i64::try_from(n_bytes).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::LogHit;

    fn hit(n_bytes: usize) -> Hit {
        Hit::Log(Box::new(LogHit {
            body: Some("x".repeat(n_bytes)),
            ..LogHit::default()
        }))
    }

    #[test]
    fn the_least_lately_used_rows_go_and_the_bound_holds() {
        let key = RowKey::of_block(&BlockId::new(0));
        let cache = RowCache::new(64 << 10);
        for row in 0..1_000 {
            cache.keep(key(row), &hit(1_000));
            assert!(cache.get(key(0)).is_some(), "row 0 is used all the time, and went at {row}");
            assert!(cache.kept.n_bytes() <= 64 << 10);
        }
        assert!(cache.get(key(1)).is_none() && cache.get(key(999)).is_some());
    }

    #[test]
    fn a_row_that_would_push_out_many_is_not_kept() {
        let key = RowKey::of_block(&BlockId::new(0));
        let cache = RowCache::new(64 << 10);
        cache.keep(key(0), &hit(5_000));
        assert!(cache.get(key(0)).is_none());
        let none = RowCache::new(0);
        none.keep(key(0), &hit(0));
        assert!(none.get(key(0)).is_none());
    }

    #[test]
    fn rows_of_two_blocks_are_told_apart() {
        let (a, b) = (RowKey::of_block(&BlockId::new(0)), RowKey::of_block(&BlockId::new(0)));
        let cache = RowCache::new(64 << 10);
        cache.keep(a(7), &hit(10));
        assert_eq!((cache.get(a(7)), cache.get(b(7))), (Some(hit(10)), None));
    }
}
