//! Which events of a time are kept already.

use std::collections::HashMap;

use xxhash_rust::xxh3::Xxh3Default;

/// What an event is known by.
pub(super) fn key(stream: &str, id: &str) -> u128 {
    let mut digest = Xxh3Default::new();
    digest.update(&(stream.len() as u64).to_le_bytes());
    digest.update(stream.as_bytes());
    digest.update(id.as_bytes());
    digest.digest128()
}

/// Keys of events, all that are kept of a span of time.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// With the event's milliseconds.
    keys: HashMap<u128, i64>,
    /// The span, both ends included; `None`: nothing is known.
    span: Option<(i64, i64)>,
}

impl Seen {
    /// The part of a span that must be asked for before all of it is known.
    pub(super) fn lacks(&self, from: i64, to: i64) -> Option<(i64, i64)> {
        match self.span {
            Some((known_from, known_to)) if known_from <= from && from <= known_to.saturating_add(1) => (known_to < to).then(|| (known_to + 1, to)),
            _ => Some((from, to)),
        }
    }

    /// All that is kept of a span, which [`Seen::lacks`] gave, is known; what is before `from` may be forgotten.
    pub(super) fn learn(&mut self, (from, to): (i64, i64), kept: Vec<(u128, i64)>) {
        match &mut self.span {
            Some((_, known_to)) if known_to.saturating_add(1) == from => *known_to = to,
            span => {
                self.keys.clear();
                *span = Some((from, to));
            }
        }
        self.keys.extend(kept);
    }

    /// Forgets what is before a time.
    pub(super) fn forget_before(&mut self, from: i64) {
        if let Some((known_from, _)) = &mut self.span
            && *known_from < from
        {
            *known_from = from;
            self.keys.retain(|_, millis| *millis >= from);
        }
    }

    pub(super) fn has(&self, key: u128) -> bool {
        self.keys.contains_key(&key)
    }

    pub(super) fn insert(&mut self, key: u128, millis: i64) {
        self.keys.insert(key, millis);
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_ids_do_not_run_into_each_other() {
        assert_ne!(key("a", "bc"), key("ab", "c"));
        assert_eq!(key("a", "b"), key("a", "b"));
    }

    #[test]
    fn only_what_is_not_known_is_asked_for() {
        let mut seen = Seen::default();
        assert_eq!(seen.lacks(10, 19), Some((10, 19)));
        seen.learn((10, 19), vec![(1, 12)]);
        assert_eq!(seen.lacks(10, 19), None);
        assert_eq!(seen.lacks(20, 29), Some((20, 29)), "the next window");
        assert_eq!(seen.lacks(15, 29), Some((20, 29)));
        seen.learn((20, 29), vec![(2, 22)]);
        assert!(seen.has(1) && seen.has(2));
        seen.forget_before(20);
        assert!(!seen.has(1) && seen.has(2));
        assert_eq!(seen.lacks(10, 29), Some((10, 29)), "what was forgotten is asked for again");
        assert_eq!(seen.lacks(50, 60), Some((50, 60)), "a gap");
        seen.learn((50, i64::MAX), vec![]);
        assert!(!seen.has(2));
        assert_eq!(seen.lacks(60, 70), None);
    }
}
