//! Log records in the head that name a request of which no trace was known when they came.
//!
//! Most of a Lambda function's lines come before anything tells their trace: that is its `REPORT` line's to say, or its segment's. As long as a
//! record is in the head, up to `[ingest] flush_age_seconds`, a later request that tells it fills it in: queries see it from then on, and so
//! will the block. What is flushed before that stays as it is, and is found when the trace is opened. Span IDs alone are left to that too:
//! who numbers spans 1, 2, 3, … gives them to many traces, and which others have one is seen when all have come.
//!
//! In memory only, since the log brings all of it back: a replay reads the same requests in the same order. At most `[ingest] max_linked_ids`
//! records wait; more do not, and are counted.

use std::collections::{BTreeMap, HashMap};

use crate::correlate::book::{Book, Key};
use crate::correlate::link::{self, Found, Link, link_of};
use crate::correlate::named::{Named, RequestId};

/// Who waits, and what was found for whom since it was last asked for.
#[derive(Debug)]
pub(super) struct Late {
    /// By the request that they name: each with its `ingest_id`.
    waiting: HashMap<RequestId, Vec<(i64, Named)>>,
    n_waiting: usize,
    /// By `ingest_id`.
    found: BTreeMap<i64, Link>,
    max: usize,
}

impl Late {
    /// For at most `max` records.
    pub(super) fn new(max: usize) -> Late {
        Late {
            waiting: HashMap::new(),
            n_waiting: 0,
            found: BTreeMap::new(),
            max,
        }
    }

    /// Takes in what became of a request's names; its first row has the `ingest_id` `first`. The book has learned already what the request
    /// tells: of two that come at the same time, one finds the other there, or here.
    pub(super) fn add(&mut self, first: i64, found: &Found, book: &Book) {
        let mut n_left_out = 0;
        for (row, named) in &found.waiting {
            let id = first + *row as i64;
            match (known(named, book), named.request) {
                (Some(link), _) => _ = self.found.insert(id, link),
                (None, Some(request)) if self.n_waiting < self.max => {
                    self.waiting.entry(request).or_default().push((id, *named));
                    self.n_waiting += 1;
                }
                (None, Some(_)) => n_left_out += 1,
                (None, None) => {}
            }
        }
        link::count_not_awaited(n_left_out);
        if self.waiting.is_empty() {
            return;
        }
        let told = found.told.iter().filter_map(|(key, _)| match key {
            Key::Request(request) => Some(request),
            Key::Span(_) => None,
        });
        for request in told {
            let waited = self.waiting.remove(request).unwrap_or_default();
            self.n_waiting -= waited.len();
            // of a request with two traces nothing is known, now and later
            let linked = waited.into_iter().filter_map(|(id, named)| Some((id, known(&named, book)?)));
            self.found.extend(linked);
        }
    }

    /// What was found since this was last asked.
    pub(super) fn take_found(&mut self) -> BTreeMap<i64, Link> {
        std::mem::take(&mut self.found)
    }

    /// Nobody waits any more.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.n_waiting = 0;
        self.found.clear();
    }
}

fn known(named: &Named, book: &Book) -> Option<Link> {
    let keys = [named.request.map(Key::Request), named.span.map(Key::Span)];
    let traces = book.traces_of(keys.into_iter().flatten());
    link_of(named, |key| traces.iter().find(|(known, _)| *known == key).map(|(_, trace)| *trace))
}
