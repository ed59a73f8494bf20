//! Log records in the head that name a request of which no trace was known when they came.
//!
//! Most of a Lambda function's lines come before anything tells their trace: that is its `REPORT` line's to say, or its segment's. As long as a
//! record is in the head, up to `[ingest] flush_age_seconds`, a later request that tells it fills it in: queries see it from then on, and so
//! will the block. What is flushed before that stays as it is, and is found when the trace is opened. Records that name a span, too or alone, are
//! left to that: who numbers spans 1, 2, 3, … gives them to many traces, and which others have one is seen when all have come.
//!
//! It goes by what requests in the head tell and by nothing else, so that a replay of them finds the same; but a replay that has to flush on its
//! way may do so between a record and what tells it, and that record then stays as it is.
//!
//! In memory only. Of the records that wait at most `[ingest] max_linked_ids` are kept, in two halves: when the younger is full, those of the older
//! go, and are counted. `REPORT` follows `START` soon, so IDs that nothing ever tells do not keep others from their trace.

use std::collections::HashMap;

use crate::correlate::book::{Told, both};
use crate::correlate::link::{self, Found, Link};
use crate::correlate::named::RequestId;
use crate::model::TraceId;

/// The `ingest_id`s of records, by the request that they name.
type Waiting = HashMap<RequestId, Vec<i64>>;

/// Who waits, and what was found for whom since it was last asked for.
#[derive(Debug)]
pub(super) struct Late {
    younger: Waiting,
    older: Waiting,
    n_younger: usize,
    n_older: usize,
    /// What rows in the head told: a record that came at the same time may be published after what tells it.
    told: HashMap<RequestId, Told>,
    /// By `ingest_id`.
    found: HashMap<i64, Link>,
    max: usize,
}

impl Late {
    /// For at most `max` records.
    pub(super) fn new(max: usize) -> Late {
        Late {
            younger: HashMap::new(),
            older: HashMap::new(),
            n_younger: 0,
            n_older: 0,
            told: HashMap::new(),
            found: HashMap::new(),
            max,
        }
    }

    /// Takes in what became of a request's names; its first row has the `ingest_id` `first`.
    pub(super) fn add(&mut self, first: i64, found: &Found) {
        if self.max == 0 {
            return;
        }
        for (row, request) in &found.waiting {
            let id = first + *row as i64;
            match self.told.get(request) {
                Some(Some(trace)) => _ = self.found.insert(id, Link::late(*trace)),
                // a request of two traces is nobody's, now and later
                Some(None) => {}
                None => self.wait(*request, id),
            }
        }
        let told = || found.told.iter().filter_map(|(key, trace)| Some((key.request()?, *trace)));
        for (request, trace) in told() {
            self.note(request, trace);
        }
        // all of it first: it may tell of two traces
        for (request, _) in told() {
            self.link(request);
        }
    }

    fn wait(&mut self, request: RequestId, id: i64) {
        if self.n_younger >= self.max.div_ceil(2) {
            link::count_not_awaited(self.n_older as u64);
            self.older = std::mem::take(&mut self.younger);
            self.n_older = std::mem::take(&mut self.n_younger);
        }
        self.younger.entry(request).or_default().push(id);
        self.n_younger += 1;
    }

    fn note(&mut self, request: RequestId, trace: TraceId) {
        if self.told.len() >= self.max {
            // those who come at the same time are few, and are found when the trace is opened
            self.told.clear();
        }
        let told = self.told.entry(request).or_insert(Some(trace));
        *told = both(*told, Some(trace));
    }

    /// Whoever waits for a request that was told its trace.
    fn link(&mut self, request: RequestId) {
        let younger = self.younger.remove(&request).unwrap_or_default();
        let older = self.older.remove(&request).unwrap_or_default();
        self.n_younger -= younger.len();
        self.n_older -= older.len();
        if let Some(Some(trace)) = self.told.get(&request).copied() {
            self.found.extend(younger.into_iter().chain(older).map(|id| (id, Link::late(trace))));
        }
    }

    /// How many were found since that was last asked.
    pub(super) fn n_found(&self) -> usize {
        self.found.len()
    }

    /// What was found since this was last asked.
    pub(super) fn take_found(&mut self) -> HashMap<i64, Link> {
        std::mem::take(&mut self.found)
    }

    /// Nobody waits any more.
    pub(super) fn clear(&mut self) {
        *self = Late::new(self.max);
    }
}
