//! Where every record ended: accepted, repeated, refused, rejected with a reason, or dropped with a reason.
//!
//! Kept by receiver and signal since the data directory was made: the sums are stored with every flush, and what the
//! log replays after a crash is counted again from there. What has no frame of its own (refused, repeated and dropped records, requests
//! that are rejected whole) goes into the log by itself, at most once a second ([`super::counts`]). Of what was accepted, repeated or rejected they are kept by source too,
//! the service and log group that records name, as far as it was read; of at most so many sources, the others as [`OTHERS`].
//! What is refused or dropped was not decoded.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::metrics;
use super::watermark::{OTHERS, each_sender};
use crate::catalog::Gone;
use crate::decode::{Reason, Rejected, Sender};
use crate::model::{Batch, Signal, Table};

/// A sender with longer names has no place of its own: a log group's may have 512 signs. The sums stand in each record of the catalog.
const MAX_NAME_BYTES: usize = 1_024;
/// Why records are dropped. None is a decoder's reason to reject.
pub(super) const DROP_REASONS: [&str; 5] = ["bad_datagram", "queue_full", "kernel_buffer_full", "refused", "internal_error"];

/// State documents under this begin with [`Sent`].
pub const SENT_KEY: &str = "deliver/";

/// What became of rows that were to go on to another system: the beginning of a state document.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Sent {
    /// `logs`, `traces`.
    pub signal: String,
    /// Rows that the other system has taken.
    pub delivered: u64,
    /// Rows that it will never have, by reason.
    pub undelivered: BTreeMap<String, u64>,
}

impl Sent {
    /// Adds up.
    pub fn add(&mut self, more: &Sent) {
        self.delivered += more.delivered;
        for (reason, n) in &more.undelivered {
            *self.undelivered.entry(reason.clone()).or_default() += n;
        }
    }
}

/// The name under which the ledger has what was delivered.
const DELIVER: &str = "deliver";

/// What a node has delivered, by signal. A record may be in several deliveries, or in none.
pub(super) fn sent_entries<'a>(node: &str, documents: impl Iterator<Item = &'a [u8]>) -> Vec<Entry> {
    let mut by_signal: BTreeMap<String, Sent> = BTreeMap::new();
    for sent in documents.filter_map(|bytes| serde_json::from_slice::<Sent>(bytes).ok()) {
        by_signal.entry(sent.signal.clone()).or_default().add(&sent);
    }
    let entry = |signal: &str, outcome: &'static str, reason: Option<&String>, records: u64| Entry {
        node: Some(node.to_string()),
        receiver: Some(DELIVER.to_string()),
        signal: signal.to_string(),
        sender: None,
        outcome,
        reason: reason.cloned(),
        records,
    };
    let of_signal = |(signal, sent): (&String, &Sent)| {
        let undelivered = sent.undelivered.iter().map(|(reason, n)| entry(signal, "undelivered", Some(reason), *n));
        std::iter::once(entry(signal, "delivered", None, sent.delivered))
            .chain(undelivered)
            .collect::<Vec<Entry>>()
    };
    by_signal.iter().flat_map(of_signal).filter(|entry| entry.records > 0).collect()
}

/// One sum of the ledger: how many records of a node, receiver and signal had one outcome, for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Which node counted it; none for what concerns blocks, which belong to all.
    pub node: Option<String>,
    /// Which receiver took the records; none where that is no longer known.
    pub receiver: Option<String>,
    /// `logs`, `traces`, `metrics`.
    pub signal: String,
    /// Whose; none where that is not known.
    pub sender: Option<Sender>,
    /// `accepted`, `repeated`, `refused`, `rejected` or `dropped`; of accepted ones later `deleted` or `expired`, and, where they are
    /// sent on, `delivered` or `undelivered`.
    pub outcome: &'static str,
    /// Of rejected, dropped and undelivered ones.
    pub reason: Option<String>,
    /// How many.
    pub records: u64,
}

/// The sums of one node, one by one: what is known by sender, and the rest without one.
pub(super) fn entries(node: &str, sums: &[(String, String, Outcomes)]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (receiver, signal, outcomes) in sums {
        let mut enter = |sender: Option<Sender>, outcome: &'static str, reason: Option<&String>, records: u64| {
            if records > 0 {
                entries.push(Entry {
                    node: Some(node.to_string()),
                    receiver: Some(receiver.clone()),
                    signal: signal.clone(),
                    sender,
                    outcome,
                    reason: reason.cloned(),
                    records,
                });
            }
        };
        let (mut accepted, mut repeated) = (outcomes.accepted, outcomes.repeated);
        let mut reasons = outcomes.reasons.clone();
        for source in &outcomes.sources {
            let sender = || Some(source.sender());
            // never more than all: sums of a program that knew no sources may have gone on since
            for (outcome, left, n) in [("accepted", &mut accepted, source.accepted), ("repeated", &mut repeated, source.repeated)] {
                let n = n.min(*left);
                *left -= n;
                enter(sender(), outcome, None, n);
            }
            for (reason, n) in &source.rejected {
                let Some(left) = reasons.get_mut(reason) else { continue };
                let n = (*n).min(*left);
                *left -= n;
                enter(sender(), "rejected", Some(reason), n);
            }
        }
        enter(None, "accepted", None, accepted);
        enter(None, "repeated", None, repeated);
        enter(None, "refused", None, outcomes.refused);
        for (outcome, all) in [("rejected", outcomes.rejected), ("dropped", outcomes.dropped)] {
            let of_outcome = |reason: &str| DROP_REASONS.contains(&reason) == (outcome == "dropped");
            for (reason, n) in reasons.iter().filter(|(reason, _)| of_outcome(reason)) {
                enter(None, outcome, Some(reason), *n);
            }
            let with_reason: u64 = outcomes.reasons.iter().filter(|(reason, _)| of_outcome(reason)).map(|(_, n)| n).sum();
            enter(None, outcome, None, all.saturating_sub(with_reason));
        }
    }
    entries
}

/// Rows that were accepted and are no more.
pub(super) fn gone_entries(gone: &BTreeMap<Table, Gone>) -> Vec<Entry> {
    let mut by_signal: BTreeMap<&str, Gone> = BTreeMap::new();
    for (table, of_table) in gone.iter().filter(|(table, _)| table.holds_records()) {
        let sum = by_signal.entry(table.signal().name()).or_default();
        sum.deleted += of_table.deleted;
        sum.expired += of_table.expired;
    }
    let entry = |signal: &str, outcome: &'static str, records: u64| {
        (records > 0).then(|| Entry {
            signal: signal.to_string(),
            outcome,
            records,
            ..Entry::default()
        })
    };
    let of_signal = |(signal, gone): (&str, Gone)| [entry(signal, "deleted", gone.deleted), entry(signal, "expired", gone.expired)];
    by_signal.into_iter().flat_map(of_signal).flatten().collect()
}

/// Adds up sums of several nodes: (receiver, signal, outcomes), in order of name.
pub fn add_up(nodes: impl IntoIterator<Item = Vec<(String, String, Outcomes)>>) -> Vec<(String, String, Outcomes)> {
    let mut totals: BTreeMap<(String, String), Outcomes> = BTreeMap::new();
    for (receiver, signal, outcomes) in nodes.into_iter().flatten() {
        let total = totals.entry((receiver, signal)).or_default();
        total.accepted += outcomes.accepted;
        total.repeated += outcomes.repeated;
        total.refused += outcomes.refused;
        total.rejected += outcomes.rejected;
        total.dropped += outcomes.dropped;
        for (reason, n) in outcomes.reasons {
            *total.reasons.entry(reason).or_default() += n;
        }
    }
    totals.into_iter().map(|((receiver, signal), outcomes)| (receiver, signal, outcomes)).collect()
}

/// Sums of one receiver and signal.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Outcomes {
    /// Acknowledged: durable when the client was told so.
    pub accepted: u64,
    /// Acknowledged again: they came with a request that was accepted before, and are not stored twice.
    #[serde(default)]
    pub repeated: u64,
    /// Turned away whole because of overload; the client was told to retry.
    pub refused: u64,
    /// Malformed or out of bounds; the client was told not to retry.
    pub rejected: u64,
    /// Lost by us where the protocol has no answer (UDP).
    pub dropped: u64,
    /// `rejected` and `dropped` by reason.
    pub reasons: BTreeMap<String, u64>,
    /// What of them is known by sender, in order of sender; none in sums of several nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<OfSender>,
}

/// Sums of one sender.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct OfSender {
    /// `service.name`; empty where records name none.
    pub service: String,
    /// Empty where records name none.
    pub log_group: String,
    /// See [`Outcomes`].
    pub accepted: u64,
    /// See [`Outcomes`].
    #[serde(skip_serializing_if = "is_zero")]
    pub repeated: u64,
    /// By reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rejected: BTreeMap<String, u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Outcomes {
    /// Adds to, or takes from, each sum what another has there.
    fn combine(&mut self, other: &Outcomes, with: fn(u64, u64) -> u64) {
        let sums = [
            (&mut self.accepted, other.accepted),
            (&mut self.repeated, other.repeated),
            (&mut self.refused, other.refused),
            (&mut self.rejected, other.rejected),
            (&mut self.dropped, other.dropped),
        ];
        for (sum, n) in sums {
            *sum = with(*sum, n);
        }
        combine_reasons(&mut self.reasons, &other.reasons, with);
        for theirs in &other.sources {
            let ours = of_sender(&mut self.sources, theirs.key());
            (ours.accepted, ours.repeated) = (with(ours.accepted, theirs.accepted), with(ours.repeated, theirs.repeated));
            combine_reasons(&mut ours.rejected, &theirs.rejected, with);
        }
    }
}

fn combine_reasons(reasons: &mut BTreeMap<String, u64>, other: &BTreeMap<String, u64>, with: fn(u64, u64) -> u64) {
    for (reason, n) in other {
        let sum = reasons.entry(reason.clone()).or_default();
        *sum = with(*sum, *n);
    }
    reasons.retain(|_, n| *n > 0);
}

impl OfSender {
    fn key(&self) -> (&str, &str) {
        (&self.service, &self.log_group)
    }

    fn sender(&self) -> Sender {
        Sender {
            service: self.service.clone(),
            log_group: self.log_group.clone(),
        }
    }
}

/// Where the sums of a sender stand among others, or would; by service and log group.
fn place_of(sources: &[OfSender], key: (&str, &str)) -> Result<usize, usize> {
    sources.binary_search_by(|known| known.key().cmp(&key))
}

/// The sums of a sender among others, which are in order; made if there are none.
fn of_sender<'a>(sources: &'a mut Vec<OfSender>, key: (&str, &str)) -> &'a mut OfSender {
    let at = place_of(sources, key).unwrap_or_else(|at| {
        let new = OfSender {
            service: key.0.to_string(),
            log_group: key.1.to_string(),
            ..OfSender::default()
        };
        sources.insert(at, new);
        at
    });
    &mut sources[at]
}

/// The records of a batch, by signal and sender.
#[derive(Clone, Debug, Default)]
pub(super) struct Senders(BTreeMap<(&'static str, Sender), u64>);

impl Senders {
    pub(super) fn of(batch: &Batch) -> Senders {
        let mut senders = Senders::default();
        for rows in batch.rows.iter().filter(|rows| rows.table().holds_records() && !rows.is_empty()) {
            let signal = rows.table().signal().name();
            each_sender(rows, |service, log_group, (.., n)| {
                let sender = Sender {
                    service: service.into(),
                    log_group: log_group.into(),
                };
                *senders.0.entry((signal, sender)).or_default() += n;
            });
        }
        senders
    }
}

/// Which of a sender's sums.
#[derive(Clone, Copy, Debug)]
enum Of {
    Accepted,
    Repeated,
    Rejected(&'static str),
}

/// Whether a replay of the log counts it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It does: it is part of a frame.
    InFrame,
    /// Not yet: nothing in the log says it.
    Alone,
}

/// Sums by receiver and signal, in order of name; a few dozen at most.
#[derive(Clone, Debug, Default)]
struct Sums(Vec<(String, String, Outcomes)>);

impl Sums {
    fn place_of(&self, receiver: &str, signal: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(ours, of, _)| (ours.as_str(), of.as_str()).cmp(&(receiver, signal)))
    }

    fn get(&self, receiver: &str, signal: &str) -> Option<&Outcomes> {
        self.place_of(receiver, signal).ok().map(|at| &self.0[at].2)
    }

    /// Made if there are none.
    fn of(&mut self, receiver: &str, signal: &str) -> &mut Outcomes {
        let at = self.place_of(receiver, signal).unwrap_or_else(|at| {
            self.0.insert(at, (receiver.to_string(), signal.to_string(), Outcomes::default()));
            at
        });
        &mut self.0[at].2
    }

    fn add(&mut self, sums: &[(String, String, Outcomes)]) {
        for (receiver, signal, outcomes) in sums {
            self.of(receiver, signal).combine(outcomes, u64::saturating_add);
        }
    }
}

#[derive(Debug, Default)]
struct Books {
    all: Sums,
    /// What of it nothing in the log says.
    alone: Sums,
    /// How many have some of it on its way there.
    n_underway: usize,
}

/// Sums of which the log says nothing, on their way there: given back unless they come there.
#[derive(Debug)]
pub(super) struct Underway<'a> {
    ledger: &'a Ledger,
    sums: Vec<(String, String, Outcomes)>,
}

impl Underway<'_> {
    pub(super) fn sums(&self) -> &[(String, String, Outcomes)] {
        &self.sums
    }

    /// The log has them.
    pub(super) fn are_logged(mut self) {
        self.sums.clear();
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let mut books = self.ledger.books.lock();
        books.alone.add(&self.sums);
        books.n_underway -= 1;
    }
}

impl Books {
    /// Counts in all sums, and in those of which the log says nothing if that is so.
    fn count(&mut self, receiver: &str, signal: &str, told: Told, count: impl Fn(&mut Outcomes)) {
        let sums = match told {
            Told::InFrame => [Some(&mut self.all), None],
            Told::Alone => [Some(&mut self.all), Some(&mut self.alone)],
        };
        for sums in sums.into_iter().flatten() {
            count(sums.of(receiver, signal));
        }
    }
}

/// The counted outcomes of all receivers.
#[derive(Debug)]
pub struct Ledger {
    /// How many sources are told apart.
    max_sources: usize,
    books: Mutex<Books>,
    /// What the catalog has of them.
    committed: Mutex<Option<serde_json::Value>>,
}

#[cfg(test)]
impl Default for Ledger {
    fn default() -> Ledger {
        Ledger::new(1_000)
    }
}

impl Ledger {
    /// An empty one that tells so many sources apart.
    pub fn new(max_sources: usize) -> Ledger {
        Ledger {
            max_sources,
            books: Mutex::default(),
            committed: Mutex::default(),
        }
    }

    /// The records of `senders` were accepted: what of the sums is theirs.
    pub(super) fn accepted_of(&self, receiver: &str, senders: &Senders) {
        self.count_senders(receiver, Of::Accepted, senders, Told::InFrame);
    }

    /// The records of `senders` were repeated: what of the sums is theirs.
    pub(super) fn repeated_of(&self, receiver: &str, senders: &Senders) {
        self.count_senders(receiver, Of::Repeated, senders, Told::Alone);
    }

    /// Records were rejected for good, of their sender where it is known.
    pub(super) fn rejected_of(&self, receiver: &str, signal: Signal, rejected: &Rejected, told: Told) {
        self.count(receiver, signal, "rejected", rejected.reason.name(), rejected.count, told);
        if let Some(sender) = &rejected.sender {
            self.count_sender(receiver, signal.name(), sender, Of::Rejected(rejected.reason.name()), rejected.count, told);
        }
    }

    fn count_senders(&self, receiver: &str, of: Of, senders: &Senders, told: Told) {
        for ((signal, sender), n) in &senders.0 {
            self.count_sender(receiver, signal, sender, of, *n, told);
        }
    }

    fn count_sender(&self, receiver: &str, signal: &str, sender: &Sender, of: Of, n: u64, told: Told) {
        let mut books = self.books.lock();
        let own = (sender.service.as_str(), sender.log_group.as_str());
        let is_known = books.all.get(receiver, signal).is_some_and(|sum| place_of(&sum.sources, own).is_ok());
        let is_full = || books.all.0.iter().map(|(.., sum)| sum.sources.len()).sum::<usize>() >= self.max_sources;
        let is_long = own.0.len() + own.1.len() > MAX_NAME_BYTES;
        let key = if is_long || (!is_known && is_full()) { (OTHERS, "") } else { own };
        books.count(receiver, signal, told, |sum| {
            let sum = of_sender(&mut sum.sources, key);
            match of {
                Of::Accepted => sum.accepted += n,
                Of::Repeated => sum.repeated += n,
                Of::Rejected(reason) => *sum.rejected.entry(reason.to_string()).or_default() += n,
            }
        });
    }

    fn count(&self, receiver: &str, signal: Signal, outcome: &'static str, reason: &'static str, n: u64, told: Told) {
        if n == 0 {
            return;
        }
        metrics::records(receiver, signal, outcome, reason).inc_by(n);
        self.books.lock().count(receiver, signal.name(), told, |sum| {
            match outcome {
                "accepted" => sum.accepted += n,
                "repeated" => sum.repeated += n,
                "refused" => sum.refused += n,
                "rejected" => sum.rejected += n,
                _ => sum.dropped += n,
            }
            if !reason.is_empty() {
                *sum.reasons.entry(reason.to_string()).or_default() += n;
            }
        });
    }

    /// `n` records are durable and acknowledged.
    pub fn accepted(&self, receiver: &str, signal: Signal, n: u64) {
        self.count(receiver, signal, "accepted", "", n, Told::InFrame);
    }
    /// `n` records are acknowledged again, and were accepted before.
    pub fn repeated(&self, receiver: &str, signal: Signal, n: u64) {
        self.count(receiver, signal, "repeated", "", n, Told::Alone);
    }
    /// `n` records (requests, where they were not decoded) were turned away for a retry.
    pub fn refused(&self, receiver: &str, signal: Signal, n: u64) {
        self.count(receiver, signal, "refused", "", n, Told::Alone);
    }
    /// `n` records (1 for a request that could not be decoded) were rejected for good.
    pub fn rejected(&self, receiver: &str, signal: Signal, reason: Reason, n: u64) {
        self.count(receiver, signal, "rejected", reason.name(), n, Told::Alone);
    }
    /// `n` records were lost where the client cannot be told, for one of `DROP_REASONS`.
    pub fn dropped(&self, receiver: &str, signal: Signal, reason: &'static str, n: u64) {
        debug_assert!(DROP_REASONS.contains(&reason), "{reason} is no reason to drop");
        self.count(receiver, signal, "dropped", reason, n, Told::Alone);
    }

    /// All sums: (receiver, signal, outcomes), in order of name.
    pub fn sums(&self) -> Vec<(String, String, Outcomes)> {
        self.books.lock().all.0.clone()
    }

    /// The sums as stored when a node leaves.
    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self.sums()).unwrap_or_default()
    }

    /// The sums as stored with a flush: without those that the log is yet to say, behind what the flush covers.
    pub(super) fn logged_to_json(&self) -> serde_json::Value {
        let logged = {
            let books = self.books.lock();
            let mut logged = books.all.clone();
            for (receiver, signal, alone) in &books.alone.0 {
                logged.of(receiver, signal).combine(alone, u64::saturating_sub);
            }
            logged.0
        };
        serde_json::to_value(logged).unwrap_or_default()
    }

    /// Whether there are sums of which the log says nothing.
    pub(super) fn has_alone(&self) -> bool {
        !self.books.lock().alone.0.is_empty()
    }

    /// Whether a crash would lose nothing of the sums.
    pub(super) fn is_durable(&self) -> bool {
        let books = self.books.lock();
        books.alone.0.is_empty() && books.n_underway == 0
    }

    /// Takes the sums of which the log says nothing, to be appended to it. Nobody may cut the head until that is done.
    pub(super) fn take_alone(&self) -> Underway<'_> {
        let mut books = self.books.lock();
        books.n_underway += 1;
        let sums = std::mem::take(&mut books.alone).0;
        Underway { ledger: self, sums }
    }

    /// Counts again what a frame of the log says.
    pub(super) fn replay(&self, sums: &[(String, String, Outcomes)]) {
        self.books.lock().all.add(sums);
    }

    /// The catalog has these sums.
    pub(super) fn note_committed(&self, json: serde_json::Value) {
        *self.committed.lock() = Some(json);
    }
    /// Whether the catalog has these sums.
    pub(super) fn is_committed(&self, json: &serde_json::Value) -> bool {
        self.committed.lock().as_ref() == Some(json)
    }

    /// Reads the sums of any node as the catalog has them.
    pub fn read(json: &serde_json::Value) -> Vec<(String, String, Outcomes)> {
        serde_json::from_value(json.clone()).unwrap_or_default()
    }

    /// Takes up the sums of an earlier life.
    pub(super) fn restore(&self, json: &[u8]) -> Result<(), serde_json::Error> {
        let stored: Vec<(String, String, Outcomes)> = serde_json::from_slice(json)?;
        let mut all = Sums::default();
        all.add(&stored);
        self.books.lock().all = all;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
