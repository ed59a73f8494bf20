//! Which traces this process has written: an answer that costs nothing for those that are surely new.

use std::collections::{BTreeMap, HashMap};

use super::reread::REACH_NANOS;
use crate::model::TraceId;

/// Traces remembered, some 50 bytes each. (Few in tests.)
const MAX_REMEMBERED: usize = if cfg!(test) { 5 } else { 2_000_000 };

/// What is remembered of a trace.
#[derive(Clone, Copy, Debug)]
struct Remembered {
    /// The last hour in which it was noted.
    hour: i64,
    /// Its first start.
    first_nanos: i64,
}

/// IDs of traces that were written, by the hour in which they start.
#[derive(Debug)]
pub(super) struct Known {
    /// Of those that start earlier, not all are here.
    covers_from_nanos: i64,
    /// Each by a hash of its ID.
    traces: HashMap<u64, Remembered>,
    /// The traces that were noted in each; of some, a later hour counts.
    by_hour: BTreeMap<i64, Vec<u64>>,
    /// Entries of all hours.
    n_remembered: usize,
}

impl Known {
    /// Knows all that is written from now on, if it starts at this time or later.
    pub(super) fn covering_from(covers_from_nanos: i64) -> Known {
        Known {
            covers_from_nanos,
            traces: HashMap::new(),
            by_hour: BTreeMap::new(),
            n_remembered: 0,
        }
    }

    /// Whether a trace has no row: one of which parts begin then, and all parts within reach of that.
    pub(super) fn is_surely_new(&self, id: &TraceId, first_nanos: i64) -> bool {
        first_nanos.saturating_sub(REACH_NANOS) >= self.covers_from_nanos && !self.has(id)
    }

    /// Whether it is remembered.
    pub(super) fn has(&self, id: &TraceId) -> bool {
        self.traces.contains_key(&hash_of(id))
    }

    /// When it starts, if it is remembered: the parts of one that takes hours come hours apart.
    pub(super) fn first_nanos(&self, id: &TraceId) -> Option<i64> {
        Some(self.traces.get(&hash_of(id))?.first_nanos)
    }

    /// A trace that starts then was written.
    pub(super) fn note(&mut self, id: &TraceId, start_nanos: i64) {
        let hour = start_nanos.div_euclid(REACH_NANOS);
        let hash = hash_of(id);
        let mut first_nanos = start_nanos;
        if let Some(known) = self.traces.get_mut(&hash) {
            known.first_nanos = known.first_nanos.min(start_nanos);
            if known.hour >= hour {
                return;
            }
            first_nanos = known.first_nanos;
        }
        self.traces.insert(hash, Remembered { hour, first_nanos });
        self.by_hour.entry(hour).or_default().push(hash);
        self.n_remembered += 1;
        while self.n_remembered > MAX_REMEMBERED {
            let Some((hour, forgotten)) = self.by_hour.pop_first() else { return };
            self.n_remembered -= forgotten.len();
            for hash in forgotten {
                if self.traces.get(&hash).is_some_and(|known| known.hour == hour) {
                    self.traces.remove(&hash);
                }
            }
            self.covers_from_nanos = self.covers_from_nanos.max(hour.saturating_add(1).saturating_mul(REACH_NANOS));
        }
    }
}

fn hash_of(id: &TraceId) -> u64 {
    xxhash_rust::xxh3::xxh3_64(id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_is_not_new() {
        let id = |n: u8| TraceId::from_bytes(&[n; 16]).expect("an ID");
        let mut known = Known::covering_from(10 * REACH_NANOS);
        assert!(!known.is_surely_new(&id(1), 10 * REACH_NANOS), "what is within its reach may have a row");
        assert!(known.is_surely_new(&id(1), 11 * REACH_NANOS));
        known.note(&id(1), 11 * REACH_NANOS);
        assert!(!known.is_surely_new(&id(1), 11 * REACH_NANOS) && known.has(&id(1)));
        for n in 2..=30 {
            known.note(&id(n), i64::from(n) * 100 * REACH_NANOS);
        }
        assert!(!known.has(&id(1)) && !known.is_surely_new(&id(1), 11 * REACH_NANOS));
        assert!(known.n_remembered <= MAX_REMEMBERED && known.has(&id(30)));
        assert!(known.is_surely_new(&id(31), 3_000 * REACH_NANOS));
    }

    #[test]
    fn the_last_hour_in_which_a_trace_was_written_counts() {
        let id = |n: u8| TraceId::from_bytes(&[n; 16]).expect("an ID");
        let mut known = Known::covering_from(0);
        // written again with an earlier start, and with a later one
        for (n, hour) in [(1, 50), (1, 10), (2, 10), (2, 60)] {
            known.note(&id(n), hour * REACH_NANOS);
        }
        assert_eq!(
            (known.first_nanos(&id(1)), known.first_nanos(&id(2))),
            (Some(10 * REACH_NANOS), Some(10 * REACH_NANOS))
        );
        for n in 3..=5 {
            known.note(&id(n), i64::from(n) * REACH_NANOS * 20);
        }
        assert!(known.has(&id(1)) && known.has(&id(2)), "the hour 10 is forgotten, in which both were written");
        assert!(known.n_remembered <= MAX_REMEMBERED && known.traces.len() <= known.n_remembered);
    }
}
