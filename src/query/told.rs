//! What the earlier pages of a walk through traces told, for as long as it is remembered.
//!
//! A trace stands on the page of its newest span, and spans go on coming between two pages: those that come late with a newer time, the
//! completed row that replaces one in progress, those of other nodes, whose rows nothing dates. Which traces were told cannot be seen in the
//! rows then, so it is kept: each with the place where it was told, so that a page that is asked for again has the same traces again.
//!
//! | bound | value |
//! |---|---|
//! | traces kept, of all walks together | [`MAX_TRACES`], 10 to 20 MB; the walks that were idle longest are forgotten |
//! | of one walk | half of these: one that holds more is forgotten itself, and no other for its sake |
//! | walks | [`MAX_WALKS`] |
//!
//! Who goes on with a walk that is forgotten, or on another node, has the rows alone to go by ([`super::xray::walk`]).

use std::collections::{HashMap, HashSet};

use lru::LruCache;
use parking_lot::Mutex;

use super::Cursor;
use crate::model::TraceId;

/// Traces of all walks together.
const MAX_TRACES: usize = 250_000;
/// Walks, however few traces each has told.
const MAX_WALKS: usize = 1_000;

/// A place in the order of a walk: greater for what comes sooner.
fn rank(place: Cursor) -> (i64, i64) {
    (place.time_unix_nano, place.ingest_id)
}

#[derive(Debug)]
struct OfWalk {
    /// Where each was told.
    traces: HashMap<TraceId, Cursor>,
    /// All pages down to here are in it.
    down_to: Cursor,
}

#[derive(Debug)]
struct Walks {
    walks: LruCache<u64, OfWalk>,
    /// Traces of all of them.
    n_traces: usize,
}

/// What walks told.
#[derive(Debug)]
pub(super) struct Told {
    walks: Mutex<Walks>,
    max_traces: usize,
}

impl Default for Told {
    fn default() -> Self {
        Self::with_bound(MAX_TRACES)
    }
}

impl Told {
    fn with_bound(max_traces: usize) -> Self {
        let walks = LruCache::unbounded();
        Self {
            walks: Mutex::new(Walks { walks, n_traces: 0 }),
            max_traces,
        }
    }

    /// Those of some traces that a walk told before it came to `place`; `None` if that is not known.
    pub(super) fn before(&self, walk: u64, place: Cursor, among: impl Iterator<Item = TraceId>) -> Option<HashSet<TraceId>> {
        let mut walks = self.walks.lock();
        let known = walks.walks.get(&walk).filter(|known| rank(known.down_to) <= rank(place))?;
        let is_told = |id: &TraceId| known.traces.get(id).is_some_and(|told| rank(*told) >= rank(place));
        Some(among.filter(is_told).collect())
    }

    /// Keeps what a page told that began at `from` (the first page: `None`) and ended at `down_to`.
    pub(super) fn keep(&self, walk: u64, from: Option<Cursor>, told: impl Iterator<Item = (TraceId, Cursor)>, down_to: Cursor) {
        let mut guard = self.walks.lock();
        let Walks { walks, n_traces } = &mut *guard;
        match from {
            None => {
                let traces = HashMap::new();
                let before = walks.put(walk, OfWalk { traces, down_to });
                *n_traces -= before.map_or(0, |before| before.traces.len());
            }
            // with a gap nothing could be said behind it
            Some(from) if walks.get(&walk).is_none_or(|known| rank(known.down_to) > rank(from)) => return,
            Some(_) => {}
        }
        let Some(known) = walks.get_mut(&walk) else { return };
        let n_before = known.traces.len();
        known.traces.extend(told);
        if rank(down_to) < rank(known.down_to) {
            known.down_to = down_to;
        }
        *n_traces += known.traces.len() - n_before;
        if known.traces.len() > self.max_traces / 2 {
            let forgotten = walks.pop(&walk);
            *n_traces -= forgotten.map_or(0, |forgotten| forgotten.traces.len());
        }
        while *n_traces > self.max_traces || walks.len() > MAX_WALKS {
            let Some((_, forgotten)) = walks.pop_lru() else { break };
            *n_traces -= forgotten.traces.len();
        }
    }

    /// As after a restart.
    #[cfg(test)]
    pub(super) fn forget_all(&self) {
        let mut walks = self.walks.lock();
        walks.walks.clear();
        walks.n_traces = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(number: u8) -> TraceId {
        TraceId::from_bytes(&[number; 16]).expect("not zero")
    }

    fn at(time: i64) -> Cursor {
        Cursor {
            time_unix_nano: time,
            ingest_id: 0,
        }
    }

    fn told(told: &Told, walk: u64, place: i64) -> Option<usize> {
        told.before(walk, at(place), (1..=9).map(trace)).map(|told| told.len())
    }

    #[test]
    fn a_page_that_is_asked_for_again_has_the_same_traces() {
        let kept = Told::default();
        kept.keep(7, None, [(trace(1), at(90)), (trace(2), at(85))].into_iter(), at(80));
        kept.keep(7, Some(at(80)), [(trace(3), at(75))].into_iter(), at(70));
        assert_eq!(told(&kept, 7, 80), Some(2), "as when it was first asked for");
        assert_eq!(told(&kept, 7, 70), Some(3));
        assert_eq!(told(&kept, 7, 60), None, "another node went on from 70 to 60");
        kept.keep(7, Some(at(60)), [(trace(4), at(55))].into_iter(), at(50));
        assert_eq!(told(&kept, 7, 50), None, "there is a gap");
        assert_eq!(told(&kept, 8, 80), None);
    }

    #[test]
    fn the_walks_that_were_idle_longest_are_forgotten() {
        let kept = Told::with_bound(4);
        let two = |from: u8| (from..from + 2).map(|number| (trace(number), at(90))).collect::<Vec<_>>().into_iter();
        kept.keep(1, None, two(1), at(80));
        kept.keep(2, None, two(3), at(80));
        assert_eq!(told(&kept, 1, 80), Some(2));
        kept.keep(3, None, two(5), at(80));
        assert_eq!((told(&kept, 1, 80), told(&kept, 2, 80), told(&kept, 3, 80)), (Some(2), None, Some(2)));
        kept.keep(3, Some(at(80)), (1..=9).map(|number| (trace(number), at(70))), at(60));
        assert_eq!(
            (told(&kept, 1, 80), told(&kept, 3, 60)),
            (Some(2), None),
            "one alone is too large, and forgets itself"
        );
        assert_eq!(kept.walks.lock().n_traces, 2);
    }

    #[test]
    fn walks_are_bounded_though_they_told_nothing() {
        let kept = Told::default();
        let n_walks = MAX_WALKS as u64 + 1;
        for walk in 0..n_walks {
            kept.keep(walk, None, std::iter::empty(), at(80));
        }
        assert_eq!(kept.walks.lock().walks.len(), MAX_WALKS);
        assert_eq!((told(&kept, 0, 80), told(&kept, n_walks - 1, 80)), (None, Some(0)));
    }
}
