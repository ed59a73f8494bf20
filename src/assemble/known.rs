//! Which traces have rows, as far as is remembered: those that this process has written, and of before it those of the last hours. An answer that costs
//! nothing for those that are surely new.

use std::collections::{BTreeMap, HashMap};

use super::reread::REACH_NANOS;
use crate::model::TraceId;
use crate::query::Arrived;

/// Traces remembered, some 60 bytes each. (Few in tests.)
const MAX_REMEMBERED: usize = if cfg!(test) { 5 } else { 2_000_000 };

/// What is remembered of a trace.
#[derive(Clone, Copy, Debug)]
struct Remembered {
    /// The last hour in which it was noted.
    hour: i64,
    /// Its first start.
    first_nanos: i64,
    /// Its last end.
    last_nanos: i64,
    /// Whether this process has written it.
    is_ours: bool,
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

    /// Whether this process has written it.
    pub(super) fn has_written(&self, id: &TraceId) -> bool {
        self.traces.get(&hash_of(id)).is_some_and(|known| known.is_ours)
    }

    /// From its first start to its last end, with what came now: the parts of one that takes hours come hours apart.
    pub(super) fn extent(&self, id: &TraceId, arrived: &Arrived) -> (i64, i64) {
        match self.traces.get(&hash_of(id)) {
            Some(known) => (known.first_nanos.min(arrived.first_nanos), known.last_nanos.max(arrived.last_nanos)),
            None => (arrived.first_nanos, arrived.last_nanos),
        }
    }

    /// The same of several together.
    pub(super) fn extent_of_all(&self, some: &[(TraceId, Arrived)]) -> (i64, i64) {
        let extents = some.iter().map(|(id, arrived)| self.extent(id, arrived));
        let together = extents.reduce(|(first, last), (other_first, other_last)| (first.min(other_first), last.max(other_last)));
        together.unwrap_or_default()
    }

    /// This process writes a trace, from its first start to its last end.
    pub(super) fn note(&mut self, id: &TraceId, start_nanos: i64, end_nanos: i64) {
        self.put(id, start_nanos, end_nanos, true);
    }

    /// A trace has rows of before.
    pub(super) fn note_earlier(&mut self, id: &TraceId, arrived: &Arrived) {
        self.put(id, arrived.first_nanos, arrived.last_nanos, false);
    }

    /// All traces are noted that have rows and start at this time or later.
    pub(super) fn covers_from(&mut self, nanos: i64) {
        self.covers_from_nanos = self.covers_from_nanos.min(nanos);
    }

    fn put(&mut self, id: &TraceId, start_nanos: i64, end_nanos: i64, is_ours: bool) {
        let hour = start_nanos.div_euclid(REACH_NANOS);
        let hash = hash_of(id);
        let mut now = Remembered {
            hour,
            first_nanos: start_nanos,
            last_nanos: end_nanos,
            is_ours,
        };
        if let Some(known) = self.traces.get_mut(&hash) {
            known.first_nanos = known.first_nanos.min(start_nanos);
            known.last_nanos = known.last_nanos.max(end_nanos);
            known.is_ours |= is_ours;
            if known.hour >= hour {
                return;
            }
            now = Remembered { hour, ..*known };
        }
        self.traces.insert(hash, now);
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
        known.note(&id(1), 11 * REACH_NANOS, 11 * REACH_NANOS);
        assert!(!known.is_surely_new(&id(1), 11 * REACH_NANOS) && known.has(&id(1)));
        for n in 2..=30 {
            let start = i64::from(n) * 100 * REACH_NANOS;
            known.note(&id(n), start, start);
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
            known.note(&id(n), hour * REACH_NANOS, hour * REACH_NANOS + 1);
        }
        let now = Arrived {
            first_nanos: 20 * REACH_NANOS,
            last_nanos: 21 * REACH_NANOS,
            first_ingest_id: 0,
        };
        assert_eq!(known.extent(&id(1), &now), (10 * REACH_NANOS, 50 * REACH_NANOS + 1));
        assert_eq!(known.extent(&id(2), &now), (10 * REACH_NANOS, 60 * REACH_NANOS + 1));
        assert_eq!(known.extent(&id(9), &now), (now.first_nanos, now.last_nanos));
        for n in 3..=5 {
            known.note(&id(n), i64::from(n) * REACH_NANOS * 20, 0);
        }
        assert!(known.has(&id(1)) && known.has(&id(2)), "the hour 10 is forgotten, in which both were written");
        assert!(known.n_remembered <= MAX_REMEMBERED && known.traces.len() <= known.n_remembered);
    }

    #[test]
    fn rows_of_before_are_known_and_are_not_ours() {
        let id = |n: u8| TraceId::from_bytes(&[n; 16]).expect("an ID");
        let at = |hour: i64| Arrived {
            first_nanos: hour * REACH_NANOS,
            last_nanos: hour * REACH_NANOS,
            first_ingest_id: 0,
        };
        let mut known = Known::covering_from(10 * REACH_NANOS);
        known.note_earlier(&id(1), &at(9));
        assert!(!known.is_surely_new(&id(2), 9 * REACH_NANOS));
        known.covers_from(7 * REACH_NANOS);
        assert!(known.is_surely_new(&id(2), 9 * REACH_NANOS) && !known.is_surely_new(&id(1), 9 * REACH_NANOS));
        assert!(known.has(&id(1)) && !known.has_written(&id(1)));
        known.note(&id(1), 8 * REACH_NANOS, 8 * REACH_NANOS);
        known.note_earlier(&id(1), &at(12));
        assert!(known.has_written(&id(1)));
        assert_eq!(known.extent(&id(1), &at(10)), (8 * REACH_NANOS, 12 * REACH_NANOS));
    }
}
