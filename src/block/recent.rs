//! What was used of late, within a bound in bytes.

use std::hash::Hash;

use lru::LruCache;
use parking_lot::Mutex;

/// Values by key, the least lately used of which go when there are too many bytes.
#[derive(Debug)]
pub struct Recent<K: Hash + Eq, V> {
    max_bytes: usize,
    largest: usize,
    kept: Mutex<Kept<K, V>>,
}

#[derive(Debug)]
struct Kept<K: Hash + Eq, V> {
    /// Each with its bytes.
    values: LruCache<K, (V, usize)>,
    n_bytes: usize,
}

impl<K: Hash + Eq, V: Clone> Recent<K, V> {
    /// Nothing yet; with a bound of 0 it stays so. One value may take `max_bytes / largest_part`: a larger one would push out
    /// too many others, and is not kept.
    pub fn new(max_bytes: usize, largest_part: usize) -> Self {
        Self {
            max_bytes,
            largest: max_bytes / largest_part,
            kept: Mutex::new(Kept {
                values: LruCache::unbounded(),
                n_bytes: 0,
            }),
        }
    }

    /// A value, which is thereby used. It is copied under the lock: let that be cheap.
    pub fn get(&self, key: &K) -> Option<V> {
        self.kept.lock().values.get(key).map(|(value, _)| value.clone())
    }

    /// Whether a value of so many bytes is kept at all.
    pub fn takes(&self, n_bytes: usize) -> bool {
        n_bytes <= self.largest
    }

    /// The bytes that one value may take.
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// Keeps a value that takes `n_bytes`; gives the bytes of all.
    pub fn keep(&self, key: K, value: V, n_bytes: usize) -> usize {
        let mut kept = self.kept.lock();
        if self.takes(n_bytes) {
            kept.n_bytes += n_bytes;
            if let Some((_, replaced)) = kept.values.put(key, (value, n_bytes)) {
                kept.n_bytes -= replaced;
            }
        }
        while kept.n_bytes > self.max_bytes {
            let Some((_, (_, dropped))) = kept.values.pop_lru() else { break };
            kept.n_bytes -= dropped;
        }
        kept.n_bytes
    }

    /// Bytes of all.
    pub fn n_bytes(&self) -> usize {
        self.kept.lock().n_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_lately_used_go_and_the_bound_holds() {
        let recent = Recent::new(100_000, 4);
        for number in 0..500 {
            recent.keep(number, number, 1_000 + number);
            assert_eq!(recent.get(&0), Some(0), "it is used all the time, and went at {number}");
            let kept = recent.kept.lock();
            assert!(kept.n_bytes <= 100_000);
            assert_eq!(kept.n_bytes, kept.values.iter().map(|(_, (_, n_bytes))| n_bytes).sum::<usize>());
        }
        assert_eq!((recent.get(&1), recent.get(&499)), (None, Some(499)));
    }

    #[test]
    fn one_that_would_push_out_many_is_not_kept() {
        let recent = Recent::new(100, 4);
        assert_eq!(recent.keep(1, (), 26), 0);
        assert_eq!((recent.get(&1), recent.keep(1, (), 25)), (None, 25));
        let none = Recent::new(0, 4);
        assert_eq!((none.keep(1, (), 1), none.get(&1)), (0, None));
    }

    #[test]
    fn one_that_is_kept_twice_counts_once() {
        let recent = Recent::new(100, 1);
        recent.keep(1, "a", 60);
        assert_eq!((recent.keep(1, "b", 70), recent.get(&1), recent.n_bytes()), (70, Some("b"), 70));
    }
}
