//! The traces of request IDs and span IDs, remembered for the records that come later.
//!
//! Bounded: at most [`Book::new`]'s `max` IDs of each kind. They are kept in two halves, a younger and an older one; when the
//! younger is full it becomes the older, and what was in the older and has not been asked for since is forgotten, and counted. An ID
//! that is seen in two traces belongs to neither: that is remembered too.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;

use super::metrics::METRICS;
use super::named::RequestId;
use crate::model::{SpanId, TraceId};

/// What tells a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A request's ID.
    Request(RequestId),
    /// A span's ID.
    Span(SpanId),
}

impl Key {
    /// The request, if it is one's.
    pub fn request(&self) -> Option<RequestId> {
        match self {
            Key::Request(id) => Some(*id),
            Key::Span(_) => None,
        }
    }
}

/// The trace of an ID, or `None` if it was seen in several.
pub type Told = Option<TraceId>;

/// Puts two findings together.
pub fn both(one: Told, other: Told) -> Told {
    one.filter(|trace| other == Some(*trace))
}

/// IDs of one kind.
#[derive(Debug)]
struct Half<K> {
    younger: HashMap<K, Told>,
    older: HashMap<K, Told>,
    max: usize,
}

impl<K: Copy + Eq + Hash> Half<K> {
    fn new(max: usize) -> Self {
        Self {
            younger: HashMap::new(),
            older: HashMap::new(),
            // of each of the two
            max: max.div_ceil(2),
        }
    }

    fn find(&mut self, key: &K) -> Option<Told> {
        if let Some(told) = self.younger.get(key) {
            return Some(*told);
        }
        let told = self.older.remove(key)?;
        self.insert(*key, told);
        Some(told)
    }

    fn learn(&mut self, key: K, trace: TraceId) {
        if self.max == 0 {
            return;
        }
        let told = match self.find(&key) {
            Some(known) => both(known, Some(trace)),
            None => Some(trace),
        };
        self.insert(key, told);
    }

    fn insert(&mut self, key: K, told: Told) {
        self.younger.insert(key, told);
        if self.younger.len() >= self.max {
            METRICS.forgotten.inc_by(self.older.len() as u64);
            self.older = std::mem::take(&mut self.younger);
        }
    }

    fn len(&self) -> usize {
        self.younger.len() + self.older.len()
    }
}

/// Remembers which trace an ID belongs to. Shared by all requests.
#[derive(Debug)]
pub struct Book {
    requests: Mutex<Half<RequestId>>,
    spans: Mutex<Half<SpanId>>,
}

impl Book {
    /// An empty one, for at most `max` IDs of each kind; with 0 it stays empty.
    pub fn new(max: usize) -> Book {
        Book {
            requests: Mutex::new(Half::new(max)),
            spans: Mutex::new(Half::new(max)),
        }
    }

    /// The traces of IDs, of those that are known.
    pub fn traces_of(&self, keys: impl IntoIterator<Item = Key>) -> Vec<(Key, Told)> {
        let (mut requests, mut spans) = (self.requests.lock(), self.spans.lock());
        let told = |key: Key| {
            let told = match &key {
                Key::Request(id) => requests.find(id),
                Key::Span(id) => spans.find(id),
            };
            Some((key, told?))
        };
        keys.into_iter().filter_map(told).collect()
    }

    /// Takes in what rows told.
    pub fn learn(&self, told: &[(Key, TraceId)]) {
        if told.is_empty() {
            return;
        }
        let (mut requests, mut spans) = (self.requests.lock(), self.spans.lock());
        for (key, trace) in told {
            match key {
                Key::Request(id) => requests.learn(*id, *trace),
                Key::Span(id) => spans.learn(*id, *trace),
            }
        }
        let n_ids = requests.len() + spans.len();
        drop((requests, spans));
        METRICS.remembered.set(i64::try_from(n_ids).unwrap_or(i64::MAX));
    }

    /// IDs that are remembered.
    pub fn len(&self) -> usize {
        self.requests.lock().len() + self.spans.lock().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(n: u64) -> Key {
        let mut bytes = [1; 16];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        Key::Request(RequestId::from_bytes(bytes))
    }

    fn trace(n: u8) -> TraceId {
        TraceId::from_bytes(&[n; 16]).expect("not all zeros")
    }

    #[test]
    fn the_bound_holds_and_what_is_asked_for_stays() {
        let book = Book::new(100);
        book.learn(&[(request(0), trace(7))]);
        for n in 1..10_000 {
            book.learn(&[
                (request(n), trace(1)),
                (Key::Span(SpanId::from_bytes(&n.to_be_bytes()).expect("not zero")), trace(2)),
            ]);
            assert!(book.len() <= 200, "{n}");
            assert_eq!(book.traces_of([request(0)]), [(request(0), Some(trace(7)))], "{n}");
            assert_eq!(book.traces_of([request(n)]), [(request(n), Some(trace(1)))], "the last is there");
        }
        assert_eq!(book.traces_of([request(1)]), [], "nobody asked for it");
        let off = Book::new(0);
        off.learn(&[(request(0), trace(7))]);
        assert!(off.is_empty() && off.traces_of([request(0)]).is_empty());
    }

    #[test]
    fn an_id_of_two_traces_belongs_to_neither_from_then_on() {
        let book = Book::new(10);
        book.learn(&[(request(1), trace(1)), (request(2), trace(1)), (request(1), trace(1))]);
        assert_eq!(
            book.traces_of([request(1), request(2)]),
            [(request(1), Some(trace(1))), (request(2), Some(trace(1)))]
        );
        book.learn(&[(request(1), trace(2))]);
        book.learn(&[(request(1), trace(1)), (request(1), trace(2))]);
        let found = book.traces_of([request(1), request(2), request(3)]);
        assert_eq!(found, [(request(1), None), (request(2), Some(trace(1)))]);
    }
}
