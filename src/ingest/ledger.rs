//! Where every record ended: accepted, repeated, refused, rejected with a reason, or dropped with a reason.
//!
//! Kept by receiver and signal since the data directory was made: the sums are stored with every flush, and what the
//! log replays after a crash is counted again from there. Of what was accepted, repeated or rejected they are kept by source too,
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

/// The counted outcomes of all receivers.
#[derive(Debug)]
pub struct Ledger {
    /// How many sources are told apart.
    max_sources: usize,
    sums: Mutex<BTreeMap<(String, String), Outcomes>>,
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
            sums: Mutex::default(),
            committed: Mutex::default(),
        }
    }

    /// The records of `senders` were accepted: what of the sums is theirs.
    pub(super) fn accepted_of(&self, receiver: &str, senders: &Senders) {
        self.count_senders(receiver, Of::Accepted, senders);
    }

    /// The records of `senders` were repeated: what of the sums is theirs.
    pub(super) fn repeated_of(&self, receiver: &str, senders: &Senders) {
        self.count_senders(receiver, Of::Repeated, senders);
    }

    /// Records were rejected for good, of their sender where it is known.
    pub(super) fn rejected_of(&self, receiver: &str, signal: Signal, rejected: &Rejected) {
        self.rejected(receiver, signal, rejected.reason, rejected.count);
        if let Some(sender) = &rejected.sender {
            self.count_sender(receiver, signal.name(), sender, Of::Rejected(rejected.reason.name()), rejected.count);
        }
    }

    fn count_senders(&self, receiver: &str, of: Of, senders: &Senders) {
        for ((signal, sender), n) in &senders.0 {
            self.count_sender(receiver, signal, sender, of, *n);
        }
    }

    fn count_sender(&self, receiver: &str, signal: &str, sender: &Sender, of: Of, n: u64) {
        let mut sums = self.sums.lock();
        let n_known: usize = sums.values().map(|sum| sum.sources.len()).sum();
        let sources = &mut sums.entry((receiver.to_string(), signal.to_string())).or_default().sources;
        let place = |sources: &[OfSender], key: (&str, &str)| sources.binary_search_by(|known| known.key().cmp(&key));
        let mut key = (sender.service.as_str(), sender.log_group.as_str());
        let is_long = key.0.len() + key.1.len() > MAX_NAME_BYTES;
        if is_long || (place(sources, key).is_err() && n_known >= self.max_sources) {
            key = (OTHERS, "");
        }
        let at = place(sources, key).unwrap_or_else(|at| {
            let new = OfSender {
                service: key.0.into(),
                log_group: key.1.into(),
                ..OfSender::default()
            };
            sources.insert(at, new);
            at
        });
        let sum = &mut sources[at];
        match of {
            Of::Accepted => sum.accepted += n,
            Of::Repeated => sum.repeated += n,
            Of::Rejected(reason) => *sum.rejected.entry(reason.to_string()).or_default() += n,
        }
    }

    fn count(&self, receiver: &str, signal: Signal, outcome: &'static str, reason: &'static str, n: u64) {
        if n == 0 {
            return;
        }
        metrics::records(receiver, signal, outcome, reason).inc_by(n);
        let mut sums = self.sums.lock();
        let key = (receiver.to_string(), signal.name().to_string());
        let sum = sums.entry(key).or_default();
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
    }

    /// `n` records are durable and acknowledged.
    pub fn accepted(&self, receiver: &str, signal: Signal, n: u64) {
        self.count(receiver, signal, "accepted", "", n);
    }
    /// `n` records are acknowledged again, and were accepted before.
    pub fn repeated(&self, receiver: &str, signal: Signal, n: u64) {
        self.count(receiver, signal, "repeated", "", n);
    }
    /// `n` records (requests, where they were not decoded) were turned away for a retry.
    pub fn refused(&self, receiver: &str, signal: Signal, n: u64) {
        self.count(receiver, signal, "refused", "", n);
    }
    /// `n` records (1 for a request that could not be decoded) were rejected for good.
    pub fn rejected(&self, receiver: &str, signal: Signal, reason: Reason, n: u64) {
        self.count(receiver, signal, "rejected", reason.name(), n);
    }
    /// `n` records were lost where the client cannot be told, for one of `DROP_REASONS`.
    pub fn dropped(&self, receiver: &str, signal: Signal, reason: &'static str, n: u64) {
        debug_assert!(DROP_REASONS.contains(&reason), "{reason} is no reason to drop");
        self.count(receiver, signal, "dropped", reason, n);
    }

    /// All sums: (receiver, signal, outcomes), in order of name.
    pub fn sums(&self) -> Vec<(String, String, Outcomes)> {
        self.sums
            .lock()
            .iter()
            .map(|((receiver, signal), outcomes)| (receiver.clone(), signal.clone(), outcomes.clone()))
            .collect()
    }

    /// The sums as stored with a flush.
    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self.sums()).unwrap_or_default()
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
        *self.sums.lock() = stored.into_iter().map(|(receiver, signal, outcomes)| ((receiver, signal), outcomes)).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_add_up_and_survive_a_restart() {
        let ledger = Ledger::new(9);
        ledger.accepted("otlp", Signal::Logs, 10);
        ledger.rejected("otlp", Signal::Logs, Reason::TooOld, 2);
        ledger.dropped("xray", Signal::Traces, "queue_full", 3);
        ledger.refused("otlp", Signal::Logs, 1);
        ledger.repeated("otlp", Signal::Logs, 7);
        let later = Ledger::new(9);
        later.restore(ledger.to_json().to_string().as_bytes()).expect("our own JSON");
        later.accepted("otlp", Signal::Logs, 5);
        let sums = later.sums();
        assert_eq!((sums[0].2.accepted, sums[0].2.refused, sums[0].2.rejected, sums[0].2.repeated), (15, 1, 2, 7));
        // as earlier versions stored them
        let earlier = r#"[["otlp", "logs", {"accepted": 1, "refused": 2, "rejected": 0, "dropped": 0, "reasons": {}}]]"#;
        let later = Ledger::new(9);
        later.restore(earlier.as_bytes()).expect("read");
        assert_eq!((later.sums()[0].2.accepted, later.sums()[0].2.repeated), (1, 0));
        assert_eq!(sums[0].2.reasons["too_old"], 2);
        assert_eq!((sums[1].0.as_str(), sums[1].2.dropped), ("xray", 3));
    }

    fn sender(service: &str, log_group: &str) -> Sender {
        Sender {
            service: service.into(),
            log_group: log_group.into(),
        }
    }

    fn senders(of: &[(&'static str, &str, u64)]) -> Senders {
        Senders(of.iter().map(|(signal, service, n)| ((*signal, sender(service, "")), *n)).collect())
    }

    #[test]
    fn sums_are_kept_by_sender_and_add_up_with_the_rest() {
        let ledger = Ledger::new(2);
        ledger.accepted("otlp", Signal::Logs, 10);
        ledger.accepted_of("otlp", &senders(&[("logs", "cart", 3), ("logs", "", 2)]));
        // a third source has no place of its own
        ledger.accepted_of("otlp", &senders(&[("logs", "late", 4)]));
        ledger.repeated("otlp", Signal::Logs, 3);
        ledger.repeated_of("otlp", &senders(&[("logs", "cart", 3)]));
        let rejected = |sender| Rejected {
            count: 5,
            reason: Reason::TooOld,
            message: String::new(),
            index: None,
            sender,
        };
        ledger.rejected_of("otlp", Signal::Logs, &rejected(Some(sender("cart", ""))));
        ledger.rejected_of("otlp", Signal::Logs, &rejected(None));
        let again = Ledger::new(2);
        again.restore(ledger.to_json().to_string().as_bytes()).expect("our own JSON");
        let entries = entries("n", &again.sums());
        let shown: Vec<_> = entries
            .iter()
            .map(|entry| {
                (
                    entry.sender.as_ref().map(|sender| sender.service.as_str()),
                    entry.outcome,
                    entry.reason.as_deref(),
                    entry.records,
                )
            })
            .collect();
        let expected = [
            (Some(""), "accepted", None, 2),
            (Some(OTHERS), "accepted", None, 4),
            (Some("cart"), "accepted", None, 3),
            (Some("cart"), "repeated", None, 3),
            (Some("cart"), "rejected", Some("too_old"), 5),
            (None, "accepted", None, 1),
            (None, "rejected", Some("too_old"), 5),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_was_delivered_is_added_up_by_signal() {
        let documents: [&[u8]; 4] = [
            br#"{"signal":"logs","delivered":5,"undelivered":{"too_old":2},"job":"a","done":7}"#,
            br#"{"signal":"logs","delivered":1}"#,
            br#"{"signal":"traces","delivered":0}"#,
            b"none",
        ];
        let entries = sent_entries("n", documents.into_iter());
        let shown: Vec<_> = entries
            .iter()
            .map(|entry| (entry.signal.as_str(), entry.outcome, entry.reason.as_deref(), entry.records))
            .collect();
        assert_eq!(shown, [("logs", "delivered", None, 6), ("logs", "undelivered", Some("too_old"), 2)]);
    }

    #[test]
    fn entries_add_up_to_the_sums() {
        let ledger = Ledger::new(9);
        ledger.accepted("otlp", Signal::Logs, 10);
        ledger.repeated("otlp", Signal::Logs, 6);
        ledger.rejected("otlp", Signal::Logs, Reason::TooOld, 2);
        ledger.rejected("otlp", Signal::Logs, Reason::TooNew, 1);
        ledger.dropped("otlp", Signal::Logs, "queue_full", 3);
        let mut sums = ledger.sums();
        // counted before reasons were kept
        sums[0].2.rejected += 4;
        let entries = entries("n", &sums);
        let shown: Vec<_> = entries.iter().map(|entry| (entry.outcome, entry.reason.as_deref(), entry.records)).collect();
        let expected = [
            ("accepted", None, 10),
            ("repeated", None, 6),
            ("rejected", Some("too_new"), 1),
            ("rejected", Some("too_old"), 2),
            ("rejected", None, 4),
            ("dropped", Some("queue_full"), 3),
        ];
        assert_eq!(shown, expected);
        let gone = [
            (Table::Spans, Gone { deleted: 1, expired: 2 }),
            (Table::MetricPoints, Gone { deleted: 0, expired: 3 }),
            (Table::MetricHistograms, Gone { deleted: 0, expired: 4 }),
            // made beside records
            (Table::MetricSeries, Gone { deleted: 0, expired: 9 }),
        ];
        let gone = gone_entries(&gone.into());
        let shown: Vec<_> = gone.iter().map(|entry| (entry.signal.as_str(), entry.outcome, entry.records)).collect();
        assert_eq!(shown, [("metrics", "expired", 7), ("traces", "deleted", 1), ("traces", "expired", 2)]);
    }
}
